"""Fixtures with images for tests that need Docker, made from what is on this machine: nothing is pulled.

An image is made once and stays on the daemon until what it is made of changes. What older ones leave
has the label `deft-test`: `docker image prune --filter label=deft-test`.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import IO

import docker
import pytest
from filelock import FileLock
from packaging.requirements import Requirement

from deployments.image import ROOT, Recipe, build_image, write_context

CONTENTS = "org.opencontainers.image.revision"
PYTHON_BASE = "deft-test/python-base:1"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = f"usr/local/lib/{PYTHON}/site-packages"
TOOLS = (
    *(
        "awk",
        "basename",
        "bash",
        "cat",
        "chmod",
        "chown",
        "cp",
        "cut",
        "date",
        "dd",
        "df",
        "dirname",
        "du",
        "env",
    ),
    *("false", "find", "grep", "gzip", "head", "id", "kill", "ln", "ls", "mkdir", "mktemp", "mv", "nproc"),
    *("printenv", "readlink", "realpath", "rm", "sed", "seq", "sh", "sha256sum", "sleep", "sort", "stat"),
    *("tail", "tar", "tee", "test", "timeout", "touch", "tr", "true", "uname", "wc", "xargs"),
)
WHEELS_EXPECT = {
    *("libdl.so.2", "libgcc_s.so.1", "libgomp.so.1", "libpthread.so.0", "librt.so.1", "libstdc++.so.6"),
    *("libutil.so.1", "libz.so.1"),
}
NOT_NEEDED = {"site-packages", "dist-packages", "test", "idlelib", "tkinter", "turtledemo", "__pycache__"}
ENVIRONMENT = ["ENV PATH=/usr/local/bin:/usr/bin LANG=C.UTF-8 PYTHONUNBUFFERED=1", 'CMD ["/bin/bash"]']


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """A client of the Docker daemon; tests with it skip where none answers."""
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker daemon answers: {error}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def python_base(docker_engine: docker.DockerClient) -> str:
    """Tag of a small image with this machine's Python, bash, coreutils and no packages (5 s, made once)."""
    return made_once(
        docker_engine, PYTHON_BASE, "1", lambda: import_image(docker_engine, PYTHON_BASE, "1", base_files())
    )


