import json

import pytest

from tasks.registry import find_action


@pytest.fixture
def spec_of(tmp_path):
    def spec(name):
        made = find_action("visual_changenet", name).spec({"task": "classify", "results_dir": tmp_path})
        made.results_dir.mkdir(parents=True, exist_ok=True)
        return made

    return spec


def told(name, spec):
    return find_action("visual_changenet", name).code.headline(spec)


def test_inference_gives_the_range_of_the_scores_of_good_samples_and_defects(spec_of):
    spec = spec_of("inference")
    rows = "PASS,0.25\nPASS,0.5\n"
    (spec.results_dir / "inference.csv").write_text("label,siamese_score\n" + rows)
    found = told("inference", spec)
    assert found.sentence.startswith("2 rows scored, from 0.25 to 0.5;")
    assert found.rows == [("PASS", 2, 0.25, 0.375, 0.5), ("defects", 0, None, None, None)]


def test_evaluation_gives_the_metrics_of_the_status_file(spec_of):
    spec = spec_of("evaluate")
    (spec.results_dir / "status.json").write_text(json.dumps({"kpi": {"test_acc": 97.5}}) + "\n")
    assert told("evaluate", spec).rows == [("test_acc", 97.5)]


def test_evaluation_without_metrics_says_so(spec_of):
    spec = spec_of("evaluate")
    (spec.results_dir / "status.json").write_text("")
    assert told("evaluate", spec).sentence == "The status file has no metrics."


def test_export_gives_the_size_of_the_file(spec_of):
    spec = spec_of("export")
    (spec.results_dir / "changenet_classify.onnx").write_bytes(bytes(2_500_000))
    assert told("export", spec).sentence.startswith("The network as an ONNX file of 2.5 MB")
