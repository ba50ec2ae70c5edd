"""The search space: which keys of a spec are searched, which are pinned, and which have no effect.

A space file is YAML, a mapping from a name to a definition:

    lr: {keys: [train.optim.lr], type: float, around: [0.1, 10], log: true}
    train.optim.weight_decay: {type: float, low: 1.0e-3, high: 0.8, log: true}
    dataset.classify.augmentation_config.augment: {pin: true}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, JsonValue, ValidationError, model_validator

from tasks.action import unknown_value
from tasks.errors import DeftError, InputError
from tasks.keys import merged, nested, value_at
from tasks.spec import SpecModel, explained, read_mapping

Value = str | int | float | bool
Check = Callable[[dict[str, Any]], object]
"""Validates a whole spec; raises `DeftError` where the schema does not allow it."""


class Parameter(SpecModel):
    """One dimension of the search, or a pin.

    Attributes:
        keys: dotted keys of the spec that get the value; by default the parameter's name.
        type: what the values are; left out for a pin.
        low: smallest value, included.
        high: largest value, included.
        around: instead of both: factors of the base spec's own value.
        log: search on a logarithmic scale.
        choices: the values of a choice.
        pin: a constant that every trial but the base one gets, exactly as written.
        phases: of the pipeline in which it is searched.
        inert_if: dotted key of the base spec with the values at which the parameter has no effect.
        reason: why the box, the pin or the rule is as it is, for people.
        source: who said so.
    """

    name: str
    keys: tuple[str, ...] = ()
    type: Literal["float", "int", "choice", "pin"]
    low: float | None = None
    high: float | None = None
    around: tuple[float, float] | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    pin: JsonValue = None
    phases: tuple[Literal[1, 3], ...] = (1, 3)
    inert_if: dict[str, list[JsonValue]] = Field({})
    reason: str = ""
    source: Literal["overlay", "user"] = "user"

    @model_validator(mode="after")
    def _is_whole(self) -> Parameter:
        has_box = self.low is not None and self.high is not None
        if self.type in ("float", "int") and has_box == (self.around is not None):
            raise ValueError(f"{self.name}: give low and high, or around")
        if self.type == "choice" and len(set(self.choices)) < 2:
            raise ValueError(f"{self.name}: give at least two different choices, or a pin")
        if has_box and not (self.low or 0) < (self.high or 0):
            raise ValueError(
                f"{self.name}: low {self.low} must be below high {self.high}; one value is a pin"
            )
        if self.log and has_box and (self.low or 0) <= 0:
            raise ValueError(f"{self.name}: a logarithmic scale starts above 0, low is {self.low}")
        return self

    @property
    def places(self) -> tuple[str, ...]:
        """The dotted keys that get the value."""
        return self.keys or (self.name,)

    def distribution(self) -> BaseDistribution:
        """The dimension as Optuna knows it."""
        if self.type == "choice":
            return CategoricalDistribution(self.choices)
        assert self.low is not None
        assert self.high is not None
        if self.type == "int":
            return IntDistribution(round(self.low), round(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def holds(self, value: object) -> bool:
        """Whether a value lies in the box, or is one of the choices."""
        if self.type == "choice":
            return value in self.choices
        if not isinstance(value, int | float) or (self.type == "int" and value != round(value)):
            return False
        return (self.low or 0) <= value <= (self.high or 0)

    def boxed(self, base: Mapping[str, Any]) -> Parameter:
        """The parameter with `around` worked out on the base spec, which must have a value there."""
        if self.around is None:
            return self
        value = value_at(base, self.places[0])
        if not isinstance(value, int | float) or value <= 0:
            raise InputError(
                f"search space: {self.name} is searched around the base spec's {self.places[0]}, which is "
                f"{value}; set it above 0 there or give low and high"
            )
        low, high = (float(f"{factor * value:.6g}") for factor in self.around)
        return self.model_copy(update={"low": low, "high": high, "around": None})

    def shown(self) -> tuple[str, str, str]:
        """Name, range and scale for a table."""
        if self.type == "pin":
            return self.name, f"= {self.pin}", "pinned"
        if self.type == "choice":
            return self.name, ", ".join(map(str, self.choices)), "choice"
        if self.around is not None:
            return (
                self.name,
                f"base × {self.around[0]:g} … {self.around[1]:g}",
                "log" if self.log else "linear",
            )
        return self.name, f"{self.low:g} … {self.high:g}", "log" if self.log else "linear"


@dataclass(frozen=True)
class Space:
    """A space worked out for one phase and one base spec.

    Attributes:
        searched: the dimensions, boxes in numbers.
        pinned: constants by dotted key.
        inert: parameters that are left out, with the reason.
        base: the base spec's own value of each dimension, which is trial 0.
    """

    searched: tuple[Parameter, ...]
    pinned: dict[str, Any]
    inert: tuple[tuple[str, str], ...]
    base: dict[str, Any]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The dimensions as Optuna knows them."""
        return {parameter.name: parameter.distribution() for parameter in self.searched}

    def specs_of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What a trial of these values changes in the base spec: nested keys, searched ones and pins."""
        flat = dict(self.pinned)
        for parameter in self.searched:
            flat |= dict.fromkeys(parameter.places, params[parameter.name])
        return nested(flat)

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether these values lie in the box."""
        return all(one.holds(params.get(one.name)) for one in self.searched)

    def unit(self, params: Mapping[str, Any]) -> dict[str, float | str]:
        """The values on a scale from 0 to 1 (logarithmic where the dimension is); choices as text."""
        found: dict[str, float | str] = {}
        for parameter in self.searched:
            value = params[parameter.name]
            if parameter.type == "choice":
                found[parameter.name] = str(value)
                continue
            low, high = parameter.low or 0.0, parameter.high or 0.0
            scale = math.log if parameter.log else float
            found[parameter.name] = (scale(value) - scale(low)) / (scale(high) - scale(low))
        return found


