"""The weak samples as targets of mining: one image each, with its golden image, in a fair order."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.artifacts import existing_file, write_parquet
from tasks.dataset.table import Lighting, read_table, row_files
from tasks.errors import InputError
from tasks.mining.pool import GOLDEN


def write_targets(gaps: Path, kpi_csv: Path, images_dir: Path, lighting: Lighting, output: Path) -> int:
    """Write the first lighting of every weak sample with its golden image; give how many there are.

    The weakest sample of every label comes first, then the second weakest of every label, and so on,
    so that any number of first targets is fair to all labels.

    Args:
        gaps: gaps parquet with `filepath`, `label`, `weakness`, weakest first inside a label.
        kpi_csv: the ChangeNet CSV that the samples come from.
        images_dir: image root of that CSV.
        lighting: how the files of a sample are named.
        output: the parquet to write; the columns of `gaps` and `golden_filepath`.

    Raises:
        InputError: a file is missing, or no path of `gaps` is an image of the CSV.
    """
    weak = pq.read_table(existing_file(gaps, "gaps parquet")).to_pandas()
    table = read_table(kpi_csv, what="KPI set")
    first = {
        column: row_files(table, images_dir, lighting, column) for column in ("input_path", "golden_path")
    }
    golden_of = {
        str(images[0]): str(goldens[0])
        for images, goldens in zip(first["input_path"], first["golden_path"], strict=True)
    }
    targets = weak[weak["filepath"].isin(golden_of)].drop_duplicates("filepath")
    if targets.empty:
        raise InputError(f"no path of {gaps} is an image of {kpi_csv} below {images_dir}; check both")
    rank = targets.groupby(targets["label"].str.upper()).cumcount()
    ordered = targets.assign(rank=rank).sort_values("rank", kind="stable").drop(columns="rank")
    ordered[GOLDEN] = ordered["filepath"].map(golden_of)
    write_parquet(output, pa.Table.from_pandas(pd.DataFrame(ordered), preserve_index=False))
    return len(ordered)
