"""What a site saves: written to a real server, read back by name, shown to nobody who must not see it."""

import httpx
import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from blocks.credentials import Credentials
from blocks.encoder import Encoder
from blocks.images import Images
from blocks.metric_contract import MetricContractBlock
from blocks.work_pool_runtime import WorkPoolRuntime
from blocks.workspace import Workspace
from tasks.evaluation.contract import MetricContract

DIGEST = "sha256:" + "0" * 64
FAR = {"name": "far_pct", "display_name": "FAR", "operator": "<", "target": 10, "unit": "%"}
RECALL = {"name": "recall_pct", "display_name": "Recall", "operator": ">=", "target": 99, "unit": "%"}
SITE = {
    Workspace: {"root": "/data/line-3"},
    Encoder: {"kind": "SigLIP", "path": "/models/siglip"},
    MetricContractBlock: {**FAR, "constraints": [RECALL]},
    Credentials: {"owner": "line 3"},
    Images: {"engine": "site/engine:7"},
    WorkPoolRuntime: {"deployment": "run-action/docker"},
}
KINDS = pytest.mark.parametrize("kind", SITE, ids=lambda kind: kind.__name__)


@KINDS
class TestEverySiteBlock(BlockStandardTestSuite):
    # The project has no public site yet, so blocks link to no page and no logo.
    test_has_a_documentation_url = None
    test_has_a_valid_image = None

    @pytest.fixture
    def block(self, kind):
        return kind


@KINDS
def test_every_field_has_a_title_and_a_description(kind):
    fields = kind.model_json_schema()["properties"]
    assert all(field.get("title") and field.get("description") for field in fields.values())


@KINDS
def test_block_of_only_defaults_cannot_be_as_prefect_could_not_pass_it(kind):
    with pytest.raises(ValidationError):
        kind()


@KINDS
@pytest.mark.usefixtures("prefect_server")
def test_saved_block_is_loaded_by_name_and_its_type_registered_once(kind):
    block = kind(**SITE[kind])
    for _ in range(2):
        kind.register_type_and_schema()
        block.save("line-3", overwrite=True)
    loaded = Block.load(f"{kind.get_block_type_slug()}/line-3")
    assert type(loaded) is kind
    assert loaded.model_dump() == block.model_dump()
    with get_client(sync_client=True) as client:
        types = client.request("POST", "/block_types/filter", json={}).json()
        slugs = [each["slug"] for each in types]
        assert slugs.count(kind.get_block_type_slug()) == 1


@pytest.mark.usefixtures("prefect_server")
def test_keys_are_given_on_and_shown_to_nobody():
    saved = Credentials(
        owner="line 3",
        ngc_key=SecretStr("planted-ngc"),
        wandb_api_key=SecretStr(""),
        extra={"SITE_TOKEN": "planted-site"},
    )
    saved.save("keys", overwrite=True)
    loaded = Credentials.load("keys")
    assert loaded.environment() == {"NGC_KEY": "planted-ngc", "SITE_TOKEN": "planted-site"}
    address = f"{PREFECT_API_URL.value()}/block_types/slug/credentials/block_documents/name/keys"
    shown = httpx.get(address).raise_for_status()
    assert shown.json()["data"]["owner"] == "line 3"
    assert "planted" not in shown.text + repr(loaded) + str(loaded.model_dump())


@pytest.mark.parametrize("name", ["", "A B", "A=B", "1A", "A;rm"])
def test_name_of_no_environment_variable_is_refused(name):
    with pytest.raises(ValidationError):
        Credentials(owner="x", extra={name: "y"})


def test_site_image_stands_before_the_versions_file(tmp_path, monkeypatch):
    file = tmp_path / "versions.yaml"
    file.write_text("images: {tao_toolkit: {pyt: 'upstream/pyt:1', deploy: 'upstream/deploy:1'}}")
    monkeypatch.setenv("TAO_VERSIONS_FILE", str(file))
    images = Images(engine="site/engine:7", data_services=f"site/ds@{DIGEST}")
    assert images.uri("images.native.engine") == "site/engine:7"
    assert images.uri("images.tao_toolkit.data_services") == f"site/ds@{DIGEST}"
    assert images.uri("images.tao_toolkit.pyt") == "upstream/pyt:1"
    assert images.uri("images.tao_toolkit.deploy") == "upstream/deploy:1"
    with pytest.raises(ValueError, match=r"no image under images\.metropolis_sdg\.paidf_anomalygen"):
        images.uri("images.metropolis_sdg.paidf_anomalygen")


@pytest.mark.parametrize(
    "reference",
    ["engine:1", "a/b/c:1.2-x_3", "reg.example.com:5000/a/b:1", f"reg/a@{DIGEST}", f"reg/a:1@{DIGEST}"],
)
def test_image_with_tag_or_digest(reference):
    assert Images(engine=reference).engine == reference


@pytest.mark.parametrize(
    "reference",
    [
        "", "engine", "reg:5000/engine", "engine:", "Engine:1", "a b:1", "a:1; rm -rf /", "$(id):1", "`id`:1",
        "--privileged", "-v:1", "a:1 -v /:/host", "a:1\n", "a:1'", "a//:1", "a@sha256:12", "a:1@md5:0", "ä:1",
    ],
)  # fmt: skip
def test_image_that_is_no_reference(reference):
    with pytest.raises(ValidationError):
        Images(engine=reference)


def test_relative_workspace_is_refused():
    with pytest.raises(ValidationError, match="must be an absolute path"):
        Workspace(root="data/line-3")


@pytest.mark.parametrize(
    ("evaluator", "kind"),
    [
        (None, "builtin"),
        ({"type": "command", "executable": "/opt/site/measure"}, "command"),
        ({"type": "artifact", "producer": "line 7", "path": "/r/{iter_label}.json"}, "artifact"),
    ],
)
def test_saved_contract_is_a_metric_contract(evaluator, kind):
    block = MetricContractBlock(
        **{**FAR, "constraints": [RECALL]}, **({"evaluator": evaluator} if evaluator else {})
    )
    contract = MetricContract.of(block.contract())
    assert contract.evaluator.type == kind
    assert contract.constraints == MetricContract.parse("FAR < 10% at Recall=99%").constraints


def test_contract_block_has_the_fields_of_the_contract():
    own = MetricContractBlock.model_fields.keys() - Block.model_fields.keys()
    assert own == MetricContract.model_fields.keys()
