from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect import flow

from blocks.runtime import InlineRuntime
from tasks.errors import StageFailed
from tasks.routing.task import Routed, route_gaps

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow
def routing(folder: Path, labels: list[str], name: str) -> Routed:
    gaps = folder / "gaps.parquet"
    pq.write_table(pa.table({"filepath": [f"{label}.png" for label in labels], "label": labels}), gaps)
    pool = folder / "pool.csv"
    pool.write_text("filepath,label\na.png,missing\n")
    values = {"gaps_parquet": gaps, "pool": pool, "supported_defects": ["PASS"], "results_dir": folder / name}
    return route_gaps(values, InlineRuntime())


def test_routing_leaves_its_report(tmp_path: Path):
    routed = routing(tmp_path, ["missing", "PASS", "PASS"], "out")
    assert (routed.to_mining, routed.to_generation) == (1, 2)
    assert "**1 go to mining**" in routed.report.read_text()
    assert (tmp_path / "out" / "run.log").is_file()


def test_a_cached_routing_has_a_report_of_its_own(tmp_path: Path):
    first = routing(tmp_path, ["missing", "PASS"], "first")
    second = routing(tmp_path, ["missing", "PASS"], "second")
    assert second.report.parent != first.report.parent
    assert f"taken from {tmp_path}/first" in second.report.read_text().replace("\\", "")


def test_a_routing_that_drops_all_fails_and_leaves_its_report(tmp_path: Path):
    with pytest.raises(StageFailed, match="none of its 1 weak samples"):
        routing(tmp_path, ["scratch"], "out")
    text = (tmp_path / "out" / "Routing_Report.md").read_text()
    assert "None of the 1 weak samples can be used" in text
    assert (tmp_path / "out" / "run.log").is_file()
