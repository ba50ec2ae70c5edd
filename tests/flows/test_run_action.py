import json

import httpx
import pytest
from prefect.settings import PREFECT_API_URL

from blocks.pool_run import LeftOutcome, outcome_file
from flows.run_action import run_action
from tasks.errors import InputError, StageFailed, TargetUnreachable, UsageError
from tasks.registry import ACTIONS

pytestmark = pytest.mark.usefixtures("prefect_server")

VLM = "gap_analysis vlm_bcq"


@pytest.fixture
def predictions(tmp_path):
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps([{"video_id": str(tmp_path), "response": "yes", "gt": "no"}]))
    return file


def words(predictions):
    return [f"predictions_json={predictions}", f"results_dir={predictions.parent / 'out'}"]


def left_beside(log):
    return LeftOutcome.model_validate_json(outcome_file(log).read_text())


class TestForAPerson:
    def test_from_values(self, tmp_path, predictions):
        values = {"predictions_json": str(predictions), "results_dir": str(tmp_path / "out")}
        assert run_action(VLM, values=values).exit_status == 0
        assert (tmp_path / "out" / "kpi_gaps.jsonl").is_file()

    def test_from_a_spec_file_with_words_that_win(self, tmp_path, predictions):
        spec = tmp_path / "spec.yaml"
        spec.write_text(f"predictions_json: {predictions}\nresults_dir: {tmp_path / 'unused'}\n")
        run_action(VLM, spec_file=spec, arguments=[f"results_dir={tmp_path / 'out'}"])
        assert (tmp_path / "out" / "kpi_gaps.jsonl").is_file()
        assert not (tmp_path / "unused").exists()

    def test_second_run_is_taken_from_the_cache_unless_refreshed(self, tmp_path, predictions):
        log = tmp_path / "out" / "vlm_bcq.log"
        run_action(VLM, arguments=words(predictions))
        log.unlink()
        run_action(VLM, arguments=words(predictions))
        assert not log.exists()
        run_action(VLM, arguments=words(predictions), refresh=True)
        assert log.is_file()

    def test_spec_is_checked_first(self, predictions):
        with pytest.raises(InputError, match="unknown key prediction_json"):
            run_action(VLM, arguments=[*words(predictions), "prediction_json=x"])

    def test_failed_action_fails_the_run_with_its_line(self, tmp_path, predictions):
        predictions.write_text('[{"video_id": "/a.mp4", "response": "yes"}]')
        state = run_action(VLM, arguments=words(predictions), return_state=True)
        assert state.is_failed()
        assert "item 0 lacks gt" in state.message

    def test_unknown_action(self):
        with pytest.raises(UsageError, match="no action gap_analysis vlm; known: gap_analysis vcn_aoi"):
            run_action("gap_analysis vlm")

    def test_words_that_are_none(self, predictions):
        with pytest.raises(UsageError, match="argument '-e' is not key=value"):
            run_action(VLM, arguments=["-e", "spec.yaml"])

    def test_spec_file_and_values(self, tmp_path):
        with pytest.raises(UsageError, match="values stand in place of a spec file"):
            run_action(VLM, spec_file=tmp_path / "spec.yaml", values={"a": 1})

    def test_unknown_runtime(self, predictions):
        with pytest.raises(InputError, match="runtime 'inline-runtime/absent'"):
            run_action(VLM, arguments=words(predictions), runtime="inline-runtime/absent")

    def test_form_offers_every_action(self):
        offered = run_action.parameters.properties["action"]
        assert offered["enum"] == [action.title for action in ACTIONS]
        assert offered["title"] == "action"
        assert run_action.parameters.required == ["action"]
        assert all(field.get("description") for field in run_action.parameters.properties.values())


class TestForAWorkPool:
    def test_outcome_lies_beside_the_log(self, tmp_path, predictions):
        log = tmp_path / "logs" / "bcq.log"
        state = run_action(VLM, arguments=words(predictions), log_file=log, return_state=True)
        left = left_beside(log)
        assert (left.exit_status, left.error) == (0, "")
        assert left.run == str(state.state_details.flow_run_id)
        assert log.read_text().splitlines()[-1] == "Execution status: PASS"
        assert outcome_file(log).name == "bcq.outcome.json"

    def test_spec_file_goes_on_to_the_action(self, tmp_path, predictions):
        spec = tmp_path / "spec.yaml"
        spec.write_text(f"predictions_json: {predictions}\nresults_dir: {tmp_path / 'out'}\n")
        run_action(VLM, spec_file=spec, log_file=tmp_path / "bcq.log")
        assert (tmp_path / "out" / "kpi_gaps.jsonl").is_file()

    def test_failed_action_fails_the_run_and_leaves_its_outcome(self, tmp_path, predictions):
        predictions.write_text('[{"video_id": "/a.mp4", "response": "yes"}]')
        log = tmp_path / "bcq.log"
        with pytest.raises(StageFailed, match="item 0 lacks gt"):
            run_action(VLM, arguments=words(predictions), log_file=log)
        assert left_beside(log).exit_status == 1
        assert "item 0 lacks gt" in left_beside(log).error

    def test_exit_status_3_stays_what_it_is(self, tmp_path):
        scores = tmp_path / "inference.csv"
        scores.write_text("input_path,label,siamese_score\na,PASS,0.1\n")
        arguments = [f"inference_csv={scores}", f"results_dir={tmp_path / 'out'}"]
        log = tmp_path / "far.log"
        state = run_action("evaluation far_at_recall", arguments=arguments, log_file=log, return_state=True)
        status = left_beside(log).exit_status
        failure = TargetUnreachable if status == 3 else StageFailed
        with pytest.raises(failure):
            state.result()
        assert status

    def test_missing_runtime_is_an_outcome_too(self, tmp_path, predictions):
        log = tmp_path / "bcq.log"
        with pytest.raises(StageFailed, match="inline-runtime/absent"):
            run_action(VLM, arguments=words(predictions), log_file=log, runtime="inline-runtime/absent")
        assert "inline-runtime/absent" in left_beside(log).error

    def test_values_are_refused(self, tmp_path):
        with pytest.raises(UsageError, match="without a log file"):
            run_action(VLM, values={"a": 1}, log_file=tmp_path / "a.log")


@pytest.mark.parametrize(("action", "status"), [("gap_analysis none", 409), (VLM, 201)])
def test_action_that_is_not_offered_is_refused_before_it_runs(action, status):
    deployment = run_action.to_deployment(name="schema").apply()
    address = f"{PREFECT_API_URL.value()}/deployments/{deployment}/create_flow_run"
    answer = httpx.post(address, json={"parameters": {"action": action}})
    assert answer.status_code == status
