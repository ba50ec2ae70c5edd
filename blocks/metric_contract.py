"""What a site's models must reach, kept under a name."""

from __future__ import annotations

from typing import Any, Literal

from prefect.blocks.core import Block
from pydantic import BaseModel, ConfigDict, Field

Operator = Literal["<", "<=", ">", ">="]


class Constraint(BaseModel):
    """A metric with the side of a target on which it must lie, before the contract's own counts."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(title="Name", pattern=r"^[a-z][a-z0-9_]*$", examples=["recall_pct"])
    display_name: str = Field(title="Shown as", min_length=1, examples=["Recall"])
    operator: Operator = Field(title="Must be")
    target: float = Field(title="Target", allow_inf_nan=False)
    unit: str = Field(title="Unit", examples=["%"])


class MetricContractBlock(Block):
    """A metric contract: a metric, its target, who measures it, and what must hold besides.

    Attributes:
        name: The metric.
        display_name: What reports call it.
        operator: On which side of the target it must lie.
        target: The target.
        unit: Its unit.
        evaluator: Who measures it.
        constraints: What must hold first.

    Example:
        Load a saved metric contract:
        ```python
        from blocks.metric_contract import MetricContractBlock

        contract = MetricContractBlock.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Metric Contract"
    _block_type_slug = "metric-contract"
    _description = "What a model must reach; flows take it as metric=metric-contract/NAME."

    name: str = Field(
        title="Name",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="The metric; one in percent ends in _pct, and no other does.",
        examples=["far_pct"],
    )
    display_name: str = Field(
        title="Shown as", min_length=1, description="What reports call it.", examples=["FAR"]
    )
    operator: Operator = Field(title="Must be", description="On which side of the target it must lie.")
    target: float = Field(title="Target", allow_inf_nan=False, description="In the unit.", examples=[10])
    unit: str = Field(title="Unit", description="% for a metric in percent.", examples=["%"])
    evaluator: dict[str, Any] = Field(
        default={"type": "builtin", "id": "far_at_recall"},
        title="Evaluator",
        description="Who measures it: a builtin, a command, or an awaited artifact.",
        examples=[{"type": "command", "executable": "/opt/site/measure"}],
    )
    constraints: list[Constraint] = Field(
        default=[], title="Constraints", description="What must hold before the metric counts."
    )

    def contract(self) -> dict[str, Any]:
        """The fields of the contract as flows take them."""
        own = {"name", "display_name", "operator", "target", "unit", "evaluator", "constraints"}
        return self.model_dump(mode="json", include=own)
