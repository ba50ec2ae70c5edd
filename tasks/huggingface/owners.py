"""The registry of model owners: whether a dedicated flow trains a model, so that this one hands over."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.errors import InputError, StageFailed
from tasks.spec import explained, read_mapping

REGISTRY = Path(__file__).with_name("owners.yaml")


class Owner(BaseModel):
    """A claim: models of this pattern are trained by that flow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str
    flow: str


class Owners(BaseModel):
    """The registry as a file."""

    model_config = ConfigDict(extra="forbid")

    owners: list[Owner]


def owner_of(model_id: str, registry: Path = REGISTRY) -> str | None:
    """The flow that owns a model by the registry file; none where the model is unclaimed.

    Raises:
        StageFailed: the registry cannot be read; going on could train a model that has an owner.
    """
    try:
        claims = Owners.model_validate(read_mapping(registry, "registry of model owners")).owners
    except InputError as error:
        raise StageFailed(str(error)) from error
    except ValidationError as error:
        raise StageFailed(f"registry of model owners {registry}: {explained(error)}; mend it") from error
    return next((one.flow for one in claims if fnmatch.fnmatch(model_id.lower(), one.pattern.lower())), None)
