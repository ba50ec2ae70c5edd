import shutil
from pathlib import Path

import pytest

from tasks.artifacts import read_json, write_json, write_yaml
from tasks.errors import InputError, TargetUnreachable
from tasks.gap_analysis.report import REPORT, render
from tasks.gap_analysis.report.actions import threshold_action
from tasks.gap_analysis.report.facts import experiment, percent, read_facts
from tasks.gap_analysis.report.inputs import Kpi, Origin, ReportInputs, kpi_of, write_inputs
from tasks.reports.markdown import sections, table_rows, word_count

ORACLE = [(0.1, "PASS"), (0.2, "PASS"), (0.3, "open"), (0.4, "PASS"), (0.9, "short")]
MISSED = [(0.1, "PASS"), (0.2, "open"), (0.3, "open"), (0.4, "PASS"), (0.9, "short")]


def parts(folder: Path) -> dict[str, str]:
    return sections(render(folder).read_text(encoding="utf-8"))


def kpi(met: bool) -> ReportInputs:
    return ReportInputs(kpi=Kpi(contract="FAR < 10%", value=3.5, unit="%", met=met, source=Path("m.json")))


def test_first_line_says_what_it_means_for_the_line(analysed):
    verdict = parts(analysed(ORACLE))["Verdict"].strip().splitlines()[0]
    assert verdict.startswith(
        "**At threshold 0.2 no defect slips through and 1 of 3 (33.3 %) good samples "
        "are flagged as defects.**"
    )


def test_missed_defects_are_named_first(analysed):
    verdict = parts(analysed(MISSED, threshold=0.25))["Verdict"]
    assert "At threshold 0.25 1 of 3 (33.3 %) defects slip through and 1 of 2 (50 %) good samples" in verdict
    assert "The threshold was given, with no recall target; the recall attained is 66.7 %." in verdict


def test_seven_sections_with_their_tables(analysed, looked_at):
    found = parts(looked_at(analysed(ORACLE)))
    assert [table_rows(text) != [] for text in found.values()] == [True] * 7
    assert table_rows(found["Weakness Distribution"])[0] == ["PASS", "3", "0.03333", "0", "0.2", "1"]
    assert table_rows(found["Top-K Weakest Samples"])[0] == ["PASS", "003", "board", "0.4", "0.2", "yes"]
    assert ["Actual PASS", "1 (FP, false alarm)", "2 (TN, rightly passed)"] in table_rows(
        found["Threshold Selection"]
    )
    assert "![PASS 003](<rca_images/01.png>)" in found["Visual Spot Check"]
    assert table_rows(found["Per-Label Breakdown"])[0] == ["PASS", "3", "60 %", "1", "2"]
    assert "5 samples × 2 lightings = 10 file paths" in found["Recommended Actions"]


def test_same_files_give_the_same_report(analysed, looked_at):
    folder = looked_at(analysed(ORACLE))
    assert render(folder).read_bytes() == render(folder).read_bytes()


def test_scores_are_drawn_where_the_csv_is_still_there(analysed, inference):
    folder = analysed(ORACLE)
    assert "](<score_histogram.png>)" in parts(folder)["Threshold Selection"]
    drawn = (folder / "score_histogram.png").read_bytes()
    inference.write([(0.5, "PASS")])
    assert "](<score_histogram.png>)" in parts(folder)["Threshold Selection"]
    assert (folder / "score_histogram.png").read_bytes() == drawn
    (folder / "score_histogram.png").unlink()
    assert "histogram" not in parts(folder)["Threshold Selection"]


@pytest.mark.parametrize("scores", [(0.5, 0.5), (0.0, 0.5), (-1.0, 3.0), (1e-6, 1.0)])
def test_scores_of_any_range_are_drawn(analysed, scores):
    folder = analysed(list(zip(scores, ("PASS", "open"), strict=True)))
    render(folder)
    assert (folder / "score_histogram.png").stat().st_size


def test_runner_up_says_why_it_lost(analysed):
    assert (
        "The runner-up, 0.1, was decided against by F1: 0.666667 against 0.8."
        in parts(analysed(ORACLE))["Threshold Selection"]
    )


