"""Step 2b: the image that the project is built on, by NVIDIA's support matrix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.errors import InputError, StageFailed
from tasks.huggingface.pages import Pages, PageUnavailable
from tasks.spec import explained, read_mapping

FROZEN = Path(__file__).with_name("support_matrix.yaml")
RELEASE = re.compile(r"\b(\d\d\.\d\d)\b")
DRIVER = re.compile(r"\bR?([4-9]\d\d)(?:\.\d+|\b)")


class Row(BaseModel):
    """An image release: `cuda` and `pytorch` as the source writes them, `min_driver` the driver's branch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    release: str
    cuda: str
    min_driver: int
    pytorch: str | None = None
    python: str | None = None
    numpy: str | None = None
    confirmed: bool = True


class Matrix(BaseModel):
    """The support matrix, from the page or from the file that comes with this package."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    fetched_at: str
    source_url: str
    repository: str
    default_release: str
    rows: list[Row]
    cuda_drivers: dict[str, int]
    live: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The image, what it holds, and why it is this one.

    Attributes:
        image: with its tag.
        release: such as `25.12`.
        min_driver: the least driver branch.
        source_url: of the matrix.
        fetched_at: when the matrix was read.
        live: whether that was now, from the page.
        notes: fallbacks, for `config.yaml`.
    """

    image: str
    release: str
    pytorch_version: str | None
    cuda: str
    python: str | None
    numpy: str | None
    min_driver: int
    source_url: str
    fetched_at: str
    live: bool
    notes: tuple[str, ...] = ()

    @property
    def hardware(self) -> dict[str, Any]:
        """The part of a compat `Situation`'s hardware that the image decides."""
        return {"release": self.release, "pytorch_version": self.pytorch_version, "numpy": self.numpy}


@cache
def frozen_matrix(file: Path = FROZEN) -> Matrix:
    """The matrix that comes with this package.

    Raises:
        InputError: the file is not what it must be.
    """
    try:
        return Matrix.model_validate(read_mapping(file, "support matrix"))
    except ValidationError as error:
        raise InputError(f"support matrix {file}: {explained(error)}") from error


def read_matrix(pages: Pages, frozen: Matrix | None = None) -> Matrix:
    """The matrix of NVIDIA's page; the frozen one, with a note, where the page cannot be had or read."""
    known = frozen or frozen_matrix()
    try:
        page = pages.get(known.source_url)
    except PageUnavailable as error:
        return _fallback(known, str(error))
    rows, notes = rows_of_page(page.text, known.cuda_drivers)
    if not rows:
        return _fallback(known, "the page has no table of PyTorch images with CUDA and driver")
    numpy = {row.release: row.numpy for row in known.rows}
    rows = [row.model_copy(update={"numpy": numpy.get(row.release)}) for row in rows]
    return known.model_copy(
        update={"rows": rows, "fetched_at": page.fetched_at, "live": True, "notes": tuple(notes)}
    )


def _fallback(known: Matrix, why: str) -> Matrix:
    note = f"fallback to the support matrix of {known.fetched_at}: {known.source_url}: {why}"
    return known.model_copy(update={"notes": (note,)})


def select_image(matrix: Matrix, driver_major: int | None, cuda: str | None) -> Choice:
    """The highest release whose least driver is this one or older and whose CUDA is not above the host's.

    A pre-release suffix of PyTorch is no reason against an image: all of these builds carry one.

    Args:
        matrix: live or frozen.
        driver_major: branch of this host's driver; none where there is no driver.
        cuda: CUDA version of this host; none leaves that rule out.

    Raises:
        StageFailed: no image runs on this driver.
    """
    usable = [row for row in matrix.rows if row.confirmed]
    if driver_major is None:
        row = next((one for one in usable if one.release == matrix.default_release), _newest(usable))
        return _choice(matrix, row, (f"no driver to choose by: default image release {row.release}",))
    fitting = [
        row
        for row in usable
        if row.min_driver <= driver_major and (cuda is None or _numbers(row.cuda) <= _numbers(cuda))
    ]
    if not fitting:
        oldest = min(usable, key=lambda row: (row.min_driver, _numbers(row.cuda)))
        raise StageFailed(
            f"no PyTorch image runs on driver {driver_major} with CUDA {cuda or 'unknown'}; the oldest needs "
            f"driver {oldest.min_driver} and CUDA {oldest.cuda}: update what is older here"
        )
    return _choice(matrix, _newest(fitting), ())


def stated_image(matrix: Matrix, image: str) -> Choice:
    """An image that a person names; what it holds is known of NVIDIA's releases in any registry."""
    release = re.search(r"pytorch:(\d\d\.\d\d)-py3$", image)
    row = next((one for one in matrix.rows if release and one.release == release[1]), None)
    if row is not None:
        return replace(_choice(matrix, row, ()), image=image)
    return Choice(
        image=image,
        release=release[1] if release else "",
        pytorch_version=None,
        cuda="",
        python=None,
        numpy=None,
        min_driver=0,
        source_url="",
        fetched_at=matrix.fetched_at,
        live=False,
        notes=(f"image {image} was named by a person: the support matrix does not know what it holds",),
    )


def _newest(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: _numbers(row.release))


