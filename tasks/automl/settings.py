"""What a person chooses for a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.automl.algorithms import known
from tasks.automl.llm import LlmSettings
from tasks.automl.ranking import CANDIDATES, Selection
from tasks.errors import DeftError

Count = Annotated[int, Field(ge=1)]


class SweepSettings(BaseModel):
    """One sweep. Equal settings on equal data and spec are the same sweep.

    Attributes:
        algorithm: bayesian (default), random, hyperband, asha, bohb; bfbo is bayesian; llm asks `llm`.
        trials: that count towards the budget; the base spec is the first of them.
        concurrency: trials that run at the same time.
        selection: what ranks the trials: FAR at full recall; validation loss without collapsed models;
            or FAR among the three of lowest validation loss.
        search_space: a space file; its parameters replace those of the profile by name.
        only: names of the parameters to search; none means all.
        prune: stop a trial that is clearly behind, where the engine can be stopped.
        seed: of the proposals and of the seeds of reruns.
        max_hours: no new trial after so many hours of training.
        max_failures: stop after so many failed trials.
        target: stop once a trial reaches this score.
        patience: stop after so many trials without a better one.
        keep: checkpoints of so many of the best trials stay on disk.
        suspicious_gap: a winner that is so many times better than the second is run again.
        reruns: how often; 0 believes it.
        llm: endpoint and model of the proposer, for algorithm llm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: str = "bayesian"
    trials: Count = 8
    concurrency: Count = 1
    selection: Selection = "far_direct"
    search_space: Path | None = None
    only: tuple[str, ...] = ()
    prune: bool = True
    seed: Annotated[int, Field(ge=0)] = 1234
    max_hours: Annotated[float, Field(gt=0)] | None = None
    max_failures: Count | None = None
    target: float | None = None
    patience: Count | None = None
    keep: Annotated[int, Field(ge=CANDIDATES)] = CANDIDATES
    suspicious_gap: Annotated[float, Field(gt=1)] = 2.0
    reruns: Annotated[int, Field(ge=0)] = 2
    llm: LlmSettings | None = None

    @field_validator("algorithm")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            known(name)
        except DeftError as error:
            raise ValueError(str(error)) from error
        return name

    @model_validator(mode="after")
    def _llm_is_named(self) -> SweepSettings:
        if (self.algorithm == "llm") != (self.llm is not None):
            raise ValueError("algorithm llm and llm (endpoint and model) go together; give both or neither")
        return self
