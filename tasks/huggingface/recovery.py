"""The error playbook: the smallest change of the configuration that may help, and when to ask a person.

A change never touches the model, the dataset, the task or the method; those need a person's approval.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from tasks.artifacts import existing_file, now, read_json, write_json, write_text
from tasks.errors import InputError
from tasks.huggingface.smoke import Kind
from tasks.reports.markdown import escaped

RECORD = Path("meta") / "recovery.json"
STRIKES = 3

ADVICE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (r"Bus error", "more shared memory for the workers of the data loader", {"shm_size": "32g"}),
    (r"unexpected keyword argument 'enable_gqa'", "eager attention", {"attn_implementation": "eager"}),
    (r"cannot import name 'main' from 'evaluate'", "the evaluation script has to be run_eval.py", {}),
    (r"pip cache purge", "delete that line of the Dockerfile", {}),
    (r"check_model_inputs", "pin transformers 4.49.0 and tokenizers 0.21.0 in requirements.txt", {}),
    (r"CVE-2025-32434", "take safetensors, a newer torch, or pin transformers 4.49.0", {}),
    (r"numpy\.core\.multiarray failed to import", "pin numpy<2 in requirements.txt", {}),
    (r"y_max.* y_min", "drop boxes without an area", {}),
    (r"'list' object has no attribute 'logits'", "choose by eval_loss, take the metric out", {}),
    (r"stack expects each tensor to be equal size", "a collator that pads", {}),
    (r"unexpected keyword argument 'return_tensors'", "a collator that pads by itself", {}),
    (r"zero-dimensional tensor .* cannot be concatenated", "take labels[0] instead of squeezing", {}),
    (r"bias type .* should be the same|type \(float\) and bias type", "fp32 weights and autocast", {}),
    (r"[Ii]mage features and image tokens do not|number of image token", "no truncation per sample", {}),
    (r"[Tt]arget modules .* not found", "another lora_target_modules", {}),
    (r"could not select device driver", "install NVIDIA's container toolkit", {}),
    (r"cannot import name|No module named|has no attribute|unexpected keyword argument",
     "look the interface up in the documentation of the installed version, then mend the script", {}),
)  # fmt: skip
"""Symptom in the log, what helps, and the change of the configuration where that is one."""


class Attempt(BaseModel):
    """A command that failed, and what was done about it."""

    model_config = ConfigDict(frozen=True)

    command: str
    kind: Kind
    message: str
    signature: str
    changes: dict[str, Any]
    why: str
    at: str


class Remedy(BaseModel):
    """What to do about a failure: `changes` of the configuration, or ask a person when there are none."""

    model_config = ConfigDict(frozen=True)

    changes: dict[str, Any]
    why: str

    @property
    def needs_a_person(self) -> bool:
        """Whether nothing may be tried without an approval."""
        return not self.changes


def signature(command: str, message: str) -> str:
    """What makes two failures the same: exception, message without figures and places, command."""
    text = re.sub(r"0x[0-9a-fA-F]+", "ADDRESS", message)
    text = re.sub(r"(?:/[\w.+-]+)+", "PATH", text)
    text = re.sub(r"\d+(?:\.\d+)?", "N", text)
    return f"{command}: {' '.join(text.split())[:200]}"


def remedy_for(
    kind: Kind, message: str, config: Mapping[str, Any], *, log: str = "", command: str = "train"
) -> Remedy:
    """The smallest change that the playbook knows for a failure."""
    if kind == "oom":
        return _memory(config, command)
    if kind == "nan":
        rate = float(config["learning_rate"])
        return Remedy(
            changes={"learning_rate": rate / 10, "max_grad_norm": 1.0},
            why=f"loss is no number: learning rate {rate:g} -> {rate / 10:g}, gradients clipped at 1",
        )
    if kind == "flat":
        return Remedy(
            changes={},
            why=f"{message}. Look at the masking of labels (share of labels that are not -100) and at the "
            f"learning rate ({config.get('learning_rate')})",
        )
    for symptom, why, changes in ADVICE:
        if re.search(symptom, f"{message}\n{log}"):
            missing = {name: value for name, value in changes.items() if config.get(name) != value}
            return Remedy(changes=missing, why=f"{message[:300]}: {why}")
    return Remedy(changes={}, why=f"{message[:300]}: not in the playbook")


def _memory(config: Mapping[str, Any], command: str) -> Remedy:
    """Half the batch of a device: of training with the same effective one, and gradient checkpointing."""
    if command in {"baseline", "evaluate"}:
        return _evaluation_memory(config)
    if command not in {"smoke", "train"}:
        return Remedy(changes={}, why=f"out of memory in {command}: a larger GPU, or more memory")
    batch = int(config["per_device_train_batch_size"])
    accumulated = int(config.get("gradient_accumulation_steps") or 1)
    checkpointing = {} if config.get("gradient_checkpointing") else {"gradient_checkpointing": True}
    if batch == 1:
        if checkpointing:
            return Remedy(changes=checkpointing, why="out of memory at batch 1: gradient checkpointing")
        return Remedy(changes={}, why="out of memory at batch 1 with gradient checkpointing: a larger GPU")
    effective = batch * accumulated
    smaller = next(size for size in range(batch // 2, 0, -1) if effective % size == 0)
    return Remedy(
        changes={
            "per_device_train_batch_size": smaller,
            "gradient_accumulation_steps": effective // smaller,
            **checkpointing,
        },
        why=f"out of memory: batch {batch} x {accumulated} -> {smaller} x {effective // smaller}, "
        "gradient checkpointing on",
    )


def _evaluation_memory(config: Mapping[str, Any]) -> Remedy:
    batch = int(config.get("per_device_eval_batch_size") or 1)
    if batch == 1:
        return Remedy(changes={}, why="out of memory in the evaluation at batch 1: a larger GPU")
    return Remedy(
        changes={"per_device_eval_batch_size": batch // 2},
        why=f"out of memory in the evaluation: batch {batch} -> {batch // 2}",
    )


def attempts_in(project: Path) -> list[Attempt]:
    """The failures of a project so far, in their order."""
    file = project / RECORD
    return [Attempt.model_validate(one) for one in read_json(file)] if file.is_file() else []


def remember(project: Path, command: str, kind: Kind, message: str, remedy: Remedy) -> Attempt:
    """Add a failure and what is done about it to `meta/recovery.json`."""
    attempt = Attempt(
        command=command,
        kind=kind,
        message=message,
        signature=signature(command, message),
        changes=remedy.changes,
        why=remedy.why,
        at=now(),
    )
    known = [*attempts_in(project), attempt]
    write_json(project / RECORD, [one.model_dump(mode="json") for one in known])
    return attempt


def struck_out(attempts: Sequence[Attempt], command: str, message: str) -> bool:
    """Whether a failure and the last ones before it were the same, so that trying again is no use."""
    last = [one.signature for one in attempts[1 - STRIKES :]]
    return last == [signature(command, message)] * (STRIKES - 1)


def told(attempts: Sequence[Attempt]) -> str:
    """The failures as lines for the person who is asked."""
    return "\n".join(f"- {one.at} {one.command}: {escaped(one.why)}" for one in attempts)


def change_config(file: Path, changes: Mapping[str, Any]) -> Path:
    """Write other values into `config.yaml`; its other lines, comments too, stay as they are.

    Raises:
        InputError: the file is missing, or a value that is to be replaced takes several lines.
    """
    text = existing_file(file, "config.yaml").read_text(encoding="utf-8")
    before = yaml.safe_load(text) or {}
    for name, value in changes.items():
        line = f"{name}: {yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]}"
        found = re.compile(rf"^{re.escape(name)}:[^\n#]*?(?P<comment>[ \t]+#[^\n]*)?$", re.MULTILINE)
        if name not in before:
            text = f"{text.rstrip()}\n{line}\n"
        else:
            text = found.sub(lambda old, new=line: f"{new}{old['comment'] or ''}", text, count=1)  # type: ignore[misc]
    try:
        changed = yaml.safe_load(text) == {**before, **changes}
    except yaml.YAMLError:
        changed = False
    if not changed:
        raise InputError(f"{file}: {', '.join(changes)} cannot be changed line by line; edit it by hand")
    return write_text(file, text)
