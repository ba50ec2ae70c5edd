"""The commands of a project as data: what is run in which order, and what a container of it needs.

Every place that runs them, and every page that shows them, uses this one list.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import InputError
from tasks.huggingface.compat import runtime_environment

Name = Literal["prepare", "smoke", "tests", "baseline", "train", "merge", "evaluate", "infer", "report"]

FOLDERS = ("logs", "reports", "data", "checkpoints")
"""What commands write into; they have to be there first."""

WORKSPACE = "/workspace"
"""Where a container sees the project."""

HUB = ("HF_TOKEN",)
MONITORING = ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_MODE", "WANDB_RUN_NAME")
ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
MASTER_PORT = 29500


class Command(BaseModel):
    """One command: the Python program of the project that it runs, and its surroundings.

    Attributes:
        arguments: the program and its arguments, relative to the project.
        environment: settings that it needs, none of them secret.
        passed: variables that it gets with the value they have here, by name alone.
        log: where its output goes, relative to the project.
        shm_size: shared memory of its container.
        mounts: folders that it reads, at the same place in a container.
        processes: how many processes train side by side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    arguments: tuple[str, ...]
    environment: dict[str, str] = Field(default_factory=dict)
    passed: tuple[str, ...] = HUB
    log: str
    shm_size: str | None = "16g"
    mounts: tuple[Path, ...] = ()
    processes: int = 1

    def argv(self, python: str = "python") -> list[str]:
        """The words of the command line with this Python, several processes by torch's launcher."""
        if self.processes == 1:
            return [python, *self.arguments]
        launcher = [python, "-m", "torch.distributed.run", f"--nproc_per_node={self.processes}"]
        return [*launcher, f"--master_port={MASTER_PORT}", *self.arguments]

    def shell(self) -> str:
        """The line for bash in a container: its output on the screen and in the log."""
        line = shlex.join(self.argv())
        return f"set -o pipefail; cd {WORKSPACE} && {line} 2>&1 | tee {shlex.quote(self.log)}"


def checkpoint_of(config: Mapping[str, Any]) -> str:
    """The folder of the trained model that is evaluated, sampled and pushed: merged where LoRA was."""
    return "checkpoints/merged" if config.get("use_lora") else "checkpoints/final"


def image_of(config: Mapping[str, Any]) -> str:
    """The tag of the project's image."""
    return f"run-{config['model_short_name']}:latest"


def container_name(config: Mapping[str, Any], run: str) -> str:
    """The name of a container of the project; one per run, so that none takes the place of another."""
    return f"hft_train_{config['model_short_name']}_{run}"


def commands_of(config: Mapping[str, Any], runtime: Mapping[str, str] | None = None) -> dict[Name, Command]:
    """The commands of a project in their order, without the build of its image.

    Args:
        config: what `config.yaml` says.
        runtime: variables that workarounds ask for.

    Raises:
        InputError: the configuration does not name its model.
    """
    if not config.get("model_id"):
        raise InputError("config.yaml: model_id is missing; it names the model that is fine-tuned")
    common = dict(runtime or {})
    shm = str(config.get("shm_size") or "16g")
    processes = max(int(config.get("gpu_count") or 1), 1)
    checkpoint = checkpoint_of(config)
    local = config.get("local_dataset_path")
    every: list[Command] = [
        Command(
            name="prepare",
            arguments=("prepare_data.py", "--config", "config.yaml", "--force"),
            environment=common,
            log="logs/prepare.log",
            shm_size=shm,
            mounts=(Path(local),) if local else (),
        ),
        Command(
            name="smoke",
            arguments=("train.py", "--config", "config.yaml", "--smoke", "--max_steps", "1"),
            environment={**common, **ALLOCATOR, "WANDB_MODE": "disabled"},
            log="logs/smoke.log",
            shm_size=shm,
        ),
        Command(
            name="tests",
            # A native traceback ends with the line by which the playbook knows an error.
            arguments=("-m", "pytest", "-q", "tests", "--tb=native", "--junitxml=reports/tests.xml"),
            environment={**common, **ALLOCATOR, "WANDB_MODE": "disabled"},
            log="logs/tests.log",
            shm_size=shm,
        ),
        _evaluation("baseline", str(config["model_id"]), "reports/baseline_results.json", common, shm),
        Command(
            name="train",
            arguments=("train.py", "--config", "config.yaml", *_steps(config)),
            environment={**common, **ALLOCATOR},
            passed=(*HUB, *MONITORING),
            log="logs/train.log",
            shm_size="32g" if processes > 1 and shm == "16g" else shm,
            processes=processes,
        ),
        Command(
            name="merge",
            arguments=(
                *("merge_lora.py", "--base_model", str(config["model_id"])),
                *("--adapter", "checkpoints/final", "--output", checkpoint),
            ),
            environment=common,
            log="logs/merge.log",
            shm_size=None,
        ),
        _evaluation("evaluate", checkpoint, "reports/eval_results.json", common, shm),
        Command(
            name="infer",
            arguments=(
                *("infer.py", "--config", "config.yaml", "--checkpoint", checkpoint),
                *("--n_samples", "5", "--output", "reports/inference_samples/"),
            ),
            environment=common,
            log="logs/infer.log",
            shm_size=shm,
        ),
        Command(
            name="report",
            arguments=("report.py", "--config", "config.yaml"),
            environment={**common, "MPLCONFIGDIR": ".cache/matplotlib"},
            passed=(),
            log="logs/report.log",
            shm_size=None,
        ),
    ]
    if Path(str(config["model_id"])).is_absolute():
        model = (Path(str(config["model_id"])),)
        every = [one.model_copy(update={"mounts": (*one.mounts, *model)}) for one in every]
    left_out = {"merge"} if not config.get("use_lora") else set()
    if config.get("skip_baseline"):
        left_out.add("baseline")
    if not config.get("emit_unit_tests"):
        left_out.add("tests")
    if not config.get("emit_report"):
        left_out.add("report")
    return {one.name: one for one in every if one.name not in left_out}


