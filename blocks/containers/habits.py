"""The images that answer, and what each of NVIDIA's needs (the table of spec container-run 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from blocks.versions import ANOMALYGEN, DATA_SERVICES


@dataclass(frozen=True)
class Habits:
    """What an image needs that is not our own.

    Attributes:
        ipc_host: it wants the host's shared memory.
        shm_size: the least shared memory of its own.
        splits_words: it splits its command line again at blanks.
        own_folder: it works in a folder of its own, not in ours.
        needs_passwd: variables are not enough to tell it who its user is.
        says_status: it ends its log with `Execution status:`.
        environment: variables that it needs.
    """

    ipc_host: bool = False
    shm_size: str = "0"
    splits_words: bool = False
    own_folder: bool = False
    needs_passwd: bool = False
    says_status: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


HABITS = {
    DATA_SERVICES: Habits(ipc_host=True, splits_words=True),
    ANOMALYGEN: Habits(
        ipc_host=True,
        shm_size="16g",
        own_folder=True,
        needs_passwd=True,
        says_status=False,
        environment={"PYTHONPATH": "/workspace/paidf-anomalygen"},
    ),
}


@dataclass(frozen=True)
class Image:
    """An image that answers: its key in the versions file, its reference and its id on the host."""

    key: str
    uri: str
    id: str

    @property
    def is_native(self) -> bool:
        """Whether it is our own."""
        return self.key.startswith("images.native.")

    @property
    def habits(self) -> Habits:
        """What it needs."""
        return HABITS.get(self.key, Habits())
