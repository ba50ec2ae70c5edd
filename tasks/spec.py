"""Specs of actions: YAML file, `key=value` overrides and defaults become one validated model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticUndefined

from tasks.artifacts import existing_file, sha256_of
from tasks.errors import InputError, UsageError

UNSET = "???"


class Role(Enum):
    """What a path of a spec is to the action; decides how it counts in the cache key."""

    READS = "reads"  # counts by the content of the file
    WRITES = "writes"  # a folder does not count, a file counts by its name


READS = Role.READS
WRITES = Role.WRITES


def _absolute(value: Any) -> Any:
    if value in (None, ""):
        return None
    return Path(str(value)).expanduser().absolute()


ReadPath = Annotated[Path, BeforeValidator(_absolute), READS]
OptionalReadPath = Annotated[Path | None, BeforeValidator(_absolute), READS]
WritePath = Annotated[Path, BeforeValidator(_absolute), WRITES]
OptionalWritePath = Annotated[Path | None, BeforeValidator(_absolute), WRITES]
PlainPath = Annotated[Path, BeforeValidator(_absolute)]
OptionalPlainPath = Annotated[Path | None, BeforeValidator(_absolute)]


class SpecModel(BaseModel):
    """Base of all specs: unknown keys are refused, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    ALIASES: ClassVar[dict[str, str]] = {}
    """Older names of top-level keys, each with the name that it has here."""

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain YAML values."""
        return self.model_dump(mode="json")


Spec = TypeVar("Spec", bound=SpecModel)


def defaults_of(model: type[BaseModel]) -> dict[str, Any]:
    """The schema's defaults as plain values; a required key holds `???`."""
    return {name: _default_of(model, name) for name in model.model_fields}


def _default_of(model: type[BaseModel], name: str) -> Any:
    field = model.model_fields[name]
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        nested: Any = field.annotation
        is_model = isinstance(nested, type) and issubclass(nested, BaseModel)
        return defaults_of(nested) if is_model else UNSET
    if isinstance(value, BaseModel):
        return {**defaults_of(type(value)), **value.model_dump(mode="json", exclude_unset=True)}
    return json.loads(json.dumps(value, default=str))


def merged_spec(
    model: type[SpecModel],
    given: Path | Mapping[str, Any] | None,
    overrides: Sequence[str],
    rebase: Callable[[DictConfig], None] | None = None,
) -> DictConfig:
    """Defaults, then the spec (file or values), then `key=value` words, as a tree with `???` left in.

    `rebase` may change the tree before interpolations (`${a.b}`) are looked at.

    Raises:
        UsageError: a word is not `key=value`.
        InputError: the file is missing or is not a YAML mapping.
    """
    content = _from_file(given) if isinstance(given, Path) else plain(given or {})
    layers = [defaults_of(model), _renamed(model, content), _renamed(model, _from_words(overrides))]
    try:
        tree = OmegaConf.merge(*map(OmegaConf.create, layers))
    except OmegaConfBaseException as error:
        raise InputError(f"spec {given}: {_first_line(error)}") from error
    assert isinstance(tree, DictConfig)
    if rebase is not None:
        rebase(tree)
    return tree


def validated(model: type[Spec], tree: DictConfig, origin: str) -> Spec:
    """The typed spec of a merged tree, interpolations resolved.

    Raises:
        InputError: a key is unknown, unset (`???`), or out of its range; all are named.
    """
    missing = sorted(OmegaConf.missing_keys(tree))
    if missing:
        raise InputError(
            f"{origin}: required and not set: {', '.join(missing)}; "
            f"give it in the spec file or as {missing[0]}=VALUE"
        )
    try:
        values = OmegaConf.to_container(tree, resolve=True)
        return model.model_validate(values)
    except OmegaConfBaseException as error:
        raise InputError(f"{origin}: {_first_line(error)}") from error
    except ValidationError as error:
        raise InputError(f"{origin}: {explained(error)}") from error


def load_spec(
    model: type[Spec], file: Path | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> Spec:
    """Read, merge and validate a spec in one go; raises as its two parts do."""
    origin = str(file) if isinstance(file, Path) else model.__name__
    return validated(model, merged_spec(model, file, overrides), origin)


def explained(error: ValidationError) -> str:
    """A pydantic error as one line: each key, what is wrong with it, and the value that was given."""
    return "; ".join(_problem(item) for item in error.errors())


def _problem(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key {key}; remove it or correct its spelling"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{key}: required and not set"
    return f"{key}: {message} (got {item['input']!r})" if key else message


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(existing_file(file, "spec file").read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"spec file {file} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"spec file {file} must hold keys and values, found a {type(content).__name__}")
    return content


def read_mapping(file: Path, what: str) -> dict[str, Any]:
    """A YAML file's mapping as plain values, interpolations kept as text; `what` is for messages.

    Raises:
        InputError: no such file, not YAML, or no mapping.
    """
    try:
        # Not PyYAML's loader: it reads 1e-3 as text.
        content = OmegaConf.to_container(OmegaConf.load(existing_file(file, what)))
    except (yaml.YAMLError, OmegaConfBaseException, OSError) as error:
        raise InputError(f"{what} {file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{what} {file} must hold keys and values, found a {type(content).__name__}")
    # YAML 1.1 reads the keys yes and no as truth values; a flow has a parameter of that name.
    names = {True: "yes", False: "no"}
    return {names[key] if isinstance(key, bool) else str(key): value for key, value in content.items()}


def plain(value: Any) -> Any:
    """Mappings, sequences and paths as the dicts, lists and text that YAML and JSON know."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _from_words(words: Sequence[str]) -> dict[str, Any]:
    for word in words:
        if "=" not in word or word.startswith("="):
            raise UsageError(f"argument {word!r} is not key=value")
    tree = OmegaConf.from_dotlist([word.removeprefix("+") for word in words])
    content = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _renamed(model: type[SpecModel], content: dict[str, Any]) -> dict[str, Any]:
    renamed = {model.ALIASES.get(key, key): value for key, value in content.items()}
    if len(renamed) < len(content):
        twice = [key for key in content if key in model.ALIASES and model.ALIASES[key] in content]
        raise InputError(f"spec gives {twice[0]} and {model.ALIASES[twice[0]]}, which are one key; keep one")
    return renamed


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def content_of(spec: BaseModel) -> dict[str, Any]:
    """What of a spec decides the result: read files by content, written places left out."""
    return {name: _content(spec, name) for name in sorted(type(spec).model_fields)}


def _content(spec: BaseModel, name: str) -> Any:
    value = getattr(spec, name)
    roles = [item for item in type(spec).model_fields[name].metadata if isinstance(item, Role)]
    if isinstance(value, BaseModel):
        return content_of(value)
    if value is None or not roles:
        return json.loads(json.dumps(value, default=str))
    path = Path(value)
    if roles == [WRITES]:
        return path.name if path.suffix else None
    return sha256_of(path) if path.is_file() else str(value)


def paths_of(spec: BaseModel, prefix: str = "") -> dict[str, tuple[Path, Role | None]]:
    """Every path of a spec by its dotted key, with what it is to the action if that is said."""
    found: dict[str, tuple[Path, Role | None]] = {}
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if isinstance(value, BaseModel):
            found |= paths_of(value, f"{prefix}{name}.")
        elif isinstance(value, Path):
            role = next((item for item in field.metadata if isinstance(item, Role)), None)
            found[prefix + name] = (value, role)
    return found


def digest(content: Any) -> str:
    """A SHA-256 over any JSON value, keys sorted."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
