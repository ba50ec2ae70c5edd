"""Section 4: the data sets, what they share, and whether a run can use them."""

from __future__ import annotations

import itertools
from collections import Counter

from tasks.errors import DeftError, InputError
from tasks.preflight.hardware import GIB, MIB, memory_bytes
from tasks.preflight.host import writable
from tasks.preflight.look import Look
from tasks.preflight.registry import Answer, answer, check, worst
from tasks.preflight.sets import KPI, PAIRS, POOL, SPLITS, TRAINING, VALIDATION
from tasks.preflight.subject import Outcome

FLOAT_BYTES = 4
PREFETCHED = 2
CACHE_SHARE = 0.3
"""Of the memory: up to so much the native engine keeps decoded images."""
VIT_BATCHES = ((30_000, 8), (60_000, 16))
"""Up to so many MiB of GPU memory: the batch of a ViT-B at 224 pixels that fits (spec container-run 7)."""


@check("data.files", 4)
def files(look: Look) -> Answer:
    """Where the files of every set lie."""
    try:
        found = {name: path for name, path in look.sets.places().items() if name != "workspace"}
    except InputError as error:
        return answer("block", str(error))
    lacking = [f"{name} {path}" for name, path in found.items() if not path.exists()]
    rows = list(found.items())
    if lacking:
        return answer("block", f"not there: {', '.join(lacking)}", rows)
    return answer("ok", "files of the task", rows)


@check("data.spec", 4)
def spec(look: Look) -> Answer:
    """Whether the trainer's schema takes the base spec, and what it says."""
    try:
        found = look.sets.model
    except InputError as error:
        return answer("block", str(error))
    rows = [
        ("backbone", found.name),
        ("epochs", found.num_epochs),
        ("batch size", found.batch_size),
        ("image size", f"{found.image_size[0]} x {found.image_size[1]}"),
        *found.rows,
    ]
    return answer("ok", "the trainer's schema takes the base spec", rows)


@check("data.sets", 4)
def sets(look: Look) -> Answer:
    """Rows and labels of every set."""
    rows: list[tuple[object, ...]] = []
    problems, repaired = [], []
    try:
        names = look.sets.names
    except InputError as error:
        return answer("block", str(error))
    for name in names:
        try:
            labels = Counter(label or "(no label)" for label in look.sets.labels(name))
        except DeftError as error:
            problems.append(str(error))
            continue
        counts = ", ".join(f"{label} {count}" for label, count in labels.most_common())
        rows.append((name, labels.total(), counts))
        if count := look.sets.repaired(name):
            repaired.append(f"{count} of the {name}")
    rows += [(name, 0, "none") for name in (POOL, PAIRS) if name not in names]
    columns = ("Set", "Rows", "Labels")
    if problems:
        return answer("block", "; ".join(problems), rows, columns)
    if repaired:
        text = f"labels are read otherwise than they are written in rows: {', '.join(repaired)}"
        return answer("warn", text, rows, columns)
    return answer("ok", "rows and labels", rows, columns)


@check("data.kpi_labels", 4)
def kpi_labels(look: Look) -> Answer:
    """How the labels of the KPI set are distributed."""
    labels = look.sets.labels(KPI)
    rows = [(label, n, f"{100 * n / len(labels):.1f} %") for label, n in Counter(labels).most_common()]
    return answer("ok", "KPI label distribution", rows, ("Label", "Rows", "Share"))


@check("data.classes", 4)
def classes(look: Look) -> Answer:
    """Both classes in every set: training, FAR on the validation set and the KPI need them."""
    problems = [problem for name in SPLITS if (problem := look.sets.class_problem(name))]
    if problems:
        return answer("block", "; ".join(problems))
    return answer("ok", f"{', '.join(SPLITS)} can be trained on and measured")


@check("data.images", 4)
def images(look: Look) -> Answer:
    """Every image of training, validation and KPI set."""
    missing = {name: look.sets.missing(name) for name in SPLITS}
    rows = [(name, len(look.sets.images(name)), len(missing[name])) for name in SPLITS]
    columns = ("Set", "Image files named", "Missing")
    lacking = [f"{len(found)} of the {name}, first {found[0]}" for name, found in missing.items() if found]
    if lacking:
        return answer("block", f"images are missing: {'; '.join(lacking)}", rows, columns)
    return answer("ok", "every image is there", rows, columns)


@check("data.pool", 4)
def pool(look: Look) -> Answer:
    """Whether mining can resolve the pool, and whether finished pairs belong together by base name."""
    outcome, text = look.sets.pool_problem()
    return answer(outcome, text, [("pool and pairs", text)] if outcome == "ok" else [])


@check("data.leakage", 4)
def leakage(look: Look) -> Answer:
    """Training, validation and KPI set must share no image."""
    leaks = [look.sets.leak(left, right) for left, right in itertools.combinations(SPLITS, 2)]
    rows = [(f"{leak.left} / {leak.right}", leak.rows) for leak in leaks]
    samples = [sample for leak in leaks for sample in leak.samples]
    columns = ("Leakage between", "Shared images")
    if samples:
        return answer(
            "block", f"leakage: {'; '.join(samples)}; remove them from one of the two", rows, columns
        )
    return answer("ok", "leakage is 0 for every pair", rows, columns)


