"""The loop on DeepPCB: mined against random pool rows of equal number.

    python tests/benchmarks/deeppcb_loop.py SOURCE OUTPUT [--seeds 3] [--iterations 2] [--rows 500]

The base model has seen two board groups; a third one, dealt by board image, is KPI set and, with the
fourth, pool. Prints FAR at 100 % and 99.5 % recall and AUC of every phase, and the KPI defect that FAR at
100 % recall hangs on.
"""

import argparse
import json
from pathlib import Path

from deployments.cli import prepare_terminal

GROUPS = {
    "training": ["group12300", "group90100"],
    "validation": ["group12300", "group90100"],
    "kpi": ["group44000"],
    "pool": ["group44000", "group00041"],
}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--base", type=int, default=1600)
    given = parser.parse_args()
    prepare_terminal()
    for seed in range(given.seeds):
        for selection in ("nearest", "random"):
            report(seed, selection, run(given, seed, selection))


def run(given: argparse.Namespace, seed: int, selection: str) -> list[dict]:
    from flows.deft_aoi import deft_aoi
    from tasks.dataset.deeppcb import import_deeppcb

    root = given.output / f"seed{seed}"
    if not root.exists():
        import_deeppcb(given.source, root, groups=GROUPS, limits={"training": given.base}, seed=seed)
    state = deft_aoi(
        root,
        max_iterations=given.iterations,
        metric="FAR < 0% at Recall=100%",
        min_similarity=-1.0,
        max_new_rows=given.rows,
        selection=selection,
        seed=seed,
    )
    return [
        {"phase": label, "rows": phase.training_rows, **phase.metric_result}
        for label, phase in state.measured().items()
    ]


def report(seed: int, selection: str, phases: list[dict]) -> None:
    for phase in phases:
        facts = phase["diagnostics"]
        print(
            f"seed {seed} | {selection:7} | {phase['phase']:8} | {phase['rows']:5} rows | "
            f"FAR@100 {phase['value']:7.3f} % | FAR@99.5 {facts['far_pct_at_recall_99_5']:7.3f} % | "
            f"AUC {facts['auc']:.5f} | {json.dumps(facts['lowest_defect'])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
