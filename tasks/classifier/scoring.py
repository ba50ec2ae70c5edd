"""Running a classifier over images, in their order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy.typing as npt
import torch
from numpy import float32, uint8
from torch import Tensor

from tasks.changenet.device import PROCESS, device_of
from tasks.classifier.network import Classifier
from tasks.classifier.spec import Native

AT_ONCE = 256
"""Images scored at a time; the outputs do not depend on it."""


@contextlib.contextmanager
def computing(native: Native) -> Iterator[torch.device]:
    """The device, and for as long as the context lasts the threads, that the spec asks for."""
    device = device_of(native.device)
    with PROCESS.computes(native.threads, benchmark=False, deterministic=True):
        yield device


@torch.inference_mode()
def outputs_of(
    network: Classifier, pixels: npt.NDArray[uint8], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Logits [n, labels] and features [n, d] of images [n, 3, s, s], on the CPU, in evaluation mode."""
    network.eval()
    parts = [network(part.to(device)) for part in torch.split(torch.from_numpy(pixels), AT_ONCE)]
    logits, features = (torch.cat(kind).float().cpu() for kind in zip(*parts, strict=True))
    return logits, features


def probabilities(logits: Tensor) -> npt.NDArray[float32]:
    """The softmax of logits, [n, labels]."""
    found: npt.NDArray[float32] = logits.softmax(1).numpy()
    return found
