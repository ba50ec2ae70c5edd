"""What a page's code says of a recipe: read from its syntax tree, nothing of it is run."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

MODEL_CLASS = re.compile(r"^(AutoModelFor[A-Z]\w*|[A-Z]\w*For[A-Z]\w+)$")
PROCESSOR_CLASS = re.compile(r"^(AutoTokenizer|\w*(Processor|FeatureExtractor|Tokenizer|TokenizerFast))$")
COLLATOR_CLASS = re.compile(r"^(DefaultDataCollator|DataCollator\w*|\w+DataCollator\w*)$")
ARGUMENTS = re.compile(r"(TrainingArguments|SFTConfig|DPOConfig|GRPOConfig)$")
HYPERPARAMETERS = {
    "learning_rate": "lr",
    "per_device_train_batch_size": "batch",
    "train_batch_size": "batch",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "lr_scheduler_type": "scheduler",
    "weight_decay": "weight_decay",
}
LOAD_KWARGS = (
    "attn_implementation",
    "device_map",
    "dtype",
    "ignore_mismatched_sizes",
    "quantization_config",
    "torch_dtype",
    "trust_remote_code",
)
TRAIN, EVAL = re.compile(r"train|aug"), re.compile(r"val|eval|test")
LONGEST = 1500
"""Characters of a function that are kept."""


@dataclass
class Said:
    """What one source says: values by slot; hyperparameters by their short names."""

    slots: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] = field(default_factory=dict)

    def set(self, slot: str, value: Any) -> None:
        """Keep the first value of a slot."""
        if value not in (None, "", {}):
            self.slots.setdefault(slot, value)

    def prefer(self, slot: str, function: str) -> None:
        """Keep the first own function: it beats a ready-made one, and what a page shows later."""
        if not str(self.slots.get(slot, "")).startswith("def "):
            self.slots[slot] = function


def read_source(text: str, name: str) -> Said:
    """What a page says: Python, a notebook or Markdown, by the end of its name."""
    said = Said()
    if name.endswith(".py"):
        blocks: Iterable[str] = [text]
    elif name.endswith(".ipynb"):
        blocks = _cells(text)
    else:
        blocks = code_blocks(text)
        _listed(text, said)
    for block in blocks:
        tree = _tree(block)
        if tree is not None:
            _read_tree(tree, said)
    return said


def code_blocks(markdown: str) -> Iterator[str]:
    """The Python of fenced blocks, without the prompts of an interactive session."""
    for language, code in re.findall(
        r"^```+[ \t]*(\w*)[^\n]*\n(.*?)^```+", markdown, re.MULTILINE | re.DOTALL
    ):
        if language.lower() not in ("", "py", "python", "python3", "pycon"):
            continue
        lines = code.splitlines()
        if any(line.startswith(">>> ") for line in lines):
            lines = [line[4:] for line in lines if line.startswith((">>> ", "... "))]
        yield "\n".join(lines)


def _cells(text: str) -> Iterator[str]:
    try:
        cells = json.loads(text).get("cells", [])
    except (ValueError, AttributeError):
        return
    for cell in cells:
        if cell.get("cell_type") == "code":
            source = cell.get("source", "")
            yield source if isinstance(source, str) else "".join(source)


def _tree(code: str) -> ast.Module | None:
    kept = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("!", "%")))
    try:
        return ast.parse(kept)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _listed(markdown: str, said: Said) -> None:
    """The list of hyperparameters that the trainer writes into model cards."""
    for name, value in re.findall(r"^\s*[-*]\s*(\w+)\s*:\s*(\S+)\s*$", markdown, re.MULTILINE):
        if name in HYPERPARAMETERS:
            said.hyperparameters.setdefault(HYPERPARAMETERS[name], _plain(value))


def _plain(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _read_tree(tree: ast.Module, said: Said) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            _read_call(node, said)
        elif isinstance(node, ast.FunctionDef):
            _read_function(node, said)
        elif isinstance(node, ast.Assign):
            _read_assignment(node, said)


def _read_call(node: ast.Call, said: Said) -> None:
    name = _last_name(node.func)
    if name == "from_pretrained" and isinstance(node.func, ast.Attribute):
        owner = _last_name(node.func.value)
        if MODEL_CLASS.match(owner):
            said.set("model_class", owner)
            said.set("load_kwargs", _keywords(node, LOAD_KWARGS))
        elif PROCESSOR_CLASS.match(owner):
            said.set("processor_class", owner)
    elif ARGUMENTS.search(name):
        for key, value in _keywords(node, HYPERPARAMETERS).items():
            said.hyperparameters.setdefault(HYPERPARAMETERS[key], value)
    elif name == "LoraConfig" and not said.lora:
        said.lora = _keywords(node)
    elif COLLATOR_CLASS.match(name):
        said.set("collator", ast.unparse(node))
    elif name == "load" and _last_name(getattr(node.func, "value", node.func)) == "evaluate":
        said.slots.setdefault("compute_metrics", ast.unparse(node))


def _read_function(node: ast.FunctionDef, said: Said) -> None:
    code = ast.unparse(node)[:LONGEST]
    if "collate" in node.name:
        said.prefer("collator", code)
    elif node.name == "compute_metrics":
        said.prefer("compute_metrics", code)
    elif "transform" in node.name or "preprocess" in node.name:
        if EVAL.search(node.name):
            said.set("eval_transforms", code)
        elif TRAIN.search(node.name):
            said.set("train_transforms", code)


def _read_assignment(node: ast.Assign, said: Said) -> None:
    """`name = Compose([...])`: for training by its name, or because something in it is random."""
    if not isinstance(node.value, ast.Call) or _last_name(node.value.func) != "Compose":
        return
    name, code = _last_name(node.targets[0]).lower(), ast.unparse(node.value)[:LONGEST]
    if EVAL.search(name):
        said.slots["eval_transforms"] = code
    elif TRAIN.search(name) or re.search(r"Random|Flip|Jitter|Augment", code):
        said.slots["train_transforms"] = code
    else:
        said.set("eval_transforms", code)


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _keywords(node: ast.Call, wanted: Iterable[str] | None = None) -> dict[str, Any]:
    """Keyword arguments: literals as values, the rest as code."""
    found = {}
    for keyword in node.keywords:
        if keyword.arg and (wanted is None or keyword.arg in wanted):
            found[keyword.arg] = _value(keyword.value)
    return found


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return ast.unparse(node)


NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)(?!\w|[.,]\d|\s*[×x·*^\\%])"
"""A number that is not a part of a longer one, such as 1 x 10^-4, 1,024 or 64k."""
IS = r"(?:of |is |= ?|: ?)"
PROSE = {
    "lr": re.compile(f"learning rate {IS}{NUMBER}", re.IGNORECASE),
    "batch": re.compile(f"batch size {IS}{NUMBER}", re.IGNORECASE),
    # "49.4 AP in 12 epochs" is a result.
    "epochs": re.compile(rf"(?:train\w*|for|over) {NUMBER} epochs", re.IGNORECASE),
    "weight_decay": re.compile(f"weight decay {IS}{NUMBER}", re.IGNORECASE),
}


def read_prose(text: str) -> dict[str, Any]:
    """Hyperparameters that a paper names in words."""
    found = {name: pattern.search(text) for name, pattern in PROSE.items()}
    return {name: _plain(match[1]) for name, match in found.items() if match}


SCRIPT_LINK = re.compile(
    r"https://(?:github\.com|raw\.githubusercontent\.com|huggingface\.co|colab\.research\.google\.com)"
    r"/[^\s)\"'<>\]]+?\.(?:py|ipynb)\b"
)


def script_links(card: str, most: int = 3) -> list[str]:
    """Addresses of the raw scripts and notebooks that a card links to, those on training first."""
    raw = list(dict.fromkeys(_raw(link) for link in SCRIPT_LINK.findall(card)))
    return sorted(raw, key=lambda link: not re.search(r"train|fine|sft|lora|dpo", link, re.IGNORECASE))[:most]


def _raw(link: str) -> str:
    link = link.replace("https://colab.research.google.com/github/", "https://github.com/")
    if link.startswith("https://github.com/"):
        return re.sub(
            r"^https://github\.com/([^/]+/[^/]+)/(?:blob|raw)/",
            r"https://raw.githubusercontent.com/\1/",
            link,
        )
    return link.replace("/blob/", "/raw/", 1)


def paper_links(card: str, tags: Iterable[str]) -> list[str]:
    """Addresses of the arXiv papers that tags or card name."""
    numbers = [tag.removeprefix("arxiv:") for tag in tags if tag.startswith("arxiv:")]
    numbers += re.findall(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})", card)
    return [f"https://arxiv.org/abs/{number}" for number in dict.fromkeys(numbers)]
