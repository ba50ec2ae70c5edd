"""The spec of `embedding image_embeddings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from tasks.spec import READS, OptionalReadPath, ReadPath, SpecModel, WritePath, digest

MODELS = {"siglip": "SigLIP", "clip": "CLIP", "changenet": "ChangeNet"}
HUB_DEFAULTS = {"SigLIP": "google/siglip-base-patch16-224", "CLIP": "openai/clip-vit-base-patch32"}
CHECKPOINT_SUFFIXES = (".pth", ".ckpt", ".safetensors")


def _model_name(value: Any) -> Any:
    return MODELS.get(str(value).lower(), value)


class EmbeddingSpec(SpecModel):
    """What to embed, and with which encoder.

    Attributes:
        input_parquet: rows with `filepath`; `golden_filepath` is used by ChangeNet, all else is carried on.
        output_parquet: the same rows with `embedding`; its sidecar is `<output_parquet>.meta.json`.
        model: the family of the encoder.
        model_path: a hub id, a snapshot folder, or a ChangeNet checkpoint; unset = the family's default.
        batch_size: images in one forward pass.
        model_config_path: the training spec of a checkpoint; only there, and mandatory there.
        device: where the encoder runs; `auto` takes CUDA when there is one.
    """

    input_parquet: ReadPath
    output_parquet: WritePath
    model: Annotated[Literal["SigLIP", "CLIP", "ChangeNet"], BeforeValidator(_model_name)] = "SigLIP"
    model_path: Annotated[str | None, READS] = None
    batch_size: int = Field(64, ge=1)
    model_config_path: OptionalReadPath = None
    device: Literal["auto", "cpu", "cuda"] = "auto"

    ALIASES: ClassVar[dict[str, str]] = {"input_path": "input_parquet", "output_path": "output_parquet"}

    @model_validator(mode="after")
    def _checkpoint_has_its_config(self) -> EmbeddingSpec:
        checkpoint = self.weights_at.endswith(CHECKPOINT_SUFFIXES)
        if checkpoint != (self.model == "ChangeNet"):
            raise ValueError(
                f"model {self.model} and model_path {self.model_path} do not go together: "
                f"ChangeNet takes a checkpoint file ({', '.join(CHECKPOINT_SUFFIXES)}), "
                "SigLIP and CLIP a hub id or a snapshot folder"
            )
        if checkpoint and self.model_config_path is None:
            raise ValueError("model_config_path is required with a checkpoint: give its training spec")
        if not checkpoint and self.model_config_path is not None:
            raise ValueError("model_config_path goes only with a checkpoint; remove it")
        if self.input_parquet == self.output_parquet:
            raise ValueError("input_parquet and output_parquet are one file; give the output another name")
        return self

    @property
    def weights_at(self) -> str:
        """`model_path`, or the default of the family; empty for ChangeNet without a path."""
        return self.model_path or HUB_DEFAULTS.get(self.model, "")

    @property
    def encoder_digest(self) -> str:
        """A digest of the keys that say which encoder this is; equal for both steps of a mining run."""
        keys = ("model", "batch_size", "model_config_path")
        return digest({"model_path": self.weights_at, **{key: getattr(self, key) for key in keys}})

    def weight_files(self) -> list[Path]:
        """The local files that make the encoder: a checkpoint, or all files of a snapshot folder."""
        local = Path(self.weights_at).expanduser()
        if local.is_dir():
            return sorted(path for path in local.iterdir() if path.is_file())
        return [local] if local.is_file() else []
