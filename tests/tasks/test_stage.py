import json
import os
import subprocess
import sys
from dataclasses import replace
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, LogFilter
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL
from pydantic import PrivateAttr

from blocks.runtime import ActionOutcome, ActionRequest, InlineRuntime
from tasks.artifacts import sha256_of
from tasks.errors import InputError, StageFailed
from tasks.gap_analysis.action import VLM_BCQ
from tasks.registry import find_action
from tasks.stage import load_runtime, run_stage

pytestmark = pytest.mark.usefixtures("prefect_server")

ITEMS = [
    {"video_id": "/a.mp4", "response": "yes", "gt": "no"},
    {"video_id": "/b.mp4", "response": "no", "gt": "no"},
]


@flow
def analyse(predictions, results_dir, runtime=None):
    values = {"predictions_json": predictions, "results_dir": results_dir}
    return run_stage("gap_analysis", "vlm_bcq", values, runtime or InlineRuntime())


@pytest.fixture
def predictions(tmp_path):
    # The test's own path in the content keeps it apart from every other test's cache records.
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps([*ITEMS, {"video_id": str(tmp_path), "response": "no", "gt": "no"}]))
    return file


def test_second_run_with_equal_inputs_computes_nothing(tmp_path, predictions):
    first = analyse(predictions, tmp_path / "out")
    log = tmp_path / "out" / "vlm_bcq.log"
    log.unlink()
    second = analyse(predictions, tmp_path / "out")
    assert not first.cached
    assert second.cached
    assert second.artifacts == first.artifacts
    assert not log.exists()


def test_equal_content_at_another_place_is_taken_from_the_cache_into_the_new_folder(tmp_path, predictions):
    first = analyse(predictions, tmp_path / "out")
    moved = predictions.rename(tmp_path / "renamed.json")
    second = analyse(moved, tmp_path / "other")
    assert second.cached
    assert second.path("kpi_gaps.jsonl") == tmp_path / "other" / "kpi_gaps.jsonl"
    assert second.path("kpi_gaps.jsonl").read_bytes() == first.path("kpi_gaps.jsonl").read_bytes()
    assert f"taken from {tmp_path / 'out'}" in (tmp_path / "other" / "vlm_bcq.log").read_text()


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_text("x")])
def test_deleted_or_altered_artifact_is_computed_again(tmp_path, predictions, damage):
    first = analyse(predictions, tmp_path / "out")
    damage(first.path("kpi_gaps.jsonl"))
    second = analyse(predictions, tmp_path / "out")
    assert not second.cached
    assert second.artifacts == first.artifacts
    assert second.intact()
    assert analyse(predictions, tmp_path / "out").cached


def test_changed_content_is_computed(tmp_path, predictions):
    analyse(predictions, tmp_path / "out")
    predictions.write_text(json.dumps([{"video_id": str(tmp_path), "response": "no", "gt": "yes"}]))
    assert not analyse(predictions, tmp_path / "out").cached


def test_spec_and_log_stand_in_the_folder(tmp_path, predictions):
    analyse(predictions, tmp_path / "out")
    assert str(predictions) in (tmp_path / "out" / "vlm_bcq_spec.yaml").read_text()
    assert "Execution status: PASS" in (tmp_path / "out" / "vlm_bcq.log").read_text()


def test_failed_action_raises_its_own_line(tmp_path, predictions):
    predictions.write_text("{}")
    with pytest.raises(StageFailed, match="array"):
        analyse(predictions, tmp_path / "out")


def test_spec_error_is_raised_before_anything_is_written(tmp_path, predictions):
    @flow
    def wrong():
        run_stage("gap_analysis", "vlm_bcq", {"predictions": predictions}, InlineRuntime())

    with pytest.raises(InputError, match="not set: predictions_json"):
        wrong()
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]


class Idle(InlineRuntime):
    """Says that all went well, and did nothing; with `says`, that stands in the status file."""

    _block_type_slug = "idle-runtime"
    says: str = ""

    def run(self, request):
        if self.says:
            super().run(request)
            with (request.log_file.parent / "status.json").open("a") as status:
                status.write(self.says)
        return ActionOutcome(exit_status=0, error="", seconds=0)


def test_outputs_of_an_earlier_run_are_not_taken_for_new_ones(tmp_path, predictions):
    analyse(predictions, tmp_path / "out")
    predictions.write_text(json.dumps([{"video_id": str(tmp_path), "response": "yes", "gt": "yes"}]))
    with pytest.raises(StageFailed, match=r"wrote nothing: .* is from an earlier run"):
        analyse(predictions, tmp_path / "out", Idle())


def test_failure_in_the_status_file_counts_more_than_the_exit_status(tmp_path, predictions):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "status.json").write_text('{"status": "FAILURE", "message": "of an earlier run"}\n')
    analyse(predictions, tmp_path / "out", Idle(says='{"status": "SUCCESS"}\n'))
    predictions.write_text(json.dumps([{"video_id": str(tmp_path), "response": "yes", "gt": "no"}]))
    with pytest.raises(StageFailed, match=r"status\.json says FAILURE: .*no memory"):
        analyse(predictions, tmp_path / "out", Idle(says='{"status": "FAILURE", "message": "no memory"}\n'))


