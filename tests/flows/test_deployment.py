import asyncio
import importlib
import json

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError
from prefect.flows import load_flow_from_entrypoint
from prefect.runner import Runner

from flows import FLOWS
from flows.gap_analysis_vlm_bcq import gap_analysis_vlm_bcq

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_flow_runs_from_a_deployment(tmp_path):
    predictions = tmp_path / "predictions.json"
    predictions.write_text(json.dumps([{"video_id": str(tmp_path), "response": "yes", "gt": "no"}]))
    parameters = {"predictions_json": str(predictions), "results_dir": str(tmp_path / "out")}

    async def start_and_wait():
        runner = Runner(name="test", query_seconds=1)
        async with get_client() as client:
            deployment_id = await runner.aadd_flow(gap_analysis_vlm_bcq, name="test")
            run = await client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
            serving = asyncio.create_task(runner.start())
            for _ in range(120):
                await asyncio.sleep(0.5)
                run = await client.read_flow_run(run.id)
                if run.state.is_final():
                    break
            await runner.astop()
            await serving
            return run.state

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
