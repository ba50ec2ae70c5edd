"""What a site has saved under a name, in place of the thing itself: workspace/line-3 for a folder."""

import re
from pathlib import Path
from typing import Any, Literal, TypeVar

from prefect.blocks.core import Block

from blocks.encoder import Encoder
from blocks.metric_contract import MetricContractBlock
from blocks.workspace import Workspace
from tasks.errors import InputError
from tasks.evaluation.contract import MetricContract

EncoderKind = Literal["ChangeNet", "SigLIP", "CLIP"]

Saved = TypeVar("Saved", bound=Block)


def workspace_root(given: Path) -> Path:
    """The folder of a workspace that is given as a folder, or as `workspace/NAME`.

    A folder of that name wins. Call it before the path is made absolute.

    Raises:
        InputError: there is no such folder, and no such workspace either.
    """
    if given.is_dir():
        return given
    saved = _saved(str(given), Workspace, f"no folder {given} here, and no workspace of that name")
    return given if saved is None else saved.root


def metric_named(metric: str | dict[str, Any]) -> str | dict[str, Any]:
    """The metric as it is given, or the fields of the contract `metric-contract/NAME`.

    Raises:
        InputError: there is no such contract, or it is none that a model can be held to.
    """
    saved = _saved(metric, MetricContractBlock, f"metric {metric}") if isinstance(metric, str) else None
    if saved is None:
        return metric
    contract = saved.contract()
    try:
        MetricContract.of(contract)
    except InputError as error:
        raise InputError(f"{metric}: {error}; correct the saved block") from error
    return contract


def encoder_named(encoder: EncoderKind, encoder_path: str | None) -> tuple[EncoderKind, str | None]:
    """The kind and the path of an encoder as given, or those of the path `encoder/NAME`.

    Raises:
        InputError: there is no such encoder, or it is of another kind than the one asked for.
    """
    saved = _saved(encoder_path, Encoder, f"encoder_path {encoder_path}") if encoder_path else None
    if saved is None:
        return encoder, encoder_path
    if encoder not in ("ChangeNet", saved.kind):
        raise InputError(f"{encoder_path} is a {saved.kind} encoder, not {encoder}; leave encoder out")
    return saved.kind, saved.path


def _saved(text: str, kind: type[Saved], what: str) -> Saved | None:
    """The block that `text` names, or None where it names none of that kind; `what` begins the error."""
    named = re.fullmatch(rf"{kind.get_block_type_slug()}/([^/]+)", text)
    if named is None:
        return None
    try:
        block: Any = kind.load(named[1])
    except ValueError as error:
        raise InputError(f"{what}: {' '.join(str(error).split())}; save one in the UI") from error
    assert isinstance(block, kind)
    return block
