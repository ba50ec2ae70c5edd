from pathlib import Path

import pandas as pd
import pytest
import yaml

from tasks.artifacts import read_json
from tasks.errors import StageFailed, TargetUnreachable
from tasks.gap_analysis.report.inputs import Origin
from tasks.gap_analysis.report.writer import write_report
from tasks.gap_analysis.spot_check import SpotCheck

ROWS = [
    *((0.01 * number, "PASS") for number in range(30)),
    *((0.25 + 0.01 * number, "open" if number % 2 else "short") for number in range(20)),
]
OF_THE_SPECIFICATION = {
    "kpi_gaps.parquet", "weak_samples.parquet", "threshold.txt", "metrics.json", "weak_samples_breakdown.txt",
    "rca_images", "RCA_Report.md", "validation.json", "rca_config", "run.log",
}  # fmt: skip
"""The tree of spec A.10, less the spec file, which the caller of the action writes."""

OURS = {"score_histogram.png", "spot_check.json", "spot_check_verdicts.csv", "vcn_aoi.log"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def spec(analysed, inference):
    folder = analysed(ROWS)
    (folder / "vcn_aoi.log").write_text("Threshold: 0.24\n")
    return inference.spec(kpi_media_path=inference.root / "data")


def test_folder_is_that_of_the_specification(spec):
    report = write_report(spec, SpotCheck(), Origin(computed_by="shy-fox", seconds=0.5))
    assert names(spec.results_dir) == OF_THE_SPECIFICATION | OURS
    assert len(list((spec.results_dir / "rca_images").iterdir())) == 10
    assert "shy-fox" in report.read_text(encoding="utf-8")
    assert "Threshold: 0.24" in (spec.results_dir / "run.log").read_text()
    validation = read_json(spec.results_dir / "validation.json")
    assert validation["status"] == "ok"
    assert validation["words"] >= 1000


def test_settings_are_laid_beside_the_report(spec):
    write_report(spec, SpotCheck(judge="none"))
    config = spec.results_dir / "rca_config"
    assert names(config) == {"resolved_parameters.yaml", "report_inputs.json", "train.yaml"}
    resolved = yaml.safe_load((config / "resolved_parameters.yaml").read_text())
    assert resolved["top_k_per_label"] == 50
    assert resolved["min_recall"] is None


def test_component_family_is_told_where_the_csv_has_it(spec, inference):
    table = pd.read_csv(inference.csv, dtype=str)
    table.assign(comp_type_1="leaded", comp_type_2="diode").to_csv(inference.csv, index=False)
    text = write_report(spec, SpotCheck()).read_text(encoding="utf-8")
    assert "| PASS | leaded / diode | Top |" in text


def test_person_is_asked_by_a_table_to_fill(spec):
    report = write_report(spec, SpotCheck(judge="manual"))
    assert "pending review" in report.read_text(encoding="utf-8")
    assert read_json(spec.results_dir / "validation.json")["status"] == "ok"


def test_report_that_does_not_hold_fails_and_is_not_packaged(spec):
    write_report(spec, SpotCheck())
    (spec.results_dir / "threshold.txt").write_text("0.1")
    with pytest.raises(StageFailed, match=r"says threshold 0\.24"):
        write_report(spec, SpotCheck())
    assert read_json(spec.results_dir / "validation.json")["status"] == "error"
    assert not (spec.results_dir / "run.log").exists()


def test_unreachable_target_has_a_report_and_no_pictures(inference):
    inference.write([(0.1, "PASS"), (0.4, "PASS")])
    with pytest.raises(TargetUnreachable):
        inference.run()
    write_report(inference.spec(), SpotCheck())
    assert names(inference.results) == {
        "unreachable_kpi.txt", "RCA_Report.md", "validation.json", "rca_config", "run.log"
    }  # fmt: skip
