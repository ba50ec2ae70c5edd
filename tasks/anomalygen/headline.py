"""What a finished generation or ingestion is about."""

from __future__ import annotations

from pathlib import Path

from tasks.action import Headline
from tasks.anomalygen.ingest import outputs_of_tables
from tasks.anomalygen.spec import GenerateSpec, IngestSpec
from tasks.anomalygen.tree import RECONSTRUCTED, GeneratedTree, counts_in, parsed_name, pictures_in
from tasks.artifacts import read_json
from tasks.headlines import MOST_PICTURES
from tasks.reports.words import counted, share


def generate(spec: GenerateSpec) -> Headline:
    """How many samples of each defect were placed, of how many asked for, and some of the pictures."""
    tree = GeneratedTree(spec.results_dir)
    placed = counts_in(tree.allocation)
    asked = counts_in(tree.request) if tree.request.is_file() else {}
    total, wanted = sum(placed.values()), sum(asked.values()) if asked else spec.num_SDG
    pictures = _one_of_each(tree.pictures(RECONSTRUCTED))
    return Headline(
        f"{share(total, wanted)} samples that were asked for are generated, of "
        f"{counted(sum(count > 0 for count in placed.values()), 'kind')} of defect.",
        ("Defect", "Asked for", "Generated"),
        [(name, asked.get(name), placed.get(name, 0)) for name in {**asked, **placed}],
        pictures,
        f"{len(pictures)} of the generated images, one kind of defect after the other:",
    )


def ingest(spec: IngestSpec) -> Headline:
    """How many pairs became training rows, by label."""
    facts = read_json(outputs_of_tables(spec)["ingest_summary.json"])
    blocked, kept = facts["guardrail_blocked"], sum(facts["labels"].values())
    stopped = f"; the guardrail blocked {counted(blocked, 'pair')}" if blocked else ""
    return Headline(
        f"{share(kept, facts['input_count'])} generated pairs are training rows{stopped}.",
        ("Label", "Rows"),
        list(facts["labels"].items()),
    )


def _one_of_each(folder: Path) -> list[Path]:
    """Pictures of every kind of defect in turn."""
    kinds: dict[str, list[Path]] = {}
    for file in pictures_in(folder):
        name = parsed_name(file.stem)
        kinds.setdefault(name.defect if name else "", []).append(file)
    rounds = range(max(map(len, kinds.values()), default=0))
    turns = [files[turn] for turn in rounds for files in kinds.values() if turn < len(files)]
    return turns[:MOST_PICTURES]
