"""What the report of a loop costs: rendered after each commit, beside the time that the run itself took.

    python tests/benchmarks/loop_report.py RUN_FOLDER

RUN_FOLDER is a finished loop, such as that of `deft demo`; it is copied, so nothing in it changes. Prints the
seconds of the report after every commit, the size of the page, and the share of the run's own seconds.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from tasks.deft.report import LOOP_REPORT, render
from tasks.deft.stages import STAGES
from tasks.deft.state import STATE_FILE, DeftState, Phase, load_state, write_state


def cut(whole: DeftState, commits: int) -> DeftState:
    """The state as it stood after so many commits."""
    phases: dict[str, Phase] = {}
    for event in whole.events[:commits]:
        phase = whole.phase(event.iter)
        fields = {name: getattr(phase, name) for name in STAGES[event.stage].fields}
        phases[event.iter] = phases.get(event.iter, Phase()).model_copy(
            update={**fields, "stage_completed": event.stage}
        )
    ended = commits == len(whole.events)
    update = {"events": whole.events[:commits], "iterations": phases}
    return whole.model_copy(update=update if ended else {**update, "status": "in_progress"})


def main() -> None:
    """Render after each commit and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run.absolute()
    spent = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(
            run, Path(scratch) / run.name, ignore=shutil.ignore_patterns("*.pth", "recs")
        )
        whole = load_state(folder)
        for commits in range(1, len(whole.events) + 1):
            (folder / STATE_FILE).unlink()
            write_state(folder, cut(whole, commits))
            begun = time.perf_counter()
            render(folder)
            seconds = time.perf_counter() - begun
            spent += seconds
            size = (folder / LOOP_REPORT).stat().st_size
            event = whole.events[commits - 1]
            print(f"{event.iter:>12} {event.stage:<12} {seconds:6.2f} s {size / 1e3:7.0f} kB")
    own = sum(event.duration_sec for event in whole.events)
    print(f"{spent:.1f} s of reports beside {own} s of stages: {spent / own:.1%}")


if __name__ == "__main__":
    main()
