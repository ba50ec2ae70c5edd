"""The sections of a mining report that tell what went in: verdict, inputs, encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.mining.report.actions import actions
from tasks.mining.report.facts import MiningFacts, Side, settings_of
from tasks.reports.markdown import NONE, code, escaped, table

HASH_LETTERS = 64

EXPLAINED = (
    "*How to read this: an **encoder** is a network that turns an image into a list of numbers, its "
    "**embedding**; images that look alike get lists that point the same way. **Weak samples** (also called "
    "targets) are test images that the model got wrong or nearly wrong. The **pool** (also called source) "
    "holds labelled images that are not trained on yet. Mining looks for the pool images nearest to the "
    "weak samples (k-NN: the k nearest neighbours), so that training sees more of what is hard.*"
)


def headline(facts: MiningFacts) -> str:
    """What happened and what to do, in two sentences."""
    pool, weak = _count(facts.pool.rows), _count(facts.summary.target_queries)
    whose = f" of {escaped(facts.loop.label)}" if facts.loop else ""
    if facts.count:
        what = f"{facts.count:,} {'new ' if facts.loop else ''}{'image' if facts.count == 1 else 'images'}"
        how = " at random, as a control," if facts.random_labels is None else ""
        text = f"Mining chose **{what}**{how} from a pool of {pool} for the {weak} weak samples{whose}"
        text += "; `mined.parquet` lists them" + (", and they go to training next." if facts.loop else ".")
    else:
        text = f"Mining chose **no image** from a pool of {pool} for the {weak} weak samples{whose}"
        text += "; `mined.parquet` is empty."
    todo = actions(facts)
    return f"{text} {_advice(todo)}"


def _advice(todo: Sequence[str]) -> str:
    if not todo:
        return "No rule of section 7 asks for anything."
    rest = f" (section 7 names {len(todo) - 1} more)" if len(todo) > 1 else ""
    return f"**To look at first{rest}:** {todo[0]}"


def verdict(facts: MiningFacts) -> str:
    """Section 1."""
    summary, loop = facts.summary, facts.loop
    rows: list[tuple[str, object]] = [
        ("Targets in (weak samples)", summary.target_queries),
        ("Pool in (images)", facts.pool.rows),
        ("Mined out (unique images)", facts.count if facts.mined is not None else None),
        ("Encoder", _encoder(facts.pool)),
        ("topn (neighbours asked for, each weak sample)", summary.topn),
        ("Metric (what near means)", summary.knn_metric),
        ("Label filter", _filter(facts)),
    ]
    if loop:
        rows += [
            ("Similarity floor", loop.floor if loop.floor is not None else "off"),
            ("Way of choosing", _way(facts)),
            ("Samples for training (rows)", loop.samples),
        ]
    parts = [headline(facts), EXPLAINED, table(("What", "Value"), rows)]
    if loop:
        one = loop.selection
        parts.append(
            f"History: {one.candidate_unique_count:,} candidates, {one.already_mined_count:,} already mined "
            f"in earlier iterations, {one.selected_count:,} newly selected, "
            f"{one.cumulative_unique_count:,} cumulative over the run."
        )
    return "\n\n".join(parts)


def inputs(facts: MiningFacts) -> str:
    """Section 2."""
    given, targets, pool = facts.inputs, facts.targets, facts.pool
    note = NONE
    if given and given.pool_rows is not None:
        note = (
            f"{given.pool_rows:,} rows as given; {given.pool_duplicates:,} duplicates and "
            f"{given.pool_left_out:,} rows without a usable image left out"
        )
    rows: list[tuple[object, ...]] = [
        ("Target parquet (weak samples)", path_cell(facts, given.targets if given else _embedded(targets)),
         targets.rows, targets.labels is not None, "rows as searched, each sample once"),
        ("Pool (source)", path_cell(facts, given.pool if given else _embedded(pool)),
         pool.rows, pool.labels is not None, note),
        *(
            (f"Embedding spec, {side}", path_cell(facts, one.spec), None, None, _origin(one.taken_from))
            for side, one in (("targets", targets), ("pool", pool))
        ),
        ("Mining spec (search)", path_cell(facts, facts.search_spec), None, None,
         _origin(facts.search_taken_from)),
    ]  # fmt: skip
    if facts.loop:
        before = facts.loop.selection.history_count_before
        history = facts.loop.folder / "mining_history_summary.json"
        rows.append(("Ledger of the run", path_cell(facts, history), before, None, "images mined before"))
    return (
        "What went in, and where it lies. A path that begins with `./` is in the folder of this report.\n\n"
        + table(("Input", "Path", "Rows", "Has label?", "Notes"), rows)
    )


def encoders(facts: MiningFacts) -> str:
    """Section 3."""
    left, right = facts.targets.sidecar, facts.pool.sidecar
    keys = (
        ("Model", "model"), ("Dimension (numbers in an embedding)", "dim"), ("Images", "rows"),
        ("With golden image", "with_golden"), ("Batch size", "batch_size"),
        ("Spec hash", "spec_sha256"), ("Weights hash", "weights_sha256"), ("Made (UTC)", "created"),
    )  # fmt: skip
    rows: list[tuple[object, ...]] = [
        (name, *(_shown(getattr(side, key) if side else None) for side in (left, right)))
        for name, key in keys
    ]
    rows.append(("Reused or computed", *(_origin(side.taken_from) for side in (facts.targets, facts.pool))))
    meaning = {
        "yes": "one encoder embedded the weak samples and the pool, so their distances can be compared.",
        "no": "different encoders were used, so the distances mean nothing and must not be used.",
        "unverified": "a sidecar (`.meta.json`) is missing, so nothing proves that one encoder was used.",
    }[facts.encoder_match]
    return "\n".join(
        [
            f"**Match: {facts.encoder_match}** — {meaning} Distances have a meaning only between embeddings "
            "of one encoder with the same weights.\n",
            f"- Step 1 embeds the targets: {_model(facts.targets)}",
            f"- Step 2 embeds the pool: {_model(facts.pool)}\n",
            table(("What", "Step 1: targets", "Step 2: pool"), rows),
        ]
    )


def _model(side: Side) -> str:
    one = side.sidecar
    if one is None:
        return f"model and model path unknown, as {code(side.parquet.name + '.meta.json')} is missing."
    config = code(one.model_config_path) if one.model_config_path else f"{NONE} (only checkpoints have one)"
    text = f"model {escaped(one.model)}, model path {code(one.model_path)}, model_config_path {config}."
    return f"{text} Reused: taken from {code(side.taken_from)}." if side.taken_from else text


def _filter(facts: MiningFacts) -> str:
    if facts.summary.label_filter_noop:
        return "asked for, but had no effect (no-op): a label column is missing"
    return {
        None: "off: neighbours of any label",
        "post": "on: neighbours of another label are dropped after the search",
        "within_label": "on: each weak sample is compared with pool images of its own label",
    }[facts.summary.filter_mode]


def _way(facts: MiningFacts) -> str:
    assert facts.loop is not None
    return {
        "nearest": "nearest: the most similar images, in turn for every weak sample",
        "nearest_defects": "nearest_defects: the most similar images; PASS images drawn at random instead",
        "random": "random: drawn at random from the pool, as a control of mining",
    }[facts.loop.way]


def _encoder(side: Side) -> str | None:
    one = side.sidecar
    return f"{one.model}, {one.dim} numbers an image, {Path(one.model_path).name}" if one else None


def _embedded(side: Side) -> str | None:
    return settings_of(side.spec).get("input_parquet")


def _origin(taken_from: Path | None) -> str:
    return "reused, unchanged inputs" if taken_from else "computed in this run"


def _shown(value: object) -> object:
    """A value as a cell; hashes are cut, as nobody reads them whole."""
    is_hash = isinstance(value, str) and len(value) == HASH_LETTERS and value.isalnum()
    return code(f"{str(value)[:12]}…") if is_hash else value


def path_cell(facts: MiningFacts, path: Path | str | None) -> object:
    """A path as a cell, short when it lies in the folder of the report."""
    if path is None:
        return None
    whole = Path(path)
    inside = whole.is_relative_to(facts.folder)
    return code(f"./{whole.relative_to(facts.folder)}" if inside else whole)


def _count(number: int | None) -> str:
    return "an unknown number" if number is None else f"{number:,}"
