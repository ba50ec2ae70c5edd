"""The results of a project as its programs left them: metrics, samples, weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml
from pydantic import BaseModel, ConfigDict

from tasks.artifacts import existing_file, read_json
from tasks.errors import InputError, listed
from tasks.huggingface.commands import Name, checkpoint_of

IMAGE = Path("meta") / "image.json"
HARDWARE = Path("meta") / "hardware.json"
RECIPE = Path("meta") / "recipe.json"
DONE = Path("meta") / "commands.json"
"""When each command was done; and, as `render`, when the files of the project were written."""
BASELINE = Path("reports") / "baseline_results.json"
EVALUATED = Path("reports") / "eval_results.json"
SAMPLES = Path("reports") / "inference_samples"
REPORTS = ("reports/report.pdf", "reports/report.html")
TESTED = Path("reports") / "tests.xml"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class Metric(BaseModel):
    """The primary metric of an evaluation."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    higher_is_better: bool
    n_eval: int
    checkpoint: str


def read_config(project: Path) -> dict[str, Any]:
    """What `config.yaml` of a project says.

    Raises:
        InputError: it is missing or no mapping.
    """
    file = existing_file(project / "config.yaml", "config.yaml of the project")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not valid YAML: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{file}: a mapping of names to values is expected")
    return config


def primary_metric(file: Path) -> Metric:
    """The primary metric in a JSON file of `run_eval.py`.

    Raises:
        InputError: the file is missing, or its primary metric is no finite number.
    """
    found = read_json(file)
    primary = found.get("primary_metric") if isinstance(found, dict) else None
    if not isinstance(primary, Mapping):
        raise InputError(f"{file}: primary_metric is missing; run run_eval.py again")
    value = primary.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{file}: primary_metric.value is {value!r}, not a number")
    return Metric(
        name=str(primary.get("name")),
        value=float(value),
        higher_is_better=bool(primary.get("higher_is_better", True)),
        n_eval=int(found.get("n_eval") or 0),
        checkpoint=str(found.get("checkpoint", "")),
    )


def other_metrics(file: Path) -> dict[str, float]:
    """The other figures of an evaluation, by name."""
    found = read_json(file) if file.is_file() else {}
    known = {"n_eval", "seconds"}
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in known
    }


def baseline_of(project: Path, config: Mapping[str, Any]) -> Metric | None:
    """The metric before training; None where the baseline is skipped."""
    return None if config.get("skip_baseline") else primary_metric(project / BASELINE)


def ran_in_image(project: Path) -> bool:
    """Whether the commands of a project ran in containers of its image."""
    file = project / IMAGE
    return file.is_file() and read_json(file).get("place") == "docker"


def sample_files(project: Path) -> list[Path]:
    """The `sample_<i>_meta.json` of the inference samples, in their order."""
    return sorted(
        (project / SAMPLES).glob("sample_*_meta.json"), key=lambda file: int(file.stem.split("_")[1])
    )


def failed_tests(project: Path) -> list[str]:
    """Which of the project's own tests failed, by its report; or that they were not run."""
    file = project / TESTED
    if not file.is_file():
        return ["the unit tests were not run"]
    try:
        cases = list(ElementTree.parse(file).iter("testcase"))  # noqa: S314 (expat since 2.4 refuses entity bombs)
    except ElementTree.ParseError as error:
        return [f"{TESTED}: {error}; run the unit tests again"]
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    findings = [f"the unit test {case.get('name')} failed, see logs/tests.log" for case in bad]
    return findings if cases else [f"{TESTED}: no unit test was run"]


def lacking(name: Name, project: Path, config: Mapping[str, Any]) -> list[str]:
    """What a command leaves in a project and is not there, or not whole; nothing where it is done."""
    try:
        return LEFT[name](project, config)
    except InputError as error:
        return [str(error)]


def _prepared(project: Path, config: Mapping[str, Any]) -> list[str]:
    folder = project / (config.get("local_data_dir") or "data")
    findings = [f"{folder / name} is missing" for name in ("train", "eval") if not (folder / name).is_dir()]
    made_from = read_json(folder / "prepared.json")["made_from"]
    other = [name for name, value in made_from.items() if config.get(name, value) != value]
    return findings + ([f"{folder} was made from another {listed(other)}"] if other else [])


def _measured(project: Path, _config: Mapping[str, Any]) -> list[str]:
    primary_metric(project / BASELINE)
    return []


def _trained(project: Path, config: Mapping[str, Any]) -> list[str]:
    about = "adapter_config.json" if config.get("use_lora") else "config.json"
    weights_in(project / "checkpoints" / "final", about)
    existing_file(project / "checkpoints" / "trainer_state.json", "the training's")
    return []


def _merged(project: Path, config: Mapping[str, Any]) -> list[str]:
    uploaded_folder(project, config)
    return []


def _evaluated(project: Path, config: Mapping[str, Any]) -> list[str]:
    done = primary_metric(project / EVALUATED).checkpoint
    if Path(done).as_posix().rstrip("/").removeprefix("./") == checkpoint_of(config):
        return []
    return [f"{done} was evaluated, but {checkpoint_of(config)} is pushed"]


def _sampled(project: Path, _config: Mapping[str, Any]) -> list[str]:
    count, wanted = len(sample_files(project)), min(5, primary_metric(project / EVALUATED).n_eval or 5)
    return [f"{count} of {wanted} inference samples are there"] if count < wanted else []


LEFT: dict[Name, Callable[[Path, Mapping[str, Any]], list[str]]] = {
    "prepare": _prepared,
    "tests": lambda project, _config: failed_tests(project),
    "baseline": _measured,
    "train": _trained,
    "merge": _merged,
    "evaluate": _evaluated,
    "infer": _sampled,
    "report": lambda project, _: [f"{one} is missing" for one in REPORTS if not (project / one).is_file()],
}


def weights_in(folder: Path, about: str = "config.json") -> list[Path]:
    """The files of a model's weights.

    Raises:
        InputError: the folder is no saved model: no such file about it, no weights, or a part is missing or
            cut off.
    """
    existing_file(folder / about, "the trained model's")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = sorted({folder / name for name in read_json(index)["weight_map"].values()})
    else:
        files = sorted(file for form in WEIGHTS for file in folder.glob(form))
    if not files:
        raise InputError(f"{folder} holds no weights; train again")
    for file in files:
        existing_file(file, "weights")
        if file.suffix == ".safetensors":
            _check_safetensors(file)
    return files


def uploaded_folder(project: Path, config: Mapping[str, Any]) -> Path:
    """The folder whose weights are evaluated and pushed: `checkpoints/merged` or `checkpoints/final`.

    Raises:
        InputError: it holds no whole model.
    """
    folder = project / checkpoint_of(config)
    weights_in(folder)
    return folder


def commands_done(project: Path) -> dict[str, Any]:
    """When each command was done, and how many seconds it took."""
    file = project / DONE
    return dict(read_json(file)) if file.is_file() else {}


def _check_safetensors(file: Path) -> None:
    """The header tells where the last tensor ends; a file that is shorter was cut off."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 + length or not length:
            raise InputError(f"{file} is cut off; train again")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise InputError(f"{file} is no safetensors file: {error}") from error
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if not ends or size != 8 + length + max(ends):
        raise InputError(f"{file} is cut off; train again")
