"""The six steps of a fine-tuning; each leaves files in the project, which its gate looks at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tasks.artifacts import now, read_json, write_json
from tasks.errors import DeftError, InputError, StageFailed
from tasks.huggingface import compat, hardware, images, preflight, research
from tasks.huggingface.asking import Question, chosen, times_asked
from tasks.huggingface.credentials import needed, require
from tasks.huggingface.executing import commands_here, done_once, note_done, run_recovering
from tasks.huggingface.gates import SMOKE, Step
from tasks.huggingface.hub import ModelPage, client_errors, look_up
from tasks.huggingface.kinds import TASKS
from tasks.huggingface.models import Qualification, qualify
from tasks.huggingface.owners import owner_of
from tasks.huggingface.probe import DatasetProbe, probe_dataset
from tasks.huggingface.project.render import render_project
from tasks.huggingface.push import explained, push
from tasks.huggingface.recipe import write_recipe
from tasks.huggingface.recommendations import QUICK_CHECK, advised_rows, offer, recommended, with_access
from tasks.huggingface.research_page import write_research
from tasks.huggingface.results import HARDWARE, IMAGE, RECIPE, commands_done
from tasks.huggingface.run import Run
from tasks.huggingface.settings import LANGUAGE, FinetuneSettings
from tasks.huggingface.smoke import read_history, smoke_verdict
from tasks.reports.markdown import table

logger = logging.getLogger("deft")
progress = logging.getLogger("deft.progress")

MODEL = Path("meta") / "model.json"
DATASET = Path("meta") / "dataset.json"
OWN_DATA = "my own dataset"
LOOK_AGAIN = "installed: look again"
ON_THE_CPU = "train on the CPU"


def qualify_step(run: Run) -> None:
    """Step 1: is the model ours to train, which task, which data, which workarounds.

    Raises:
        InputError: the model or the dataset cannot be used; the message gives the reason.
        DeftError: another flow owns the model, the hub does not answer, or a person said no.
    """
    settings = run.settings
    owner = owner_of(settings.model_id)
    if owner:
        raise DeftError(f"{settings.model_id} is trained by the flow {owner}; start that one")
    page = look_up(settings.model_id)
    found = _task_chosen(run, page)
    if settings.source == "recommend":
        run = _dataset_chosen(run, str(found.task))
        settings = run.settings
    gated = (settings.model_id,) if page.gated else ()
    require(needed(push_to_hub=settings.push_to_hub, wandb=run.wandb == "online", gated=gated))
    probe = probe_dataset(settings.model_copy(update={"task_type": found.task}), asked=run.asked)
    values = _columns_checked(run, probe, str(found.task))
    situation = compat.Situation(
        config=found.config,
        task=str(found.task),
        training_method=settings.training_method,
        processor=page.processor,
        repo_files=page.files,
    )
    records = compat.walk(situation, settings.skip_workarounds)
    facts = {**found.facts, "signal": found.signal, "config": found.config, "page": asdict(page)}
    write_json(run.project / MODEL, facts)
    write_json(run.project / DATASET, probe.model_dump(mode="json"))
    config = {
        "model_id": settings.model_id,
        "model_short_name": settings.short_name,
        "task": found.task,
        "auto_model_class": found.auto_model_class,
        "dataset_id": settings.dataset_id,
        "dataset_config_name": settings.dataset_config_name,
        "local_dataset_path": str(settings.local_dataset_path) if settings.local_dataset_path else None,
        "local_dataset_format": probe.format,
        "project_dir": str(run.project),
        "hf_model_repo": _repository(settings),
        "applicable_workarounds": records,
        "notes": [*page.notes, *found.notes],
        **run.asked,
        **values,
    }
    run.write_config(config)
    run.progress.say("discover", f"{settings.model_id}: {found.task}, by {found.signal}")


def _task_chosen(run: Run, page: ModelPage) -> Qualification:
    settings = run.settings
    found = qualify(page, task_type=settings.task_type, training_method=settings.training_method)
    if found.task:
        return found
    question = Question(
        key="task",
        title=f"Which task is {page.model_id} trained for?",
        text=f"Its files leave open which of these it is ({found.signal}).",
        choices=found.choices,
    )
    answer = run.approved(question)
    return qualify(page, task_type=answer.choice, training_method=settings.training_method)


def _dataset_chosen(run: Run, task: str) -> Run:
    """The run with the recommended data set that a person chose, and what that one needs."""
    picks = with_access(recommended(task, run.settings.training_method))
    if not picks:
        raise InputError(f"no dataset is named, and none is recommended for {task}; give one")
    question = Question(
        key="dataset",
        title="Which dataset?",
        text=offer(picks),
        choices=(*(one.id for one in picks), OWN_DATA),
    )
    choice = run.approved(question).choice
    if choice == OWN_DATA:
        raise DeftError("start again with dataset_id or local_dataset_path")
    pick = next(one for one in picks if one.id == choice)
    return replace(run, settings=pick.chosen(run.settings), overrides={**pick.config, **run.overrides})


def _columns_checked(run: Run, probe: DatasetProbe, task: str) -> dict[str, Any]:
    """What the config says about the data: what the person gave, and what was found beside it."""
    from tasks.huggingface.project.files.data_rows import mapping_of

    asked = run.asked
    mapping = mapping_of(asked | {"task": task})
    check = probe.check(task, run.settings.training_method, mapping, asked.get("reward_functions"))
    if not check.fits:
        raise InputError(
            f"{'; '.join(check.problems)}; restructure the dataset, or give overrides.column_mapping"
        )
    for note in check.notes:
        logger.warning("%s", note)
    known = probe.counts_classes(check) or asked.get("label_names") or asked.get("num_labels")
    if TASKS[task].family == "cv" and task != "depth-estimation" and not known:
        raise InputError(f"{probe.name} does not name its classes: give overrides.label_names or num_labels")
    values = probe.config_values(check)
    return values | {name: asked[name] for name in values if name in asked and name != "column_mapping"}


def _repository(settings: FinetuneSettings) -> str | None:
    """Where to push: as stated, else below the name of the token's owner."""
    if not settings.push_to_hub or settings.hf_model_repo:
        return settings.push_target(None)
    from huggingface_hub import HfApi

    try:
        user = str(HfApi().whoami()["name"])
    except client_errors() as error:
        raise InputError(
            f"hf_model_repo is unset and the hub does not say who you are: {explained(error)}; set "
            "hf_model_repo, or push_to_hub: false"
        ) from error
    return settings.push_target(user)


