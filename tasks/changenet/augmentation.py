"""Random changes of training pairs, whole batches at once (spec changenet 3.5).

All images of a pair (test and golden, every lighting) are changed alike, so that a change never looks
like a defect. Every draw of a row has its own numbers, which follow from seed, epoch and draw.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from tasks.changenet.data_spec import Augmentation

NUMBERS = 14
"""How many random numbers the changes of one pair take."""

LUMA = (0.299, 0.587, 0.114)
# Chrominance axes I and Q of the YIQ colour space; hue is the angle in their plane.
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
BLUR_TAPS = 3
CROP_AREA = (0.8, 1.2)


def random_numbers(seed: int, epoch: int, draws: int) -> Tensor:
    """Uniform numbers in [0, 1) for the draws of an epoch, [draws, NUMBERS]."""
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return torch.from_numpy(generator.random((draws, NUMBERS), dtype=np.float32))


def augmented(images: Tensor, numbers: Tensor, config: Augmentation, *, plain_color: bool = False) -> Tensor:
    """Flip, rotate, crop, blur and colour, in this order.

    Args:
        images: pixels in [0, 1], [rows, ..., 3, H, W]; everything between is changed like its row.
        numbers: uniform, [rows, NUMBERS].
        config: which changes, and how strong.
        plain_color: colour with `color_probability` itself instead of 1 - it, as the container does.
    """
    if not config.augment:
        return images
    flat = images.flatten(1, -4) if images.dim() > 4 else images.unsqueeze(1)
    flat = _moved(flat, numbers[:, :8], config)
    if config.with_random_blur:
        flat = _blurred(flat, numbers[:, 8])
    if config.random_color.enable:
        flat = _coloured(flat, numbers[:, 9:14], config, plain=plain_color)
    return flat.reshape(images.shape)


def _moved(images: Tensor, u: Tensor, config: Augmentation) -> Tensor:
    """Flip, rotate and crop as one sampling of [rows, images, 3, H, W]; what lies outside is black."""
    flip, rotate = config.random_flip, config.random_rotate
    if not (flip.enable or rotate.enable or config.with_random_crop):
        return images
    rows, _, _, height, width = images.shape
    one = torch.ones(rows, device=u.device)
    across = torch.where(u[:, 0] < flip.hflip_probability * flip.enable, -one, one)
    down = torch.where(u[:, 1] < flip.vflip_probability * flip.enable, -one, one)
    angles = torch.tensor(rotate.angle_list[:3], device=u.device)[(u[:, 3] * 3).long()]
    radians = torch.deg2rad(torch.where(u[:, 2] < rotate.rotate_probability * rotate.enable, angles, 0.0))
    side, middle = one, torch.zeros(rows, 2, device=u.device)
    if config.with_random_crop:
        side = torch.sqrt(CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * u[:, 4])
        middle = (1 - side).abs()[:, None] * (2 * u[:, 5:7] - 1)
    sin, cos = radians.sin(), radians.cos()
    # Where each pixel comes from, backwards through crop, rotation and flip; both axes reach from -1 to 1.
    turn = torch.stack([cos, -sin * height / width, sin * width / height, cos], 1).view(-1, 2, 2)
    turn = turn * torch.stack([across, down], 1)[:, :, None]
    matrix = torch.cat([turn * side[:, None, None], turn @ middle[:, :, None]], 2)
    grid = F.affine_grid(matrix, [rows, 1, height, width], align_corners=False)
    return F.grid_sample(images.flatten(1, 2), grid, align_corners=False).reshape(images.shape)


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with one standard deviation, in pixels, per row."""
    taps = torch.arange(-BLUR_TAPS, BLUR_TAPS + 1, device=images.device)
    kernel = torch.exp(-0.5 * (taps / sigma[:, None].clamp_min(1e-3)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    rows, planes = images.shape[0], images.shape[1] * images.shape[2]
    kernel = kernel.repeat_interleave(planes, 0)[:, None, None]
    sheet = images.reshape(1, rows * planes, *images.shape[-2:])
    edge = BLUR_TAPS
    sheet = F.conv2d(F.pad(sheet, (edge, edge, 0, 0), "replicate"), kernel, groups=rows * planes)
    kernel = kernel.transpose(2, 3)
    sheet = F.conv2d(F.pad(sheet, (0, 0, edge, edge), "replicate"), kernel, groups=rows * planes)
    return sheet.reshape(images.shape)


def _coloured(images: Tensor, u: Tensor, config: Augmentation, *, plain: bool) -> Tensor:
    """Brightness, contrast, saturation and hue of the rows that are drawn for it."""
    color = config.random_color
    chosen = u[:, 0] < color.color_probability if plain else u[:, 0] > color.color_probability
    strengths = torch.tensor([color.brightness, color.contrast, color.saturation], device=u.device)
    low, high = (1 - strengths).clamp_min(0), 1 + strengths
    factors = torch.where(chosen[:, None], low + (high - low) * u[:, 1:4], 1.0)
    turn = torch.where(chosen, color.hue * (2 * u[:, 4] - 1), 0.0) * 2 * math.pi
    brightness, contrast, saturation = factors.unbind(1)
    luma = torch.tensor(LUMA, device=u.device)
    # Contrast pulls each image to its own mean grey.
    means = (images.mean((-1, -2)) * luma).sum(-1)
    offset = means * (brightness * (1 - contrast))[:, None]
    matrix = _hue_and_saturation(turn, saturation) * (brightness * contrast)[:, None, None]
    changed = torch.einsum("rij,rnjhw->rnihw", matrix, images) + offset[:, :, None, None, None]
    return changed.clamp_(0, 1)


def _hue_and_saturation(turn: Tensor, saturation: Tensor) -> Tensor:
    """The matrix on RGB, [rows, 3, 3], that turns the hue (radians) and scales the saturation."""
    to_yiq = torch.tensor(YIQ, device=turn.device)
    sin, cos = turn.sin() * saturation, turn.cos() * saturation
    zero, one = torch.zeros_like(sin), torch.ones_like(sin)
    rotation = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    from_yiq: Tensor = torch.linalg.inv(to_yiq)
    return from_yiq @ rotation @ to_yiq
