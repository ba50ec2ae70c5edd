"""The spec of the four `visual_changenet` actions (spec changenet 2), one model for all of them.

Keys that classify does not use are accepted without effect, so that a spec file moves between this
engine and the container. Keys of this engine alone lie below `native`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import BeforeValidator, Field, model_validator

from tasks.changenet.data_spec import (
    DEFAULT_LIGHTS,
    IMAGENET_MEAN,
    IMAGENET_STD_OF_SCHEMA,
    Data,
    DatasetSection,
)
from tasks.errors import InputError
from tasks.spec import READS, OptionalPlainPath, OptionalReadPath, OptionalWritePath, SpecModel, WritePath

ActionName = Literal["train", "evaluate", "inference", "export"]
Size = Annotated[int, Field(ge=1)]

IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.4814547, 0.4578275, 0.4082107)
CLIP_STD = (0.2686295, 0.2613026, 0.2757771)
MODEL_MOUNT = "/model/"
HIGHER_IS_BETTER = ("val_acc", "val_recall", "val_auc")


def _weights(value: Any) -> Any:
    """A path made absolute; a hub id (`owner/name`, and nothing of that name here) as it is."""
    if value in (None, ""):
        return None
    path = Path(str(value)).expanduser()
    is_hub_id = len(path.parts) == 2 and not path.is_absolute() and path.parts[0] not in (".", "..")
    return path if is_hub_id and not path.exists() and not path.suffix else path.absolute()


BackboneWeights = Annotated[Path | None, BeforeValidator(_weights), READS]


class Backbone(SpecModel):
    """`model.backbone`."""

    type: str = "fan_small_12_p4_hybrid"
    pretrained_backbone_path: BackboneWeights = None
    freeze_backbone: bool = False
    feat_downsample: bool = False


class DecoderParams(SpecModel):
    """`model.decode_head.decoder_params`: `embed_dim` is the width D of all four levels."""

    embed_dim: Size = 256


class DecodeHead(SpecModel):
    """`model.decode_head`."""

    feature_strides: list[int] = Field([4, 8, 16, 16])
    in_index: list[int] = Field([0, 1, 2, 3])
    in_channels: list[int] = Field([128, 256, 384, 384])
    decoder_params: DecoderParams = DecoderParams()
    use_summary_token: bool = False
    align_corners: bool = False


class Classify(SpecModel):
    """`model.classify`."""

    difference_module: Literal["learnable", "euclidean"] = "euclidean"
    learnable_difference_modules: Annotated[int, Field(ge=1, le=4)] = 4
    embed_dec: Size = 5
    embedding_vectors: Size = 5
    train_margin_euclid: Annotated[float, Field(ge=1)] = 2.0
    eval_margin: Annotated[float, Field(ge=0)] = 2.0


class Model(SpecModel):
    """`model`."""

    backbone: Backbone = Backbone()
    decode_head: DecodeHead = DecodeHead()
    classify: Classify = Classify()
    precise_msda: bool = False


class Checkpointer(SpecModel):
    """`train.checkpointer`: checkpoints ranked by a validation metric, beside the periodic ones."""

    enable_topk: bool = False
    replace_periodic: bool = False
    monitor: Literal["val_loss", "val_acc", "val_fpr", "val_far", "val_recall", "val_auc"] = "val_loss"
    mode: Literal["min", "max"] | None = None
    save_top_k: Size = 1
    filename: str | None = "model_best_{epoch:03d}"
    dirpath: str | None = None
    auto_insert_metric_name: bool = False


class TrainClassify(SpecModel):
    """`train.classify`."""

    loss: Literal["ce", "contrastive"] = "contrastive"
    cls_weight: list[Annotated[float, Field(gt=0)]] = Field([1.0, 10.0], min_length=2, max_length=2)


class Optim(SpecModel):
    """`train.optim`."""

    optim: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    policy: Literal["linear", "step"] = "linear"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    monitor_name: str = "val_loss"


class Cudnn(SpecModel):
    """`train.cudnn`."""

    benchmark: bool = False
    deterministic: bool = True


class Tensorboard(SpecModel):
    """`train.tensorboard`; this engine writes no event files."""

    enabled: bool = False
    infrequent_logging_frequency: int = 2


class Devices(SpecModel):
    """Which GPUs; this engine runs on one device, `native.device`."""

    num_gpus: int = 1
    gpu_ids: list[int] = Field([0])


class Train(Devices):
    """`train`."""

    results_dir: OptionalWritePath = None
    num_epochs: Size = 10
    validation_interval: Size = 1
    checkpoint_interval: Size = 1
    checkpoint_interval_unit: Literal["epoch", "step"] = "epoch"
    checkpointer: Checkpointer = Checkpointer()
    pretrained_model_path: OptionalReadPath = None
    resume_training_checkpoint_path: OptionalReadPath = None
    classify: TrainClassify = TrainClassify()
    optim: Optim = Optim()
    seed: Annotated[int, Field(ge=-1)] = 1234
    cudnn: Cudnn = Cudnn()
    precision: Annotated[Literal["32", "32-true", "16-mixed", "bf16-mixed"], BeforeValidator(str)] = "32-true"
    num_nodes: int = 1
    sync_batchnorm: bool = False
    use_distributed_sampler: bool = False
    tensorboard: Tensorboard = Tensorboard()

    @model_validator(mode="after")
    def _intervals(self) -> Train:
        for name in ("validation_interval", "checkpoint_interval"):
            by_step = name == "checkpoint_interval" and self.checkpoint_interval_unit == "step"
            if getattr(self, name) > self.num_epochs and not by_step:
                raise ValueError(
                    f"train.{name} {getattr(self, name)} is above train.num_epochs {self.num_epochs}, so it "
                    f"would never come; set train.{name} to at most {self.num_epochs}"
                )
        if self.optim.policy == "step" and self.num_epochs < 3:
            raise ValueError("train.optim.policy step needs train.num_epochs of at least 3; use linear")
        return self


class Evaluate(Devices):
    """`evaluate`; the batch size is the one of `dataset.classify`."""

    results_dir: OptionalWritePath = None
    checkpoint: OptionalReadPath = None
    batch_size: int = -1
    trt_engine: str | None = None
    vis_after_n_batches: int = 16


class Inference(Evaluate):
    """`inference`."""


class Export(SpecModel):
    """`export`."""

    results_dir: OptionalWritePath = None
    checkpoint: OptionalReadPath = None
    onnx_file: OptionalWritePath = None
    input_channel: Literal[3] = 3
    input_height: Size = 224
    input_width: Size = 224
    opset_version: Annotated[int, Field(ge=16)] = 17
    batch_size: int = -1
    on_cpu: bool = False
    gpu_id: int = 0
    verbose: bool = False
    serialize_nvdsinfer: bool = False
    format: Literal["onnx"] = "onnx"


class Native(SpecModel):
    """What only this engine knows.

    Attributes:
        backbone_init: `random` has to be said; otherwise weights must be given.
        head: what stands before the classifier; `pool` is small and free of the input size.
        strict: fail where the container would (rows below the batch size, a used results folder, ...).
        color_prob_mode: `tao` colours with probability 1 - color_probability, `plain` with the value itself.
        tao_compat: from 7.0 on RADIO backbones replace ImageNet statistics by those of CLIP.
        weight_average: decay per step of the moving average of the weights, which is the model that is
            kept; 0 keeps the weights of the last step.
        threads: of torch on the CPU; 0 leaves torch's choice.
        cache: keep decoded, resized images in memory.
        zero_shot: `inference` without a checkpoint: the cosine distance of the untrained backbone's
            features, test against golden.
        model_dir: stands for `/model` where no container mounts one (hand-over of the loop).
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    backbone_init: Literal["pretrained", "random"] = "pretrained"
    head: Literal["pool", "flatten"] = "pool"
    strict: bool = False
    color_prob_mode: Literal["tao", "plain"] = "tao"
    tao_compat: Annotated[Literal["6.25", "7.0+"], BeforeValidator(str)] = "7.0+"
    weight_average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    threads: Annotated[int, Field(ge=0)] = 0
    cache: bool = True
    zero_shot: bool = False
    model_dir: OptionalPlainPath = None


