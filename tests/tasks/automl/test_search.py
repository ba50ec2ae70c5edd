import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.automl.algorithms import ALGORITHMS
from tasks.automl.search import NEAR, Search, stretched
from tasks.automl.space import Parameter, Space
from tasks.errors import InputError

LR = Parameter(name="lr", type="float", low=1e-5, high=1e-1, log=True)
DROPOUT = Parameter(name="dropout", type="float", low=0.0, high=0.6)
WIDTH = Parameter(name="width", type="int", low=8, high=256, log=True)
OPTIM = Parameter(name="optim", type="choice", choices=("adam", "sgd"))
SPACE = Space((LR, DROPOUT, WIDTH, OPTIM), {}, (), {"lr": 1e-3, "dropout": 0.1, "width": 64, "optim": "adam"})


def opened(folder, space=SPACE, algorithm="bayesian", epochs=10, seed=0):
    return Search(folder / "study.log", "phase1", space, algorithm, 10, epochs, seed)


def loss(params):
    unit = SPACE.unit(params)
    return (unit["lr"] - 0.6) ** 2 + unit["dropout"] + 0.1 * (unit["optim"] == "sgd")


def tried_one(search, number, params, value="loss"):
    search.begin(params, {"number": number})
    search.tell(number, loss(params) if value == "loss" else value)


def swept(search, trials):
    """The proposals of so many trials, the base spec first."""
    for number in range(len(search.tried()), trials):
        tried_one(search, number, search.propose(number) if number else SPACE.base)
    return [trial.params for trial in search._trials()]


# Proposals


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_proposals_lie_in_the_box_and_differ(tmp_path, algorithm):
    proposals = swept(opened(tmp_path, algorithm=algorithm), 5)
    assert all(SPACE.holds(params) for params in proposals)
    assert len({json.dumps(params) for params in proposals}) == 5


def test_an_unknown_algorithm_leaves_no_journal(tmp_path):
    with pytest.raises(InputError, match="pbt is not offered"):
        opened(tmp_path, algorithm="pbt")
    assert not any(tmp_path.iterdir())


