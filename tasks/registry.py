"""Every action that the native engine answers to, and the console script of each category.

Stages are named by where their code lies and imported only when one of their actions runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from blocks.versions import ANOMALYGEN, DATA_SERVICES, PYT
from tasks.action import Action, console_main, main
from tasks.errors import UsageError

ACTIONS: tuple[Action, ...] = (
    Action("gap_analysis", "vcn_aoi", "tasks.gap_analysis.action:VCN_AOI", DATA_SERVICES),
    Action("gap_analysis", "vlm_bcq", "tasks.gap_analysis.action:VLM_BCQ", DATA_SERVICES),
    Action(
        "embedding", "image_embeddings", "tasks.embedding.action:IMAGE_EMBEDDINGS", DATA_SERVICES, gpu=True
    ),
    Action("tmm", "nearest_neighbors", "tasks.mining.action:NEAREST_NEIGHBORS", DATA_SERVICES),
    Action("visual_changenet", "train", "tasks.changenet.action:TRAIN", PYT, gpu=True),
    Action("visual_changenet", "inference", "tasks.changenet.action:INFERENCE", PYT, gpu=True),
    Action("visual_changenet", "evaluate", "tasks.changenet.action:EVALUATE", PYT, gpu=True),
    Action("visual_changenet", "export", "tasks.changenet.action:EXPORT", PYT, gpu=True),
    Action("anomalygen", "generate", "tasks.anomalygen.action:GENERATE", ANOMALYGEN, gpu=True),
    Action("anomalygen", "ingest", "tasks.anomalygen.action:INGEST"),
    Action("image_classifier", "train", "tasks.classifier.action:TRAIN", gpu=True),
    Action("image_classifier", "inference", "tasks.classifier.action:INFERENCE", gpu=True),
    Action("routing", "route", "tasks.routing.action:ROUTE"),
    Action("dataset", "assemble", "tasks.dataset.action:ASSEMBLE"),
    Action("evaluation", "far_at_recall", "tasks.evaluation.action:FAR_AT_RECALL"),
    Action("evaluation", "measure", "tasks.evaluation.measure:MEASURE"),
)

CATEGORIES = (
    "gap_analysis",
    "embedding",
    "tmm",
    "visual_changenet",
    "anomalygen",
    "image_classifier",
    "routing",
    "dataset",
    "evaluation",
)


def actions_of(category: str) -> tuple[Action, ...]:
    """The actions of a category, which may have none in this version."""
    return tuple(action for action in ACTIONS if action.category == category)


def find_action(category: str, name: str) -> Action:
    """The action of that name; raises `UsageError` when there is none."""
    for action in actions_of(category):
        if action.name == name:
            return action
    raise UsageError(f"no action {category} {name}; known: {', '.join(a.title for a in ACTIONS)}")


def run_in_process(category: str, argv: Sequence[str]) -> int:
    """What `<category> <argv>` does, in this process; gives its exit status."""
    if category not in CATEGORIES:
        raise UsageError(f"no category {category!r}; known: {', '.join(CATEGORIES)}")
    return main(actions_of(category), argv)


def gap_analysis() -> None:
    """Console script `gap_analysis`."""
    console_main(actions_of("gap_analysis"))


def embedding() -> None:
    """Console script `embedding`."""
    console_main(actions_of("embedding"))


def tmm() -> None:
    """Console script `tmm`."""
    console_main(actions_of("tmm"))


def visual_changenet() -> None:
    """Console script `visual_changenet`."""
    console_main(actions_of("visual_changenet"))


def anomalygen() -> None:
    """Console script `anomalygen`."""
    console_main(actions_of("anomalygen"))
