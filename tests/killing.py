"""Work in child processes that kill themselves at a named point, forked from one that has imported it all.

Every line of standard input is an order, the keyword arguments of the work and its point; every line of
standard output is the child's exit status, negative when it was killed. Forked, because the imports take
longer than the tiny work. The killer is an audit hook of the interpreter: it ends the process where a file is
about to be renamed into its place, or opened for writing, so nothing under test is replaced.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_SECONDS = 600
"""A child that hangs is ended after these."""


def kill_at(event: str, place: str, times: int) -> None:
    """Kill this process the n-th time that such a file is about to be written or renamed into place."""
    seen = []

    def hook(name: str, args: tuple[Any, ...]) -> None:
        if name != event or place not in str(args[1] if name == "os.rename" else args[0]):
            return
        if name == "open" and not set("aw+") & set(str(args[1] or "")):
            return
        seen.append(name)
        if len(seen) == times:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def fork_on_orders(work: Callable[..., None]) -> None:
    """In the helper: one child after the other, until the orders end."""
    for line in sys.stdin:
        order = json.loads(line)
        point = order.pop("point")
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)  # the answers are the parent's to give
            signal.alarm(MOST_SECONDS)
            if point:
                kill_at(*point)
            status = 1
            try:
                work(**order)
                status = 0
            finally:
                if status:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


@contextmanager
def children(module: str, **environment: str) -> Iterator[Callable[..., int]]:
    """In the test: what has a child of the helper work, and gives its exit status."""
    command = [sys.executable, "-m", module]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        command, env={**os.environ, **environment}, cwd=Path(__file__).parents[1], text=True, **pipes
    ) as process:

        def run(*, point: tuple[str, str, int] | None = None, **order: Any) -> int:
            process.stdin.write(json.dumps(order | {"point": point}) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield run
        process.stdin.close()
