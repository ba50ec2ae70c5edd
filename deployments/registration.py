"""All that the Prefect server has to know of us: made where it is missing, left alone where it is there.

What a person changed on the server stays, unless it is asked for ours again. Deployments alone always become
what their file says, but a schedule that was paused stays paused.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

import blocks
from deployments.automations import automations
from deployments.plan import KUBERNETES, LOCAL, TEMPLATES, Plan, flow_at
from tasks.errors import DeftError, InputError

if TYPE_CHECKING:
    from prefect.blocks.core import Block
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

GPU_LIMIT = "gpu"
KEPT = "there, with other values: kept, --overwrite takes ours"


@dataclass(frozen=True)
class Registered:
    """One thing on the server: its kind, its name, and what was done about it."""

    kind: str
    name: str
    done: str


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """Prefect's client for PREFECT_API_URL.

    Raises:
        DeftError: there is no such setting, the server cannot be reached, or it does not let us in.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL

    place = PREFECT_API_URL.value()
    if not place:
        raise DeftError(
            "no Prefect server is named, and deployments on one that ends with this command are of no use: "
            "start 'prefect server start' and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    try:
        with get_client(sync_client=True) as client:
            client.hello()
            yield client
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        hint = "set PREFECT_API_AUTH_STRING=user:password" if status == 401 else error.response.text[:300]
        path = error.request.url.path
        raise DeftError(f"Prefect server {place} answers {status} to {path}: {hint}") from error
    except httpx.TransportError as error:
        text = f"Prefect server {place} cannot be reached ({error or type(error).__name__})"
        raise DeftError(f"{text}: start it, or set PREFECT_API_URL") from error


def block_types() -> dict[str, type[Block]]:
    """Every block class of the package `blocks`, by its slug."""
    from prefect.blocks.core import Block

    found: dict[str, type[Block]] = {}
    for module in pkgutil.iter_modules(blocks.__path__, "blocks."):
        for one in vars(importlib.import_module(module.name)).values():
            ours = isinstance(one, type) and issubclass(one, Block) and one.__module__ == module.name
            if ours and one._block_type_slug:  # the interface, Runtime, has none
                found[one.get_block_type_slug()] = one
    return found


def register_blocks() -> Iterator[Registered]:
    """Register the types; Prefect leaves a type that has not changed as it is."""
    for slug, one in sorted(block_types().items()):
        one.register_type_and_schema()
        yield Registered("block type", slug, "registered")


def register_runtime(plan: Plan, overwrite: bool) -> Registered:
    """Save the block of the site's runtime, unless it is there.

    Raises:
        DeftError: a value does not fit the block.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    slug, _, name = plan.site.runtime.partition("/")
    with get_client(sync_client=True) as client:
        try:
            client.read_block_document_by_name(name, slug)
            there = True
        except ObjectNotFound:
            there = False
    if there and not overwrite:
        return Registered("block", plan.site.runtime, "there")
    kind = block_types().get(slug)
    if kind is None:
        raise InputError(
            f"--runtime {plan.site.runtime}: there is no such block, and no type {slug} to make it of"
        )
    try:
        kind(**plan.site.runtime_values()).save(name, overwrite=overwrite)
    except ValueError as error:
        raise DeftError(f"block {plan.site.runtime}: {error}") from error
    return Registered("block", plan.site.runtime, "overwritten" if there else "made")


def register_pool(client: SyncPrefectClient, name: str, overwrite: bool) -> Registered:
    """Make a work pool of its template, unless it is there."""
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    kind, template = _template(name)
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
        return Registered("work pool", name, "made")
    if pool.type != kind:
        raise DeftError(f"work pool {name} is there, with type {pool.type} instead of {kind}: remove it")
    if pool.base_job_template == template:
        return Registered("work pool", name, "there")
    if overwrite:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    return Registered("work pool", name, "overwritten" if overwrite else KEPT)


def _template(pool: str) -> tuple[str, dict[str, Any]]:
    if pool == LOCAL:
        from prefect.workers.process import ProcessWorker

        return "process", ProcessWorker.get_default_base_job_template()
    kind = "kubernetes" if pool == KUBERNETES else "docker"
    template: dict[str, Any] = json.loads((TEMPLATES / f"{kind}.json").read_text(encoding="utf-8"))
    return kind, template


def register_limit(client: SyncPrefectClient, slots: int | None) -> Registered:
    """Make the concurrency limit of GPU stages; a number that is given always counts."""
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
    from prefect.exceptions import ObjectNotFound

    try:
        limit = client.read_global_concurrency_limit_by_name(GPU_LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU_LIMIT, limit=slots or 1))
        return Registered("concurrency limit", GPU_LIMIT, f"made, {slots or 1}")
    if slots in (None, limit.limit):
        return Registered("concurrency limit", GPU_LIMIT, f"there, {limit.limit}")
    client.update_global_concurrency_limit(GPU_LIMIT, GlobalConcurrencyLimitUpdate(limit=slots))
    return Registered("concurrency limit", GPU_LIMIT, f"{slots}, was {limit.limit}")


def register_automations(client: SyncPrefectClient, overwrite: bool) -> Iterator[Registered]:
    """Make the automations, unless they are there; of several with one name the first stays."""
    for ours in automations():
        there = client.read_automations_by_name(ours.name)
        for other in there[1:]:
            client.delete_automation(other.id)
        if not there:
            client.create_automation(ours)
            yield Registered("automation", ours.name, "made")
            continue
        first = there[0]
        if _essence(first) == _essence(ours):
            yield Registered("automation", ours.name, "there" if first.enabled else "there, switched off")
        else:
            if overwrite:
                client.update_automation(first.id, ours)
            yield Registered("automation", ours.name, "overwritten" if overwrite else KEPT)


def _essence(automation: Any) -> Any:
    """What an automation does, without what the server adds."""
    keep = {
        "trigger": {"match", "match_related", "after", "expect", "for_each", "posture", "threshold", "within"}
    }
    return automation.model_dump(mode="json", include={**keep, "actions": True})


def register_deployments(client: SyncPrefectClient, plan: Plan) -> Iterator[Registered]:
    """Make every deployment what its file says, then read it back.

    Raises:
        DeftError: Prefect refuses one, or does not have it afterwards.
    """
    before = {name: _read(client, name) for name in plan.names}
    _check_variables(client, plan)
    for name, deployment in before.items():
        _drop_schedules(client, deployment, plan.slugs(name))
    for entry, old in zip(plan.deployments, before.values(), strict=True):
        _apply(entry, paused=old is not None and old.paused)
    for name, old in before.items():
        new = _read(client, name)
        if new is None:
            raise DeftError(f"deployment {name} is not on the server, though it reported no error: try again")
        times = [f"schedule {one.slug}, {'active' if one.active else 'paused'}" for one in new.schedules]
        done = f"{'up to date' if old else 'made'}{', paused' if new.paused else ''}"
        yield Registered("deployment", name, "; ".join([done, *times]))


def _read(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _check_variables(client: SyncPrefectClient, plan: Plan) -> None:
    """Prefect ignores a job variable that the pool does not know, and the run goes without it."""
    for deployment in plan.deployments:
        pool = deployment["work_pool"]
        variables = client.read_work_pool(pool["name"]).base_job_template.get("variables", {})
        unknown = set(pool["job_variables"]) - set(variables.get("properties", {}))
        if unknown:
            raise InputError(
                f"deployment {deployment['name']}: work pool {pool['name']} has no variable "
                f"{', '.join(sorted(unknown))}: correct it, or take our template with --overwrite"
            )


def _drop_schedules(
    client: SyncPrefectClient, deployment: DeploymentResponse | None, slugs: set[str]
) -> None:
    """Remove schedules that our file no longer has; Prefect would keep them, and start runs twice."""
    for schedule in deployment.schedules if deployment else []:
        if schedule.slug not in slugs:
            assert deployment is not None
            client.delete_deployment_schedule(deployment.id, schedule.id)


def _apply(entry: dict[str, Any], paused: bool) -> None:
    """Make or change one deployment, as `prefect deploy` would, but in this process, and it stays paused."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.deployments.runner import DeploymentApplyError
    from prefect.types.entrypoint import EntrypointType

    limit = entry.get("concurrency_limit")
    schedules = [
        # Without `active`, which would start a schedule again that a person has paused.
        {"slug": one["slug"], "schedule": CronSchedule(cron=one["cron"], timezone=one["timezone"])}
        for one in entry.get("schedules", [])
    ]
    try:
        deployment = flow_at(entry["entrypoint"]).to_deployment(
            entry["name"],
            paused=paused,
            description=entry["description"],
            tags=entry["tags"],
            version=entry["version"],
            parameters=entry["parameters"],
            enforce_parameter_schema=entry["enforce_parameter_schema"],
            concurrency_limit=limit and ConcurrencyLimitConfig(**limit),
            work_pool_name=entry["work_pool"]["name"],
            job_variables=entry["work_pool"]["job_variables"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        deployment.apply(schedules=schedules)
    except (ValueError, DeploymentApplyError) as error:
        raise DeftError(f"deployment {entry['name']}: {' '.join(str(error).split())}") from error
