import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.dataset.table import Lighting
from tasks.errors import InputError
from tasks.mining.pool import convert_pool, resolve_pool

ImageAt = Callable[..., Path]
LIGHTS = Lighting(("SolderLight", "SideLight"), ".png")


def csv_of(folder: Path, text: str, name: str = "pool.csv", bom: bool = False) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8-sig" if bom else "utf-8")
    return path


def frame(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.fixture
def workspace(tmp_path: Path, image_at: ImageAt) -> Path:
    """`images/b1` holds the samples C1 and C2, `images/gold` their references."""
    for sample in ("C1", "C2"):
        for light in LIGHTS.names:
            image_at(f"images/b1/{sample}_{light}.png")
            image_at(f"images/gold/{sample}_{light}.png")
    (tmp_path / "pool").mkdir()
    return tmp_path


def test_conversion_keeps_odd_paths_and_labels_byte_for_byte(
    tmp_path: Path, image_at: ImageAt, monkeypatch: pytest.MonkeyPatch
):
    names = ["naïve ü/x.png", "./a/b.png", "007.png"]
    for name in names:
        image_at(name)
    monkeypatch.chdir(tmp_path)
    pool = csv_of(tmp_path, "filepath,label\n" + "".join(f"{name}, Ångström \n" for name in names))
    summary = convert_pool(pool, tmp_path / "out.parquet")
    table = pq.read_table(summary.parquet)
    assert table["filepath"].to_pylist() == names
    assert set(table["label"].to_pylist()) == {" Ångström "}


def test_conversion_takes_each_image_once_and_parquet_as_well(tmp_path: Path, image_at: ImageAt, table_of):
    path = str(image_at("x.png"))
    pool = table_of("pool", filepath=[path, f"{tmp_path}/./x.png"], label=["a", "b"])
    summary = convert_pool(pool, tmp_path / "out.parquet")
    assert (summary.input_rows, summary.rows, summary.duplicates) == (2, 1, 1)
    assert pq.read_table(summary.parquet).to_pylist() == [{"filepath": path, "label": "a"}]


def test_conversion_of_missing_images_fails_or_leaves_them_out(tmp_path: Path, image_at: ImageAt):
    pool = csv_of(tmp_path, f"filepath\n{image_at('x.png')}\n{tmp_path}/none.png\n")
    with pytest.raises(InputError, match=r"1 missing of 2 rows: row 3: .*none\.png"):
        convert_pool(pool, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    assert convert_pool(pool, tmp_path / "out.parquet", "exclude").rows == 1


def test_changenet_rows_resolve_to_their_first_lighting(workspace: Path):
    pool = csv_of(
        workspace / "pool",
        "input_path,golden_path,label,object_name,boardname\n"
        "b1,gold,bridge,C1,007\nimages/b1,images/gold,PASS,C2,008\n",
    )
    summary = resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "pool.resolved")
    assert summary.csv == workspace / "out" / "pool.resolved.csv"
    table = pq.read_table(summary.parquet).to_pandas()
    first = workspace / "images"
    assert table["filepath"].tolist() == [
        f"{first}/b1/C1_SolderLight.png",
        f"{first}/b1/C2_SolderLight.png",
    ]
    assert table["golden_filepath"].tolist()[0] == f"{first}/gold/C1_SolderLight.png"
    assert table["boardname"].tolist() == ["007", "008"]
    relative = frame(summary.csv)
    assert relative["filepath"].tolist() == ["b1/C1_SolderLight.png", "b1/C2_SolderLight.png"]
    assert relative["golden_path"].tolist() == ["gold", "images/gold"]
    facts = json.loads((workspace / "out" / "pool.resolved.json").read_text())
    assert (facts["rows"], facts["missing"], facts["ambiguous"]) == (2, 0, 0)
    assert facts["labels"] == {"BRIDGE": 1, "PASS": 1}


def test_a_byte_order_mark_is_no_part_of_the_first_column(workspace: Path):
    pool = csv_of(workspace / "pool", "image_path,label\nb1/C1_SolderLight.png,PASS\n", bom=True)
    summary = resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "p")
    assert summary.rows == 1


