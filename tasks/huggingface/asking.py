"""Approval points: questions that a person answers, and the record of the answers."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks.artifacts import now, read_json, write_json
from tasks.errors import DeftError

logger = logging.getLogger("deft")

RECORD = Path("meta") / "approvals.json"
PENDING = Path("meta") / "pending_question.json"


class Question(BaseModel):
    """Something that is never decided without a person.

    Attributes:
        key: of small letters and dashes.
        title: one line.
        text: Markdown.
        choices: to choose one of; empty for a plain yes or no.
        unattended: what is taken where nobody is asked; None ends the run there.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    title: str
    text: str
    choices: tuple[str, ...] = ()
    unattended: str | None = None

    @property
    def digest(self) -> str:
        """Names this very question: an answer counts for no other."""
        content = "\n".join([self.key, self.title, self.text, *self.choices])
        return hashlib.sha256(content.encode()).hexdigest()[:12]


class Answer(BaseModel):
    """What a person said."""

    model_config = ConfigDict(frozen=True)

    approve: bool
    choice: str = ""
    note: str = ""


Ask = Callable[[Question], Answer]


def nobody(question: Question) -> Answer:
    """The answer where nobody is asked: the question's own default, else a no."""
    if question.unattended is None:
        return Answer(approve=False, note="nobody is asked in this run")
    return Answer(approve=True, choice=question.unattended, note="nobody was asked: the default")


def approved(project: Path, question: Question, ask: Ask, *, once: bool = True) -> Answer:
    """The answer to a question, asked unless it was answered before; kept in `meta/approvals.json`.

    Args:
        project: folder of the project.
        question: what to decide.
        ask: asks the person.
        once: an answer holds for the whole project; off: it counts for this time.

    Raises:
        DeftError: the person said no, or chose what was not offered.
    """
    known = _answers_in(project)
    before = [one for one in known if one["digest"] == question.digest and one["once"]]
    if before:
        return Answer.model_validate(before[-1]["answer"])
    pending = project / PENDING
    if not once:
        write_json(pending, question.model_dump())
    # A run that is suspended here ends with a signal, which leaves the question for `answer_pending`.
    try:
        answer = ask(question)
    except DeftError:
        pending.unlink(missing_ok=True)
        raise
    pending.unlink(missing_ok=True)
    if not answer.approve:
        raise DeftError(f"{question.title}: rejected; {answer.note or 'no reason given'}")
    if question.choices and answer.choice not in question.choices:
        raise DeftError(f"{question.title}: choose one of {', '.join(question.choices)}")
    entry = {
        "digest": question.digest,
        "key": question.key,
        "title": question.title,
        "answer": answer.model_dump(),
        "once": once,
        "at": now(),
    }
    write_json(project / RECORD, [*known, entry])
    logger.info("approved: %s %s", question.title, answer.choice)
    return answer


def answer_pending(project: Path, ask: Ask) -> None:
    """Take the answer to the question at which a run was suspended, before anything is done again.

    Raises:
        DeftError: the person said no.
    """
    file = project / PENDING
    if file.is_file():
        approved(project, Question.model_validate(read_json(file)), ask, once=False)


def chosen(project: Path, key: str, choice: str) -> bool:
    """Whether a person took this choice at a question whose key begins with `key`."""
    known = _answers_in(project)
    return any(str(one["key"]).startswith(key) and one["answer"]["choice"] == choice for one in known)


def times_asked(project: Path, key: str) -> int:
    """How often questions whose key begins with `key` were approved."""
    known = _answers_in(project)
    return sum(str(one["key"]).startswith(key) for one in known)


def _answers_in(project: Path) -> list[dict[str, Any]]:
    return list(read_json(project / RECORD)) if (project / RECORD).is_file() else []
