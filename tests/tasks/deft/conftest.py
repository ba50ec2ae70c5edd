"""A run whose stages are played: every file is real and says what it must, nothing is trained."""

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.artifacts import write_csv, write_json, write_parquet, write_text, write_yaml
from tasks.dataset.specs import baseline_spec
from tasks.deft.commits import commit
from tasks.deft.stages import previous_label
from tasks.deft.state import DeftState, create_state, load_state
from tasks.evaluation.contract import MetricContract

METRIC = "FAR < 10% at Recall=100%"
ROWS = ("input_path", "golden_path", "label", "object_name", "origin")


def metric_result(value, recall=100.0):
    return {
        "name": "far_pct",
        "value": value,
        "unit": "%",
        "threshold": 0.25,
        "constraints": {"recall_pct": recall},
        "diagnostics": {"far_pct_at_recall_99_5": value / 2, "auc": 0.99},
    }


def parquet(path, rows):
    return write_parquet(path, pa.table({"filepath": [f"{path.stem}{n}.jpg" for n in range(rows)]}))


def table(path, rows, origin="sdg"):
    cells = [dict.fromkeys(ROWS, f"{path.stem}{n}") | {"origin": origin} for n in range(rows)]
    return write_csv(path, ROWS, cells)


class PlayedRun:
    """Plays the stages of a run one by one.

    Attributes:
        values: FAR of the phases to come, in percent.
        played: how often a stage has been played; goes into its files, so that no two are alike.
    """

    def __init__(self, folder, max_iterations=2, values=(50.0, 30.0, 20.0, 15.0), **settings):
        self.folder = Path(folder)
        self.values = dict(zip(("baseline", "iter1", "iter2", "iter3"), values, strict=False))
        self.played = 0
        create_state(
            self.folder,
            DeftState(
                started_at="2026-01-01T00:00:00+00:00",
                kpi_target=METRIC,
                metric_contract=MetricContract.parse(METRIC).model_dump(mode="json"),
                results_dir=self.folder,
                max_iterations=max_iterations,
                execution_policy={},
                config={
                    "mining_pool_csv": "pool.csv",
                    "settings": {"sdg_source": "open", **settings},
                },
            ),
        )

    @property
    def state(self):
        return load_state(self.folder)

    @property
    def step(self):
        return self.state.next_step()

    def fields(self, **changes):
        """What the next stage leaves: its files are written, its fields given."""
        self.played += 1
        step = self.step
        return {**getattr(self, step.stage)(self.folder / step.label, step), **changes}

    def advance(self, **changes):
        """Play and commit the next stage."""
        step = self.step
        final = self.final_artifacts(step) if step.stage == "loop_stop" else None
        fields = self.fields(**changes)
        return commit(self.folder, step, f"did {step.stage}", 1.2, final_artifacts=final, **fields)

    def advance_to(self, stage, label=None):
        """Play until that stage is the next one."""
        while not (self.step.stage == stage and label in (None, self.step.label)):
            self.advance()
        return self.step

    def finish(self):
        while self.step:
            self.advance()
        return self.state

    def train(self, place, step):
        start = None
        if step.iteration:
            start = str(self.state.phase(previous_label(step.label)).best_ckpt_path)
        spec = baseline_spec(["SolderLight"])
        spec["train"]["pretrained_model_path"] = start
        write_text(place / "train" / "status.json", '{"status": "STARTED"}\n{"status": "RUNNING"}\n')
        return {
            "best_val_ckpt_path": write_text(place / "train" / "model_best_003.pth", f"best {self.played}"),
            "latest_ckpt_path": write_text(place / "train" / "model_epoch_009.pth", f"last {self.played}"),
            "training_spec": write_yaml(place / "spec.yaml", spec),
            "training_rows": 100 + 40 * step.iteration,
            "val_loss_best_val": 0.1,
        }

    def evaluate(self, place, step):
        result = metric_result(self.values[step.label])
        phase = self.state.phase(step.label)
        return {
            "best_ckpt_path": phase.best_val_ckpt_path,
            "best_ckpt_kind": "best_val",
            "val_loss": 0.1,
            "inference_csv": write_text(place / "inference.csv", f"scores {self.played}"),
            "metric_result_file": write_json(place / "metric_result.json", result),
            "metric_result": result,
            "threshold": 0.25,
            "passed": result["value"] < 10,
        }

    def rca(self, place, step):
        return {
            "rca_gaps_parquet": parquet(place / "gaps.parquet", 6),
            "rca_metrics": write_json(place / "metrics.json", {}),
            "rca_threshold": 0.25,
            "rca_target_defects": ["missing", "bridge"],
        }

    def routing(self, place, step):
        return {
            "routing_mining_parquet": parquet(place / "mining_gaps.parquet", 4),
            "routing_anomalygen_parquet": parquet(place / "anomalygen_gaps.parquet", 3),
            "routing_summary": write_text(place / "routing_summary.txt", "6"),
            "routed_to_mining": 4,
            "routed_to_generation": 3,
        }

    def anomalygen(self, place, step):
        return {
            "anomalygen_sdg_csv": table(place / "SDG_result.csv", 20),
            "anomalygen_allocation_json": write_json(place / "allocation.json", {"missing": 12, "bridge": 8}),
            "anomalygen_amp_requested": 20,
            "anomalygen_amp_allocated": 20,
            "anomalygen_skipped": False,
            "sdg_rows_csv": table(place / "sdg_rows.csv", 19),
            "ingest_summary": write_json(place / "ingest_summary.json", {"guardrail_blocked": 1}),
            "sdg_count": 19,
        }

    def data_mining(self, place, step):
        given = self.state.phase(step.label)
        made, names = given.sdg_count or 0, [*["sdg"] * (given.sdg_count or 0), *["mined"] * 21]
        rows = [
            dict.fromkeys(ROWS, f"row {number}") | {"origin": origin} for number, origin in enumerate(names)
        ]
        files = ("knn_summary", "source_log", "target_log", "neighbours_log")
        assert made + 21 == len(rows)
        return {
            **{name: write_text(place / f"{name}.txt", name) for name in files},
            "mined_parquet": parquet(place / "mined.parquet", 22),
            "mined_candidates_parquet": parquet(place / "candidates.parquet", 30),
            "mining_history_file": write_text(self.folder / "history", f"{step.label} {self.played}"),
            "mining_history_summary": write_json(place / "summary.json", {"selected_count": 22}),
            "source_embeddings": parquet(place / "source.parquet", 90),
            "target_embeddings": parquet(place / "target.parquet", 4),
            "mined_raw_count": 35,
            "mined_candidate_count": 30,
            "mined_count": 21,
            "mining_warnings": [],
            "new_rows_csv": write_csv(place / "mining_pool.csv", ROWS, rows),
        }

    def data_merge(self, place, step):
        rows = 100 + 40 * step.iteration
        report = {
            "status": "ok",
            "rows_checked": rows,
            "previous_rows": rows - 40,
            "new_rows": 40,
            "dedup_dropped": 0,
            "missing_file_count": 0,
            "train_val_leakage_overlap_count": 0,
            "train_kpi_leakage_overlap_count": 0,
        }
        return {
            "combined_training_csv": table(place / "combined.csv", rows),
            "provenance_csv": table(place / "provenance.csv", rows),
            "merge_validation_report": write_json(place / "merge_validation.json", report),
        }

    def loop_stop(self, place, step):
        return {}

    def final_artifacts(self, step):
        names = ("best_model", "best_model_inference_spec")
        files = {name: str(write_text(self.folder / name, name)) for name in names}
        passed = self.state.phase(step.label).passed
        return {**files, "stop_reason": "metric_met" if passed else "max_iterations"}


@pytest.fixture
def played(tmp_path):
    return PlayedRun(tmp_path / "run")


@pytest.fixture
def play(tmp_path):
    return lambda **more: PlayedRun(tmp_path / "run", **more)
