"""`anomalygen generate` and `anomalygen ingest`: what they read and what they leave."""

from __future__ import annotations

from pathlib import Path

from tasks.action import ActionCode, later
from tasks.anomalygen import headline, ingest
from tasks.anomalygen.plan import Plan
from tasks.anomalygen.spec import GenerateSpec, IngestSpec
from tasks.anomalygen.tree import GeneratedTree
from tasks.artifacts import read_json


def _files_read(spec: GenerateSpec) -> list[Path]:
    """Every picture and table beside the spec's own files that decides the result."""
    plan = Plan(spec)
    return [*plan.source.files(), *plan.weak[0]]


def _outputs(spec: GenerateSpec) -> dict[str, Path]:
    """What a finished run has left: the tables, and every picture that it wrote.

    The pictures are not known before: our manifest names them; the container leaves none, there it is
    whatever lies in its folders.
    """
    tree = GeneratedTree(spec.results_dir)
    tables = [tree.allocation, tree.result_csv, tree.testcase]
    if tree.manifest.is_file():
        tables += [tree.request, tree.manifest]
        written = [tree.root / name for name in read_json(tree.manifest)]
    else:
        folders = (tree.sdg, tree.amp)
        written = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
    pictures = {file.relative_to(tree.root).as_posix(): file for file in written if file not in tables}
    return {file.name: file for file in tables} | pictures


GENERATE = ActionCode(
    spec=GenerateSpec,
    run=later("tasks.anomalygen.generate:generate"),
    folder=lambda spec: spec.results_dir,
    outputs=_outputs,
    headline=headline.generate,
    reads=_files_read,
)
INGEST = ActionCode(
    spec=IngestSpec,
    run=ingest.ingest,
    folder=lambda spec: spec.results_dir,
    outputs=ingest.outputs,
    headline=headline.ingest,
    reads=ingest.files_read,
)
