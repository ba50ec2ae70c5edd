"""A site's own container images, in place of those that the versions file names."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field

from blocks.versions import ANOMALYGEN, DATA_SERVICES, NATIVE, PYT, ImageReference, image_uri


class Images(Block):
    """A site's own images, in place of those that the versions file names.

    Attributes:
        engine: Our own engine.
        pyt: NVIDIA's image that trains and runs ChangeNet.
        data_services: NVIDIA's image for gap analysis, embeddings and neighbours.
        anomalygen: NVIDIA's image that makes synthetic defects.

    Example:
        Load saved images:
        ```python
        from blocks.images import Images

        images = Images.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Images"
    _block_type_slug = "images"
    _description = "Container images of a site's own registry, in place of those in the versions file."

    engine: ImageReference = Field(
        title="Engine",
        description="Our own engine, with a tag or a digest.",
        examples=["registry.example.com/deft-flows/engine:0.1.0"],
    )
    pyt: ImageReference | None = Field(
        default=None,
        title="TAO PyTorch",
        description="NVIDIA's image for ChangeNet; empty: the one in the versions file.",
    )
    data_services: ImageReference | None = Field(
        default=None,
        title="TAO data services",
        description="NVIDIA's image for gap analysis and mining; empty: the one in the versions file.",
    )
    anomalygen: ImageReference | None = Field(
        default=None,
        title="AnomalyGen",
        description="NVIDIA's image for synthetic defects; empty: the one in the versions file.",
    )

    def uri(self, key: str) -> str:
        """The site's image for a key of the versions file, else the one in it; raises as `image_uri` does."""
        own = {
            NATIVE: self.engine,
            PYT: self.pyt,
            DATA_SERVICES: self.data_services,
            ANOMALYGEN: self.anomalygen,
        }
        return own.get(key) or image_uri(key)