def test_the_same_seed_gives_the_same_trials_in_two_processes(tmp_path):
    code = (
        "import sys, runpy, json; from pathlib import Path\n"
        f"here = runpy.run_path({__file__!r})\n"
        "print(json.dumps(here['swept'](here['opened'](Path(sys.argv[1])), 6)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "there")]
    there = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert there == swept(opened(tmp_path / "here"), 6)
    assert opened(tmp_path / "other", seed=1).propose(1) not in there


def test_a_search_opened_again_proposes_what_an_undisturbed_one_does(tmp_path):
    whole = swept(opened(tmp_path / "whole"), 7)
    for trials in (1, 3, 4, 6, 7):
        parts = swept(opened(tmp_path / "parts"), trials)
    assert parts == whole


def test_proposals_in_parallel_differ(tmp_path):
    search = opened(tmp_path)
    swept(search, 5)
    ahead = [search.propose(5)]
    search.begin(ahead[0], {})
    assert search.propose(6) != ahead[0]
    # Even with the draw of the trial that runs.
    assert search.propose(5) != ahead[0]


def test_the_first_trials_lie_around_the_base_spec(tmp_path):
    drawn = [opened(tmp_path / str(seed), seed=seed).propose(1) for seed in range(12)]
    centre = SPACE.unit(SPACE.base)
    spread = [[SPACE.unit(params)[name] - centre[name] for name in ("lr", "width")] for params in drawn]
    assert np.abs(spread).mean() < 0.25
    outside = Space(SPACE.searched, {}, (), SPACE.base | {"lr": None})
    assert SPACE.holds(opened(tmp_path / "outside", outside).propose(1))


def test_the_search_finds_what_is_good(tmp_path):
    proposals = swept(opened(tmp_path), 14)
    assert min(map(loss, proposals)) < 0.25 * loss(SPACE.base)


def test_a_base_spec_outside_the_box_is_kept_in_its_row(tmp_path):
    search = opened(tmp_path)
    outside = SPACE.base | {"lr": 0.5}
    search.begin(outside, {"params": outside})
    search.tell(0, 1.0)
    assert search.tried()[0].row == {"params": outside}
    assert SPACE.holds(search.propose(1))
    # Nor does it harm where it failed.
    assert SPACE.holds(search.propose(1, [outside, SPACE.base | {"lr": None}]))


# Failures


def test_when_every_point_has_been_tried_there_is_none(tmp_path):
    colour = Parameter(name="colour", type="choice", choices=("red", "green", "blue"))
    search = opened(tmp_path, Space((colour,), {}, (), {"colour": "red"}))
    found = []
    while (params := search.propose(len(found))) is not None:
        search.begin(params, {})
        search.tell(len(found), None if found else 1.0)
        found.append(params["colour"])
    assert sorted(found) == ["blue", "green", "red"]


def test_a_point_next_to_two_failures_is_drawn_again(tmp_path):
    search = opened(tmp_path, Space((LR,), {}, (), {"lr": 1e-3}))
    first = search.propose(0)
    assert search.propose(0, [first]) == first
    again = search.propose(0, [first, first])
    unit = [search._space.unit(params)["lr"] for params in (first, again)]
    assert abs(unit[0] - unit[1]) > NEAR


def test_a_guard_around_everything_still_gives_a_point(tmp_path):
    one = Parameter(name="x", type="int", low=0, high=3)
    search = opened(tmp_path, Space((one,), {}, (), {"x": 0}))
    everywhere = [{"x": value} for value in range(4)] * 2
    assert search.propose(0, everywhere) is not None


def test_failed_trials_are_neither_proposed_again_nor_the_best(tmp_path):
    search = opened(tmp_path)
    swept(search, 4)
    failed = {"lr": 4e-3, "dropout": 0.0, "width": 64, "optim": "adam"}
    tried_one(search, 4, failed, value=None)
    proposals = [search.propose(number) for number in range(5, 9)]
    assert failed not in proposals
    shown = search._copy().trials
    assert shown[4].value == max(trial.value for trial in shown)


def test_a_collapsed_trial_stands_with_the_worst(tmp_path):
    search = opened(tmp_path)
    swept(search, 3)
    search.begin(search.propose(3), {})
    search.tell(3, -100.0, collapsed=True)
    shown = search._copy().trials
    assert shown[3].value == max(trial.value for trial in shown)
    assert SPACE.holds(search.propose(4))


def test_a_trial_that_was_stopped_stands_among_the_worse_ones(tmp_path):
    search = opened(tmp_path)
    swept(search, 3)
    search.begin(search.propose(3), {})
    assert not search.report(3, 0, 5.0)
    search.report(3, 1, 9.0)
    search.tell(3, None, pruned=True)
    *whole, stopped = (trial.value for trial in search._copy().trials)
    # Not with the 9.0 of its second epoch, which is no match for what others reached in the end.
    assert sorted(whole)[1] < stopped < max(whole)
    assert search.tried()[3].told


def test_a_trial_that_is_far_behind_is_stopped(tmp_path):
    search = opened(tmp_path)
    for number in range(5):
        search.begin(search.propose(number), {})
        verdicts = [search.report(number, epoch, 100.0 if number == 4 else -number) for epoch in range(10)]
        search.tell(number, -float(number))
        assert any(verdicts) == (number == 4)
    assert not any(verdicts[:2])


# Journal


def test_rows_are_written_and_written_anew(tmp_path):
    search = opened(tmp_path)
    search.begin(SPACE.base, {"state": "queued"})
    search.write(0, {"state": "running"})
    (tried,) = opened(tmp_path).tried()
    assert (tried.number, tried.row, tried.told) == (0, {"state": "running"}, False)
    search.tell(0, 1.0)
    assert opened(tmp_path).tried()[0].told


def test_a_torn_last_line_is_mended(tmp_path):
    whole = swept(opened(tmp_path), 4)
    journal = tmp_path / "study.log"
    content = journal.read_bytes()
    ends = [at for at, byte in enumerate(content) if byte == ord("\n")]
    for before, end in pairwise(ends[-3:]):
        journal.write_bytes(content[: (before + end) // 2])
        search = opened(tmp_path)
        assert journal.read_bytes().startswith(content[: before + 1])
        assert [trial.params for trial in search._trials()] == whole[: len(search.tried())]
        assert len(search.tried()) >= 3


def test_a_lock_that_was_left_is_removed(tmp_path):
    swept(opened(tmp_path), 2)
    (tmp_path / "study.log.lock").symlink_to(tmp_path / "study.log")
    assert len(swept(opened(tmp_path), 3)) == 3


# The scale that the sampler sees

losses = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=20)


@given(losses)
def test_the_stretched_scale_keeps_the_order(values):
    found = stretched(values)
    assert len(found) == len(values)
    known = sorted((value, shown) for value, shown in zip(values, found, strict=True) if value is not None)
    assert all(a[1] <= b[1] for a, b in pairwise(known))
    assert all(np.isfinite(found))
    for value, shown in zip(values, found, strict=True):
        if value is None:
            assert shown == max(found)


@given(st.lists(st.floats(0, 10), min_size=3, max_size=9), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_stretched_scale_knows_no_unit(values, unit, offset):
    values = [round(value, 3) for value in values]
    assert stretched([value * unit + offset for value in values]) == pytest.approx(
        stretched(values), abs=1e-6
    )


def test_one_disaster_does_not_hide_what_differs_among_the_rest():
    good, better, best, disaster = stretched([0.3, 0.2, 0.1, 60.0])
    assert best == 0
    assert (good - better) / (disaster - good) > 0.05
