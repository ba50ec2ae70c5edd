"""What a command line runs: the simple commands of shell texts, of `bash -c` bodies and behind prefixes.

It reads more than a shell would run rather than less: a quoted `;` ends a command here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

SHELLS = frozenset({"bash", "sh", "dash", "zsh", "ash", "ksh", "su", "runuser"})
CONTAINER_TOOLS = frozenset({"docker", "podman", "nerdctl"})
# Letters of the options that take a value, and how many words stand before the command.
PREFIXES = {
    "env": ("uC", 0),
    "sudo": ("ughpCrtTDR", 0),
    "doas": ("uC", 0),
    "nice": ("n", 0),
    "ionice": ("cnpPu", 0),
    "timeout": ("ks", 1),
    "chroot": ("", 1),
    "xargs": ("adEILnPs", 0),
    "parallel": ("jNIaS", 0),
    "exec": ("a", 0),
    "command": ("vV", 0),  # -v and -V only say where the next word lies
    "stdbuf": ("ioe", 0),
    "time": ("fo", 0),
    "watch": ("n", 0),
    **dict.fromkeys(("builtin", "nohup", "setsid", "busybox", "tini", "dumb-init"), ("", 0)),
}
KEYWORDS = frozenset({"{", "}", "!", "if", "then", "elif", "else", "while", "until", "do", "coproc"})
CONTAINER_FLAGS = frozenset(
    {"-d", "-i", "-t", "-D", "-P", "-T", "-q", "--rm", "--init", "--detach", "--interactive", "--tty"}
    | {"--privileged", "--read-only", "--debug", "--tls", "--tlsverify", "--publish-all", "--quiet"}
    | {"--oom-kill-disable", "--no-healthcheck"}
)
OPERATORS = frozenset("();<>|&`\n")

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_REDIRECTION = re.compile(r"[<>]+[&|]?$")
_REDIRECTION_ALONE = re.compile(r"&?[<>]+[&|]?")
_SUBSTITUTION = re.compile(r"[$<>]\(|`")


def commands_in(words: Sequence[str]) -> Iterator[list[str]]:
    """Every simple command that a command line runs.

    A prefix such as `env` or `timeout` is given with what stands behind it, and that once more alone.
    Keywords and assignments before a command are given as one of their own.
    """
    for word in words:
        for part in _SUBSTITUTION.split(word)[1:]:
            yield from commands_in_text(part)
    for simple in _simple_commands(words):
        yield from _unwrapped(simple)


def commands_in_text(text: str) -> Iterator[list[str]]:
    """Every simple command that a shell text runs."""
    try:
        words = _words(text)
    except ValueError:  # a quote without its partner: what is left when a substitution is cut out of a word
        words = _words(re.sub(r"['\"\\]", " ", text))
    yield from commands_in(words)


def command_behind(words: Sequence[str]) -> int:
    """Where, in the words of a prefix such as `env` or `timeout`, its options end."""
    valued, before = PREFIXES[name_of(words)]
    place = 1
    while place < len(words) and words[place].startswith("-"):
        option = words[place]
        place += 1
        if option == "--":
            break
        if not option.startswith("--"):
            first = next((i for i, letter in enumerate(option) if letter in valued), 0)
            place += 0 < first == len(option) - 1  # else the value follows in the same word
    return place + before


def after_options(words: Sequence[str], place: int, flags: frozenset[str]) -> int:
    """Where the first word stands that is no option and no option's value; `flags` take no value."""
    letters = {flag[1] for flag in flags if len(flag) == 2}
    while place < len(words) and words[place].startswith("-"):
        option = words[place]
        place += 1
        if option.startswith("--"):
            place += "=" not in option and option not in flags and option != "--"
        else:
            valued = next((i for i, letter in enumerate(option[1:], 1) if letter not in letters), 0)
            place += 0 < valued == len(option) - 1  # else the value follows in the same word
    return place


