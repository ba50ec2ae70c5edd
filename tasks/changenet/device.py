"""Where torch computes, with how many threads, and from which seed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

from tasks.changenet.spec import ChangeNetSpec
from tasks.errors import InputError

SEEDING = threading.RLock()
"""Held while torch's one generator of random numbers is set or drawn from: trials may train in threads."""


def device_of(wanted: str) -> torch.device:
    """The device of `auto`, `cpu` or `cuda`.

    Raises:
        InputError: cuda is wanted and torch sees no such GPU.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("native.device cuda: torch sees no CUDA GPU here; set native.device=cpu or auto")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def computing(spec: ChangeNetSpec) -> Iterator[torch.device]:
    """Set threads and determinism as the spec says, for as long as the context lasts."""
    device, cudnn = device_of(spec.native.device), spec.train.cudnn
    strict = cudnn.deterministic and device.type == "cuda"
    if strict:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with PROCESS.computes(
        spec.native.threads, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, strict=strict
    ):
        yield device


class ProcessSettings:
    """What torch has once for a whole process: threads, determinism, random numbers.

    Trials in threads of a process share it. One that ends changes nothing for those that still compute; the
    last gives back what was set before the first.
    """

    def __init__(self) -> None:
        self._computing = 0
        self._before = contextlib.ExitStack()

    @contextlib.contextmanager
    def computes(
        self, threads: int, *, benchmark: bool, deterministic: bool, strict: bool = False
    ) -> Iterator[None]:
        """Have these settings for as long as the context lasts; 0 threads leaves torch's choice.

        `strict` makes operations beside cuDNN's deterministic, too.
        """
        with SEEDING:
            if not self._computing:
                self._keep()
            self._computing += 1
            torch.set_num_threads(threads or torch.get_num_threads())
            torch.backends.cudnn.benchmark = benchmark
            torch.backends.cudnn.deterministic = deterministic
            if strict:
                torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            with SEEDING:
                self._computing -= 1
                if not self._computing:
                    self._before.close()

    def _keep(self) -> None:
        cudnn, back = torch.backends.cudnn, self._before
        back.enter_context(torch.random.fork_rng())
        back.callback(torch.set_num_threads, torch.get_num_threads())
        back.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        for name in ("benchmark", "deterministic"):
            back.callback(setattr, cudnn, name, getattr(cudnn, name))


PROCESS = ProcessSettings()
"""Of this process."""
