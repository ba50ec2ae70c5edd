"""The stages of a DEFT run: their order, what each one commits, and when one may be left out.

The state machine of spec deft-loop 2.3:

    baseline: train → evaluate → rca
    iterN:    routing → anomalygen → data_mining → data_merge → train → evaluate → rca
    evaluate → loop_stop when the metric is met or the last iteration is measured
    loop_stop → final_automl, once, when tuning after the loop hands in its model
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

BASELINE = "baseline"
FINAL = "final_automl"
LOOP_STOP = "loop_stop"

BASELINE_STAGES = ("train", "evaluate", "rca")
ITERATION_STAGES = ("routing", "anomalygen", "data_mining", "data_merge", *BASELINE_STAGES)


@dataclass(frozen=True)
class Stage:
    """What a stage commits.

    Attributes:
        evidence: fields of the phase that name files which must exist, unless the stage was skipped.
        facts: the other fields that it sets.
    """

    evidence: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field of the phase that belongs to the stage."""
        return (*self.evidence, *self.facts)


STAGES: dict[str, Stage] = {
    "train": Stage(
        ("best_val_ckpt_path", "latest_ckpt_path", "training_spec"),
        ("training_rows", "val_loss_best_val", "val_loss_latest", "source"),
    ),
    "evaluate": Stage(
        ("best_ckpt_path", "inference_csv", "metric_result_file"),
        ("best_ckpt_kind", "val_loss", "metric_result", "threshold", "passed"),
    ),
    "rca": Stage(("rca_gaps_parquet", "rca_metrics"), ("rca_threshold", "rca_target_defects", "rca_report")),
    "routing": Stage(
        ("routing_mining_parquet", "routing_anomalygen_parquet", "routing_summary"),
        ("routed_to_mining", "routed_to_generation", "routing_report"),
    ),
    "anomalygen": Stage(
        ("anomalygen_sdg_csv", "anomalygen_allocation_json", "sdg_rows_csv", "ingest_summary"),
        ("anomalygen_amp_requested", "anomalygen_amp_allocated", "sdg_count", "anomalygen_skipped"),
    ),
    "data_mining": Stage(
        (
            "mined_parquet",
            "mined_candidates_parquet",
            "knn_summary",
            "mining_history_file",
            "mining_history_summary",
            "source_embeddings",
            "target_embeddings",
            "source_log",
            "target_log",
            "neighbours_log",
            "new_rows_csv",
        ),
        (
            "mined_raw_count",
            "mined_candidate_count",
            "mined_count",
            "mining_warnings",
            "data_mining_skipped",
            "mining_report",
        ),
    ),
    "data_merge": Stage(("combined_training_csv", "provenance_csv", "merge_validation_report")),
    LOOP_STOP: Stage(),
    FINAL: Stage(
        ("best_ckpt_path", "inference_csv", "metric_result_file", "training_spec"),
        ("best_ckpt_kind", "val_loss", "metric_result", "threshold", "passed", "source"),
    ),
}

GROWS = {"mining_history_file"}
"""Evidence that later stages append to, so that its content is not held against an earlier commit."""


class Step(BaseModel):
    """The next thing to do: a stage of the baseline or of an iteration."""

    model_config = ConfigDict(frozen=True)

    label: str
    stage: str

    @property
    def iteration(self) -> int:
        """0 for the baseline, else the number of the iteration."""
        return 0 if self.label == BASELINE else int(self.label.removeprefix("iter"))

    def __str__(self) -> str:
        return f"{self.label}/{self.stage}"


FIRST = Step(label=BASELINE, stage=BASELINE_STAGES[0])


def step_after(last: Step, passed: bool, max_iterations: int) -> Step | None:
    """The one step that may follow a committed one; none once the loop has stopped.

    Args:
        last: the step that was committed last.
        passed: whether the metric of its phase is met; asked after `evaluate` only.
        max_iterations: after the evaluation of that iteration the loop stops.
    """
    if last.stage in (LOOP_STOP, FINAL):
        return None
    if last.stage == "evaluate":
        at_end = passed or last.iteration >= max_iterations
        return Step(label=last.label, stage=LOOP_STOP if at_end else "rca")
    if last.stage == "rca":
        return Step(label=f"iter{last.iteration + 1}", stage=ITERATION_STAGES[0])
    order = BASELINE_STAGES if last.label == BASELINE else ITERATION_STAGES
    return Step(label=last.label, stage=order[order.index(last.stage) + 1])


def previous_label(label: str) -> str:
    """The phase before an iteration: `baseline` before `iter1`."""
    number = int(label.removeprefix("iter"))
    return BASELINE if number == 1 else f"iter{number - 1}"
