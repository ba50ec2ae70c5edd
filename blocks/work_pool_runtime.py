"""Actions on another machine: each is a run of the deployment `run-action` in a work pool."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from datetime import timedelta
from typing import Any, ClassVar, Literal

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import Field, model_validator

from blocks.containers.log import forward
from blocks.pool_run import (
    OUTCOME_SECONDS,
    FollowedRun,
    LogTail,
    attempt_of,
    cancel_all,
    check_variables,
    earlier_runs,
    take_outcome,
)
from blocks.runtime import ActionOutcome, ActionRequest, InlineRuntime, Runtime
from blocks.versions import ImageReference

logger = logging.getLogger("deft.flow")


class WorkPoolRuntime(Runtime):
    """Runs each action as a run of `run-action` in a work pool, on a machine that shares the folders.

    The other machine sees workspace and results at the same paths.

    Attributes:
        deployment: The deployment of run-action.
        kind: The type of its work pool.
        remote_runtime: Where the action runs on the other machine.
        image: Image of the run.
        gpus: GPUs of an action that computes.
        shm_size: Shared memory.
        volumes: Folders of the other machine.
        environment: Environment variables.
        job_variables: Other variables of the work pool.
        queue: Queue of the work pool.
        time_limit_minutes: Longest time of one action.
        poll_seconds: How often the run is looked at.

    Example:
        Load a saved runtime:
        ```python
        from blocks.work_pool_runtime import WorkPoolRuntime

        runtime = WorkPoolRuntime.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Work Pool Runtime"
    _block_type_slug = "work-pool-runtime"
    _description = "Runs each action on another machine, as a run of run-action in a work pool."

    starts_images: ClassVar[bool] = False
    """The work pool starts images on its own host; there is nothing to look at on this one."""

    deployment: str = Field(
        title="Deployment",
        pattern=r"^[^/]+/[^/]+$",
        description="The deployment of run-action, written flow/deployment.",
        examples=["run-action/docker"],
    )
    kind: Literal["docker", "kubernetes"] = Field(
        default="docker",
        title="Kind of work pool",
        description="How GPUs are asked for: as devices of a container, or as a count for a pod.",
    )
    remote_runtime: str = Field(
        default="inline",
        title="Runtime there",
        description="Where it runs on the other machine: inline, or the type/name of a runtime block.",
    )
    image: ImageReference | None = Field(
        default=None,
        title="Image",
        description="Image of the run, with our engine in it; empty: the one of the deployment.",
    )
    gpus: str = Field(
        default="all",
        title="GPUs",
        pattern=r"^([0-9A-Za-z-]+(,[0-9A-Za-z-]+)*)?$",
        description="For actions that compute: all, or ids such as 0,1; in kubernetes a count; empty: none.",
    )
    shm_size: str | None = Field(
        default=None,
        title="Shared memory",
        description="Size of /dev/shm; 8g, in kubernetes 8Gi.",
        examples=["8g"],
    )
    volumes: list[str] = Field(
        default=[],
        title="Volumes",
        description="Folders of that machine in place of the deployment's, each there:inside.",
        examples=[["/data:/data"]],
    )
    environment: dict[str, str] = Field(
        default={}, title="Environment", description="Variables added to those of the deployment."
    )
    job_variables: dict[str, Any] = Field(
        default={}, title="Other job variables", description="As the work pool's own form names them."
    )
    queue: str | None = Field(
        default=None, title="Queue", description="Queue of the work pool; empty: the deployment's."
    )
    time_limit_minutes: float | None = Field(
        default=None,
        gt=0,
        title="Time limit",
        description="Minutes that one action may work; empty: no limit.",
    )
    poll_seconds: float = Field(
        default=2, gt=0, title="Poll", description="Seconds between two looks at the run and its log."
    )

    @model_validator(mode="after")
    def _count_in_kubernetes(self) -> WorkPoolRuntime:
        counted = self.gpus.isdecimal() and int(self.gpus) > 0
        if self.kind == "kubernetes" and self.gpus and not counted:
            raise ValueError(f"gpus {self.gpus!r}: in kubernetes give the number of GPUs, or leave it empty")
        return self

    @property
    def runs_nvidia(self) -> bool:
        """Whether the runtime there starts NVIDIA's images."""
        return self._there().runs_nvidia

    def image_for(self, key: str) -> str:
        """The key of the image that answers on the other machine."""
        return self._there().image_for(key)

    def image_uri(self, key: str) -> str:
        """The image behind a key on the other machine; raises as the runtime there does."""
        return self._there().image_uri(key)

    def image_digest(self, image: str) -> str:
        """The digest in the configured image reference, else the reference: no daemon here can be asked."""
        reference = (self.image or "") if self.remote_runtime == "inline" else self.image_uri(image)
        return reference.partition("@")[2] or reference

    def run(self, request: ActionRequest) -> ActionOutcome:
        """Have the action run over there and wait for its end.

        The same work, begun by a process of ours that was killed, is taken up and not begun twice.

        Raises:
            ValueError: no such deployment, a variable that its work pool does not know, a log folder that
                the other machine does not share, or a Prefect server that is out of reach for long.
        """
        work = self._name_of(request)
        with get_client(sync_client=True) as client:
            deployment = self._deployment(client)
            variables = self._variables(request)
            check_variables(client, deployment, variables)
            earlier = earlier_runs(client, work)
            taken_up = self._taken_up(client, earlier[0], request) if earlier else None
            if taken_up is not None:
                return taken_up
            # The log of an earlier attempt is none of this one's messages.
            request.log_file.unlink(missing_ok=True)
            attempt = 1 + max(map(attempt_of, earlier), default=0)
            run = self._asked_for(request, work, attempt, variables)
            return self._followed(client, run, request)

    def stop(self) -> None:
        """Cancel the runs that this process waits for."""
        cancel_all()

    def _there(self) -> Runtime:
        """The runtime on the other machine, as its block describes it."""
        if self.remote_runtime == "inline":
            return InlineRuntime()
        block: Any = Block.load(self.remote_runtime)
        if not isinstance(block, Runtime) or isinstance(block, WorkPoolRuntime):
            raise ValueError(
                f"remote_runtime {self.remote_runtime!r} of a work pool runtime is no runtime that can run "
                "there; give inline, or the type/name of another runtime block"
            )
        return block

    def _name_of(self, request: ActionRequest) -> str:
        """A tag that the same work always has, and no other."""
        if not request.key:
            return f"work-{uuid.uuid4().hex}"
        what = [request.key, request.category, request.argv, request.image, self.image, self.remote_runtime]
        return f"work-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]}"

    def _parameters(self, request: ActionRequest) -> dict[str, Any]:
        """The request as parameters of the flow `run-action`."""
        return {
            **request.model_dump(mode="json", exclude={"category", "argv"}),
            "action": f"{request.category} {request.argv[0]}",
            "arguments": request.argv[1:],
            "runtime": self.remote_runtime,
        }

    def _variables(self, request: ActionRequest) -> dict[str, Any]:
        """The job variables of one run; what is not set is left to the deployment."""
        given = {
            "image": self.image,
            "shm_size": self.shm_size,
            "volumes": self.volumes,
            "env": self.environment,
        }
        variables: dict[str, Any] = {name: value for name, value in given.items() if value}
        if request.gpu and self.gpus and self.remote_runtime == "inline":
            variables |= self._gpu_variables()
        return variables | self.job_variables

    def _gpu_variables(self) -> dict[str, Any]:
        if self.kind == "kubernetes":
            return {"gpus": int(self.gpus)}
        which = {"Count": -1} if self.gpus == "all" else {"DeviceIDs": self.gpus.split(",")}
        return {"device_requests": [{**which, "Capabilities": [["gpu"]]}]}

    def _deployment(self, client: SyncPrefectClient) -> DeploymentResponse:
        try:
            return client.read_deployment_by_name(self.deployment)
        except ObjectNotFound as error:
            raise ValueError(
                f"there is no deployment {self.deployment}; create it with: deft deploy"
            ) from error

    def _taken_up(
        self, client: SyncPrefectClient, run: FlowRun, request: ActionRequest
    ) -> ActionOutcome | None:
        """How the work ended that an earlier process began; None if it has to be begun anew."""
        assert run.state is not None
        if run.state.is_completed():
            outcome = take_outcome(request.log_file, run, 0)
            if outcome is not None:
                LogTail(request.log_file).relay_new(whole=True)
        elif run.state.is_final():
            outcome = None
        elif run.state.is_cancelling():
            FollowedRun(client, run, request.log_file, self.poll_seconds).to_its_end(None)
            outcome = None
        else:
            logger.info("run %s of an earlier process goes on: waiting for it", run.name)
            outcome = self._followed(client, run, request)
        return outcome and outcome.model_copy(update={"adopted": True})

    def _asked_for(
        self, request: ActionRequest, work: str, attempt: int, variables: dict[str, Any]
    ) -> FlowRun:
        """A new run of the deployment; raises `ValueError` when the server refuses it."""
        try:
            run = run_deployment(
                self.deployment,
                parameters=self._parameters(request),
                flow_run_name=f"{request.category} {request.argv[0]}",
                tags=[work],
                idempotency_key=f"{work}-{attempt}",
                work_queue_name=self.queue,
                job_variables=variables,
                timeout=0,
            )
        except PrefectHTTPStatusError as error:
            raise ValueError(f"{self.deployment} refuses the run: {error.response.text}") from error
        assert isinstance(run, FlowRun)
        logger.info("run %s of %s asked for", run.name, self.deployment)
        return run

    def _followed(self, client: SyncPrefectClient, run: FlowRun, request: ActionRequest) -> ActionOutcome:
        """Wait for a run and give the outcome that it left, or what its state says of it."""
        limit = self.time_limit_minutes
        followed = FollowedRun(client, run, request.log_file, self.poll_seconds)
        run = followed.to_its_end(timedelta(minutes=limit) if limit else None)
        assert run.state is not None
        # A run that was stopped from outside has left nothing to wait for.
        stopped = run.state.is_crashed() or run.state.is_cancelled()
        outcome = take_outcome(request.log_file, run, 0 if stopped else OUTCOME_SECONDS)
        if outcome is not None:
            return outcome
        if run.state.is_completed():
            raise ValueError(
                f"run {run.name} completed, but left nothing in {request.log_file.parent}: the folder is not "
                f"shared with the work pool; mount it there at the same path (job variable volumes)"
            )
        if followed.cancelled_at is not None:
            error = (
                f"run {run.name} worked longer than {limit:g} minutes, the time_limit_minutes of its runtime"
            )
        else:
            error = f"run {run.name} ended {run.state.name}: {run.state.message or 'no message'}"
        forward(f"ERROR: {error}")
        return ActionOutcome(exit_status=1, error=error, seconds=run.total_run_time.total_seconds())
