"""Container images by use: their keys, the versions file and its look-up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

PYT = "images.tao_toolkit.pyt"
DATA_SERVICES = "images.tao_toolkit.data_services"
ANOMALYGEN = "images.metropolis_sdg.paidf_anomalygen"
NATIVE = "images.native.engine"
ORCHESTRATOR = "images.native.orchestrator"
BASE = "images.native.base"
BASE_CPU = "images.native.base_cpu"
POSTGRES = "images.services.postgres"

ImageReference = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*"
        r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$"
    ),
]
"""An image with its tag, its digest, or both; no blank, quote or option can hide in it."""


def versions_file() -> Path:
    """The versions file: `TAO_VERSIONS_FILE`, else the skill bank's, else our own."""
    named = os.environ.get("TAO_VERSIONS_FILE")
    if named:
        return Path(named)
    bank = os.environ.get("TAO_SKILL_BANK_PATH")
    if bank:
        return Path(bank) / "versions.yaml"
    installed = Path(__file__).with_name("versions.yaml")
    return installed if installed.is_file() else Path(__file__).parents[1] / "versions.yaml"


def image_uri(key: str) -> str:
    """The image behind a dotted key such as `images.tao_toolkit.pyt`.

    Raises:
        ValueError: the versions file is missing or not YAML, or has no text under the key; both are named.
    """
    file = versions_file()
    try:
        value: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"versions file {file} cannot be read: {error}; set TAO_VERSIONS_FILE") from error
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"versions file {file} has no image under {key}; add it there")
    return value.strip()
