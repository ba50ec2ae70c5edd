"""Command-line drift: what keys and flags an image's launcher knows, and a command line that suits it.

Releases of the containers differ in the names of keys and in whether they want `-e SPEC` (spec gap-analysis
C). Each image is asked once, by its digest, with `--cfg=job`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from blocks.containers.files import write_whole
from blocks.containers.overrides import words_of

UNSET = "???"
INFERENCE_CSV = "inference.csv"

# Names of one key, ours first.
NAMES = (
    ("inference_results_dir", "inference_csv", "inference_dir"),
    ("results_dir", "output_dir"),
    ("kpi_media_path", "images_dir", "media_path"),
    ("train_config", "train_yaml"),
    ("top_k_per_label", "topk_per_label", "top_k"),
    ("input_parquet", "input_path"),
    ("output_parquet", "output_path"),
    ("topn", "top_n", "n_neighbors"),
    ("knn_metric", "metric"),
)
# Keys of our engine alone, each with the values that ask an image for nothing that it does not do anyway.
OURS: Mapping[str, Callable[[Any], bool]] = {
    "native": lambda value: True,
    "device": lambda value: True,
    "filter_mode": lambda value: value == "post",
    "label_filter_strict": lambda value: not value,
    "exclude_parquet": lambda value: not value,
    "max_far": lambda value: value is None,
}

_DRIFT = re.compile(
    r"requires? the following argument|the following arguments are required|unrecognized arguments?"
    r"|Could not override|Key '[^']*' (is )?not in|action not found|MissingMandatoryValue",
    re.IGNORECASE,
)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TOP_KEY = re.compile(
    r"(?!(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL):)(['\"]?)[A-Za-z_]\w*\1:(?:\s.*)?"
)
_BELOW = re.compile(r"(?:\s+\S.*|- .*|-)")
_KEY = re.compile(r"[A-Za-z_][\w-]*")


class Schema(BaseModel):
    """What one action of an image answers to.

    Attributes:
        spec_flag: whether its launcher wants `-e SPEC`.
        keys: its keys with their defaults; `???` marks a mandatory one.
    """

    spec_flag: Literal["required", "optional", "rejected"]
    keys: dict[str, Any]


def is_drift(log: str) -> bool:
    """Whether a failed run's log says that the launcher did not understand its command line or spec."""
    return _DRIFT.search(log) is not None


def stub_in(folder: Path) -> Path:
    """Write the empty spec that some launchers want before they print their keys; gives its path.

    Beside it comes the folder `experiment_specs`, which some of them look for.
    """
    (folder / "experiment_specs").mkdir(parents=True, exist_ok=True)
    stub = folder / "stub.yaml"
    stub.write_text("{}\n", encoding="utf-8")
    return stub


def probe(ask: Callable[[list[str]], tuple[int, str]], category: str, action: str, stub: Path) -> Schema:
    """Ask an image for the keys of an action.

    Args:
        ask: runs `<category> <action> ...` in the image and gives its exit status and all its output.
        category: for instance `gap_analysis`.
        action: for instance `vcn_aoi`.
        stub: an empty spec file that the image can read, see `stub_in`.

    Raises:
        ValueError: the image prints no keys, neither with `-e` nor without.
    """
    with_spec, said = _keys_by(ask, [category, action, "-e", str(stub), "--cfg=job"])
    without, said_without = _keys_by(ask, [category, action, "--cfg=job"])
    if with_spec is not None:
        return Schema(spec_flag="required" if without is None else "optional", keys=with_spec)
    if without is not None:
        return Schema(spec_flag="rejected", keys=without)
    raise ValueError(
        f"the image prints no keys for {category} {action} --cfg=job; it says {_last_line(said)!r} with -e, "
        f"{_last_line(said_without)!r} without; check that the versions file names the right image"
    )


def _keys_by(
    ask: Callable[[list[str]], tuple[int, str]], argv: list[str]
) -> tuple[dict[str, Any] | None, str]:
    status, output = ask(argv)
    return (printed_keys(output) if status == 0 else None), output


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Execution status")]
    return (said or [""])[-1][:200]


def printed_keys(output: str) -> dict[str, Any] | None:
    """The YAML mapping that stands among the log lines of an output; None where there is none.

    Of several the one with most keys counts.
    """
    mappings = [mapping for mapping in map(_mapping, _blocks(output)) if mapping]
    return max(mappings, key=len, default=None)


def _blocks(output: str) -> Iterator[str]:
    """Runs of lines that look like a YAML mapping."""
    block: list[str] = []
    for line in _ANSI.sub("", output).splitlines():
        if _TOP_KEY.fullmatch(line) or (block and _BELOW.fullmatch(line)):
            block.append(line)
        else:
            yield "\n".join(block)
            block = []
    yield "\n".join(block)


