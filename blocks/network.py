"""Whether the network may be used. Nothing is probed: a variable of the environment says so."""

from __future__ import annotations

import os
from collections.abc import Mapping

OFFLINE = ("HF_HUB_OFFLINE", "AIR_GAPPED")


def offline_variable(environment: Mapping[str, str] = os.environ) -> str | None:
    """The variable that switches the network off; none where none is set."""
    return next((name for name in OFFLINE if environment.get(name, "") not in ("", "0")), None)
