import csv

import pytest

from tasks.artifacts import read_json
from tasks.errors import InputError
from tasks.evaluation.action import FAR_AT_RECALL
from tasks.gap_analysis.scores import read_scores
from tasks.gap_analysis.sweep import best, feasible, sweep
from tasks.registry import find_action, run_in_process
from tasks.spec import load_spec

HEADER = "input_path,golden_path,label,object_name,siamese_score\n"
ROWS = [(0.1, "PASS"), (0.2, "PASS"), (0.3, "missing"), (0.4, "PASS"), (0.05, "shift"), (0.9, "missing")]
FILES = [
    "best_f1_missed_no_pass_samples.csv",
    "confusion_matrix_best_f1.png",
    "confusion_matrix_recall_100.png",
    "metric_result.json",
    "score_distribution_with_recall_100_threshold.png",
    "summary.txt",
    "threshold_metrics.csv",
]


@pytest.fixture
def evaluate(tmp_path):
    def run(rows=ROWS, text=None, **keys):
        path = tmp_path / "inference.csv"
        lines = [f"board,golden,{label},{n:03d},{score}" for n, (score, label) in enumerate(rows)]
        path.write_text(text if text is not None else HEADER + "\n".join(lines) + "\n")
        given = {"inference_csv": path, "results_dir": tmp_path / "kpi", **keys}
        FAR_AT_RECALL.run(load_spec(FAR_AT_RECALL.spec, given))
        return tmp_path / "kpi"

    return run


def test_files_are_the_outputs(evaluate, tmp_path):
    folder = evaluate()
    spec = load_spec(FAR_AT_RECALL.spec, {"inference_csv": "i", "results_dir": folder})
    assert sorted(path.name for path in folder.iterdir()) == FILES == sorted(FAR_AT_RECALL.outputs(spec))


def test_metric_result(evaluate):
    found = read_json(evaluate() / "metric_result.json")
    assert (found["name"], found["value"], found["unit"]) == ("far_pct", 100.0, "%")
    assert found["constraints"] == {"recall_pct": 100.0}
    assert found["diagnostics"]["far_counts"] == "3/3"
    assert found["diagnostics"]["far_pct_at_2nd_lowest_defect"] == pytest.approx(100 / 3)
    assert found["diagnostics"]["lowest_defect"] == {
        "row": 6,
        "input_path": "board",
        "object_name": "004",
        "label": "shift",
        "score": 0.05,
    }
    assert "passed" not in found


def test_threshold_is_that_of_gap_analysis(evaluate, tmp_path):
    threshold = read_json(evaluate() / "metric_result.json")["threshold"]
    rows = read_scores(tmp_path / "inference.csv")
    points = sweep(rows.scores, rows.is_pass)
    assert threshold == points.threshold[best(points, feasible(points, 1.0))[0]]


def test_missed_samples(evaluate):
    with (evaluate([*ROWS, (0.95, "missing")]) / FILES[0]).open() as stream:
        (row,) = csv.DictReader(stream)
    assert (row["object_name"], row["label"], row["analysis_row_index"]) == ("004", "shift", "6")


def test_far_is_measured_at_the_recall_of_the_contract(evaluate):
    found = read_json(evaluate(metric_contract="FAR < 40% at Recall=60%") / "metric_result.json")
    assert found["value"] == pytest.approx(100 / 3)
    assert found["constraints"]["recall_pct"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(("target", "verdict"), [("10", "not passed"), ("40", "passed")])
def test_summary_gives_the_verdict(evaluate, target, verdict):
    folder = evaluate(metric_contract=f"FAR < {target}% at Recall=60%")
    assert f"Contract: far_pct < {target} % {verdict}\n" in (folder / "summary.txt").read_text()


def test_contract_as_fields(evaluate):
    fields = {"name": "far_pct", "display_name": "FAR", "operator": "<", "target": 5, "unit": "%"}
    assert (evaluate(metric_contract=fields) / "metric_result.json").is_file()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rows": [(0.1, "PASS")]}, r"inference\.csv: there are no NO_PASS rows"),
        ({"rows": [(0.1, "a")]}, r"inference\.csv: there are no PASS rows"),
        ({"rows": [("nan", "PASS"), (0.1, "a")]}, "not finite.*rows 2"),
        ({"text": "label\nPASS\n"}, "lacks the columns siamese_score"),
        ({"metric_contract": "Recall > 90%"}, "unknown primary metric of far_at_recall 'recall_pct'"),
        ({"metric_contract": "FAR < 10% at FAR=3%"}, "unknown constraint of far_at_recall 'far_pct'"),
        ({"metric_contract": "FAR < 10% at Recall=101%"}, "a target from 0 to 100 %"),
        ({"metric_contract": "soon"}, "is not of the form"),
    ],
)
def test_nothing_is_written_when_it_cannot_be_measured(evaluate, tmp_path, keys, message):
    with pytest.raises(InputError, match=message):
        evaluate(**keys)
    assert not (tmp_path / "kpi").exists()


def test_contract_from_the_command_line(evaluate, tmp_path):
    evaluate()
    words = [f"inference_csv={tmp_path / 'inference.csv'}", f"results_dir={tmp_path / 'kpi2'}"]
    contract = "metric_contract=FAR < 40% at Recall=60%"
    assert run_in_process("evaluation", ["far_at_recall", *words, contract]) == 0
    assert (tmp_path / "kpi2" / "metric_result.json").is_file()


def test_the_contract_counts_in_the_cache_key(tmp_path):
    action = find_action("evaluation", "far_at_recall")
    specs = [
        action.spec({"inference_csv": "i", "results_dir": "r", "metric_contract": f"FAR < {target}%"})
        for target in (5, 10)
    ]
    assert action.digest(specs[0]) != action.digest(specs[1])
