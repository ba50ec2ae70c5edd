"""A fine-tuning as its steps see it: the project, what was asked for, where commands run, and whom to ask."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.artifacts import read_json, write_json, write_text
from tasks.errors import InputError, listed
from tasks.huggingface.asking import Answer, Ask, Question, approved
from tasks.huggingface.credentials import WITHOUT_KEY
from tasks.huggingface.gates import gates_in, reopen
from tasks.huggingface.pages import Pages
from tasks.huggingface.progress import Progress
from tasks.huggingface.project.render import config_of, config_text
from tasks.huggingface.recovery import change_config
from tasks.huggingface.results import commands_done, read_config
from tasks.huggingface.runner import Runner
from tasks.huggingface.settings import FinetuneSettings

ASKED = Path("meta") / "settings.json"
LOCAL = {"min_driver", "min_disk_gb"}
"""Settings that say nothing of what is trained."""
PUSHING = {"push_to_hub", "hf_model_repo"}
"""Settings that count after the training only."""

Wandb = Literal["off", "online", "offline"]
Show = Callable[[str, str], object]
"""Shows a page of Markdown by its name."""


@dataclass
class Run:
    """Everything that a step needs.

    Attributes:
        project: its folder, absolute.
        settings: what the person asked for.
        overrides: further values of `config.yaml` that the person gave.
        runner: where commands run.
        ask: asks a person.
        wandb: whether the training is followed by Weights & Biases.
        limit_seconds: of one command.
        show: shows a page.
        turn: held while a command may compute on GPUs, which others use too.
        pages: fetches pages.
    """

    project: Path
    settings: FinetuneSettings
    runner: Runner
    ask: Ask
    overrides: Mapping[str, Any] = field(default_factory=dict)
    wandb: Wandb = "off"
    limit_seconds: float = 24 * 3600.0
    show: Show = lambda _name, _text: None
    turn: Callable[[], AbstractContextManager[None]] = nullcontext
    pages: Pages = field(default_factory=Pages)

    @property
    def config(self) -> dict[str, Any]:
        """What `config.yaml` says now."""
        return read_config(self.project)

    @property
    def progress(self) -> Progress:
        """The diary, empty where it is switched off."""
        config = self.config if (self.project / "config.yaml").is_file() else {}
        return Progress(self.project, config, enabled=self.settings.emit_progress_log)

    def write_config(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Write `config.yaml` whole, with the defaults of what is not given."""
        config = config_of(values)
        write_text(self.project / "config.yaml", config_text(config))
        return config

    def approved(self, question: Question, *, once: bool = True) -> Answer:
        """The person's answer; raises `DeftError` where it is a no."""
        return approved(self.project, question, self.ask, once=once)

    @property
    def asked(self) -> dict[str, Any]:
        """Values of `config.yaml` that the person gave, which research never changes."""
        settings = self.settings
        mode = os.environ.get("WANDB_MODE")
        values: dict[str, Any] = {
            "training_method": settings.training_method,
            "train_split": settings.train_split,
            "eval_split": settings.eval_split,
            "n_train": settings.n_train,
            "n_eval": settings.n_eval,
            "max_steps": settings.max_steps,
            "push_to_hub": settings.push_to_hub,
            "skip_baseline": settings.skip_baseline,
            "emit_progress_log": settings.emit_progress_log,
            "emit_report": settings.emit_report,
            "emit_unit_tests": settings.emit_unit_tests,
            "skip_workarounds": list(settings.skip_workarounds),
            "report_to": "none" if self.wandb == "off" else "wandb",
            "wandb_mode": None if self.wandb == "off" else mode if mode in WITHOUT_KEY else self.wandb,
            "wandb_project": None if self.wandb == "off" else os.environ.get("WANDB_PROJECT", "huggingface"),
        }
        if settings.n_epochs is not None:
            values["num_train_epochs"] = settings.n_epochs
        if settings.use_lora is not None:
            values["use_lora"] = settings.use_lora
        if settings.lora_r is not None:
            values["lora_r"] = settings.lora_r
        return values | dict(self.overrides)

    def hold_same(self) -> None:
        """Keep what was asked for; a project that was trained has to be the one that was asked for.

        Before that what was asked for may be corrected: the steps begin anew. Afterwards, too, the model may
        be pushed elsewhere.

        Raises:
            InputError: it was trained for something else; what differs is named.
        """
        asked = {
            **self.settings.model_dump(mode="json"),
            "overrides": dict(self.overrides),
            "wandb": self.wandb,
            "place": self.runner.name,
        }
        file = self.project / ASKED
        before = read_json(file) if file.is_file() else asked
        other = {
            name: value for name, value in asked.items() if name not in LOCAL and before.get(name) != value
        }
        if self._trained and (wrong := sorted(other.keys() - PUSHING)):
            raise InputError(
                f"{self.project} is a project with another {listed(wrong)}; give another output_dir"
            )
        if other and not self._trained:
            reopen(1, self.project)
        elif other and (self.project / "config.yaml").is_file():
            change_config(self.project / "config.yaml", other)
        write_json(file, asked)

    @property
    def _trained(self) -> bool:
        """Whether gate 4 was passed, or, where it is open again, a training is done."""
        passed = any(gate.step == 4 and gate.passed for gate in gates_in(self.project))
        return passed or "train" in commands_done(self.project)
