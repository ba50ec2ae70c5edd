import json

import pytest
from prefect.testing.standard_test_suites import BlockStandardTestSuite

from blocks.runtime import ActionRequest, InlineRuntime


class TestInlineRuntimeBlock(BlockStandardTestSuite):
    # The project has no public site yet, so blocks link to no page and no logo.
    test_has_a_documentation_url = None
    test_has_a_valid_image = None

    @pytest.fixture
    def block(self):
        return InlineRuntime


def request(tmp_path, predictions):
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps(predictions))
    return ActionRequest(
        category="gap_analysis",
        argv=["vlm_bcq", f"predictions_json={file}", f"results_dir={tmp_path / 'out'}"],
        image="images.tao_toolkit.data_services",
        log_file=tmp_path / "logs" / "bcq.log",
    )


def test_action_runs_in_process_and_logs_to_its_file(tmp_path):
    asked = request(tmp_path, [{"video_id": "/a.mp4", "response": "yes", "gt": "no"}])
    outcome = InlineRuntime().run(asked)
    assert (outcome.exit_status, outcome.error) == (0, "")
    assert (tmp_path / "out" / "kpi_gaps.jsonl").is_file()
    assert asked.log_file.read_text().splitlines()[-1] == "Execution status: PASS"


def test_failed_action_gives_its_status_and_error_line(tmp_path):
    asked = request(tmp_path, [{"video_id": "/a.mp4", "response": "yes"}])
    outcome = InlineRuntime().run(asked)
    assert outcome.exit_status == 1
    assert "item 0" in outcome.error
    assert asked.log_file.read_text().splitlines()[-1] == "Execution status: FAIL"


def test_unknown_engine_says_what_to_install(tmp_path):
    with pytest.raises(ValueError, match="no engine 'other'"):
        InlineRuntime(engine="other").run(request(tmp_path, []))