def test_a_pass_row_without_golden_is_its_own_and_says_so(workspace: Path):
    pool = csv_of(workspace / "pool", "input_path,golden_path,label,object_name\nb1,,pass ,C1\n")
    summary = resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "p")
    row = pq.read_table(summary.parquet).to_pylist()[0]
    assert row["golden_filepath"] == row["filepath"]
    assert row["golden_path"] == ""


@pytest.mark.parametrize(
    "columns",
    [
        "input_path,golden_path,label,object_name\nb1,,bridge,C1\n",
        "input_path,label,object_name\nb1,bridge,C1\n",
    ],
)
def test_a_defect_without_golden_stops_whatever_the_setting(workspace: Path, columns: str):
    pool = csv_of(workspace / "pool", columns)
    with pytest.raises(InputError, match=r"1 defect rows have no golden_path: row 2 \(bridge\)"):
        resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "p", "exclude")


def test_missing_ambiguous_and_golden_missing_rows_are_listed_with_counts(workspace: Path, image_at: ImageAt):
    image_at("pool/b1/C2_SolderLight.png", 3)
    pool = csv_of(
        workspace / "pool",
        "input_path,golden_path,label,object_name\n"
        "b1,gold,PASS,C1\nb1,gold,PASS,C9\nb1,gold,PASS,C2\nb1,nowhere,bridge,C1\n",
    )
    with pytest.raises(InputError) as caught:
        resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "p")
    message = str(caught.value)
    assert "1 ambiguous, 2 missing of 4 rows" in message
    assert "row 3: image 'b1': no file" in message
    assert "row 4: image 'b1'" in message
    assert "row 5: golden image 'nowhere'" in message
    assert not (workspace / "out").exists()


def test_excluded_rows_are_written_with_their_reason(workspace: Path):
    (workspace / "images" / "b1" / "C2_SolderLight.png").write_text("no image")
    pool = csv_of(
        workspace / "pool",
        "input_path,golden_path,label,object_name\nb1,gold,PASS,C1\nb1,gold,PASS,C2\nb1,gold,PASS,C9\n",
    )
    summary = resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "p", "exclude")
    assert (summary.rows, summary.unreadable, summary.missing) == (1, 1, 1)
    excluded = frame(workspace / "out" / "excluded_pool_rows.csv")
    assert excluded["object_name"].tolist() == ["C2", "C9"]
    assert "cannot be read" in excluded["reason"][0]


def test_a_pool_of_nothing_but_bad_rows_is_an_error_even_when_they_may_be_left_out(workspace: Path):
    pool = csv_of(workspace / "pool", "filepath\nnone.png\n")
    with pytest.raises(InputError, match="1 missing of 1 rows"):
        resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "p", "exclude")


def test_one_file_found_twice_is_not_ambiguous_and_listed_twice_is_one_row(workspace: Path):
    (workspace / "pool" / "b1").symlink_to(workspace / "images" / "b1")
    pool = csv_of(workspace / "pool", "filepath\nb1/C1_SolderLight.png\nimages/b1/C1_SolderLight.png\n")
    summary = resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "p")
    assert (summary.rows, summary.duplicates, summary.ambiguous) == (1, 1, 0)


def test_images_outside_the_root_stay_absolute(workspace: Path, image_at: ImageAt):
    outside = image_at("elsewhere/x.png")
    pool = csv_of(workspace / "pool", f"filepath\n{outside}\n")
    summary = resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "p")
    assert summary.csv is not None
    assert frame(summary.csv)["filepath"].tolist() == [str(outside)]


def test_one_image_per_sample_without_a_lighting_suffix(workspace: Path, image_at: ImageAt):
    image_at("images/b2/R5.png")
    pool = csv_of(workspace / "pool", "input_path,object_name\nb2,R5\n")
    summary = resolve_pool(pool, workspace / "images", Lighting((), ".png"), workspace / "out" / "p")
    assert summary.rows == 1


def test_pools_that_are_no_pools(workspace: Path):
    for text, says in (("filepath\n", "no rows"), ("label\nPASS\n", "filepath, input_path, image_path")):
        pool = csv_of(workspace / "pool", text)
        with pytest.raises(InputError, match=says):
            resolve_pool(pool, workspace / "images", LIGHTS, workspace / "out" / "p")
