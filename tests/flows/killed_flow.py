"""Runs flows in child processes that kill themselves at a named point (see `tests/killing.py`)."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from tasks.registry import ACTIONS
from tests.killing import fork_on_orders

SLOW_IMPORTS = (
    "cv2",
    "flows.pipeline",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "prefect.flow_engine",
    "prefect.task_engine",
    "pyarrow.dataset",
    "tasks.anomalygen.painting",
    "tasks.changenet.work",
    "tasks.deft.report.panels",
    "tasks.evaluation.plots",
    "tasks.pipeline.report",
    "transformers.models.resnet.modeling_resnet",
)
"""What a run imports when it comes to it, and a child would import again and again."""


def run(program: str, arguments: list[str], storage: str) -> None:
    """The program, on a result store of its own."""
    sys.argv = ["", *arguments]
    os.environ["PREFECT_LOCAL_STORAGE_PATH"] = storage
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: storage}):
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})  # noqa: S102


if __name__ == "__main__":
    for module in SLOW_IMPORTS:
        import_module(module)
    for action in ACTIONS:
        action.code  # noqa: B018 - imports it
    fork_on_orders(run)
