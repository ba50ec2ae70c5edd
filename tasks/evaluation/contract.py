"""The metric contract: what a model must reach, and which of two results is the better one."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, ValidationError, model_validator

from tasks.action import unknown_value
from tasks.errors import InputError, listed
from tasks.evaluation.evaluator import Builtin, CheckpointKind, Evaluator
from tasks.spec import SpecModel, explained

DEFAULT_CONTRACT = "FAR < 10% at Recall=100%"

Operator = Literal["<", "<=", ">", ">="]
HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
METRICS = {"far": "far_pct", "recall": "recall_pct"}
"""Metrics that the text form knows, each with its slug; all are percentages."""

_TEXT = re.compile(
    r"(?P<metric>.+?)\s*(?P<operator><=|>=|<|>)\s*(?P<target>[\d.]+)\s*(?P<unit>%?)"
    r"(\s+at\s+(?P<held>.+?)\s*>?=\s*(?P<floor>[\d.]+)\s*(?P<floor_unit>%?))?",
    re.IGNORECASE,
)


class MetricResult(BaseModel):
    """What an evaluator measured. Whether that is enough is the contract's to say, never stored here."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: str
    value: FiniteFloat
    unit: str
    threshold: FiniteFloat | None = None
    constraints: dict[str, FiniteFloat] = Field(default_factory=dict)
    diagnostics: dict[str, JsonValue] = Field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A measured model that may be chosen; what is not known of it is None."""

    result: MetricResult
    val_loss: float | None = None
    kind: CheckpointKind | None = None

    def __post_init__(self) -> None:
        if self.val_loss is not None and not isfinite(self.val_loss):
            raise InputError(f"val_loss {self.val_loss} of a candidate is not finite; train again")


class Bound(SpecModel):
    """A metric with the side of a target on which it must lie.

    A name that ends in `_pct` is in percent and no other is, so that 0.1 and 10 % never mix.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    display_name: str = Field(min_length=1)
    operator: Operator
    target: FiniteFloat
    unit: str

    @model_validator(mode="after")
    def _percent_says_so(self) -> Bound:
        if self.name.endswith("_pct") != (self.unit == "%"):
            raise ValueError(
                f"metric {self.name} with unit {self.unit!r}: names in _pct, and only they, have unit %"
            )
        return self

    def holds(self, value: float) -> bool:
        """Whether `value` lies on the right side of the target."""
        return HOLDS[self.operator](value, self.target)


class MetricContract(Bound):
    """The primary metric and its target, and constraints that come before it."""

    evaluator: Evaluator = Builtin()
    constraints: tuple[Bound, ...] = ()

    @classmethod
    def of(cls, given: str | Mapping[str, Any]) -> MetricContract:
        """A contract from its text form or its fields.

        Raises:
            InputError: as `parse`; or a field is unknown, missing or out of range.
        """
        if isinstance(given, str):
            return cls.parse(given)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InputError(f"metric contract: {explained(error)}") from error

    @classmethod
    def parse(cls, text: str) -> MetricContract:
        """A contract from `FAR < 10% at Recall=100%`; the part from `at` on may be left out.

        Raises:
            InputError: the text has another form, a metric that nobody knows, or a fraction where a
                percentage belongs.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise InputError(f"metric contract {text!r} is not of the form {DEFAULT_CONTRACT!r}")
        primary = _bound(found["metric"], found["operator"], found["target"], found["unit"])
        held = [_bound(found["held"], ">=", found["floor"], found["floor_unit"])] if found["held"] else []
        return cls.of({**primary, "constraints": held})

    def passed(self, result: MetricResult) -> bool:
        """Whether the primary metric and every constraint hold; raises as `feasible` does."""
        return self.feasible(result) and self.holds(result.value)

    def feasible(self, result: MetricResult) -> bool:
        """Whether every constraint holds.

        Raises:
            InputError: the result is of another metric or unit, or says nothing on a constraint.
        """
        if (result.name, result.unit) != (self.name, self.unit):
            raise InputError(
                f"metric result {result.name} in {result.unit!r} does not answer the contract's "
                f"{self.name} in {self.unit!r}; evaluate again with this contract"
            )
        for bound in self.constraints:
            if bound.name not in result.constraints:
                raise InputError(
                    f"metric result says nothing on the constraint {bound.name}; "
                    f"its constraints: {listed(sorted(result.constraints)) or 'none'}"
                )
        return all(bound.holds(result.constraints[bound.name]) for bound in self.constraints)

    def better(self, a: MetricResult, b: MetricResult) -> bool:
        """Whether `a` is strictly better than `b`: feasible first, then the primary in its direction."""
        return self._rank(Candidate(a)) > self._rank(Candidate(b))

    def best(self, results: Sequence[MetricResult]) -> MetricResult:
        """The best result; of equally good ones the first. Raises `InputError` when there is none."""
        return self.choose([Candidate(result) for result in results]).result

    def choose(self, candidates: Sequence[Candidate]) -> Candidate:
        """The best candidate: feasible first, then the primary metric in its direction.

        Of equally good ones the lower val_loss (an unknown one last), then `best_val`, then the first.

        Raises:
            InputError: there is none, or as `feasible` does.
        """
        if not candidates:
            raise InputError("there is no metric result to choose from; evaluate at least one model")
        return max(candidates, key=self._rank)

    def _rank(self, candidate: Candidate) -> tuple[bool, float, bool, float, bool]:
        value, loss = candidate.result.value, candidate.val_loss
        return (
            self.feasible(candidate.result),
            value if self.operator in (">", ">=") else -value,
            loss is not None,
            -(loss or 0.0),
            candidate.kind == "best_val",
        )


def _bound(metric: str, sign: str, target: str, unit: str) -> dict[str, Any]:
    name = METRICS.get(metric.strip().lower())
    if name is None:
        raise unknown_value("metric of the metric contract", metric.strip(), ["FAR", "Recall"])
    try:
        value = float(target)
    except ValueError as error:
        raise InputError(f"metric contract: {target!r} is not a number") from error
    return {
        "name": name,
        "display_name": metric.strip(),
        "operator": sign,
        "target": value,
        "unit": unit,
    }