def audit_step(run: Run) -> None:
    """Step 2: the hardware, the image, whether the model fits, and the rules on hardware and versions.

    Raises:
        DeftError: something is missing and the person who was asked said no.
        StageFailed: no image runs on this driver.
    """
    place: Any = run.runner.name
    minimum = hardware.minimum_of(run.settings.min_driver, run.settings.min_disk_gb)
    while True:
        gpus = run.runner.gpus and not chosen(run.project, "install", ON_THE_CPU)
        found = hardware.audit(run.project, place, minimum, probe=place == "docker", gpus=gpus)
        for line in (*found.missing, *found.warnings):
            logger.warning("%s", line)
        if not found.missing:
            break
        run.approved(_install_question(run.project, found), once=False)
    choice = _image_chosen(run, found)
    config, model = run.config, read_json(run.project / MODEL)
    fit = _fit(found, model, bool(config.get("use_lora")))
    lora = _lora_chosen(run, fit, config)
    page = model["page"]
    situation = compat.Situation(
        config=model["config"],
        task=config["task"],
        training_method=config["training_method"],
        versions=compat.versions_here()
        if place == "process"
        else compat.versions_when_built(choice.pytorch_version),
        processor=page["processor"],
        repo_files=page["files"],
        run=config,
        hardware=choice.hardware if place == "docker" else {},
    )
    records = compat.walk(situation, run.settings.skip_workarounds)
    facts = {key: found.record[key] for key in ("gpu_count", "gpu_name", "driver_major", "vram_gb_per_gpu")}
    values = config | facts | {"ngc_image": choice.image, "use_lora": lora}
    own = {one.id for one in compat.workarounds() if one.needs_hardware}  # of an earlier walk of this step
    before = [one for one in config["applicable_workarounds"] if one["id"] not in own]
    values["applicable_workarounds"] = [*before, *records]
    values["notes"] = list(dict.fromkeys([*(config.get("notes") or []), *choice.notes]))
    values = run.write_config(_with_lora_defaults(compat.overridden(values, records), config))
    record = {
        **found.record,
        **asdict(choice),
        "place": place,
        "attn_implementation": values["attn_implementation"] or "sdpa",
        "lora": lora,
        "lora_recommended": fit.lora_recommended,
        "hw_rules_walked": True,
    }
    write_json(run.project / HARDWARE, record)
    run.progress.say("discover", f"{facts['gpu_count']}x {facts['gpu_name']}, image {choice.image}")


