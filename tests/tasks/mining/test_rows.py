from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from tasks.dataset.table import Lighting
from tasks.errors import InputError
from tasks.mining.pool import resolve_pool
from tasks.mining.rows import MinedRows, write_mined_rows

LIGHTS = Lighting(("SolderLight", "SideLight"), ".png")
HEADER = "input_path,golden_path,label,object_name,boardname\n"


class Pool:
    """A workspace with a resolved pool."""

    def __init__(self, folder: Path, table_of: Callable[..., Path], csv: str) -> None:
        self.folder = folder
        self.table_of = table_of
        pool = folder / "pool.csv"
        pool.write_text(HEADER + csv)
        self.parquet = resolve_pool(pool, folder / "images", LIGHTS, folder / "pool.resolved").parquet

    def image(self, name: str, light: str = "SolderLight") -> str:
        return str(self.folder / "images" / f"{name}_{light}.png")

    def rows(self, *mined: str, lighting: Lighting = LIGHTS) -> MinedRows:
        table = self.table_of("mined", filepath=pa.array(mined, pa.string()))
        return write_mined_rows(
            table,
            self.parquet,
            self.folder,
            lighting,
            self.folder / "run/images/self_golden",
            self.folder / "rows.csv",
        )

    def written(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "rows.csv", dtype=str, keep_default_na=False)


@pytest.fixture
def pool(tmp_path: Path, image_at: Callable[..., Path], table_of: Callable[..., Path]) -> Pool:
    for folder in ("b1", "gold"):
        for sample in ("C1", "C_2"):
            for light in LIGHTS.names:
                image_at(f"images/{folder}/{sample}_{light}.png")
    return Pool(tmp_path, table_of, "b1,gold, Bridge ,C1,007\nb1,,Pass,C_2,008\n")


def test_rows_in_workspace_coordinates_with_metadata(pool: Pool):
    summary = pool.rows(pool.image("b1/C1"))
    assert (summary.samples, summary.images, summary.self_golden) == (1, 1, 0)
    assert pool.written().to_dict("records") == [
        {
            "input_path": "images/b1",
            "golden_path": "images/gold",
            "label": "bridge",
            "object_name": "C1",
            "boardname": "007",
            "origin": "mined",
        }
    ]


def test_a_pass_sample_without_golden_gets_copies_of_itself(pool: Pool):
    assert pool.rows(pool.image("b1/C_2")).self_golden == 1
    row = pool.written().to_dict("records")[0]
    assert (row["label"], row["object_name"]) == ("PASS", "C_2")
    assert row["golden_path"] == "run/images/self_golden/images/b1"
    for name in LIGHTS.file_names("C_2"):
        copy, original = pool.folder / row["golden_path"] / name, pool.folder / row["input_path"] / name
        assert copy.read_bytes() == original.read_bytes()


def test_several_lightings_of_a_sample_are_one_row(tmp_path: Path, table_of, pool: Pool):
    both = [pool.image("b1/C1", light) for light in LIGHTS.names]
    pool.parquet = table_of(
        "pool",
        filepath=both,
        label=["bridge", "bridge"],
        golden_path=["gold", "gold"],
        golden_filepath=[pool.image("gold/C1", light) for light in LIGHTS.names],
    )
    summary = pool.rows(*both)
    assert (summary.samples, summary.images) == (1, 2)
    assert len(pool.written()) == 1


def test_every_lighting_of_sample_and_golden_must_exist(pool: Pool):
    Path(pool.image("b1/C1", "SideLight")).unlink()
    Path(pool.image("gold/C1", "SideLight")).unlink()
    with pytest.raises(InputError, match="2 images of mined samples do not exist"):
        pool.rows(pool.image("b1/C1"))
    assert not (pool.folder / "rows.csv").exists()


def test_a_defect_without_golden_stops_before_anything_is_written(pool: Pool, table_of):
    pool.parquet = table_of(
        "pool",
        filepath=[pool.image("b1/C1"), pool.image("b1/C_2")],
        label=["bridge", "PASS"],
    )
    with pytest.raises(
        InputError, match=r"1 mined defects have no golden image: .*C1_SolderLight.png \(bridge\)"
    ):
        pool.rows(pool.image("b1/C_2"), pool.image("b1/C1"))
    assert not (pool.folder / "run").exists()


def test_images_that_are_not_in_the_pool(pool: Pool):
    with pytest.raises(InputError, match="1 mined images are not in the pool"):
        pool.rows("/elsewhere/x.png")


def test_nothing_mined_gives_a_header(pool: Pool):
    assert pool.rows().samples == 0
    assert list(pool.written().columns) == [*HEADER.strip().split(","), "origin"]


def test_images_outside_the_workspace_keep_absolute_folders(pool: Pool):
    workspace = pool.folder / "elsewhere"
    workspace.mkdir()
    table = pool.table_of("mined", filepath=[pool.image("b1/C_2")])
    write_mined_rows(
        table, pool.parquet, workspace, LIGHTS, workspace / "self_golden", pool.folder / "rows.csv"
    )
    row = pool.written().to_dict("records")[0]
    assert row["input_path"] == str(pool.folder / "images" / "b1")
    assert (workspace / row["golden_path"] / "C_2_SolderLight.png").is_file()
