"""People who answer runs that wait, as anybody with an HTTP client can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
from prefect.settings import PREFECT_API_URL


class Server:
    """What a person with an HTTP client sees."""

    def __init__(self) -> None:
        self.http = httpx.Client(base_url=f"{PREFECT_API_URL.value()}/", timeout=30)

    def waiting(
        self, name: str, answered: Collection[str] = (), looks: int = 200
    ) -> tuple[str, dict[str, str]]:
        """The run of this name that waits, and the names of what it shows; not a question answered before."""
        wanted = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}, "name": {"any_": [name]}}}
        for _ in range(looks):
            for run in self.http.post("flow_runs/filter", json=wanted).json():
                keyset = run["state"]["state_details"]["run_input_keyset"]
                there = self.http.get(f"flow_runs/{run['id']}/input/{keyset['description']}")
                if keyset["schema"] not in answered and there.status_code == 200:
                    return run["id"], keyset
            time.sleep(0.1)
        raise AssertionError(f"no run {name} waits")

    def read(self, run_id: str, key: str) -> Any:
        """One of the things that a run shows."""
        return self.http.get(f"flow_runs/{run_id}/input/{key}").json()

    def resume(self, run_id: str, answer: Any) -> dict[str, Any]:
        """Answer a run; a server whose database is busy is asked again."""
        for _ in range(20):
            done = self.http.post(f"flow_runs/{run_id}/resume", json={"run_input": answer})
            if done.status_code != 503:
                break
            time.sleep(0.2)
        return done.json()


@contextmanager
def person(work: Callable[[], None]) -> Iterator[None]:
    """Somebody who does `work` beside the test; what fails there fails here."""
    errors = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
            raise

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not errors


@contextmanager
def answering(name: str, *answers: Any) -> Iterator[SimpleNamespace]:
    """Somebody who gives the one question of a run these answers in turn; what it showed, and the replies."""
    server = Server()
    seen = SimpleNamespace(name=name, http=server.http, schema={}, replies=[])

    def work() -> None:
        if not answers:
            return
        run_id, keyset = server.waiting(name, looks=300)
        seen.schema = server.read(run_id, keyset["schema"])
        seen.replies = [server.resume(run_id, answer)["status"] for answer in answers]

    with person(work):
        yield seen
