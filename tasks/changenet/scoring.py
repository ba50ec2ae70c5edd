"""Running a network over the rows of a data set, in their order."""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.changenet.network import ChangeNet
from tasks.changenet.pairs import PairImages, joined, normalised
from tasks.changenet.spec import ChangeNetSpec

LEAST_BATCH = 128
"""Rows scored at a time when the spec's batch is smaller: the scores do not depend on it."""


def network_input(images: Tensor, spec: ChangeNetSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Test and golden images, [rows, 3, H, W] each, from pixels in [0, 1] of `PairImages.batch`'s shape."""
    both = normalised(joined(images, spec.data), *spec.normalisation)
    # Small channel counts run about a third faster in this memory layout.
    test, golden = (half.contiguous(memory_format=torch.channels_last) for half in both.unbind(1))
    return test.to(device), golden.to(device)


def pixels(images: Tensor) -> Tensor:
    """uint8 as floats in [0, 1]."""
    return images.float().div_(255)


@torch.inference_mode()
def outputs_of(
    network: ChangeNet, images: PairImages, rows: int, spec: ChangeNetSpec, device: torch.device
) -> Tensor:
    """What the network gives for rows 0 to `rows` - 1, float32 on the CPU, in evaluation mode."""
    network.eval()
    size = max(LEAST_BATCH, spec.data.batch_size)
    outputs = []
    for start in range(0, rows, size):
        batch = images.batch(torch.arange(start, min(start + size, rows)))
        outputs.append(network(*network_input(pixels(batch.to(device)), spec, device)).float().cpu())
    return torch.cat(outputs)
