"""The loop on DeepPCB: mined against random pool rows of equal number.

    python tests/benchmarks/deeppcb_loop.py SOURCE OUTPUT [--seeds 3] [--iterations 3] [--rows 100]
        [--base 400] [--known open short] [--pool-defects 0.1]

The base model has seen two board groups and only the known defect types; a third group, dealt by board
image, is KPI set and, with the fourth, pool. The pool is like production: few of its rows are defects.
Prints FAR at 100 % and 99.5 % recall and AUC of every phase, and the KPI defect that FAR at
100 % recall hangs on.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

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
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--base", type=int, default=400)
    parser.add_argument("--known", nargs="*", default=["open", "short"])
    parser.add_argument("--pool-defects", type=float, default=0.1)
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
        space = import_deeppcb(given.source, root, groups=GROUPS, limits={"training": given.base}, seed=seed)
        for csv in (space.training_csv, space.validation_csv):
            keep(csv, lambda table: table["label"].isin(["PASS", *given.known]))
        keep(space.pool_csv, lambda table: thinned(table, given.pool_defects, seed))
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


def keep(csv: Path, chosen: Callable[[pd.DataFrame], "pd.Series[bool]"]) -> None:
    table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    table[chosen(table)].to_csv(csv, index=False)


def thinned(table: pd.DataFrame, share: float, seed: int) -> "pd.Series[bool]":
    """All PASS rows, and so many defect rows that they are `share` of what is left."""
    is_pass = table["label"] == "PASS"
    wanted = round(is_pass.sum() * share / (1 - share))
    drawn = table[~is_pass].sample(min(wanted, (~is_pass).sum()), random_state=seed).index
    return is_pass | table.index.isin(drawn)


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
