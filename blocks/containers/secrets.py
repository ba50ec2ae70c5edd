"""Secrets in text: masked in logs, refused on command lines; and which image references are safe."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

MASK = "***"
SECRET_WORDS = frozenset({"password", "passwd", "passphrase", "secret", "secrets", "apikey"})
SECRET_ENDS = SECRET_WORDS | {
    "token",
    "credential",
    "credentials",
    "auth",
    "authorization",
    "signature",
    "pat",
}
SECRET_KEYS = frozenset(
    {"api", "access", "private", "encryption", "ngc", "auth", "signing", "ssh", "account"}
)
NOT_THE_SECRET = frozenset({"name", "file", "path", "env", "dir", "length", "id"})
NO_SECRETS = frozenset({"", MASK, "true", "false", "none", "null", "???", "n/a", "unset", "set", "present"})

_TOKEN = re.compile(
    r"hf_(?:[A-Za-z0-9]{20,}|(?=[A-Za-z]*\d)[A-Za-z0-9]{8,})"
    r"|nvapi-[\w-]{8,}"
    r"|(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|pn[ub]_[A-Za-z0-9]{20,}"
    r"|(?<![A-Za-z0-9])sk-[\w-]{20,}"
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
)
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL)
_AUTHORIZATION = re.compile(
    r"(\bauthorization[\\\"']*[ \t]*[:=][ \t]*[\\\"']*)(?:(?:bearer|basic|digest|token)[ \t]+)?[^\s\"'\\]+"
    r"|(\bbearer[ \t]+)(?=[^\s\"']*[\d._~+/=-]|[A-Za-z]{20})[\w.~+/=-]{6,}",
    re.IGNORECASE,
)
_USERINFO = re.compile(  # lengths are bounded, or a long line without an @ would take seconds
    r"(?<=://)[^\s/?#\"'@:]{0,128}:(?!\d{1,5}(?:[/?#\s\"']|$))[^\s\"'@]{0,256}@(?:[^\s\"'@/?#]{0,256}@)*"
    r"|(?:(?<=https://)|(?<=http://))[^\s/?#\"'@:]{1,256}@"
)
_KEY_BESIDE = re.compile(r"\b(?:wandb|api[ _-]?key|token|secret|login)\b", re.IGNORECASE)
_HEX_KEY = re.compile(r"(?<![\w/])[0-9a-f]{40}(?![\w/])")
_NAME = re.compile(r"(?<![\w.-])([\w.-]++)(?:[\\\"']*[ \t]*[=:][ \t]*|(?<=[a-zA-Z])[ \t]+)")
_VALUE = re.compile(
    r"(?P<quote>\\*[\"'])(?P<quoted>(?:(?!(?P=quote))(?:\\.|[^\\]))*)(?P=quote)|[^\s\"']+", re.DOTALL
)
_IMAGE = re.compile(
    r"(?:sha256:[0-9a-f]{64}"
    r"|(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*"
    r"(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?)"
)


def is_secret_name(name: str) -> bool:
    """Whether a variable, key or option of that name holds a secret."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    before, last = ["", "", *words][-2:]
    if words[-3:] == ["access", "key", "id"]:
        return True
    if last in NOT_THE_SECRET:
        return False
    return (
        last in SECRET_ENDS
        or not SECRET_WORDS.isdisjoint(words)
        or (last == "key" and before in SECRET_KEYS)
        or (last == "pwd" and before != "")
        or (last == "string" and before in ("auth", "connection"))
    )


def mask(text: str) -> str:
    """`text` with every secret replaced by `***`; the rest unchanged."""
    for _, masked in RULES:
        text = masked(text)
    return text


def refuse(argv: Sequence[str]) -> None:
    """Refuse a command line that carries a secret.

    Raises:
        ValueError: names the position of the word and the kind of secret, never its value.
    """
    options = pairwise(["", *argv])
    for place, (before, word) in enumerate(options, start=1):
        text = f"{before} {word}" if before.startswith("-") and is_secret_name(before) else word
        for kind, masked in RULES:
            if masked(text) != text:
                raise ValueError(
                    f"word {place} of the command line holds {kind}, which every process list and log would "
                    "show; pass it as an environment variable"
                )


def check_image(uri: str) -> str:
    """`uri`, if it is an image reference and nothing else.

    Raises:
        ValueError: it is not.
    """
    if len(uri) > 512 or not _IMAGE.fullmatch(uri):
        raise ValueError(
            f"{mask(uri)[:200]!r} is no image reference; write registry/name:tag or name@sha256:digest"
        )
    return uri


def _mask_keys_in_hex(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(_HEX_KEY.sub(MASK, line) if _KEY_BESIDE.search(line) else line for line in lines)


def _mask_values(text: str) -> str:
    """Mask what stands after `name=`, `name: ` and `--name ` for names of secrets."""
    parts: list[str] = []
    place = 0
    while name := _NAME.search(text, place):
        parts.append(text[place : name.end()])
        place = name.end()
        is_option = name[1].startswith("-") or name[0].rstrip()[-1] in "=:"
        value = _VALUE.match(text, place) if is_option and is_secret_name(name[1]) else None
        if value and not _is_harmless(value):
            quote = value["quote"] or ""
            parts.append(f"{quote}{MASK}{quote}")
            place = value.end()
    return "".join([*parts, text[place:]])


def _is_harmless(value: re.Match[str]) -> bool:
    content = value["quoted"] or value[0]
    bare = content.strip("\"'").rstrip(",;)}]").lower()
    return bare in NO_SECRETS or re.fullmatch(r"\$\{[^}]*\}", content) is not None


RULES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("a private key", lambda text: _PRIVATE_KEY.sub(rf"\1{MASK}", text)),
    ("an authorization", lambda text: _AUTHORIZATION.sub(rf"\1\2{MASK}", text)),
    ("a user name or password in a URL", lambda text: _USERINFO.sub(f"{MASK}@", text)),
    ("a token", lambda text: _TOKEN.sub(MASK, text)),
    ("a key in hex", _mask_keys_in_hex),
    ("the value of a secret name", _mask_values),
)
