"""Encoders: images in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tasks.artifacts import existing_file, read_json, sha256_of_all
from tasks.embedding.spec import EmbeddingSpec
from tasks.errors import InputError
from tasks.images import decoded

Vectors = npt.NDArray[np.float32]

HUB_FILES = ("*.json", "*.safetensors", "pytorch_model*.bin")


class Encoder(Protocol):
    """What turns images into vectors.

    Attributes:
        name: the family, as in the spec.
        dim: numbers in a vector.
        fingerprint: SHA-256 of the weights and of the settings stored with them.
        revision: the commit on the hub, None for local weights.
        takes_golden: whether a golden image changes the vector.
    """

    name: str
    dim: int
    fingerprint: str
    revision: str | None
    takes_golden: bool

    def embed(self, paths: Sequence[Path], golden_paths: Sequence[Path] | None) -> Vectors:
        """One vector per image, float32 [n, dim]; raises `InputError` for an image that cannot be read."""
        ...


def load_encoder(spec: EmbeddingSpec) -> Encoder:
    """The encoder that the spec names, ready on its device.

    Raises:
        InputError: weights missing, of another family, not to be had offline, or no such device.
    """
    device = _device(spec.device)
    if spec.model == "ChangeNet":
        return ChangeNetEncoder(spec, device)
    return PretrainedEncoder(spec, device)


def _device(wanted: str) -> str:
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: this machine has no CUDA GPU that torch can use; set device=cpu")
    return wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


class PretrainedEncoder:
    """The image tower of a SigLIP or CLIP snapshot; goldens are ignored."""

    takes_golden = False

    def __init__(self, spec: EmbeddingSpec, device: str) -> None:
        folder, self.revision = _snapshot(spec.weights_at)
        found = read_json(folder / "config.json").get("model_type")
        if found != spec.model.lower():
            raise InputError(
                f"{spec.weights_at} holds a model of type {found}, not {spec.model}; "
                "correct model or model_path"
            )
        from transformers import AutoImageProcessor, AutoModel
        from transformers.utils import logging as transformers_logging

        quiet: Any = transformers_logging
        quiet.disable_progress_bar()  # it belongs to a terminal, not to the log of a run
        try:
            # The processor that needs no torchvision; it also defines the pixels that the weights know.
            processors: Any = AutoImageProcessor
            self._processor = processors.from_pretrained(folder, backend="pil")
            self._model = AutoModel.from_pretrained(folder).eval().to(device)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"encoder {folder} cannot be loaded: {' '.join(str(error).split())}") from error
        self.name: str = spec.model
        self.dim = _dim(self._model.config)
        self.fingerprint = sha256_of_all(path for path in sorted(folder.iterdir()) if path.is_file())
        self._batch_size = spec.batch_size

    def embed(self, paths: Sequence[Path], golden_paths: Sequence[Path] | None) -> Vectors:
        """One vector per image, float32 [n, dim]; the next batch is decoded while one is encoded."""
        import torch

        batches = [paths[i : i + self._batch_size] for i in range(0, len(paths), self._batch_size)]
        vectors = []
        with ThreadPoolExecutor() as decoders, ThreadPoolExecutor(1) as ahead, torch.inference_mode():
            upcoming = [ahead.submit(self._pixels, batch, decoders) for batch in batches[:1]]
            for number in range(len(batches)):
                pixels = upcoming.pop().result()
                upcoming += [
                    ahead.submit(self._pixels, b, decoders) for b in batches[number + 1 : number + 2]
                ]
                features = self._model.get_image_features(pixel_values=pixels.to(self._model.device))
                vectors.append(getattr(features, "pooler_output", features).float().cpu().numpy())
        return np.concatenate(vectors) if vectors else np.empty((0, self.dim), np.float32)

    def _pixels(self, paths: Sequence[Path], decoders: ThreadPoolExecutor) -> Any:
        images = list(decoders.map(decoded, paths))
        return self._processor(images=images, return_tensors="pt")["pixel_values"]


class ChangeNetEncoder:
    """The features of a trained ChangeNet: of an image, or of the difference from its golden image."""

    takes_golden = True
    revision: str | None = None

    def __init__(self, spec: EmbeddingSpec, device: str) -> None:
        assert spec.model_config_path is not None
        from tasks.changenet.features import load_changenet_encoder

        checkpoint = existing_file(Path(spec.weights_at).expanduser().absolute(), "checkpoint")
        config = existing_file(spec.model_config_path, "model_config_path")
        self._features = load_changenet_encoder(checkpoint, config, device)
        self.name: str = spec.model
        self.dim = self._features.dim
        self.fingerprint = sha256_of_all([checkpoint])
        self._batch_size = spec.batch_size

    def embed(self, paths: Sequence[Path], golden_paths: Sequence[Path] | None) -> Vectors:
        """One vector per image, or per pair where goldens are given, float32 [n, dim]."""
        vectors: Vectors = self._features.embed(paths, golden_paths, self._batch_size)
        return vectors


def _dim(config: Any) -> int:
    return int(getattr(config, "projection_dim", None) or config.vision_config.hidden_size)


def _snapshot(weights: str) -> tuple[Path, str | None]:
    """The folder that holds a model, and its commit when it came from the hub."""
    local = Path(weights).expanduser()
    if local.is_dir():
        existing_file(local / "config.json", "encoder snapshot")
        return local, None
    looks_like_path = local.is_absolute() or weights.startswith((".", "~")) or weights.count("/") != 1
    if looks_like_path or local.exists():
        raise InputError(f"model_path {weights} is neither a snapshot folder nor a hub id (owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # they belong to a terminal, not to the log of a run
    try:
        folder = Path(snapshot_download(weights, allow_patterns=list(HUB_FILES)))
    except (OSError, ValueError) as error:
        raise InputError(
            f"model_path {weights} cannot be had from the hub ({' '.join(str(error).split())[:200]}); "
            "give the path of a local snapshot folder"
        ) from error
    return folder, folder.name
