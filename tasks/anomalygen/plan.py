"""What a spec of `anomalygen generate` asks for: how many of which defect, on which clean pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.anomalygen.allocation import chosen_defects, counted, matched, proportional, uniform
from tasks.anomalygen.clean_images import (
    CleanPicture,
    CleanSource,
    order_of_likeness,
    random_order,
    usable,
)
from tasks.anomalygen.defects import painter_of
from tasks.anomalygen.spec import GenerateSpec
from tasks.embedding.tables import read_parquet, texts
from tasks.errors import InputError


@dataclass(frozen=True)
class Plan:
    """What a spec asks for, every input checked; computing any of it writes nothing.

    Attributes:
        spec: the spec.
    """

    spec: GenerateSpec

    @cached_property
    def source(self) -> CleanSource:
        """Where the clean pictures come from."""
        return CleanSource(self.spec)

    @cached_property
    def weak(self) -> tuple[list[Path], list[str]]:
        """Pictures and labels of the weak samples; raises `InputError` when the parquet is not usable."""
        what = f"gaps_parquet {self.spec.gaps_parquet}"
        gaps = read_parquet(self.spec.gaps_parquet, "gaps_parquet", required=("filepath", "label"))
        return [Path(path) for path in texts(gaps, "filepath", what)], texts(gaps, "label", what)

    @cached_property
    def request(self) -> dict[str, int]:
        """How many samples of each label, absent ones with 0.

        Raises:
            InputError: nothing can be painted, or per_defect or weights name something else.
        """
        spec, labels = self.spec, self.weak[1]
        wanted = spec.defects or tuple(key for key, count in spec.per_defect.items() if count)
        defects = chosen_defects(wanted, labels, self.source.labels, self._paintable)
        unsafe = [defect for defect in defects if "/" in defect or "\\" in defect]
        if unsafe:
            raise InputError(f"defect {unsafe[0]!r} cannot be part of a file name; rename the label")
        if spec.per_defect:
            if not wanted:
                raise InputError("per_defect: all counts are 0; nothing to generate")
            known = {key: count for key, count in spec.per_defect.items() if count or spec.defects}
            return {key: int(count) for key, count in matched(known, defects, "per_defect").items()}
        if spec.weights:
            return proportional(spec.num_SDG, matched(spec.weights, defects, "weights"))
        if spec.allocation == "mask_count":
            return proportional(spec.num_SDG, counted(defects, labels))
        return uniform(spec.num_SDG, defects)

    def _paintable(self, label: str) -> bool:
        dataset = self.source.dataset
        painter = painter_of(label)
        return painter is not None and (
            dataset is None or painter in {painter_of(anomaly) for anomaly in dataset.anomalies}
        )

    @cached_property
    def pictures(self) -> list[CleanPicture]:
        """The clean pictures that may be used, in the order of use."""
        weak, labels = self.weak
        pictures = usable(self.source.pictures, [*weak, *self.source.kept_out])
        if self.spec.similar_to_weak:
            order = order_of_likeness([picture.files[0] for picture in pictures], weak, labels)
        else:
            order = random_order(len(pictures), self.spec.seed)
        return [pictures[number] for number in order]
