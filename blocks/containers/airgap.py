"""The air gap: which command lines may run behind it, and the variables that keep a container there.

A policy, not a prison: it refuses what somebody wrote down, so that a forgotten download fails at once and
by name. What hides from it, such as a program that opens a connection, fails for want of a network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from blocks.containers.shell import (
    CONTAINER_FLAGS,
    CONTAINER_TOOLS,
    after_options,
    command_behind,
    commands_in,
    name_of,
)

OFFLINE = MappingProxyType(
    {"AIR_GAPPED": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PIP_NO_INDEX": "1"}
)
PACKAGE_MANAGERS = frozenset(
    {"apt", "apt-get", "aptitude", "dnf", "microdnf", "yum", "zypper", "apk", "pacman", "snap", "brew"}
    | {"uv", "uvx", "pipx", "poetry", "pixi", "easy_install", "conda", "mamba", "micromamba", "ensurepip"}
    | {"npm", "npx", "yarn", "pnpm", "gem", "cargo"}
)
FETCHERS = frozenset(
    {"curl", "wget", "wget2", "aria2c", "axel", "ngc", "scp", "sftp", "ssh", "ftp", "lftp", "telnet", "nc"}
    | {"ncat", "rclone", "aws", "s3cmd", "gsutil", "gcloud", "az", "azcopy", "gdown", "kaggle", "hf"}
    | {"huggingface-cli"}
)
SUBCOMMANDS = {
    "git": frozenset({"clone", "fetch", "pull", "push", "ls-remote", "submodule", "lfs", "remote update"}),
    "pip": frozenset({"install", "download", "wheel"}),
    "docker": frozenset(
        {"login", "pull", "push", "manifest", "search", "plugin install", "image pull", "image push"}
        | {"compose pull", "compose push"}
    ),
}
FLAGS = {
    "git": frozenset({"--bare", "--no-pager", "-p", "--paginate", "--no-replace-objects"}),
    "pip": frozenset({"-q", "-v", "--quiet", "--verbose", "--isolated", "--no-input", "--debug"}),
    "docker": CONTAINER_FLAGS,
}
ON = frozenset({"1", "true", "yes", "on"})

_ASSIGNMENT = re.compile(rf"(?:-e|--env=)?({'|'.join(OFFLINE)})\+?=([^\s;&|()]*)")


def offline_environment() -> dict[str, str]:
    """The variables that every container gets behind the air gap."""
    return dict(OFFLINE)


def check_command(argv: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> None:
    """Refuse a command line that fetches something, or that lifts the air gap.

    Looked at are the command itself, what stands behind `env`, `sudo`, `timeout`, `docker run` and the like,
    and the bodies of `bash -c` with all that they nest.

    Args:
        argv: the command line, word by word.
        environment: the variables that it is given.

    Raises:
        ValueError: names the word and why.
    """
    for name, value in environment.items():
        _check_assignment(f"{name}={value}")
    for command in commands_in(argv):
        _check(command)


def _check(words: Sequence[str]) -> None:
    for word in words:
        _check_assignment(word)
    name = re.sub(r"^pip[\d.]+$", "pip", name_of(words))
    name = "docker" if name in CONTAINER_TOOLS else name
    if name in PACKAGE_MANAGERS:
        raise _refused(words[0], "is a package manager")
    if name in FETCHERS:
        raise _refused(words[0], "reaches for a network")
    if name in SUBCOMMANDS:
        _check_subcommand(name, words)
    if name == "docker":
        _check_pull(words)
    elif name == "rsync":
        _check_hosts(words)
    elif name in ("unset", "export", "declare", "typeset"):
        _check_unset(name, words)
    elif name == "env":
        _check_env(words)


def _refused(word: str, why: str) -> ValueError:
    return ValueError(
        f"air gap: {word!r} {why}; put what it would bring on this machine before the run, and leave it out"
    )


def _lifted(word: str, name: str) -> ValueError:
    return ValueError(f"air gap: {word!r} lifts the air gap; leave it out, {name} stays {OFFLINE[name]}")


def _check_assignment(word: str) -> None:
    match = _ASSIGNMENT.match(word)  # a whole shell text may come after it
    if match and match[2].strip("'\"").lower() not in ON:
        raise _lifted(match[0], match[1])


def _check_subcommand(tool: str, words: Sequence[str]) -> None:
    place = after_options(words, 1, FLAGS[tool])
    verbs = [word for word in words[place:] if not word.startswith("-")]
    for verb in (" ".join(verbs[:1]), " ".join(verbs[:2])):
        if verb in SUBCOMMANDS[tool]:
            raise _refused(f"{words[0]} {verb}", "reaches for a network")


def _check_pull(words: Sequence[str]) -> None:
    for option, following in pairwise([*words, ""]):
        if (option == "--pull" and following != "never") or re.fullmatch(r"--pull=(?!never$).*", option):
            raise _refused(option, "lets docker reach for a registry")


def _check_hosts(words: Sequence[str]) -> None:
    for word in words[1:]:
        if re.match(r"[^-/=][^/=]*:", word):
            raise _refused(word, "is on another host")


def _check_unset(name: str, words: Sequence[str]) -> None:
    is_taken = name == "unset" or any(re.fullmatch(r"-f?n|\+x", option) for option in words)
    for word in words[1:]:
        if is_taken and word in OFFLINE:
            raise _lifted(f"{name} {word}", word)


def _check_env(words: Sequence[str]) -> None:
    for option, following in pairwise(words[: command_behind(words) + 1]):
        if option == "--ignore-environment" or re.fullmatch(r"-[0v]*(i\w*)?", option):
            raise _lifted(f"env {option}", "AIR_GAPPED")
        unset = re.fullmatch(r"(?:-[0iv]*u|--unset=?)(\w*)", option)
        name = (unset[1] or following) if unset else ""
        if name in OFFLINE:
            raise _lifted(f"env {option}", name)
