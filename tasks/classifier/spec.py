"""The spec of `image_classifier train` and `inference`: one model for both, as the container has it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, field_validator

from tasks.spec import OptionalPlainPath, OptionalReadPath, SpecModel, WritePath

ActionName = Literal["train", "inference"]
DataSetName = Literal["train_dataset", "validation_dataset", "infer_dataset"]

OURS = ("num_labels", "id2label", "label2id", "image_size", "num_channels", "model_type")
"""Keys of a transformers config that follow from the rest of the spec."""


class Model(SpecModel):
    """`model`.

    Attributes:
        type: a model type of transformers that classifies images, such as resnet, convnextv2 or vit.
        config: keys of its transformers config that differ from the defaults.
        pretrained_path: a local snapshot folder to take weights and config from; unset = random weights.
    """

    type: str = "resnet"
    config: dict[str, Any] = Field({})
    pretrained_path: OptionalReadPath = None

    @field_validator("config")
    @classmethod
    def _leaves_ours_alone(cls, config: dict[str, Any]) -> dict[str, Any]:
        taken = [key for key in OURS if key in config]
        if taken:
            raise ValueError(f"{', '.join(taken)} follow from the labels and dataset.image_size; remove them")
        return config


class Optim(SpecModel):
    """`train.optim`: AdamW, its rate falling in a line to 0."""

    lr: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class Train(SpecModel):
    """`train`.

    Attributes:
        label_smoothing: share of the target that is spread over all labels.
        flip_probability: of mirroring a training image, drawn for each axis.
        pretrained_model_path: a checkpoint of our own whose weights the training starts from.
        checkpoint_metric: what the best epoch is lowest in; of equal errors the lower loss decides.
    """

    num_epochs: Annotated[int, Field(ge=1)] = 10
    seed: Annotated[int, Field(ge=0)] = 1234
    optim: Optim = Optim()
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    pretrained_model_path: OptionalReadPath = None
    checkpoint_metric: Literal["val_error", "val_loss"] = "val_error"


class RowList(SpecModel):
    """A data set: a CSV with `filepath` and `label`; `images_dir` is what relative paths start at."""

    csv_path: OptionalReadPath = None
    images_dir: OptionalPlainPath = None


class DataSets(SpecModel):
    """`dataset`; images are resized to `image_size` pixels a side."""

    image_size: Annotated[int, Field(ge=8)] = 32
    batch_size: Annotated[int, Field(ge=2)] = 32
    train_dataset: RowList = RowList()
    validation_dataset: RowList = RowList()
    infer_dataset: RowList = RowList()


class Inference(SpecModel):
    """`inference`."""

    checkpoint: OptionalReadPath = None


class Native(SpecModel):
    """Where this engine computes; 0 threads leaves torch's choice."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0


class ClassifierSpec(SpecModel):
    """The whole spec; `results_dir` is, after rebasing, the folder of the action that runs."""

    results_dir: WritePath
    model: Model = Model()
    train: Train = Train()
    dataset: DataSets = DataSets()
    inference: Inference = Inference()
    native: Native = Native()

    def weight_files(self) -> list[Path]:
        """The files of the pretrained snapshot; none when there is no such folder."""
        folder = self.model.pretrained_path
        if folder is None or not folder.is_dir():
            return []
        return sorted(file for file in folder.iterdir() if file.is_file())


def rebase(action: ActionName, tree: DictConfig) -> None:
    """Make `results_dir` the action's folder: `<results_dir>/<action>`."""
    common = OmegaConf.select(tree, "results_dir", throw_on_missing=False)
    if common:
        tree.results_dir = f"{str(common).rstrip('/')}/{action}"
