"""The action: `<category> <action> [-e spec.yaml] [key=value ...]`, one contract for all computation.

An action is a function of its spec. It knows files, not Prefect. The same function is reached in
process, as a console script of its category, and as the entry point of our container image.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from blocks.versions import NATIVE
from tasks.artifacts import sha256_of_all
from tasks.errors import DeftError, InputError, StageFailed, UsageError
from tasks.spec import SpecModel, content_of, digest, merged_spec, validated

logger = logging.getLogger("deft")

INTERRUPTED = 130


@dataclass(frozen=True)
class Headline:
    """What a finished run is about, for who looks at its page; all of it is text, nothing is Markdown.

    Attributes:
        sentence: what came out.
        header: the names of the table's columns.
        rows: its rows; None stands for a figure that there is not.
        pictures: files to show; several are shown as one sheet.
        caption: what the pictures show.
    """

    sentence: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    pictures: Sequence[Path] = ()
    caption: str = ""


@dataclass(frozen=True)
class ActionCode:
    """What a stage's `action.py` gives for one of its actions.

    Attributes:
        spec: the pydantic model of the spec.
        run: does the work; raises a `DeftError` with nothing half-written.
        folder: where the outputs of a spec lie.
        outputs: every file that a finished run of this spec has left, by name; a missing one is a failure.
        headline: what a finished run of this spec is about, read from its outputs.
        reads: files beside the spec's own read paths whose content decides the result (images of a CSV).
        rebase: changes the merged tree before interpolation (per-action results folder).
        version: raise it when the same inputs give another result.
    """

    spec: type[SpecModel]
    run: Callable[[Any], None]
    folder: Callable[[Any], Path]
    outputs: Callable[[Any], dict[str, Path]]
    headline: Callable[[Any], Headline]
    reads: Callable[[Any], Iterable[Path]] = lambda spec: ()
    rebase: Callable[[DictConfig], None] | None = None
    version: int = 1


def later(work_at: str) -> Callable[[Any], None]:
    """The work at `module:function`, imported when it is done.

    Who only asks for specs, outputs and reads, such as a flow, needs no package of the engine.
    """

    def run(spec: Any) -> None:
        module, function = work_at.split(":")
        getattr(importlib.import_module(module), function)(spec)

    return run


@dataclass(frozen=True)
class Action:
    """An entry of the registry: names, where the code lies (imported when first needed)."""

    category: str
    name: str
    code_at: str = field(repr=False)
    image: str = NATIVE
    gpu: bool = False

    @cached_property
    def code(self) -> ActionCode:
        """The stage's code.

        Raises:
            DeftError: a package of an extra is not installed; the message names the extra.
        """
        module, attribute = self.code_at.split(":")
        with engine_packages(f"{self.category} {self.name}"):
            code: ActionCode = getattr(importlib.import_module(module), attribute)
        return code

    @property
    def title(self) -> str:
        """`<category> <action>`."""
        return f"{self.category} {self.name}"

    def spec(self, given: Path | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> Any:
        """The validated spec of a file or of values, and `key=value` words.

        Raises:
            InputError: a key is unknown, unset or out of range; all are named.
            UsageError: a word is not `key=value`.
        """
        tree = merged_spec(self.code.spec, given, overrides, self.code.rebase)
        origin = f"{self.title} spec {given}" if isinstance(given, Path) else f"{self.title} spec"
        return validated(self.code.spec, tree, origin)

    def digest(self, spec: SpecModel, image_digest: str = "") -> str:
        """The cache key: action, resolved spec, content of all inputs, engine version, image digest."""
        return digest(
            {
                "action": [self.category, self.name, self.code.version, engine_version(), image_digest],
                "spec": content_of(spec),
                "reads": sha256_of_all(self.code.reads(spec)),
            }
        )

    def run(self, spec: SpecModel) -> dict[str, Path]:
        """Do the work and give the output files by name.

        Raises:
            DeftError: as the action does; `StageFailed` when an output is missing afterwards.
        """
        with engine_packages(self.title):
            self.code.run(spec)
        return self.outputs(spec)

    def outputs(self, spec: SpecModel) -> dict[str, Path]:
        """The output files of a finished run; raises `StageFailed` naming those that are missing."""
        outputs = self.code.outputs(spec)
        missing = [str(path) for path in outputs.values() if not path.is_file()]
        if missing:
            raise StageFailed(f"{self.title} left no {', '.join(missing)}; see its log")
        return outputs


class engine_packages:  # noqa: N801 - reads as a statement
    """Turns a missing optional package into one line that names the extra to install."""

    def __init__(self, title: str) -> None:
        self.title = title

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        extra = {"torch", "transformers", "safetensors", "kornia", "onnx", "onnxscript", "PIL", "cv2"}
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in extra:
            raise DeftError(
                f"{self.title} needs the package {error.name}; "
                "install it with: pip install 'deft-flows[engine]'"
            ) from error


def engine_version() -> str:
    """The version of this package, or `source` when it is not installed."""
    try:
        return version("deft-flows")
    except PackageNotFoundError:
        return "source"


def main(actions: Sequence[Action], argv: Sequence[str]) -> int:
    """Run one action of a category from its command line; the last log line is its status.

    Returns:
        0 done, 1 error, 2 usage, 3 target unreachable, 130 interrupted.
    """
    started = time.monotonic()
    try:
        action, file, words, show_only = parsed(actions, argv)
        if show_only:
            tree = merged_spec(action.code.spec, file, words, action.code.rebase)
            logger.info(OmegaConf.to_yaml(tree).rstrip())
        else:
            action.run(action.spec(file, words))
        status = 0
    except DeftError as error:
        logger.error("ERROR: %s", error)
        status = error.exit_status
    except KeyboardInterrupt:
        logger.error("ERROR: interrupted")
        status = INTERRUPTED
    except OSError as error:
        logger.error("ERROR: %s: %s", error.filename or "file system", error.strerror or error)
        status = 1
    except Exception as error:
        logger.exception(
            "ERROR: %s: %s (a defect of deft-flows; please report it)", type(error).__name__, error
        )
        status = 1
    logger.debug("took %.2f s", time.monotonic() - started)
    logger.info("Execution status: %s", "FAIL" if status else "PASS")
    return status


def parsed(actions: Sequence[Action], argv: Sequence[str]) -> tuple[Action, Path | None, list[str], bool]:
    """Action, spec file, `key=value` words, and whether only to print the spec (`--cfg=job`).

    Raises:
        UsageError: no such action, or a flag without its value.
    """
    by_name = {action.name: action for action in actions}
    known = f"choose one of: {', '.join(by_name) or 'none in this version'}"
    if not argv or argv[0].startswith("-"):
        raise UsageError(f"no action given; {known}")
    if argv[0] not in by_name:
        raise UsageError(f"no action {argv[0]!r}; {known}")
    file: Path | None = None
    words: list[str] = []
    show_only = False
    rest = iter(argv[1:])
    for word in rest:
        if word in ("-e", "--experiment_spec_file", "--cfg"):
            value = next(rest, None)
            if value is None:
                raise UsageError(f"{word} needs a value")
            show_only, file = (True, file) if word == "--cfg" else (show_only, Path(value))
        elif word.startswith("--cfg="):
            show_only = True
        elif word.startswith("--experiment_spec_file="):
            file = Path(word.partition("=")[2])
        elif word.startswith("-") and "=" not in word:
            raise UsageError(f"unknown flag {word}; only -e SPEC and --cfg=job are known")
        else:
            words.append(word)
    return by_name[argv[0]], file, words, show_only


def console_main(actions: Sequence[Action]) -> None:
    """`main` for a console script: messages on standard output, exit status to the shell."""
    argv = sys.argv[1:]
    if argv and argv[0] in ("-h", "--help"):
        print(usage(actions))
        raise SystemExit(0)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Plain())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    raise SystemExit(main(actions, argv))


class _Plain(logging.Formatter):
    """The message alone, but for a warning, whose level would be lost to who reads a container's log."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = "WARNING: " if record.levelno == logging.WARNING else ""
        return prefix + super().format(record)


def usage(actions: Sequence[Action]) -> str:
    """The help text of a category."""
    lines = ["usage: <category> <action> [-e spec.yaml] [key=value ...] [--cfg=job]", "", "actions:"]
    lines += [f"  {action.category} {action.name}" for action in actions]
    return "\n".join([*lines, "", "--cfg=job prints the resolved spec with every key and default."])


def unknown_value(what: str, given: object, known: Iterable[object]) -> InputError:
    """The error for a name that nobody knows, with the names that are known."""
    return InputError(f"unknown {what} {given!r}; choose one of: {', '.join(map(str, known))}")