def test_defects_at_the_threshold_are_explained(analysed):
    assert (
        "1 defect " in parts(analysed([(0.1, "PASS"), (0.5, "open")], threshold=0.5))["Threshold Selection"]
    )


def test_names_that_are_markup_stay_text(analysed, looked_at):
    labels = ["PASS", "<script>alert(1)</script>", "a|b", "# one", "`x`", "two\nlines"]
    rows = [(number / 10, label) for number, label in enumerate(labels)]
    text = render(looked_at(analysed(rows, names=[f"a|{n}" for n in range(6)]))).read_text(encoding="utf-8")
    assert "<script" not in text
    assert list(sections(text)) == list(sections(text.replace("\\", "")))
    assert {len(row) for row in table_rows(sections(text)["Top-K Weakest Samples"])} == {6}
    assert {row[0] for row in table_rows(sections(text)["Weakness Distribution"])} == {
        "PASS", "&lt;SCRIPT&gt;ALERT(1)&lt;/SCRIPT&gt;", "A\\|B", "# ONE", "\\`X\\`", "TWO LINES"
    }  # fmt: skip


def test_only_defects(analysed):
    found = parts(analysed([(0.4, "open"), (0.5, "open")]))
    assert "there are no good samples that could be flagged" in found["Verdict"]
    assert "100 %" in found["Verdict"]


def test_filter_mode_without_a_fault(analysed):
    found = parts(analysed([(0.1, "PASS"), (0.5, "open")], top_k_per_label=None))
    assert "No sample was kept" in found["Top-K Weakest Samples"]
    assert "Nothing to augment" in found["Recommended Actions"]


def test_filter_mode_keeps_no_defect(analysed):
    assert "this queue cannot be used" in parts(analysed(ORACLE, top_k_per_label=None))["Recommended Actions"]


def test_short_report_tells_every_label_in_a_line(analysed):
    assert "- OPEN: 0 of 1 (0 %) misclassified" in parts(analysed(ORACLE))["Per-Label Breakdown"]


def test_many_labels_and_fifty_of_each_keep_the_prose_short(analysed, looked_at):
    rows = [(0.001 * number, "PASS" if number < 60 else f"defect {number % 40}") for number in range(2500)]
    text = render(looked_at(analysed(rows))).read_text(encoding="utf-8")
    assert word_count(text, tables=False) <= 1800
    assert word_count(text) >= 1000
    assert "Label by label" not in text


def test_relabel_names_folder_and_sample(analysed, looked_at):
    actions = parts(looked_at(analysed(ORACLE), "mislabeled", "edge case"))["Recommended Actions"]
    assert "- board/003 (labelled PASS)" in actions


def test_systematic_failures_are_grouped_by_label_family_and_lighting(analysed, looked_at):
    actions = parts(looked_at(analysed(ORACLE), "systematic"))["Recommended Actions"]
    assert ["PASS", "board", "Top", "3"] in table_rows(actions)


@pytest.mark.parametrize(
    ("inputs", "verdicts", "choice"),
    [
        (kpi(True), ["edge case"], "c"),
        (kpi(False), ["edge case"], "b"),
        (kpi(False), ["systematic"], "a"),
        (ReportInputs(), ["edge case"], "b"),
        (ReportInputs(), ["systematic"], "a"),
    ],
    ids=["met", "ambiguous", "not met", "ambiguous, not known", "not known"],
)
def test_threshold_action_follows_its_rule(analysed, looked_at, inputs, verdicts, choice):
    folder = looked_at(analysed(ORACLE), *verdicts)
    write_inputs(folder, inputs)
    assert threshold_action(read_facts(folder)).choice == choice
    assert f"**({choice}) " in parts(folder)["Recommended Actions"]


