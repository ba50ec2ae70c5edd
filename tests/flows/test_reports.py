import logging
import shutil

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.deft_aoi import deft_aoi
from flows.reports import report_pipeline, reporting

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def finished(tiny_workspace, tmp_path_factory, prefect_server):
    workspace = shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("reports") / "ws")
    return deft_aoi(
        workspace, 1, metric="FAR < 0% at Recall=100%", min_similarity=-1.0, topn=2, sdg_source="none"
    )


def test_a_defect_of_a_report_costs_nothing(tmp_path, caplog):
    with caplog.at_level(logging.WARNING), reporting(tmp_path):
        raise KeyError("panel")
    assert f"report hook failed: KeyError: 'panel'; try again with: deft report {tmp_path}" in caplog.text


def test_a_report_that_cannot_be_written_stops_no_pipeline(tmp_path, caplog):
    (tmp_path / "PIPELINE_Report.html").mkdir()
    (tmp_path / "PIPELINE_Report.html" / "in the way").touch()
    assert report_pipeline(tmp_path) is None
    assert "report hook failed" in caplog.text


def test_a_loop_leaves_its_reports(finished):
    folder = finished.results_dir
    for path in ("DEFT_Loop_Report.html", "iter1/report.html", "iter1_summary.md"):
        assert (folder / path).is_file()
    iteration = finished.phase("iter1")
    reports = (finished.phase("baseline").rca_report, iteration.routing_report, iteration.mining_report)
    for report in reports:
        assert report.is_file()
        assert (report.parent / "run.log").is_file()


@pytest.mark.parametrize(
    ("key", "holds"),
    [
        ("deft-loop", "DEFT_Loop_Report.html"),
        ("rca-report-baseline", "# VCN Gap Analysis Report"),
        ("routing-report-iter1", "# Routing Report"),
        ("data-mining-report-iter1", "# Mining Report"),
        ("visual-changenet-train-baseline", "Where it comes from"),
    ],
)
def test_the_page_of_the_run_shows_them(finished, key, holds):
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    assert found
    assert holds in found[0].data
