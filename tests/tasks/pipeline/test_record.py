import json

import pytest

from tasks.automl.settings import SweepSettings
from tasks.errors import DeftError, InputError
from tasks.pipeline.facts import TunedModel
from tasks.pipeline.record import (
    RECORD,
    RESULT,
    PipelineRecord,
    PipelineRun,
    begun,
    taken_up,
    unfinished,
)

TOKEN = "abc"  # noqa: S105
DATA = {"training_csv": "1" * 64, "kpi_test_csv": "2" * 64}
ASKED = {
    "workspace": "/ws",
    "phase1": SweepSettings(trials=8).model_dump(mode="json"),
    "loop": {"max_iterations": 3, "regression_gate": {"action": "stop"}},
    "skip_phase1": False,
}
CORRECTED = {**ASKED, "loop": {**ASKED["loop"], "max_iterations": 1}}
MODEL = TunedModel(spec={"train": {}}, checkpoint="/run/model.pth", source="automl_phase1")


@pytest.fixture(name="run")
def _run(tmp_path):
    """A run that was asked for with three iterations and approved with one."""
    record = PipelineRecord(
        asked=ASKED, parameters=CORRECTED, data_sha256=DATA, token=TOKEN, approved_by="person", note="less"
    )
    return begun(tmp_path / "results" / "run_20260101_000000", record)


def changed(**values):
    return json.loads(json.dumps({**ASKED, **values}))


def test_same_command_takes_up_the_run_with_what_was_corrected(run):
    found = unfinished(run.folder.parent, ASKED, DATA)
    again = taken_up(found, ASKED, DATA)
    assert found == run.folder
    assert again.record == run.record
    assert again.record.parameters["loop"]["max_iterations"] == 1


def test_run_is_known_by_what_was_asked_not_by_what_was_corrected(run):
    assert unfinished(run.folder.parent, CORRECTED, DATA) is None


@pytest.mark.parametrize(
    ("asked", "data", "said"),
    [
        (changed(loop={**ASKED["loop"], "max_iterations": 4}), DATA, "loop.max_iterations 3 -> 4"),
        (changed(loop={"max_iterations": 3}), DATA, "loop.regression_gate.action stop -> None"),
        (changed(phase1=SweepSettings(trials=9).model_dump(mode="json")), DATA, "phase1.trials 8 -> 9"),
        (changed(phase1=SweepSettings(trials=8, only=("lr",)).model_dump(mode="json")), DATA, "phase1.only"),
        (changed(workspace="/other"), DATA, "workspace /ws -> /other"),
        (changed(metric="val_loss"), DATA, "metric None -> val_loss"),
        (ASKED, {**DATA, "kpi_test_csv": "3" * 64}, "the content of kpi_test_csv"),
        (ASKED, {**DATA, "mining_pool_csv": "4" * 64}, "the content of mining_pool_csv"),
        (ASKED, {"training_csv": "1" * 64}, "the content of kpi_test_csv"),
    ],
)  # fmt: skip
def test_changed_parameter_or_data_is_another_run_and_the_key_is_named(run, asked, data, said):
    assert unfinished(run.folder.parent, asked, data) is None
    with pytest.raises(DeftError, match="changed since it was approved") as refused:
        taken_up(run.folder, asked, data)
    assert said in str(refused.value)


def test_another_token_is_another_run(run):
    assert unfinished(run.folder.parent, ASKED, DATA, TOKEN) == run.folder
    assert unfinished(run.folder.parent, ASKED, DATA, "xyz") is None
    assert taken_up(run.folder, ASKED, DATA, TOKEN)
    with pytest.raises(DeftError, match="was approved as abc, not as xyz"):
        taken_up(run.folder, ASKED, DATA, "xyz")


def test_latest_unfinished_run_is_taken(run):
    later = begun(run.folder.with_name("run_20260102_000000"), run.record)
    assert unfinished(run.folder.parent, ASKED, DATA) == later.folder
    later.finish(RESULT, MODEL)
    assert unfinished(run.folder.parent, ASKED, DATA) == run.folder
    run.finish(RESULT, MODEL)
    assert unfinished(run.folder.parent, ASKED, DATA) is None


def test_folder_where_nothing_was_approved_is_no_run(tmp_path):
    assert taken_up(tmp_path, ASKED, DATA) is None
    assert unfinished(tmp_path / "results", ASKED, DATA) is None


@pytest.mark.parametrize("content", ["{", '{"token": 3}', "[]"])
def test_broken_record_is_named_and_does_not_stand_in_the_way_of_others(run, content, caplog):
    broken = run.folder.with_name("run_20260103_000000")
    broken.mkdir()
    (broken / RECORD).write_text(content)
    assert unfinished(run.folder.parent, ASKED, DATA) == run.folder
    assert f"{broken} is left alone" in caplog.text
    with pytest.raises(InputError, match=RECORD):
        taken_up(broken, ASKED, DATA)


def test_phase_hands_on_what_it_left(run):
    assert run.done("phase1", TunedModel) is None
    run.finish("phase1", MODEL)
    assert PipelineRun(run.folder, run.record).done("phase1", TunedModel) == MODEL


def test_broken_file_of_a_phase_is_named(run):
    (run.folder / "phase1.done.json").write_text('{"spec": {}}')
    with pytest.raises(InputError, match=r"phase1\.done\.json: .*remove it to repeat the phase"):
        run.done("phase1", TunedModel)
