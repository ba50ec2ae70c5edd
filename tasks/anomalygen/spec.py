"""Specs of `anomalygen generate` and `anomalygen ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from tasks.spec import OptionalPlainPath, OptionalReadPath, PlainPath, ReadPath, SpecModel, WritePath


def _absolute_paths(value: Any) -> Any:
    given = [value] if isinstance(value, str | Path) else value or ()
    return tuple(Path(str(path)).expanduser().absolute() for path in given)


class GenerateSpec(SpecModel):
    """What to generate (spec deft-loop 7.1).

    Attributes:
        gaps_parquet: the weak samples that routing sent here: `filepath`, `label`.
        project: texture name, the part of a defect id before `+`.
        dataset_dir: clean pictures and CAD masks in NVIDIA's layout; or give `clean_csv`.
        clean_csv: ChangeNet CSV, or several, whose rows give the clean pictures; or give `dataset_dir`.
        images_dir: image root of `clean_csv`.
        train_yaml: names the lightings of `clean_csv`.
        paint_on: with `clean_csv`: on golden crops, or on the test crops of PASS rows, in which case
            the OK picture of a pair is the golden crop of that row.
        keep_out: ChangeNet CSV, or several, such as validation and KPI set, below the same image root;
            a picture that is a test crop of theirs, by path or by content, is not painted on.
        similar_to_weak: take clean pictures that look like the weak samples first, else in random order.
        num_SDG: how many samples.
        seed: of everything random.
        allocation: how they spread over the defects: evenly, or like the weak samples do.
        per_defect: explicit counts; their sum replaces `num_SDG`, a defect that is absent gets none.
        weights: shares instead of `allocation`; a defect that is absent gets none.
        defects: labels to generate; empty = those of the weak samples that can be painted.
        results_dir: where the tree goes.
        checkpoint_dir: for the container only, as the following keys; the open generator has no weights.
        step: checkpoint step.
        guidance: guidance scale.
        crop_ratio: size of the crop around a defect.
        model_size: which model.
    """

    ALIASES: ClassVar[dict[str, str]] = {"num_sdg": "num_SDG"}

    gaps_parquet: ReadPath
    project: str = Field(default="board", pattern=r"^[^+/\\]+$")
    dataset_dir: OptionalPlainPath = None
    clean_csv: Annotated[tuple[Path, ...], BeforeValidator(_absolute_paths)] = ()
    images_dir: OptionalPlainPath = None
    train_yaml: OptionalReadPath = None
    paint_on: Literal["golden", "pass_sample"] = "golden"
    keep_out: Annotated[tuple[Path, ...], BeforeValidator(_absolute_paths)] = ()
    similar_to_weak: bool = True
    num_SDG: PositiveInt = 20  # noqa: N815 - as the container spells it
    seed: NonNegativeInt = 42
    allocation: Literal["uniform", "mask_count"] = "uniform"
    per_defect: dict[str, NonNegativeInt] = Field(default_factory=dict)
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    defects: tuple[str, ...] = ()
    results_dir: WritePath
    checkpoint_dir: OptionalPlainPath = None
    step: int | None = None
    guidance: float = 7.0
    crop_ratio: float = 2.0
    model_size: str | None = None

    @model_validator(mode="after")
    def _one_source_of_clean_pictures(self) -> GenerateSpec:
        if bool(self.dataset_dir) == bool(self.clean_csv):
            raise ValueError("give exactly one of dataset_dir and clean_csv, the source of clean pictures")
        if self.clean_csv and not (self.images_dir and self.train_yaml):
            raise ValueError("clean_csv needs images_dir (its image root) and train_yaml (its lightings)")
        if self.keep_out and not self.clean_csv:
            raise ValueError("keep_out goes with clean_csv, whose image root and lightings it shares")
        if self.dataset_dir and self.paint_on != "golden":
            raise ValueError("paint_on=pass_sample needs clean_csv: dataset_dir has no golden crops")
        if self.per_defect and self.weights:
            raise ValueError("per_defect and weights exclude each other; give one")
        return self


class IngestSpec(SpecModel):
    """Which generated pairs become training rows (spec deft-loop 7.5).

    The rows name where the pictures lie, so all places count for the cache.

    Attributes:
        sdg_dir: the folder that holds `sdg/`.
        workspace: the folder that the paths of the rows are relative to.
        train_yaml: names the lightings and the image extension of the data set.
        images_out: gets the folders `synthetic_<name>_ng` and `synthetic_<name>_ok`.
        name: for instance iter1.
        results_dir: gets the rows and the summary.
        min_allocation_ratio: least share of the samples asked for that must have been placed.
        requested: how many samples were asked for, or the JSON file that says how many of each defect;
            unset: the tree's own `allocation_request.json` if it has one, else not checked.
        require_allocation: whether `allocation.json` must be there; false for pregenerated pairs.
    """

    sdg_dir: PlainPath
    workspace: PlainPath
    train_yaml: ReadPath
    images_out: PlainPath
    name: str = Field(pattern=r"^[\w.-]+$")
    results_dir: PlainPath
    min_allocation_ratio: float = Field(default=0.5, ge=0, le=1)
    requested: PositiveInt | str | None = None
    require_allocation: bool = True
