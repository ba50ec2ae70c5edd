import asyncio
import importlib
import json

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError
from prefect.flows import load_flow_from_entrypoint

from flows import FLOWS
from flows.gap_analysis_vlm_bcq import gap_analysis_vlm_bcq
from tests.flows.running import reached, served_run

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_flow_runs_from_a_deployment(tmp_path):
    predictions = tmp_path / "predictions.json"
    predictions.write_text(json.dumps([{"video_id": str(tmp_path), "response": "yes", "gt": "no"}]))
    parameters = {"predictions_json": str(predictions), "results_dir": str(tmp_path / "out")}

    async def start_and_wait():
        async with get_client() as client, served_run(client, gap_analysis_vlm_bcq, parameters) as run_id:
            return await reached(client, run_id, looks=120)

    state = asyncio.run(start_and_wait())
    assert state.is_completed(), state
    assert (tmp_path / "out" / "kpi_gaps.jsonl").is_file()


@pytest.mark.parametrize("code_at", FLOWS.values(), ids=FLOWS)
def test_flow_loaded_by_path_knows_its_parameter_types(code_at):
    # A deployment loads a flow from its file under another module name, where lazy annotations
    # cannot be resolved: the flow would fail at its first run.
    module, name = code_at.split(":")
    path = importlib.import_module(module).__file__
    deployed = load_flow_from_entrypoint(f"{path}:{name}")
    with pytest.raises(ParameterTypeError, match="Field required"):
        deployed.validate_parameters({})
