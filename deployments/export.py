"""The command `deft export`: weak and mined samples of a run for a labelling tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    form: Annotated[Literal["fiftyone", "coco", "csv"], typer.Argument(metavar="fiftyone|coco|csv")],
    run: Annotated[Path, typer.Argument(help="folder of a pipeline or of a data loop")],
    out: Annotated[Path, typer.Argument(help="a new folder")],
    phase: Annotated[
        str | None, typer.Option(help="baseline or iterN; by default the last that has samples")
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="copy the images instead of linking them")] = False,
) -> None:
    """Write the weak samples of the KPI set and the mined ones of the pool for a labelling tool.

    csv: samples.csv beside the images. coco: annotations.json, each label a category whose box is the whole
    image. fiftyone: a folder for fiftyone.Dataset.from_dir(OUT, fiftyone.types.FiftyOneDataset).

    Corrected labels come back by three columns: input_path and object_name say which row of the KPI set's
    CSV (set weak) or of the pool's CSV (set mined) is meant, label is what to write there. The id of a
    sample is the same in every export, so that the answer of a tool that kept only the file name
    (data/ID.png) finds its row too.
    """
    from tasks.export.formats import write_export
    from tasks.export.samples import samples_of

    samples = samples_of(run.absolute(), phase)
    file = write_export(samples, form, out, copy=copy)
    weak = [one for one in samples if one.set == "weak"]
    mined = [one for one in samples if one.set == "mined"]
    for kind, found in (("weak", weak), ("mined", mined)):
        phases = ", ".join(dict.fromkeys(one.phase for one in found)) or "no phase"
        typer.echo(f"{len(found)} {kind} samples of {phases}")
    typer.echo(str(file))
