"""`evaluation measure`: a metric result by whichever evaluator the metric contract names."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from tasks.action import ActionCode
from tasks.artifacts import existing_file, write_json
from tasks.errors import InputError
from tasks.evaluation.action import FAR_AT_RECALL, RESULT, FarAtRecallSpec
from tasks.evaluation.contract import MetricResult
from tasks.evaluation.evaluator import AwaitedArtifact, Builtin, CheckpointKind, Command
from tasks.evaluation.external import FIGURES, answer_of_artifact, answer_of_command
from tasks.evaluation.kpi import far_at_recall
from tasks.gap_analysis.scores import read_scores

logger = logging.getLogger("deft")

LOG = "evaluator.log"


class MeasureSpec(FarAtRecallSpec):
    """`evaluation measure`: the inference of one checkpoint of one phase, and the contract."""

    iter_label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    checkpoint_kind: CheckpointKind


def run(spec: MeasureSpec) -> None:
    """Measure with the contract's evaluator and leave `metric_result.json`.

    Raises:
        InputError: as `far_at_recall` does; or the executable of a command is not one.
        StageFailed: a command or an artifact gives no answer, or none to this contract.
    """
    evaluator = spec.metric_contract.evaluator
    if isinstance(evaluator, Builtin):
        FAR_AT_RECALL.run(spec)
        return
    existing_file(spec.inference_csv, "inference CSV")
    if isinstance(evaluator, Command):
        answer = answer_of_command(
            evaluator, spec.metric_contract, spec.inference_csv, spec.results_dir / LOG
        )
    else:
        answer = answer_of_artifact(
            evaluator, spec.metric_contract, spec.inference_csv, _awaited(spec, evaluator)
        )
    result = with_figures(answer, spec.inference_csv)
    write_json(spec.results_dir / RESULT, result.model_dump(mode="json"))


def with_figures(result: MetricResult, inference_csv: Path) -> MetricResult:
    """The result with our own `FIGURES` of the CSV among its diagnostics, where it does not give them."""
    try:
        rows = read_scores(inference_csv, required=())
        own = far_at_recall(rows.scores, rows.is_pass).diagnostics
    except InputError as error:
        logger.info("no %s beside the metric: %s", " and ".join(FIGURES), error)
        return result
    figures = {name: own[name] for name in FIGURES}
    return result.model_copy(update={"diagnostics": {**figures, **result.diagnostics}})


def _awaited(spec: MeasureSpec, artifact: AwaitedArtifact) -> Path:
    return artifact.path_for(spec.iter_label, spec.checkpoint_kind)


def _outputs(spec: MeasureSpec) -> dict[str, Path]:
    evaluator = spec.metric_contract.evaluator
    if isinstance(evaluator, Builtin):
        return FAR_AT_RECALL.outputs(spec)
    names = (RESULT, LOG) if isinstance(evaluator, Command) else (RESULT,)
    return {name: spec.results_dir / name for name in names}


def _reads(spec: MeasureSpec) -> Iterable[Path]:
    """The files that an evaluator is made of: a changed program or script measures anew."""
    evaluator = spec.metric_contract.evaluator
    if isinstance(evaluator, Command):
        return [evaluator.executable, *(Path(word) for word in evaluator.args if Path(word).is_absolute())]
    if isinstance(evaluator, AwaitedArtifact):
        return [_awaited(spec, evaluator)]
    return []


MEASURE = ActionCode(
    spec=MeasureSpec,
    run=run,
    folder=lambda spec: spec.results_dir,
    outputs=_outputs,
    headline=FAR_AT_RECALL.headline,
    reads=_reads,
    version=FAR_AT_RECALL.version,
)
