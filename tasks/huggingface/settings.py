"""What a person states for a fine-tuning, and what follows from it by rule."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from tasks.errors import InputError
from tasks.preflight.host import LEAST_DISK_GB, LEAST_DRIVER
from tasks.spec import OptionalPlainPath, SpecModel, explained

Task = Literal[
    "image-classification",
    "object-detection",
    "semantic-segmentation",
    "instance-segmentation",
    "panoptic-segmentation",
    "depth-estimation",
    "image-text-to-text",
    "text-generation",
]
TrainingMethod = Literal["sft", "dpo", "grpo"]
DatasetFormat = Literal["auto", "imagefolder", "coco", "voc", "jsonl", "arrow", "parquet", "csv"]
DatasetSource = Literal["hf", "local", "recommend"]

LANGUAGE: tuple[Task, ...] = ("image-text-to-text", "text-generation")
"""The tasks that may be trained by preference or reward."""

REPOSITORY = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
SPLIT = re.compile(r"\w[\w.-]*(\[\d*%?:\d*%?\])?")
SHORT_NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*")


class FinetuneSettings(SpecModel):
    """The inputs of the flow; every one but the model has a default or is found out."""

    model_id: str = Field(description="Name on the hub (owner/name), or a folder with config.json")
    dataset_id: str | None = Field(None, description="Data set on the hub")
    dataset_config_name: str | None = Field(None, description="Its configuration, where it has many")
    local_dataset_path: OptionalPlainPath = Field(None, description="Data set on this machine")
    local_dataset_format: DatasetFormat = Field("auto", description="Its format; auto finds it out")
    task_type: Task | None = Field(None, description="The task; by default the model's config says it")
    training_method: TrainingMethod = "sft"
    n_train: int = Field(10_000, gt=0, description="Rows to train on, at most")
    n_eval: int = Field(1_000, gt=0, description="Rows to evaluate on, at most")
    n_epochs: int | None = Field(None, gt=0, description="By default what a source of the recipe names")
    max_steps: int | None = Field(None, gt=0, description="Ends the training early")
    use_lora: bool | None = Field(None, description="By default: yes for language tasks, no for vision")
    lora_r: int | None = Field(None, gt=0, description="Rank of the adapters, with use_lora; 16 by default")
    train_split: str = Field("train", description="Also a part, such as train[:90%]")
    eval_split: str = Field("validation", description="Also a part; test counts where there is no validation")
    model_short_name: str | None = Field(None, description="Names image, run and recipe")
    output_dir: OptionalPlainPath = Field(
        None, description="The project; by default named by model and data set"
    )
    hf_model_repo: str | None = Field(
        None, description="Where to push; <you>/<short name>-finetuned if unset"
    )
    push_to_hub: bool = True
    skip_baseline: bool = False
    emit_progress_log: bool = False
    emit_report: bool = False
    emit_unit_tests: bool = False
    skip_workarounds: tuple[str, ...] = Field((), description="Ids of compatibility rules not to apply")
    min_driver: int = Field(LEAST_DRIVER, gt=0, description="Least NVIDIA driver that containers get GPUs of")
    min_disk_gb: int = Field(
        default_factory=lambda: os.environ.get("MIN_DISK_GB") or int(LEAST_DISK_GB),
        validate_default=True,
        gt=0,
        description="Less free disk gives a warning",
    )

    @field_validator("model_id")
    @classmethod
    def _model_is_named(cls, value: str) -> str:
        # A folder is looked for first: the hub's client answers to a missing one with a rule about names.
        folder = Path(value).expanduser()
        if folder.is_dir():
            if not (folder / "config.json").is_file():
                raise ValueError("the folder has no config.json; save the model with save_pretrained")
            return str(folder.absolute())
        if value.startswith(("/", ".", "~")):
            raise ValueError("no such folder; check the path")
        return _repository(value)

    @field_validator("dataset_id", "hf_model_repo")
    @classmethod
    def _repository_is_named(cls, value: str | None) -> str | None:
        return None if value is None else _repository(value)

    @field_validator("local_dataset_path")
    @classmethod
    def _data_exist(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError("no such file or folder; check the path")
        return value

    @field_validator("train_split", "eval_split")
    @classmethod
    def _split_is_named(cls, value: str) -> str:
        if not SPLIT.fullmatch(value):
            raise ValueError("not like train, train[:90%] or train[100:200]")
        return value

    @field_validator("model_short_name")
    @classmethod
    def _short_name_is_plain(cls, value: str | None) -> str | None:
        if value is not None and not SHORT_NAME.fullmatch(value):
            raise ValueError("only a-z, 0-9, and . _ - between them: images and folders are named by it")
        return value

    @model_validator(mode="after")
    def _inputs_agree(self) -> Self:
        if self.dataset_id and self.local_dataset_path:
            raise ValueError("dataset_id and local_dataset_path are both set; keep one")
        if self.local_dataset_format != "auto" and not self.local_dataset_path:
            raise ValueError("local_dataset_format counts with local_dataset_path only; remove it")
        if self.dataset_config_name and not self.dataset_id:
            raise ValueError("dataset_config_name counts with dataset_id only; set that or remove it")
        if self.use_lora is False and self.lora_r is not None:
            raise ValueError("lora_r counts with use_lora only; remove it or set use_lora: true")
        if self.training_method != "sft" and self.task_type and self.task_type not in LANGUAGE:
            raise ValueError(f"training_method {self.training_method} is for {' and '.join(LANGUAGE)} only")
        return self

    @property
    def source(self) -> DatasetSource:
        """Where the data set comes from; `recommend` where none is named."""
        if self.dataset_id:
            return "hf"
        return "local" if self.local_dataset_path else "recommend"

    @property
    def dataset_name(self) -> str | None:
        """The data set as people call it: the last part of its name or path."""
        if self.dataset_id:
            return self.dataset_id.rsplit("/", 1)[-1]
        return self.local_dataset_path.stem if self.local_dataset_path else None

    @property
    def short_name(self) -> str:
        """`<model>-<dataset>` in small letters, unless a name is given."""
        words = [self.model_id.rsplit("/", 1)[-1], self.dataset_name or ""]
        return self.model_short_name or short_name(*words)

    def project_in(self, projects: Path) -> Path:
        """The folder of the project, absolute: docker reads a relative mount as the name of a volume."""
        return (self.output_dir or projects / self.short_name).absolute()

    def push_target(self, user: str | None) -> str | None:
        """The repository to push to: as stated, else of `user`, who may write; none without either."""
        if not self.push_to_hub:
            return None
        return self.hf_model_repo or (f"{user}/{self.short_name}-finetuned" if user else None)


def settings_from(values: dict[str, Any]) -> FinetuneSettings:
    """The settings that `values` state.

    Raises:
        InputError: a key is unknown, missing or out of its range; all of them are named in one line.
    """
    try:
        return FinetuneSettings.model_validate(values)
    except ValidationError as error:
        raise InputError(f"fine-tuning: {explained(error)}") from error


def short_name(*words: str) -> str:
    """Words as one name of small letters, digits and `. _ -`, at most 64 long.

    Raises:
        InputError: no letter or digit is left.
    """
    parts = (re.sub(r"[^a-z0-9._-]+", "-", word.lower()).strip("._-") for word in words)
    name = "-".join(part for part in parts if part)
    # One separator at a time, as image names of docker want it.
    name = re.sub(r"([._-])[._-]+", r"\1", name)[:64].strip("._-")
    if not name:
        raise InputError(f"no name can be made of {' and '.join(map(repr, words))}; set model_short_name")
    return name


def _repository(value: str) -> str:
    if not REPOSITORY.fullmatch(value) or ".." in value:
        raise ValueError("not a name on the hub (owner/name)")
    return value
