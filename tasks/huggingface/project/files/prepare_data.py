"""Make `data/train` and `data/eval` of the data set that config.yaml names.

    python prepare_data.py --config config.yaml [--force]

Keys that it reads: `dataset_id` (and `dataset_config_name`) or `local_dataset_path` (and
`local_dataset_format`), `task`, `training_method`, `train_split`, `eval_split`, `n_train`, `n_eval`, `seed`,
`column_mapping`, `bbox_format`, `label_names`, `local_data_dir`. Needs datasets, Pillow, numpy and PyYAML.

Nothing is done where both folders exist, unless `--force` is given. `data/prepared.json` tells what was made.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from datasets import (
    ClassLabel,
    Dataset,
    Image,
    ReadInstruction,
    get_dataset_split_names,
    load_dataset,
    load_dataset_builder,
)
from datasets.exceptions import DatasetsError

from .data_rows import (
    REQUIRED,
    DataError,
    check_rows,
    described,
    first_line,
    normalised,
    picture_sources,
    source_of,
)

log = logging.getLogger("project")

SEED = 42
SHUFFLE_BUFFER = 1000  # rows of a stream that are held to be shuffled
SCANNED = 20  # rows of a stream that are read, as a multiple of those wanted, to fill rare classes
SHARE_OF_EVAL = 10  # one row in this many, where there are too few for n_train and n_eval
APART = "give them parts that do not overlap, such as train[:90%] and train[90%:]"
OTHER_NAMES = ("validation", "valid", "val", "dev", "test")  # of the split to evaluate on, in this order
MADE_FROM = ("dataset_id", "dataset_config_name", "local_dataset_path", "local_dataset_format", "task",
             "training_method", "train_split", "eval_split", "n_train", "n_eval", "seed", "column_mapping",
             "bbox_format", "image_column_src", "label_column", "label_names")  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """Rows to sample from, the split that they are of, and the number of each row in it."""

    rows: Dataset
    split: str
    numbers: np.ndarray

    def select(self, indices: Iterable[int]) -> Pool:
        """Some of the rows; `select` keeps the names of classes, a list of rows would not."""
        chosen = list(indices)
        return Pool(self.rows.select(chosen), self.split, self.numbers[chosen])


def main(arguments: list[str] | None = None) -> int:
    """Prepare the data as the command line says; 1 where they cannot be."""
    parser = argparse.ArgumentParser(description="Make data/train and data/eval.")
    parser.add_argument("--config", default="config.yaml", help="the settings")
    parser.add_argument("--force", action="store_true", help="make them again where they exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        prepare(read_config(Path(options.config)), force=options.force)
    except DataError as error:
        log.error("%s", error)
        return 1
    return 0


def read_config(file: Path) -> dict[str, Any]:
    """The settings of a project.

    Raises:
        DataError: no such file, or it does not hold keys and values, or no task that is known.
    """
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{file}: cannot be read ({first_line(error)}); check --config") from error
    if not isinstance(config, dict):
        raise DataError(f"{file}: must hold `key: value` lines")
    if config.get("task") not in REQUIRED:
        raise DataError(f"{file}: task {config.get('task')} is not one of {', '.join(REQUIRED)}")
    return {"n_train": 10_000, "n_eval": 1_000} | config


def prepare(config: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
    """Write the two folders and `prepared.json`; gives what that holds.

    Raises:
        DataError: the data set cannot be read, has no such columns or splits, or too few rows.
    """
    folder = Path(config.get("local_data_dir") or "data")
    summary = folder / "prepared.json"
    made_from = {key: config.get(key) for key in MADE_FROM}
    if not force and all((folder / name / "dataset_info.json").is_file() for name in ("train", "eval")):
        before = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
        changed = [
            key for key, value in made_from.items() if before and before["made_from"].get(key) != value
        ]
        log.info("%s/train and %s/eval exist: nothing done", folder, folder)
        if changed:
            log.warning("but %s changed since: run again with --force", ", ".join(changed))
        return before
    train, evaluation = pools(config)
    if evaluation is not None:
        check_apart(train, evaluation)
    train, evaluation = sampled(config, train, evaluation)
    splits = normalised(config, {"train": train.rows, "eval": evaluation.rows})
    check_rows(config, splits)
    facts = {"made_from": made_from} | described(config, splits)
    save(folder, splits, facts)
    return facts


# --- where rows come from ---------------------------------------------------------------------------------


def pools(config: dict[str, Any]) -> tuple[Pool, Pool | None]:
    """The rows to train on and those to evaluate on; none of the latter where they have to be carved out.

    Raises:
        DataError: no such data set or split, or one of the two is a part of the other.
    """
    read, names = _local(config) if config.get("local_dataset_path") else _hub(config)
    spec, eval_spec = config.get("train_split") or "train", config.get("eval_split") or "validation"
    if base_of(spec) not in names:
        raise DataError(f"train_split {spec}: the data set has {', '.join(names)}; set train_split to one")
    held = _eval_spec(eval_spec, names)
    if held in (None, spec):
        log.info("no split %s apart from %s: a part of it is kept for evaluation", eval_spec, spec)
        return read(spec, config["n_train"] + config["n_eval"]), None
    if base_of(spec) == base_of(str(held)) in (spec, held):  # rows of a stream have no numbers to compare
        raise DataError(f"train_split {spec} and eval_split {held} overlap; {APART}")
    return read(spec, config["n_train"]), read(str(held), config["n_eval"])


def seed_of(config: dict[str, Any]) -> int:
    """The seed of every random choice."""
    return SEED if config.get("seed") is None else int(config["seed"])


def base_of(spec: str) -> str:
    """The split that `train[90%:]` is a part of."""
    return spec.split("[", maxsplit=1)[0].strip()


def _eval_spec(spec: str, names: list[str]) -> str | None:
    if base_of(spec) in names:
        return spec
    if base_of(spec) not in OTHER_NAMES:
        raise DataError(f"eval_split {spec}: the data set has {', '.join(names)}; set eval_split to one")
    return next((name for name in OTHER_NAMES if name in names), None)


def part_of(rows: Dataset, spec: str) -> Pool:
    """The rows that `train`, `train[:80%]` or `train[100:200]` speaks of.

    Raises:
        DataError: the text is no such thing, or no row is left.
    """
    base = base_of(spec)
    try:
        parts = ReadInstruction.from_spec(spec).to_absolute({base: len(rows)})
    except (ValueError, AssertionError) as error:
        raise DataError(f"split {spec}: not like train, train[:80%] or train[100:200]; correct it") from error
    numbers = np.concatenate([np.arange(part.from_ or 0, len(rows) if part.to is None else part.to)
                              for part in parts])  # fmt: skip
    if not len(numbers):
        raise DataError(f"split {spec}: no row left of the {len(rows)} of {base}; correct it")
    return Pool(rows, base, np.arange(len(rows))).select(numbers)


Reader = Callable[[str, int], Pool]


def _local(config: dict[str, Any]) -> tuple[Reader, list[str]]:
    # The module beside this file, whether this one runs as a script or belongs to a package.
    loaders = importlib.import_module(f"{__package__}.local_loaders" if __package__ else "local_loaders")
    form = config.get("local_dataset_format") or "auto"
    polygons = config["task"] in ("instance-segmentation", "panoptic-segmentation")
    splits = loaders.load_local(config["local_dataset_path"], form, polygons, picture_sources(config)).splits
    return (lambda spec, _wanted: part_of(splits[base_of(spec)], spec)), list(splits)


def _hub(config: dict[str, Any]) -> tuple[Reader, list[str]]:
    if not config.get("dataset_id"):
        raise DataError("config: neither dataset_id nor local_dataset_path is set; set one")
    source, name = config["dataset_id"], config.get("dataset_config_name")
    try:
        names = get_dataset_split_names(source, name)
        sizes = load_dataset_builder(source, name).info.splits or {}
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise DataError(f"dataset {source}: {first_line(error)}") from error

    def read(spec: str, wanted: int) -> Pool:
        known = sizes[spec].num_examples if spec in sizes else None
        if spec == base_of(spec) and not (known and known <= 2 * wanted):
            try:
                return Pool(rows := streamed(config, spec, wanted), spec, np.arange(len(rows)))
            except (NotImplementedError, OSError, ValueError, DatasetsError) as error:
                log.warning("%s cannot be streamed (%s): downloaded instead", source, first_line(error))
        return part_of(load_dataset(source, name, split=base_of(spec)), spec)

    return read, names


def streamed(config: dict[str, Any], split: str, wanted: int) -> Dataset:
    """The first rows of a shuffled stream of a hub data set: as many as are wanted, or all that there are.

    Classes get equal shares as far as the rows that are looked at go.

    Raises:
        NotImplementedError: its images are files of their own.
    """
    stream = load_dataset(
        config["dataset_id"], config.get("dataset_config_name"), split=split, streaming=True
    )
    stream = stream.shuffle(seed=seed_of(config), buffer_size=SHUFFLE_BUFFER)
    features = stream.features
    pictures = [name for name, feature in (features or {}).items() if isinstance(feature, Image)]
    for name in pictures:
        stream = stream.cast_column(name, Image(decode=False))
    rows = list(_stream_of(config, stream, features, wanted))
    if any(row[name] and row[name]["bytes"] is None for row in rows[:1] for name in pictures):
        raise NotImplementedError("its images are separate files")
    return Dataset.from_list(rows, features=features)


def _stream_of(config: dict[str, Any], stream: Any, features: Any, wanted: int) -> Iterable[dict[str, Any]]:
    column = source_of(config, "label")
    label = (features or {}).get(column)
    if config["task"] != "image-classification" or not isinstance(label, ClassLabel):
        yield from islice(stream, wanted)
        return
    quota = -(-wanted // label.num_classes)
    taken: Counter[int] = Counter()
    for row in islice(stream, SCANNED * wanted):
        if taken[row[column]] < quota:
            taken[row[column]] += 1
            yield row
        if taken.total() == quota * label.num_classes:
            return
    log.info("rare classes: %d rows of %d wanted found", taken.total(), wanted)


# --- which rows -------------------------------------------------------------------------------------------


def sampled(config: dict[str, Any], train: Pool, evaluation: Pool | None) -> tuple[Pool, Pool]:
    """At most `n_train` and `n_eval` rows, classes in equal shares, the others at random."""
    seed, n_train, n_eval = seed_of(config), config["n_train"], config["n_eval"]
    labels = _labels(config, train)
    if evaluation is None:
        total = len(train.rows)
        size = n_eval if total >= n_train + n_eval else min(n_eval, total // SHARE_OF_EVAL)
        kept, held = carved(total, max(1, size), labels, seed)
        train, evaluation = train.select(kept), train.select(held)
        return train.select(_chosen(config, train, n_train, seed)), evaluation
    eval_seed = seed + 1 if labels is not None else seed
    train = train.select(_chosen(config, train, n_train, seed))
    return train, evaluation.select(_chosen(config, evaluation, n_eval, eval_seed))


def _chosen(config: dict[str, Any], pool: Pool, n: int, seed: int) -> list[int]:
    labels = _labels(config, pool)
    if labels is not None:
        return balanced(labels, n, seed)
    return shuffled(len(pool.rows), seed)[:n]


def _labels(config: dict[str, Any], pool: Pool) -> list[Any] | None:
    column = source_of(config, "label")
    if config["task"] != "image-classification" or column not in pool.rows.column_names:
        return None
    labels = list(pool.rows[column])
    if None in labels:
        row = pool.numbers[labels.index(None)]
        raise DataError(f"{pool.split}, row {row}: its {column} is missing; add it or remove the row")
    return labels


def shuffled(count: int, seed: int) -> list[int]:
    """The numbers below `count` in a random order that the seed decides."""
    return [int(number) for number in np.random.default_rng(seed).permutation(count)]


def balanced(labels: list[Any], n: int, seed: int) -> list[int]:
    """Indices of `min(n, len(labels))` rows in random order, as many of each class as there can be.

    Each of K classes gives n // K rows, the lowest ids one more for the remainder; what a class lacks, the
    others give in equal shares.
    """
    members: dict[Any, list[int]] = {}
    for index in shuffled(len(labels), seed):
        members.setdefault(labels[index], []).append(index)
    share = dict.fromkeys(sorted(members), 0)
    missing = min(n, len(labels))
    while missing:
        open_ = [label for label in share if share[label] < len(members[label])]
        open_.sort(key=share.__getitem__)  # those with the fewest so far get the remainder
        for position, label in enumerate(open_):
            fair = missing // len(open_) + (position < missing % len(open_))
            share[label] = min(len(members[label]), share[label] + fair)
        missing = min(n, len(labels)) - sum(share.values())
    chosen = [index for label, count in share.items() for index in members[label][:count]]
    return [chosen[position] for position in shuffled(len(chosen), seed)]


def carved(count: int, n_eval: int, labels: list[Any] | None, seed: int) -> tuple[list[int], list[int]]:
    """Two disjoint sets of indices, the tail of a random order kept for evaluation.

    Labels make it stratified: every class gives the same share of its rows, and never its last row.

    Raises:
        DataError: fewer than two rows.
    """
    if count < 2:
        raise DataError(f"{count} row(s) cannot be divided into train and eval; add rows")
    order = shuffled(count, seed)
    if labels is None:
        n_eval = min(n_eval, count - 1)
        return order[: count - n_eval], order[count - n_eval :]
    members: dict[Any, list[int]] = {}
    for index in order:
        members.setdefault(labels[index], []).append(index)
    exact = {label: n_eval * len(rows) / count for label, rows in members.items()}
    share = {label: min(int(exact[label]), len(members[label]) - 1) for label in members}
    for label in sorted(members, key=lambda label: share[label] - exact[label]):  # the largest remainders
        if sum(share.values()) < n_eval and share[label] < len(members[label]) - 1:
            share[label] += 1
    if not any(share.values()):
        raise DataError("every class has one row only; add rows, or set eval_split to a split of its own")
    held = {index for label, rows in members.items() for index in rows[len(rows) - share[label] :]}
    return [index for index in order if index not in held], [index for index in order if index in held]


# --- checks and writing -----------------------------------------------------------------------------------


def check_apart(train: Pool, evaluation: Pool) -> None:
    """Refuse splits that share rows.

    Raises:
        DataError: they are parts of one split, and a row is in both.
    """
    both = set(train.numbers.tolist()) & set(evaluation.numbers.tolist())
    if train.split == evaluation.split and both:
        raise DataError(f"train_split and eval_split share {len(both)} rows of {train.split}; {APART}")


def save(folder: Path, splits: dict[str, Dataset], facts: dict[str, Any]) -> None:
    """Write both splits, pictures included, under other names first: both are there, or neither is."""
    parts = {name: folder / f".{name}.part" for name in splits}
    for name, rows in splits.items():
        shutil.rmtree(parts[name], ignore_errors=True)
        rows.save_to_disk(str(parts[name]))
    for name in parts:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name, part in parts.items():
        part.rename(folder / name)
    text = json.dumps(facts, indent=2, ensure_ascii=False, default=str) + "\n"
    (folder / "prepared.json").write_text(text, encoding="utf-8")
    log.info("wrote %s and %s", folder / "train", folder / "eval")


if __name__ == "__main__":
    raise SystemExit(main())