def _steps(config: Mapping[str, Any]) -> tuple[str, ...]:
    steps = config.get("max_steps")
    return ("--max_steps", str(steps)) if steps else ()


def _evaluation(
    name: Literal["baseline", "evaluate"],
    checkpoint: str,
    output: str,
    environment: dict[str, str],
    shm: str,
) -> Command:
    return Command(
        name=name,
        arguments=(
            *("run_eval.py", "--config", "config.yaml"),
            *("--checkpoint", checkpoint, "--output", output),
        ),
        environment=environment,
        log=f"logs/{name}.log",
        shm_size=shm,
    )


def build_line(config: Mapping[str, Any]) -> str:
    """The line that builds the image of a project, run inside its folder."""
    words = ["docker", "build", "-t", image_of(config)]
    if config.get("ngc_image"):
        words += ["--build-arg", f"NGC_IMAGE={config['ngc_image']}"]
    return shlex.join([*words, "."])


def has_gpus(config: Mapping[str, Any]) -> bool:
    """Whether the audit of the host found GPUs, or has not looked yet."""
    return config.get("gpu_count") != 0


def docker_line(command: Command, config: Mapping[str, Any], name: str | None = None) -> str:
    """The line that runs a command in the project's image, for a person inside the project's folder.

    With a name the container runs detached and stays, so that its log can be followed.
    """
    words = ["docker", "run", *(["-d", "--name", name] if name else ["--rm"])]
    words += ["--gpus", "all"] if has_gpus(config) else []
    words += [f"--shm-size={command.shm_size}"] if command.shm_size else []
    words += ["--entrypoint", "/bin/bash"]
    text = " ".join([shlex.join(words), '--user "$(id -u):$(id -g)"'])
    for variable in command.passed:
        text += f" -e {variable}"
    for variable, value in {**container_environment(), **command.environment}.items():
        text += f" -e {shlex.quote(f'{variable}={value}')}"
    for folder in command.mounts:
        text += f" -v {shlex.quote(f'{folder}:{folder}:ro')}"
    return f'{text} -v "$PWD:{WORKSPACE}" {image_of(config)} -lc {shlex.quote(command.shell())}'


def how_to_run(config: Mapping[str, Any]) -> str:
    """Markdown for a person: the commands in containers, the training detached and followed, and without."""
    shared = runtime_environment(config.get("applicable_workarounds") or [])
    commands = commands_of(config).values()
    parts = [("Build the image", build_line(config))]
    for command in commands:
        line = docker_line(command, config, "run_train" if command.name == "train" else None)
        if command.name == "train":
            line = f"docker rm -f run_train 2>/dev/null\n{line}\ndocker logs -f run_train"
        parts.append((command.name.capitalize(), line))
    of_the_host = [
        "python -m venv .venv && . .venv/bin/activate",
        "pip install torch -r requirements.txt",
        *(f"export {_assigned(name, value)}" for name, value in shared.items()),
        *(
            " ".join([*(_assigned(*one) for one in command.environment.items()), shlex.join(command.argv())])
            for command in commands
        ),
    ]
    first = f"mkdir -p {' '.join(FOLDERS)}\nif [ -f .env ]; then set -a; . ./.env; set +a; fi"
    return (
        f"First, folders for logs and results, and the credentials of `.env`:\n\n```bash\n{first}\n```\n\n"
        "### In containers\n\n"
        + "\n".join(f"{title}:\n\n```bash\n{line}\n```\n" for title, line in parts)
        + "\n### Or as processes\n\n"
        + "\n".join(["```bash", *of_the_host, "```\n"])
    )


def _assigned(name: str, value: str) -> str:
    return f"{name}={shlex.quote(value)}"


def container_environment() -> dict[str, str]:
    """What a user without an entry in the image's list of users needs."""
    return {
        "HF_HOME": f"{WORKSPACE}/.cache/huggingface",
        "HOME": WORKSPACE,
        "USER": "runner",
        "LOGNAME": "runner",
        "TOKENIZERS_PARALLELISM": "false",
    }
