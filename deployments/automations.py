"""What the Prefect server does by itself about runs that died."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

SILENCE = timedelta(seconds=120)
"""Four heartbeats; how long a run may be silent."""
STARTS = ["1", "2"]
"""A run that crashed after one of these starts is started again; so the third crash is the last."""


def automations() -> list[AutomationCore]:
    """The two automations: silent runs are crashed, and crashed ones with the tag are started again."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    def tagged(name: str) -> dict[str, list[str]]:
        return {"prefect.resource.id": [f"prefect.tag.{name}"], "prefect.resource.role": ["tag"]}

    silent = AutomationCore(
        name="deft: silent runs are crashed",
        description="A run whose process and container were killed stays Running for ever without this.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(tagged("deft")),
            for_each={"prefect.resource.id"},
            threshold=1,
            within=SILENCE,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no sign of life for two minutes")],
    )
    again = AutomationCore(
        name="deft: crashed runs are started again",
        description="Deployments with the tag autoretry, twice at most; the run goes on where it was.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={"prefect.flow-run.Crashed"},
            match=ResourceSpecification(
                {"prefect.resource.id": ["prefect.flow-run.*"], "prefect.run-count": STARTS}
            ),
            # Flows inside have the tag too, but no deployment: nobody could start them.
            match_related=[
                ResourceSpecification(tagged("autoretry")),
                ResourceSpecification(
                    {
                        "prefect.resource.id": ["prefect.deployment.*"],
                        "prefect.resource.role": ["deployment"],
                    }
                ),
            ],
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", message="started again after a crash"
            )
        ],
    )
    return [silent, again]
