from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture
def table_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes a parquet of columns and gives its path."""

    def write(name: str, **columns: Any) -> Path:
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({key: pa.array(values) for key, values in columns.items()}), path)
        return path

    return write


@pytest.fixture
def image_at(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small image at a path below tmp_path and gives it."""

    def write(name: str, shade: int = 128) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), shade, np.uint8)).save(path)
        return path

    return write
