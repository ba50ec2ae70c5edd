"""Training scripts of strangers, where neither a model's own pages nor its paper say how to train it."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, urlencode

from tasks.huggingface.pages import Pages, PageUnavailable

API = "https://api.github.com"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
SCRIPT = re.compile(r"(?:^|[/_-])(?:train|fine[_-]?tun)[\w -]*\.(py|ipynb)$", re.IGNORECASE)


def training_scripts(model_type: str, pages: Pages, most: int = 3) -> list[str]:
    """Addresses of a raw training script of each of the most starred repositories on a type of model.

    A page that cannot be had is left out; it stands among the attempts of `pages`.
    """
    if not model_type:
        return []
    query = urlencode({"q": f"{model_type} fine-tune", "sort": "stars", "per_page": most})
    found = []
    for name in _texts(pages, f"{API}/search/repositories?{query}", "items", "full_name")[:most]:
        if not REPOSITORY.fullmatch(name):
            continue
        paths = _texts(pages, f"{API}/repos/{name}/git/trees/HEAD?recursive=1", "tree", "path")
        script = next(filter(SCRIPT.search, paths), None)
        if script:
            found.append(f"https://raw.githubusercontent.com/{name}/HEAD/{quote(script)}")
    return found


def _texts(pages: Pages, url: str, key: str, name: str) -> list[str]:
    """One text of each entry of a list in an answer; none where it is no such answer."""
    try:
        answer: Any = json.loads(pages.get(url).text)
        return [str(entry[name]) for entry in answer[key]]
    except (PageUnavailable, ValueError, KeyError, TypeError):
        return []