@check("data.pool_leakage", 4)
def pool_leakage(look: Look) -> Answer:
    """What could be mined or is generated, against validation and KPI set."""
    present = [name for name in (POOL, PAIRS) if name in look.sets.names]
    if not present:
        return answer("not_applicable", "no pool and no pregenerated pairs")
    leaks = [look.sets.leak(left, right) for left in present for right in (VALIDATION, KPI)]
    rows = [(f"{leak.left} / {leak.right}", leak.rows) for leak in leaks]
    samples = [sample for leak in leaks for sample in leak.samples]
    columns = ("Leakage between", "Shared images")
    if samples:
        refuses = look.sets.refuses_pool_leaks
        text = "the loop does not begin" if refuses else "the loop stops as soon as one is to be trained on"
        text = f"{text}: {'; '.join(samples)}; remove them from the pool"
        return answer("block" if refuses else "warn", text, rows, columns)
    return answer("ok", "the pool is apart from validation and KPI set", rows, columns)


@check("data.paths", 4)
def paths(look: Look) -> Answer:
    """Absolute paths, results that can be written (nothing is tried), no blanks where an image re-splits."""
    given = {"given workspace": look.subject.workspace, **look.sets.places()}
    results = {
        f"results of {phase}": getattr(look.subject, phase).results_dir for phase in look.subject.phases
    }
    problems = [
        f"{name} {path} is not absolute"
        for name, path in {**given, **results}.items()
        if not path.is_absolute()
    ]
    problems += [
        f"{name} {path} cannot be written" for name, path in results.items() if not writable(path.absolute())
    ]
    if look.subject.starts_images:
        problems += [
            f"{name} {path} has a blank" for name, path in {**given, **results}.items() if " " in str(path)
        ]
    root = look.sets.places()["workspace"].resolve()
    apart = sorted({str(path) for path in given.values() if not path.resolve().is_relative_to(root)})
    rows: list[tuple[str, object]] = list(results.items())
    rows += [("mounted beside the workspace", path) for path in apart]
    if problems:
        return answer("block", "; ".join(problems), rows)
    return answer("ok", "paths are absolute, results can be written", rows)


@check("data.backbone", 4)
def backbone(look: Look) -> Answer:
    """The weights that a new model starts from."""
    found = look.sets.backbone(offline=look.network.offline, in_image=look.in_nvidia_image)
    return answer(
        found.outcome, f"backbone {found.where}: {found.status}", [("backbone weights", found.status)]
    )


@check("data.memory", 4)
def memory(look: Look) -> Answer:
    """An upper estimate of decoded images in memory, against all the memory there is."""
    model = look.sets.model
    kept = [name for name in (TRAINING, VALIDATION, POOL) if name in look.sets.names]
    loop = look.subject.loop.settings if look.subject.loop else {}
    made = int(loop.get("max_iterations") or 0) * int(loop.get("num_sdg") or 0)
    rows_at_most = made + sum(len(look.sets.labels(name)) for name in kept)
    image = 3 * model.image_size[0] * model.image_size[1]
    cached = rows_at_most * model.images_per_row * image
    batches = PREFETCHED * model.workers * model.batch_size * model.images_per_row * image * FLOAT_BYTES
    total = memory_bytes()
    rows = [
        ("decoded images at most", f"{_size(cached)} (training, validation and the whole pool)"),
        ("batches ahead", _size(batches)),
        ("memory of the host", _size(total)),
    ]
    if 2 * batches > total:
        return answer("block", "two of these prefetches do not fit into memory; lower the batch size", rows)
    if cached > CACHE_SHARE * total:
        return answer("warn", "decoded images may not be kept in memory; each batch decodes its own", rows)
    return answer("ok", "decoded images fit into memory", rows)


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


@check("data.batch", 4)
def batch(look: Look) -> Answer:
    """The batch size against the rows and the GPU."""
    model, count = look.sets.model, len(look.sets.labels(TRAINING))
    said: list[tuple[Outcome, str]] = []
    if model.batch_size > count:
        said.append(("warn", f"batch size {model.batch_size} is above the {count} training rows"))
    if min(model.image_size) >= 224 and ("vit" in model.name or "radio" in model.name) and look.gpus:
        memory_mib = min(one.memory_mib for one in look.gpus)
        fits = next((most for limit, most in VIT_BATCHES if memory_mib <= limit), None)
        if fits and model.batch_size > fits:
            said.append(
                ("warn", f"batch size {model.batch_size}: {memory_mib} MiB of GPU memory hold {fits}")
            )
    text = "; ".join(line for _, line in said) or f"batch size {model.batch_size}, {count} training rows"
    return answer(worst(outcome for outcome, _ in said), text)
