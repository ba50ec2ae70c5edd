import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.dataset.table import Lighting
from tasks.errors import InputError
from tasks.mining.targets import write_targets

LIGHTING = Lighting(("SolderLight", "SideLight"), ".jpg")
NAMES = ["p1", "p2", "m1", "m2"]


@pytest.fixture
def kpi(tmp_path):
    table = pd.DataFrame({"input_path": "board", "golden_path": "golden", "object_name": NAMES})
    table["label"] = ["PASS", "PASS", "missing", "missing"]
    table.to_csv(tmp_path / "kpi.csv", index=False)
    return tmp_path / "kpi.csv"


@pytest.fixture
def gaps(tmp_path):
    rows = [
        {
            "filepath": str(tmp_path / "images" / "board" / f"{name}_{light}.jpg"),
            "label": label,
            "weakness": -rank,
        }
        for label, names in (("PASS", NAMES[:2]), ("missing", NAMES[2:]))
        for rank, name in enumerate(names)
        for light in LIGHTING.names
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "gaps.parquet")
    return tmp_path / "gaps.parquet"


def test_targets_are_first_lightings_with_goldens_the_weakest_of_every_label_first(gaps, kpi, tmp_path):
    images = tmp_path / "images"
    assert write_targets(gaps, kpi, images, LIGHTING, tmp_path / "targets.parquet") == 4
    rows = pq.read_table(tmp_path / "targets.parquet").to_pylist()
    expected = ["p1", "m1", "p2", "m2"]
    assert [row["filepath"] for row in rows] == [
        f"{images}/board/{name}_SolderLight.jpg" for name in expected
    ]
    assert [row["golden_filepath"] for row in rows] == [
        f"{images}/golden/{name}_SolderLight.jpg" for name in expected
    ]
    assert [row["weakness"] for row in rows] == [0, 0, -1, -1]


def test_gaps_of_another_data_set_are_refused(gaps, kpi, tmp_path):
    with pytest.raises(InputError, match="no path of"):
        write_targets(gaps, kpi, tmp_path / "elsewhere", LIGHTING, tmp_path / "targets.parquet")
    assert not (tmp_path / "targets.parquet").exists()
