"""What a person should do after a mining, by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tasks.mining.ledger import HIGH_RATE
from tasks.mining.precheck import precheck, yield_warning
from tasks.mining.report.facts import MiningFacts
from tasks.reports.markdown import code, escaped

FEW = 1 / 3
"""Of the neighbours asked for; fewer different images mean a pool that repeats itself, or ends."""
NEARLY_ALL = 0.8
"""Of the images searched; with more of them found the pool is nearly exhausted."""
UNRELATED = 0.6
"""Cosine similarity; below it images have little in common. A default that no data set has confirmed."""


def actions(facts: MiningFacts) -> list[str]:
    """What needs a person's attention, as Markdown, the most pressing first; often nothing."""
    return [text for rule in RULES for text in rule(facts)]


def always(facts: MiningFacts) -> str:
    """What follows every mining."""
    what = "Concatenate the mined rows with the synthetic rows of generation in assembly"
    if facts.loop:
        return f"{what}. The loop does this itself in its stages data_mining and data_merge: nothing to do."
    return (
        f"{what}: give each path of `mined.parquet` its label and its golden (defect-free) image, and add "
        "the rows to the training set. Check that none of them is in the validation or test set."
    )


def median_similarity(facts: MiningFacts) -> float | None:
    """The median, over the images found, of the similarity to the nearest weak sample; cosine only."""
    known = facts.nearest["similarity"].dropna()
    return float(known.median()) if len(known) else None


def _nothing(facts: MiningFacts) -> Iterator[str]:
    if facts.count:
        return
    loop = facts.loop
    if loop and loop.rejected and not loop.kept:
        yield (
            f"Nothing was mined: all {loop.rejected:,} neighbours are less similar than the floor "
            f"{_number(loop.floor)}. Lower `min_similarity`, or add images to the pool that look like "
            "the weak samples."
        )
    else:
        yield "Nothing was mined: raise `topn`, or enlarge the pool."


def _encoders(facts: MiningFacts) -> Iterator[str]:
    if facts.encoder_match == "no":
        yield (
            "The weak samples and the pool were embedded by different encoders, so their similarities mean "
            "nothing: embed both with one spec and search again."
        )
    elif facts.encoder_match == "unverified":
        yield (
            "Nothing on disk proves that one encoder made both embeddings: embed again with this "
            "version, which writes a sidecar (`.meta.json`) beside each."
        )


def _no_filter(facts: MiningFacts) -> Iterator[str]:
    if not facts.summary.label_filter_noop:
        return
    lacking = [
        what
        for what, side in (("weak samples", facts.targets), ("pool", facts.pool))
        if side.rows is not None and side.labels is None
    ]
    yield (
        f"The label filter was asked for and did nothing, because the {' and the '.join(lacking) or 'input'} "
        "has no column `label`: back-fill it in the embeddings, then rerun only the k-NN step "
        "(`tmm nearest_neighbors`); the embeddings need not be made again."
    )


def _unrelated(facts: MiningFacts) -> Iterator[str]:
    median = median_similarity(facts)
    if median is not None and median < UNRELATED:
        yield (
            f"Unrelated look: the median similarity is {median:.2f}, below {UNRELATED}. Check encoder "
            "consistency (section 3) and that pool and weak samples show the same kind of product."
        )


def _pool_gaps(facts: MiningFacts) -> Iterator[str]:
    if facts.targets.labels is None:
        return
    if facts.pool.labels is None:
        yield from (f"{escaped(text).capitalize()}." for text in precheck([], None))
        return
    for label, count in facts.targets.counts.most_common():
        if not facts.pool.counts[label]:
            yield (
                f"Pool gap: no pool image is labelled **{escaped(label)}**, as {count:,} weak samples are: "
                "add such images to the pool, or have them generated."
            )
        elif not facts.by_label[label]:
            yield (
                f"Pool gap: **{escaped(label)}** has {count:,} weak samples and no mined image, though "
                f"{facts.pool.counts[label]:,} pool images carry the label: {_why_none(facts, label)}."
            )


def _why_none(facts: MiningFacts, label: str) -> str:
    if facts.used_before[label] >= facts.pool.counts[label]:
        return "earlier iterations have mined all of them; add new images of it to the pool"
    if facts.loop and facts.loop.selection.over_budget_count:
        return "the budget `max_new_rows` went to others; raise it, or add images that are closer"
    if facts.loop and facts.loop.rejected:
        return "what was found lies below the floor, or closer to other samples; add images that are closer"
    more = "raise `topn`" if facts.summary.filter_mode else "raise `topn` or set `filter_by_label`"
    return f"other weak samples were closer to what was found; {more}"


def _few(facts: MiningFacts) -> Iterator[str]:
    found, searched = facts.summary.unique_saved, facts.summary.source_rows
    if not found or found >= FEW * facts.wanted:
        return
    share = (
        f"Only {found:,} different images stand for {facts.wanted:,} neighbours ({found / facts.wanted:.0%})"
    )
    if found >= NEARLY_ALL * searched:
        yield (
            f"{share}, and only {searched:,} pool images could be searched: the pool is nearly exhausted. "
            "Add new images to it."
        )
    else:
        yield (
            f"{share}: weak samples share their neighbours, so the pool is very redundant around them. "
            "Images of other products, days or lines bring more than a larger `topn`."
        )


def _history(facts: MiningFacts) -> Iterator[str]:
    if facts.loop and facts.loop.selection.historical_candidate_rate >= HIGH_RATE:
        rate = facts.loop.selection.historical_candidate_rate
        yield (
            f"{rate:.0%} of the candidates were mined in an earlier iteration: widen `topn`, or enlarge "
            "the pool."
        )


def _floor(facts: MiningFacts) -> Iterator[str]:
    loop = facts.loop
    if loop and loop.kept and loop.rejected > loop.kept:
        yield (
            f"The similarity floor {_number(loop.floor)} rejected {loop.rejected:,} of "
            f"{loop.rejected + loop.kept:,} images found: few pool images look like the weak samples. "
            "Add such images before you lower `min_similarity`."
        )


def _yield(facts: MiningFacts) -> Iterator[str]:
    before = facts.inputs.mined_before if facts.inputs else None
    if facts.loop and before:
        text = yield_warning(facts.loop.kept, before)
        if text:
            yield f"Low yield: {escaped(text)}."


def _budget(facts: MiningFacts) -> Iterator[str]:
    if facts.loop and facts.loop.selection.over_budget_count:
        chosen = facts.loop.selection
        yield (
            f"The budget {code(f'max_new_rows={chosen.max_new_rows}')} left {chosen.over_budget_count:,} "
            "candidates for later iterations. Raise it if the set may grow faster; no action is needed "
            "otherwise."
        )


def _number(value: float | None) -> str:
    return "(none)" if value is None else f"{value:.4g}"


RULES: tuple[Callable[[MiningFacts], Iterator[str]], ...] = (
    _nothing, _encoders, _no_filter, _unrelated, _pool_gaps, _few, _history, _floor, _yield, _budget
)  # fmt: skip
