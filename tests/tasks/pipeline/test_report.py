import re

import html5lib
import pytest

from tasks.artifacts import write_text
from tasks.errors import InputError
from tasks.pipeline.files import read_pipeline
from tasks.pipeline.report import context, render
from tests.tasks.pipeline.conftest import BASELINE, EVIL, FIRST, ITER1, THIRD, ZERO, stage


def page(run):
    text = render(run.folder).read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    assert "<script" not in text
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    return text


def test_rollback_says_both_figures(run):
    text = page(run.whole())
    assert "The model of iteration 1 is delivered: FAR 6 % on the KPI set." in text
    assert "FAR is 7 % after phase 3 against 6 % of the loop&#39;s best (iteration 1)" in text
    assert "Rolled back: the model of the second sweep is worse than the loop&#39;s best" in text


def test_better_second_sweep_is_delivered(run):
    text = page(run.whole("final_automl", stage("phase 3 best", "KPI", "FAR", 2.0)))
    assert "The model of phase 3 best is delivered: FAR 2 % on the KPI set." in text
    assert "Rolled back" not in text


def test_equal_second_sweep_is_rolled_back_and_not_called_worse(run):
    text = page(run.whole("iter1", stage("phase 3 best", "KPI", "FAR", 6.0)))
    assert "is no better than the loop&#39;s best" in text


def test_each_set_has_a_chart_of_its_own(run):
    found = context(read_pipeline(run.whole().folder))
    (first, sweeps), (second, loop) = found["charts"]
    assert (first, second) == ("Validation set: the sweeps", "KPI set: the loop and the end")
    assert "FAR on the validation set: without training 86, phase 1 best 4, phase 3 best 1.5" in sweeps
    assert "FAR on the KPI set: baseline 40, iteration 1 6, phase 3 best 7" in loop
    assert "40" not in re.search(r'aria-label="([^"]*)"', sweeps)[1]


def test_no_difference_is_taken_across_sets(run):
    rows = context(read_pipeline(run.whole().folder))["trajectory"]
    first_of_kpi = next(row for row in rows if row[1] == "KPI")
    assert first_of_kpi[4:6] == ("—", "—")
    assert "A figure of one is not better or worse than a figure of the other" in page(run)


def test_links_are_relative_and_only_to_what_is_there(run):
    run.whole()
    write_text(run.folder / "DEFT_Loop_Report.html", "x")
    write_text(run.folder / "iter1" / "rca_results" / "a b" / "RCA_Report.md", "x")
    text = page(run)
    assert 'href="DEFT_Loop_Report.html"' in text
    assert 'href="iter1/rca_results/a%20b/RCA_Report.md"' in text
    assert 'href="best_model.json"' not in text
    assert f'href="{run.folder}' not in text


def test_leaks_are_told(run):
    assert "No image was found in two sets" in page(run.whole())
    run.looped(shared=3)
    assert "3 images are shared between sets: the figures above are too good" in page(run)


def test_what_a_person_wrote_is_text(run):
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;") in page(run.whole())


def test_run_in_its_first_sweep(run):
    text = page(run.approved().trials())
    assert (
        "The run has not ended and delivers nothing yet; it stands at phase 1, the first sweep (2 tri" in text
    )
    assert "not begun" in text


def test_run_between_sweep_and_loop(run):
    assert "the hand-over from phase 1 to the loop" in page(run.approved().swept("phase1", FIRST, ZERO))


def test_run_in_its_loop_shows_what_was_measured(run):
    run.approved().swept("phase1", FIRST, ZERO).state(BASELINE)
    text = page(run)
    assert "phase 2, the data loop (last done: baseline, evaluate)" in text
    assert "40 %" in text


def test_failed_loop_says_why(run):
    run.approved().swept("phase1", FIRST, ZERO).state(BASELINE)
    summary = f"# Pipeline summary\n\n**failed_phase2**: nothing is delivered. iter1 has no {EVIL} row\n"
    write_text(run.folder / "PIPELINE_SUMMARY.md", summary)
    text = page(run)
    assert "failed phase2" in text
    assert "The run stopped and delivers nothing yet: iter1 has no &lt;script&gt;" in text


def test_only_swept(run):
    run.approved(mode="automl_only").trials().swept("phase1", FIRST, ZERO)
    text = page(run.ended("phase 1 best", [ZERO, FIRST], "Only swept."))
    assert "FAR 4 % on the validation set" in text
    assert "mode automl_only" in text


def test_third_phase_left_out_says_why(run):
    run.approved(skip_phase3=True).swept("phase1", FIRST, ZERO).looped()
    assert "skip_phase3" in page(run.ended("iter1", [ZERO, FIRST, BASELINE, ITER1]))


def test_third_phase_without_model(run):
    run.approved().trials().swept("phase1", FIRST, ZERO).looped().trials("final_automl", ())
    run.ended("iter1", [ZERO, FIRST, BASELINE, ITER1], "The loop's best model.", "complete_with_warnings")
    assert "gave no model" in page(run)


def test_only_looked_at(run):
    run.approved()
    (run.folder / "pipeline.json").unlink()
    assert "Nothing has run" in page(run)


def test_spoilt_file_is_named_and_the_rest_is_shown(run):
    run.whole()
    write_text(run.folder / "phase2.done.json", "{")
    write_text(run.folder / "final_automl" / "trials.jsonl", "{}\n")
    text = page(run)
    assert "phase2.done.json is not valid JSON" in text
    assert "trials.jsonl: line 1" in text
    assert "The model of iteration 1 is delivered" in text


@pytest.mark.parametrize(
    "name", ["deft_state.json", "preflight_summary.json", "pipeline.json", "phase3.done.json"]
)
def test_deleted_file_leaves_a_page(run, name):
    run.whole()
    (run.folder / name).unlink()
    assert "is delivered" in page(run)


def test_other_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match="is no pipeline run"):
        render(tmp_path)


def test_equal_files_give_equal_pages(run):
    run.whole()
    assert render(run.folder).read_bytes() == render(run.folder).read_bytes()


def test_validation_and_kpi_figures_of_phase_3_are_two_rows(run):
    rows = context(read_pipeline(run.whole().folder))["trajectory"]
    assert [row[1] for row in rows if row[0] == "phase 3 best"] == ["validation", "KPI"]
    assert THIRD["value"] == 1.5
