"""The siamese network: one backbone for test and golden image, and what compares their features."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from tasks.changenet.backbone import STRIDES, FourLevels
from tasks.changenet.spec import ChangeNetSpec

EUCLIDEAN_WIDTH = 512
DISTANCE_EPS = 1e-6


class ChangeNet(nn.Module):
    """Backbone and branch. `forward` gives logits [n, 2] (learnable) or distances [n] (euclidean)."""

    def __init__(self, backbone: FourLevels, spec: ChangeNetSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.branch: LearnableBranch | EuclideanBranch
        if spec.model.classify.difference_module == "learnable":
            self.branch = LearnableBranch(backbone, spec)
        else:
            self.branch = EuclideanBranch(backbone, spec)

    def forward(self, test: Tensor, golden: Tensor) -> Tensor:
        """Normalised images [n, 3, H, W] of test and golden."""
        output: Tensor = self.branch(*self.levels(test, golden))
        return output

    def levels(self, test: Tensor, golden: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The four feature maps of the test images and those of the goldens."""
        levels = self.backbone(torch.cat([test, golden]))
        count = test.shape[0]
        return [level[:count] for level in levels], [level[count:] for level in levels]


class LearnableBranch(nn.Module):
    """Differences learnt per level, summed top-down, fused and classified (spec changenet 4.2)."""

    def __init__(self, backbone: FourLevels, spec: ChangeNetSpec) -> None:
        super().__init__()
        self.width = spec.model.decode_head.decoder_params.embed_dim
        self._used = spec.model.classify.learnable_difference_modules
        self.project = nn.ModuleList(nn.Conv2d(count, self.width, 1) for count in backbone.channels)
        self.difference = nn.ModuleList(_difference(self.width) for _ in backbone.channels)
        # A 1x1 convolution of the joined levels, done per level before it is enlarged: same, but cheaper.
        self.fuse = nn.ModuleList(nn.Conv2d(self.width, self.width, 1, bias=False) for _ in range(self._used))
        self.norm = nn.BatchNorm2d(self.width)
        self.pool, inputs = _pool(spec, self.width, backbone, 0)
        hidden = spec.model.classify.embed_dec
        self.classify = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.BatchNorm1d(hidden),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.BatchNorm1d(hidden),
            nn.Linear(hidden, 2),
        )  # fmt: skip

    def forward(self, test: list[Tensor], golden: list[Tensor]) -> Tensor:
        """Logits [n, 2]: PASS, defect."""
        logits: Tensor = self.classify(self.pool(self.fused(test, golden)))
        return logits

    def fused(self, test: list[Tensor], golden: list[Tensor]) -> Tensor:
        """The map of differences, [n, D, H/4, W/4]."""
        summed: list[Tensor] = []
        for level in reversed(range(len(STRIDES))):
            t, g = (self.project[level](maps[level]) for maps in (test, golden))
            # The test image stands first: missing and surplus material are not the same.
            difference = self.difference[level](torch.cat([t, g, (t - g).abs()], 1))
            if summed:
                difference = difference + _resized(summed[-1], difference)
            summed.append(difference)
        parts = [_resized(fuse(part), summed[-1]) for fuse, part in zip(self.fuse, summed, strict=False)]
        fused: Tensor = self.norm(torch.stack(parts).sum(0))
        return fused


class EuclideanBranch(nn.Module):
    """Embeddings of the last level and their distance (spec changenet 4.3)."""

    def __init__(self, backbone: FourLevels, spec: ChangeNetSpec) -> None:
        super().__init__()
        self.width = backbone.channels[-1]
        self.pool, inputs = _pool(spec, self.width, backbone, -1)
        wide = EUCLIDEAN_WIDTH
        self.embed = nn.Sequential(
            nn.Linear(inputs, wide), nn.ReLU(), nn.BatchNorm1d(wide),
            nn.Linear(wide, wide), nn.ReLU(), nn.BatchNorm1d(wide),
            nn.Linear(wide, spec.model.classify.embedding_vectors),
        )  # fmt: skip

    def forward(self, test: list[Tensor], golden: list[Tensor]) -> Tensor:
        """Distances [n], not negative."""
        left, right = (self.embed(self.pool(maps[-1])) for maps in (test, golden))
        return F.pairwise_distance(left, right, eps=DISTANCE_EPS)

    def fused(self, test: list[Tensor], golden: list[Tensor]) -> Tensor:
        """The map of differences, [n, C, H/32, W/32]."""
        return test[-1] - golden[-1]


class MeanAndMax(nn.Module):
    """Mean and maximum over the map, [n, C, h, w] to [n, 2C]: defects are small, so the maximum counts."""

    def forward(self, maps: Tensor) -> Tensor:
        """Pool the two last axes."""
        return torch.cat([maps.mean((-1, -2)), maps.amax((-1, -2))], 1)


def loss_of(spec: ChangeNetSpec) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a batch from outputs [n, ...] and defect flags [n] (0 or 1) (spec changenet 4.4)."""
    if spec.train.classify.loss == "contrastive":
        margin = spec.model.classify.train_margin_euclid
        return lambda distance, defect: contrastive_loss(distance, defect, margin)
    weights = torch.tensor(spec.train.classify.cls_weight)
    return lambda logits, defect: F.cross_entropy(logits, defect, weights.to(logits))


def contrastive_loss(distance: Tensor, defect: Tensor, margin: float) -> Tensor:
    """mean[(1 - y) d² + y max(m - d, 0)²] over a batch, each distance with its own label."""
    apart = (margin - distance).clamp_min(0)
    return torch.where(defect.bool(), apart**2, distance**2).mean()


def scores_of(output: Tensor) -> Tensor:
    """`siamese_score` [n], higher for defects: probability of a defect from logits, or the distance."""
    return output.float().softmax(1)[:, 1] if output.dim() == 2 else output.float()


def _difference(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3 * width, width, 3, padding=1, bias=False), nn.ReLU(), nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


def _pool(spec: ChangeNetSpec, channels: int, backbone: FourLevels, level: int) -> tuple[nn.Module, int]:
    """What makes a vector of a map of a level's size, and the length of that vector."""
    if spec.native.head == "pool":
        return MeanAndMax(), 2 * channels
    mode = backbone.training
    with torch.no_grad():
        maps = backbone.train(False)(torch.zeros(1, 3, *spec.data.shape))
    backbone.train(mode)
    return nn.Flatten(), channels * maps[level][0, 0].numel()


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
