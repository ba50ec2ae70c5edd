"""Fine-tune a model of the Hugging Face hub in six gated steps.

Where a person has to decide, the run waits. The Resume button of the run in the Prefect UI answers it, or
`deft approve RUN` in a terminal, or any program, with `choice` where the question offers several ways:

    POST API/flow_runs/ID/resume   {"run_input": {"approve": true, "choice": "LoRA", "note": "as agreed"}}
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.input import RunInput
from pydantic import BaseModel, Field, create_model

from blocks.docker_runtime import run_labels
from blocks.gpu_limit import NoPlaceError, place_on_the_gpu
from blocks.reaping import reap
from flows.approval import answer_or_fail, open_key
from tasks.artifacts import existing_file
from tasks.errors import DeftError, InputError
from tasks.huggingface.asking import Answer, Ask, Question, answer_pending, nobody
from tasks.huggingface.containers import DockerRunner
from tasks.huggingface.credentials import load_env_file
from tasks.huggingface.executing import wandb_url
from tasks.huggingface.gates import TITLES, check_gate, gate_table, gates_in, holds, reopen
from tasks.huggingface.push import read_pushed
from tasks.huggingface.recipe import recipe_file
from tasks.huggingface.results import EVALUATED, SAMPLES, baseline_of, primary_metric
from tasks.huggingface.run import Run
from tasks.huggingface.runner import ProcessRunner, Runner
from tasks.huggingface.settings import DatasetFormat, FinetuneSettings, Task, TrainingMethod, settings_from
from tasks.huggingface.steps import STEPS
from tasks.publishing import key_of, publish_markdown
from tasks.reports.markdown import escaped
from tasks.run_folder import held

logger = logging.getLogger("deft.flow")

LOCK = ".finetune.lock"
WEEK = 7 * 24 * 3600


class Finetuned(BaseModel):
    """What a fine-tuning leaves."""

    project: Path
    metric: str
    baseline: float | None
    value: float
    gained: float | None
    hub_url: str | None
    wandb_url: str | None
    samples: Path
    recipe: Path


@flow(name="finetune-huggingface", on_cancellation=[reap])
def finetune_huggingface(
    model_id: str,
    dataset_id: str | None = None,
    dataset_config_name: str | None = None,
    local_dataset_path: Path | None = None,
    local_dataset_format: DatasetFormat = "auto",
    task_type: Task | None = None,
    training_method: TrainingMethod = "sft",
    n_train: Annotated[int, Field(gt=0)] = 10_000,
    n_eval: Annotated[int, Field(gt=0)] = 1_000,
    n_epochs: Annotated[int, Field(gt=0)] | None = None,
    max_steps: Annotated[int, Field(gt=0)] | None = None,
    use_lora: bool | None = None,
    lora_r: Annotated[int, Field(gt=0)] | None = None,
    train_split: str = "train",
    eval_split: str = "validation",
    overrides: dict[str, Any] | None = None,
    model_short_name: str | None = None,
    output_dir: Path | None = None,
    push_to_hub: bool = True,
    hf_model_repo: str | None = None,
    skip_baseline: bool = False,
    emit_progress_log: bool = False,
    emit_report: bool = False,
    emit_unit_tests: bool = False,
    skip_workarounds: list[str] | None = None,
    min_driver: Annotated[int, Field(gt=0)] | None = None,
    min_disk_gb: Annotated[int, Field(gt=0)] | None = None,
    place: Literal["docker", "process"] = "docker",
    python: Path | None = None,
    gpus: Literal["all", "none"] = "all",
    container_user: Annotated[str, Field(pattern=r"^\d+:\d+$")] | None = None,
    gpu_limit: str | None = None,
    wandb: Literal["off", "online", "offline"] = "off",
    approval: Literal["ask", "none"] = "ask",
    approval_timeout_seconds: Annotated[int, Field(ge=1)] = WEEK,
    command_hours: Annotated[float, Field(gt=0)] = 24.0,
    projects: Path = Path("output"),
    env_file: Path | None = None,
) -> Finetuned:
    """Qualify, audit, research, smoke-test, train and deliver; a gate after each step.

    The state of the run is the project that it writes: the same parameters go on where they stopped.

    Args:
        model_id: name on the hub (owner/name), or a folder with config.json.
        dataset_id: data set on the hub; without it and without a folder some are offered.
        dataset_config_name: its configuration, where it has many.
        local_dataset_path: file or folder of a data set on this machine.
        local_dataset_format: its format; auto finds it out.
        task_type: by default the model's config says it.
        training_method: supervised, or for language models dpo (preferences) or grpo (rewards).
        n_train: rows to train on, at most.
        n_eval: rows to evaluate on, at most.
        n_epochs: by default what a source of the recipe names, else the task's usual number.
        max_steps: ends the training early.
        use_lora: train adapters in place of all weights; by default for language tasks.
        lora_r: rank of the adapters; 16 by default.
        train_split: also a part of one, such as train[:90%].
        eval_split: also a part; test counts where there is no validation.
        overrides: further values of the project's config.yaml, such as learning_rate.
        model_short_name: names image, run and recipe; by default made of model and data set.
        output_dir: folder of the project; by default one in `projects` with the short name.
        push_to_hub: push model, card and results to a private repository.
        hf_model_repo: that repository; by default YOU/SHORT NAME-finetuned.
        skip_baseline: do not measure the model as it was.
        emit_progress_log: keep PROGRESS.md in the project.
        emit_report: charts, PDF and HTML of the training in the project.
        emit_unit_tests: tests of the project, run after its smoke test.
        skip_workarounds: ids of compatibility rules that are not to be applied.
        min_driver: least NVIDIA driver for containers with GPUs, 580 by default; an older one needs an older
            image.
        min_disk_gb: less free disk gives a warning.
        place: commands run in containers of the project's image, or in processes of this machine.
        python: the Python of processes; by default the one that runs the flow.
        gpus: none computes everything on the CPU, also on a host that has no driver.
        container_user: UID:GID of the processes in containers; by default those of who runs the flow, who is
            not root.
        gpu_limit: Prefect's concurrency limit, such as gpu, that each command with GPUs waits for and holds.
        wandb: follow the training at Weights & Biases.
        approval: ask a person at approval points, or ask nobody: the run ends there, or takes the default.
        approval_timeout_seconds: how long a person has to answer.
        command_hours: limit of one command.
        projects: folder of the projects that have no output_dir.
        env_file: file of NAME=value lines with credentials; what the environment has already stays.
    """
    given = {key: value for key, value in locals().items() if value is not None}
    settings = settings_from({key: given[key] for key in FinetuneSettings.model_fields if key in given})
    if env_file:
        load_env_file(env_file)
    project = settings.project_in(projects)
    with held(project, LOCK):
        run = Run(
            project=project,
            settings=settings,
            overrides=overrides or {},
            runner=_process(python, gpus)
            if place == "process"
            else _containers(project, gpus, container_user),
            ask=nobody if approval == "none" else asking(approval_timeout_seconds),
            wandb=wandb,
            limit_seconds=command_hours * 3600,
            turn=lambda: gpu_turn(gpu_limit),
            show=lambda name, text: publish_markdown(f"{name} {settings.short_name}", text),
        )
        run.hold_same()
        try:
            walk(run)
        except BaseException:
            run.runner.stop()
            raise
        return _summary(run)


def walk(run: Run) -> None:
    """The six steps in order; one whose gate holds from an earlier run is not done again."""
    progress = run.progress
    progress.say("start", "begun or gone on with")
    answer_pending(run.project, run.ask)
    for number, step in STEPS.items():
        if holds(number, run.project):
            logger.info("step %d (%s) was done before", number, TITLES[number])
            continue
        reopen(number, run.project)
        logger.info("step %d: %s", number, TITLES[number])
        try:
            step(run)
            check_gate(number, run.project)
        except DeftError as error:
            run.progress.say(_milestone(number), f"step {number}: {error}", sign="❌")
            raise
        finally:
            if gates := gates_in(run.project):
                run.show("gates", gate_table(gates))


def _milestone(number: int) -> str:
    return ("discover", "discover", "discover", "script", "train", "deliver")[number - 1]


def _process(python: Path | None, gpus: str) -> Runner:
    named = existing_file(python.absolute(), "python") if python else None
    return ProcessRunner(named, gpus=gpus == "all")


def _containers(project: Path, gpus: str, user: str | None) -> Runner:
    """Containers have the names of their project: a run that goes on takes the place of what was left."""
    name = sha256(str(project).encode()).hexdigest()[:8]
    return DockerRunner(name, user=user, gpus=gpus == "all", labels=run_labels())


@contextmanager
def gpu_turn(limit: str | None) -> Iterator[None]:
    """A place of Prefect's limit; raises `InputError` where it cannot be had."""
    try:
        with place_on_the_gpu(limit):
            yield
    except NoPlaceError as error:
        raise InputError(f"gpu_limit: {error}") from error