def test_action_that_leaves_nothing_is_a_failure(tmp_path, predictions):
    with pytest.raises(StageFailed, match=r"left no .*bcq_summary\.json"):
        analyse(predictions, tmp_path / "out", Idle())


def test_messages_of_an_action_reach_the_log_of_the_run(tmp_path, predictions):
    state = analyse(predictions, tmp_path / "out", return_state=True)
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        logs = client.read_logs(LogFilter(flow_run_id={"any_": [state.state_details.flow_run_id]}))
    assert "Execution status: PASS" in [log.message for log in logs]


def test_unknown_runtime_says_what_to_give():
    with pytest.raises(InputError, match="use inline"):
        load_runtime("inline-runtime/absent")


class AskedRuntime(InlineRuntime):
    """Keeps what it was asked, as a runtime of containers would need it."""

    _block_type_slug = "asked-runtime"
    _asked: list[ActionRequest] = PrivateAttr(default_factory=list)

    def run(self, request):
        self._asked.append(request)
        outcome = super().run(request)
        return outcome.model_copy(update={"adopted": True})


def test_a_runtime_is_told_what_a_container_must_be_shown(tmp_path, predictions):
    runtime = AskedRuntime()
    result = analyse(predictions, tmp_path / "out", runtime)
    (asked,) = runtime._asked
    assert asked.paths["predictions_json"] == predictions
    assert asked.paths["results_dir"] == tmp_path / "out"
    assert tmp_path / "out" in asked.results
    assert predictions not in asked.results
    assert asked.key == result.digest
    assert asked.image == "images.tao_toolkit.data_services"
    assert not asked.gpu


def test_files_of_adopted_work_may_be_older_than_this_process(tmp_path, predictions):
    analyse(predictions, tmp_path / "out")

    class Adopting(AskedRuntime):
        """Finds its work done already."""

        _block_type_slug = "adopting-runtime"

        def run(self, request):
            return ActionOutcome(exit_status=0, error="", seconds=1.0, adopted=True)

    @flow
    def again():
        values = {"predictions_json": predictions, "results_dir": tmp_path / "out"}
        return run_stage("gap_analysis", "vlm_bcq", values, Adopting(), refresh=True)

    assert again().adopted


def test_a_call_that_the_runtime_refuses_is_one_line(tmp_path, predictions):
    class Refusing(InlineRuntime):
        """Takes no call."""

        _block_type_slug = "refusing-runtime"

        def run(self, request):
            raise ValueError("no Docker daemon answers; start it")

    with pytest.raises(InputError, match="gap_analysis vlm_bcq: no Docker daemon answers; start it"):
        analyse(predictions, tmp_path / "out", Refusing())


SAVE_AND_LOAD = """
from blocks.docker_runtime import DockerRuntime
from blocks.work_pool_runtime import WorkPoolRuntime
DockerRuntime(mounts=["/srv"]).save("of-a-test", overwrite=True)
WorkPoolRuntime(deployment="run-action/docker").save("of-a-test", overwrite=True)
"""
LOAD = """
from tasks.stage import load_runtime
for name in ("docker-runtime/of-a-test", "work-pool-runtime/of-a-test"):
    print(type(load_runtime(name)).__name__)
"""


def test_a_process_that_has_imported_no_runtime_can_load_one(tmp_path):
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()}
    for program in (SAVE_AND_LOAD, LOAD):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["DockerRuntime", "WorkPoolRuntime"]


def pages_of(state):
    """The Markdown artifacts of a flow run, by key."""
    run = UUID(str(state.state_details.flow_run_id))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id={"any_": [run]}))
    return {artifact.key: artifact for artifact in found}


def test_a_stage_shows_its_headline_where_it_was_computed_and_its_files(tmp_path, predictions):
    page = pages_of(analyse(predictions, tmp_path / "out", return_state=True))["gap-analysis-vlm-bcq"]
    assert page.type == "markdown"
    assert page.description.startswith("2 of 3 (66.7 %) answers are right")
    assert "| /a.mp4 | FP |" in page.data
    assert " s on `inline`." in page.data
    assert f"| `predictions_json` | `{sha256_of(predictions)[:12]}` | `{predictions}` |" in page.data
    assert "`bcq_summary.json`" in page.data


def test_a_cached_stage_shows_whose_work_it_is(tmp_path, predictions):
    first = analyse(predictions, tmp_path / "out")
    state = analyse(predictions, tmp_path / "other", return_state=True)
    page = pages_of(state)["gap-analysis-vlm-bcq"]
    assert f"Computed by the run `{first.computed_by}` on {first.finished[:10]}" in page.data
    assert f"in the folder `{tmp_path / 'out'}`" in page.data


def test_a_page_that_cannot_be_made_fails_no_stage(tmp_path, predictions, monkeypatch, caplog):
    def no_headline(spec):
        raise KeyError("n_fp")

    action = find_action("gap_analysis", "vlm_bcq")
    monkeypatch.setitem(vars(action), "code", replace(VLM_BCQ, headline=no_headline))
    state = analyse(predictions, tmp_path / "out", return_state=True)
    assert state.is_completed()
    assert "its page cannot be made: KeyError" in caplog.text
    assert not pages_of(state)