@pytest.fixture(scope="session")
def engine_image(docker_engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tag of our engine's image, built by `deft image` on this machine's Python and its packages.

    Takes minutes when packages have changed, half a minute when sources have, else nothing.
    """
    return our_image(docker_engine, tmp_path_factory.mktemp("engine"), engine=True)


@pytest.fixture(scope="session")
def orchestrator_image(docker_engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tag of the image of the flows, without torch; made as `engine_image` is."""
    return our_image(docker_engine, tmp_path_factory.mktemp("orchestrator"), engine=False)


@pytest.fixture(scope="session")
def training_base(docker_engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tag of an image that plays NVIDIA's: torch and all that a project asks pip for; pip has no index there.

    Of timm, which only some models need, it has the name alone.
    """
    folder = tmp_path_factory.mktemp("training")
    below, contents = our_base(docker_engine, folder, "engine")
    there = {package.name for package in needed_packages("engine")}
    packages = [one for one in with_needed("accelerate", "datasets", "pycocotools") if one.name not in there]
    tag, contents = "deft-test/training-base:1", f"1-{contents[:32]}-{named(packages)[:32]}"

    def build() -> None:
        with tempfile.TemporaryFile() as layer, tempfile.TemporaryFile() as context:
            with tarfile.open(fileobj=layer, mode="w", dereference=True) as tar:
                for file, place in package_files(packages, folder):
                    tar.add(file, place, recursive=False, filter=owned_by_root)
                add_text(tar, f"{PACKAGES}/timm-1.0.31.dist-info/METADATA", "Name: timm\nVersion: 1.0.31\n")
            label = f"LABEL deft-test=1 {CONTENTS}={contents}"
            lines = [f"FROM {below}", "ADD layer.tar /", "ENV PIP_NO_INDEX=1", label]
            with tarfile.open(fileobj=context, mode="w") as tar:
                add_text(tar, "Dockerfile", "\n".join(lines))
                entry = tarfile.TarInfo("layer.tar")
                entry.size = layer.tell()
                layer.seek(0)
                tar.addfile(entry, layer)
            context.seek(0)
            docker_engine.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)

    return made_once(docker_engine, tag, contents, build)


def our_image(client: docker.DockerClient, folder: Path, *, engine: bool) -> str:
    """Tag of one of our images on a base with all packages that it needs, so that no network is used."""
    name = "engine" if engine else "orchestrator"
    base, contents = our_base(client, folder, name)
    tag = f"deft-test/{name}:1"
    with (folder / "context").open("w+b") as context:
        write_context(context, ROOT, None)
        sources = sha256(contents.encode() + source_bytes(context)).hexdigest()
    recipe = Recipe(tag=tag, base=base, engine=engine, wheels=folder / "wheels", revision=sources)

    def build() -> None:
        make_wheel(folder / "wheels")
        build_image(client, recipe)

    return made_once(client, tag, sources, build)


def our_base(client: docker.DockerClient, folder: Path, name: str) -> tuple[str, str]:
    """Tag of the base of `engine` or `orchestrator`, and what names the packages in it."""
    packages = needed_packages({"engine": "engine", "orchestrator": "huggingface"}[name])
    base, contents = f"deft-test/{name}-base:1", named(packages)
    made_once(
        client,
        base,
        contents,
        lambda: import_image(client, base, contents, [*base_files(), *package_files(packages, folder)]),
    )
    return base, contents


def named(packages: Iterable[Distribution]) -> str:
    """A digest of the names and versions of packages."""
    listed = "\n".join(sorted(f"{package.name}=={package.version}" for package in packages))
    return sha256(listed.encode()).hexdigest()


def make_wheel(folder: Path) -> None:
    """Put the wheel of this checkout into a folder."""
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", folder, ROOT], check=True)


def source_bytes(context: IO[bytes]) -> bytes:
    """Names and contents of a build context, without the times and owners of its files."""
    with tarfile.open(fileobj=context) as tar:
        return b"".join(
            entry.name.encode() + tar.extractfile(entry).read() for entry in tar if entry.isfile()
        )


def needed_packages(extra: str) -> list[Distribution]:
    """The installed distributions that ours needs, with this extra of it, and pip."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return with_needed(*project["dependencies"], *project["optional-dependencies"][extra], "pip")


def with_needed(*requirements: str) -> list[Distribution]:
    """Installed distributions, and all that they need."""
    wanted = list(requirements)
    found: dict[tuple[str, str], Distribution] = {}
    while wanted:
        requirement = Requirement(wanted.pop())
        package = distribution(requirement.name)
        for asked in {"", *requirement.extras}:
            if (package.name, asked) not in found:
                found[package.name, asked] = package
                wanted += [
                    text
                    for text in package.requires or []
                    if (marker := Requirement(text).marker) is None or marker.evaluate({"extra": asked})
                ]
    return list({package.name: package for package in found.values()}.values())


def package_files(packages: Iterable[Distribution], folder: Path) -> Iterator[tuple[Path, str]]:
    """The files of packages; their scripts, copied into `folder`, start the Python of the image."""
    for package in packages:
        for entry in package.files or []:
            file = Path(os.path.abspath(package.locate_file(entry)))  # noqa: PTH100 - links stay
            if not file.is_file():
                continue
            if ".." not in entry.parts:
                yield file, f"{PACKAGES}/{entry}"
            elif file.parent.name == "bin":
                script = folder / file.name
                first, _, rest = file.read_bytes().partition(b"\n")
                script.write_bytes(
                    (b"#!/usr/local/bin/python3" if b"python" in first else first) + b"\n" + rest
                )
                script.chmod(0o755)
                yield script, f"usr/local/bin/{file.name}"


def made_once(client: docker.DockerClient, tag: str, contents: str, make: Callable[[], None]) -> str:
    """Make the image `tag` unless one with these contents is on the daemon; sessions side by side wait."""
    with FileLock(Path(tempfile.gettempdir()) / f"{tag.replace('/', '-').replace(':', '-')}.lock"):
        try:
            found = client.images.get(tag).labels.get(CONTENTS)
        except docker.errors.ImageNotFound:
            found = None
        if found != contents:
            make()
    return tag


def import_image(
    client: docker.DockerClient, tag: str, contents: str, files: Iterable[tuple[Path, str]]
) -> None:
    """Make an image of one layer from files of this machine and their places in the image."""
    repository, _, version = tag.partition(":")
    changes = [*ENVIRONMENT, f"LABEL deft-test=1 {CONTENTS}={contents}"]
    with tempfile.TemporaryFile() as layer:
        with tarfile.open(fileobj=layer, mode="w", dereference=True) as tar:
            add_skeleton(tar)
            placed = {place: file for file, place in files}  # an import refuses a path that comes twice
            for place, file in placed.items():
                tar.add(file, place, recursive=False, filter=owned_by_root)
        layer.seek(0)
        client.api.import_image_from_data(layer, repository=repository, tag=version, changes=changes)


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def add_skeleton(tar: tarfile.TarFile) -> None:
    """The folders and links that every Linux image has."""
    for name in ("usr/bin", "usr/lib", "usr/lib64", "etc", "root", "proc", "sys", "dev", "run", "opt"):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
    for name in ("tmp", "var/tmp"):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(entry)
    add_text(
        tar,
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )
    links = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}
    links |= {f"usr/local/bin/{name}": PYTHON for name in ("python", "python3")}
    for name, target in links.items():
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        tar.addfile(entry)


def add_text(tar: tarfile.TarFile, place: str, text: str) -> None:
    """A file with this text."""
    entry = tarfile.TarInfo(place)
    entry.size = len(text.encode())
    tar.addfile(entry, io.BytesIO(text.encode()))


def base_files() -> Iterator[tuple[Path, str]]:
    """Python without packages, the tools, and the libraries that both are linked to."""
    interpreter = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    tools = {name: Path(path) for name in TOOLS if (path := shutil.which(name))}
    extensions = sorted((library / "lib-dynload").glob("*.so"))
    yield interpreter, f"usr/local/bin/{PYTHON}"
    yield from (
        (file, f"usr/local/lib/{PYTHON}/{file.relative_to(library)}") for file in files_under(library)
    )
    yield from ((path, f"usr/bin/{name}") for name, path in tools.items())
    yield from (
        (file, library_place(file)) for file in linked_libraries([interpreter, *tools.values(), *extensions])
    )
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if certificates.is_file():
        yield certificates, str(certificates)[1:]


def files_under(folder: Path) -> Iterator[Path]:
    """All files below a folder except what a container has no use for."""
    for path in sorted(folder.iterdir()):
        if path.name in NOT_NEEDED or path.suffix == ".a":
            continue
        if path.is_dir():
            yield from files_under(path)
        elif path.is_file():
            yield path


def linked_libraries(programs: Iterable[Path]) -> list[Path]:
    """The shared libraries that the programs load, and those that wheels expect of every system."""
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    words = [word for line in said.splitlines() for word in line.split()]
    found = {
        Path(word) for word in words if word.startswith("/") and ".so" in word and not word.endswith(":")
    }
    known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for line in known.splitlines():
        name, _, path = line.strip().partition(" => ")
        if name.split(" ")[0] in WHEELS_EXPECT:
            found.add(Path(path))
    return sorted(found)


def library_place(file: Path) -> str:
    """Where a library is found without a cache; the linker itself stands where programs name it."""
    if file.name.startswith("ld-linux"):
        return f"usr{file}" if not str(file).startswith("/usr") else str(file)[1:]
    return f"usr/lib/{file.name}"
