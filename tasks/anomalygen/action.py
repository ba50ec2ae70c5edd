"""`anomalygen generate` and `anomalygen ingest`."""

from __future__ import annotations

from tasks.action import ActionCode
from tasks.anomalygen import generate, ingest
from tasks.anomalygen.spec import GenerateSpec, IngestSpec

GENERATE = ActionCode(
    spec=GenerateSpec,
    run=generate.generate,
    folder=lambda spec: spec.results_dir,
    outputs=generate.outputs,
    reads=generate.files_read,
)
INGEST = ActionCode(
    spec=IngestSpec,
    run=ingest.ingest,
    folder=lambda spec: spec.results_dir,
    outputs=ingest.outputs,
    reads=ingest.files_read,
)