def asking(timeout_seconds: int) -> Ask:
    """Asks the person in front of the Prefect UI; the run is suspended, or waits in its process."""

    def ask(question: Question) -> Answer:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise DeftError(f"{question.title}: there is no flow run here whose form could ask a person")
        return _asked(context.flow_run, question, timeout_seconds)

    return ask


def form_of(question: Question) -> type[RunInput]:
    """The form of a question: yes or no, one of its choices, and a note."""
    off = "Off: the run ends here, whatever is chosen." if question.choices else "Off: the run ends here."
    fields: dict[str, Any] = {"approve": (bool, Field(description=f"On: go on. {off}"))}
    if question.choices:
        fields["choice"] = (Literal[question.choices], Field(title="Choice"))
    fields["note"] = (str, Field(default="", title="Note, kept with the project"))
    form: type[RunInput] = create_model("Decision", __base__=RunInput, **fields)
    return form


def _asked(run: FlowRun, question: Question, timeout_seconds: int) -> Answer:
    text = f"**{escaped(question.title)}**\n\n{question.text}\n"
    artifact = create_markdown_artifact(text, key=key_of("question", question.key))
    page = f"[Show this question on a page of its own](/artifacts/artifact/{artifact})"
    form = form_of(question).with_initial_data(description=f"{page}\n\n{text}")
    key = open_key(run, f"{question.key}-{question.digest}")
    logger.info(
        "%s It waits for a person: deft approve %s, or the Resume button of the run in the UI, or "
        "POST /api/flow_runs/%s/resume",
        question.title if question.title.endswith("?") else f"{question.title}.",
        run.name,
        run.id,
    )
    late = f"{question.title}: nobody answered within {timeout_seconds} s; start it again, it goes on there"
    empty = f"{question.title}: resumed without an answer; start it again"
    given = answer_or_fail(run, form, key, timeout_seconds, late=late, empty=empty)
    return Answer.model_validate(given.model_dump(include={"approve", "choice", "note"}))


def _summary(run: Run) -> Finetuned:
    config = run.config
    tuned, before = primary_metric(run.project / EVALUATED), baseline_of(run.project, config)
    pushed = None if config.get("push_to_hub") is False else read_pushed(run.project)
    done = Finetuned(
        project=run.project,
        metric=tuned.name,
        baseline=before.value if before else None,
        value=tuned.value,
        gained=tuned.value - before.value if before else None,
        hub_url=pushed.url if pushed else None,
        wandb_url=wandb_url(run.project),
        samples=run.project / SAMPLES,
        recipe=recipe_file(run.project, config),
    )
    change = "" if before is None else f"{before.value:.4f} -> "
    line = f"{done.metric} {change}{done.value:.4f}"
    run.progress.finish("delivered", line, {"Hub": done.hub_url, "Recipe": done.recipe})
    links = [one for one in (done.wandb_url, done.hub_url) if one]
    logger.info("%s", "; ".join([line, *links, str(done.samples), str(done.recipe)]))
    return done
