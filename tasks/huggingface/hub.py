"""A model as the hub or a folder shows it, and why the hub refuses one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocks.network import offline_variable
from tasks.artifacts import now
from tasks.errors import DeftError, InputError

PUBLIC_HUB = "https://huggingface.co"
CONFIG, CARD = "config.json", "README.md"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "tokenizer_config.json")


class ModelRejected(InputError):
    """This model cannot be fine-tuned here; the message gives the specific reason and what would help."""


class HubUnreachable(DeftError):
    """The hub did not answer; nothing is wrong with the model, and the step can be tried again."""


@dataclass(frozen=True)
class ModelPage:
    """What is known of a model before any weight is loaded.

    Attributes:
        model_id: hub id, or the absolute path of a local folder.
        config: the content of `config.json`.
        card: the text of the model card; empty where there is none.
        files: names of the repository's files.
        processor: the contents of its processor and tokenizer files, merged.
        parameters: that the hub counted in the safetensors files; none where it has not.
        url: of the model card.
        fetched_at: ISO time, UTC.
        notes: what was tried in vain and what was taken instead.
    """

    model_id: str
    config: dict[str, Any]
    card: str = ""
    files: tuple[str, ...] = ()
    processor: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    gated: bool = False
    parameters: int | None = None
    url: str = ""
    fetched_at: str = ""
    notes: tuple[str, ...] = ()


def endpoint(environment: Mapping[str, str]) -> str:
    """The hub that the environment names, else the public one."""
    return (environment.get("HF_ENDPOINT") or PUBLIC_HUB).rstrip("/")


def look_up(
    model_id: str, environment: Mapping[str, str] | None = None, cache: Path | None = None
) -> ModelPage:
    """A model's config, card and file list, from a local folder, the hub, or offline from the hub's cache.

    Args:
        model_id: `owner/name`, a bare name, or the path of a folder with a `config.json`.
        environment: `HF_ENDPOINT` and whether the network is off; this process's, if not given.
        cache: folder of downloaded files; the hub client's own, if not given.

    Raises:
        ModelRejected: gated, missing or private, no config, not a model id.
        HubUnreachable: no answer from the hub, or offline and not in the cache.
    """
    where = os.environ if environment is None else environment
    # A local path is looked at first: the hub's client calls a missing one an id of a wrong form.
    if Path(model_id).is_dir():
        return _from_folder(Path(model_id).absolute())
    if model_id.startswith(("/", ".", "~")):
        raise ModelRejected(f"model_id {model_id}: no such folder; check the path")
    return _from_hub(model_id, where, cache)


def _from_folder(folder: Path) -> ModelPage:
    if not (folder / CONFIG).is_file():
        raise ModelRejected(
            f"model_id {folder}: the folder has no {CONFIG}; name the folder of a saved model"
        )
    card = folder / CARD
    contents = {name: _json(folder / name) for name in PROCESSOR_FILES if (folder / name).is_file()}
    return ModelPage(
        model_id=str(folder),
        config=_json(folder / CONFIG),
        card=card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
        files=tuple(sorted(path.name for path in folder.iterdir() if path.is_file())),
        processor={key: value for content in contents.values() for key, value in content.items()},
        url=card.as_uri(),
        fetched_at=now(),
        notes=() if card.is_file() else (f"the folder has no model card {CARD}",),
    )


def _from_hub(model_id: str, environment: Mapping[str, str], cache: Path | None) -> ModelPage:
    try:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise DeftError(f"{error}; install it: pip install 'deft-flows[huggingface]'") from error
    hub, off = endpoint(environment), offline_variable(environment)
    folder = str(cache) if cache else None

    def content(name: str) -> Path:
        return Path(
            hf_hub_download(model_id, name, endpoint=hub, cache_dir=folder, local_files_only=off is not None)
        )

    def optional(name: str) -> Path | None:
        try:
            return content(name)
        except EntryNotFoundError as error:
            if not off and isinstance(error, LocalEntryNotFoundError):
                raise  # the hub did not answer, which is not a no
            return None

    try:
        info = None if off else HfApi(endpoint=hub).model_info(model_id)
        config = _json(content(CONFIG))
        card = optional(CARD)
        found = [file for name in PROCESSOR_FILES if (file := optional(name)) is not None]
    except DeftError:
        raise
    except Exception as error:  # the client's own errors have no root in common, nor those of its transport
        raise refusal(model_id, error) from error
    counted = getattr(info, "safetensors", None)
    return ModelPage(
        model_id=model_id,
        config=config,
        card=card.read_text(encoding="utf-8", errors="replace") if card else "",
        files=tuple(sorted(one.rfilename for one in info.siblings or ())) if info else (),
        processor={key: value for file in found for key, value in _json(file).items()},
        tags=tuple(info.tags or ()) if info else (),
        pipeline_tag=info.pipeline_tag if info else None,
        gated=bool(info.gated) if info else False,
        parameters=counted.total if counted else None,
        url=f"{hub}/{model_id}/raw/main/{CARD}",
        fetched_at=now(),
        notes=(f"offline by {off}: config and card are the cache's; tags and file list are unknown",)
        if off
        else (),
    )


def client_errors() -> tuple[type[BaseException], ...]:
    """What calls of the hub's client raise: its own errors, those of its transport, and of the system."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*HfHubHTTPError.__bases__, ValueError)  # the first base is the error of whatever transport it has


