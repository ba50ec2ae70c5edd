"""A stage that reports success is not believed: what its files must say, and what may be skipped."""

import json
import shutil

import pyarrow as pa
import pytest

from tasks.artifacts import write_json, write_parquet, write_text
from tasks.deft.commits import commit
from tasks.deft.state import STATE_FILE
from tasks.errors import DeftError, StageFailed


def edit_json(path, **changes):
    write_json(path, {**json.loads(path.read_text()), **changes})


def drop_last_line(path):
    write_text(path, "".join(path.read_text().splitlines(keepends=True)[:-1]))


def empty(path):
    write_parquet(path, pa.table({"filepath": pa.array([], pa.string())}))


def checkpoint_elsewhere(run, fields):
    fields["latest_ckpt_path"] = write_text(run.folder / "elsewhere.pth", "x")


def failure_in_status(run, fields):
    file = fields["best_val_ckpt_path"].with_name("status.json")
    with file.open("a") as stream:
        stream.write('{"status": "FAILURE", "message": "out of memory"}\n')


def copied_checkpoint(run, fields):
    shutil.copy(run.state.phase("baseline").best_ckpt_path, fields["best_val_ckpt_path"])


def result_of_other_unit(run, fields):
    edit_json(fields["metric_result_file"], unit="")
    fields["metric_result"] = json.loads(fields["metric_result_file"].read_text())


def result_not_finite(run, fields):
    file = fields["metric_result_file"]
    write_text(file, file.read_text().replace("50.0", "NaN", 1))


def other_value_in_state(run, fields):
    fields["metric_result"] = {**fields["metric_result"], "value": 1.0}


def claims_to_pass(run, fields):
    fields["passed"] = True


def no_threshold(run, fields):
    fields["threshold"] = None


def foreign_checkpoint(run, fields):
    fields["best_ckpt_path"] = write_text(run.folder / "other.pth", "x")


def no_gaps(run, fields):
    empty(fields["rca_gaps_parquet"])


def no_target_defects(run, fields):
    fields["rca_target_defects"] = None


def nothing_routed(run, fields):
    for name, count in (("mining", "routed_to_mining"), ("anomalygen", "routed_to_generation")):
        empty(fields[f"routing_{name}_parquet"])
        fields[count] = 0


def routed_count_differs(run, fields):
    fields["routed_to_mining"] = 5


def allocation_is_zero(run, fields):
    write_json(fields["anomalygen_allocation_json"], {"missing": 0})


def allocation_is_negative(run, fields):
    write_json(fields["anomalygen_allocation_json"], {"missing": -1})


def fewer_pairs_than_allocated(run, fields):
    drop_last_line(fields["anomalygen_sdg_csv"])


def rows_dropped_after_ingestion(run, fields):
    drop_last_line(fields["sdg_rows_csv"])


def candidates_differ(run, fields):
    fields["mined_candidate_count"] = 31


def ledger_selected_others(run, fields):
    edit_json(fields["mining_history_summary"], selected_count=3)


def new_row_dropped(run, fields):
    drop_last_line(fields["new_rows_csv"])


def merge_failed(run, fields):
    edit_json(fields["merge_validation_report"], status="failed")


def merge_leaks(run, fields):
    edit_json(fields["merge_validation_report"], train_kpi_leakage_overlap_count=1)


def merged_row_dropped(run, fields):
    drop_last_line(fields["combined_training_csv"])


def provenance_short(run, fields):
    drop_last_line(fields["provenance_csv"])


def merge_lost_new_rows(run, fields):
    edit_json(fields["merge_validation_report"], new_rows=39)


LIES = [
    ("baseline/train", checkpoint_elsewhere, "elsewhere.pth does not lie in"),
    ("baseline/train", failure_in_status, r"status.json says FAILURE: out of memory"),
    ("iter1/train", copied_checkpoint, "is the one that training started from: no step was done"),
    ("baseline/evaluate", result_of_other_unit, "metric_result.json: .*does not answer"),
    ("baseline/evaluate", result_not_finite, "metric_result.json .*value"),
    ("baseline/evaluate", other_value_in_state, "metric_result.json measures 50.0"),
    ("baseline/evaluate", claims_to_pass, "passes: False, the state says True"),
    ("baseline/evaluate", no_threshold, "has no threshold"),
    ("baseline/evaluate", foreign_checkpoint, "other.pth is none that the training left"),
    ("baseline/rca", no_gaps, "gaps.parquet has no rows"),
    ("baseline/rca", no_target_defects, "no target defects"),
    ("iter1/routing", nothing_routed, "are both empty"),
    ("iter1/routing", routed_count_differs, "mining_gaps.parquet has 4 rows, not 5"),
    ("iter1/anomalygen", allocation_is_zero, "allocation.json allocates nothing"),
    ("iter1/anomalygen", allocation_is_negative, "allocation.json is not a mapping"),
    ("iter1/anomalygen", fewer_pairs_than_allocated, "SDG_result.csv has 19 rows, .*allocation.json says 20"),
    ("iter1/anomalygen", rows_dropped_after_ingestion, "sdg_rows.csv has 18 rows, not 19"),
    ("iter1/data_mining", candidates_differ, "candidates.parquet has 30 rows, not 31"),
    ("iter1/data_mining", ledger_selected_others, "summary.json selects 3, not 22"),
    ("iter1/data_mining", new_row_dropped, "mining_pool.csv has .*20.*not .*21"),
    ("iter1/data_merge", merge_failed, "merge_validation.json has status failed"),
    ("iter1/data_merge", merge_leaks, "train_kpi_leakage_overlap_count 1"),
    ("iter1/data_merge", merged_row_dropped, "combined.csv has 139 rows"),
    ("iter1/data_merge", provenance_short, "provenance.csv does not have the 140 rows"),
    ("iter1/data_merge", merge_lost_new_rows, "merge_validation.json accounts for 39 of 40 new rows"),
]


