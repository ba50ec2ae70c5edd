"""The generator's data set in NVIDIA's layout, and what must hold before it is used (spec deft-loop 7.2)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.anomalygen.tree import pictures_in
from tasks.artifacts import existing_file, read_json
from tasks.errors import InputError, listed
from tasks.images import BROKEN

DEPENDENCIES = ("free", "text", "cad")
LABELS_FILE = "semantic_segmentation_labels.json"
DEFECT_SPEC = "defect_spec.jsonl"

Colour = tuple[int, ...]


@dataclass(frozen=True)
class DatasetFolder:
    """A checked data set.

    Attributes:
        texture: the folder of the texture in use.
        clean: its clean pictures, by name.
        masks: the CAD mask of each, aligned with `clean`.
        anomalies: the defects that `defect_spec.jsonl` names for this texture.
    """

    texture: str
    clean: tuple[Path, ...]
    masks: tuple[Path, ...]
    anomalies: tuple[str, ...]


def files_of(root: Path) -> list[Path]:
    """Every file that decides what the data set is."""
    pictures = [file for kind in ("clean_image", "cad_mask") for file in sorted(root.glob(f"*/{kind}/*"))]
    return [root / LABELS_FILE, root / DEFECT_SPEC, *(file for file in pictures if file.is_file())]


def open_dataset(root: Path, project: str) -> DatasetFolder:
    """Check the data set of a texture and give it.

    `project` names the texture; where there is one texture only, it is taken whatever its name.

    Raises:
        InputError: a precondition of spec deft-loop 7.2 does not hold, or there is no such texture.
    """
    textures = sorted(path.parent.name for path in root.glob("*/clean_image") if path.is_dir())
    if project not in textures and len(textures) != 1:
        raise InputError(
            f"dataset_dir {root} has no {project}/clean_image; textures there: {listed(textures) or 'none'}; "
            "give one of them as project"
        )
    texture = project if project in textures else textures[0]
    colours = _class_colours(root / LABELS_FILE)
    anomalies = _anomalies(root / DEFECT_SPEC, texture)
    clean, masks = _paired(root / texture / "clean_image", root / texture / "cad_mask")
    for picture, mask in zip(clean, masks, strict=True):
        _check_mask(picture, mask, colours)
    return DatasetFolder(texture, clean, masks, anomalies)


def _class_colours(file: Path) -> set[Colour]:
    """The RGB colours that the labels file gives a class, written `(r, g, b, a)`."""
    content = read_json(existing_file(file, "labels file of the CAD masks"))
    keys = list(content) if isinstance(content, dict) else []
    colours = {tuple(int(number) for number in re.findall(r"\d+", key))[:3] for key in keys}
    if not colours or any(len(colour) != 3 for colour in colours):
        raise InputError(
            f'{file}: must map colours to classes, as {{"(33, 243, 3, 255)": {{"class": "pad"}}}}'
        )
    return colours


def _anomalies(file: Path, texture: str) -> tuple[str, ...]:
    lines = existing_file(file, "defect spec").read_text(encoding="utf-8").splitlines()
    entries = [_entry(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    own = [anomaly for owner, anomaly in entries if owner == texture]
    if not own:
        raise InputError(f"{file} names no defect of the texture {texture}: no defect_type {texture}+...")
    return tuple(own)


def _entry(file: Path, number: int, line: str) -> tuple[str, str]:
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"{file} line {number} is not valid JSON: {error}") from error
    defect = str(entry.get("defect_type", "")) if isinstance(entry, dict) else ""
    texture, _, anomaly = defect.partition("+")
    if not (texture and anomaly):
        raise InputError(f"{file} line {number}: defect_type must be <texture>+<anomaly>; it is {defect!r}")
    dependency = entry.get("spatial_dependency", "free")
    if dependency not in DEPENDENCIES:
        raise InputError(
            f"{file} line {number}: spatial_dependency {dependency!r} of {defect}; "
            f"it is one of {', '.join(DEPENDENCIES)}"
        )
    if dependency == "text" and not str(entry.get("roi_prompt_defect_location") or "").strip():
        raise InputError(
            f"{file} line {number}: {defect} is placed by text and has no roi_prompt_defect_location; "
            "say where the defect occurs"
        )
    return texture, anomaly


def _paired(clean_folder: Path, mask_folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    clean = {file.stem: file for file in pictures_in(clean_folder)}
    masks = {file.stem: file for file in pictures_in(mask_folder)}
    if not clean:
        raise InputError(f"{clean_folder} holds no picture; put clean pictures there")
    unpaired = sorted(set(clean) ^ set(masks))
    if unpaired:
        raise InputError(
            f"{len(unpaired)} files of {clean_folder} and {mask_folder} have no partner of the same stem: "
            f"{listed(unpaired)}"
        )
    stems = sorted(clean)
    return tuple(clean[stem] for stem in stems), tuple(masks[stem] for stem in stems)


def _check_mask(picture: Path, mask: Path, colours: set[Colour]) -> None:
    try:
        with Image.open(picture) as image, Image.open(mask) as classes:
            if image.size != classes.size:
                raise InputError(f"CAD mask {mask} is {classes.size}, its clean picture {image.size}")
            if classes.mode not in ("RGB", "RGBA", "P"):
                raise InputError(
                    f"CAD mask {mask} has the mode {classes.mode}, not a colour per class; export as RGB"
                )
            pixels = np.asarray(classes.convert("RGB")).reshape(-1, 3)
    except BROKEN as error:
        raise InputError(f"{picture} or its mask {mask} cannot be read: {error}") from error
    if not colours & {tuple(colour) for colour in np.unique(pixels, axis=0).tolist()}:
        raise InputError(f"CAD mask {mask} has no colour of {LABELS_FILE}; export both together")