def _mapping(text: str) -> dict[str, Any] | None:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else None


def kept(folder: Path, digest: str, category: str, action: str) -> Schema | None:
    """The schema that `keep` wrote; None where there is none, or none that can be read."""
    try:
        return Schema.model_validate(_kept_all(_file(folder, digest)).get(f"{category} {action}"))
    except ValidationError:
        return None


def keep(folder: Path, digest: str, category: str, action: str, schema: Schema) -> None:
    """Write the schema of an action of an image to `<folder>/cli_schema/<digest>.json`, beside the others."""
    file = _file(folder, digest)
    content = {**_kept_all(file), f"{category} {action}": schema.model_dump(mode="json")}
    write_whole(file, json.dumps(content, indent=2, default=str))


def _file(folder: Path, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"{digest!r} is no image digest; give sha256:<64 hex digits>")
    return folder / "cli_schema" / f"{name}.json"


def _kept_all(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def adapted(argv: Sequence[str], spec: Mapping[str, Any], schema: Schema) -> tuple[list[str], dict[str, Any]]:
    """A command line and a spec that this image understands.

    Keys get the names that the image has for them. Keys of our engine alone are left out where they ask for
    nothing. Where the image rejects `-e`, the whole spec goes onto the command line.

    Args:
        argv: `<action> -e FILE [key=value ...]`, FILE being where the caller will write the adapted spec.
        spec: what our spec file holds, as plain values.
        schema: what the image answers to.

    Returns:
        The command line, without `-e FILE` where the image rejects it, and the spec to write into FILE.

    Raises:
        ValueError: the image wants keys that are not given, or does not know a key that is given; or a value
            has a blank and must go onto the command line, which the launchers split at blanks.
    """
    action, flag, words = _parts(argv)
    renamed: dict[str, Any] = {}
    for key, value in spec.items():
        name = _name_in(schema, key, value)
        if name in renamed:
            raise ValueError(f"the spec gives {name} twice, once as {key}; keep one")
        if name:
            renamed[name] = _value_for(name, value)
    overrides = [word for word in (_renamed_word(schema, word) for word in words) if word]
    _check_mandatory(schema, action, renamed, overrides)
    if schema.spec_flag == "rejected":
        return [action, *words_of(renamed, schema.keys), *overrides], renamed
    return [action, *flag, *overrides], renamed


def _parts(argv: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Action, `-e FILE`, and all other words of a command line."""
    rest = list(argv[1:])
    place = next((i for i, word in enumerate(rest) if word in ("-e", "--experiment_spec_file")), len(rest))
    return argv[0], rest[place : place + 2], rest[:place] + rest[place + 2 :]


def _name_in(schema: Schema, key: str, value: Any) -> str | None:
    """What the image calls a key; None for one to leave out."""
    names = next((names for names in NAMES if key in names), ())
    found = next((name for name in (key, *names) if name in schema.keys), None)
    if found or value is None:
        return found
    if key in OURS and OURS[key](value):
        return None
    raise ValueError(
        f"the image knows no key {key} (given {value!r}); leave it out, or use the native engine. "
        f"Its keys: {', '.join(sorted(schema.keys))}"
    )


def _value_for(name: str, value: Any) -> Any:
    """A folder where the key wants the folder of inference.csv, that file where it wants the file."""
    if name not in NAMES[0] or not isinstance(value, str) or not value:
        return value
    path = PurePosixPath(value)
    is_file = path.name == INFERENCE_CSV
    if name == "inference_csv":
        return str(path if is_file else path / INFERENCE_CSV)
    return str(path.parent if is_file else path)


def _renamed_word(schema: Schema, word: str) -> str | None:
    key, equals, value = word.partition("=")
    top, dot, below = key.lstrip("+~").partition(".")
    if not equals or not _KEY.fullmatch(top):
        return word
    name = _name_in(schema, top, value)
    return (
        f"{key[: len(key) - len(key.lstrip('+~'))]}{name}{dot}{below}={_value_for(name, value)}"
        if name
        else None
    )


def _check_mandatory(schema: Schema, action: str, spec: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raise when a mandatory key of the top level, or of the action's own section, is not given."""
    own, given = schema.keys.get(action), spec.get(action)
    wanted = [
        name for name, value in schema.keys.items() if value == UNSET and spec.get(name, UNSET) == UNSET
    ]
    if isinstance(own, dict):
        section = given if isinstance(given, Mapping) else {}
        wanted += [f"{action}.{n}" for n, v in own.items() if v == UNSET and section.get(n, UNSET) == UNSET]
    said = {word.partition("=")[0].lstrip("+") for word in overrides}
    missing = sorted(set(wanted) - said)
    if missing:
        raise ValueError(
            f"the image wants keys for {action} that are not given: {', '.join(missing)}; "
            "use the image of the release that this version was made for, or the native engine"
        )
