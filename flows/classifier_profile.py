"""The profile of an image classifier on image folders: the same pipeline on another kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from blocks.runtime import Runtime
from flows.approved import whole_parameters
from flows.classifier_loop import classifier_loop
from flows.profiles import Data, Profile
from tasks.artifacts import copied_whole, read_json, write_json
from tasks.automl.space import Parameter
from tasks.automl.trial import Outcome, Report, SweepMetric
from tasks.automl.watching import watched
from tasks.classifier.loop import STATE_FILE, LoopState
from tasks.classifier.metrics import TRUE_LABEL, error_pct, read_scores
from tasks.classifier.search_space import PARAMETERS
from tasks.classifier.task import measure, score, train_classifier
from tasks.classifier.workspace import BASELINE_SPEC, read_baseline, training_values, write_row_lists
from tasks.errors import InputError
from tasks.evaluation.contract import MetricContract, MetricResult
from tasks.pipeline.facts import LoopOutcome, Registered, Stage, TunedModel
from tasks.status import STATUS_FILE, status_lines, validation_losses

BASELINE, FINAL = "baseline", "final_automl"
LISTS = "dataset"
REGISTERED = "final_automl.json"
TIE_SHARE = 0.9
"""Of a step of the error, what the mean probability of the true label may add at most."""


@dataclass(frozen=True)
class ClassifierTrainer:
    """Trains and judges specs on one list of rows.

    Attributes:
        root: the workspace.
        data: the training rows.
        validation_csv: the rows that rank trials.
        warm_start: the checkpoint that every trial starts from.
        metric: of the sweep.
        runtime: where actions run.
    """

    root: Path
    data: Data
    validation_csv: Path
    warm_start: Path | None
    metric: SweepMetric
    runtime: Runtime

    def __call__(self, spec: dict[str, Any], folder: Path, report: Report) -> Outcome:
        """Train in `folder`, measure the checkpoint of the best epoch on the validation set."""
        values = training_values(
            spec,
            self.root,
            training_csv=self.data.csv,
            validation_csv=self.validation_csv,
            results_dir=folder,
            pretrained_model_path=self.warm_start,
        )
        by_loss = self.metric.name == "val_loss"
        values["train"]["checkpoint_metric"] = "val_loss" if by_loss else "val_error"
        with watched(folder / "train", values["train"]["checkpoint_metric"], report):
            stage = train_classifier(values, self.runtime)
        checkpoint = stage.path("best").resolve()
        epoch = int(checkpoint.stem.split("_")[2])
        val_loss = validation_losses(status_lines(stage.path(STATUS_FILE))).get(epoch)
        scored = score(checkpoint, spec, self.root, self.validation_csv, folder / "validation", self.runtime)
        rows = read_scores(scored.inference_csv)
        error, classes = error_pct(rows), rows["predicted"].value_counts().sort_index().to_dict()
        figure = val_loss if by_loss else error
        if figure is None:
            raise InputError(f"{checkpoint}: its training reports no val_loss; choose another metric")
        ties = TIE_SHARE * (100 / len(rows)) * (1 - float(rows[TRUE_LABEL].mean()))
        return Outcome(
            score=figure,
            target=figure if by_loss else figure + ties,
            checkpoint=checkpoint,
            epoch=epoch,
            epochs=int(values["train"].get("num_epochs", 10)),
            facts={"error_pct": error, "val_loss": val_loss},
            predicted={str(label): int(count) for label, count in classes.items()},
            collapse="every row gets one label" if len(classes) == 1 else "",
        )


class ClassifierProfile(Profile):
    """An image classifier of transformers on a workspace of image folders."""

    name: ClassVar[str] = "image_classifier"
    category: ClassVar[str] = "image_classifier"
    metrics: ClassVar[dict[str, SweepMetric]] = {
        "error_pct": SweepMetric(name="error_pct", direction="minimise", unit="%"),
        "val_loss": SweepMetric(name="val_loss", direction="minimise"),
    }
    parameters: ClassVar[tuple[Parameter, ...]] = PARAMETERS
    loop_flow: ClassVar[str] = "flows.classifier_loop:classifier_loop"

    @property
    @override
    def base_file(self) -> Path:
        return self.root / BASELINE_SPEC

    @override
    def base_spec(self) -> dict[str, Any]:
        return read_baseline(self.root)

    @override
    def data(self) -> dict[str, Path]:
        sets = {name: self.root / name for name in ("train", "validation", "kpi", "pool")}
        return {name: folder for name, folder in sets.items() if folder.is_dir()}

    @property
    @override
    def training_set(self) -> Path:
        return self.root / "train"

    @property
    @override
    def validation_set(self) -> Path:
        return self.root / "validation"

    @override
    def base_data(self, folder: Path) -> Data:
        return Data(write_row_lists(self.root, folder / LISTS).train, self.root)

    @override
    def combined_data(self, csv: Path) -> Data:
        return Data(csv, self.root)

    @override
    def trainer(
        self,
        folder: Path,
        data: Data,
        warm_start: Path | None,
        metric: SweepMetric,
        runtime: Runtime,
        concurrency: int,
    ) -> ClassifierTrainer:
        lists = write_row_lists(self.root, folder / LISTS)
        return ClassifierTrainer(self.root, data, lists.validation, warm_start, metric, runtime)

    @override
    def untrained_score(
        self, folder: Path, checkpoint: Path | None, metric: SweepMetric, runtime: Runtime
    ) -> float | None:
        if checkpoint is None or metric.name != "error_pct":
            return None
        lists = write_row_lists(self.root, folder / LISTS)
        spec = self.base_spec()
        return error_pct(
            read_scores(score(checkpoint, spec, self.root, lists.validation, folder, runtime).inference_csv)
        )

    @override
    def metric_step(self, metric: SweepMetric) -> float:
        rows = sum(1 for file in self.validation_set.glob("*/*") if file.is_file())
        return 100.0 / rows if metric.name == "error_pct" and rows else 0.0

    @override
    def loop_parameters(self, folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
        return whole_parameters(classifier_loop, given, workspace=self.root, results_dir=folder)

    @override
    def place_checkpoint(self, folder: Path, model: TunedModel) -> Path:
        return copied_whole(model.checkpoint, folder / BASELINE / "train" / model.checkpoint.name)

    @override
    def preseed(
        self, folder: Path, loop: Mapping[str, Any], model: TunedModel, checkpoint: Path
    ) -> dict[str, Any]:
        return {"baseline_checkpoint": checkpoint}

    @override
    def loop_outcome(self, folder: Path, loop: Mapping[str, Any]) -> LoopOutcome:
        state = _state(folder)
        if not state.complete:
            raise InputError(f"{folder}: the loop has not finished; run it again")
        best, last = state.best, state.phases[-1]
        grown = last.label != BASELINE
        return LoopOutcome(
            best=best.label,
            checkpoint=best.checkpoint,
            last=last.label if grown else None,
            combined_csv=last.training_csv if grown else None,
            met=best.passed,
            stages=[
                _stage(state, phase.label, phase.metric_result, phase.checkpoint, phase.rows)
                for phase in state.phases
            ],
        )

    @override
    def register(
        self, folder: Path, loop: Mapping[str, Any], model: TunedModel, runtime: Runtime
    ) -> Registered:
        state = _state(folder)
        contract = MetricContract.of(state.settings.metric)
        kpi = write_row_lists(self.root, folder / LISTS).kpi
        result = measure(
            model.checkpoint, model.spec, self.root, kpi, contract, folder / FINAL / "kpi", runtime
        )
        best = state.best
        won = contract.better(result, best.metric_result)
        label, checkpoint = (FINAL, model.checkpoint) if won else (best.label, best.checkpoint)
        final = {"checkpoint": model.checkpoint, "metric_result": result.model_dump(), "source": model.source}
        facts = {
            "delivered": label,
            "checkpoint": checkpoint,
            "metric_result": (result if won else best.metric_result).model_dump(),
        }
        links = {
            FINAL: write_json(folder / REGISTERED, final),
            "best_model": write_json(folder / "best_model.json", facts),
        }
        return Registered(
            stage=_stage(state, "phase 3 best", result, model.checkpoint, None),
            delivered=label,
            checkpoint=checkpoint,
            threshold=None,
            links=links,
        )


def _state(folder: Path) -> LoopState:
    return LoopState.model_validate(read_json(folder / STATE_FILE))


def _stage(state: LoopState, label: str, result: MetricResult, checkpoint: Path, rows: int | None) -> Stage:
    contract = MetricContract.of(state.settings.metric)
    return Stage(
        stage=label,
        set="KPI",
        metric=contract.display_name,
        value=result.value,
        unit=result.unit,
        smaller_is_better=contract.operator in ("<", "<="),
        rows=rows,
        checkpoint=checkpoint,
    )
