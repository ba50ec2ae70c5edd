import json
import logging

import numpy as np
import pytest

from tasks.artifacts import read_json, sha256_of
from tasks.errors import InputError, TargetUnreachable
from tasks.gap_analysis.action import VCN_AOI, VLM_BCQ
from tasks.gap_analysis.spec import BcqSpec
from tasks.registry import find_action, run_in_process
from tasks.spec import load_spec

PINNED = ["kpi_gaps.parquet", "metrics.json", "weak_samples.parquet", "weak_samples_breakdown.txt"]
SWEPT = sorted([*PINNED, "threshold.txt"])


def command(inference, *words):
    given = [
        f"inference_results_dir={inference.folder}",
        f"train_config={inference.train}",
        f"results_dir={inference.results}",
    ]
    return run_in_process("gap_analysis", ["vcn_aoi", *given, *words])


def test_swept_outputs_are_what_is_left(oracle):
    assert command(oracle) == 0
    assert oracle.left() == SWEPT == sorted(VCN_AOI.outputs(oracle.spec()))


def test_pinned_outputs_have_no_threshold_file(oracle):
    assert command(oracle, "threshold=0.2") == 0
    assert oracle.left() == PINNED == sorted(VCN_AOI.outputs(oracle.spec(threshold=0.2)))
    assert read_json(oracle.results / "metrics.json")["threshold"] == 0.2


def test_unreachable_is_exit_3_and_one_file(oracle):
    assert command(oracle, "max_far=0.1") == 3
    assert oracle.left() == ["unreachable_kpi.txt"]


def test_all_pass_is_exit_3(inference):
    assert command(inference.write([(0.1, "PASS")])) == 3


def test_a_results_folder_tells_of_its_last_run_only(oracle):
    command(oracle)
    command(oracle, "max_far=0.1")
    assert oracle.left() == ["unreachable_kpi.txt"]
    command(oracle)
    assert oracle.left() == SWEPT
    command(oracle, "threshold=0.2")
    assert oracle.left() == PINNED


def test_rerun_gives_the_same_bytes(oracle):
    oracle.run()
    before = {name: sha256_of(oracle.results / name) for name in oracle.left()}
    for name in oracle.left():
        (oracle.results / name).unlink()
    oracle.run()
    assert {name: sha256_of(oracle.results / name) for name in oracle.left()} == before


def test_filter_mode_without_defects_warns(oracle, caplog):
    oracle.run(top_k_per_label=None)
    assert "GAP-W01" in caplog.text
    assert read_json(oracle.results / "metrics.json")["queue_usable"] is False


def test_duplicates_are_kept_and_counted(inference, caplog):
    inference.write([(0.1, "PASS"), (0.1, "PASS"), (0.9, "a")], names=["x", "x", "y"])
    inference.run()
    facts = read_json(inference.results / "metrics.json")
    assert (facts["duplicates"], facts["n_kept_samples"]) == (1, 3)
    assert "1 rows repeat" in caplog.text


def test_summary_on_the_console(oracle, caplog):
    with caplog.at_level(logging.INFO, logger="deft"):
        oracle.run()
    for words in (
        "Threshold: 0.2 (swept, top_k)",
        "recall 1.000000",
        "Kept: 5 samples, 10 rows",
        "  PASS: 3",
    ):
        assert words in caplog.text


@pytest.mark.parametrize("text", ["", "input_path,object_name,label,siamese_score\n"])
def test_nothing_is_written_when_the_csv_is_unusable(inference, text):
    inference.write_text(text)
    with pytest.raises(InputError):
        inference.run()
    assert inference.left() == []


def test_nothing_is_written_when_the_train_yaml_is_unusable(oracle):
    oracle.train.write_text("dataset: {}")
    with pytest.raises(InputError, match="input_map"):
        oracle.run()
    assert oracle.left() == []


def test_the_content_of_the_csv_counts_in_the_cache_key(oracle):
    action = find_action("gap_analysis", "vcn_aoi")
    before = action.digest(oracle.spec())
    assert action.digest(oracle.spec()) == before
    oracle.write([(0.1, "PASS"), (0.25, "a")])
    assert action.digest(oracle.spec()) != before


