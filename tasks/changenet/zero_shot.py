"""Zero-shot scores: how far a backbone without any training on our images sees test and golden apart.

What a sweep has to beat: a winner that does not is worth nothing (spec automl 8.3).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cosine_similarity

from tasks.changenet.pairs import PairImages
from tasks.changenet.scoring import LEAST_BATCH, network_input, pixels
from tasks.changenet.spec import ChangeNetSpec
from tasks.changenet.start import started


@torch.inference_mode()
def feature_distances(
    spec: ChangeNetSpec, images: PairImages, rows: int, device: torch.device
) -> npt.NDArray[np.float32]:
    """1 - cosine similarity of the last level's mean feature, test against golden: float32 [rows].

    Raises:
        InputError: the backbone's weights are missing or do not fit.
    """
    network = started(spec).network.to(device).eval()
    size = max(LEAST_BATCH, spec.data.batch_size)
    distances = []
    for start in range(0, rows, size):
        batch = images.batch(torch.arange(start, min(start + size, rows)))
        test, golden = network.levels(*network_input(pixels(batch.to(device)), spec, device))
        ours, theirs = (levels[-1].float().mean((-1, -2)) for levels in (test, golden))
        distances.append(1 - cosine_similarity(ours, theirs).cpu())
    return np.asarray(torch.cat(distances).numpy(), np.float32)
