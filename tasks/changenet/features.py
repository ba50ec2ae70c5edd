"""Features of a trained ChangeNet: of an image, or of the difference between an image and its golden.

Neighbours by difference are look-alike defects, whatever board they are on; neighbours by image are
look-alike boards. The vector of a pair joins three parts of unit length each:

- the mean and maximum of the branch's map of differences: how much the classifier cares;
- the signed difference of the backbone's features, averaged where that map is strong: what it is;
- the maximum of rise and of fall of every feature: what else has changed anywhere.

On DeepPCB pairs of the defects that a model scores lowest, 0.7 of the five nearest pool rows had the same
defect type with all three, 0.2 with the first alone (six types at 6 % of the pool each).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from tasks.changenet.checkpoint import network_of, read_checkpoint
from tasks.changenet.device import device_of
from tasks.changenet.network import MeanAndMax
from tasks.changenet.pairs import load_images, normalised
from tasks.changenet.scoring import pixels
from tasks.changenet.spec import ChangeNetSpec
from tasks.spec import merged_spec, validated

Vectors = npt.NDArray[np.float32]


class ChangeNetEncoder:
    """Images in, vectors out.

    Attributes:
        dim: numbers in a vector, the same for images and for pairs.
    """

    def __init__(self, checkpoint: Path, spec: ChangeNetSpec, device: torch.device) -> None:
        self._spec = spec
        self._device = device
        self._network = network_of(read_checkpoint(checkpoint, spec, "checkpoint"), spec).to(device).eval()
        data = spec.data
        self._size = (data.image_width, data.image_height)
        blank = torch.zeros(1, 3, data.image_height, data.image_width, device=device)
        self._width = self._network.branch.width
        self.dim = int(self._vectors(blank, None).shape[1])

    def embed(self, images: Sequence[Path], goldens: Sequence[Path] | None, batch_size: int) -> Vectors:
        """One vector per image, or per pair of image and golden: float32 [n, dim].

        An image is the first lighting of its sample.

        Raises:
            InputError: an image cannot be decoded.
        """
        vectors = [np.empty((0, self.dim), np.float32)]
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            others = None if goldens is None else self._read(goldens[part])
            found = self._vectors(self._read(images[part]), others)
            vectors.append(found.float().cpu().numpy())
        return np.concatenate(vectors)

    def _read(self, files: Sequence[Path]) -> Tensor:
        return normalised(pixels(load_images(files, self._size).to(self._device)), *self._spec.normalisation)

    @torch.inference_mode()
    def _vectors(self, tests: Tensor, goldens: Tensor | None) -> Tensor:
        if goldens is None:
            levels = self._network.backbone(tests)
            nothing = [torch.zeros_like(level) for level in levels]
            concern = torch.zeros(len(tests), self._width, *levels[0].shape[-2:], device=self._device)
            return difference_vector(concern, levels, nothing)
        test, golden = self._network.levels(tests, goldens)
        return difference_vector(self._network.branch.fused(test, golden), test, golden)


def difference_vector(concern: Tensor, test: list[Tensor], golden: list[Tensor]) -> Tensor:
    """The three parts of a pair's vector, joined: [n, 2D + 3 ΣC].

    Args:
        concern: the branch's map of differences, [n, D, h, w]; all zero means every place alike.
        test, golden: the backbone's levels, [n, C_l, h_l, w_l] each.
    """
    weights = concern.norm(dim=1, keepdim=True).flatten(2).softmax(-1).view(-1, 1, *concern.shape[-2:])
    signed = [t - g for t, g in zip(test, golden, strict=True)]
    places = [interpolate(weights, level.shape[-2:], mode="area") for level in signed]
    focused = [
        (level * place).sum((-1, -2)) / place.sum((-1, -2))
        for level, place in zip(signed, places, strict=True)
    ]
    extremes = [(sign * level).relu().amax((-1, -2)) for sign in (1, -1) for level in signed]
    parts = [MeanAndMax()(concern), torch.cat(focused, 1), torch.cat(extremes, 1)]
    return torch.cat([normalize(part) for part in parts], 1)


def load_changenet_encoder(checkpoint: Path, config: Path, device: str) -> ChangeNetEncoder:
    """The encoder of a checkpoint; `config` is its training spec or `experiment.yaml`.

    Raises:
        InputError: a file is missing, or the two do not belong together.
    """
    spec = validated(ChangeNetSpec, merged_spec(ChangeNetSpec, config, [], _placed), str(config))
    return ChangeNetEncoder(checkpoint, spec, device_of(device))


def _placed(tree: DictConfig) -> None:
    """A results folder for specs without one; encoding writes nothing."""
    if not OmegaConf.select(tree, "results_dir", throw_on_missing=False):
        tree.results_dir = "."