def test_golden_folder_of_labels_and_lightings(inference):
    """60 rows, 3 labels, 4 lightings: every figure of every file hangs together."""
    chance = np.random.default_rng(7)
    labels = ["PASS"] * 40 + ["shift"] * 12 + ["Missing"] * 8
    low = {"PASS": 0.0, "shift": 0.5, "Missing": 0.5}
    inference.write([(round(float(chance.random()), 3) + low[name], name) for name in labels])
    inference.train.write_text("dataset: {classify: {input_map: [A, B, C, D], image_ext: .jpg}}")
    inference.run(top_k_per_label=5, min_recall=0.9)
    facts = read_json(inference.results / "metrics.json")
    assert (facts["n_total"], facts["n_kept_samples"], facts["n_kept_rows"]) == (60, 15, 60)
    assert facts["recall"] >= 0.9
    assert set(facts["target_defects"]) == {"SHIFT", "MISSING"}
    assert float((inference.results / "threshold.txt").read_text()) == facts["threshold"]


# BCQ


@pytest.fixture
def bcq(tmp_path):
    def run(items, **keys):
        predictions = tmp_path / "predictions.json"
        predictions.write_text(items if isinstance(items, str) else json.dumps(items), encoding="utf-8")
        words = [f"{key}={value}" for key, value in keys.items()]
        given = {"predictions_json": predictions, "results_dir": tmp_path / "out"}
        spec = load_spec(BcqSpec, given, words)
        VLM_BCQ.run(spec)
        return spec

    return run


def item(response, truth, video="/v/1.mp4", **more):
    return {"video_id": video, "response": response, "gt": truth, **more}


def test_bcq_writes_failures_report_and_summary(bcq):
    spec = bcq([item("Yes, é", "B. No", question="Is é?"), item("no", "yes"), item("no", "no")])
    assert sorted(VLM_BCQ.outputs(spec)) == ["bcq_summary.json", "kpi_gaps.jsonl", "kpi_gaps_report.txt"]
    lines = (spec.results_dir / "kpi_gaps.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == (
        '{"video_id": "/v/1.mp4", "error_type": "FP", "question": "Is é?", '
        '"ground_truth": "B. No", "response": "Yes, é"}'
    )
    summary = read_json(spec.results_dir / "bcq_summary.json")
    assert (summary["n_items"], summary["n_fp"], summary["n_fn"], summary["n_correct"]) == (3, 1, 1, 1)
    assert (summary["status"], summary["accuracy"]) == ("ok", pytest.approx(1 / 3))
    assert summary["inputs"]["predictions_json"]["sha256"] == sha256_of(spec.predictions_json)


def test_bcq_without_failures_leaves_the_summary_alone(bcq, caplog):
    bcq([item("yes", "no")])
    with caplog.at_level(logging.INFO, logger="deft"):
        spec = bcq([item("yes", "yes")])
    assert [path.name for path in spec.results_dir.iterdir()] == ["bcq_summary.json"]
    assert list(VLM_BCQ.outputs(spec)) == ["bcq_summary.json"]
    assert "No KPI gaps found" in caplog.text


def test_bcq_warns_when_everything_is_skipped(bcq, caplog):
    spec = bcq([item("maybe", "no")])
    summary = read_json(spec.results_dir / "bcq_summary.json")
    assert summary["status"] == "warn"
    assert "BCQ-W02" in caplog.text
    assert summary["skipped"][0]["field"] == "response"
    assert summary["accuracy"] is None


@pytest.mark.parametrize(("skipped", "status"), [(1, "ok"), (2, "warn")])
def test_bcq_warns_when_more_than_a_fifth_is_skipped(bcq, skipped, status):
    spec = bcq([item("what", "no")] * skipped + [item("no", "no")] * (5 - skipped))
    assert read_json(spec.results_dir / "bcq_summary.json")["status"] == status


def test_bcq_of_no_items_is_ok(bcq):
    assert read_json(bcq([]).results_dir / "bcq_summary.json")["status"] == "ok"


def test_bcq_counts_missing_videos_when_asked(bcq, tmp_path):
    (tmp_path / "here.mp4").touch()
    items = [item("yes", "no", "here.mp4"), item("yes", "no", "gone.mp4")]
    spec = bcq(items, check_exists=True, videos_dir=tmp_path)
    assert read_json(spec.results_dir / "bcq_summary.json")["n_missing_files"] == 1


def test_bcq_writes_nothing_when_an_item_is_malformed(bcq, tmp_path):
    with pytest.raises(InputError, match="item 1 lacks gt"):
        bcq([item("yes", "no"), {"video_id": "x", "response": "yes"}])
    assert not (tmp_path / "out").exists()


def test_unreachable_names_the_file(oracle):
    with pytest.raises(TargetUnreachable, match=r"see .*unreachable_kpi\.txt"):
        oracle.run(max_far=0)
