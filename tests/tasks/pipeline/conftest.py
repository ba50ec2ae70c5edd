"""The files of a pipeline run, as far as it has come."""

from pathlib import Path

import pytest

from tasks.artifacts import write_json, write_text
from tasks.automl.trial import Outcome, Row

EVIL = "<script>alert(1)</script>"
PARAMETERS = {
    "workspace": "/data/line 1", "runtime": "inline", "profile": "aoi_changenet", "mode": "full",
    "skip_phase1": False, "skip_phase3": False, "loop": {"metric": "FAR < 5% at Recall=100%"},
}  # fmt: skip


def stage(name, kind, metric, value, **fields):
    return {"stage": name, "set": kind, "metric": metric, "value": value, "unit": "%", **fields}


ZERO = stage("zero-shot", "validation", "far_pct", 86.0)
FIRST = stage("phase 1 best", "validation", "far_pct", 4.0, rows=270, seconds=3600.0)
BASELINE = stage("baseline", "KPI", "FAR", 40.0, rows=270, threshold=0.25)
ITER1 = stage("iter1", "KPI", "FAR", 6.0, rows=370)
THIRD = stage("phase 3 best", "validation", "far_pct", 1.5, rows=370)
FINAL = stage("phase 3 best", "KPI", "FAR", 7.0, rows=370)


class RunFolder:
    """Writes the files of a pipeline run, one phase at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def approved(self, **parameters):
        chosen = PARAMETERS | parameters
        content = {"asked": chosen, "parameters": chosen, "data_sha256": {}, "token": "t"}
        write_json(self.folder / "pipeline.json", {**content, "approved_by": "person", "note": EVIL})
        finding = {"id": "data.leakage", "rows": [["training set / KPI set", "0"]]}
        write_json(self.folder / "preflight_summary.json", {"summary": {"findings": [finding]}})
        write_text(self.folder / "preflight_summary.md", "summary\n")
        return self

    def trials(self, name="automl_phase1", scores=(9.0, 4.0)):
        rows = []
        for number, score in enumerate(scores):
            outcome = Outcome(score=score, target=score, checkpoint=Path("/m.pth"), epochs=5)
            rows.append(
                Row(number=number, phase=1, source="base" if number == 0 else "sampler", seed=1, specs={},
                    params={"lr": 10.0 ** -(number + 2)}, spec_sha256="x", state="complete", outcome=outcome)
            )  # fmt: skip
        write_json(self.folder / name / "sweep_inputs.json", {"metric": "far_pct"})
        write_text(self.folder / name / "trials.jsonl", "".join(one.model_dump_json() + "\n" for one in rows))
        return self

    def swept(self, phase, best, start):
        model = {"spec": {}, "checkpoint": "/m.pth", "source": f"automl_{phase}"}
        facts = {"folder": str(self.folder), "model": model, "best_rec": "/b.json", "warnings": [f"w {EVIL}"]}
        write_json(self.folder / f"{phase}.done.json", {**facts, "stage": best, "untrained": start})
        return self

    def state(self, *stages):
        phases = {
            one["stage"]: {
                "metric_result": {"name": "far_pct", "value": one["value"], "unit": "%"},
                "training_rows": one.get("rows"), "passed": False,
            }
            for one in stages
        }  # fmt: skip
        last = stages[-1]["stage"] if stages else "baseline"
        write_json(
            self.folder / "deft_state.json",
            {
                "kpi_target": "FAR < 5% at Recall=100%", "iterations": phases,
                "metric_contract": {"display_name": "FAR", "operator": "<"},
                "events": [{"iter": last, "stage": "evaluate"}],
            },
        )  # fmt: skip
        return self

    def looped(self, shared=0):
        facts = {
            "best": "iter1",
            "checkpoint": "/m.pth",
            "last": "iter1",
            "combined_csv": "/c.csv",
            "met": False,
        }
        write_json(self.folder / "phase2.done.json", {**facts, "stages": [BASELINE, ITER1]})
        counts = {"train_val_leakage_overlap_count": 0, "train_kpi_leakage_overlap_count": shared}
        write_json(self.folder / "iter1" / "dataset" / "merge_validation.json", counts)
        return self.state(BASELINE, ITER1)

    def ended(self, delivered, stages, reason="A reason.", status="complete"):
        facts = {"status": status, "delivered": delivered, "checkpoint": "/m.pth", "reason": reason}
        content = {**facts, "stages": stages, "warnings": [f"w {EVIL}"], "folder": str(self.folder)}
        write_json(self.folder / "pipeline.done.json", content)
        return self

    def whole(self, delivered="iter1", final=FINAL):
        """A run that has ended after all three phases."""
        self.approved().trials().swept("phase1", FIRST, ZERO).looped().trials("final_automl")
        self.swept("phase3", THIRD, None)
        return self.ended(delivered, [ZERO, FIRST, BASELINE, ITER1, THIRD, final])


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run_1")