def _image_chosen(run: Run, found: hardware.Audit) -> images.Choice:
    """The image that the person names in `overrides.ngc_image`, else the newest that runs on this driver.

    Processes use none: for them, a driver that is too old for all leaves the default.
    """
    matrix = images.read_matrix(run.pages)
    stated = run.asked.get("ngc_image")
    if stated:
        return images.stated_image(matrix, str(stated))
    try:
        return images.select_image(matrix, found.driver_major, found.cuda_version)
    except StageFailed:
        if run.runner.name == "docker":
            raise
        return images.select_image(matrix, None, None)


def _install_question(project: Path, found: hardware.Audit) -> Question:
    """Asked anew after each look, or an old answer would be taken for the new one."""
    lines = "\n".join(f"- {one}" for one in found.missing)
    names = ", ".join(line.split(":")[0] for line in found.missing)
    can_do_without = found.checks["docker"].startswith("ok")
    title = f"The host lacks what containers with a GPU need: {names}"
    text = f"{lines}\n\nInstall it, then approve: the host is looked at again. Reject: the run ends."
    if can_do_without:
        title += " (gpus: none does without)"
        text += f" Or take `{ON_THE_CPU}`: containers get no GPU."
    return Question(
        key=f"install-{times_asked(project, 'install') + 1}",
        title=title,
        text=text,
        choices=(LOOK_AGAIN, ON_THE_CPU) if can_do_without else (),
    )


def _fit(found: hardware.Audit, model: dict[str, Any], lora: bool) -> hardware.Fit:
    """Whether the model fits; what is advised on that, and on how many rows pay off, is logged."""
    parameters, memory = model.get("parameters"), float(str(found.record["vram_gb_per_gpu"]))
    fit = hardware.fit(parameters, memory, len(found.gpus), use_lora=lora)
    for line in fit.advice:
        logger.info("%s", line)
    if parameters and (rows := advised_rows(parameters, memory)):
        line = "n_train %d to %s pays off here; n_train %d, n_eval %d for a quick check"
        logger.info(line, rows[0], rows[1] or "any", *QUICK_CHECK)
    return fit


def _lora_chosen(run: Run, fit: hardware.Fit, config: dict[str, Any]) -> bool:
    """Whether LoRA is used: as planned, unless the model does not fit and a person wants LoRA instead."""
    lora = bool(config.get("use_lora"))
    can = config["task"] in LANGUAGE
    if not fit.lora_recommended or lora or not can:
        return lora
    question = Question(
        key="lora",
        title="The model is large for this GPU: train all of it, or LoRA?",
        text="\n".join(f"- {line}" for line in fit.advice),
        choices=("all weights", "LoRA"),
        unattended="all weights",
    )
    return run.approved(question).choice == "LoRA"


