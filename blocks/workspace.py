"""Where a line's data lies, by a name that everybody uses."""

from __future__ import annotations

from pathlib import Path

from prefect.blocks.core import Block
from pydantic import Field, field_validator


class Workspace(Block):
    """A workspace: its images, specs and data sets, and where its results go.

    Attributes:
        root: The folder.

    Example:
        Load a saved workspace:
        ```python
        from blocks.workspace import Workspace

        workspace = Workspace.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Workspace"
    _block_type_slug = "workspace"
    _description = "A folder with images, specs and data sets; flows take it as workspace/NAME."

    root: Path = Field(
        title="Folder",
        description="Absolute path, the same on every machine that works on it.",
        examples=["/data/line-3"],
    )

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: Path) -> Path:
        if not root.is_absolute():
            raise ValueError(f"{root} must be an absolute path")
        return root
