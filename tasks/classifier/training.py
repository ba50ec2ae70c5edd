"""Training: epochs in an order drawn from the seed, validation, and the best and last checkpoint."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tasks.classifier.checkpoint import write_checkpoint
from tasks.classifier.files import BEST
from tasks.classifier.network import Classifier
from tasks.classifier.rows import Rows, pixels_of
from tasks.classifier.scoring import outputs_of
from tasks.classifier.spec import ClassifierSpec
from tasks.errors import StageFailed
from tasks.status import Status, check_not_stopped


def drawn_order(rows: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch goes through the rows; the same for the same seed and epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(rows)


def drawn_flips(rows: int, probability: float, seed: int, epoch: int) -> npt.NDArray[np.bool_]:
    """Which rows an epoch mirrors, across and down [rows, 2]."""
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]).jumped())
    return generator.random((rows, 2)) < probability


def flipped(images: Tensor, flips: Tensor) -> Tensor:
    """Images [n, 3, h, w], mirrored across (column 0 of `flips`, [n, 2]) and down (column 1)."""
    across, down = (column.view(-1, 1, 1, 1) for column in flips.unbind(1))
    images = torch.where(across, images.flip(-1), images)
    return torch.where(down, images.flip(-2), images)


class Training:
    """One training run; `run` does it all."""

    def __init__(
        self,
        spec: ClassifierSpec,
        network: Classifier,
        rows: tuple[Rows, Rows],
        device: torch.device,
        status: Status,
    ) -> None:
        """Decode training and validation images; raises `InputError` for bad images and labels."""
        self._spec, self._device, self._status = spec, device, status
        self._network = network.to(device)
        side = spec.dataset.image_size
        self._pixels, self._validation_pixels = (pixels_of(part, side) for part in rows)
        self._labels, self._validation_labels = (
            torch.from_numpy(part.numbers(network.labels)).to(device) for part in rows
        )
        self._batch = min(spec.dataset.batch_size, len(rows[0]))
        self._steps = len(rows[0]) // self._batch
        self._step = 0
        optim = spec.train.optim
        self._optimiser = torch.optim.AdamW(
            network.parameters(), optim.lr, weight_decay=optim.weight_decay, fused=True
        )
        self._best = (math.inf, math.inf)

    def run(self) -> None:
        """Train until the last epoch.

        Raises:
            StageFailed: the loss is no longer a finite number, or the file `stop` lies in the results folder
                after an epoch.
        """
        self._status.write("Starting Training Loop.")
        last = self._spec.train.num_epochs - 1
        for epoch in range(last + 1):
            began = time.monotonic()
            train_loss = self._train_epoch(epoch)
            metrics = self._validate(epoch)
            self._keep_best(epoch, metrics)
            self._status.write("Eval metrics generated.", kpi={**metrics, "epoch": epoch})
            self._status.write(
                "Train metrics generated.",
                kpi={"train_loss": train_loss},
                max_epoch=last,
                seconds=time.monotonic() - began,
            )
            check_not_stopped(self._spec.results_dir, epoch)
        self._write(f"model_epoch_{last:03d}_step_{self._step:05d}.safetensors", last)
        self._status.write("Training loop complete.")

    def _train_epoch(self, epoch: int) -> float:
        """One pass over the rows, without the rest that fills no batch; gives the mean loss."""
        self._network.train()
        train, rows = self._spec.train, len(self._pixels)
        order = drawn_order(rows, train.seed, epoch)
        flips = drawn_flips(rows, train.flip_probability, train.seed, epoch)
        losses = []
        for first in range(0, self._steps * self._batch, self._batch):
            chosen = order[first : first + self._batch]
            losses.append(self._train_step(chosen, torch.from_numpy(flips[chosen])))
        loss = torch.stack(losses).mean().item()
        if not math.isfinite(loss):
            raise StageFailed(f"the loss of epoch {epoch} is {loss}; lower train.optim.lr ({train.optim.lr})")
        return loss

    def _train_step(self, rows: npt.NDArray[np.int64], flips: Tensor) -> Tensor:
        train = self._spec.train
        for group in self._optimiser.param_groups:
            group["lr"] = train.optim.lr * (1 - self._step / (self._steps * train.num_epochs))
        images = flipped(torch.from_numpy(self._pixels[rows]), flips).to(self._device)
        logits = self._network(images)[0]
        wanted = self._labels[torch.from_numpy(rows).to(self._device)]
        loss = cross_entropy(logits, wanted, label_smoothing=train.label_smoothing)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._step += 1
        return loss.detach()

    def _validate(self, epoch: int) -> dict[str, float]:
        """`val_loss`, and `val_error` in percent."""
        logits, _ = outputs_of(self._network, self._validation_pixels, self._device)
        wanted = self._validation_labels.cpu()
        loss = cross_entropy(logits, wanted).item()
        if not math.isfinite(loss):
            lr = self._spec.train.optim.lr
            raise StageFailed(f"the validation loss of epoch {epoch} is {loss}; lower train.optim.lr ({lr})")
        wrong = int((logits.argmax(1) != wanted).sum())
        return {"val_loss": loss, "val_error": 100 * wrong / len(wanted)}

    def _keep_best(self, epoch: int, metrics: dict[str, float]) -> None:
        rank = (metrics[self._spec.train.checkpoint_metric], metrics["val_loss"])
        if rank < self._best:
            self._best = rank
            before = list(self._spec.results_dir.glob(BEST))
            self._write(f"model_best_{epoch:03d}.safetensors", epoch)
            for file in before:
                file.unlink()

    def _write(self, name: str, epoch: int) -> None:
        write_checkpoint(self._spec.results_dir / name, self._network, self._spec.dataset.image_size, epoch)
