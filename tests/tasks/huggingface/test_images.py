"""The image by the support matrix: frozen, from a page on this machine, and where there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError, StageFailed
from tasks.huggingface.images import (
    Matrix,
    Row,
    frozen_matrix,
    read_matrix,
    rows_of_page,
    select_image,
    stated_image,
)
from tasks.huggingface.pages import MIRROR, Pages
from tests.tasks.huggingface.loopback_pages import served

PAGE = "/docs.nvidia.com/deeplearning/frameworks/support-matrix/index.html"
BY_ROW = """
<h1>Frameworks Support Matrix</h1>
<h2>TensorFlow</h2>
<table><tr><th>Container Version</th><th>CUDA Toolkit</th><th>Driver</th></tr>
<tr><td>26.09</td><td>13.2</td><td>580</td></tr></table>
<h2>PyTorch</h2>
<table><thead><tr><th>Container Version</th><th>Ubuntu</th><th>CUDA Toolkit</th><th>PyTorch</th>
<th>NVIDIA Driver</th></tr></thead>
<tr><td>26.02</td><td>24.04</td><td>NVIDIA CUDA 13.1.1</td><td>2.11.0a0+abc</td><td>580 or later</td></tr>
<tr><td><a href="x">25.06</a></td><td>24.04</td><td>CUDA 12.9</td><td>2.8.0rc1</td>
<td>Release 25.06 needs <b>575</b> or later. However, on data center
GPUs 470.57 (or later R470) will do.</td></tr>
<tr><td>25.05</td><td>24.04</td><td></td><td>2.8.0a0</td><td>570</td></tr>
</table>
"""
BY_COLUMN = """
<h2>25.xx</h2><table>
<tr><th>Release</th><td>25.09</td><td>25.02</td></tr>
<tr><th>CUDA</th><td>13.0.1</td><td>12.8.0</td></tr>
<tr><th>PyTorch</th><td>2.9.0a0</td><td>2.7.0a0</td></tr>
</table>
"""


def matrix(*rows):
    known = [Row(release=release, cuda=cuda, min_driver=driver) for release, cuda, driver in rows]
    return frozen_matrix().model_copy(update={"rows": known})


FROZEN = matrix(
    ("24.01", "12.3", 535), ("24.09", "12.6", 555), ("25.01", "12.8", 560), ("25.12", "13.1.0", 580)
)


@pytest.mark.parametrize(
    ("driver", "cuda", "release"),
    [
        (580, "13.1", "25.12"),
        (590, "13.2", "25.12"),
        (580, "13.0", "25.01"),
        (560, "12.8", "25.01"),
        (559, "12.8", "24.09"),
        (580, "12.6", "24.09"),
        (535, "12.4", "24.01"),
        (580, None, "25.12"),
        (None, None, "24.09"),
    ],
)
def test_highest_release_that_driver_and_cuda_take(driver, cuda, release):
    choice = select_image(FROZEN, driver, cuda)
    assert choice.release == release
    assert choice.image.endswith(f"/pytorch:{release}-py3")


def test_release_is_compared_by_number_of_year_and_month():
    assert (
        select_image(matrix(("25.02", "12.8", 570), ("25.10", "12.8", 570)), 580, "13.0").release == "25.10"
    )


@pytest.mark.parametrize(("driver", "cuda"), [(470, "11.4"), (545, "12.2")])
def test_driver_or_cuda_that_is_too_old_for_all(driver, cuda):
    with pytest.raises(StageFailed, match=f"with CUDA {cuda}; the oldest needs driver 535 and CUDA 12.3:"):
        select_image(FROZEN, driver, cuda)


def test_no_driver_takes_the_default_and_says_so():
    assert "no driver to choose by" in select_image(FROZEN, None, "13.0").notes[-1]


def test_release_candidate_is_no_reason_against_an_image():
    frozen = frozen_matrix()
    choice = select_image(frozen, 580, "13.1")
    assert choice.pytorch_version == "2.10.0a0+b4e4ee81d3"


def test_unconfirmed_rows_are_not_chosen():
    assert {row.release for row in frozen_matrix().rows if not row.confirmed} == {"26.04", "26.05"}
    assert select_image(frozen_matrix(), 600, "14.0").release == "25.12"


@given(st.integers(535, 700), st.sampled_from(["12.3", "12.6", "12.8", "13.0", "13.1", "13.9"]))
def test_chosen_image_runs_and_none_that_runs_is_newer(driver, cuda):
    def runs(row):
        fits = [int(part) for part in row.cuda.split(".")[:2]] <= [int(part) for part in cuda.split(".")]
        return row.min_driver <= driver and fits

    running = [row.release for row in FROZEN.rows if runs(row)]
    assert select_image(FROZEN, driver, cuda).release == max(running)


def test_page_with_an_image_per_row():
    rows, notes = rows_of_page(BY_ROW, {})
    assert [(row.release, row.cuda, row.min_driver, row.pytorch) for row in rows] == [
        ("26.02", "13.1.1", 580, "2.11.0a0+abc"),
        ("25.06", "12.9", 575, "2.8.0rc1"),
    ]
    assert notes == ["support matrix: release 25.05 names no CUDA version and was left out"]


def test_page_with_an_image_per_column_and_drivers_by_cuda():
    rows, _ = rows_of_page(BY_COLUMN, {"13": 580, "12.8": 570})
    assert [(row.release, row.cuda, row.min_driver) for row in rows] == [
        ("25.09", "13.0.1", 580),
        ("25.02", "12.8.0", 570),
    ]


def test_cells_that_columns_share_count_for_each_and_rows_that_lack_some_are_left_out():
    page = """<h2>PyTorch</h2><table>
    <tr><th>Release</th><td>25.06</td><td>25.05</td><td>25.03</td></tr>
    <tr><th>CUDA</th><td colspan="2">12.9</td><td>12.8</td></tr>
    <tr><th>Driver</th><td colspan="2"><b>575</b> or later</td><td>570</td></tr>
    <tr><th>Python</th><td rowspan="2">3.12</td></tr></table>"""
    rows, notes = rows_of_page(page, {})
    assert [(row.release, row.cuda, row.min_driver) for row in rows] == [
        ("25.06", "12.9", 575), ("25.05", "12.9", 575), ("25.03", "12.8", 570),
    ]  # fmt: skip
    assert notes == ["support matrix: left out, as cells are missing: Python | 3.12"]


def test_number_of_a_container_is_none_of_pytorch():
    page = BY_ROW[BY_ROW.index("<h2>PyTorch") :].replace("<th>Container Version", "<th>PyTorch Container")
    assert [row.pytorch for row in rows_of_page(page, {})[0]] == ["2.11.0a0+abc", "2.8.0rc1"]
    page = page.replace("<th>PyTorch<", "<th>Framework<")
    assert [row.pytorch for row in rows_of_page(page, {})[0]] == [None, None]


def test_row_whose_driver_is_unknown_is_left_out():
    rows, notes = rows_of_page(BY_COLUMN, {"13": 580})
    assert [row.release for row in rows] == ["25.09"]
    assert notes == ["support matrix: release 25.02 names no driver and was left out"]


def test_live_page_is_chosen_from():
    with served() as server:
        server.pages[PAGE] = BY_ROW
        pages = Pages({MIRROR: server.url})
        found = read_matrix(pages)
    choice = select_image(found, 580, "13.2")
    assert (choice.release, choice.live) == ("26.02", True)
    assert choice.fetched_at == pages.attempts[0]["time"]
    assert choice.source_url.startswith("https://docs.nvidia.com/")


def test_numpy_of_a_release_is_not_lost_with_the_page():
    with served() as server:
        server.pages[PAGE] = BY_COLUMN.replace("25.02", "25.01")
        found = read_matrix(Pages({MIRROR: server.url}))
    assert {row.release: row.numpy for row in found.rows} == {"25.09": None, "25.01": "1"}


@pytest.mark.parametrize(
    ("page", "why"),
    [(None, "HTTP status 404"), ("<h1>Moved</h1>", "the page has no table of PyTorch images")],
)
def test_page_that_is_not_there_falls_back(page, why):
    with served() as server:
        if page:
            server.pages[PAGE] = page
        found = read_matrix(Pages({MIRROR: server.url}))
    assert not found.live
    assert why in found.notes[0]
    assert "fallback to the support matrix of" in select_image(found, 580, "13.1").notes[0]


def test_offline_falls_back():
    found = read_matrix(Pages({"AIR_GAPPED": "1"}))
    assert "switched off by AIR_GAPPED" in found.notes[0]
    assert isinstance(found, Matrix)


def test_broken_matrix_file(tmp_path):
    file = tmp_path / "matrix.yaml"
    file.write_text("version: 1\n")
    with pytest.raises(InputError, match="rows: required"):
        frozen_matrix(file)


@pytest.mark.parametrize(
    ("image", "release", "notes"),
    [
        ("registry.local:5000/mirror/pytorch:24.09-py3", "24.09", 0),
        ("nvcr.io/nvidia/pytorch:25.08-py3", "25.08", 1),
        ("ubuntu:24.04", "", 1),
        ("registry.local/torch:2", "", 1),
    ],
)
def test_an_image_that_a_person_names(image, release, notes):
    choice = stated_image(frozen_matrix(), image)
    assert (choice.image, choice.release, len(choice.notes)) == (image, release, notes)
