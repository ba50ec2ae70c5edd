"""Section 6: the data loop."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from tasks.deft.run import LoopSettings
from tasks.errors import InputError
from tasks.evaluation.contract import MetricContract
from tasks.preflight.look import Look
from tasks.preflight.registry import Answer, answer, check, worst
from tasks.preflight.subject import LoopPhase
from tasks.spec import explained

NAMES = {
    "max_iterations": "iterations at most",
    "num_epochs": "epochs of each training",
    "num_sdg": "synthetic pairs an iteration (num SDG)",
    "topn": "neighbours of each weak sample (top-K)",
    "min_similarity": "least similarity (cutoff)",
    "sdg_source": "source of synthetic pairs",
    "encoder": "encoder",
}
"""Settings that the run-config table names in its own words (spec deft-loop 8)."""

REPORTING = "spot_check"
"""The one parameter of the loop that decides nothing but what its reports say."""


def _loop(look: Look) -> LoopPhase:
    assert look.subject.loop is not None
    return look.subject.loop


@check("loop.config", 6, "loop")
def config(look: Look) -> Answer:
    """The run configuration, and whether the loop takes its settings; all of them are listed at the end."""
    rows = [*_rows(look)]
    if look.subject.profile == "aoi_changenet":
        problem = _problem(_loop(look).settings, starts_images=look.subject.starts_images)
        if problem:
            return answer("block", problem, rows)
    return answer("ok", "run configuration", rows)


def _problem(given: dict[str, object], *, starts_images: bool) -> str:
    deciding = {name: value for name, value in given.items() if name != REPORTING}
    try:
        settings = LoopSettings.model_validate(deciding)
    except ValidationError as error:
        return f"settings of the loop: {explained(error)}"
    if settings.sdg_source == "anomalygen" and not starts_images:
        return "sdg_source=anomalygen needs a runtime that starts NVIDIA's image; use open or another runtime"
    if (settings.sdg_source == "pregenerated") != (settings.pregenerated_dir is not None):
        return "pregenerated_dir, the folder that holds sdg/, goes with sdg_source=pregenerated"
    return ""


def _rows(look: Look) -> Iterator[tuple[str, object]]:
    phase, network = _loop(look), look.network
    settings = phase.settings
    yield "KPI target", _shown(settings.get("metric"))
    yield "network mode", f"{'airgap' if network.offline else 'network-enabled'}, by {network.source}"
    for key, name in NAMES.items():
        if key not in settings:
            continue
        value = settings[key]
        if key == "num_epochs" and value is None:
            value = f"{look.sets.model.num_epochs}, from the base spec"
        yield name, _shown(value)
    yield (
        "stops",
        f"as soon as the KPI target holds, or after {settings.get('max_iterations')} iterations",
    )
    yield "GPUs", ", ".join(one.model for one in look.gpus) or "none"
    yield "resuming", "an unfinished run is taken up" if look.subject.resuming else "no, a new run"
    yield "baseline", phase.baseline
    yield "results", phase.results_dir


def _shown(value: object) -> str:
    if isinstance(value, dict):  # a metric contract by its fields
        return " ".join(str(value.get(key)) for key in ("display_name", "operator", "target", "unit"))
    return "not given" if value is None else str(value)


@check("loop.metric", 6, "loop")
def metric(look: Look) -> Answer:
    """The metric contract that the loop must meet."""
    try:
        contract = MetricContract.of(_loop(look).settings.get("metric") or "")
    except InputError as error:
        return answer("block", str(error))
    rows = [("metric contract", _in_words(contract))]
    if contract.evaluator.type == "command" and not contract.evaluator.executable.is_file():
        return answer("block", f"evaluator {contract.evaluator.executable}: no such file", rows)
    return answer("ok", "the metric contract can be read", rows)


def _in_words(contract: MetricContract) -> str:
    bounds = [
        f"{one.display_name} {one.operator} {one.target:g} {one.unit}"
        for one in (contract, *contract.constraints)
    ]
    return f"{', while '.join(bounds)}; measured by {contract.evaluator.type}"


@check("loop.assets", 6, "loop")
def assets(look: Look) -> Answer:
    """What augmentation needs: generator, encoder, backbone."""
    options = {"offline": look.network.offline, "in_image": look.in_nvidia_image}
    found = [*look.sets.assets(**options), look.sets.backbone(**options)]
    rows = [(one.name, one.where, one.status) for one in found]
    problems = [f"{one.name} {one.where}: {one.status}" for one in found if one.outcome == "block"]
    text = "; ".join(problems) or "augmentation assets"
    return answer(worst(one.outcome for one in found), text, rows, ("Asset", "Where", "Status"))


@check("loop.gate", 6, "loop")
def gate(look: Look) -> Answer:
    """The loop has no gate of its own."""
    return answer("ok", "no second prompt", [("inner gate", "approved by this gate")])