def name_of(words: Sequence[str]) -> str:
    """The command's own name, without its folder."""
    return words[0].rsplit("/", 1)[-1]


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(sorted(OPERATORS)))
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def _simple_commands(words: Iterable[str]) -> Iterator[list[str]]:
    """What stands between the operators, without redirections."""
    command: list[str] = []
    is_target = False
    for word in words:
        if word and set(word) <= OPERATORS:
            is_target = _REDIRECTION.search(word) is not None
            if is_target and command and command[-1].isdigit():
                command.pop()  # the number of a stream
            if not _REDIRECTION_ALONE.fullmatch(word):
                yield command
                command = []
        elif is_target:
            is_target = False
        else:
            command.append(word)
    yield command


def _unwrapped(words: Sequence[str]) -> Iterator[list[str]]:
    start = next((place for place, word in enumerate(words) if not _leads(word)), len(words))
    if start:
        yield list(words[:start])
    if start < len(words):
        command = list(words[start:])
        yield command
        yield from _within(name_of(command), command)


def _within(name: str, command: Sequence[str]) -> Iterator[list[str]]:
    """What a command runs in its turn."""
    if any(blank in command[0] for blank in " \t\n"):
        yield from commands_in_text(command[0])
    elif name in PREFIXES:
        yield from _behind_prefix(command)
    elif name in SHELLS:
        yield from _in_bodies(command)
    elif name in CONTAINER_TOOLS:
        yield from _in_container(command)
    elif re.fullmatch(r"(python|pypy)[\d.]*t?", name):
        yield from _as_module(command)
    elif name == "eval":
        yield from commands_in_text(" ".join(command[1:]))
    elif name == "trap":
        yield from commands_in_text(" ".join(command[1:2]))
    elif name == "find":
        for place, option in enumerate(command, start=1):
            if option in ("-exec", "-execdir", "-ok", "-okdir"):
                yield from _unwrapped(command[place:])


def _leads(word: str) -> bool:
    return word in KEYWORDS or _ASSIGNMENT.match(word) is not None


def _behind_prefix(words: Sequence[str]) -> Iterator[list[str]]:
    place = command_behind(words)
    for option in words[1:place]:
        text = re.match(r"(?:-[0iv]*S|--split-string=)(.+)", option, re.DOTALL)
        if text and name_of(words) == "env":
            yield from commands_in_text(text[1])
    long = [option for option in words[1:place] if option.startswith("--") and "=" not in option]
    yield from _unwrapped(words[place:])
    if long:  # the next word may have been its value
        yield from _unwrapped(words[place + 1 :])


def _in_bodies(words: Sequence[str]) -> Iterator[list[str]]:
    flag = next((place for place, word in enumerate(words) if re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", word)), 0)
    if not flag:
        return
    bodies = [word for word in words[flag + 1 :] if not word.startswith("-")]
    for body in bodies[: 2 if "o" in words[flag] else 1]:  # -euoc pipefail BODY
        yield from commands_in_text(body)


def _as_module(words: Sequence[str]) -> Iterator[list[str]]:
    """The module that `python -m` runs, as a command."""
    for place, word in enumerate(words[1:], start=1):
        if not word.startswith("-") or word.startswith("-c"):
            return
        module = re.match(r"-[A-Za-z]*?m(.*)", word)
        if module:
            yield from _unwrapped([*filter(None, [module[1]]), *words[place + 1 :]])
            return


def _in_container(words: Sequence[str]) -> Iterator[list[str]]:
    """The command that `docker run`, `docker compose exec` and the like start."""
    start = after_options(words, 1, CONTAINER_FLAGS)
    runs = [place for place in (start, start + 1) if words[place : place + 1] and words[place] in _RUNS]
    if not runs:
        return
    image = after_options(words, runs[0] + 1, CONTAINER_FLAGS)
    options = words[runs[0] : image]
    entry = [value for option, value in pairwise(options) if option == "--entrypoint"]
    entry += [option.partition("=")[2] for option in options if option.startswith("--entrypoint=")]
    yield from _unwrapped([*entry[-1:], *words[image + 1 :]])


_RUNS = frozenset({"run", "create", "exec"})
