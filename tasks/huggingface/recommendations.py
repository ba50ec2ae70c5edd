"""Data sets to offer where a person names none, and how many rows a GPU is good for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from blocks.network import offline_variable
from tasks.huggingface.hub import client_errors
from tasks.huggingface.settings import FinetuneSettings
from tasks.reports.markdown import table

FILE = Path(__file__).with_name("recommendations.yaml")
OFFERED = 5
OWN = "bring your own: dataset_id, or local_dataset_path"
QUICK_CHECK = (1000, 200)
"""n_train and n_eval that show whether anything is learnt at all."""


@dataclass(frozen=True)
class Pick:
    """A data set on the hub that suits a task; `access` is filled by `with_access`.

    Attributes:
        settings: inputs of the flow that it needs, such as the names of its splits.
        config: values of `config.yaml` that it needs.
    """

    id: str
    columns: str
    time: str
    size: int | None = None
    classes: int | None = None
    gated: bool = False
    caveat: str = ""
    access: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def chosen(self, settings: FinetuneSettings) -> FinetuneSettings:
        """The settings with this data set; what the person set otherwise than the default stays."""
        fields = FinetuneSettings.model_fields
        needed = {
            name: value
            for name, value in self.settings.items()
            if getattr(settings, name) == fields[name].default
        }
        return settings.model_copy(update={"dataset_id": self.id, **needed})


@cache
def _known() -> dict[str, list[Pick]]:
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {task: [Pick(**pick) for pick in picks] for task, picks in content.items()}


def recommended(task: str, method: str = "sft", most: int = OFFERED) -> list[Pick]:
    """At most `most` data sets for a task (or a training method of its own), best known first.

    Instance and panoptic segmentation have none: their sets need a layout that no list can promise.
    """
    known = _known()
    return known.get(method if method in known else task, [])[:most]


def with_access(picks: Sequence[Pick], may_read: Callable[[str], bool] | None = None) -> list[Pick]:
    """The picks with what is known of the access to the gated ones: nothing is downloaded.

    `may_read` tells whether a data set opens to our token; by default the hub is asked.
    """
    off = offline_variable()
    ask = may_read or may_read_of_hub

    def access(pick: Pick) -> str:
        if not pick.gated:
            return "open"
        if off and may_read is None:
            return f"gated; not asked ({off})"
        return "gated; open to you" if ask(pick.id) else "gated; accept its terms and set HF_TOKEN"

    return [replace(pick, access=access(pick)) for pick in picks]


def may_read_of_hub(dataset_id: str) -> bool:
    """Whether the hub lets the token of the environment read a data set; no where it does not answer."""
    from huggingface_hub import HfApi

    try:
        HfApi().auth_check(dataset_id, repo_type="dataset")
    except client_errors():
        return False
    return True


def offer(picks: Sequence[Pick]) -> str:
    """The picks as a Markdown table, `bring your own` last."""
    rows = [
        [
            number,
            pick.id,
            pick.size,
            pick.classes,
            pick.columns,
            pick.time,
            pick.access or None,
            pick.caveat or None,
        ]
        for number, pick in enumerate(picks, start=1)
    ]
    rows.append([len(picks) + 1, OWN, *[None] * 6])
    return table(["", "data set", "rows", "classes", "columns", "rough time", "access", "note"], rows)


def advised_rows(parameters: int, vram_gb: float) -> tuple[int, int | None] | None:
    """Least and most rows to train on that pay off for a model and a GPU; no upper bound below 1B on 80 GB.

    Gives none where the sources state nothing: GPUs below 24 GB, and models above 3B on less than 80 GB.
    """
    billions = parameters / 1e9
    if vram_gb >= 79:
        bounds: list[tuple[float, tuple[int, int | None]]] = [
            (1, (100_000, None)), (7, (50_000, 100_000)), (float("inf"), (10_000, 50_000)),
        ]  # fmt: skip
    elif vram_gb >= 23:
        bounds = [(1, (50_000, 100_000)), (3, (10_000, 50_000))]
    else:
        bounds = []
    return next((rows for most, rows in bounds if billions < most), None)
