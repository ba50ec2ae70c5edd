"""Which rows an epoch draws: defects weighted against PASS rows (spec changenet 3.4)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def row_weights(defect: npt.NDArray[np.bool_], fpratio: float) -> npt.NDArray[np.float64]:
    """1 for a PASS row, fpratio · P / F for a defect, given P PASS rows and F defects (both above 0).

    The expected share of defects in a batch is fpratio / (1 + fpratio), however rare they are.
    """
    defects = int(defect.sum())
    return np.where(defect, fpratio * (len(defect) - defects) / defects, 1.0)


def drawn_rows(weights: npt.NDArray[np.float64], seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """As many rows as there are, drawn with replacement; the same for the same seed and epoch."""
    # The augmentation of the epoch draws from the stream without the jump.
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]).jumped())
    return generator.choice(len(weights), size=len(weights), p=weights / weights.sum())
