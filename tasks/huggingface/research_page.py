"""The record of a recipe's research: `meta/recipe.json`, and `meta/recipe.md` for a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.artifacts import write_json, write_text
from tasks.reports.markdown import code, escaped, table


def write_research(project: Path, recipe: Mapping[str, Any]) -> list[Path]:
    """Write `meta/recipe.json` and `meta/recipe.md`."""
    meta = project / "meta"
    return [write_json(meta / "recipe.json", recipe), write_text(meta / "recipe.md", recipe_page(recipe))]


def recipe_page(recipe: Mapping[str, Any]) -> str:
    """The recipe as Markdown."""
    slots = [
        (name, code(short(slot["value"])), slot.get("source_url") or "fallback", slot["note"])
        for name, slot in recipe["slots"].items()
    ]
    parts = [
        (name, code(part["value"]), part.get("source_url") or "fallback", part.get("note"))
        for name, part in recipe["slots"]["hyperparameters"]["parts"].items()
    ]
    tried = [(one["url"], one["time"], one["outcome"]) for one in recipe["tried"]]
    notes = [f"- {escaped(note)}" for note in recipe["notes"]] or ["- none"]
    return "\n".join(
        [
            f"# Recipe for {escaped(recipe['model_id'])}",
            "",
            f"Task {recipe['task']}, training method {recipe['training_method']}, researched at "
            f"{recipe['researched_at']}. Reference: {recipe['reference']}",
            "",
            "## Slots",
            "",
            table(("slot", "value", "source", "note"), slots),
            "",
            "## Hyperparameters",
            "",
            table(("name", "value", "source", "note"), parts),
            "",
            "## Notes",
            "",
            *notes,
            "",
            "## Pages",
            "",
            table(("address", "time", "outcome"), tried),
            "",
        ]
    )


def short(value: Any) -> str:
    """A value in one line of at most 160 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 160 else f"{text[:157]}..."
