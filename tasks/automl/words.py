"""The figures of sweeps and pipelines in words, for who has not read the code."""

from __future__ import annotations

from markupsafe import Markup

from tasks.automl.trial import SweepMetric

NAMES = {"far_pct": "FAR", "val_loss": "validation loss", "error_pct": "error rate"}
MEANING = {
    "FAR": "FAR (false alarm rate): of 100 good parts, how many the model would flag when its threshold is "
    "set so low that no defect is missed.",
    "validation loss": "Validation loss: how far the scores are from the labels; it has no unit.",
}


def metric_name(name: str) -> str:
    """What people call a metric."""
    return NAMES.get(name, name)


def meaning(name: str) -> str:
    """What a metric says, in a sentence; empty for one that is not ours."""
    return MEANING.get(metric_name(name), "")


def amount(value: float | None, unit: str = "") -> str:
    """A figure with its unit, four digits; `—` where there is none."""
    if value is None:
        return "—"
    return f"{value:.4g} {unit}".rstrip()


def better(metric: SweepMetric) -> str:
    """Which way a metric is good."""
    return "lower is better" if metric.direction == "minimise" else "higher is better"


def keys(*names: str) -> Markup:
    """Dotted keys of a spec for a page: in the font of code, broken where there is no room."""
    return Markup(", ").join(Markup("<code>{}</code>").format(name) for name in names)


def duration(seconds: float | None) -> str:
    """A time that a person can grasp."""
    if seconds is None:
        return "—"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
