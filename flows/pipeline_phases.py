"""The phases of an approved pipeline, each taken from disk where it is done."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

from blocks.runtime import Runtime
from flows.automl import automl
from flows.gate import go_on_without_gain
from flows.profiles import Profile
from flows.reports import report_pipeline
from tasks.artifacts import write_text, write_yaml
from tasks.automl.best_rec import read as read_best_rec
from tasks.automl.settings import SweepSettings
from tasks.automl.winner import NoWinner
from tasks.deft.state import STATE_FILE
from tasks.errors import DeftError, StageFailed
from tasks.pipeline.facts import LoopOutcome, Registered, Stage, SweepResult, TunedModel
from tasks.pipeline.handover import APPROVED, Journal, place_spec
from tasks.pipeline.record import RESULT, PipelineRun
from tasks.pipeline.settings import PipelineSettings
from tasks.pipeline.trajectory import SUMMARY, PipelineResult, as_markdown, as_text
from tasks.preflight.render import JSON
from tasks.spec import read_mapping

logger = logging.getLogger("deft.flow")


class Pipeline:
    """An approved run: its phases in order, each taken from disk where it is done."""

    def __init__(self, run: PipelineRun, kind: Profile, runtime: Runtime) -> None:
        self.run, self.kind, self.runtime = run, kind, runtime
        self.settings = PipelineSettings.model_validate(run.record.parameters)
        self.loop = kind.loop_parameters(run.folder, self.settings.loop)
        self.warnings: list[str] = []
        self.stages: list[Stage] = []
        self.second_failed = False
        self.left_out = ""

    def run_phases(self) -> PipelineResult:
        """Sweep, hand over, loop, sweep again, register, and sum up."""
        folder = self.run.folder
        logger.info("run folder: %s", folder)
        first = self._first_sweep()
        if self.settings.mode == "automl_only":
            assert first is not None
            return self._finished(
                "complete", "phase 1 best", first.model.checkpoint, first.stage.threshold, "Only swept."
            )
        model = first.model if first else self._external()
        if model is not None:
            self._hand_over(model, first)
        outcome = self._improve_data()
        final = self._second_sweep(outcome, model)
        if final is None:
            best = next(stage for stage in outcome.stages if stage.stage == outcome.best)
            status = "complete_with_warnings" if self.second_failed else "complete"
            return self._finished(
                status,
                outcome.best,
                outcome.checkpoint,
                best.threshold,
                f"The loop's best model; {self.left_out}.",
            )
        return self._delivered(outcome, final)

    def _first_sweep(self) -> SweepResult | None:
        if not self.settings.sweeps_first:
            return None
        result = self.run.done("phase1", SweepResult)
        if result is None:
            result = self._sweep("automl_phase1", self.settings.phase1, base_spec=self.run.folder / APPROVED)
            self.run.finish("phase1", result)
            report_pipeline(self.run.folder)
        self._tell(result)
        if result.gained is False:
            self._hold_no_gain(result)
        return result

    def _sweep(self, folder: str, sweep: SweepSettings, **inputs: Any) -> SweepResult:
        result: SweepResult = automl(
            self.settings.workspace,
            profile=self.settings.profile,
            sweep=sweep,
            metric=self.settings.metric,
            results_dir=self.run.folder / folder,
            runtime=self.settings.runtime,
            approved=self.run.folder / JSON,
            approval_token=self.run.record.token,
            **inputs,
        )
        return result

    def _tell(self, result: SweepResult) -> None:
        self.stages += [result.untrained] if result.untrained else []
        self.stages.append(result.stage)
        self.warnings += result.warnings

    def _hold_no_gain(self, result: SweepResult) -> None:
        """Phase 1 is no better than no training: one of the few pauses that the gate announces."""
        assert result.untrained is not None
        text = (
            f"phase 1 is no better than a model without training: {result.stage.metric} "
            f"{result.stage.value:.4g} against {result.untrained.value:.4g}"
        )
        self.warnings.append(text)
        if self.settings.no_gain == "stop":
            raise DeftError(f"{text}; no_gain is stop: look at {result.folder}")
        asked = self.run.folder / "no_gain.md"
        if (
            self.settings.no_gain == "pause"
            and self.run.record.approved_by == "person"
            and not asked.is_file()
        ):
            go_on_without_gain(text, self.run)
            write_text(asked, f"{text}; a person said to go on\n")
        logger.warning("%s", text)

    def _hand_over(self, model: TunedModel, first: SweepResult | None) -> None:
        """The tuned spec and model become those of the loop; the journal says which step is done."""
        folder, journal = self.run.folder, Journal(self.run.folder)
        if first and "spec" not in journal.steps:
            journal.done("spec", **place_spec(folder, self.kind.base_file, read_best_rec(first.best_rec)))
        checkpoint = self.kind.place_checkpoint(folder, model)
        journal.done("checkpoint", source=str(model.checkpoint), placed=str(checkpoint))
        self.loop |= self.kind.preseed(folder, self.loop, model, checkpoint)
        journal.done("state", source=model.source)
        self.run.finish("handoff12", model)

    def _external(self) -> TunedModel | None:
        given = self.settings.baseline_checkpoint
        if given is None:
            return None
        spec = read_mapping(self.run.folder / APPROVED, "approved spec")
        return TunedModel(spec=spec, checkpoint=given, source="external")

    def _improve_data(self) -> LoopOutcome:
        outcome = self.run.done("phase2", LoopOutcome)
        if outcome is None:
            journal = Journal(self.run.folder)
            if journal.steps:
                journal.done("start")
            module, name = self.kind.loop_flow.split(":")
            try:
                getattr(import_module(module), name)(
                    **self.loop
                    | {
                        "runtime": self.settings.runtime,
                        "approved": self.run.folder / JSON,
                        "approval_token": self.run.record.token,
                    }
                )
            except DeftError as error:
                self._write_summary(self._failed("failed_phase2", error))
                report_pipeline(self.run.folder)
                raise
            outcome = self.kind.loop_outcome(self.run.folder, self.loop)
            self.run.finish("phase2", outcome)
            report_pipeline(self.run.folder)
        self.stages += outcome.stages
        return outcome

    def _second_sweep(self, outcome: LoopOutcome, model: TunedModel | None) -> Registered | None:
        reason = self._no_second_sweep(outcome)
        if reason:
            self.left_out = f"phase 3 is left out: {reason}"
            logger.info("%s", self.left_out)
            return None
        result = self.run.done("phase3", SweepResult)
        if result is None:
            try:
                result = self._sweep(
                    "final_automl",
                    self.settings.phase3,
                    base_spec=self._fine_tuning_spec(model),
                    training_csv=outcome.combined_csv,
                    warm_start=outcome.checkpoint,
                )
            except (StageFailed, NoWinner) as error:
                self.second_failed = True
                self.left_out = "phase 3 gave no model"
                self.warnings.append(f"{self.left_out}: {error}")
                logger.warning("%s; the loop's best model is delivered", self.warnings[-1])
                return None
            self.run.finish("phase3", result)
        self._tell(result)
        registered = self.kind.register(self.run.folder, self.loop, result.model, self.runtime)
        self.stages.append(registered.stage.model_copy(update={"rows": result.stage.rows}))
        return registered

    def _no_second_sweep(self, outcome: LoopOutcome) -> str:
        if self.settings.mode == "loop_only":
            return "mode loop_only"
        if self.settings.skip_phase3:
            return "skip_phase3"
        if outcome.combined_csv is None:
            return "no_augmented_csv: the metric was met at the baseline"
        if outcome.met and self.settings.phase3_when == "if_not_met":
            return "the metric is met (phase3_when if_not_met)"
        return ""

    def _fine_tuning_spec(self, model: TunedModel | None) -> Path:
        """Trial 0 of phase 3: the tuned spec, its learning rate scaled for a start from trained weights."""
        spec = model.spec if model else read_mapping(self.run.folder / APPROVED, "approved spec")
        return write_yaml(self.run.folder / "final_automl" / "base_spec.yaml", self.kind.fine_tuned(spec))

    def _delivered(self, outcome: LoopOutcome, final: Registered) -> PipelineResult:
        loop_best = next(stage for stage in outcome.stages if stage.stage == outcome.best)
        numbers = (
            f"{final.stage.metric} {final.stage.value:.4g} {final.stage.unit} after phase 3, "
            f"{loop_best.value:.4g} {loop_best.unit} of the loop ({outcome.best})"
        )
        if final.delivered == outcome.best:
            reason = f"Rolled back: the second sweep is no better: {numbers}."
        else:
            reason = f"The second sweep is better: {numbers}."
        return self._finished("complete", final.delivered, final.checkpoint, final.threshold, reason)

    def _finished(
        self, status: str, delivered: str, checkpoint: Path, threshold: float | None, reason: str
    ) -> PipelineResult:
        result = PipelineResult(
            status=status, delivered=delivered, checkpoint=checkpoint, threshold=threshold, reason=reason,
            stages=self.stages, warnings=self.warnings, folder=self.run.folder,
        )  # fmt: skip
        file = self._write_summary(result)
        self.run.finish(RESULT, result)
        logger.info("%s", as_text(result.stages))
        for text in result.warnings:
            logger.warning("%s", text)
        logger.info("%s is delivered. %s", delivered, reason)
        logger.info("checkpoint: %s", checkpoint)
        logger.info("summary: %s", file)
        if report := report_pipeline(self.run.folder):
            logger.info("report: %s", report)
        return result

    def _failed(self, status: str, error: DeftError) -> PipelineResult:
        return PipelineResult(
            status=status, delivered="nothing", checkpoint=Path("none"), reason=str(error),
            stages=self.stages, warnings=self.warnings, folder=self.run.folder,
        )  # fmt: skip

    def _write_summary(self, result: PipelineResult) -> Path:
        folder = self.run.folder
        names = {
            "approved summary": "preflight_summary.md",
            "trials of phase 1": "automl_phase1/trials.csv",
            "quality check of phase 1": "automl_phase1/quality_check.json",
            "hand-over": "handoff12.json",
            "loop state": STATE_FILE,
            "trials of phase 3": "final_automl/trials.csv",
            "quality check of phase 3": "final_automl/quality_check.json",
            "best model": "best_model.json",
        }
        links = {name: folder / path for name, path in names.items() if (folder / path).is_file()}
        text = as_markdown(result, links)
        create_markdown_artifact(text, key="pipeline-summary", description=str(folder))
        return write_text(folder / SUMMARY, text)
