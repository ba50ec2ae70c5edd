"""What has to hold before a training starts: its rows, its network, its results folder."""

from __future__ import annotations

import copy
import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.changenet import backbone
from tasks.changenet.checkpoint import CheckpointFolder, network_of, read_checkpoint
from tasks.changenet.device import SEEDING
from tasks.changenet.files import LATEST, checkpoints_in
from tasks.changenet.network import ChangeNet
from tasks.changenet.pairs import Pairs, read_pairs
from tasks.changenet.spec import ChangeNetSpec
from tasks.dataset.table import check_classes
from tasks.errors import InputError

logger = logging.getLogger("deft")

PRETRAINED = "train.pretrained_model_path"
RESUMED = "train.resume_training_checkpoint_path"


@dataclass
class Start:
    """What a training begins with.

    Attributes:
        network: with the weights to go on from.
        averaged: the averaged weights by name; None starts the average afresh.
        epoch: the first one to run.
        step: optimiser steps done before it.
        seed: of weights, draws and augmentation.
        optimiser: its state; None starts afresh.
        best: validation metric and loss by epoch of the best checkpoints so far.
    """

    network: ChangeNet
    seed: int
    averaged: dict[str, Tensor] | None = None
    epoch: int = 0
    step: int = 0
    optimiser: dict[str, Any] | None = None
    best: dict[int, tuple[float, float]] | None = None


def started(spec: ChangeNetSpec) -> Start:
    """The network to train: fresh, warm (weights of a checkpoint) or resumed (everything of one).

    Raises:
        InputError: a checkpoint does not fit, or the one to resume from has no epoch left to run.
    """
    seed = spec.train.seed if spec.train.seed >= 0 else int.from_bytes(os.urandom(4))
    with SEEDING:
        torch.manual_seed(seed)
        return _start(spec, seed)


def _start(spec: ChangeNetSpec, seed: int) -> Start:
    resumed, warm = spec.train.resume_training_checkpoint_path, spec.train.pretrained_model_path
    if resumed is not None:
        content = read_checkpoint(resumed, spec, RESUMED)
        if content["epochs_done"] >= spec.train.num_epochs:
            raise InputError(
                f"{RESUMED} {resumed} has {content['epochs_done']} epochs behind it and train.num_epochs is "
                f"{spec.train.num_epochs}: nothing to train; raise train.num_epochs, or use {PRETRAINED}"
            )
        network = network_of(content, spec)
        averaged = copy.deepcopy(network.state_dict())
        network.load_state_dict(content["last_state_dict"])
        return Start(
            network, content["seed"], averaged, content["epochs_done"], content["global_step"],
            content["optimizer_states"][0], content["best"],
        )  # fmt: skip
    if warm is not None:
        logger.info("starting from the weights of %s", warm)
        return Start(network_of(read_checkpoint(warm, spec, PRETRAINED), spec), seed)
    bare = backbone.fresh(spec.model, spec.native.backbone_init, spec.data.shape)
    return Start(ChangeNet(bare, spec), seed)


def checked_pairs(spec: ChangeNetSpec) -> tuple[Pairs, Pairs]:
    """Training and validation rows that can be trained on.

    Raises:
        InputError: as `read_pairs`; one class only; or batches of one row, which cannot be normalised.
    """
    train, validation = read_pairs(spec, "train_dataset"), read_pairs(spec, "validation_dataset")
    check_classes(train.table["label"], f"train_dataset {train.origin}")
    if min(spec.data.batch_size, len(train)) < 2:
        raise InputError("dataset.classify.batch_size must be above 1 to train, and so must the rows")
    return train, validation


def prepare_folder(spec: ChangeNetSpec, folder: CheckpointFolder) -> None:
    """Clear what an earlier training left in the results folder, unless this one resumes it.

    Raises:
        InputError: the folder is used and the mode is strict (the container would resume on its own), or
            the checkpoint to start from is among what would be removed.
    """
    latest = folder.folder / LATEST
    used = [file for file in [*checkpoints_in(folder.folder), latest] if file.exists() or file.is_symlink()]
    if spec.train.resume_training_checkpoint_path is not None or not used:
        return
    if spec.native.strict:
        raise InputError(
            f"{folder.folder} holds {used[0].name} of an earlier training; choose a fresh results folder, or "
            f"name the checkpoint in {RESUMED} (auto-resume is refused)"
        )
    warm = spec.train.pretrained_model_path
    if warm is not None and warm.resolve() in [file.resolve() for file in used]:
        raise InputError(
            f"{PRETRAINED} {warm} lies in the results folder that this training clears; choose another one"
        )
    logger.warning("%s held an earlier training; starting over", folder.folder)
    folder.clear()
