"""Which deployments of prefect.yaml go to this site, with which parameters."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deployments.site import Site
from tasks.errors import InputError, listed
from tasks.spec import read_mapping

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
PARAMETERS = HERE / "parameters"
DOCKER = "deft-docker"
STAGES = "deft-stages"
KUBERNETES = "deft-kubernetes"
LOCAL = "deft-local"
VARIABLE = re.compile(r"\{\{\s*\$(\w+)\s*\}\}")


@dataclass(frozen=True)
class Plan:
    """What is to be deployed.

    Attributes:
        site: fills in the variables.
        pools: work pools of this site; deployments of other pools are left out.
        parameters: folder of `<deployment>.yaml` files, whose parameters win over those of `prefect.yaml`.
        source: the file of the deployments.
    """

    site: Site
    pools: tuple[str, ...]
    parameters: Path = PARAMETERS
    source: Path = HERE / "prefect.yaml"

    @cached_property
    def deployments(self) -> list[dict[str, Any]]:
        """The entries, checked.

        Raises:
            InputError: a variable, flow, parameter or parameter file is not known.
        """
        entries = read_mapping(self.source, "deployments")["deployments"]
        chosen = [self._here(entry) for entry in entries]
        found = [entry for entry in chosen if entry["work_pool"]["name"] in self.pools]
        given = self._given({entry["name"] for entry in chosen})
        for entry in found:
            entry["parameters"] = {**entry.get("parameters", {}), **given.get(entry["name"], {})}
            entry["version"] = version("deft-flows")
            self._check(entry)
        return [self._filled(entry, f"deployment {entry['name']}") for entry in found]

    def check(self) -> None:
        """Read everything, so that whatever is wrong shows before anything is made; raises `InputError`."""
        assert self.names

    @cached_property
    def names(self) -> list[str]:
        """The full names, `<flow>/<deployment>`."""
        return [f"{flow_at(entry['entrypoint']).name}/{entry['name']}" for entry in self.deployments]

    def slugs(self, name: str) -> set[str]:
        """Those of the schedules of the deployment with that full name."""
        entry = self.deployments[self.names.index(name)]
        return {schedule["slug"] for schedule in entry.get("schedules", [])}

    def _here(self, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry, on a worker of this machine where that is what the site has."""
        pool = entry["work_pool"]
        if LOCAL not in self.pools or pool["name"] != DOCKER:
            return dict(entry)
        return {**entry, "work_pool": {"name": LOCAL, "job_variables": {"env": pool["job_variables"]["env"]}}}

    def _given(self, names: set[str]) -> dict[str, dict[str, Any]]:
        if not self.parameters.is_dir():
            raise InputError(f"no folder of parameter files {self.parameters}")
        files = {file.stem: file for file in sorted(self.parameters.glob("*.yaml"))}
        if unknown := sorted(set(files) - names):
            raise InputError(
                f"{files[unknown[0]]}: no deployment has that name; there are {listed(sorted(names))}"
            )
        return {name: read_mapping(file, "parameters") for name, file in files.items()}

    def _filled(self, value: Any, where: str) -> Any:
        """The value with `{{ $NAME }}` replaced, as Prefect does it with variables of the environment."""
        if isinstance(value, dict):
            return {key: self._filled(one, where) for key, one in value.items()}
        if isinstance(value, list):
            return [self._filled(one, where) for one in value]
        if not isinstance(value, str):
            return value
        variables = self.site.environment()
        if unset := sorted(set(VARIABLE.findall(value)) - set(variables)):
            raise InputError(f"{where}: no site variable is called {listed(unset)}")
        return VARIABLE.sub(lambda found: variables[found.group(1)], value)

    def _check(self, entry: dict[str, Any]) -> None:
        where = f"deployment {entry['name']}"
        known = flow_at(entry["entrypoint"]).parameters.properties
        if unknown := sorted(set(entry["parameters"]) - set(known)):
            raise InputError(
                f"{where}: its flow has no parameter {listed(unknown)}; it has {listed(list(known))}"
            )


def flow_at(entrypoint: str) -> Any:
    """The flow that an entrypoint `package.module.function` names; raises `InputError` if there is none."""
    module, _, name = entrypoint.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"no flow lies at {entrypoint}: {error}") from error
