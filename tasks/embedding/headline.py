"""What a finished embedding is about."""

from __future__ import annotations

from tasks.action import Headline
from tasks.embedding.sidecar import Sidecar
from tasks.embedding.spec import EmbeddingSpec
from tasks.reports.words import counted


def headline(spec: EmbeddingSpec) -> Headline:
    """How many images, and the encoder that stands behind their vectors."""
    facts = Sidecar.of(spec.output_parquet)
    if facts is None:
        return Headline("Images embedded; without a sidecar nothing is known of the encoder.")
    pairs = ", each beside its golden image" if facts.with_golden else ""
    return Headline(
        f"{counted(facts.rows, 'image')} turned into vectors of {facts.dim:,} numbers{pairs}, "
        f"by the encoder {facts.model}.",
        ("Of the encoder", ""),
        [
            ("Weights", facts.model_path or None),
            ("SHA-256 of the weights, first 12", facts.weights_sha256[:12]),
            ("Revision", facts.revision),
            ("Engine", facts.engine),
        ],
    )
