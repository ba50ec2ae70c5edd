"""Places of a limit that a real Prefect server keeps."""

import time
from threading import Barrier

import pytest
from prefect import flow, task

from blocks import gpu_limit
from blocks.gpu_limit import NoPlaceError, place_on_the_gpu
from tests.blocks.conftest import LIMIT


@task
def held(limit):
    with place_on_the_gpu(limit):
        begun = time.monotonic()
        time.sleep(0.5)
        return begun, time.monotonic()


@flow
def two(limit):
    return sorted(future.result() for future in [held.submit(limit) for _ in range(2)])


def test_two_runs_take_turns_and_give_their_place_back(one_place):
    (_, end), (begun, _) = two(LIMIT)
    assert end < begun
    assert one_place() == 0


def test_who_waits_says_so_once(one_place, monkeypatch, caplog):
    @flow
    def waits():
        with place_on_the_gpu(LIMIT):  # before the patch: a busy server may take its time to give it
            monkeypatch.setattr(gpu_limit, "SILENT_SECONDS", 0.2)
            other, until = held.submit(LIMIT), time.monotonic() + 60
            while not said() and time.monotonic() < until:
                time.sleep(0.05)
        other.result()

    def said():
        return [record.message for record in caplog.records if record.name == "deft"]

    with caplog.at_level("INFO", "deft"):
        waits()
    assert said() == [f"waiting for a place of limit {LIMIT}"]


def test_a_failure_gives_the_place_back(one_place):
    @flow
    def fails():
        with place_on_the_gpu(LIMIT):
            assert one_place() == 1
            raise KeyError("of the work")

    with pytest.raises(KeyError, match="of the work"):
        fails()
    assert one_place() == 0


def test_without_a_limit_both_run_at_once(prefect_server):
    both = Barrier(2, timeout=60)

    @task
    def meets():
        with place_on_the_gpu(None):
            both.wait()

    @flow
    def meeting():
        for future in [meets.submit() for _ in range(2)]:
            future.result()

    meeting()
    assert not both.broken


def test_outside_of_a_run_nothing_is_waited_for():
    with place_on_the_gpu("no-such-limit"):
        pass


def test_a_limit_that_does_not_exist_is_one_line(prefect_server):
    @flow
    def one():
        with place_on_the_gpu("no-such-limit"):
            pass

    with pytest.raises(NoPlaceError, match="prefect gcl create no-such-limit --limit 1, or deft deploy"):
        one()
