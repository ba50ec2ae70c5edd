"""An encoder that a site keeps: what kind it is and where its files lie."""

from __future__ import annotations

from typing import Literal

from prefect.blocks.core import Block
from pydantic import Field


class Encoder(Block):
    """An encoder that turns images into embeddings for mining.

    Attributes:
        kind: The kind of encoder.
        path: Where its files lie.

    Example:
        Load a saved encoder:
        ```python
        from blocks.encoder import Encoder

        encoder = Encoder.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Encoder"
    _block_type_slug = "encoder"
    _description = "An encoder for mining look-alikes; flows take it as encoder_path=encoder/NAME."

    kind: Literal["SigLIP", "CLIP"] = Field(title="Kind", description="The family of the encoder.")
    path: str = Field(
        title="Path",
        min_length=1,
        description="Folder of a snapshot, or an id on the Hugging Face hub.",
        examples=["/models/siglip-base-patch16-224"],
    )
