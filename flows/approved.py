"""What an approval binds: an inner flow shows the summary that it is part of, and never asks again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.exceptions import ParameterTypeError
from pydantic_core import to_jsonable_python

from tasks.action import unknown_value
from tasks.errors import DeftError, InputError
from tasks.preflight.subject import Phase
from tasks.preflight.summary import covers_phase, read

logger = logging.getLogger("deft.flow")

BESIDE_APPROVAL = {
    "workspace", "results_dir", "runtime", "baseline_checkpoint", "approved", "approval_token",
}  # fmt: skip
"""Parameters of an inner flow that the pipeline's own parameters say, so not among those of its phase."""


def whole_parameters(flow: Flow[..., Any], given: Mapping[str, Any], **places: Any) -> dict[str, Any]:
    """The parameters of an inner flow with its defaults: those that a person gave, and its places.

    Raises:
        InputError: a parameter that the flow does not have, that the pipeline gives, or of a wrong value.
    """
    known = flow.parameters.properties.keys() - BESIDE_APPROVAL
    for name in given:
        if name not in known:
            raise unknown_value(f"parameter of {flow.name}", name, sorted(known))
    try:
        return dict(flow.validate_parameters({**given, **places}))
    except ParameterTypeError as error:
        raise InputError(f"{flow.name}: {' '.join(str(error).split())}") from error


def own_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an inner flow that an approval covers under its phase, as plain values."""
    own = {name: value for name, value in parameters.items() if name not in BESIDE_APPROVAL}
    plain: dict[str, Any] = to_jsonable_python(own)
    return plain


def hold_to(approved: Path | None, token: str | None, phase: Phase, parameters: Mapping[str, Any]) -> None:
    """Check that an inner flow runs what was approved; without a summary it runs on its own account.

    Raises:
        DeftError: the token is missing or of another summary, or a parameter or a data file changed.
    """
    if approved is None:
        return
    if token is None:
        raise DeftError(f"approved {approved} needs approval_token, the hash with which it was approved")
    covers_phase(read(approved, token), phase, own_parameters(parameters))
    logger.info("%s: approved with summary %s, see %s", phase, token[:12], approved.with_suffix(".md"))
