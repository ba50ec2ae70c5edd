"""The spec of `tmm nearest_neighbors`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from tasks.spec import OptionalReadPath, ReadPath, SpecModel, WritePath


def _quoted_truth(value: Any) -> Any:
    text = str(value).strip().lower()
    if text in ("true", "1", "yes"):
        return "true"
    return "false" if text in ("false", "0", "no") else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class NeighboursSpec(SpecModel):
    """What to look for where. Source = pool, target = weak samples.

    Attributes:
        source_parquet: the pool with its embeddings.
        target_parquet: the weak samples with their embeddings.
        output_parquet: the unique pool paths found, `filepath` alone; the other outputs lie beside it.
        exclude_parquet: ours; `filepath`s of the source that are not searched, such as those used before.
        topn: neighbours per target.
        knn_metric: the distance; the container's schema default, so flows always write it.
        filter_by_label: drop pairs of unequal label; text, as the container's schema has it.
        source_embed_column_name: where the source's vectors stand.
        target_embed_column_name: where the target's vectors stand.
        distance_threshold: drop pairs farther apart than this; negative = off.
        filter_mode: `post` filters the topn nearest of any label, `within_label` looks for topn of the label.
        label_filter_strict: a label column that is missing is an error instead of a warning.
    """

    source_parquet: ReadPath
    target_parquet: ReadPath
    output_parquet: WritePath
    exclude_parquet: OptionalReadPath = None
    topn: int = Field(5, ge=1)
    knn_metric: Annotated[Literal["cosine", "euclidean", "manhattan"], BeforeValidator(_lower)] = "euclidean"
    filter_by_label: Annotated[Literal["true", "false"], BeforeValidator(_quoted_truth)] = "false"
    source_embed_column_name: str = Field("embedding", min_length=1)
    target_embed_column_name: str = Field("embedding", min_length=1)
    distance_threshold: float = Field(-1.0, allow_inf_nan=False)
    filter_mode: Literal["post", "within_label"] = "post"
    label_filter_strict: bool = False

    ALIASES: ClassVar[dict[str, str]] = {
        "top_n": "topn",
        "n_neighbors": "topn",
        "metric": "knn_metric",
        "output_path": "output_parquet",
    }

    @model_validator(mode="after")
    def _output_is_its_own_file(self) -> NeighboursSpec:
        taken = {self.source_parquet, self.target_parquet, self.pairs_parquet}
        if self.output_parquet in taken:
            raise ValueError(f"output_parquet {self.output_parquet} is another file of this run; rename it")
        return self

    @property
    def pairs_parquet(self) -> Path:
        """Every kept pair with its distance."""
        return self.output_parquet.with_name("mined_pairs.parquet")

    @property
    def summary_txt(self) -> Path:
        """The counts in the container's words."""
        return self.output_parquet.with_name("mining_summary.txt")

    @property
    def summary_json(self) -> Path:
        """The counts for programs, with what the text has no line for."""
        return self.output_parquet.with_name("mining_summary.json")
