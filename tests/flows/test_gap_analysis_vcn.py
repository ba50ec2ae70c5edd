import pandas as pd
import pyarrow.parquet as pq
import pytest

from flows.gap_analysis_vcn import gap_analysis_vcn
from tasks.errors import InputError, TargetUnreachable
from tasks.gap_analysis.spot_check import SpotCheck

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def inference(workspace):
    """Scores for the KPI set of a sample workspace: every defect above every good board but one."""
    table = pd.read_csv(workspace / "kpi" / "testing_set.csv", dtype=str)
    table["siamese_score"] = [0.8 if label != "PASS" else 0.1 for label in table["label"]]
    table.loc[(table["label"] == "PASS").idxmax(), "siamese_score"] = 0.9
    folder = workspace / "scored" / "inference"
    folder.mkdir(parents=True)
    table.to_csv(folder / "inference.csv", index=False)
    return folder


def analyse(workspace, inference, **more):
    spec = workspace / "specs" / "baseline_spec.yaml"
    return gap_analysis_vcn(inference, spec, str(workspace / "images"), **more)


def test_weakest_samples_are_real_image_files(workspace, inference):
    gaps = analyse(workspace, inference, top_k_per_label=3)
    assert gaps.threshold == 0.1
    assert gaps.stage.folder.parent == workspace / "scored" / "rca_results"
    rows = pq.read_table(gaps.gaps_parquet).to_pylist()
    assert rows
    assert all(pd.io.common.file_exists(row["filepath"]) for row in rows)


def test_wrong_image_root_stops_the_flow_with_three_examples(workspace, inference):
    with pytest.raises(InputError, match="GAP-E07"):
        gap_analysis_vcn(inference, workspace / "specs" / "baseline_spec.yaml", "/nowhere")


def test_unreachable_target_is_its_own_error_and_says_what_can_be_reached(workspace, inference):
    with pytest.raises(TargetUnreachable):
        analyse(workspace, inference, threshold=0.85, min_recall=1.0, results_dir=workspace / "out")
    assert (workspace / "out" / "unreachable_kpi.txt").read_text()
    assert not (workspace / "out" / "kpi_gaps.parquet").exists()
    report = (workspace / "out" / "RCA_Report.md").read_text(encoding="utf-8")
    assert "cannot be reached" in report


def test_existing_clock_folder_is_not_used_again(workspace, inference):
    first = analyse(workspace, inference).stage.folder
    second = analyse(workspace, inference).stage.folder
    assert first != second
    assert (second / "kpi_gaps.parquet").is_file()


def test_report_stands_beside_the_figures(workspace, inference):
    gaps = analyse(workspace, inference)
    text = gaps.report.read_text(encoding="utf-8")
    assert text.startswith("# VCN Gap Analysis Report: ws / scored\n")
    assert "computed for this report by the flow run" in text
    assert "](<rca_images/" in text
    assert (gaps.stage.folder / "run.log").is_file()


def test_cached_analysis_has_its_report_too(workspace, inference):
    first = analyse(workspace, inference, results_dir=workspace / "one")
    second = analyse(workspace, inference, results_dir=workspace / "two", spot_check=SpotCheck(judge="none"))
    assert second.stage.cached
    text = second.report.read_text(encoding="utf-8")
    assert f"taken from the cache. It was computed by the flow run {first.stage.computed_by}" in text
    assert f"`{workspace / 'one'}`" in text
    assert "Nobody looked at the pictures" in text
    assert (workspace / "two" / "vcn_aoi_spec.yaml").is_file()
    assert (workspace / "two" / "rca_config" / "vcn_aoi_spec.yaml").is_file()
