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
    device = device_of(spec.native.device)
    cudnn = torch.backends.cudnn
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    before_cudnn = (cudnn.benchmark, cudnn.deterministic)
    torch.set_num_threads(spec.native.threads or before[0])
    deterministic = spec.train.cudnn.deterministic
    if deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.benchmark, cudnn.deterministic = spec.train.cudnn.benchmark, deterministic
    generator = torch.random.fork_rng()
    with SEEDING:
        generator.__enter__()
    try:
        yield device
    finally:
        with SEEDING:
            generator.__exit__(None, None, None)
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        cudnn.benchmark, cudnn.deterministic = before_cudnn
