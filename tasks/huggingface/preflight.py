"""The preflight box: what is about to be trained, on what, with every field filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.artifacts import read_json, write_json
from tasks.huggingface.smoke import Verdict

RECORD = Path("meta") / "preflight.json"
FIELDS = (
    "reference implementation",
    "dataset columns verified",
    "push_to_hub",
    "monitoring",
    "ngc_image",
    "hardware",
    "smoke test",
)
TITLE = "─ PREFLIGHT ─"


def preflight(
    config: Mapping[str, Any],
    columns: Sequence[str],
    reference: str,
    smoke: Verdict,
    *,
    place: str = "docker",
) -> dict[str, str]:
    """The fields of the box.

    Args:
        config: what `config.yaml` says.
        columns: of the prepared dataset.
        reference: the address of the reference implementation, or `scaffold fallback: <reason>`.
        smoke: how the smoke test ended.
        place: where the commands run, docker or process.
    """
    count = config.get("gpu_count")
    push = "disabled" if config.get("push_to_hub") is False else str(config.get("hf_model_repo") or "")
    answers = (
        reference,
        ", ".join(columns),
        push,
        monitoring(config),
        str(config.get("ngc_image") or "") if place == "docker" else "not used: commands run as processes",
        f"{count}× {config.get('gpu_name')}" if count is not None and config.get("gpu_name") else "",
        smoke.line(),
    )
    return dict(zip(FIELDS, answers, strict=True))


def monitoring(config: Mapping[str, Any]) -> str:
    """Where the training is shown: a project of Weights & Biases, its offline folder, or nowhere."""
    if config.get("report_to") != "wandb":
        return "disabled"
    mode = config.get("wandb_mode")
    if mode in {"offline", "disabled"}:
        return "wandb offline" if mode == "offline" else "disabled"
    return f"wandb {config.get('wandb_project') or 'huggingface'}/{config['model_short_name']}"


def box(fields: Mapping[str, str]) -> str:
    """The fields as a box of text."""
    lines = [f"{name:<{max(map(len, FIELDS))}}  {value}" for name, value in fields.items()]
    width = max(len(line) for line in [*lines, TITLE * 2])
    top = f"┌{TITLE}{'─' * (width + 2 - len(TITLE))}┐"
    return "\n".join([top, *(f"│ {line:<{width}} │" for line in lines), f"└{'─' * (width + 2)}┘"])


def blanks(fields: Mapping[str, str]) -> list[str]:
    """The fields that are not filled in."""
    return [name for name in FIELDS if not fields.get(name, "").strip() or "None" in fields[name].split()]


def write_preflight(project: Path, fields: Mapping[str, str]) -> Path:
    """Keep the box as `meta/preflight.json`."""
    return write_json(project / RECORD, dict(fields))


def read_preflight(project: Path) -> dict[str, str]:
    """The kept box; empty where there is none."""
    file = project / RECORD
    return dict(read_json(file)) if file.is_file() else {}
