import pytest

from flows.demo import run_demo

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


def test_demo_makes_the_model_better(tmp_path):
    assert run_demo(tmp_path / "demo", seed=0) == 0
