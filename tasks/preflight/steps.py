"""Which checks an approval rests on, written down apart from the register.

A check that somebody takes out of the register is still asked for here, and the gate is invalid.
"""

from __future__ import annotations

from tasks.preflight.subject import PHASES_OF, Mode

DEFT_STEPS: dict[int, tuple[str, ...]] = {
    1: ("host.network",),
    2: ("host.workspace", "data.files", "data.spec", "data.sets", "data.classes", "data.images", "data.pool"),
    3: ("host.packages",),
    4: ("credentials.variables", "credentials.login"),
    5: ("images.uris",),
    6: ("images.present", "images.architecture", "images.gpu_probe"),
    7: ("data.paths",),
    8: ("host.gpu", "data.backbone", "loop.assets"),
    9: ("host.machine", "data.memory", "data.batch"),
    10: ("data.leakage", "data.pool_leakage"),
}
"""The ten steps of the DEFT preflight (spec deft-loop 8), each with its checks."""

EVERY_MODE = ("host.platform", "host.docker", "host.disk", "data.kpi_labels", "estimate.cost", "confirmation")
OF_PHASE = {
    "phase1": ("phase1.config", "phase1.space", "phase1.validation"),
    "loop": ("loop.config", "loop.metric", "loop.assets", "loop.gate"),
    "phase3": ("phase3.config", "phase3.space", "phase3.consistency", "phase3.warm_start"),
}


def required(mode: Mode) -> list[str]:
    """The ids of the checks without which an approval of this mode is worth nothing."""
    steps = [check_id for ids in DEFT_STEPS.values() for check_id in ids if not check_id.startswith("loop.")]
    phases = [check_id for phase in PHASES_OF[mode] for check_id in OF_PHASE[phase]]
    return list(dict.fromkeys([*EVERY_MODE, *steps, *phases]))