def _with_lora_defaults(values: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Where LoRA was switched on just now, its empty settings make room for their defaults."""
    if not values["use_lora"] or before.get("use_lora"):
        return values
    return {key: value for key, value in values.items() if not (key.startswith("lora_") and value is None)}


def research_step(run: Run) -> None:
    """Step 3: the recipe, slot by slot, from live pages or with a logged fallback."""
    model, config = read_json(run.project / MODEL), run.config
    page = ModelPage(**model["page"])
    recipe = research.research(
        replace(page, files=tuple(page.files), tags=tuple(page.tags), notes=tuple(page.notes)),
        config["task"],
        run.pages,
        config["training_method"],
    )
    write_research(run.project, recipe)
    kept = {key for key, value in run.asked.items() if value is not None}
    if config["attn_implementation"]:  # a rule or the image set it
        kept.add("attn_implementation")
    if "lora_r" in kept:
        kept.add("lora_alpha")  # a page's goes with the page's rank
    values = {
        key: value
        for key, value in research.config_values(recipe).items()
        if key not in kept and (config["use_lora"] or not key.startswith("lora_"))
    }
    run.write_config(
        config
        | values
        | {
            "research_sources": recipe["research_sources"],
            "notes": [*(config.get("notes") or []), *recipe["notes"]],
        }
    )
    run.progress.say("discover", f"recipe from {len(recipe['research_sources'])} pages")


def project_step(run: Run) -> None:
    """Step 4: the project's files, its image, data, one step of training, unit tests, and the preflight box.

    Raises:
        StageFailed: a command failed and no remedy helped, or the smoke test did not pass.
    """
    again = "render" in commands_done(run.project)  # what a person mended in the files stays
    if render_project(run.config, run.project, only_missing=again):
        note_done(run.project, "render")
        run.progress.say("script", "files of the project written")
    run.runner.prepare(run.project, run.config)
    write_json(run.project / IMAGE, {"place": run.runner.name, "at": now()})
    done_once(run, "prepare")
    run.progress.say("data", "data/train and data/eval written")
    outcome = run_recovering(run, "smoke")
    config = run.config
    history = read_history(run.project / "checkpoints" / "smoke")
    verdict = smoke_verdict(outcome.status, history, method=config["training_method"])
    write_json(run.project / SMOKE, verdict.model_dump())
    if not verdict.passed:
        raise StageFailed(f"smoke test {verdict.line()}; see {outcome.log}")
    done_once(run, "tests")
    recipe = read_json(run.project / RECIPE)
    mapping = config.get("column_mapping") or {}
    columns = [
        mapping.get(name, name) for name in read_json(run.project / DATASET)["columns"] if "." not in name
    ]
    fields = preflight.preflight(config, columns, str(recipe["reference"]), verdict, place=run.runner.name)
    preflight.write_preflight(run.project, fields)
    text = preflight.box(fields)
    progress.info("\n%s", text)
    run.show("preflight", table(["Field", "Value"], list(fields.items())))
    run.progress.say("script", f"smoke test {verdict.line()}")


def training_step(run: Run) -> None:
    """Step 5: baseline, training, merge, evaluation, samples, report; none is done twice.

    Unless a person mends the data settings where one fails: then those before it are done again, too.
    """
    done_once(run, "prepare")
    done_once(run, "baseline")
    done_once(run, "train")
    run.progress.say("train", "checkpoints/final written")
    done_once(run, "merge")
    done_once(run, "evaluate")
    done_once(run, "infer")
    done_once(run, "report")
    if commands_here(run).keys() - commands_done(run.project) - {"smoke", "tests"}:
        training_step(run)
        return
    run.progress.say("train", "evaluated")


def delivery_step(run: Run) -> None:
    """Step 6: the push to the hub, unless it is off, and the re-run recipe."""
    config, done = run.config, "re-run recipe written"
    if config.get("push_to_hub") is not False:
        done = f"pushed to {push(run.project, config).url}, {done}"
    hardware_record = read_json(run.project / HARDWARE)
    seconds = commands_done(run.project).get("train", {}).get("seconds", 0)
    facts = {"minutes": seconds / 60, "driver_version": hardware_record.get("driver_version")}
    write_recipe(run.project, config, facts)
    run.progress.say("deliver", done)


STEPS: dict[Step, Callable[[Run], None]] = {
    1: qualify_step,
    2: audit_step,
    3: research_step,
    4: project_step,
    5: training_step,
    6: delivery_step,
}
