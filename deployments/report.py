"""The command `deft report`: the reports of a run once more, from what lies on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from tasks.errors import DeftError, InputError


@dataclass(frozen=True)
class Kind:
    """A kind of folder that has a report.

    Attributes:
        name: for people.
        files: one of them makes a folder one of this kind.
        renderer: `module:function` that takes the folder and gives a path or several.
        inside: where such folders lie in a run.
    """

    name: str
    files: tuple[str, ...]
    renderer: str
    inside: tuple[str, ...] = ()

    def fits(self, folder: Path) -> bool:
        """Whether a folder is of this kind."""
        return any((folder / name).is_file() for name in self.files)


KINDS = (
    Kind(
        "gap analysis",
        ("kpi_gaps.parquet", "unreachable_kpi.txt"),
        "tasks.gap_analysis.report:render",
        ("*/rca_results/*",),
    ),
    Kind(
        "routing",
        ("routing.json", "routing_summary.txt"),
        "tasks.routing.report:render",
        ("*/routing_results/*",),
    ),
    Kind(
        "mining",
        ("mining_summary.json", "mined_pairs.parquet"),
        "tasks.mining.report:render",
        ("*/mining_results/*",),
    ),
    Kind(
        "sweep",
        ("sweep_inputs.json", "trials.jsonl"),
        "tasks.automl.report:render",
        ("automl_phase1", "final_automl"),
    ),
    Kind("data loop", ("deft_state.json",), "tasks.deft.report:render"),
    Kind("pipeline", ("pipeline.json", "pipeline.done.json"), "tasks.pipeline.report:render"),
)
"""Parts before the whole: a report links to those that are there."""


def report(
    run: Annotated[Path, typer.Argument(help="folder of a pipeline, loop, sweep, or of one stage of a loop")],
) -> None:
    """Write the reports of a run again from the files on disk, all that lie in it, and print their paths."""
    from pyarrow import ArrowInvalid
    from yaml import YAMLError

    folder = run.absolute()
    failed = False
    for kind, place in reports_in(folder):
        try:
            for path in rendered(kind, place):
                typer.echo(str(path))
        except (DeftError, OSError, ArrowInvalid, YAMLError) as error:
            failed = True
            typer.echo(f"ERROR: {kind.name} {place}: {' '.join(str(error).split())}", err=True)
    if failed:
        raise typer.Exit(1)


def reports_in(folder: Path) -> list[tuple[Kind, Path]]:
    """Each kind of report that a folder has, with the folder that it is about; the parts come first.

    Raises:
        InputError: no such folder, or nothing in it has a report.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give that of a run")
    found = list(_found(folder))
    if not found:
        looked_for = ", ".join(f"{kind.files[0]} ({kind.name})" for kind in KINDS)
        raise InputError(f"{folder} is no run: looked for {looked_for}")
    return found


def _found(folder: Path) -> Iterator[tuple[Kind, Path]]:
    for kind in KINDS:
        places = sorted({place for pattern in kind.inside for place in folder.glob(pattern)})
        for place in (*places, folder):
            if kind.fits(place):
                yield kind, place


def rendered(kind: Kind, folder: Path) -> Sequence[Path]:
    """Render the report of a folder and give the paths."""
    module, name = kind.renderer.split(":")
    render: Callable[[Path], Path | Sequence[Path]] = getattr(import_module(module), name)
    paths = render(folder)
    return [paths] if isinstance(paths, Path) else list(paths)
