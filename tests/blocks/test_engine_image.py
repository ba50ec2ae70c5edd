"""The engine's image does what the package does, as any user, with nothing but its mounts."""

import io
import re
from hashlib import sha256

import pytest
import yaml

from deployments.image import CONFINED, Recipe, build_image, smoke_test
from tasks.registry import ACTIONS, CATEGORIES, run_in_process
from tests.docker_images import PACKAGES, make_wheel
from tests.tasks.changenet.conftest import values_for, write_set

pytestmark = pytest.mark.slow

TORCH = "2.9.0a0+50eac811a6.nv25.9"
EVERY_FLOW = """
from importlib import import_module, util
from flows import FLOWS
for place in FLOWS.values():
    import_module(place.split(":")[0])
print("torch:", util.find_spec("torch"))
"""
EVERY_SPEC = """
import logging, sys
import tasks.anomalygen.generate, tasks.changenet.work, tasks.classifier.work, tasks.embedding.encoders
import torch, transformers
from tasks.registry import ACTIONS, run_in_process
logging.basicConfig(stream=sys.stdout, level="INFO", format="%(message)s")
for action in ACTIONS:
    print("==", action.title, flush=True)
    run_in_process(action.category, [action.name, "--cfg=job"])
"""


def said(client, image, *command, **given):
    return client.containers.run(
        image, list(command), remove=True, stderr=True, **{**CONFINED, **given}
    ).decode()


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_is_a_command(docker_engine, engine_image, category):
    answer = said(docker_engine, engine_image, category, "--help")
    for action in ACTIONS:
        assert (f"  {action.title}\n" in answer) == (action.category == category)


def test_every_action_has_its_packages(docker_engine, engine_image):
    answer = said(docker_engine, engine_image, "python3", "-c", EVERY_SPEC)
    for action, part in zip(ACTIONS, answer.split("== ")[1:], strict=True):
        assert part.startswith(action.title)
        assert re.search("^Execution status: (PASS|FAIL)$", part, re.MULTILINE), part
        assert "needs the package" not in part
        assert "a defect of deft-flows" not in part


def test_image_is_labelled_and_not_for_root(docker_engine, engine_image):
    facts = docker_engine.images.get(engine_image).attrs["Config"]
    labels = facts["Labels"]
    assert labels["org.opencontainers.image.title"] == "deft-flows"
    assert labels["org.opencontainers.image.version"]
    assert facts["User"] not in ("", "0", "root")
    assert said(docker_engine, engine_image, "bash", "-c", "id -u; ls -A .", user="") == "65532\n"


def test_nothing_of_the_build_is_left(docker_engine, engine_image):
    left = said(docker_engine, engine_image, "bash", "-c", "ls -A /src /tmp /root /work 2>&1; true")
    assert not re.search("whl|constraints|cache", left)
    assert "/src': No such file" in left


def test_orchestrator_has_flows_and_no_torch(docker_engine, orchestrator_image):
    assert smoke_test(docker_engine, orchestrator_image, engine=False)
    answer = said(docker_engine, orchestrator_image, "python3", "-c", EVERY_FLOW)
    assert answer.endswith("torch: None\n")
    assert said(docker_engine, orchestrator_image, "prefect", "--version").strip()
    # Prefect starts flows with the interpreter of its own command.
    interpreter = said(docker_engine, orchestrator_image, "bash", "-c", 'head -n 1 "$(command -v prefect)"')
    assert interpreter == "#!/opt/deft/bin/python\n"


def test_torch_of_the_base_stays_against_constraints_of_both_sides(docker_engine, engine_image, tmp_path):
    lines = (
        *(
            f"FROM {engine_image.replace('engine:', 'engine-base:')}",
            "ENV PIP_CONSTRAINT=/etc/pip/constraint.txt",
        ),
        "RUN mkdir -p /etc/pip; echo numpy==1.26.4 > $PIP_CONSTRAINT",
        f"RUN cd /{PACKAGES}; mv torch-*.dist-info torch-{TORCH}.dist-info; "
        f"sed -i 's/^Version: .*/Version: {TORCH}/' torch-{TORCH}.dist-info/METADATA",
    )
    base, tag = "deft-test-image/vendor-base:1", "deft-test-image/vendor:1"
    docker_engine.images.build(fileobj=io.BytesIO("\n".join(lines).encode()), tag=base, network_mode="none")
    make_wheel(tmp_path)
    try:
        build_image(docker_engine, Recipe(tag=tag, base=base, wheels=tmp_path))
        code = "import importlib.metadata as m, torch; print(m.version('torch'), torch.__file__)"
        answer = said(docker_engine, tag, "python3", "-c", code)
    finally:
        for made in (tag, base):
            docker_engine.images.remove(made, force=True)
    assert answer == f"{TORCH} /{PACKAGES}/torch/__init__.py\n"


def test_training_and_inference_are_equal_to_those_in_process(docker_engine, engine_image, tmp_path):
    tmp_path.chmod(0o755)
    results = tmp_path / "results"
    for name, seed in (("train", 1), ("validation", 2), ("kpi", 3)):
        write_set(tmp_path, name, 9, 5, seed=seed)
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(values_for(tmp_path, results)))

    for name in ("train", "inference"):
        assert run_in_process("visual_changenet", [name, "-e", str(spec)]) == 0
    here = hashes(results)
    results.rename(tmp_path / "in-process")
    results.mkdir()
    results.chmod(0o777)  # the container's user owns nothing here
    mounts = {
        str(tmp_path): {"bind": str(tmp_path), "mode": "ro"},
        str(results): {"bind": str(results), "mode": "rw"},
    }
    for name in ("train", "inference"):
        answer = said(docker_engine, engine_image, "visual_changenet", name, "-e", str(spec), volumes=mounts)
        assert answer.endswith("Execution status: PASS\n")
    there = hashes(results)
    assert there == here
    assert {"train/changenet_model_classify_latest.pth", "inference/inference.csv"} <= set(here)


def hashes(results):
    """The files that hold no time of day, by name."""
    return {
        str(file.relative_to(results)): sha256(file.read_bytes()).hexdigest()
        for file in results.rglob("*")
        if file.is_file() and file.suffix in (".pth", ".csv")
    }
