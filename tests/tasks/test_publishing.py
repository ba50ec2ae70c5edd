import json
import time
from uuid import UUID, uuid4

import pytest
from PIL import Image
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks import publishing
from tasks.publishing import (
    file_link,
    key_of,
    progress,
    publish_file,
    publish_markdown,
    publish_table,
    with_pictures,
)

SERVER = pytest.mark.usefixtures("prefect_server")


def shown(state):
    """The artifacts of a flow run, by key."""
    run = UUID(str(state.state_details.flow_run_id))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id={"any_": [run]}))
    return {artifact.key: artifact for artifact in found}


def picture(path, size=(40, 30), noise=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.effect_noise(size, 90) if noise else Image.new("RGB", size, "red")
    image.save(path)
    return path


@SERVER
def test_markdown_and_tables_stand_on_the_page_of_the_flow_run(tmp_path):
    @flow
    def show():
        assert publish_markdown("Gap Analysis: iter1", "**x**", "what it is")
        assert publish_table("rows", [{"label": "<b>", "n": 1, "path": tmp_path}])

    found = shown(show(return_state=True))
    assert found["gap-analysis-iter1"].data == "**x**"
    assert found["gap-analysis-iter1"].description == "what it is"
    assert json.loads(found["rows"].data) == [{"label": "<b>", "n": 1, "path": str(tmp_path)}]


@SERVER
def test_a_report_is_shown_with_its_pictures_inside(tmp_path):
    picture(tmp_path / "images" / "a b.png")
    report = tmp_path / "Report.md"
    report.write_text("# R\n\n![a](<images/a b.png>) ![b](images/absent.png)\n")

    @flow
    def show():
        assert publish_file("report", report)
        assert not publish_file("report", tmp_path / "none.md")

    text = shown(show(return_state=True))["report"].data
    assert "![a](data:image/png;base64," in text
    assert f"`{tmp_path}/images/absent.png`" in text
    assert f"The file: `{report}`" in text


def test_a_server_that_is_away_is_a_warning(caplog, monkeypatch):
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid4()))  # as in a process that a worker starts
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        began = time.monotonic()
        assert not publish_markdown("key", "text")
        assert not publish_table("key", [])
        assert time.monotonic() - began < 20
    assert "key is not shown in the server: ConnectError" in caplog.text


def test_outside_of_a_flow_nothing_is_stored():
    assert not publish_markdown("key", "text")


def test_pictures_are_made_smaller_and_then_left_out_where_there_is_no_room(tmp_path):
    picture(tmp_path / "large.png", (900, 900), noise=True)
    text = "![large](large.png)"
    assert with_pictures(text, tmp_path, 3_000_000).startswith("![large](data:image/png")
    smaller = with_pictures(text, tmp_path, 300_000)
    assert smaller.startswith("![large](data:image/jpeg")
    assert len(smaller) < 300_020
    assert with_pictures(text, tmp_path, 100) == f"`{tmp_path}/large.png`"


def test_addresses_are_left_as_they_are(tmp_path):
    text = "![x](https://example.com/a.png) ![y](data:image/png;base64,AAAA)"
    assert with_pictures(text, tmp_path) == text


def test_files_are_links_where_a_web_server_shows_them(tmp_path, monkeypatch):
    path = tmp_path / "a_b (1) [x].csv"
    assert file_link(path) == f"`{path}`"
    monkeypatch.setenv("DEFT_FILES_URL", "http://files:8080/")
    assert (
        file_link(path) == f"[a_b (1) \\[x\\].csv](http://files:8080{tmp_path}/a_b%20%281%29%20%5Bx%5D.csv)"
    )


def test_keys_have_letters_digits_and_dashes_only():
    assert key_of("visual_changenet", "train", "recs", "rec_001") == "visual-changenet-train-recs-rec-001"


def epoch_line(epoch, last, loss=0.5):
    return json.dumps({"epoch": epoch, "max_epoch": last, "kpi": {"val_loss": loss, "epoch": epoch}}) + "\n"


@SERVER
class TestProgress:
    @pytest.fixture(autouse=True)
    def _often(self, monkeypatch):
        monkeypatch.setattr(publishing, "SECONDS", 0.05)

    def run(self, folder, work, offset=0):
        """The progress artifact after `work` has appended to the status file."""
        file = folder / "status.json"

        @task
        def stage():
            title = "visual_changenet train"
            with progress("train progress", title, file, offset), file.open("a") as status:
                work(status)

        @flow
        def train():
            stage()

        return shown(train(return_state=True)).get("train-progress")

    def test_follows_the_epochs_of_the_status_file_to_100_percent(self, tmp_path):
        def work(status):
            for epoch in range(4):
                status.write(epoch_line(epoch, 3, 0.5 - epoch / 10))
                status.flush()
                time.sleep(0.15)

        found = self.run(tmp_path, work)
        assert found.type == "progress"
        assert float(found.data) == 100
        assert found.description == "visual_changenet train: 4 of 4 epochs, lowest validation loss 0.2"

    def test_stays_where_a_training_failed(self, tmp_path):
        def work(status):
            status.write(epoch_line(0, 3))
            status.flush()
            raise OSError("no GPU")

        file = tmp_path / "status.json"

        @flow
        def train():
            with progress("train progress", "train", file, 0), file.open("a") as status:
                work(status)

        found = shown(train(return_state=True))["train-progress"]
        assert float(found.data) == 25

    def test_what_has_no_epochs_has_no_progress(self, tmp_path):
        assert self.run(tmp_path, lambda status: status.write('{"status": "STARTED"}\n')) is None

    def test_lines_of_an_earlier_run_do_not_count(self, tmp_path):
        earlier = epoch_line(3, 3)
        (tmp_path / "status.json").write_text(earlier)
        assert self.run(tmp_path, lambda status: status.write("\n"), offset=len(earlier)) is None

    def test_a_status_file_that_never_comes_is_no_error(self, tmp_path):
        @flow
        def train():
            with progress("train progress", "train", tmp_path / "none" / "status.json", 0):
                return "done"

        assert train() == "done"
