"""Section 2: whether credentials are set. Their values are never read."""

from __future__ import annotations

from tasks.preflight.look import Look
from tasks.preflight.registry import Answer, answer, check
from tasks.preflight.sets import WILL_FETCH


@check("credentials.variables", 2)
def variables(look: Look) -> Answer:
    """SET or UNSET, and which part of the run needs the variable."""
    offline = look.network.offline
    needs = {
        "NGC_KEY": _registry_need(look),
        "HF_TOKEN": _hub_need(look),
        "AWS_ACCESS_KEY_ID": "",
        "WANDB_API_KEY": "",
    }
    rows = [
        (
            name,
            "N/A (offline)" if offline else "SET" if look.subject.environment.get(name) else "UNSET",
            need or "no phase",
        )
        for name, need in needs.items()
    ]
    unset = [name for name, status, need in rows if status == "UNSET" and need != "no phase"]
    columns = ("Variable", "Status", "Needed by")
    if unset:
        return answer(
            "warn", f"{', '.join(unset)} unset: what needs it will fail unless it is public", rows, columns
        )
    return answer("ok", "credentials by presence; values are never read", rows, columns)


def _registry_need(look: Look) -> str:
    if not look.subject.starts_images:
        return ""
    pulled = [image.key for image in look.images if image.registry and not image.image_id]
    return f"pull of {', '.join(pulled)}" if pulled else ""


def _hub_need(look: Look) -> str:
    loop = look.subject.loop
    assets = [*(look.sets.assets(offline=False, in_image=False) if loop else [])]
    assets.append(look.sets.backbone(offline=False, in_image=look.in_nvidia_image))
    fetched = [f"{one.name} {one.where}" for one in assets if one.status == WILL_FETCH]
    return f"{', '.join(fetched)} (if gated)" if fetched else ""


@check("credentials.login", 2)
def login(look: Look) -> Answer:
    """The registries that would be logged in to, after the approval."""
    if not look.subject.starts_images:
        return answer("not_applicable", "the runtime starts no image")
    if look.network.offline:
        return answer("not_applicable", "N/A (offline): no login, no pull")
    hosts = sorted({image.registry for image in look.images if image.registry and not image.image_id})
    plan = ", ".join(hosts) or "none: every image is here or built here"
    return answer("ok", "planned logins", [("registry login after approval", plan)])
