"""The whole pipeline, seed by seed: sweep, data loop, sweep.

    python tests/benchmarks/pipeline_trajectories.py OUTPUT [--deeppcb SOURCE] [--seeds 0 1 2]
        [--trials 8] [--fine-trials 6] [--iterations 2] [--rows 100]

Workspaces are those of `loop_arms.py`, which lies beside this file. Prints every stage of each trajectory
with the set that it was measured on, and what was delivered.
"""

import argparse
import time
from pathlib import Path

import loop_arms

from deployments.cli import prepare_terminal


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("output", type=Path)
    parser.add_argument("--deeppcb", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--fine-trials", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--rows", type=int, default=100)
    given = parser.parse_args()
    prepare_terminal()
    for seed in given.seeds:
        root = given.output / f"seed{seed}"
        if not root.exists() and given.deeppcb is None:
            loop_arms.sample(root, seed, given)
        elif not root.exists():
            spread = {"base": 400, "known": ["open", "short"], "pool_defects": 0.1}
            loop_arms.deeppcb(root, seed, argparse.Namespace(**vars(given), **spread))
        report(root, seed, given)


def report(root: Path, seed: int, given: argparse.Namespace) -> None:
    from flows.pipeline import deft_pipeline
    from tasks.automl.settings import SweepSettings

    started = time.monotonic()
    result = deft_pipeline(
        root,
        "inline",
        phase1=SweepSettings(trials=given.trials, seed=seed),
        loop={
            "max_iterations": given.iterations,
            "metric": "FAR < 0% at Recall=100%",
            "min_similarity": -1.0,
            "seed": seed,
            **loop_arms.arms(given.rows)["both"],
        },
        phase3=SweepSettings(trials=given.fine_trials, seed=seed),
        yes=True,
    )
    for stage in result.stages:
        print(
            f"seed {seed} | {stage.stage:22} | {stage.set:10} | {stage.metric:8} {stage.value:7.3f} "
            f"{stage.unit} | rows {stage.rows}",
            flush=True,
        )
    print(
        f"seed {seed} | delivered {result.delivered}: {result.reason} {time.monotonic() - started:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
