"""How a pipeline went: `PIPELINE_SUMMARY.md` and the last lines of the terminal (spec pipeline 11).

Sweeps measure on the validation set, the loop on the KPI set. A difference is taken between two figures of
one set and one metric, and of no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from tasks.pipeline.facts import Stage

SUMMARY = "PIPELINE_SUMMARY.md"
HEADER = ("stage", "set", "metric", "Δ before", "Δ start", "threshold", "train rows", "hours")
NONE = "—"


class PipelineResult(BaseModel):
    """How a pipeline ended.

    Attributes:
        status: complete; with warnings; only swept; or the phase that failed.
        delivered: label of the stage whose model is delivered.
        checkpoint: that model.
        threshold: of its scores.
        reason: why this one.
        stages: the trajectory, in order.
        warnings: what a person should know.
        folder: of the run.
    """

    status: str
    delivered: str
    checkpoint: Path
    threshold: float | None = None
    reason: str
    stages: list[Stage]
    warnings: list[str] = []
    folder: Path


def rows_of(stages: Sequence[Stage]) -> list[tuple[str, ...]]:
    """The trajectory as a table, its header first."""
    rows: list[tuple[str, ...]] = [HEADER]
    seen: dict[tuple[str, str], list[float]] = {}
    for stage in stages:
        before = seen.setdefault((stage.set, stage.metric), [])
        rows.append(
            (
                stage.stage,
                stage.set,
                f"{stage.metric} {_number(stage.value)}{_unit(stage.unit)}",
                _change(stage.value, before[-1:]),
                _change(stage.value, before[:1]),
                _number(stage.threshold),
                NONE if stage.rows is None else str(stage.rows),
                NONE if stage.seconds is None else f"{stage.seconds / 3600:.2f}",
            )
        )
        before.append(stage.value)
    return rows


def as_text(stages: Sequence[Stage]) -> str:
    """The trajectory for a terminal."""
    rows = rows_of(stages)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown_table(stages: Sequence[Stage]) -> list[str]:
    """The lines of the trajectory as a table in Markdown."""
    header, *rows = ("| " + " | ".join(row) + " |" for row in rows_of(stages))
    return [header, "|---" * len(HEADER) + "|", *rows]


def as_markdown(result: PipelineResult, links: Mapping[str, Path]) -> str:
    """The whole summary of a pipeline for a person."""
    warnings = [f"- {text}" for text in result.warnings] or ["none"]
    files = [f"- {name}: `{path}`" for name, path in links.items()]
    return "\n".join(
        [
            "# Pipeline summary",
            "",
            f"**{result.status}**: {result.delivered} is delivered. {result.reason}",
            "",
            f"Checkpoint `{result.checkpoint}`, threshold {_number(result.threshold)}.",
            "",
            *markdown_table(result.stages),
            "",
            "Sweeps measure on the validation set, the loop on the KPI set; Δ is taken within one set only.",
            "",
            "## Warnings",
            "",
            *warnings,
            "",
            "## Files",
            "",
            *files,
            "",
        ]
    )


def _change(value: float, before: Sequence[float]) -> str:
    return f"{value - before[0]:+.4g}" if before else NONE


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""