@pytest.mark.parametrize(("step", "lie", "named"), LIES, ids=[lie.__name__ for _, lie, _ in LIES])
def test_lie_is_a_hard_stop_that_names_the_artifact_and_changes_nothing(played, step, lie, named):
    label, stage = step.split("/")
    played.advance_to(stage, label)
    fields = played.fields()
    lie(played, fields)
    before = (played.folder / STATE_FILE).read_bytes()
    with pytest.raises(StageFailed, match=named):
        commit(played.folder, played.step, "done", 1, **fields)
    assert (played.folder / STATE_FILE).read_bytes() == before
    played.advance()


@pytest.mark.parametrize(
    ("final", "named"),
    [
        ({}, "best_model None does not exist"),
        ({"best_model_inference_spec": "/nowhere.yaml"}, "best_model_inference_spec /nowhere.yaml"),
        ({"stop_reason": "metric_met"}, "stop_reason metric_met although the metric is not met"),
    ],
)
def test_loop_does_not_stop_without_what_it_hands_over(played, final, named):
    step = played.advance_to("loop_stop")
    whole = played.final_artifacts(step) if final else {}
    with pytest.raises(StageFailed, match=named):
        commit(played.folder, step, "x", 1, final_artifacts={**whole, **final})
    played.advance()


def nothing_routed_to(run, way):
    fields = run.fields()
    empty(fields[f"routing_{way}_parquet"])
    fields["routed_to_mining" if way == "mining" else "routed_to_generation"] = 0
    commit(run.folder, run.step, "routed", 1, **fields)


def skip(run, reason="a reason", **fields):
    return commit(run.folder, run.step, "nothing done", 5, skip_reason=reason, **fields)


def test_generation_may_be_skipped_when_nothing_was_routed_there(played):
    played.advance_to("routing")
    nothing_routed_to(played, "anomalygen")
    state = skip(played, anomalygen_skipped=True)
    assert state.events[-1].skip_reason == "a reason"
    assert state.events[-1].duration_sec == 0


@pytest.mark.parametrize("source", ["none", "pregenerated"])
def test_generation_may_be_skipped_when_it_is_switched_off(play, source):
    run = play(sdg_source=source)
    run.advance_to("anomalygen")
    assert skip(run, f"sdg_source={source}").next_step().stage == "data_mining"


def test_mining_may_be_skipped_when_nothing_was_routed_there(played):
    played.advance_to("routing")
    nothing_routed_to(played, "mining")
    played.advance()
    rows = played.fields()["new_rows_csv"]
    assert skip(played, new_rows_csv=rows).next_step().stage == "data_merge"


def test_mining_may_be_skipped_when_it_is_switched_off(play):
    run = play(max_new_rows=0)
    run.advance_to("data_mining")
    assert skip(run, "max_new_rows=0").next_step().stage == "data_merge"


def test_skipped_stage_must_have_the_files_that_it_names_all_the_same(played):
    played.advance_to("routing")
    nothing_routed_to(played, "mining")
    played.advance()
    with pytest.raises(StageFailed, match=r"new_rows_csv .* does not exist"):
        skip(played, new_rows_csv=played.folder / "gone.csv")


@pytest.mark.parametrize(
    "stage", ["train", "evaluate", "rca", "routing", "anomalygen", "data_mining", "data_merge", "loop_stop"]
)
def test_no_other_stage_may_be_skipped(played, stage):
    played.advance_to(stage)
    before = (played.folder / STATE_FILE).read_bytes()
    with pytest.raises(DeftError, match="cannot be skipped"):
        skip(played)
    assert (played.folder / STATE_FILE).read_bytes() == before
