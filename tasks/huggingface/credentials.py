"""Which credentials a fine-tuning needs, and whether they are there: their values are never looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from tasks.artifacts import existing_file
from tasks.errors import InputError

NAMES = ("HF_TOKEN", "WANDB_API_KEY", "WANDB_PROJECT", "NGC_KEY")
MODES = ("WANDB_MODE",)
WITHOUT_KEY = ("disabled", "offline")
"""Modes of wandb that need neither key nor network."""


@dataclass(frozen=True)
class Credential:
    """A variable of the environment that is needed, why, and whether it is set."""

    name: str
    reason: str
    present: bool


def present(name: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the variable is set and not empty."""
    return bool(environment.get(name, "").strip())


def needed(
    *,
    push_to_hub: bool,
    wandb: bool,
    gated: tuple[str, ...] = (),
    pull_refused: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> list[Credential]:
    """The credentials that this run needs.

    `gated` are names of models and data sets that only members may read; `pull_refused` says that
    NVIDIA's registry answered 401 to the pull of an image.
    """
    reasons: list[tuple[str, str]] = []
    if gated:
        reasons.append(("HF_TOKEN", f"to read {' and '.join(gated)}"))
    elif push_to_hub:
        reasons.append(("HF_TOKEN", "to push the model (push_to_hub: false does without)"))
    if wandb and environment.get("WANDB_MODE", "") not in WITHOUT_KEY:
        hint = "to follow the training (WANDB_MODE=disabled or offline does without)"
        reasons += [("WANDB_API_KEY", hint), ("WANDB_PROJECT", hint)]
    if pull_refused:
        reasons.append(("NGC_KEY", "to pull the image from NVIDIA's registry (user $oauthtoken)"))
    return [Credential(name, reason, present(name, environment)) for name, reason in reasons]


def require(credentials: list[Credential]) -> None:
    """Refuse to go on without one of them.

    Raises:
        InputError: names every one that is missing, and what it is for.
    """
    missing = [f"{item.name} ({item.reason})" for item in credentials if not item.present]
    if missing:
        raise InputError(f"not set in the environment: {'; '.join(missing)}; set it where the flow runs")


def load_env_file(file: Path, environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Put the credentials of a file of `NAME=value` lines into the environment; gives their names.

    What the environment holds already stays, and so does what is no credential of this flow.

    Raises:
        InputError: no such file, or a line is not `NAME=value`; the line is named by its number alone.
    """
    loaded = []
    for number, line in enumerate(
        existing_file(file, "env file").read_text(encoding="utf-8").splitlines(), 1
    ):
        words = line.strip().removeprefix("export ")
        if not words or words.startswith("#"):
            continue
        name, equals, value = words.partition("=")
        if not equals or not name.strip().isidentifier():
            raise InputError(f"{file}, line {number}: not NAME=value; correct it")
        name = name.strip()
        if name in (*NAMES, *MODES) and not present(name, environment):
            environment[name] = value.strip().strip("\"'")
            loaded.append(name)
    return loaded