def test_cached_analysis_says_where_it_is_from(analysed):
    folder = analysed(ORACLE)
    (folder / "vcn_aoi.log").write_text("unchanged inputs: taken from /runs/one, computed by shy-fox\n")
    assert (
        "taken from the cache. It was computed by the flow run shy-fox in `/runs/one`."
        in parts(folder)["Verdict"]
    )
    write_inputs(folder, ReportInputs(origin=Origin(computed_by="shy-fox", seconds=1.25)))
    assert "computed for this report by the flow run shy-fox in 1.2 s." in parts(folder)["Verdict"]


def test_kpi_is_found_beside_the_inference(tmp_path):
    csv = tmp_path / "iter1" / "inference" / "latest" / "inference.csv"
    folder = tmp_path / "iter1" / "evaluate" / "latest"
    spec = {"inference_csv": str(csv), "metric_contract": "FAR < 10% at Recall=100%"}
    write_yaml(folder / "measure_spec.yaml", spec)
    result = {"name": "far_pct", "value": 12.0, "unit": "%", "constraints": {"recall_pct": 100.0}}
    write_json(folder / "metric_result.json", result)
    found = kpi_of(csv)
    assert found is not None
    assert (found.contract, found.value, found.met) == ("FAR < 10% at Recall=100%", 12.0, False)
    assert kpi_of(csv.parents[1] / "best_val" / "inference.csv") is None


def test_kpi_is_what_the_loop_says(tmp_path):
    csv = tmp_path / "iter1" / "inference" / "latest" / "inference.csv"
    reached = {"inference_csv": str(csv), "metric_result": {"value": 1.0, "unit": "%"}, "passed": True}
    write_json(tmp_path / "deft_state.json", {"kpi_target": "FAR < 2%", "iterations": {"iter1": reached}})
    found = kpi_of(csv)
    assert found is not None
    assert found.met


def test_state_that_cannot_be_read_is_no_kpi(tmp_path, caplog):
    csv = tmp_path / "iter1" / "inference" / "latest" / "inference.csv"
    (tmp_path / "deft_state.json").write_text("{")
    assert kpi_of(csv) is None
    assert "no KPI result" in caplog.text


def test_unreachable_target_from_its_one_file_alone(inference, tmp_path):
    inference.write([(0.1, "PASS"), (0.4, "open")])
    with pytest.raises(TargetUnreachable):
        inference.run(threshold=0.6, min_recall=1.0)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(inference.results / "unreachable_kpi.txt", alone)
    found = parts(alone)
    assert list(found) == ["Verdict", "Threshold Selection", "What Can Be Reached", "Recommended Actions"]
    assert (alone / "unreachable_kpi.txt").read_text().rstrip() in found["What Can Be Reached"]
    assert "Retrain or relabel" in found["Recommended Actions"]


def test_good_samples_alone_are_unreachable(inference):
    inference.write([(0.1, "PASS"), (0.4, "PASS")])
    with pytest.raises(TargetUnreachable):
        inference.run()
    found = parts(inference.results)
    assert "no sample with a defect label" in found["Verdict"]
    assert "Relabel" in found["Recommended Actions"]


def test_folder_without_an_analysis(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json"):
        render(tmp_path)
    assert not (tmp_path / REPORT).exists()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (
            "/data/ws/results/run_20261121_100026/iter1/rca_results/2026-11-21_1",
            "ws / run_20261121_100026 / iter1",
        ),
        ("/data/ws/scored/rca_results/2026-11-21_1", "ws / scored"),
        ("/data/ws/out", "ws / out"),
        ("/out", "out"),
    ],
)
def test_experiment_is_workspace_run_and_phase(folder, name):
    assert experiment(Path(folder)) == name


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 7, "0 %"),
        (7, 7, "100 %"),
        (7, 154, "4.5 %"),
        (1, 100_000, "0.001 %"),
        (99_999, 100_000, "99.999 %"),
    ],
)
def test_share_is_never_rounded_to_none_or_all(part, whole, text):
    assert percent(part, whole) == text


def test_inputs_are_kept_as_json(analysed):
    folder = analysed(ORACLE)
    write_inputs(folder, kpi(True))
    assert read_json(folder / "rca_config" / "report_inputs.json")["kpi"]["met"] is True
