"""The loop with every stage in a container of our image, behind an air gap: it leaves what inline leaves."""

import os
import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from blocks.docker_runtime import DockerRuntime
from flows.deft_aoi import deft_aoi
from tasks.artifacts import read_json

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

RESULTS = (".pth", ".csv", ".parquet", ".png", ".jpg")
CLOCK = re.compile(r"\d{4}-\d{2}-\d{2}_\d{6}")


def hashes(folder):
    """The files that hold results, by their place; folders named by the clock go by one name."""
    files = [path for path in folder.rglob("*") if path.suffix in RESULTS]
    return {
        CLOCK.sub("CLOCK", str(path.relative_to(folder))): sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def loop(workspace, runtime):
    state = deft_aoi(
        workspace,
        max_iterations=1,
        metric="FAR < 0% at Recall=100%",
        min_similarity=-1.0,
        topn=2,
        num_sdg=6,
        results_dir=workspace / "results" / "run",
        runtime=runtime,
    )
    assert state.status == "complete"
    return hashes(state.results_dir)


def test_behind_the_air_gap_every_stage_in_a_container(
    workspace, tmp_path, engine_image, docker_engine, monkeypatch
):
    versions = tmp_path / "versions.yaml"
    versions.write_text(yaml.safe_dump({"images": {"native": {"engine": engine_image}}}))
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(versions))
    monkeypatch.setenv("AIR_GAPPED", "1")
    DockerRuntime(
        mounts=[str(workspace)], engine="native", gpus="", concurrency_limit=None, allow_root=os.getuid() == 0
    ).save("of-a-test", overwrite=True)
    fresh = shutil.copytree(workspace, tmp_path / "fresh")
    inline = loop(workspace, "inline")
    shutil.rmtree(workspace)
    shutil.copytree(fresh, workspace)
    assert loop(workspace, "docker-runtime/of-a-test") == inline
    assert len(inline) > 20
    records = [read_json(file) for file in Path(workspace).rglob("jobs/*.json")]
    assert {record["state"] for record in records} == {"COMPLETE"}
    assert {record["image"] for record in records} == {engine_image}
    logs = {path.with_suffix(".log").name for path in Path(workspace).rglob("jobs/*.json")}
    assert {"train.log", "inference.log", "vcn_aoi.log", "route.log", "generate.log"} <= logs
    assert not docker_engine.containers.list(all=True, filters={"label": "deft.stage=visual_changenet train"})
