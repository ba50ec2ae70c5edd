"""`Routing_Report.md`: which weak samples go to mining, which to generation, and which nowhere."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import write_text
from tasks.reports.checks import write_validation
from tasks.reports.markdown import Raw, code, escaped, table
from tasks.reports.packaging import package
from tasks.routing.report.checks import SECTIONS, findings
from tasks.routing.report.facts import STAGE, LabelFacts, RoutingFacts, read_facts

REPORT = "Routing_Report.md"
CONFIG = "routing_config"

EXPLAINED = (
    "*How to read this: **weak samples** are test images that the model got wrong or nearly wrong. They are "
    "not trained on themselves. A weak sample goes to **mining** when the pool (labelled images that are "
    "not trained on yet) has images of its label, so that look-alikes can be found there; and to "
    "**generation** (AnomalyGen) when the generator can paint its defect, so that synthetic images can be "
    "made. Both decisions are taken on their own: a sample may go to both, or to neither, which is called "
    "**dropped**. Labels are compared in upper case, with blanks and hyphens as `_`.*"
)


def render(folder: Path) -> Path:
    """Write the report of the routing in `folder` from its files alone; gives its path.

    Raises:
        InputError: nothing was routed there, or a file is not what it must be.
    """
    return _write(read_facts(folder.absolute()))


def write_report(folder: Path) -> Path:
    """Render the report, check it, and lay its settings and its log beside it; gives its path.

    Raises:
        InputError: as `render` does.
        StageFailed: a file or a section of the report is missing, or counts do not add up.
    """
    facts = read_facts(folder.absolute())
    report = _write(facts)
    figures = facts.split.model_dump(include={"total", "to_mining", "to_generation", "to_both", "dropped"})
    write_validation(facts.folder, findings(facts, report.read_text(encoding="utf-8")), figures)
    package(facts.folder, CONFIG, [facts.folder / f"{STAGE}_spec.yaml"], [facts.folder / f"{STAGE}.log"])
    return report


def _write(facts: RoutingFacts) -> Path:
    bodies = (
        _verdict(facts), _inputs(facts), _labels(facts), _modules(facts), _dropped(facts), _actions(facts)
    )  # fmt: skip
    parts = [
        f"## {number}. {section.heading}\n\n{body}"
        for number, (section, body) in enumerate(zip(SECTIONS, bodies, strict=True), 1)
    ]
    return write_text(facts.folder / REPORT, "\n\n".join(["# Routing Report", *parts]) + "\n")


def headline(facts: RoutingFacts) -> str:
    """What happened and what to do, in two sentences."""
    split = facts.split
    names = ", ".join(f"**{escaped(one.label)}** ({one.count:,})" for one in facts.dropped)
    if not split.total:
        return "There was **no weak sample** to route: the gap analysis found none, so the iteration stops."
    if split.dropped == split.total:
        return (
            f"**None of the {split.total:,} weak samples can be used**, so the iteration stops here. Add "
            f"pool images or generator support for {names}."
        )
    text = (
        f"Of {split.total:,} weak samples, **{split.to_mining:,} go to mining** and "
        f"**{split.to_generation:,} to generation** ({split.to_both:,} of them to both)."
    )
    if not facts.dropped:
        return f"{text} Every weak sample is used: nothing to do."
    return f"{text} {split.dropped:,} are dropped: add pool images or generator support for {names}."


def _verdict(facts: RoutingFacts) -> str:
    split = facts.split
    rows = [
        ("Total weak samples", split.total, "all that gap analysis put in the queue"),
        ("To mining", split.to_mining, "the pool has images of their label"),
        ("To generation", split.to_generation, "the generator supports their label"),
        ("To both", split.to_both, "counted in both lines above"),
        ("Dropped", split.dropped, "neither can help: section 5"),
    ]
    return "\n\n".join([headline(facts), EXPLAINED, table(("What", "Count", "Meaning"), rows)])


def _inputs(facts: RoutingFacts) -> str:
    split = facts.split
    pool = "no source pool was given: no weak sample can be mined"
    if split.pool:
        pool = "the labels in it decide what can be mined"
        if split.pool_labels is not None:
            pool = f"{sum(split.pool_labels.values()):,} images, {len(split.pool_labels):,} labels"
    supported = ", ".join(facts.supported) if facts.supported else None
    rows = [
        ("Weak samples (gaps parquet)", code(facts.gaps) if facts.gaps else None, f"{split.total:,} rows"),
        ("Source pool", code(split.pool) if split.pool else None, pool),
        ("Labels the generator supports", supported, "PASS = good images to paint defects on"),
    ]
    text = "The split depends on nothing but these three inputs and the labels in them."
    if facts.taken_from:
        text += f" They have not changed since an earlier equal run: {escaped(str(facts.taken_from))}."
    return f"{text}\n\n{table(('Input', 'Path', 'Notes'), rows)}"


def _labels(facts: RoutingFacts) -> str:
    rows = [
        (
            one.label,
            one.count,
            _in_pool(facts, one),
            one.mining,
            one.generation,
            Raw(f"**{one.routed_to}**") if one.dropped else one.routed_to,
        )
        for one in sorted(facts.split.labels, key=lambda one: (-one.count, one.label))
    ]
    header = ("Label", "Count", "In pool?", "Mining?", "AnomalyGen?", "Routed To")
    return (
        f"One line for every label among the weak samples, the most frequent first.\n\n{table(header, rows)}"
    )


def _in_pool(facts: RoutingFacts, one: LabelFacts) -> str:
    if not facts.split.pool:
        return "no pool"
    count = (facts.split.pool_labels or {}).get(one.label)
    return f"yes ({count:,} images)" if count else "yes" if one.mining else "no"


def _modules(facts: RoutingFacts) -> str:
    ways = (
        (
            "4.1 Mining", facts.mining_rows, facts.mining_parquet,
            [one.label for one in facts.split.labels if one.mining],
            "find the pool images that look most like these samples",
            "no weak sample can be mined: skip mining",
        ),
        (
            "4.2 Generation (AnomalyGen)", facts.generation_rows, facts.generation_parquet,
            [one.label for one in facts.split.labels if one.generation],
            "paint defects of these labels on good images; weak PASS samples serve as such images",
            "no weak sample can be generated: skip generation",
        ),
    )  # fmt: skip
    parts = []
    for heading, rows, parquet, labels, next_step, otherwise in ways:
        lines = [
            ("Rows", rows), ("Labels", ", ".join(labels) or None), ("Path", code(f"./{parquet.name}")),
            ("Next step", next_step if rows else otherwise),
        ]  # fmt: skip
        parts.append(f"### {heading}\n\n{table(('What', 'Value'), lines)}")
    parts.append("Both files lie in the folder of this report and are written even with 0 rows.")
    return "\n\n".join(parts)


def _dropped(facts: RoutingFacts) -> str:
    rows = [(one.label, one.count, _why(facts), _fix(facts, one)) for one in facts.dropped]
    if rows:
        text = (
            "Weak samples of these labels bring nothing to this iteration: the model stays weak on them. A "
            "label leaves this table when the pool has images of it, or when the generator supports it."
        )
    elif facts.split.total:
        text = (
            "No label was dropped: every weak sample goes to mining, to generation, or to both, so the "
            "table below is empty, and no kind of error is left without help in this iteration."
        )
    else:
        text = (
            "There was no weak sample, so that none could be dropped and the table below is empty. If the "
            "model does make errors on the test set, the gap analysis was given the wrong file or asked "
            "for no sample: look at the gaps parquet in section 2, and run the gap analysis again."
        )
    return f"{text}\n\n{table(('Label', 'Count', 'Why', 'Suggested fix'), rows)}"


def _why(facts: RoutingFacts) -> str:
    pool = "the pool has no image of it" if facts.split.pool else "there is no pool"
    return f"{pool}, and the generator does not support it"


def _fix(facts: RoutingFacts, one: LabelFacts) -> str:
    near = facts.lookalikes(one.label)
    if near:
        return f"check the spelling: {' or '.join(near)}?"
    return "add images of it to the pool" if facts.split.pool else "configure a pool that has images of it"


def _actions(facts: RoutingFacts) -> str:
    split = facts.split
    by_itself = "In the DEFT loop the next stages do this by themselves."
    todo = []
    for one in facts.dropped:
        for near in facts.lookalikes(one.label)[:1]:
            todo.append(
                f"Check the spelling of **{escaped(one.label)}** ({one.count:,} samples): it is almost "
                f"**{escaped(near)}**, which is known. If both mean one defect, write it one way everywhere."
            )
    if facts.dropped:
        names = ", ".join(escaped(one.label) for one in facts.dropped)
        todo.append(
            f"For the dropped labels ({names}): add pool images with these labels, or generator support."
        )
    todo.append(
        f"Run mining on `mining_gaps.parquet` ({split.to_mining:,} rows). {by_itself}"
        if split.to_mining
        else "Mining: nothing to run, `mining_gaps.parquet` has 0 rows."
    )
    todo.append(
        f"Run generation on `anomalygen_gaps.parquet` ({split.to_generation:,} rows). {by_itself}"
        if split.to_generation
        else "Generation: nothing to run, `anomalygen_gaps.parquet` has 0 rows."
    )
    if not (split.to_mining or split.to_generation):
        todo.append(
            "The loop stopped here on purpose: without a new row, training again would change nothing. Mend "
            "what is named above and start it again."
        )
    numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(todo, 1))
    return f"By fixed rules from the numbers above, the most pressing first:\n\n{numbered}"
