"""The end of what a cancelled run has started; light, since every flow names it."""

from __future__ import annotations

from typing import Any


def reap(flow: Any, flow_run: Any, state: Any) -> None:
    """Stop and remove the containers of a flow run and of the runs below it.

    A hook for `@flow(on_cancellation=[reap])`; Prefect gives its arguments by these names.
    """
    from blocks.containers.engine import stop_run

    stop_run(flow_run.id)
