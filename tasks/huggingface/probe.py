"""A look at a data set before anything is downloaded whole: its splits, columns, and a few rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks.artifacts import now
from tasks.errors import DeftError, InputError
from tasks.huggingface.columns import ColumnCheck, check_columns
from tasks.huggingface.hub import endpoint, refusal
from tasks.huggingface.settings import FinetuneSettings

ROWS = 20
SHOWN = 3


class DatasetRejected(InputError):
    """This data set cannot be used; the message gives the specific reason and what would help."""


class DatasetProbe(BaseModel):
    """What was seen of a data set.

    Attributes:
        name: its id on the hub, or its path.
        format: of a local one.
        splits: each with its number of rows, where that is known.
        columns: each with what it holds: image, class, int, string, list of ..., struct; the parts of a
            struct follow as `objects.bbox`.
        label_names: of the classes, where files of a local set name them.
        class_names: of each column of classes, named as in `columns`.
        sample: the first rows as a person reads them.
        rows: at most 20 rows as they are; not written.
        url: of its page.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    name: str
    source: str
    format: str | None = None
    splits: dict[str, int | None]
    columns: dict[str, str]
    label_names: list[str] | None = None
    class_names: dict[str, list[str]] = {}
    sample: list[dict[str, Any]]
    rows: list[dict[str, Any]] = Field(exclude=True, repr=False)
    url: str = ""
    probed_at: str = ""

    def check(
        self,
        task: str,
        method: str = "sft",
        given: Mapping[str, str] | None = None,
        rewards: Sequence[str] | None = None,
    ) -> ColumnCheck:
        """Whether the columns, renamed as `given`, are those of the task, or can be renamed to be."""
        return check_columns(task, method, self.columns, self.rows, given, rewards)

    def config_values(self, check: ColumnCheck) -> dict[str, Any]:
        """What the config of a project says about this data set."""
        names = self.label_names or self.class_names.get(self._labels(check))
        values: dict[str, Any] = {"column_mapping": check.mapping, "label_names": names}
        if check.bbox_format:
            values["bbox_format"] = check.bbox_format
        return values

    def counts_classes(self, check: ColumnCheck) -> bool:
        """Whether how many classes there are is known, or comes to be known as the labels are read."""
        kind = self.columns.get(self._labels(check), "")
        return bool(self.config_values(check)["label_names"]) or kind.endswith(("string", "bool"))

    @staticmethod
    def _labels(check: ColumnCheck) -> str:
        held = ("label", "segments_info.category_id")
        named = next((name for name in held if name.partition(".")[0] in check.columns), None)
        return check.source(named or "objects.category_id")


def probe_dataset(
    settings: FinetuneSettings,
    environment: Mapping[str, str] | None = None,
    asked: Mapping[str, Any] | None = None,
) -> DatasetProbe:
    """At most 20 rows of the data set that the settings name; columns are what the config `asked` for says.

    Raises:
        DatasetRejected: it is gated, missing, made by a script, or not what its format says.
        HubUnreachable: the hub did not answer; the step can be tried again.
        InputError: the settings name none.
    """
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise DeftError(f"{error}; install it: pip install 'deft-flows[huggingface]'") from error
    if settings.local_dataset_path:
        return probe_local(settings, asked or {})
    if settings.dataset_id:
        return probe_hub(settings, environment)
    raise InputError("neither dataset_id nor local_dataset_path is set; choose a data set first")


def probe_local(settings: FinetuneSettings, asked: Mapping[str, Any]) -> DatasetProbe:
    """The probe of a data set of this machine, by the loaders that the project gets.

    Raises:
        DatasetRejected: its layout or a file in it is not what it must be, or it has no such split.
    """
    from tasks.huggingface.project.files.data_rows import DataError, picture_sources
    from tasks.huggingface.project.files.local_loaders import load_local

    polygons = settings.task_type in ("instance-segmentation", "panoptic-segmentation")
    pictures = picture_sources({**asked, "task": settings.task_type})
    path = str(settings.local_dataset_path)
    try:
        data = load_local(path, settings.local_dataset_format, polygons, pictures)
        rows = data.splits[_base(settings, list(data.splits), path)]
        seen = [rows[number] for number in range(min(ROWS, len(rows)))]
    except (DataError, OSError) as error:
        raise DatasetRejected(str(error)) from error
    return DatasetProbe(
        name=path,
        source="local",
        format=data.format,
        splits={name: len(part) for name, part in data.splits.items()},
        columns=kinds_of(rows.features),
        label_names=data.label_names,
        class_names=class_names(rows.features),
        sample=_readable(seen),
        rows=seen,
        url=settings.local_dataset_path.as_uri() if settings.local_dataset_path else "",
        probed_at=now(),
    )