def refusal(model_id: str, error: BaseException) -> DeftError:
    """The reason behind an error of the hub's client or of transformers, by what caused it.

    transformers wraps the hub's error in an `OSError` whose text misleads; the cause tells them apart.
    """
    chain = list(_causes(error))
    answer = next((found for one in chain if (found := getattr(one, "response", None)) is not None), None)
    status = getattr(answer, "status_code", None)
    why = _rejection(chain, status)
    if why:
        return ModelRejected(f"{model_id} {why}")
    unanswered = any(
        isinstance(one, ConnectionError | TimeoutError | FileNotFoundError)  # the last: not in the cache
        or type(one).__module__.startswith("http")
        for one in chain
    )
    if status is not None or unanswered or "couldn't connect" in str(error):
        return HubUnreachable(f"{model_id}: hub unreachable ({_line(error)}); try again with the network on")
    return ModelRejected(f"{model_id}: its config cannot be loaded: {_line(error)}")


def _rejection(chain: list[BaseException], status: int | None) -> str | None:
    """What is wrong with the repository; none where the hub or the network is at fault.

    A gated repository is a special case of a missing one, and what the cache does not hold is also a
    missing entry: the order and the exact kinds matter.
    """
    from huggingface_hub import errors as hub

    key = "set HF_TOKEN to a token that may read it"
    reasons: tuple[tuple[type[BaseException], str], ...] = (
        (hub.GatedRepoError, f"is gated: accept its terms on its page of the hub and {key}"),
        (hub.RepositoryNotFoundError, f"is missing or private: check the id, or {key}"),
        (hub.DisabledRepoError, "is disabled on the hub: choose another model"),
        (hub.RevisionNotFoundError, "has no branch `main`: choose another model"),
        (hub.RemoteEntryNotFoundError, f"has no {CONFIG}: it is no model of transformers; choose another"),
        (hub.HFValidationError, "is no model id: give owner/name, or the absolute path of a folder"),
    )
    for kind, reason in reasons:
        if any(isinstance(one, kind) for one in chain):
            return reason
    by_status = {
        401: f"is not shown to us (status 401): {key}",
        403: f"is not shown to us (status 403): {key}",
        404: f"is missing or private: check the id, or {key}",
    }
    return by_status.get(status or 0)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelRejected(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelRejected(f"{file} must hold keys and values, found a {type(content).__name__}")
    return content