def read_space(file: Path) -> tuple[Parameter, ...]:
    """The parameters of a space file.

    Raises:
        InputError: no such file, not a YAML mapping of mappings, or a definition that is not whole.
    """
    content = read_mapping(file, "search space")
    return tuple(parameter(str(name), given, str(file)) for name, given in content.items())


def parameter(name: str, given: object, origin: str = "search space") -> Parameter:
    """A parameter from its definition; `{pin: value}` needs no type.

    Raises:
        InputError: an unknown field, or a definition that is not whole.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{origin}: {name} must be a mapping such as {{type: float, low: 0, high: 1}}")
    fields = {"type": "pin", **given} if "pin" in given else dict(given)
    try:
        return Parameter.model_validate({"name": name, **fields})
    except ValidationError as error:
        raise InputError(f"{origin}: {name}: {explained(error)}") from error


def resolved(
    parameters: Sequence[Parameter],
    base: Mapping[str, Any],
    phase: Literal[1, 3],
    check: Check,
    only: Sequence[str] = (),
) -> Space:
    """The space of one phase on a base spec; what has no effect is left out, and said.

    Args:
        parameters: overlay first; a later one replaces an earlier one of its name.
        base: the spec that trial 0 runs as it is.
        phase: of the pipeline.
        check: validates a whole spec; both ends of every dimension go through it, alone.
        only: names to search, whatever their phases; none means those of the phase.

    Raises:
        InputError: a name in `only` that there is not, a key that the schema does not know, a bound that it
            does not allow, or two parameters that set one key.
    """
    by_name = {one.name: one for one in parameters}
    for name in only:
        if name not in by_name:
            raise unknown_value("parameter of the search space", name, by_name)
    inert, used = [], []
    for one in by_name.values():
        reason = _left_out(one, phase, only) or _inert(one, base)
        if reason:
            inert.append((one.name, reason))
        else:
            used.append(one.boxed(base))
    _check_keys(used)
    searched = tuple(one for one in used if one.type != "pin")
    pinned = {key: one.pin for one in used if one.type == "pin" for key in one.places}
    _check_bounds(used, base, check)
    if not searched:
        raise InputError("search space: nothing is left to search; add a parameter that has an effect")
    start = {one.name: _typed(one, value_at(base, one.places[0])) for one in searched}
    return Space(searched, pinned, tuple(inert), start)


def _typed(one: Parameter, value: Any) -> Any:
    return float(value) if one.type == "float" and isinstance(value, int) else value


def _left_out(one: Parameter, phase: int, only: Sequence[str]) -> str:
    if only:
        return "" if one.name in only or one.type == "pin" else "not asked for"
    return "" if phase in one.phases else one.reason or f"not searched in phase {phase}"


def _inert(one: Parameter, base: Mapping[str, Any]) -> str:
    for key, values in one.inert_if.items():
        found = value_at(base, key)
        if found in values:
            return f"no effect while {key} is {found}"
    return ""


def _check_keys(used: Sequence[Parameter]) -> None:
    owner: dict[str, str] = {}
    for one in used:
        for key in one.places:
            if key in owner:
                raise InputError(f"search space: {owner[key]} and {one.name} both set {key}; keep one")
            owner[key] = one.name


def _ends(one: Parameter) -> list[Any]:
    if one.type == "pin":
        return [one.pin]
    return [*one.choices] if one.type == "choice" else [one.low, one.high]


def _check_bounds(used: Sequence[Parameter], base: Mapping[str, Any], check: Check) -> None:
    for one in used:
        for end in _ends(one):
            value = round(end) if one.type == "int" and isinstance(end, float) else end
            try:
                check(merged(base, nested(dict.fromkeys(one.places, value))))
            except DeftError as error:
                raise InputError(f"search space: {one.name} = {value}: {error}") from error