class ChangeNetSpec(SpecModel):
    """The whole spec; `results_dir` is, after rebasing, the folder of the action that runs."""

    task: Literal["classify"]
    results_dir: WritePath
    encryption_key: str | None = ""
    model_name: str | None = None
    wandb: dict[str, Any] = Field({})
    quantize: dict[str, Any] = Field({})
    gen_trt_engine: dict[str, Any] = Field({})
    model: Model = Model()
    train: Train = Train()
    dataset: DatasetSection = DatasetSection()
    evaluate: Evaluate = Evaluate()
    inference: Inference = Inference()
    export: Export = Export()
    native: Native = Native()

    @property
    def data(self) -> Data:
        """`dataset.classify`."""
        return self.dataset.classify

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel for pixels in [0, 1] (spec changenet 3.5)."""
        augmentation = self.data.augmentation_config
        mean, std = tuple(augmentation.rgb_input_mean), tuple(augmentation.rgb_input_std)
        is_default = mean == IMAGENET_MEAN and std in (IMAGENET_STD, IMAGENET_STD_OF_SCHEMA)
        if is_default and "radio" in self.model.backbone.type and self.native.tao_compat == "7.0+":
            return CLIP_MEAN, CLIP_STD
        return mean, std

    @model_validator(mode="after")
    def _loss_fits(self) -> ChangeNetSpec:
        module, loss = self.model.classify.difference_module, self.train.classify.loss
        if (module == "learnable") != (loss == "ce"):
            raise ValueError(
                f"train.classify.loss {loss} does not go with model.classify.difference_module {module}: "
                "learnable needs ce, euclidean needs contrastive"
            )
        return self


def rebase(action: ActionName, tree: DictConfig) -> None:
    """Make `results_dir` the action's folder: `<action>.results_dir`, else `<results_dir>/<action>`.

    Raises:
        InputError: both are empty.
    """
    own = OmegaConf.select(tree, f"{action}.results_dir")
    common = OmegaConf.select(tree, "results_dir", throw_on_missing=False)
    if not own and not common:
        raise InputError(f"visual_changenet {action}: set results_dir or {action}.results_dir")
    tree.results_dir = str(own) if own else f"{str(common).rstrip('/')}/{action}"
    tree[action].results_dir = None
    model_dir, checkpoint = (
        OmegaConf.select(tree, key) for key in ("native.model_dir", f"{action}.checkpoint")
    )
    if model_dir and str(checkpoint).startswith(MODEL_MOUNT) and not Path(checkpoint).exists():
        tree[action].checkpoint = f"{model_dir}/{str(checkpoint).removeprefix(MODEL_MOUNT)}"
    if OmegaConf.select(tree, "dataset.classify.input_map") == "default":
        tree.dataset.classify.input_map = DEFAULT_LIGHTS
