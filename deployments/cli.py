"""The command `deft`: the demo, flows by name, sample and imported workspaces, single actions."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel
from typer.core import TyperGroup

from deployments.approve import approve
from deployments.deploy import deploy
from deployments.doctor import doctor
from deployments.export import export
from deployments.image import image
from deployments.report import report
from deployments.trigger import cancel, trigger
from tasks.errors import DeftError, UsageError

app = typer.Typer(
    name="deft",
    help="Flows that make a visual-inspection model better, night after night.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
import_app = typer.Typer(help="Turn a public data set into a workspace.", no_args_is_help=True)
app.add_typer(import_app, name="import")

PREFECT_DEFAULTS = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # our own lines tell the progress
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}


def main() -> None:
    """Entry point of `deft`: exit status 0 done, 1 error, 2 usage, 3 target unreachable, 130 interrupted."""
    prepare_terminal()
    try:
        app()
    except DeftError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    except KeyboardInterrupt:
        print("ERROR: interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise SystemExit(130) from None


def prepare_terminal() -> None:
    """Show the progress of flows as plain lines on standard output; call it before Prefect is imported.

    What an action says in detail stands in the log file of its folder; here only its warnings and epochs.
    """
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    handler.addFilter(
        lambda record: record.name in ("deft.flow", "deft.progress") or record.levelno == logging.WARNING
    )
    logger = logging.getLogger("deft")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)


def show_details() -> None:
    """Show all that is said, for commands that are a single action."""
    for handler in logging.getLogger("deft").handlers:
        handler.filters.clear()


class FlowCommands(TyperGroup):
    """One command per flow, built from the flow's own parameters when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all flows."""
        from flows import FLOWS

        return list(FLOWS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one flow, or none of that name."""
        from flows import FLOWS

        if cmd_name not in FLOWS:
            return None
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(cmd_name)(flow_command(FLOWS[cmd_name]))
        return typer.main.get_command(single)


run_app = typer.Typer(cls=FlowCommands, no_args_is_help=True, help="Run a flow in this process.")
run_app.callback()(lambda: None)
app.add_typer(run_app, name="run")


def flow_command(code_at: str) -> Callable[..., None]:
    """A function for Typer with the parameters, defaults and help texts of the flow at `module:name`."""
    module, name = code_at.split(":")
    flow = getattr(importlib.import_module(module), name)
    types = typing.get_type_hints(flow.fn)

    structured = {key for key, kind in types.items() if _is_structured(kind)}
    described = flow.parameters.properties

    def command(**parameters: Any) -> None:
        values = {
            key: yaml.safe_load(value) if key in structured else value
            for key, value in parameters.items()
            if key not in structured or value is not None
        }
        run_flow(flow, values)

    def option(key: str, parameter: inspect.Parameter) -> inspect.Parameter:
        text = described[key].get("description")
        if key not in structured:
            return parameter.replace(
                kind=inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[types[key], typer.Option(help=text)]
            )
        default = parameter.default if isinstance(parameter.default, str) else None
        return parameter.replace(
            kind=inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[str | None, typer.Option(help=text, metavar="TEXT or YAML")],
        )

    parameters = inspect.signature(flow.fn).parameters
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [option(key, parameter) for key, parameter in parameters.items()]
    )
    command.__doc__ = (inspect.getdoc(flow.fn) or "").split("\n\nArgs:")[0]
    return command


def _is_structured(kind: Any) -> bool:
    """Whether a parameter has fields, so that it is written as YAML on a command line."""
    kinds = [kind, *typing.get_args(kind)]
    return any(
        one is not type(None)
        and (typing.get_origin(one) is dict or (isinstance(one, type) and issubclass(one, BaseModel)))
        for one in kinds
    )


def run_flow(flow: Any, parameters: dict[str, Any]) -> Any:
    """Call a flow; an unusable parameter is one line, not a traceback."""
    from prefect.exceptions import ParameterTypeError

    try:
        return flow(**parameters)
    except ParameterTypeError as error:
        raise DeftError(f"{flow.name}: {' '.join(str(error).split())}") from error


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    options_metavar="<category> <action> [-e spec.yaml] [key=value ...] [--cfg=job]",
)
def action(
    context: typer.Context,
) -> None:
    """Run one action of the native engine, as its console script would."""
    from tasks.registry import CATEGORIES, run_in_process

    if not context.args:
        raise UsageError(f"no category given; choose one of: {', '.join(CATEGORIES)}")
    show_details()
    raise SystemExit(run_in_process(context.args[0], context.args[1:]))


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="new folder for the workspace")],
    seed: Annotated[int, typer.Option(help="another seed gives other boards")] = 0,
) -> None:
    """Render a sample AOI workspace: component crops, golden references, base set, KPI set and pool."""
    from tasks.dataset.sample import write_sample_workspace

    show_details()
    workspace = write_sample_workspace(folder, seed=seed)
    print(f"workspace: {workspace.root}")


@import_app.command()
def deeppcb(
    source: Annotated[Path, typer.Argument(help="folder of the DeepPCB groups")],
    folder: Annotated[Path, typer.Argument(help="new folder for the workspace")],
    crop: Annotated[int, typer.Option(help="width and height of a crop in pixels")] = 64,
    pass_share: Annotated[float, typer.Option(help="share of PASS rows in each set")] = 0.5,
    groups: Annotated[
        list[str] | None,
        typer.Option(help="SET=GROUP[,GROUP]; SET is training, validation, kpi or pool; repeat per set"),
    ] = None,
    limit: Annotated[list[str] | None, typer.Option(help="SET=ROWS, the most rows of a set; repeat")] = None,
    seed: Annotated[int, typer.Option(help="seed of windows and of the dealing of boards")] = 0,
) -> None:
    """Cut the public DeepPCB data set into crops around every defect, with the template as golden."""
    from tasks.dataset.deeppcb import import_deeppcb

    show_details()
    workspace = import_deeppcb(
        source,
        folder,
        crop=crop,
        pass_share=pass_share,
        groups={name: value.split(",") for name, value in _pairs(groups)} or None,
        limits={name: _number(value) for name, value in _pairs(limit)} or None,
        seed=seed,
    )
    print(f"workspace: {workspace.root}")


def _pairs(words: list[str] | None) -> list[tuple[Any, str]]:
    sets = ("training", "validation", "kpi", "pool")
    pairs = [word.split("=", 1) for word in words or []]
    for pair in pairs:
        if len(pair) != 2 or pair[0] not in sets:
            raise UsageError(f"{'='.join(pair)!r} is not SET=VALUE with SET one of {', '.join(sets)}")
    return [(name, value) for name, value in pairs]


def _number(text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"{text!r} is not a number of rows")
    return int(text)


for command in (doctor, image, deploy, trigger, approve, cancel, report, export):
    app.command()(command)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="place of the workspace and its runs")] = Path("deft-demo"),
    seed: Annotated[int, typer.Option(help="seed of the sample boards and of the training")] = 0,
) -> None:
    """Build a sample workspace and run the whole pipeline on it, on a CPU, offline, in minutes."""
    from flows.demo import run_demo

    raise SystemExit(run_demo(folder, seed))
