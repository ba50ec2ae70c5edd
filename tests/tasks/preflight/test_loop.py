"""Section 6: settings of the loop, its metric, and what augmentation needs."""

import numpy as np
import pytest
from PIL import Image


def rows_of(finding):
    return {row[0]: row[-1] for row in finding.rows}


def test_the_run_configuration_has_every_row(found):
    rows = rows_of(found("loop.config", resuming=True))
    assert rows["KPI target"] == "FAR < 10% at Recall=100%"
    assert rows["epochs of each training"] == "1, from the base spec"
    assert rows["stops"] == "as soon as the KPI target holds, or after 3 iterations"
    assert rows["synthetic pairs an iteration (num SDG)"] == "20"
    assert rows["neighbours of each weak sample (top-K)"] == "5"
    assert rows["least similarity (cutoff)"] == "0.9"
    assert rows["GPUs"] == "none"
    assert rows["resuming"] == "an unfinished run is taken up"
    assert rows["baseline"] == "phase 1"


@pytest.mark.parametrize(
    ("loop", "said"),
    [
        ({"max_iterations": 0}, "max_iterations"),
        ({"sdg_source": "anomalygen"}, "needs a runtime that starts NVIDIA's image"),
        ({"sdg_source": "pregenerated"}, "goes with sdg_source=pregenerated"),
        ({"surprise": 1}, "unknown key surprise"),
    ],
)
def test_settings_that_the_loop_refuses_block(found, loop, said):
    finding = found("loop.config", loop=loop)
    assert finding.outcome == "block"
    assert said in finding.text


def test_a_metric_that_cannot_be_read_blocks(found):
    assert found("loop.metric", loop={"metric": "better than before"}).outcome == "block"


def test_an_evaluator_that_is_not_there_blocks(found):
    metric = {
        "name": "escapes", "display_name": "Escapes", "operator": "<=", "target": 0, "unit": "boards",
        "evaluator": {"type": "command", "executable": "/opt/no/such"},
    }  # fmt: skip
    assert rows_of(found("loop.config", loop={"metric": metric}))["KPI target"] == "Escapes <= 0 boards"
    finding = found("loop.metric", loop={"metric": metric})
    assert finding.outcome == "block"
    assert "/opt/no/such: no such file" in finding.text


@pytest.mark.parametrize(
    ("loop", "network", "outcome", "status"),
    [
        ({"encoder": "SigLIP"}, None, "ok", "will fetch from the hub"),
        ({"encoder": "SigLIP"}, "airgap", "block", "MISSING (offline)"),
        ({"encoder": "CLIP", "encoder_path": "/no/such"}, None, "block", "MISSING"),
    ],
)
def test_the_encoder(found, loop, network, outcome, status):
    finding = found("loop.assets", loop=loop, network_mode=network)
    assert finding.outcome == outcome
    assert rows_of(finding)[f"encoder {loop['encoder']}"] == status


def test_weights_in_the_hub_cache_serve_offline(found, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = tmp_path / "models--google--siglip-base-patch16-224/snapshots/abc"
    commit.mkdir(parents=True)
    (commit / "config.json").write_text("{}")
    refs = commit.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    finding = found("loop.assets", loop={"encoder": "SigLIP"}, network_mode="airgap")
    assert rows_of(finding)["encoder SigLIP"] == "FOUND in the hub's cache"


def test_the_container_generator_needs_its_data_and_its_weights(found, workspace):
    loop = {"sdg_source": "anomalygen"}
    rows = rows_of(found("loop.assets", loop=loop, network_mode="airgap"))
    assert rows["generator checkpoint"] == "MISSING"
    assert rows["generator base models"] == "MISSING (offline)"
    assert rows["defect spec"].startswith("MISSING")

    assets = workspace / "augmentation/anomalygen"
    for folder in ("checkpoints/board", "base_checkpoints"):
        (assets / folder).mkdir(parents=True)
        (assets / folder / "weights.pt").write_bytes(b"0")
    data = assets / "datasets/board"
    for kind in ("clean_image", "cad_mask"):
        (data / "board" / kind).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), (33, 243, 3), np.uint8)).save(data / "board" / kind / "a.png")
    (data / "semantic_segmentation_labels.json").write_text('{"(33, 243, 3, 255)": {"class": "pad"}}')
    (data / "defect_spec.jsonl").write_text('{"defect_type": "board+bridge"}\n')
    finding = found("loop.assets", loop=loop, network_mode="airgap")
    assert finding.outcome == "ok"
    assert rows_of(finding)["defect spec"] == "FOUND: 1 clean pictures"
