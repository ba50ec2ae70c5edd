"""Specs of the two gap analyses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from tasks.errors import InputError
from tasks.spec import ReadPath, SpecModel, WritePath

logger = logging.getLogger("deft")

INFERENCE_CSV = "inference.csv"


def _folder_of_csv(path: Path) -> Path:
    if not path.is_file():
        return path
    if path.name != INFERENCE_CSV:
        raise InputError(
            f"inference_results_dir {path} is a file; give the folder that holds {INFERENCE_CSV}, or that CSV"
        )
    logger.info("inference_results_dir names the file %s; its folder is used", path)
    return path.parent


class VcnSpec(SpecModel):
    """`gap_analysis vcn_aoi`: where a Visual ChangeNet model is wrong, or nearly so.

    A negative `threshold` means: sweep. A threshold that was swept can be negative too (scores may be), and
    then cannot be pinned.
    """

    ALIASES: ClassVar[dict[str, str]] = {
        "inference_csv": "inference_results_dir",
        "inference_dir": "inference_results_dir",
        "output_dir": "results_dir",
        "images_dir": "kpi_media_path",
        "media_path": "kpi_media_path",
        "train_yaml": "train_config",
        "topk_per_label": "top_k_per_label",
        "top_k": "top_k_per_label",
    }

    inference_results_dir: Annotated[ReadPath, AfterValidator(_folder_of_csv)]
    """The folder that holds inference.csv itself, not one further down."""
    train_config: ReadPath
    """The train YAML; only `dataset.classify.input_map` and `image_ext` are read."""
    results_dir: WritePath
    kpi_media_path: str = ""
    """What comes before every `input_path`; empty where `input_path` says it all."""
    min_recall: float | None = Field(None, ge=0, le=1)
    """Share of the NO_PASS rows that a threshold must find; null is 1.0, and no floor for a pinned one."""
    top_k_per_label: int | None = Field(50, ge=1)
    """Weakest rows kept per label; null keeps only rows on the wrong side (filter mode)."""
    threshold: float = Field(-1.0, allow_inf_nan=False)
    max_far: float | None = Field(None, ge=0, le=1)
    """Share of the PASS rows that a threshold may alarm on; null for any."""

    @property
    def inference_csv(self) -> Path:
        """The CSV that is analysed."""
        return self.inference_results_dir / INFERENCE_CSV

    @property
    def recall_floor(self) -> float:
        """`min_recall`, or what null stands for."""
        if self.min_recall is not None:
            return self.min_recall
        return 1.0 if self.swept else 0.0

    @property
    def swept(self) -> bool:
        """Whether the threshold is looked for, not given."""
        return self.threshold < 0


def _folder_or_here(value: Any) -> Path:
    return Path(str(value or ".")).expanduser().absolute()


class BcqSpec(SpecModel):
    """`gap_analysis vlm_bcq`: where a model's yes/no answers are wrong."""

    predictions_json: ReadPath
    results_dir: WritePath
    videos_dir: Annotated[Path, BeforeValidator(_folder_or_here)] = Path()
    """What a relative `video_id` is relative to; empty for the working directory."""
    check_exists: bool = False
    """Count the failures whose video file does not exist."""
