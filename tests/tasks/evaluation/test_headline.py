import pytest

from tasks.evaluation.action import FAR_AT_RECALL
from tasks.evaluation.measure import MEASURE
from tasks.spec import load_spec

ROWS = [(0.1, "PASS"), (0.2, "PASS"), (0.3, "short"), (0.4, "PASS"), (0.9, "a|b")]


@pytest.fixture
def inference_csv(tmp_path):
    file = tmp_path / "inference.csv"
    lines = [f"board,{label},c{number},{score}" for number, (score, label) in enumerate(ROWS)]
    file.write_text("input_path,label,object_name,siamese_score\n" + "\n".join(lines) + "\n")
    return file


def test_the_metric_its_target_its_counts_and_its_picture(tmp_path, inference_csv):
    values = {"inference_csv": inference_csv, "results_dir": tmp_path / "out"}
    spec = load_spec(FAR_AT_RECALL.spec, values)
    FAR_AT_RECALL.run(spec)
    told = FAR_AT_RECALL.headline(spec)
    assert told.sentence == (
        "False-alarm rate (FAR) 33.33 %, not passed (wanted: less than 10 %), at threshold 0.2."
    )
    facts = dict(told.rows)
    assert facts["False alarms of good samples"] == "1/3"
    assert facts["False-alarm rate, 95 % Wilson interval"] == "6.15 to 79.23 %"
    assert facts["The defect with the lowest score"] == "short board/c2: 0.3"
    assert [picture.is_file() for picture in told.pictures] == [True]


def test_a_foreign_metric_has_what_its_evaluator_told_and_no_more(tmp_path, inference_csv):
    contract = {"name": "pairs", "display_name": "Pairs", "operator": ">", "target": 3, "unit": ""}
    values = {
        "inference_csv": inference_csv,
        "results_dir": tmp_path / "out",
        "iter_label": "iter1",
        "checkpoint_kind": "latest",
        "metric_contract": contract,
    }
    spec = load_spec(MEASURE.spec, values)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metric_result.json").write_text('{"name": "pairs", "value": 4, "unit": ""}')
    told = MEASURE.headline(spec)
    assert told.sentence == "Pairs 4, passed (wanted: more than 3)."
    assert not told.rows
