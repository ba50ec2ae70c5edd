"""The sidecar of an embeddings parquet, and the guard that two of them come from one encoder."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.artifacts import read_json, write_json
from tasks.errors import InputError
from tasks.spec import explained

logger = logging.getLogger("deft")

DECIDING = ("model", "weights_sha256", "revision", "model_config_sha256", "with_golden", "dim")
"""What makes two encoders the same. Not the path: the same weights copied elsewhere are one encoder, and
cached embeddings of an earlier run name the path that the checkpoint had there."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Sidecar(BaseModel):
    """What made an embeddings parquet.

    `with_golden` says that pairs of test and golden image were embedded: the same checkpoint then
    speaks another language than for single images.
    """

    model_config = ConfigDict(protected_namespaces=(), extra="ignore")

    spec_sha256: str
    model: str
    model_path: str
    revision: str | None
    weights_sha256: str
    model_config_path: str | None
    model_config_sha256: str | None = None
    with_golden: bool = False
    batch_size: int
    dim: int
    rows: int
    engine: str = "native"
    image_digest: str | None = None
    input_sha256: str
    created: str = Field(default_factory=_now)

    def write(self, parquet: Path) -> Path:
        """Write the sidecar beside its parquet."""
        return write_json(sidecar_path(parquet), self.model_dump())

    @classmethod
    def of(cls, parquet: Path) -> Sidecar | None:
        """The sidecar of a parquet, None when it has none; raises `InputError` when it is not one."""
        path = sidecar_path(parquet)
        if not path.is_file():
            return None
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise InputError(f"{path} is no embedding sidecar: {explained(error)}; embed again") from error


def sidecar_path(parquet: Path) -> Path:
    """`<parquet>.meta.json`."""
    return parquet.with_name(parquet.name + ".meta.json")


def encoder_match(source: Path, target: Path) -> str:
    """`yes` when both parquets come from one encoder, `unverified` when a sidecar is missing.

    Raises:
        InputError: they come from different encoders; the message names every difference.
    """
    left, right = Sidecar.of(source), Sidecar.of(target)
    if left is None or right is None:
        lacking = source if left is None else target
        logger.warning("%s has no sidecar: that both encoders are the same is unverified", lacking)
        return "unverified"
    differences = [
        f"{key} {getattr(left, key)} / {getattr(right, key)}"
        for key in DECIDING
        if getattr(left, key) != getattr(right, key)
    ]
    if differences:
        raise InputError(
            f"{source} and {target} come from different encoders ({left.model_path} / {right.model_path}: "
            f"{'; '.join(differences)}); embed both with one spec"
        )
    if left.batch_size != right.batch_size:
        logger.warning(
            "the batch sizes of both embeddings differ: %d / %d", left.batch_size, right.batch_size
        )
    return "yes"
