"""A small finished run whose files are real, and what it looked like after each of its commits."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tasks.artifacts import write_csv, write_json, write_parquet, write_text, write_yaml
from tasks.dataset.specs import baseline_spec
from tasks.deft.stages import FINAL, LOOP_STOP, STAGES
from tasks.deft.state import DeftState, Event, Phase, load_state, write_state
from tasks.evaluation.action import metric_result
from tasks.evaluation.contract import MetricContract
from tasks.evaluation.kpi import far_at_recall
from tasks.gap_analysis.scores import read_scores

METRIC = "FAR < 10% at Recall=100%"
EVIL = "<script>alert(1)</script>"
QUOTED = "part \"7\" of 'a'"
COLUMNS = ("input_path", "golden_path", "label", "object_name")
KPI = [("PASS", f"good{n}") for n in range(12)] + [("missing", QUOTED), (EVIL, "x|y"), ("missing", "m2")]
SCORES = {
    "baseline": [0.1] * 6 + [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.35, 0.9, 0.95],
    "iter1": [0.1] * 9 + [0.5, 0.6, 0.7, 0.45, 0.9, 0.95],
    "iter2": [0.1] * 10 + [0.7, 0.8, 0.6, 0.9, 0.95],
    FINAL: [0.1] * 12 + [0.6, 0.9, 0.95],
}
ORDER = (
    *[("baseline", stage) for stage in ("train", "evaluate", "rca")],
    *[
        (label, stage)
        for label in ("iter1", "iter2")
        for stage in ("routing", "anomalygen", "data_mining", "data_merge", "train", "evaluate", "rca")
    ][:-1],
    ("iter2", LOOP_STOP),
    (FINAL, FINAL),
)
LIGHT = "SolderLight"


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


class RealRun:
    """Writes the workspace and the run."""

    def __init__(self, root: Path):
        self.root, self.folder = root, root / "results" / "run_1"
        spec = baseline_spec([LIGHT])
        spec["dataset"]["classify"]["image_ext"] = ".png"
        self.spec = write_yaml(root / "specs" / "baseline_spec.yaml", spec)
        rows = [dict(zip(COLUMNS, ("b", "golden/b", *one), strict=True)) for one in KPI]
        self.kpi = write_csv(root / "kpi" / "testing_set.csv", COLUMNS, rows)
        self.base = self.table(root / "train" / "base" / "training_set.csv", {"base": 20})
        for number, (_, name) in enumerate(KPI):
            for folder in ("b", "golden/b"):
                picture(root / "images" / folder / f"{name}_{LIGHT}.png", number)
        self.pool = [str(picture(root / "images" / "pool" / f"p{n}_{LIGHT}.png", 50 + n)) for n in range(30)]
        phases = {label: self.phase(label) for label in ("baseline", "iter1", "iter2", FINAL)}
        self.state = DeftState(
            started_at="2026-01-01T00:00:00+00:00",
            completed_at="2026-01-01T01:00:00+00:00",
            registered_at="2026-01-01T02:00:00+00:00",
            status="complete",
            kpi_target=METRIC,
            metric_contract=MetricContract.parse(METRIC).model_dump(mode="json"),
            results_dir=self.folder,
            max_iterations=2,
            current_iteration=2,
            execution_policy={},
            config={
                "specs_file": str(self.spec),
                "training_csv": str(self.base),
                "kpi_test_csv": str(self.kpi),
                "mining_pool_csv": str(self.base),
                "images_dir": str(root / "images"),
                "num_gpus": 1,
                "settings": {"topn": 5, "min_similarity": 0.5, "max_new_rows": None, "num_sdg": 4},
            },
            iterations={label: Phase.model_validate(fields) for label, fields in phases.items()},
            events=[
                Event(
                    seq=seq,
                    ts=f"2026-01-01T00:{seq:02d}:00+00:00",
                    iter=label,
                    stage=stage,
                    status="ok",
                    summary=f"did {stage}",
                    duration_sec=seq,
                )
                for seq, (label, stage) in enumerate(ORDER, start=1)
            ],
            final_artifacts={"best_model": "m", "stop_reason": "max_iterations"},
        )
        self.write(self.state)

    def write(self, state):
        self.folder.mkdir(parents=True, exist_ok=True)
        write_state(self.folder, state)
        write_text(self.folder / "loop_log.jsonl", "".join(f"{e.model_dump_json()}\n" for e in state.events))

    def table(self, path, counts):
        rows = [{"label": "PASS", "origin": name} for name, count in counts.items() for _ in range(count)]
        return write_csv(path, ("label", "origin"), rows)

    def phase(self, label):
        place = self.folder / label
        rows = [
            dict(zip(COLUMNS, ("b", "golden/b", *one), strict=True)) | {"siamese_score": score}
            for one, score in zip(KPI, SCORES[label], strict=True)
        ]
        csv = write_csv(place / "inference.csv", (*COLUMNS, "siamese_score"), rows)
        scored = read_scores(csv, every_column=True)
        result = metric_result(far_at_recall(scored.scores, scored.is_pass), scored)
        measured = {
            "best_ckpt_path": write_text(place / "train" / "best.pth", label),
            "best_ckpt_kind": "best_val",
            "inference_csv": csv,
            "metric_result": result.model_dump(mode="json"),
            "metric_result_file": write_json(place / "metric_result.json", result.model_dump(mode="json")),
            "threshold": result.threshold,
            "passed": MetricContract.parse(METRIC).passed(result),
            "training_spec": self.spec,
        }
        if label == FINAL:
            return {**measured, "status": "complete", "stage_completed": FINAL}
        number = 0 if label == "baseline" else int(label[-1])
        trained = {"training_rows": 20 + 7 * number, "rca_target_defects": ["missing", EVIL]}
        return {**measured, **trained, "status": "complete", **(self.added(place, number) if number else {})}

    def added(self, place, number):
        weak = [str(self.root / "images" / "b" / f"{KPI[n][1]}_{LIGHT}.png") for n in (12, 13, 5)]
        labels = [KPI[n][0] for n in (12, 13, 5)]
        mined = self.pool[4 * number : 4 * number + 4]
        sources = [self.pool[0], *mined]
        pairs = [
            (target, label, source, "PASS", 0.9 - rank / 50)
            for target, label in zip(weak, labels, strict=True)
            for rank, source in enumerate(sources)
        ]
        names = ("target_filepath", "target_label", "source_filepath", "source_label", "similarity")
        write_parquet(
            place / "mined_pairs.parquet",
            pa.table(dict(zip(names, map(list, zip(*pairs, strict=True)), strict=True))),
        )
        random = np.random.default_rng(number)

        def vectors(count):
            values = random.normal(size=(count, 8)).astype(np.float32)
            return pa.array(values.tolist(), pa.list_(pa.float32()))

        folder = place / "dataset" / "images"
        for side in ("ng", "ok"):
            picture(folder / side / f"pair0_{LIGHT}.png", 90)
        relative = folder.relative_to(self.root).as_posix()
        pair = dict(zip(COLUMNS, (f"{relative}/ng", f"{relative}/ok", EVIL, "pair0"), strict=True))
        counts = {"base": 20, "mined": 4 * number, "sdg": 3 * number}
        report = {"status": "ok", "rows_checked": 20 + 7 * number, "new_rows": 7, "dedup_dropped": 0}
        return {
            "routing_mining_parquet": write_parquet(
                place / "gaps.parquet", pa.table({"filepath": weak, "weakness": [0.2, 0.1, 0.0]})
            ),
            "routed_to_mining": 3,
            "routed_to_generation": 2,
            "sdg_rows_csv": write_csv(place / "sdg_rows.csv", COLUMNS, [pair] * 3),
            "sdg_count": 3,
            "anomalygen_amp_requested": 4,
            "anomalygen_amp_allocated": 3,
            "mined_parquet": write_parquet(place / "mined.parquet", pa.table({"filepath": mined})),
            "source_embeddings": write_parquet(
                place / "source.parquet", pa.table({"filepath": self.pool, "embedding": vectors(30)})
            ),
            "target_embeddings": write_parquet(
                place / "target.parquet", pa.table({"filepath": weak, "embedding": vectors(3)})
            ),
            "mining_history_summary": write_json(place / "history.json", {"already_mined_count": 2}),
            "mined_raw_count": 11,
            "mined_candidate_count": 9,
            "mined_count": 4,
            "mining_warnings": [],
            "combined_training_csv": self.table(place / "combined.csv", counts),
            "provenance_csv": self.table(place / "provenance.csv", counts),
            "merge_validation_report": write_json(place / "merge_validation.json", report),
        }

    def cut(self, events):
        """The state as it was after so many commits; it is written, and given."""
        kept = self.state.events[:events]
        phases = {}
        for event in kept:
            fields = phases.setdefault(event.iter, {})
            whole = self.state.iterations[event.iter]
            fields |= {name: getattr(whole, name) for name in STAGES[event.stage].fields}
            fields |= {"status": "in_progress", "stage_completed": event.stage}
        last = kept[-1].stage if kept else None
        ended = last in (LOOP_STOP, FINAL)
        state = self.state.model_copy(
            deep=True,
            update={
                "events": kept,
                "iterations": {label: Phase.model_validate(fields) for label, fields in phases.items()},
                "status": "complete" if ended else "in_progress",
                "final_artifacts": self.state.final_artifacts if ended else None,
            },
        )
        self.write(state)
        return state

    def after(self, label, stage):
        """The state as it was after that step."""
        return self.cut(ORDER.index((label, stage)) + 1)


@pytest.fixture(scope="session")
def _real_run(tmp_path_factory):
    return RealRun(tmp_path_factory.mktemp("ws"))


@pytest.fixture
def run(_real_run):
    """The run, whole; a test may cut it, but leaves its other files alone."""
    _real_run.write(_real_run.state)
    return _real_run


@dataclass
class Copy:
    folder: Path

    def change(self, **fields):
        state = load_state(self.folder)
        write_state(self.folder, state.model_copy(update=fields))

    def change_phase(self, label, **fields):
        state = load_state(self.folder)
        phase = state.phase(label).model_copy(update=fields)
        self.change(iterations={**state.iterations, label: phase})


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run in another place, to be changed at will."""
    return Copy(Path(shutil.copytree(run.folder, tmp_path / "moved")))
