"""Runs actions in sibling containers of unmodified images, through the Docker SDK."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

from httpx import HTTPError
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from pydantic import Field, PrivateAttr

from blocks.containers import engine, secrets
from blocks.containers.attempts import Call
from blocks.containers.daemon import connected
from blocks.containers.habits import Image
from blocks.containers.plan import FLOW_RUN_LABEL, ROOT_FLOW_RUN_LABEL, Launcher
from blocks.containers.settings import ContainerSettings
from blocks.credentials import Credentials
from blocks.gpu_limit import place_on_the_gpu
from blocks.images import Images
from blocks.runtime import ActionOutcome, ActionRequest, Runtime
from blocks.versions import NATIVE


class DockerRuntime(ContainerSettings, Runtime):
    """Runs each action in a container of the image that it names, on the Docker host of this process.

    Attributes:
        mounts: Folders that containers see, at the same path; `:ro` at the end means read only.

    Example:
        Load a saved runtime:
        ```python
        from blocks.docker_runtime import DockerRuntime

        runtime = DockerRuntime.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Docker Runtime"
    _block_type_slug = "docker-runtime"
    _description = "Runs each action in a container of its image: NVIDIA's, or our own."

    starts_images: ClassVar[bool] = True

    images: Images | None = Field(
        default=None,
        title="Images",
        description="The site's own images; empty: the versions file names them.",
    )
    credentials: Credentials | None = Field(
        default=None, title="Credentials", description="Keys that containers get, but behind an air gap."
    )

    _ended: bool = PrivateAttr(default=False)

    @property
    def runs_nvidia(self) -> bool:
        """Whether actions that NVIDIA has an image for are answered by NVIDIA's code."""
        return self.engine == "nvidia"

    def image_for(self, key: str) -> str:
        """The key of the image that answers where an action names `key`."""
        return key if self.runs_nvidia else NATIVE

    def image_uri(self, key: str) -> str:
        """The image behind a key; raises `ValueError` when there is none."""
        return secrets.check_image(self.images.uri(key) if self.images else super().image_uri(key))

    def image_digest(self, image: str) -> str:
        """The id of the image on the host, fetched first where it must and may be.

        Raises:
            ValueError: Docker does not answer, or the image cannot be had.
        """
        with connected() as client:
            return engine.image_id(client, self.image_uri(image), self._may_pull())

    def run(self, request: ActionRequest) -> ActionOutcome:
        """Run the action to its end; one that an interrupted process began is gone on with.

        Raises:
            ValueError: the call is refused, Docker does not answer, the image or limit is missing, or the
                flow has been ended.
        """
        if self._ended:
            raise ValueError("the flow is being ended: nothing is started any more")
        with connected() as client:
            uri = self.image_uri(request.image)
            image = Image(request.image, uri, engine.image_id(client, uri, self._may_pull()))
            call = Call(
                client=client,
                request=request,
                settings=self,
                image=image,
                launcher=Launcher.current(self.air_gapped),
                schemas=get_current_settings().home / "deft",
                credentials=self.credentials.environment() if self.credentials else {},
                labels=run_labels(),
            )
            with place_on_the_gpu(self.concurrency_limit if request.gpu else None):
                return call.run()

    def stop(self) -> None:
        """Stop every container that this process has started; this runtime starts none any more."""
        self._ended = True
        engine.stop_all()

    def _may_pull(self) -> bool:
        return self.pull == "missing" and not Launcher.current(self.air_gapped).offline


def run_labels() -> dict[str, str]:
    """Which flow run a container belongs to, for those who must find it."""
    run = flow_run.get_id()
    if run is None:
        return {}
    root = run
    with suppress(HTTPError):  # the work does not wait for a server that is away
        root = flow_run.get_root_flow_run_id()
    return {FLOW_RUN_LABEL: run, ROOT_FLOW_RUN_LABEL: root}
