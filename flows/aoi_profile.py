"""The profile of the AOI siamese classifier: its workspace, its sweeps, its loop, its hand-overs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from blocks.runtime import Runtime
from blocks.versions import ANOMALYGEN, DATA_SERVICES, NATIVE, PYT
from flows.aoi_training import AoiTrainer, judged_on_validation, position_of
from flows.approved import whole_parameters
from flows.deft_aoi import deft_aoi, settings_of
from flows.deft_measuring import Measured, measured_checkpoint
from flows.named import encoder_named, metric_named
from flows.profiles import Data, Profile
from tasks.artifacts import copied_whole, write_yaml
from tasks.automl.space import Parameter
from tasks.automl.trial import SweepMetric
from tasks.changenet.search_space import PARAMETERS
from tasks.dataset.specs import read_spec, training_spec
from tasks.dataset.table import is_pass, read_table
from tasks.dataset.workspace import open_workspace
from tasks.deft.commits import preseed_baseline, register_final
from tasks.deft.handover import hand_over
from tasks.deft.run import Run, opened_run
from tasks.deft.stages import BASELINE, FINAL
from tasks.deft.state import DeftState, Phase
from tasks.errors import InputError
from tasks.evaluation.contract import MetricResult
from tasks.pipeline.facts import LoopOutcome, Registered, Stage, TunedModel

PRESEEDED = "Phase 1 checkpoint reused, baseline train skipped"


class AoiProfile(Profile):
    """NVIDIA TAO Visual ChangeNet, classify, on a workspace of images, specs, train, kpi and pool."""

    name: ClassVar[str] = "aoi_changenet"
    category: ClassVar[str] = "visual_changenet"
    metrics: ClassVar[dict[str, SweepMetric]] = {
        "far_pct": SweepMetric(name="far_pct", direction="minimise", unit="%"),
        "val_loss": SweepMetric(name="val_loss", direction="minimise"),
    }
    parameters: ClassVar[tuple[Parameter, ...]] = PARAMETERS
    loop_flow: ClassVar[str] = "flows.deft_aoi:deft_aoi"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.workspace = open_workspace(self.root)

    @property
    @override
    def base_file(self) -> Path:
        return self.workspace.baseline_spec

    @override
    def base_spec(self) -> dict[str, Any]:
        return read_spec(self.base_file)

    @override
    def data(self) -> dict[str, Path]:
        space = self.workspace
        named = {
            "training_csv": space.training_csv,
            "validation_csv": space.validation_csv,
            "kpi_test_csv": space.kpi_csv,
            "mining_pool_csv": space.pool_csv,
        }
        return {name: path for name, path in named.items() if path}

    @override
    def base_data(self, folder: Path) -> Data:
        return Data(self.workspace.training_csv, self.workspace.images_dir)

    @override
    def combined_data(self, csv: Path) -> Data:
        return Data(csv, self.workspace.root)

    @override
    def trainer(
        self,
        folder: Path,
        data: Data,
        warm_start: Path | None,
        metric: SweepMetric,
        runtime: Runtime,
        concurrency: int,
    ) -> AoiTrainer:
        return AoiTrainer(self.workspace, data, warm_start, metric, runtime, concurrency)

    @override
    def untrained_score(
        self, folder: Path, checkpoint: Path | None, metric: SweepMetric, runtime: Runtime
    ) -> float | None:
        if metric.name != "far_pct" or (checkpoint is None and runtime.runs_nvidia):
            return None
        return judged_on_validation(self.base_spec(), self.workspace, checkpoint, folder, runtime).far_pct

    @override
    def metric_step(self, metric: SweepMetric) -> float:
        labels = read_table(self.workspace.validation_csv)["label"]
        passes = sum(is_pass(labels))
        return 100.0 / passes if metric.name == "far_pct" and passes else 0.0

    @override
    def loop_parameters(self, folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
        whole = whole_parameters(deft_aoi, given, workspace=self.root, results_dir=folder)
        whole["metric"] = metric_named(whole["metric"])
        whole["encoder"], whole["encoder_path"] = encoder_named(whole["encoder"], whole["encoder_path"])
        return whole

    @override
    def place_checkpoint(self, folder: Path, model: TunedModel) -> Path:
        said = (model.epoch, model.step)
        epoch, step = said if any(said) else position_of(model.checkpoint)
        name = f"model_epoch_{epoch:03d}_step_{step:05d}.pth"
        return copied_whole(model.checkpoint, folder / BASELINE / "train" / name)

    @override
    def preseed(
        self, folder: Path, loop: Mapping[str, Any], model: TunedModel, checkpoint: Path
    ) -> dict[str, Any]:
        with opened_run(self.root, settings_of(loop), folder, tell=False) as run:
            if run.state.done():
                return {}
            space = self.workspace
            spec = training_spec(model.spec, space, space.training_csv, space.images_dir, run.place(BASELINE))
            spec_file = write_yaml(run.place(BASELINE, f"{BASELINE}_spec.yaml"), spec)
            preseed_baseline(
                folder,
                model.source,
                PRESEEDED if model.source == "automl_phase1" else f"baseline train skipped: {model.source}",
                best_val_ckpt_path=checkpoint,
                latest_ckpt_path=checkpoint,
                training_spec=spec_file,
                training_rows=len(read_table(space.training_csv)),
                val_loss_best_val=model.facts.get("val_loss"),
                val_loss_latest=model.facts.get("val_loss"),
            )
        return {}

    @override
    def loop_outcome(self, folder: Path, loop: Mapping[str, Any]) -> LoopOutcome:
        with opened_run(self.root, settings_of(loop), folder, tell=False) as run:
            state = run.state
            if state.status != "complete":
                raise InputError(f"{folder}: the loop has not finished; run it again")
            best, phase = run.best(state)
            assert phase.best_ckpt_path is not None
            labels = [label for label in state.measured() if label not in (BASELINE, FINAL)]
            last = labels[-1] if labels else None
            return LoopOutcome(
                best=best,
                checkpoint=phase.best_ckpt_path,
                last=last,
                combined_csv=state.phase(last).combined_training_csv if last else None,
                met=bool(phase.passed),
                stages=[
                    _stage(state, label, one) for label, one in state.measured().items() if label != FINAL
                ],
            )

    @override
    def register(
        self, folder: Path, loop: Mapping[str, Any], model: TunedModel, runtime: Runtime
    ) -> Registered:
        with opened_run(self.root, settings_of(loop), folder, tell=False) as run:
            if FINAL not in run.state.iterations:
                self._add_final(run, model, runtime)
            state = run.state
            label, phase = run.best(state, with_final=True)
            links = hand_over(folder, state, label, self.workspace.images_dir)
            assert phase.best_ckpt_path is not None
            return Registered(
                stage=_stage(state, FINAL, state.phase(FINAL)),
                delivered=label,
                checkpoint=phase.best_ckpt_path,
                threshold=phase.threshold,
                links={name: Path(path) for name, path in links.items()},
            )

    def _add_final(self, run: Run, model: TunedModel, runtime: Runtime) -> None:
        measured: Measured = measured_checkpoint(
            run, FINAL, "best_val", model.checkpoint, model.facts.get("val_loss"), runtime
        )
        result = measured.candidate.result
        spec_file = write_yaml(run.place(FINAL, f"{FINAL}_spec.yaml"), model.spec)
        register_final(
            run.folder,
            f"{run.contract.display_name} {result.value:.4g} {result.unit} after tuning on the enlarged set",
            0,
            best_ckpt_path=model.checkpoint,
            best_ckpt_kind="best_val",
            val_loss=model.facts.get("val_loss"),
            inference_csv=measured.inference_csv,
            metric_result=result.model_dump(mode="json"),
            metric_result_file=measured.result_file,
            threshold=result.threshold,
            passed=run.contract.passed(result),
            training_spec=spec_file,
            source=model.source,
        )

    @property
    @override
    def training_set(self) -> Path:
        return self.workspace.training_csv

    @property
    @override
    def validation_set(self) -> Path:
        return self.workspace.validation_csv

    @override
    def images(self, loop: Mapping[str, Any]) -> tuple[str, ...]:
        generator = (ANOMALYGEN,) if loop.get("sdg_source") == "anomalygen" else ()
        return (PYT, DATA_SERVICES, NATIVE, *generator)


def _stage(state: DeftState, label: str, phase: Phase) -> Stage:
    result = MetricResult.model_validate(phase.metric_result)
    seconds = sum(event.duration_sec for event in state.done() if event.iter == label)
    return Stage(
        stage="phase 3 best" if label == FINAL else label,
        set="KPI",
        metric=state.metric_contract["display_name"],
        value=result.value,
        unit=result.unit,
        smaller_is_better=state.metric_contract["operator"] in ("<", "<="),
        threshold=phase.threshold,
        rows=phase.training_rows,
        seconds=None if label == FINAL else float(seconds),
        checkpoint=phase.best_ckpt_path,
    )
