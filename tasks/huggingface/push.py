"""The push to the hub: which files, the model card, no secrets among them, and whether it all arrived."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from blocks.containers.secrets import RULES
from tasks.artifacts import now, read_json, write_atomically, write_json, write_text
from tasks.errors import DeftError, InputError, StageFailed, listed
from tasks.huggingface.compat import runtime_environment
from tasks.huggingface.hub import client_errors
from tasks.huggingface.kinds import TASKS
from tasks.huggingface.results import (
    BASELINE,
    EVALUATED,
    REPORTS,
    SAMPLES,
    baseline_of,
    other_metrics,
    primary_metric,
    ran_in_image,
    uploaded_folder,
    weights_in,
)
from tasks.reports.markdown import NONE, code, escaped, table

logger = logging.getLogger("deft")

RECORD = Path("meta") / "push.json"
COPIES = Path("meta") / "pushed"
TEXTS = {".json", ".yaml", ".txt", ".html"}
LARGEST_TEXT = 50_000_000
CARD = Path("meta") / "model_card.md"
FLOW = "deft-flows-finetune-huggingface"
MOST_SAMPLES = 5
LEFT_OUT = (
    *(
        "training_args.bin",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state*.pth",
        "scaler.pt",
        "trainer_state.json",
    ),
    *(".env", ".env.*", "README.md", "*.tmp"),
)
RESULTS = (str(EVALUATED), str(BASELINE), "config.yaml", "Dockerfile", "requirements.txt")
OLD_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")
BINARY = {".safetensors", ".bin", ".jpg", ".jpeg", ".png", ".pdf", ".model"}
VOCABULARY = {"tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "added_tokens.json"}
ONLY_IN_PROSE = {"the value of a secret name", "a key in hex", "an authorization"}
"""Rules that a model's own files break without a secret: by vocabularies, names of tokens, chat templates."""


class Pushed(BaseModel):
    """A push that arrived."""

    model_config = ConfigDict(frozen=True)

    repo_id: str
    url: str
    commit: str
    files: list[str]
    at: str


def files_to_push(project: Path, config: Mapping[str, Any]) -> dict[str, Path]:
    """Each file of the push by its place in the repository, without the card.

    Raises:
        InputError: there is no whole trained model, or a result is missing.
    """
    weights = uploaded_folder(project, config)
    files = {
        str(file.relative_to(weights).as_posix()): file
        for file in sorted(weights.rglob("*"))
        if file.is_file() and not any(fnmatch(file.name, form) for form in LEFT_OUT)
    }
    for name in RESULTS:
        file = project / name
        if file.is_file():
            files[f"results/{file.name}"] = file
        elif name == str(EVALUATED) or (name == str(BASELINE) and not config.get("skip_baseline")):
            raise InputError(f"{file} is missing; the results are pushed with the model")
    for name in REPORTS:
        if config.get("emit_report") and (project / name).is_file():
            files[f"results/{Path(name).name}"] = project / name
    pictures = sorted((project / SAMPLES).glob("sample_*.jpg"))
    shown = [file for file in pictures if int(file.stem.split("_")[1]) < MOST_SAMPLES]
    return files | {f"results/inference_samples/{file.name}": file for file in shown}


def secrets_in(files: Mapping[str, Path]) -> list[str]:
    """What looks like a secret in files about to be pushed: `place, line N: kind`, never its value."""
    return [
        f"{place}, line {number}: {kind}"
        for place, file in files.items()
        if file.suffix not in BINARY
        for number, kind in _secret_lines(place, file)
    ]


def _secret_lines(place: str, file: Path) -> Iterable[tuple[int, str]]:
    of_the_model = place != "README.md" and not place.startswith("results/")
    rules = [(kind, masked) for kind, masked in RULES if not (of_the_model and kind in ONLY_IN_PROSE)]
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            for kind, masked in rules:
                if masked(line) != line:
                    yield number, kind
                    break


