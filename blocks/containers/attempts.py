"""One call in containers: adopted or started, judged, and tried again where its class allows it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from docker.errors import NotFound  # type: ignore[import-untyped]
from docker.utils import parse_bytes  # type: ignore[import-untyped]

from blocks.containers import airgap, drift, engine, plan, secrets
from blocks.containers.daemon import DOCKER_ERRORS, message_of
from blocks.containers.habits import Image
from blocks.containers.jobs import Job, attempt_log
from blocks.containers.log import Log
from blocks.containers.outcome import Ended, Kind, Verdict, judged, trouble
from blocks.containers.plan import LOG_LABEL, STAGE_LABEL, Launcher, Variant
from blocks.containers.settings import ContainerSettings, Identity
from blocks.runtime import ActionOutcome, ActionRequest
from blocks.versions import ANOMALYGEN

logger = logging.getLogger("deft")

NEXT_IDENTITY: dict[Identity, Identity] = {"env": "passwd", "passwd": "root_chown"}


@dataclass
class Call:
    """A request, where and how it runs.

    Attributes:
        client: of the Docker daemon.
        image: the one that answers.
        credentials: variables with secrets; never in the log, the record or an air-gapped container.
        labels: of the container, beside its key.
        schemas: folder where command-line schemas of images are kept.
    """

    client: Any
    request: ActionRequest
    settings: ContainerSettings
    image: Image
    launcher: Launcher
    schemas: Path
    credentials: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> ActionOutcome:
        """Run it to its end.

        Raises:
            ValueError: it is refused, or the image cannot do what the spec asks for; nothing was started.
        """
        plan.check(self.request, self.settings, self.image, self.launcher)
        if any(value in word for word in self.request.argv for value in self._hidden()):
            raise ValueError("the command line carries one of the credentials; take it out")
        left = engine.left_over(self.client, self.name)
        make_results(self.request, plan.user_of(self.settings, self.launcher), self.launcher)
        variant = Variant.first(self.request, self.settings, self.image)
        if left is None:
            variant = self._understood(variant)
        earlier: list[Kind] = []
        while True:
            ended, verdict = self._attempt(variant, earlier, left)
            changed = self._changed(variant, verdict.kind) if ended and verdict.kind not in earlier else None
            if changed is None:
                return ActionOutcome(
                    exit_status=verdict.exit_status,
                    error=verdict.error,
                    seconds=ended.seconds if ended else 0.0,
                    adopted=left is not None,
                )
            earlier.append(verdict.kind)
            self.request.log_file.replace(attempt_log(self.request.log_file, len(earlier)))
            logger.warning("%s; trying once more", verdict.error)
            variant, left = changed, None

    @cached_property
    def name(self) -> str:
        """The container's name."""
        return plan.name_of(self.request, self.image)

    def _attempt(
        self, variant: Variant, earlier: list[Kind], left: Any | None
    ) -> tuple[Ended | None, Verdict]:
        """Run the container once, or go on with the one that was left; Docker may refuse to."""
        arguments = self._arguments(variant)
        job = Job.of(self.name, self.image, arguments, self.request.log_file)
        job.attempt, job.earlier = len(earlier) + 1, list(earlier)
        job.write()
        ended: Ended | None = None
        try:
            ended = self._followed(job, arguments, left)
            verdict = judged(ended, self.request.log_file.read_text(encoding="utf-8"), self.image)
        except NotFound as error:
            verdict = Verdict("UNKNOWN", 1, f"container {self.name} is gone: {error.explanation}")
        except DOCKER_ERRORS as error:
            verdict = trouble(message_of(error))
        except BaseException as error:
            job.over("UNKNOWN" if isinstance(error, Exception) else "CANCELED", None, type(error).__name__)
            raise
        finally:
            if variant.identity == "root_chown":
                self._give_results_back()
        verdict = replace(verdict, error=verdict.error + self._facts(verdict.kind))
        job.over(verdict.kind, ended.exit_code if ended else None, verdict.error)
        return ended, verdict

    def _followed(self, job: Job, arguments: Mapping[str, Any], left: Any | None) -> Ended:
        if left is None:
            own = {STAGE_LABEL: f"{self.request.category} {self.request.argv[0]}", LOG_LABEL: str(job.log)}
            container = engine.started(self.client, self.name, arguments, {**own, **self.labels})
        else:
            container = left
            logger.warning("container %s of an interrupted run is %s: adopted", self.name, left.status)
        with (
            engine.watched(container, self.settings.stop_grace_seconds) as running,
            Log(self.request.log_file, self._hidden()) as log,
        ):
            job.begun(container.id)
            limit = self.settings.time_limit_minutes
            return running.follow(log, None if limit is None else limit * 60)

    def _arguments(self, variant: Variant) -> dict[str, Any]:
        return plan.container_of(
            self.request, self.settings, self.image, self.launcher, variant, self.credentials
        )

    def _hidden(self) -> list[str]:
        own = [value for name, value in self.settings.environment.items() if secrets.is_secret_name(name)]
        return [value for value in (*self.credentials.values(), *own) if value]

    def _changed(self, variant: Variant, kind: Kind) -> Variant | None:
        """What to try after an end of that kind; None where trying again cannot help."""
        if kind == "IDENTITY":
            identity = NEXT_IDENTITY.get(variant.identity)
            may = identity != "root_chown" or self.settings.allow_root
            return replace(variant, identity=identity) if identity and may else None
        if kind == "SHM":
            return replace(variant, shm_size=str(2 * parse_bytes(variant.shm_size)), ipc_host=False)
        if kind == "KILLED":
            return variant
        if kind == "CLI_DRIFT" and not self.image.is_native:
            return self._understood(variant, ask_again=True)
        return None

    def _understood(self, variant: Variant, ask_again: bool = False) -> Variant:
        """The command line and a spec file as this image of NVIDIA's knows them."""
        file = plan.spec_file(self.request.argv)
        if self.image.is_native or self.image.key == ANOMALYGEN or file is None:
            return variant
        spec = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        schema = self._schema(variant, spec, ask_again)
        adapted = file.with_name(f"{file.stem}.image{file.suffix}")
        argv = [str(adapted) if word == str(file) else word for word in self.request.argv]
        argv, spec = drift.adapted(argv, spec, schema)
        adapted.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
        if self.image.habits.splits_words:
            (file.parent / "experiment_specs").mkdir(exist_ok=True)  # some builds look for it
        if self.launcher.offline:
            airgap.check_command([self.request.category, *argv], self.settings.environment)
        return replace(variant, argv=tuple(argv))

    def _schema(self, variant: Variant, spec: Mapping[str, Any], ask_again: bool) -> drift.Schema:
        """What the image answers to, asked once per image and action."""
        category, action = self.request.category, self.request.argv[0]
        known = None if ask_again else drift.kept(self.schemas, self.image.id, category, action)
        if known:
            return known
        try:
            with tempfile.TemporaryDirectory(prefix=".probe-", dir=self.request.log_file.parent) as folder:
                Path(folder).chmod(0o755)
                schema = drift.probe(self._asked(variant), category, action, drift.stub_in(Path(folder)))
        except ValueError as error:
            logger.warning("%s: %s; its command line goes as it is", self.image.uri, error)
            keys = {key: value for key, value in spec.items() if key not in drift.OURS}
            return drift.Schema(spec_flag="required", keys=keys)
        drift.keep(self.schemas, self.image.id, category, action, schema)
        return schema

    def _asked(self, variant: Variant) -> Callable[[list[str]], tuple[int, str]]:
        def asked(argv: list[str]) -> tuple[int, str]:
            arguments = {**self._arguments(variant), "command": argv}
            return engine.ask(self.client, plan.random_name(), arguments)

        return asked

    def _give_results_back(self) -> None:
        """Make the user the owner of what a container left that ran as root."""
        user = plan.user_of(self.settings, self.launcher)
        arguments = {
            **self._arguments(Variant.first(self.request, self.settings, self.image)),
            "entrypoint": ["chown"],
            "command": ["-hR", user, *(str(path) for path in self.request.results if path.exists())],
            "user": "0:0",
            "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
            "device_requests": [],
        }
        try:
            code, said = engine.ask(self.client, plan.random_name(), arguments)
        except DOCKER_ERRORS as error:
            code, said = 1, message_of(error)
        if code:
            logger.warning("the results still belong to root: %s", said.strip())

    def _facts(self, kind: Kind) -> str:
        """What a person wants to know beside the error."""
        folder = result_folders(self.request)[0]
        if kind == "DISK":
            folders = (folder, *engine.data_root(self.client))
            free = {one: shutil.disk_usage(one).free / 1e9 for one in folders if one.is_dir()}
            return "; free: " + ", ".join(f"{size:.1f} GB in {name}" for name, size in free.items())
        if kind == "PERMISSION":
            owner = folder.stat()
            user = plan.user_of(self.settings, self.launcher)
            return f"; the user is {user}, and {folder} belongs to {owner.st_uid}:{owner.st_gid}"
        return ""


def result_folders(request: ActionRequest) -> list[Path]:
    """The outermost folders that a call writes into; a result with a suffix is a file in one."""
    folders = {path.parent if path.suffix and not path.is_dir() else path for path in request.results}
    folders = folders or {request.log_file.parent}
    return sorted(
        one for one in folders if not any(one != other and one.is_relative_to(other) for other in folders)
    )


def make_results(request: ActionRequest, user: str, launcher: Launcher) -> None:
    """Make the folders before Docker would, as root; a launcher that is root gives its own to the user."""
    uid, gid = map(int, user.split(":"))
    folders = result_folders(request)
    for folder in (*folders, request.log_file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    if launcher.uid == 0 and uid != 0:
        inside = (path for result in request.results if result.is_dir() for path in result.rglob("*"))
        for path in {*folders, *request.results, *inside}:
            if os.path.lexists(path) and path.lstat().st_uid == 0:
                os.chown(path, uid, gid, follow_symlinks=False)
