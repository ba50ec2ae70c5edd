"""Who measures the metric of a contract: our own code, a command, or a file that somebody brings."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tasks.spec import SpecModel

CheckpointKind = Literal["best_val", "latest"]

Seconds = Annotated[float, Field(gt=0, le=7 * 86400, allow_inf_nan=False)]
HOUR = 3600.0


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _template(text: str) -> str:
    _absolute(Path(text))
    fields = [
        (name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None
    ]
    if ("iter_label", "", None) not in fields:
        raise ValueError("must hold {iter_label}")
    if not set(fields) <= {("iter_label", "", None), ("checkpoint_kind", "", None)}:
        raise ValueError("may hold {iter_label} and {checkpoint_kind} only; write other braces twice")
    return text


class Builtin(SpecModel):
    """Code of this package, by its id; what it measures is decided by the inference CSV alone."""

    type: Literal["builtin"] = "builtin"
    id: Literal["far_at_recall"] = "far_at_recall"


class Command(SpecModel):
    """A program, called with `args` and then `--inference-csv <absolute> --output-json <absolute>`.

    That the executable exists is looked at when it is needed: a contract can be read on any machine.
    """

    type: Literal["command"]
    executable: Annotated[Path, AfterValidator(_absolute)]
    args: tuple[str, ...] = ()
    timeout_s: Seconds = HOUR


class AwaitedArtifact(SpecModel):
    """A result file that `producer` brings; `path` holds `{iter_label}` and, at will, `{checkpoint_kind}`."""

    type: Literal["artifact"]
    producer: str = Field(min_length=1)
    path: Annotated[str, AfterValidator(_template)]
    timeout_s: Seconds = HOUR

    def path_for(self, iter_label: str, checkpoint_kind: CheckpointKind) -> Path:
        """The exact file that is awaited for one checkpoint of one phase."""
        return Path(self.path.format(iter_label=iter_label, checkpoint_kind=checkpoint_kind))


def _from_text(given: Any) -> Any:
    return {"type": "builtin", "id": given} if isinstance(given, str) else given


Evaluator = Annotated[
    Annotated[Builtin | Command | AwaitedArtifact, Field(discriminator="type")], BeforeValidator(_from_text)
]
"""The evaluator of a contract; plain text is the id of a built-in one."""
