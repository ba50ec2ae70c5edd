"""The one gate of a pipeline: a person reads the preflight summary and approves it.

The run that waits stands in the Prefect UI with a form, `deft approve RUN` answers it from a terminal,
and three requests answer it from anywhere else (`API` is the address of the server with /api behind it):

    POST API/flow_runs/filter   {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
        gives the runs that wait: of each its id, its name and state.state_details.run_input_keyset
    GET  API/flow_runs/ID/input/KEYSET.description   the summary
    GET  API/flow_runs/ID/input/KEYSET.schema        the fields of the answer
    POST API/flow_runs/ID/resume   {"run_input": {"approve": true, "note": "as agreed on Tuesday"}}
        gives {"status": "ACCEPT", ...}; an answer that cannot be used is "REJECT" with its reason, and
        has HTTP status 200 nevertheless: read the field, not the HTTP status; after a 503, the database
        being busy, send it again
"""

import itertools
import logging
from typing import Annotated, Any, Literal, TypeVar

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.input import RunInput, read_flow_run_input
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from tasks.errors import DeftError

logger = logging.getLogger("deft.flow")

POLL_SECONDS = 2
SHOWN_OF_TOKEN = 12

Form = TypeVar("Form", bound=RunInput)


def _plain(schema: dict[str, Any]) -> None:
    """Without null and default in its schema, a number is one field that may stay empty, not two in a tab."""
    schema.pop("default", None)


class Approval(RunInput):
    """What a person answers: yes or no, and what should be other than the summary says.

    `approve` has no default, so that an empty answer is no approval. The form stands in a narrow window
    below the summary, so each field takes as little room as it can.
    """

    approve: bool = Field(
        description="On: start all of it; with a correction, show me the corrected summary first. "
        "Off: reject, the run ends."
    )
    note: str = Field(default="", title="Note, kept with the run")
    max_iterations: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(
        default=None, title="Correction: iterations of the loop at most", json_schema_extra=_plain
    )
    phase1_trials: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(
        default=None, title="Correction: trials in phase 1", json_schema_extra=_plain
    )
    phase3_trials: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(
        default=None, title="Correction: trials in phase 3", json_schema_extra=_plain
    )
    per_job_minutes: Annotated[float, Field(gt=0)] | SkipJsonSchema[None] = Field(
        default=None, title="Correction: minutes of one training", json_schema_extra=_plain
    )

    def corrections(self) -> dict[str, Any]:
        """The corrected parameters by name: all fields beside `approve` and `note` that are set."""
        return self.model_dump(exclude={"approve", "note"}, exclude_none=True)


class Decision(BaseModel):
    """How the gate was passed, or not.

    An answer with corrections approves nothing yet: then `approved` is false, and the caller shows the
    gate again with a summary of the corrected parameters. Not approved and no corrections: rejected.
    """

    model_config = ConfigDict(frozen=True)

    approved: bool
    how: Literal["person", "yes", "token"]
    note: str = ""
    corrections: dict[str, Any] = Field(default_factory=dict)


