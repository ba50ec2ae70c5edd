"""The loop with mined, synthetic, both kinds of, and random new rows, equally many in each iteration.

    python tests/benchmarks/loop_arms.py OUTPUT [--deeppcb SOURCE] [--seeds 0 1 2] [--iterations 3]
        [--rows 100] [--arms mining synthetic both random] [--base 400] [--known open short]
        [--pool-defects 0.1]

Without SOURCE on the sample workspace of `deft demo`. With it on DeepPCB: the base model has seen two
board groups and only the known defect types; a third group, dealt by board image, is KPI set and, with
the fourth, pool. The pool is like production: few of its rows are defects.
Prints FAR at 100 % and 99.5 % recall and AUC of every phase, what the new rows were, and the KPI defect
that FAR at 100 % recall hangs on.
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


def arms(rows: int) -> dict[str, dict]:
    """Settings of the loop by arm; each adds `rows` rows an iteration."""
    return {
        "mining": {"sdg_source": "none", "max_new_rows": rows},
        "synthetic": {"num_sdg": rows, "max_new_rows": 0},
        "both": {"num_sdg": rows // 2, "max_new_rows": rows - rows // 2},
        "random": {"sdg_source": "none", "max_new_rows": rows, "selection": "random"},
    }


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("output", type=Path)
    parser.add_argument("--deeppcb", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--arms", nargs="+", choices=arms(1), default=list(arms(1)))
    parser.add_argument("--base", type=int, default=400)
    parser.add_argument("--known", nargs="*", default=["open", "short"])
    parser.add_argument("--pool-defects", type=float, default=0.1)
    given = parser.parse_args()
    prepare_terminal()
    for seed in given.seeds:
        root = given.output / f"seed{seed}"
        if not root.exists():
            (sample if given.deeppcb is None else deeppcb)(root, seed, given)
        for arm in given.arms:
            report(seed, arm, run(root, seed, given, arm))


def sample(root: Path, seed: int, given: argparse.Namespace) -> None:
    from tasks.dataset.sample import write_sample_workspace

    write_sample_workspace(root, seed=seed)


def deeppcb(root: Path, seed: int, given: argparse.Namespace) -> None:
    from tasks.dataset.deeppcb import import_deeppcb

    space = import_deeppcb(given.deeppcb, root, groups=GROUPS, limits={"training": given.base}, seed=seed)
    for csv in (space.training_csv, space.validation_csv):
        keep(csv, lambda table: table["label"].isin(["PASS", *given.known]))
    keep(space.pool_csv, lambda table: thinned(table, given.pool_defects, seed))


def run(root: Path, seed: int, given: argparse.Namespace, arm: str) -> list[dict]:
    from flows.deft_aoi import deft_aoi

    state = deft_aoi(
        root,
        max_iterations=given.iterations,
        metric="FAR < 0% at Recall=100%",
        min_similarity=-1.0,
        seed=seed,
        **arms(given.rows)[arm],
    )
    phases = []
    for label, phase in state.measured().items():
        new = "" if phase.new_rows_csv is None else composition(phase.new_rows_csv)
        phases.append({"phase": label, "rows": phase.training_rows, "new": new, **phase.metric_result})
    return phases


def composition(new_rows_csv: Path) -> str:
    table = pd.read_csv(new_rows_csv, dtype=str, keep_default_na=False)
    defects = (table["label"] != "PASS").sum()
    return f"{(table['origin'] == 'sdg').sum()} synthetic, {defects} defects of {len(table)}"


def keep(csv: Path, chosen: Callable[[pd.DataFrame], "pd.Series[bool]"]) -> None:
    table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    table[chosen(table)].to_csv(csv, index=False)


def thinned(table: pd.DataFrame, share: float, seed: int) -> "pd.Series[bool]":
    """All PASS rows, and so many defect rows that they are `share` of what is left."""
    is_pass = table["label"] == "PASS"
    wanted = round(is_pass.sum() * share / (1 - share))
    drawn = table[~is_pass].sample(min(wanted, (~is_pass).sum()), random_state=seed).index
    return is_pass | table.index.isin(drawn)


def report(seed: int, arm: str, phases: list[dict]) -> None:
    for phase in phases:
        facts = phase["diagnostics"]
        print(
            f"seed {seed} | {arm:9} | {phase['phase']:8} | {phase['rows']:5} rows | "
            f"FAR@100 {phase['value']:7.3f} % | FAR@99.5 {facts['far_pct_at_recall_99_5']:7.3f} % | "
            f"AUC {facts['auc']:.5f} | {phase['new']} | {json.dumps(facts['lowest_defect'])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
