"""What an AOI run needs beside its data: backbone, generator, encoder (spec deft-loop 8, table 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.anomalygen.dataset_folder import open_dataset
from tasks.changenet.architectures import ONLY_IN_CONTAINER
from tasks.changenet.spec import ChangeNetSpec
from tasks.dataset.workspace import Workspace
from tasks.embedding.spec import HUB_DEFAULTS
from tasks.errors import InputError
from tasks.preflight.sets import Asset, weights


def backbone(spec: ChangeNetSpec, *, offline: bool, in_image: bool) -> Asset:
    """The weights that a new model starts from; `in_image`: NVIDIA's image trains, not our engine."""
    given = spec.model.backbone
    path = given.pretrained_backbone_path
    if in_image:
        # The container takes a file; it fails on a hub id, and without any it trains from nothing unsaid.
        if path is None:
            return Asset("backbone", given.type, "block", "MISSING: set pretrained_backbone_path to a file")
        return weights("backbone", str(path), offline=offline, hub=False)
    if given.type.startswith(ONLY_IN_CONTAINER):
        return Asset("backbone", given.type, "block", "not in the native engine; choose another type")
    if path is not None:
        return weights("backbone", str(path), offline=offline)
    if spec.native.backbone_init == "random":
        return Asset("backbone", given.type, "ok", "random weights, as the spec says")
    return Asset("backbone", given.type, "block", "MISSING: set pretrained_backbone_path")


def generator(space: Workspace, settings: Mapping[str, Any], *, offline: bool) -> list[Asset]:
    """What the chosen source of synthetic pairs needs."""
    source = settings.get("sdg_source")
    if source == "anomalygen":
        return _container_assets(space.root / "augmentation" / "anomalygen", settings, offline=offline)
    if source == "pregenerated":
        return [
            weights("generator", str(settings.get("pregenerated_dir") or "?"), offline=offline, hub=False)
        ]
    said = {"open": "FOUND: part of this package", "none": "off: real rows only"}
    return [
        Asset("generator", str(source), "ok" if source in said else "block", said.get(str(source), "unknown"))
    ]


def _container_assets(folder: Path, settings: Mapping[str, Any], *, offline: bool) -> list[Asset]:
    project = str(settings.get("project"))
    data, checkpoint = folder / "datasets" / project, folder / "checkpoints" / project
    base = folder / "base_checkpoints"
    try:
        opened = open_dataset(data, project)
        spec = Asset("defect spec", str(data), "ok", f"FOUND: {len(opened.clean)} clean pictures")
    except InputError as error:
        spec = Asset("defect spec", str(data), "block", f"MISSING: {error}")
    found = checkpoint.is_dir() and any(checkpoint.iterdir())
    has_base = base.is_dir() and any(base.iterdir())
    fetch = "MISSING (offline)" if offline else "will fetch"
    return [
        spec,
        Asset(
            "generator checkpoint",
            str(checkpoint),
            "ok" if found else "block",
            "FOUND" if found else "MISSING",
        ),
        Asset(
            "generator base models",
            str(base),
            "block" if offline and not has_base else "ok",
            "FOUND" if has_base else fetch,
        ),
    ]


def encoder(settings: Mapping[str, Any], *, offline: bool) -> Asset:
    """What embeds the images for mining."""
    name = str(settings.get("encoder"))
    if name == "ChangeNet":
        return Asset("encoder", name, "ok", "FOUND: the best model so far")
    given = settings.get("encoder_path") or HUB_DEFAULTS.get(name)
    if not given:
        return Asset("encoder", name, "block", "unknown encoder")
    return weights(f"encoder {name}", str(given), offline=offline)
