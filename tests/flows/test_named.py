from pathlib import Path

import pytest

from blocks.encoder import Encoder
from blocks.metric_contract import MetricContractBlock
from blocks.workspace import Workspace
from flows.deft_aoi import deft_aoi
from flows.named import encoder_named, metric_named, workspace_root
from tasks.errors import InputError

pytestmark = pytest.mark.usefixtures("prefect_server")

FAR = {"name": "far_pct", "display_name": "FAR", "operator": "<", "target": 10, "unit": "%"}


class TestWorkspace:
    def test_folder_is_taken_as_it_is(self, tmp_path):
        assert workspace_root(tmp_path) == tmp_path

    def test_saved_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Workspace(root=tmp_path / "data").save("line-3", overwrite=True)
        assert workspace_root(Path("workspace/line-3")) == tmp_path / "data"

    def test_folder_of_that_name_wins(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Workspace(root=tmp_path / "data").save("line-3", overwrite=True)
        (tmp_path / "workspace" / "line-3").mkdir(parents=True)
        assert workspace_root(Path("workspace/line-3")) == Path("workspace/line-3")

    @pytest.mark.parametrize("given", ["absent", "work/line-3", "workspace/a/b", "/workspace/line-3"])
    def test_path_that_is_no_name_is_left_to_whoever_opens_it(self, given):
        assert workspace_root(Path(given)) == Path(given)

    def test_name_that_nobody_saved(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(
            InputError, match="no folder workspace/absent here, and no workspace of that"
        ) as said:
            workspace_root(Path("workspace/absent"))
        assert "\n" not in str(said.value)


class TestMetric:
    @pytest.mark.parametrize("given", ["FAR < 10% at Recall=100%", FAR, "nonsense"])
    def test_other_forms_are_taken_as_they_are(self, given):
        assert metric_named(given) is given

    def test_saved_name(self):
        MetricContractBlock(**FAR).save("tight", overwrite=True)
        metric = metric_named("metric-contract/tight")
        assert {name: metric[name] for name in FAR} == FAR
        assert metric["evaluator"] == {"type": "builtin", "id": "far_at_recall"}

    def test_saved_contract_that_cannot_be_held(self):
        MetricContractBlock(**{**FAR, "unit": "ms"}).save("odd", overwrite=True)
        with pytest.raises(
            InputError, match=r"metric-contract/odd: .*far_pct with unit 'ms'.*correct the saved"
        ):
            metric_named("metric-contract/odd")

    def test_name_that_nobody_saved(self):
        with pytest.raises(InputError, match=r"metric metric-contract/absent: .*save one in the UI"):
            metric_named("metric-contract/absent")


class TestEncoder:
    @pytest.fixture(autouse=True)
    def saved(self):
        Encoder(kind="SigLIP", path="/models/siglip").save("site", overwrite=True)

    @pytest.mark.parametrize("path", [None, "/models/clip", "openai/clip-vit-base-patch32"])
    def test_other_paths_are_taken_as_they_are(self, path):
        assert encoder_named("CLIP", path) == ("CLIP", path)

    @pytest.mark.parametrize("encoder", ["ChangeNet", "SigLIP"])
    def test_saved_name(self, encoder):
        assert encoder_named(encoder, "encoder/site") == ("SigLIP", "/models/siglip")

    def test_saved_encoder_of_another_kind(self):
        with pytest.raises(InputError, match="encoder/site is a SigLIP encoder, not CLIP"):
            encoder_named("CLIP", "encoder/site")

    def test_name_that_nobody_saved(self):
        with pytest.raises(InputError, match="encoder_path encoder/absent: "):
            encoder_named("SigLIP", "encoder/absent")


def test_loop_takes_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Workspace(root=tmp_path / "data").save("line-3", overwrite=True)
    with pytest.raises(InputError, match=str(tmp_path / "data")):
        deft_aoi(workspace=Path("workspace/line-3"), max_iterations=1)
    with pytest.raises(InputError, match="metric-contract/absent"):
        deft_aoi(workspace=tmp_path, max_iterations=1, metric="metric-contract/absent")
