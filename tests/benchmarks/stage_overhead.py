"""Seconds of one small stage by runtime: what a container, or a run of a work pool, costs on top.

    python tests/benchmarks/stage_overhead.py FOLDER inline docker-runtime/gpu work-pool-runtime/stages

FOLDER is a folder that every runtime can see. The stage reads a line of JSON and writes 3 small files, so its
time is overhead; the runtimes take turns, so that a busy machine is busy for all of them. Needs a server
(PREFECT_API_URL) that has the blocks, and workers for the pools.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from prefect import flow

from tasks.stage import load_runtime, run_stage


@flow(name="stage-overhead", log_prints=True)
def stage_overhead(folder: Path, runtimes: list[str], times: int) -> None:
    """Print the median and the range of each runtime."""
    predictions = folder / "predictions.json"
    predictions.write_text(json.dumps([{"video_id": "/a.mp4", "response": "yes", "gt": "no"}]))
    places = {name: load_runtime(name) for name in runtimes}
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for turn in range(times + 1):
        for name, place in places.items():
            values = {
                "predictions_json": predictions,
                "videos_dir": folder,
                "results_dir": folder / f"{name.replace('/', '-')}-{turn}",
            }
            began = time.monotonic()
            run_stage("gap_analysis", "vlm_bcq", values, place, refresh=True)
            seconds[name].append(time.monotonic() - began)
    for name, taken in seconds.items():
        first, *rest = taken
        print(
            f"{name}: median of {times} {statistics.median(rest):.2f} s "
            f"({min(rest):.2f} to {max(rest):.2f}), the first {first:.2f} s"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runtimes", nargs="+")
    parser.add_argument("--times", type=int, default=10)
    given = parser.parse_args()
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    stage_overhead(folder, given.runtimes, given.times)


if __name__ == "__main__":
    main()