def _choice(matrix: Matrix, row: Row, notes: tuple[str, ...]) -> Choice:
    return Choice(
        image=f"{matrix.repository}:{row.release}-py3",
        release=row.release,
        pytorch_version=row.pytorch,
        cuda=row.cuda,
        python=row.python,
        numpy=row.numpy,
        min_driver=row.min_driver,
        source_url=matrix.source_url,
        fetched_at=matrix.fetched_at,
        live=matrix.live,
        notes=(*matrix.notes, *notes),
    )


def _numbers(text: str) -> tuple[int, int]:
    """The first two numbers of a dotted version: a patch level of CUDA is no reason against an image."""
    found = [int(part) for part in re.findall(r"\d+", text)[:2]]
    return (found[0], found[1] if len(found) > 1 else 0) if found else (0, 0)


def rows_of_page(html: str, cuda_drivers: dict[str, int]) -> tuple[list[Row], list[str]]:
    """The images in the tables of the page's PyTorch section, and notes on those that were left out.

    A table may have one image per row or one per column. Where it names no driver, the CUDA release decides.
    """
    parser = _Tables()
    parser.feed(html)
    rows: dict[str, Row] = {}
    notes: list[str] = []
    for heading, table in parser.tables:
        odd = [row for row in table if len(row) != len(table[0])]
        upright = _upright([row for row in table if row not in odd])
        if upright is None or not _is_pytorch(heading, upright[0]):
            continue
        notes += [f"support matrix: left out, as cells are missing: {' | '.join(row)}" for row in odd if row]
        for cells in upright[1:]:
            row, note = _row(dict(zip(upright[0], cells, strict=True)), cuda_drivers)
            if row is not None:
                rows.setdefault(row.release, row)
            elif note:
                notes.append(note)
    return list(rows.values()), notes


def _is_pytorch(heading: str, header: Sequence[str]) -> bool:
    return "pytorch" in heading.lower() or any("pytorch" in name.lower() for name in header)


def _upright(table: Sequence[Sequence[str]]) -> list[list[str]] | None:
    """The table with one image per row below a header; none where it is no table of images."""
    if len(table) < 2:
        return None
    if sum(bool(RELEASE.search(cell)) for cell in table[0]) > sum(
        bool(RELEASE.search(row[0])) for row in table[1:] if row
    ):
        return [list(column) for column in zip(*table, strict=True)]
    return [list(row) for row in table]


def _row(cells: dict[str, str], cuda_drivers: dict[str, int]) -> tuple[Row | None, str | None]:
    def cell(*words: str) -> str:
        return next((text for name, text in cells.items() if any(word in name.lower() for word in words)), "")

    first = next(iter(cells.values()), "")
    release = RELEASE.search(cell("container", "release", "image") or first) or RELEASE.search(first)
    cuda = re.search(r"\d+\.\d+(?:\.\d+)*", cell("cuda"))
    if release is None:
        return None, None
    if cuda is None:
        return None, f"support matrix: release {release[1]} names no CUDA version and was left out"
    # "560 or later. However, on data center GPUs 470.57 or ...": the first number is the rule.
    driver = DRIVER.search(cell("driver"))
    least = int(driver[1]) if driver else _driver_of(cuda[0], cuda_drivers)
    if least is None:
        return None, f"support matrix: release {release[1]} names no driver and was left out"
    # A container's own number, such as 24.09 below "PyTorch Container", is none of PyTorch.
    named = " ".join(text for name, text in cells.items() if "pytorch" in name.lower())
    pytorch = re.search(r"\b\d\.\d+\S*", named)
    python = re.search(r"\d+\.\d+", cell("python"))
    return (
        Row(
            release=release[1],
            cuda=cuda[0],
            min_driver=least,
            pytorch=pytorch[0] if pytorch else None,
            python=python[0] if python else None,
        ),
        None,
    )


def _driver_of(cuda: str, cuda_drivers: dict[str, int]) -> int | None:
    major, minor = _numbers(cuda)
    return cuda_drivers.get(f"{major}.{minor}") or cuda_drivers.get(str(major))


class _Tables(HTMLParser):
    """Collects tables as rows of text, each with the headings above it."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[tuple[str, list[list[str]]]] = []
        self._heading: dict[str, str] = {}
        self._in_heading = ""
        self._in_cell = False
        self._columns = 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a heading, a table, a row or a cell."""
        if re.fullmatch(r"h[1-6]", tag):
            # A heading ends the sections of its own level and below.
            self._heading = {level: text for level, text in self._heading.items() if level < tag}
            self._heading[tag] = ""
            self._in_heading = tag
        elif tag == "table":
            self.tables.append((" / ".join(self._heading.values()), []))
        elif tag == "tr" and self.tables:
            self.tables[-1][1].append([])
        elif tag in ("td", "th") and self.tables and self.tables[-1][1]:
            wide = dict(attrs).get("colspan") or ""
            self._columns = min(max(int(wide), 1), 1000) if wide.isdecimal() else 1
            self.tables[-1][1][-1] += [""] * self._columns
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        """Close a heading or a cell."""
        if tag == self._in_heading:
            self._in_heading = ""
        elif tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        """Text of a heading or a cell, with single blanks."""
        text = " ".join(data.split())
        if self._in_heading:
            self._heading[self._in_heading] = f"{self._heading[self._in_heading]} {text}".strip()
        elif self._in_cell:
            cells = self.tables[-1][1][-1]
            cells[-self._columns :] = [f"{cells[-1]} {text}".strip()] * self._columns