def model_card(project: Path, config: Mapping[str, Any]) -> str:
    """The README.md of the repository: front matter, metrics before and after, facts, how to use it."""
    evaluated = primary_metric(project / EVALUATED)
    dataset = config.get("dataset_id")
    front = {
        "library_name": "transformers",
        **({} if _is_local(config["model_id"]) else {"base_model": config["model_id"]}),
        **({"datasets": [dataset]} if dataset else {}),
        "tags": [str(config["task"]), "fine-tuned", "nvidia-ngc", FLOW],
    }
    name = str(config["model_short_name"])
    base = (
        escaped(PurePosixPath(config["model_id"]).name)
        if _is_local(config["model_id"])
        else _hub_link(config["model_id"])
    )
    data = (
        f"[{escaped(dataset)}](https://huggingface.co/datasets/{dataset})" if dataset else "a local dataset"
    )
    facts = table(["Training", "Value"], _facts(project, config))
    kind = TASKS[str(config["task"])]
    processor, model = kind.processor_class, kind.auto_class
    repository = config.get("hf_model_repo") or name
    usage = (
        f"from transformers import {processor}, {model}\n\n"
        f'processor = {processor}.from_pretrained("{repository}")\n'
        f'model = {model}.from_pretrained("{repository}")\n'
    )
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {escaped(name)}\n\n"
        f"{base}, fine-tuned on {data} for {escaped(str(config['task']))}; {now()[:10]}.\n\n"
        f"## Results\n\nOn {evaluated.n_eval} rows that were not trained on.\n\n"
        f"{metric_table(project, config)}\n\n## Training\n\n{facts}\n\n"
        f"## Use\n\n```python\n{usage}```\n"
    )


def metric_table(project: Path, config: Mapping[str, Any]) -> str:
    """Every figure of the evaluation before and after the training, the primary one first."""
    evaluated, baseline = primary_metric(project / EVALUATED), baseline_of(project, config)
    before = other_metrics(project / BASELINE) if baseline else {}
    after = other_metrics(project / EVALUATED)
    rows: list[tuple[object, ...]] = [
        (evaluated.name, *_compared(baseline.value if baseline else None, evaluated.value))
    ]
    rows += [(name, *_compared(before.get(name), after[name])) for name in after if name != evaluated.name]
    return table(["Metric", "Baseline", "Fine-tuned", "Δ"], rows)


def _compared(before: float | None, after: float) -> tuple[object, ...]:
    if before is None:
        return NONE, f"{after:.4f}", NONE
    return f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"


def _facts(project: Path, config: Mapping[str, Any]) -> list[tuple[object, ...]]:
    image = config.get("ngc_image") if ran_in_image(project) else None
    batch = f"{config.get('per_device_train_batch_size')} x {config.get('gradient_accumulation_steps', 1)}"
    rows: list[tuple[object, ...]] = [
        ("rows trained on, at most", config.get("n_train")),
        ("steps", config["max_steps"])
        if config.get("max_steps")
        else ("epochs", config.get("num_train_epochs")),
        ("batch per device x accumulation", batch),
        ("learning rate", code(config.get("learning_rate"))),
        ("precision", "bf16" if config.get("bf16") and config.get("gpu_count") else "fp32"),
        ("image", code(image) if image else "none: processes"),
    ]
    if config.get("use_lora"):
        rows.append(("LoRA", f"r {config.get('lora_r')}, alpha {config.get('lora_alpha')}, merged"))
    return rows


def _hub_link(name: Any) -> str:
    return f"[{escaped(str(name))}](https://huggingface.co/{name})"


def _is_local(model: Any) -> bool:
    return PurePosixPath(str(model)).is_absolute()