def probe_hub(settings: FinetuneSettings, environment: Mapping[str, str] | None = None) -> DatasetProbe:
    """The probe of a data set on the hub: its builder, then a stream of its first rows.

    Raises:
        DatasetRejected: it is gated, missing, made by a script, or has no such split.
        HubUnreachable: the hub did not answer.
    """
    from datasets import get_dataset_split_names, load_dataset_builder

    name, part = str(settings.dataset_id), settings.dataset_config_name
    try:
        splits = get_dataset_split_names(name, part)
        info = load_dataset_builder(name, part).info
        features, seen = _first_rows(name, part, _base(settings, splits, name))
    except DeftError:
        raise
    except Exception as error:  # neither the client's errors nor those of the formats have a root in common
        raise _reason(name, error) from error
    return DatasetProbe(
        name=name,
        source="hf",
        splits={split: getattr((info.splits or {}).get(split), "num_examples", None) for split in splits},
        columns=kinds_of(features),
        class_names=class_names(features),
        sample=_readable(seen),
        rows=seen,
        url=f"{endpoint(os.environ if environment is None else environment)}/datasets/{name}",
        probed_at=now(),
    )


def _first_rows(name: str, part: str | None, split: str) -> tuple[Any, list[dict[str, Any]]]:
    """A few rows and the types of their columns: of a stream, else (offline, for one) of what is cached."""
    from datasets import load_dataset

    from blocks.network import offline_variable

    if offline_variable():
        rows = load_dataset(name, part, split=f"{split}[:{ROWS}]")
        return rows.features, list(rows)
    stream = load_dataset(name, part, split=split, streaming=True)
    seen = list(islice(stream, ROWS))
    if stream.features is not None:
        return stream.features, seen
    from datasets import Dataset

    return Dataset.from_list(seen).features, seen


def _base(settings: FinetuneSettings, splits: list[str], name: str) -> str:
    """The split to train on; the one to evaluate on is looked for too, before anything is built."""
    from tasks.huggingface.project.files.prepare_data import OTHER_NAMES, base_of

    base, held = base_of(settings.train_split), base_of(settings.eval_split)
    has = f"only {', '.join(splits)}"
    if base not in splits:
        raise DatasetRejected(f"{name} has no split {base}, {has}; set train_split to one")
    if held not in (*splits, *OTHER_NAMES):
        raise DatasetRejected(f"{name} has no split {held}, {has}; set eval_split to one")
    return base


REASONS = (
    ("scripts are no longer supported", "is made by a script, which is not run; use a copy in parquet"),
    ("gated dataset", "is gated: accept its terms on its page and set HF_TOKEN"),
    ("doesn't exist on the Hub", "is missing or private: check the id, or set HF_TOKEN"),
    ("any data files", "holds no data files; use a copy in parquet"),
    ("Config name is missing", "has several configurations; set dataset_config_name to one of"),
)
"""What `datasets` says of a set that it cannot read, and what that means to a person."""


def _reason(name: str, error: Exception) -> DeftError:
    """Why a data set cannot be read, by what the error says, else by what caused it."""
    text = " ".join(str(error).split())
    reason = next((reason for said, reason in REASONS if said in text), None)
    if reason is not None:
        # The names of the configurations are the only list in the message.
        choices = text.partition("[")[2].partition("]")[0] if reason.endswith("one of") else ""
        return DatasetRejected(f"data set {name} {reason} {choices}".rstrip())
    answer = refusal(f"data set {name}", error)
    if isinstance(answer, InputError):
        return DatasetRejected(str(answer).replace("its config cannot be loaded", "it cannot be read"))
    return answer


def kinds_of(features: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """What each column holds, in plain words; parts of structs as `column.part`."""
    kinds: dict[str, str] = {}
    for name, feature in features.items():
        kinds[prefix + name] = kind_of(feature)
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, dict):
            kinds |= kinds_of(inner, f"{prefix}{name}.")
    return kinds


def kind_of(feature: Any) -> str:
    """What a column holds: image, class, int, float, string, bool, array, list of ..., or struct."""
    if isinstance(feature, dict):
        return "image" if set(feature) == {"bytes", "path"} else "struct"
    if isinstance(feature, list):
        return f"list of {kind_of(feature[0])}"
    name = type(feature).__name__
    if name in ("List", "LargeList", "Sequence"):
        return f"list of {kind_of(feature.feature)}"
    if name in ("Image", "ClassLabel"):
        return {"Image": "image", "ClassLabel": "class"}[name]
    if name.startswith("Array"):
        return "array"
    kind = str(getattr(feature, "dtype", name))
    plain = {"large_string": "string", "string_view": "string"}
    bare = kind.removeprefix("u").rstrip("0123456789")
    return plain.get(kind, bare if bare in ("int", "float") else kind)


def class_names(features: Mapping[str, Any], prefix: str = "") -> dict[str, list[str]]:
    """The names of each column of classes, also within structs and lists, as `kinds_of` names columns."""
    names: dict[str, list[str]] = {}
    for name, feature in features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, dict):
            names |= class_names(inner, f"{prefix}{name}.")
        elif hasattr(inner, "names"):
            names[prefix + name] = list(inner.names)
    return names


def _readable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from tasks.huggingface.project.files.data_rows import shortened

    return [shortened(row) for row in rows[:SHOWN]]
