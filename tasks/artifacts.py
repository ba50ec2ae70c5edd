"""Files as the truth: atomic writes, content hashes, and folders named by the clock."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel

from tasks.errors import InputError


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Let `write` fill a temporary neighbour of `path`, flush it to disk and rename it.

    A reader sees the old file or the new one, never a part. Parent folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write `text` as UTF-8 with the line ends that it has."""
    return write_atomically(path, lambda stream: stream.write(text.encode("utf-8")))


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as indented JSON; numbers that are not finite become `null`."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n")


def write_yaml(path: Path, value: Any) -> Path:
    """Write plain dicts and lists as YAML, keys in the given order."""
    return write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def write_parquet(path: Path, table: pa.Table) -> Path:
    """Write an Arrow table as parquet."""
    return write_atomically(path, lambda stream: pq.write_table(table, stream))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Path:
    """Write rows as CSV (UTF-8, LF); absent values become empty fields."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def log_text(log: Path) -> str:
    """The text of a log, empty where there is none; a byte that is no text costs nothing but itself."""
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""


def read_json(path: Path) -> Any:
    """The parsed JSON file.

    Raises:
        InputError: the file is missing or not JSON; the message says where it breaks.
    """
    try:
        return json.loads(existing_file(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error


def existing_file(path: Path, what: str = "file") -> Path:
    """`path`, if it is a file.

    Raises:
        InputError: there is none; `what` says in a person's words which file it should be.
    """
    if path.is_file():
        return path
    kind = "is a folder, not a file" if path.is_dir() else "No such file"
    raise InputError(f"{what} {path}: {kind}; check the path")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


@lru_cache(maxsize=200_000)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hex; hashed once per process, size and time stamp."""
    status = path.stat()
    return _sha256(str(path), status.st_size, status.st_mtime_ns)


def only_grown(path: Path, sha256: str, size: int) -> bool:
    """Whether a file still begins with the `size` bytes that it held then: something was added at its end."""
    if not path.is_file() or path.stat().st_size < size:
        return False
    with path.open("rb") as stream:
        return hashlib.sha256(stream.read(size)).hexdigest() == sha256


def sha256_of_all(paths: Iterable[Path]) -> str:
    """One digest of the contents of many files, in the given order; a missing file counts as such."""
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda path: sha256_of(path) if path.is_file() else "missing", paths)
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


class Artifact(BaseModel):
    """A reference to a file that a stage wrote: where it lies and what it held then."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Artifact:
        """The artifact that lies at `path` now."""
        return cls(path=path, sha256=sha256_of(path))

    def intact(self) -> bool:
        """Whether the file is still there with the content that it had."""
        return self.path.is_file() and sha256_of(self.path) == self.sha256

    def copied_to(self, path: Path) -> Artifact:
        """The same content at another place; relative links stay links."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        shutil.copy2(self.path, temporary, follow_symlinks=False)
        temporary.replace(path)
        return Artifact(path=path, sha256=self.sha256)


def copied_whole(source: Path, target: Path) -> Path:
    """Copy a file and compare the two.

    Raises:
        InputError: the source is missing or empty, or the copy is not equal to it.
    """
    if not existing_file(source).stat().st_size:
        raise InputError(f"{source} is empty; make it again")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
    if sha256_of(target) != sha256_of(source):
        raise InputError(f"{target} is not what {source} is; copy it again")
    return target


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def timestamp_folder(parent: Path, prefix: str = "", form: str = "%Y-%m-%d_%H%M%S") -> Path:
    """The path `<parent>/<prefix><clock>`, not made yet; where that exists, `_1`, `_2`, ... is appended."""
    stem = prefix + datetime.now().strftime(form)
    names = [stem, *(f"{stem}_{number}" for number in range(1, 1000))]
    for name in names:
        if not (parent / name).exists():
            return parent / name
    raise InputError(f"{parent} holds a thousand folders named {stem}; choose another results folder")