def push(project: Path, config: Mapping[str, Any]) -> Pushed:
    """Push the trained model, its card and its results to a private repository.

    The token is the one that huggingface_hub finds by itself, HF_TOKEN as a rule.

    Raises:
        InputError: there is no repository name, something is missing, or a file seems to hold a secret.
        StageFailed: the hub refused, or something did not arrive.
    """
    repository = config.get("hf_model_repo")
    if not repository:
        raise InputError("config.yaml: hf_model_repo is missing; give owner/name, or push_to_hub: false")
    files = {
        place: _portable(project, config, file) for place, file in files_to_push(project, config).items()
    }
    files["README.md"] = write_text(project / CARD, model_card(project, config))
    found = secrets_in(files)
    if found:
        raise InputError(f"nothing was pushed, files seem to hold secrets: {listed(found)}; remove them")
    no_xet = runtime_environment(config.get("applicable_workarounds") or []).get("HF_HUB_DISABLE_XET") == "1"
    with _xet(off=no_xet):
        pushed = _upload(str(repository), files, str(config["model_short_name"]))
    missing = missing_in(pushed.files, project, config)
    if missing:
        raise StageFailed(f"{pushed.url} lacks {listed(missing)}; push again")
    write_json(project / RECORD, pushed.model_dump())
    logger.info("pushed %d files to %s", len(files), pushed.url)
    return pushed


def _portable(project: Path, config: Mapping[str, Any], file: Path) -> Path:
    """The file, or a copy in which folders of this machine, nobody's business, go by their last name.

    A word of a vocabulary may read like such a folder, and stays.
    """
    if file.suffix not in TEXTS or file.name in VOCABULARY or file.stat().st_size > LARGEST_TEXT:
        return file
    places = {
        str(config[key]) for key in ("model_id", "local_dataset_path", "project_dir") if config.get(key)
    }
    before = content = file.read_bytes()
    for place in sorted({one for one in places | {str(project)} if _is_local(one)}, key=len, reverse=True):
        forms = {place, json.dumps(place)[1:-1], PurePosixPath(place).as_uri()}
        whole = rf"(?<![\w.:/-])(?:{'|'.join(map(re.escape, forms))})(?![\w-]|\.\w)"
        content = re.sub(whole.encode(), lambda found: found[0].rpartition(b"/")[2], content)
    if content == before:
        return file
    return write_atomically(project / COPIES / file.relative_to(project), lambda copy: copy.write(content))


def missing_in(names: Iterable[str], project: Path, config: Mapping[str, Any]) -> list[str]:
    """What a repository with these files lacks of weights, card and results."""
    there = set(names)
    folder = uploaded_folder(project, config)
    wanted = {file.name for file in weights_in(folder)} | {"config.json", "README.md"}
    wanted |= {place for place in files_to_push(project, config) if place.startswith("results/")}
    return sorted(wanted - there)


@contextmanager
def _xet(*, off: bool) -> Iterator[None]:
    """Upload without the Xet protocol, which hangs at some sites; the client reads a constant."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = before or off
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def _upload(repository: str, files: Mapping[str, Path], name: str) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(library_name=FLOW)
    operations: list[Any] = [
        CommitOperationAdd(path_in_repo=place, path_or_fileobj=file) for place, file in files.items()
    ]
    try:
        url = api.create_repo(repository, private=True, exist_ok=True)
        before = api.model_info(repository)
        if not before.private:
            raise StageFailed(f"{url} is public; make it private, or give another hf_model_repo")
        # transformers would load weights of an earlier model in place of the new ones
        operations += [
            CommitOperationDelete(path_in_repo=one.rfilename)
            for one in before.siblings or []
            if one.rfilename not in files and any(fnmatch(one.rfilename, form) for form in OLD_WEIGHTS)
        ]
        commit = api.create_commit(
            repository, operations=operations, commit_message=f"{name}: fine-tuned model and its results"
        )
        there = api.model_info(repository, revision=commit.oid).siblings or []
    except client_errors() as error:
        raise StageFailed(f"push to {repository}: {explained(error)}") from error
    return Pushed(
        repo_id=repository,
        url=str(url),
        commit=str(commit.oid),
        files=sorted(one.rfilename for one in there),
        at=now(),
    )


def explained(error: BaseException) -> str:
    """Why the hub refused, in words a person can act on."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the hub does not know this token; set HF_TOKEN to a valid one"
    if status == 403:
        return "the token has no write access; give one that has, or another hf_model_repo in config.yaml"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def read_pushed(project: Path) -> Pushed:
    """The record of the push; raises `DeftError` where there is none."""
    file = project / RECORD
    if not file.is_file():
        raise DeftError(f"{file} is missing: the model was not pushed")
    return Pushed.model_validate(read_json(file))
