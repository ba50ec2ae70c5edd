"""What became of a training that failed: whether to try it again, and whether it counts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.automl.trial import Failure, FailureKind, Row
from tasks.errors import InputError, UsageError
from tasks.keys import merged, nested, value_at

LONGEST = 500
"""Characters of a message that are kept."""


@dataclass(frozen=True)
class Rule:
    """What to do after a failure.

    Attributes:
        waits: seconds before each further attempt; as many attempts as there are waits.
        halves_batch: whether a further attempt has half the batch.
        counted: whether the trial uses up the budget; one that does not is replaced.
    """

    waits: tuple[float, ...] = ()
    halves_batch: bool = False
    counted: bool = True


RULES: dict[FailureKind, Rule] = {
    "infrastructure": Rule(waits=(10.0, 60.0), counted=False),
    "out_of_memory": Rule(waits=(0.0,), halves_batch=True),
    "invalid_spec": Rule(counted=False),
    "diverged": Rule(),
}

_OUT_OF_MEMORY = re.compile(r"out of memory|DefaultCPUAllocator|cannot allocate memory", re.IGNORECASE)
_INFRASTRUCTURE = re.compile(
    r"\b(docker|containers?|work pool|workers?|killed|crashed|SIG(KILL|TERM|SEGV|BUS|ABRT)|bus error)\b"
    r"|\bsignal \d|exit (status|code) (1(29|3\d|4\d|5\d)|-\d)"
    r"|connection (refused|reset|aborted|error)|tim(ed|e) ?out|no space left|input/output error|stale file",
    re.IGNORECASE,
)
_WITHOUT_MEANING = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "#"),
    (re.compile(r"[\w.~@-]*(/[\w.@+=-]+)+/?"), "<path>"),
    (re.compile(r"(?<![\w.])[+-]?(\d+(\.\d*)?(e[+-]?\d+)?|nan|inf)(?!\w)", re.IGNORECASE), "#"),
    (re.compile(r"\b(0x[0-9a-f]+|(?=[0-9a-f]*\d)[0-9a-f]{8,})\b", re.IGNORECASE), "#"),
    (re.compile(r"\d+"), "#"),
)


def classify(error: BaseException) -> Failure:
    """What kind of failure an error is, by its type, its message and those of its causes.

    Memory that ran out comes first, whatever it is wrapped in; then an input or a spec that the action
    refused; then what lies outside the training (disk, network, Docker, a worker, a process that was
    killed). What is left is the configuration's own fault: it diverged.
    """
    chain = list(_causes(error))
    words = " ".join(str(one) for one in chain)
    kind: FailureKind = "diverged"
    if any(_ran_out_of_memory(one) for one in chain):
        kind = "out_of_memory"
    elif isinstance(error, InputError | UsageError):
        kind = "invalid_spec"
    elif any(isinstance(one, OSError) for one in chain) or _INFRASTRUCTURE.search(words):
        kind = "infrastructure"
    message = " ".join(str(error).split()) or type(error).__name__
    return Failure(kind=kind, signature=signature(error), message=message[:LONGEST])


def signature(error: BaseException) -> str:
    """The error without its numbers, paths and addresses: equal for two failures of one cause."""
    text = " ".join(str(error).split())[:LONGEST]
    for pattern, sign in _WITHOUT_MEANING:
        text = pattern.sub(sign, text)
    return f"{type(error).__name__}: {text}"


def shared_cause(rows: Sequence[Row], most: int = 3) -> str:
    """The message of the last failure, if the last `most` trials that ended all failed of one cause.

    Empty if not. Such a sweep should stop: its cause lies outside the trials.
    """
    last = sorted((row for row in rows if row.ended), key=lambda row: row.number)[-most:]
    failures = [row.failure for row in last]
    newest = failures[-1] if len(failures) == most else None
    if newest is None or any(one is None or one.signature != newest.signature for one in failures):
        return ""
    return newest.message


def halved(spec: Mapping[str, Any], key: str, least: int = 2) -> dict[str, Any] | None:
    """The spec with half the batch at a dotted key.

    None where that would fall below `least`, or the key holds no batch size.
    """
    batch = value_at(spec, key)
    if not isinstance(batch, int) or batch // 2 < least:
        return None
    return merged(spec, nested({key: batch // 2}))


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _ran_out_of_memory(error: BaseException) -> bool:
    by_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return by_type or bool(_OUT_OF_MEMORY.search(str(error)))
