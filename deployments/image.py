"""`deft image`: builds our own images, the engine and the one of the flows that start containers."""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import urlsplit

import docker  # type: ignore[import-untyped]
import typer
from docker.utils import exclude_paths  # type: ignore[import-untyped]
from pydantic import BaseModel, ValidationError

from blocks.containers.daemon import connected
from blocks.network import offline_variable
from blocks.versions import BASE, BASE_CPU, NATIVE, ORCHESTRATOR, ImageReference, image_uri
from tasks.errors import DeftError, InputError, StageFailed, UsageError

ROOT = Path(__file__).parents[1]
BUILDER_SAYS = ("Step ", " ---> ", "Removing intermediate container ")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
DOCKERFILE = "deployments/Dockerfile"
CONFINED: dict[str, Any] = {
    "network_mode": "none",
    "read_only": True,
    "tmpfs": {"/tmp": "mode=1777"},  # noqa: S108 - the container's own
    "user": "12345:12345",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
"""How an image is tried: as an unknown user, with nothing to write to and nowhere to go."""

SMOKE = ["deft", "action", "gap_analysis", "vcn_aoi", "--cfg=job"]
SMOKE_ENGINE = [
    "python3",
    "-c",
    "import cv2, kornia, onnx, safetensors, torch, transformers; print('torch', torch.__version__)",
]


class Recipe(BaseModel):
    """What an image is built from.

    Attributes:
        tag: name of the image.
        base: image that it stands on.
        engine: whether it computes (torch and the other packages of the extra `engine`).
        wheels: folder of wheels for a build without network.
        index: package index that is asked besides pip's own.
        network: network mode of the build; none with wheels, else Docker's default.
        revision: commit that the sources are from, for the image's label.
    """

    tag: ImageReference
    base: ImageReference
    engine: bool = True
    wheels: Path | None = None
    index: str = ""
    network: str | None = None
    revision: str = ""

    def build_arguments(self) -> dict[str, str]:
        """The arguments of the Dockerfile."""
        return {
            "BASE": self.base,
            "EXTRA": "[engine]" if self.engine else "[huggingface]",
            "PIP_EXTRA_INDEX_URL": self.index,
            "PIP_NO_INDEX": "1" if self.build_network() == "none" else "",
            "VERSION": version("deft-flows"),
            "REVISION": self.revision,
        }

    def build_network(self) -> str | None:
        """The network mode of the build."""
        return self.network or ("none" if self.wheels else None)


def image(
    cpu: Annotated[bool, typer.Option("--cpu", help="on the small base without CUDA")] = False,
    orchestrator: Annotated[
        bool, typer.Option("--orchestrator", help="the image of the flows: no CUDA, no torch")
    ] = False,
    base: Annotated[str | None, typer.Option(help="another base image with Python and pip")] = None,
    tag: Annotated[str | None, typer.Option(help="another name for the image")] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="folder of wheels; the build then uses no network")
    ] = None,
    index: Annotated[
        str, typer.Option(help="package index besides pip's own, for instance one with torch for CPUs")
    ] = "",
    network: Annotated[str | None, typer.Option(help="network mode of the build, such as host")] = None,
    revision: Annotated[str, typer.Option(help="commit of the sources, written into a label")] = "",
) -> None:
    """Build the image of the engine, or with --orchestrator that of the flows, and try it."""
    try:
        recipe = Recipe(
            tag=tag or image_uri(ORCHESTRATOR if orchestrator else NATIVE),
            base=base or image_uri(BASE_CPU if cpu or orchestrator else BASE),
            engine=not orchestrator,
            wheels=wheels,
            index=index,
            network=network,
            revision=revision,
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UsageError(
            f"--{wrong['loc'][0]} {wrong['input']!r} is no image with a tag or digest, such as name:1.0"
        ) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    with connected(DeftError) as client:
        built = build_image(client, recipe)
        for line in smoke_test(client, built.id, engine=recipe.engine):
            typer.echo(line)
    typer.echo(f"{recipe.tag}  {built.id}  {built.attrs['Size'] / 1e6:.0f} MB")


def build_image(client: Any, recipe: Recipe) -> Any:
    """Build an image from this checkout; what the build says is shown as it comes.

    Returns:
        The image, as the Docker SDK describes it.

    Raises:
        InputError: the sources or a folder of wheels are missing, or the base cannot be had.
        UsageError: the index has a password in it, which the build would keep.
        StageFailed: a step of the build failed.
    """
    check(recipe)
    fetch_base(client, recipe.base)
    with tempfile.TemporaryFile() as context:
        write_context(context, ROOT, recipe.wheels)
        try:
            follow(
                client.api.build(
                    fileobj=context,
                    custom_context=True,
                    dockerfile=DOCKERFILE,
                    tag=recipe.tag,
                    buildargs=recipe.build_arguments(),
                    network_mode=recipe.build_network(),
                    rm=True,
                    forcerm=True,
                    decode=True,
                )
            )
        except (docker.errors.DockerException, OSError) as error:
            raise StageFailed(f"image {recipe.tag} was not built: {_first_line(error)}") from error
    return client.images.get(recipe.tag)


def check(recipe: Recipe) -> None:
    """Refuse what cannot end well.

    Raises:
        InputError: there is no checkout, or no wheel in the folder.
        UsageError: the index has a user name or password in it.
    """
    if not (ROOT / "pyproject.toml").is_file():
        raise InputError(
            f"{ROOT} has no pyproject.toml; "
            "deft image works in a checkout that was installed with pip install -e"
        )
    if recipe.wheels is not None and not list(recipe.wheels.glob("*.whl")):
        raise InputError(
            f"{recipe.wheels} has no wheels; make some: "
            f"pip wheel -w FOLDER -c constraints.txt '.{recipe.build_arguments()['EXTRA']}' on a machine "
            "like the base"
        )
    if "@" in urlsplit(recipe.index).netloc:
        raise UsageError(
            "--index has a user name or password in it, which would stay in the build's history; "
            "download the wheels and use --wheels"
        )


def fetch_base(client: Any, base: str) -> None:
    """Have the base image on the Docker host.

    Raises:
        InputError: it is not there, and the network is off or gives none.
    """
    try:
        client.images.get(base)
    except docker.errors.ImageNotFound:
        missing = f"base image {base} is not on this Docker host"
        remedy = "bring it with docker save and docker load, or name another with --base"
        if variable := offline_variable():
            raise InputError(f"{missing} and {variable} switches the network off; {remedy}") from None
        typer.echo(f"pulling {base}")
        try:
            follow(client.api.pull(base, stream=True, decode=True))
        except (docker.errors.DockerException, OSError) as error:
            raise InputError(f"{missing} and cannot be pulled: {_first_line(error)}; {remedy}") from error


def write_context(stream: IO[bytes], root: Path, wheels: Path | None) -> None:
    """Write the files that `.dockerignore` lets through, and the wheels, as a tar from the stream's start."""
    patterns = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in sorted(exclude_paths(str(root), patterns, DOCKERFILE)):
            if (root / name).is_file() and not (wheels and name.startswith("wheels/")):
                tar.add(root / name, name)
        for wheel in sorted(wheels.glob("*.whl")) if wheels else []:
            tar.add(wheel.resolve(), f"wheels/{wheel.name}")
    stream.seek(0)


def follow(events: Iterable[Mapping[str, Any]]) -> None:
    """Show what a build or a pull says; raises `DockerException` with the reason when it failed."""
    lines: list[str] = []
    for event in events:
        said = "" if event.get("progressDetail") else str(event.get("stream") or event.get("status") or "")
        for line in COLOUR.sub("", said).rstrip().splitlines():
            typer.echo(line)
            if not line.startswith(BUILDER_SAYS):
                lines.append(line.strip())
        if "error" in event:
            raise docker.errors.DockerException(reason(str(event["error"]), lines))


def reason(error: str, said: Sequence[str]) -> str:
    """Why it failed: pip's first error, else the last line of the command, else what the daemon says."""
    if "returned a non-zero code" not in error:
        return error
    last = said[-1] if said else error
    return next((line for line in said if line.startswith("ERROR:")), last).removeprefix("ERROR: ")


def smoke_test(client: Any, image_id: str, *, engine: bool) -> Sequence[str]:
    """Run an action, and import the engine's packages, as an unknown user without network.

    Returns:
        The last line of each command.

    Raises:
        StageFailed: a command ended with an error.
    """
    lines = []
    for command in [SMOKE, SMOKE_ENGINE] if engine else [SMOKE]:
        try:
            said = client.containers.run(image_id, command, remove=True, **CONFINED)
        except docker.errors.ContainerError as error:
            last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise StageFailed(
                f"the image was built, but `{' '.join(command)}` in it ended with exit status "
                f"{error.exit_status}: {' '.join(last) or 'it said nothing'}"
            ) from error
        except docker.errors.APIError as error:
            raise StageFailed(f"the image was built, but does not start: {_first_line(error)}") from error
        lines.append(f"tried: {said.decode(errors='replace').strip().splitlines()[-1]}")
    return lines


def _first_line(error: BaseException) -> str:
    said = str(getattr(error, "explanation", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__