def decide(
    summary_markdown: str,
    token: str,
    *,
    given: Literal["ask", "yes"],
    given_token: str | None,
    key: str,
    timeout_seconds: int,
) -> Decision:
    """Publish the summary as an artifact of the run, and have it approved; call it in a synchronous flow.

    A run of a deployment ends while it waits and starts again from the top when it is answered; another
    one waits in its process. Either way an answer counts only for the summary that it was given for:
    with other data or parameters there is another token, and the gate is shown again.

    Args:
        summary_markdown: what is approved.
        token: the hash of the summary, lowercase hexadecimal.
        given: ask a person, or take the approval as given.
        given_token: token of a summary that was approved before; it decides if it is there.
        key: name of this showing of the gate, and of its artifact, of lowercase letters, digits and dashes;
            another one after every correction.
        timeout_seconds: how long a person has to answer.

    Raises:
        DeftError: `given_token` is not `token`, nobody answered in time, the run was resumed without an
            answer, or this is no flow run.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise DeftError("the approval gate stands in a flow: there is no flow run here to approve")
    artifact = create_markdown_artifact(summary_markdown, key=key, description=f"token {token}")
    if given_token is not None:
        if given_token != token:
            raise DeftError(
                f"approval_token {given_token} is not the token of the summary, {token}: parameters or data "
                "changed since it was approved; look at the summary again"
            )
        return Decision(approved=True, how="token")
    if given == "yes":
        return Decision(approved=True, how="yes")
    page = f"[Show this summary on a page of its own](/artifacts/artifact/{artifact})"
    answer = _ask(context.flow_run, f"{page}\n\n{summary_markdown}", token, key, timeout_seconds)
    return _decision(answer)


def summary_in(description: str) -> str:
    """The summary in the description of a form, without the line above it that is meant for the UI."""
    return description.partition("\n\n")[2]


def _decision(answer: Approval) -> Decision:
    corrections = answer.corrections()
    if corrections and not answer.approve:
        logger.warning("rejected; its corrections are not used: %s", corrections)
        corrections = {}
    return Decision(
        approved=answer.approve and not corrections, how="person", note=answer.note, corrections=corrections
    )


def _ask(run: FlowRun, description: str, token: str, key: str, timeout_seconds: int) -> Approval:
    form = Approval.with_initial_data(description=description)
    key = open_key(run, f"{key}-{token[:SHOWN_OF_TOKEN]}")
    logger.info(
        "waits for approval of summary %s: deft approve %s, or the Resume button of the run in the UI, or "
        "POST /api/flow_runs/%s/resume",
        token[:SHOWN_OF_TOKEN],
        run.name,
        run.id,
    )
    late = (
        f"nobody approved run {run.name} within {timeout_seconds} s: start it again and answer it with "
        f"'deft approve', or start it with approval_token={token}"
    )
    empty = (
        f"run {run.name} was resumed without an answer to its approval gate: start it again and answer "
        "it with 'deft approve' or the Resume button"
    )
    return answer_or_fail(run, form, key, timeout_seconds, late=late, empty=empty)


def answer_or_fail(
    run: FlowRun, form: type[Form], key: str, timeout_seconds: int, *, late: str, empty: str
) -> Form:
    """The filled form; a run that nobody answered in time is shown as failed, with `late` for its reason.

    Raises:
        DeftError: `late`, or `empty` where the run was resumed without an answer.
    """
    try:
        return wait_for_answer(run, form, key, timeout_seconds)
    except FlowPauseTimeout:
        _fail(run, late)
        raise DeftError(late) from None
    except ValidationError:
        raise DeftError(empty) from None


def _fail(run: FlowRun, text: str) -> None:
    """Say why the run failed; left to itself Prefect says "The flow was failed and never resumed."."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Failed(message=text), force=True)


def wait_for_answer(run: FlowRun, form: type[Form], key: str, timeout_seconds: int) -> Form:
    """Suspend the run, or pause it where nobody would start it again, until a person has filled the form.

    Raises:
        FlowPauseTimeout: nobody answered in time.
        ValidationError: the run was resumed without an answer.
    """
    if suspends(run):
        return suspend_flow_run(wait_for_input=form, timeout=timeout_seconds, key=key)
    return pause_flow_run(wait_for_input=form, timeout=timeout_seconds, poll_interval=POLL_SECONDS, key=key)


def suspends(run: FlowRun) -> bool:
    """Whether the process may end while it waits: somebody has to start the run again."""
    return run.deployment_id is not None and run.parent_task_run_id is None


def open_key(run: FlowRun, key: str) -> str:
    """`key`, or `key-2`, `key-3`... if it was shown and left unanswered, as in a run that is tried again.

    Prefect shows each key once per run; after that it gives the stored answer at once, if there is one.
    """
    verb = "suspended" if suspends(run) else "paused"
    with get_client(sync_client=True) as client:
        shown = client.read_flow_run(run.id).empirical_policy.pause_keys or set()
    names = itertools.chain([key], (f"{key}-{number}" for number in itertools.count(2)))
    return next(
        name for name in names if name not in shown or read_flow_run_input(f"{verb}-{name}-response", run.id)
    )
