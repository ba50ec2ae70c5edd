import json
import math
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import yaml

from tasks.artifacts import write_json
from tasks.automl import failures
from tasks.automl.attempts import OUTCOME
from tasks.automl.failures import Rule
from tasks.automl.llm import LlmSettings, ProposerFailed
from tasks.automl.plan import Plan
from tasks.automl.ranking import ranked
from tasks.automl.settings import SweepSettings
from tasks.automl.space import Parameter, Space
from tasks.automl.sweep import JOURNAL, Sweep
from tasks.automl.table import TRIALS_CSV, TRIALS_JSONL, line_of
from tasks.automl.trial import Outcome, Row, Stopped, SweepMetric
from tasks.automl.winner import Policy, choose
from tasks.errors import InputError, StageFailed
from tasks.keys import value_at
from tasks.status import STOP_FILE
from tests.conftest import REPOSITORY
from tests.killing import children

FAR = SweepMetric(name="far_pct", direction="minimise", unit="%")
F1 = SweepMetric(name="f1", direction="maximise")
BASE = {
    "train": {"seed": 1234, "optim": {"lr": 1e-4, "weight_decay": 0.1}},
    "dataset": {"classify": {"batch_size": 16}},
    "note": "as it is: 1.0, [1, 2]",
}
SPACE = Space(
    searched=(
        Parameter(name="lr", keys=("train.optim.lr",), type="float", low=1e-6, high=1e-2, log=True),
        Parameter(name="decay", keys=("train.optim.weight_decay",), type="float", low=0.0, high=1.0),
    ),
    pinned={"train.pinned": True},
    inert=(),
    base={"lr": 1e-4, "decay": 0.1},
)
EPOCHS = 9
LR = "train.optim.lr"


def far_of(spec):
    """Best at lr 3e-4 and decay 0.4."""
    return 10 * abs(math.log10(value_at(spec, LR)) + 3.5) + abs(
        value_at(spec, "train.optim.weight_decay") - 0.4
    )


class Engine:
    """A trainer as small as can be: a checkpoint of the spec, figures by it; keeps what was asked of it.

    `trouble(spec, attempt)` may raise or wait; `collapse(spec)` says why the model is no use.
    """

    def __init__(self, trouble=lambda spec, attempt: None, collapse=lambda spec: "", score=far_of, epochs=2):
        self.trouble, self.collapse, self.score, self.epochs = trouble, collapse, score, epochs
        self.started, self.specs, self.intervals = [], [], []

    def __call__(self, spec, folder, report):
        began = time.monotonic()
        self.started.append(folder.name)
        self.specs.append(spec)
        write_json(folder / "train" / "spec.json", spec)
        self.trouble(spec, self.started.count(folder.name))
        score = self.score(spec)
        for epoch in range(self.epochs):
            if report(epoch, score + self.epochs - 1 - epoch):
                raise Stopped("clearly behind")
        checkpoint = folder / "train" / "model.pth"
        checkpoint.write_text(json.dumps(spec))
        self.intervals.append((began, time.monotonic()))
        return Outcome(
            score=score,
            target=score,
            checkpoint=checkpoint,
            epochs=self.epochs,
            facts={"auc": 0.9},
            collapse=self.collapse(spec),
        )


long = partial(Engine, epochs=EPOCHS)


@pytest.fixture
def opened(tmp_path):
    """Opens the sweep in the test's folder, with threads of its own."""
    pools = []

    def open_(
        engine, *, folder=tmp_path / "sweep", metric=FAR, base=BASE, space=SPACE, check=None, **settings
    ):
        given = SweepSettings(**({"algorithm": "random", "trials": 5, "seed": 7} | settings))
        pools.append(ThreadPoolExecutor(given.concurrency))
        plan = Plan(folder, 1, base, space, metric, EPOCHS, given, engine, check or (lambda spec: None))
        return Sweep(plan, pools[-1].submit)

    yield open_
    for pool in pools:
        pool.shutdown()


@pytest.fixture
def no_waits(monkeypatch):
    """Retries after a failure of the infrastructure, without the minute that they wait."""
    monkeypatch.setitem(failures.RULES, "infrastructure", Rule(waits=(0.0, 0.0), counted=False))


def states(rows):
    return [row.state for row in rows]


def folder_of(sweep, row):
    return sweep.plan.place(row)


# What is tried


def test_trial_0_is_the_base_spec_byte_for_byte(opened):
    engine = Engine()
    rows = opened(engine).run()
    assert (rows[0].source, rows[0].specs, rows[0].params) == ("base", {}, SPACE.base)
    assert yaml.safe_dump(engine.specs[0], sort_keys=False) == yaml.safe_dump(BASE, sort_keys=False)
    assert [row.source for row in rows[1:]] == ["sampler"] * 4


def test_other_trials_have_their_values_and_the_pins(opened):
    engine = Engine()
    rows = opened(engine).run()
    for row, spec in zip(rows[1:], engine.specs[1:], strict=True):
        assert value_at(spec, LR) == row.params["lr"]
        assert value_at(spec, "train.pinned") is True
        assert value_at(spec, "note") == BASE["note"]
    assert len({row.params["lr"] for row in rows}) == 5


def test_the_same_seed_gives_the_same_trials_and_another_gives_others(opened, tmp_path):
    def values(name, seed):
        sweep = opened(Engine(), folder=tmp_path / name, seed=seed)
        return [row.params for row in sweep.run()]

    assert values("a", 7) == values("b", 7) != values("c", 8)


def test_the_tables_hold_every_trial(opened, tmp_path):
    rows = opened(Engine()).run()
    lines = (tmp_path / "sweep" / TRIALS_JSONL).read_text().splitlines()
    assert [Row.model_validate_json(line) for line in lines] == rows
    assert len((tmp_path / "sweep" / TRIALS_CSV).read_text().splitlines()) == 6


def test_a_line_of_the_log_says_what_a_trial_gave(opened):
    rows = opened(Engine(), trials=1).run()
    line = line_of(rows[0], FAR)
    assert line.startswith("[phase 1 · rec_000 · base] far_pct 5.3 % · lr 0.0001, decay 0.1 · ")


# When it ends


def test_the_budget_is_used_up_and_no_more(opened):
    assert states(opened(Engine(), trials=3).run()) == ["complete"] * 3


def test_the_budget_counts_the_trials_that_run(opened):
    engine = Engine(lambda spec, attempt: time.sleep(0.05))
    assert len(opened(engine, trials=5, concurrency=4).run()) == 5


def test_a_larger_budget_goes_on_where_the_smaller_ended(opened, tmp_path):
    engine = Engine()
    opened(engine, trials=2).run()
    rows = opened(engine, trials=4).run()
    assert engine.started == [row.rec_id for row in rows]
    whole = opened(Engine(), folder=tmp_path / "whole", trials=4).run()
    assert [row.params for row in rows] == [row.params for row in whole]


def test_max_failures(opened):
    def trouble(spec, attempt):
        if spec != BASE:
            # Of different causes, else three would stop the sweep as one.
            words = "abcdefghij"[int(value_at(spec, "train.optim.weight_decay") * 10)]
            raise StageFailed(f"broken {words * 3}")

    rows = opened(Engine(trouble), trials=9, max_failures=2).run()
    assert states(rows) == ["complete", "failed", "failed"]


@pytest.mark.parametrize(
    ("metric", "score", "target"),
    [(FAR, far_of, 5.3), (F1, lambda spec: 1.0 - far_of(spec) / 100, 0.947)],
)
def test_a_target_that_is_reached_ends_it(opened, metric, score, target):
    rows = opened(Engine(score=score), metric=metric, target=target).run()
    assert states(rows) == ["complete"]  # the base spec has it already


def test_a_target_out_of_reach_does_not(opened):
    assert len(opened(Engine(), target=-1.0).run()) == 5


def test_patience(opened):
    worse = Engine(score=lambda spec: 1.0 if spec == BASE else 2.0)
    assert len(opened(worse, trials=9, patience=3).run()) == 4


def test_max_hours_counts_hours_of_training(opened):
    limit = 0.2
    rows = opened(Engine(lambda spec, attempt: time.sleep(0.06)), trials=9, max_hours=limit / 3600).run()
    *before, _ = [row.seconds for row in rows]
    assert 1 <= len(before) <= 3
    assert sum(before) < limit <= sum(row.seconds for row in rows)


def test_a_space_whose_points_are_all_tried_ends_it(opened):
    few = Space(
        searched=(Parameter(name="k", keys=("model.k",), type="choice", choices=(2, 3)),),
        pinned={},
        inert=(),
        base={"k": 2},
    )
    rows = opened(Engine(), space=few, trials=9).run()
    assert [row.params["k"] for row in rows] == [2, 3]


# Concurrency


def most_at_once(intervals):
    return max(sum(began <= at < ended for began, ended in intervals) for at, _ in intervals)


def test_four_trials_run_at_the_same_time(opened):
    together = threading.Barrier(4, timeout=30)  # nobody passes it before four are there
    engine = Engine(lambda spec, attempt: (together.wait(), time.sleep(0.5)))
    opened(engine, trials=4, concurrency=4).run()
    latest_start = max(began for began, _ in engine.intervals)
    assert latest_start < min(ended for _, ended in engine.intervals)


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_never_more_at_once_than_asked_for(opened, concurrency):
    engine = Engine(lambda spec, attempt: time.sleep(0.03))
    rows = opened(engine, trials=7, concurrency=concurrency).run()
    assert len(rows) == 7
    assert most_at_once(engine.intervals) <= concurrency


def test_trials_at_the_same_time_differ(opened):
    rows = opened(Engine(lambda spec, attempt: time.sleep(0.02)), trials=6, concurrency=3).run()
    assert len({json.dumps(row.params) for row in rows}) == 6
    assert [row.number for row in rows] == list(range(6))


# Failures


def test_a_failure_of_the_infrastructure_is_tried_again(opened, no_waits):
    def trouble(spec, attempt):
        if attempt < 3:
            raise StageFailed("docker: connection refused")

    rows = opened(Engine(trouble), trials=2).run()
    assert [(row.state, row.attempts, row.failure) for row in rows] == [("complete", 3, None)] * 2


def test_one_that_lasts_does_not_count_and_is_replaced(opened, no_waits):
    def trouble(spec, attempt):
        if engine.started[-1] == "rec_001":
            raise StageFailed("no space left on device")

    engine = Engine(trouble)
    rows = opened(engine, trials=3).run()
    assert states(rows) == ["complete", "failed", "complete", "complete"]
    assert (rows[1].attempts, rows[1].failure.kind) == (3, "infrastructure")


def test_one_that_is_pruned_after_a_retry_counts(opened, no_waits):
    def trouble(spec, attempt):
        if attempt == 1 and spec != BASE:
            raise StageFailed("docker: connection refused")

    rows = opened(long(trouble, score=ever_worse()), algorithm="asha", trials=4).run()
    assert states(rows) == ["complete", "pruned", "pruned", "pruned"]
    assert [row.failure for row in rows] == [None] * 4


def test_a_spec_that_the_schema_refuses_is_not_trained_not_counted_and_replaced(opened):
    def check(spec):
        if value_at(spec, "train.optim.weight_decay") > 0.5:
            raise InputError("train.optim.weight_decay must be 0.5 or less")

    engine = Engine()
    rows = opened(engine, check=check, trials=4).run()
    refused = [row for row in rows if row.state == "failed"]
    assert refused
    assert {row.failure.kind for row in refused} == {"invalid_spec"}
    assert [row.attempts for row in refused] == [1] * len(refused)
    assert states(rows).count("complete") == 4
    assert not {row.rec_id for row in refused} & set(engine.started)


def test_out_of_memory_gets_half_the_batch_once(opened):
    def trouble(spec, attempt):
        if value_at(spec, "dataset.classify.batch_size") > 8:
            raise StageFailed("CUDA out of memory")

    sweep = opened(Engine(trouble), trials=2)
    rows = sweep.run()
    assert states(rows) == ["complete"] * 2
    for row in rows:
        assert row.adjustments == ["dataset.classify.batch_size 16 -> 8: out of memory"]
        assert value_at(json.loads(row.outcome.checkpoint.read_text()), "dataset.classify.batch_size") == 8
        assert value_at(sweep.plan.spec_of(row), "dataset.classify.batch_size") == 8
    opened(Engine(), trials=2)  # the changed spec is still the sweep's own


def test_out_of_memory_twice_counts_as_failed(opened):
    def trouble(spec, attempt):
        if spec != BASE:
            raise MemoryError("out of memory")

    rows = opened(Engine(trouble), trials=3).run()
    assert states(rows) == ["complete", "failed", "failed"]
    assert [row.attempts for row in rows] == [1, 2, 2]


def test_a_training_that_diverges_counts(opened):
    def trouble(spec, attempt):
        if spec != BASE and attempt and engine.started[-1] != "rec_002":
            raise StageFailed("the loss of epoch 3 is nan; lower train.optim.lr")

    engine = Engine(trouble)
    rows = opened(engine, trials=4).run()
    assert states(rows) == ["complete", "failed", "complete", "failed"]
    assert [row.attempts for row in rows] == [1] * 4
    assert rows[1].failure.kind == "diverged"


def test_three_equal_failures_in_a_row_stop_it_with_their_cause(opened):
    def trouble(spec, attempt):
        if spec != BASE:
            raise StageFailed(f"rows of {value_at(spec, LR)} have no golden image")

    engine = Engine(trouble)
    with pytest.raises(StageFailed, match=r"three trials in a row failed for one reason: rows of .* golden"):
        opened(engine, trials=9).run()
    assert len(engine.started) == 4


def test_without_any_model_the_sweep_has_failed(opened):
    def trouble(spec, attempt):
        raise StageFailed("the loss is nan")

    with pytest.raises(StageFailed, match="no trial gave a model; the loss is nan"):
        opened(Engine(trouble), trials=2).run()


def test_failing_above_a_learning_rate(opened):
    """Failed trials never win, and what is proposed after a few of them keeps away (spec automl 11.7)."""

    def trouble(spec, attempt):
        if value_at(spec, LR) > 1e-4:
            # Unequal words: the sweep is not to stop for a shared cause.
            raise StageFailed(
                f"the loss is {'abcdefghijk'[int(value_at(spec, 'train.optim.weight_decay') * 10)]}"
            )

    def far(spec):
        return 10 * abs(math.log10(value_at(spec, LR)) + 4.5)

    rows = opened(Engine(trouble, score=far), algorithm="bayesian", trials=10, seed=3).run()
    failed = [row for row in rows if row.state == "failed"]
    assert failed
    assert {row.params["lr"] > 1e-4 for row in failed} == {True}
    best = ranked(rows, FAR)
    assert not {row.number for row in failed} & {row.number for row in best}
    assert best[0].params["lr"] <= 1e-4
    assert states(rows)[5:].count("failed") <= 1  # half of the box fails


def test_failures_of_the_infrastructure_use_up_no_budget(opened, no_waits):
    def trouble(spec, attempt):
        if len(engine.started) < 4:
            raise StageFailed("docker: connection refused")

    engine = Engine(trouble)
    rows = opened(engine, trials=4).run()
    assert states(rows) == ["failed", *["complete"] * 4]


def test_a_collapsed_model_is_never_chosen(opened):
    engine = Engine(collapse=lambda spec: "two distinct scores" if far_of(spec) < 5 else "")
    rows = opened(engine, trials=8, seed=1).run()
    collapsed = [row for row in rows if row.state == "collapsed"]
    assert collapsed
    best = min(row.outcome.score for row in rows if row.state == "complete")
    assert min(row.outcome.score for row in collapsed) < best
    check = choose(rows, FAR, lambda *_: pytest.fail("no rerun"), Policy(reruns=0))
    assert check.score == best


# Pruning


def ever_worse():
    """The base spec is the best, and every further trial is worse than all before it."""
    seen = {}
    lock = threading.Lock()

    def score(spec):
        with lock:
            return 10.0 * seen.setdefault(json.dumps(spec), len(seen))

    return score


@pytest.mark.parametrize("algorithm", ["bayesian", "hyperband", "asha", "bohb"])
def test_trials_that_are_behind_are_stopped(opened, algorithm):
    rows = opened(long(score=ever_worse()), algorithm=algorithm, trials=8).run()
    pruned = [row for row in rows if row.state == "pruned"]
    assert pruned
    assert rows[0].state == "complete"
    for row in pruned:
        assert row.pruned_at == max(row.curve) < EPOCHS - 1
        assert row.outcome is None
    assert not {row.number for row in pruned} & {row.number for row in ranked(rows, FAR)}


@pytest.mark.parametrize(("algorithm", "prune"), [("random", True), ("asha", False)])
def test_pruning_can_be_left_out(opened, algorithm, prune):
    rows = opened(long(score=ever_worse()), algorithm=algorithm, prune=prune).run()
    assert states(rows) == ["complete"] * 5
    assert all(len(row.curve) == EPOCHS for row in rows)


def test_the_base_spec_and_reruns_are_never_pruned(opened):
    descending = ever_worse()
    engine = long(score=lambda spec: 1000.0 if spec == BASE else descending(spec))
    sweep = opened(engine, algorithm="asha", trials=4)
    rows = sweep.run()
    assert rows[0].state == "complete"
    assert "pruned" in states(rows)
    again = sweep.rerun(rows[0], seed=99)
    assert (again.state, again.source) == ("complete", "rerun")


def test_a_collapsed_and_a_pruned_trial_count(opened):
    rows = opened(long(score=ever_worse(), collapse=lambda spec: "constant"), algorithm="asha").run()
    assert set(states(rows)) == {"collapsed", "pruned"}
    assert len(rows) == 5


# What stays


def test_weights_of_the_best_three_and_of_reruns_stay(opened):
    sweep = opened(Engine(), trials=6)
    rows = sweep.run()
    best = ranked(rows, FAR)
    again = sweep.rerun(best[3], seed=5)
    kept = {path.parents[1].name for path in sweep.plan.folder.rglob("*.pth")}
    assert kept == {row.rec_id for row in best[:3]} | {again.rec_id}
    for row in rows:
        folder = folder_of(sweep, row)
        assert (folder / OUTCOME).is_file()
        assert (folder / "train" / "spec.json").is_file()
    assert all(row.outcome and row.curve for row in sweep.rows)


def test_rerun_has_another_seed_and_is_taken_from_the_journal_the_second_time(opened):
    engine = Engine()
    sweep = opened(engine, trials=2)
    rows = sweep.run()
    again = sweep.rerun(rows[1], seed=42)
    assert value_at(engine.specs[-1], "train.seed") == again.seed == 42
    assert (again.params, again.number) == (rows[1].params, 2)
    assert sweep.rerun(rows[1], seed=42) == again
    assert opened(engine, trials=2).rerun(rows[1], seed=42) == again
    assert engine.started == ["rec_000", "rec_001", "rec_002"]
    assert sweep.rerun(rows[1], seed=43).number == 3


def test_a_rerun_that_got_half_the_batch_is_known_again(opened):
    def trouble(spec, attempt):
        if value_at(spec, "train.seed") == 42 and attempt == 1:
            raise StageFailed("CUDA out of memory")

    engine = Engine(trouble)
    sweep = opened(engine, trials=1)
    rows = sweep.run()
    again = sweep.rerun(rows[0], seed=42)
    assert again.adjustments
    assert sweep.rerun(rows[0], seed=42) == again


def test_reruns_are_no_trials_of_the_budget(opened):
    engine = Engine()
    sweep = opened(engine, trials=2)
    sweep.rerun(sweep.run()[0], seed=5)
    assert [row.source for row in opened(engine, trials=3).run()] == ["base", "sampler", "rerun", "sampler"]


def test_a_sweep_of_another_base_spec_is_refused(opened):
    opened(Engine(), trials=1).run()
    with pytest.raises(InputError, match="sweep of another base spec or search space; give another results"):
        opened(Engine(), trials=1, base={**BASE, "note": "another"})


def test_a_sweep_of_another_space_is_refused(opened):
    opened(Engine(), trials=1).run()
    smaller = Space(SPACE.searched[:1], SPACE.pinned, (), {"lr": 1e-4})
    with pytest.raises(InputError, match="sweep of another base spec or search space"):
        opened(Engine(), trials=1, space=smaller)


# The language model


def nobody(on_error):
    return LlmSettings(endpoint="http://127.0.0.1:9/v1", model="none", timeout_seconds=1, on_error=on_error)


def test_without_its_language_model_the_sampler_proposes_and_it_shows(opened, caplog):
    rows = opened(Engine(), algorithm="llm", llm=nobody("fallback"), trials=3).run()
    assert [row.source for row in rows] == ["base", "fallback", "fallback"]
    assert "proposer failed" in caplog.text


def test_or_the_sweep_stops_if_asked_to(opened):
    engine = Engine()
    with pytest.raises(ProposerFailed):
        opened(engine, algorithm="llm", llm=nobody("stop"), trials=3).run()
    assert engine.started == ["rec_000"]


# Interrupted


class Gate:
    """Trainings that wait at a gate until they find their stop file."""

    def __init__(self, folder):
        self.folder, self.stopped = folder, []

    def __call__(self, spec, attempt):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for stop in self.folder.glob(f"recs/*/train/{STOP_FILE}"):
                spec_file = stop.with_name("spec.json")
                if json.loads(spec_file.read_text()) == spec:
                    self.stopped.append(stop.parents[1].name)
                    raise StageFailed("stopped on request after epoch 1")
            time.sleep(0.01)
        raise AssertionError("nobody asked this training to stop")


def test_an_error_in_one_worker_stops_the_others_and_nothing_is_lost(opened, tmp_path):
    gate = Gate(tmp_path / "sweep")

    def trouble(spec, attempt):
        if spec == BASE:
            time.sleep(0.3)
            raise ZeroDivisionError("an error of the program")
        gate(spec, attempt)

    with pytest.raises(ZeroDivisionError):
        opened(Engine(trouble), trials=4, concurrency=3).run()
    deadline = time.monotonic() + 60
    while len(gate.stopped) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(gate.stopped) == ["rec_001", "rec_002"]
    engine = Engine()
    rows = opened(engine, trials=4).run()
    assert engine.started == ["rec_000", "rec_001", "rec_002", "rec_003"]
    assert states(rows) == ["complete"] * 4
    assert [row.failure for row in rows] == [None] * 4
    whole = opened(Engine(), folder=tmp_path / "whole", trials=4).run()
    assert rows[3].params not in [row.params for row in rows[:3]]
    assert rows[0].spec_sha256 == whole[0].spec_sha256


PROGRAM = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.tasks.automl import killed_sweep as helper
from tasks.automl.settings import SweepSettings
from tasks.automl.plan import Plan
from tasks.automl.sweep import Sweep
from tasks.errors import StageFailed
def train(spec, folder, report):
    (folder / "train").mkdir(parents=True)
    print("training", flush=True)
    for epoch in range(2000):
        if (folder / "train" / "stop").exists():
            print("stopped", folder.name, flush=True)
            raise StageFailed("stopped on request")
        time.sleep(0.01)
folder, settings = Path(sys.argv[1]), SweepSettings(algorithm="random", trials=3)
with ThreadPoolExecutor(1) as pool:
    plan = Plan(folder, 1, helper.BASE, helper.SPACE, helper.METRIC, 4, settings, train, lambda spec: None)
    sweep = Sweep(plan, pool.submit)
    {call}
"""
RERUN = """row = sweep._begin(helper.SPACE.base, {}, "base"); sweep.rerun(row, 5)"""
HELPER = "tests.tasks.automl.killed_sweep"


@pytest.mark.parametrize(
    ("call", "rec"), [("sweep.run()", "rec_000"), pytest.param(RERUN, "rec_001", marks=pytest.mark.slow)]
)
def test_ctrl_c_stops_the_training_that_runs(tmp_path, call, rec):
    command = [sys.executable, "-c", PROGRAM.format(call=call), str(tmp_path / "sweep")]
    options = {"cwd": REPOSITORY, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **options) as process:
        assert process.stdout.readline() == "training\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        said, error = process.communicate(timeout=60)
    assert said == f"stopped {rec}\n"
    assert error.strip().endswith("KeyboardInterrupt")


# Killed

WRITES, RENAMES = "open", "os.rename"
BEGUN, TOLD, ROW = 4, 6, 8
"""Operations of Optuna's journal: a trial is added, ends, has its row written anew."""


@pytest.fixture(scope="module", name="child")
def _child():
    """Runs sweeps in processes that kill themselves at a point; gives their exit status."""
    with children(HELPER) as run:
        yield lambda folder, algorithm, point=None: run(folder=str(folder), algorithm=algorithm, point=point)


def found_in(folder):
    """Everything that a sweep leaves except clocks and counts of attempts; its folder goes by one name."""
    text = (folder / TRIALS_JSONL).read_text().replace(str(folder), "FOLDER")
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        for name in ("started_at", "seconds", "attempts"):
            del row[name]
    check = json.loads((folder / "quality_check.json").read_text().replace(str(folder), "FOLDER"))
    weights = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.pth"))
    return rows, check, weights


def trained(folder):
    """How often the training of each trial was begun, by the trainings' own notes."""
    file = folder / "trainings.log"
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.split()[1] for line in lines if line.startswith("start")]
    return {name: names.count(name) for name in names}


def operations(folder):
    """The lines of a journal in order: operation, number of the trial."""
    lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    begun = -1
    found = []
    for line in lines:
        begun += line["op_code"] == BEGUN
        found.append((line["op_code"], line.get("trial_id", begun)))
    return found


def has_ended(folder):
    """The trials whose training is known to have ended: an outcome on disk, or their row says so."""
    ended = {path.parent.name for path in folder.glob(f"recs/*/{OUTCOME}")}
    if (folder / JOURNAL).is_file():
        lines = (folder / JOURNAL).read_bytes().split(b"\n")[:-1]  # what follows the last is cut short
        for line in map(json.loads, lines):
            row = (line.get("user_attr") or {}).get("row") or {}
            if row.get("state") in ("complete", "collapsed", "pruned", "failed"):
                ended.add(f"rec_{row['number']:03d}")
    return ended


def nth(operations, operation, trial, which=0):
    """The place of a line in the journal, from 1; `which` is -1 for the last of them."""
    return [place for place, one in enumerate(operations, 1) if one == (operation, trial)][which]


def the_five_points(journal, trial):
    """Before the row, after it, training begun, in the middle, and before the journal is told."""
    begun = nth(journal, BEGUN, trial)
    # The first write that opens the file only makes it, so the n-th line is written with the next one.
    return {
        "before the row": (WRITES, f"/{JOURNAL}", begun + 1),
        "after the row": (RENAMES, f"/{JOURNAL}.lock", begun),
        "after submit": (WRITES, f"rec_{trial:03d}/train/epoch_0", 1),
        "during the run": (WRITES, f"rec_{trial:03d}/train/epoch_2", 1),
        "before tell": (WRITES, f"/{JOURNAL}", nth(journal, ROW, trial, -1) + 1),
    }


def killed(child, folder, algorithm, point):
    """Whether the sweep was killed at the point; it ends well where there is no such point."""
    status = child(folder, algorithm, point)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def gone_on(child, folder, algorithm, whole):
    """Go on with a sweep that was killed; gives how many trainings were begun again."""
    before, ended = trained(folder), has_ended(folder)
    assert child(folder, algorithm) == 0
    assert found_in(folder) == whole
    after = trained(folder)
    again = {name for name, times in after.items() if times > before.get(name, 0) > 0}
    assert not again & ended
    assert len(again) <= 1
    return len(again)


@pytest.fixture(scope="module", name="undisturbed")
def _undisturbed(child, tmp_path_factory):
    folders = {}

    def run(algorithm):
        if algorithm not in folders:
            folders[algorithm] = tmp_path_factory.mktemp(algorithm) / "sweep"
            assert child(folders[algorithm], algorithm) == 0
        return folders[algorithm]

    return run


def test_the_sweep_that_is_killed_has_every_kind_of_trial(undisturbed):
    """Else the tests below would prove less than they say."""
    rows, check, _ = found_in(undisturbed("bayesian"))
    assert {row["state"] for row in rows} == {"complete", "pruned", "failed"}
    assert any(row["adjustments"] for row in rows)
    assert len(check["reruns"]) == 2


KILLED = 3
"""The trial whose five points are taken; it trains to its end."""
FIVE_POINTS = {
    "before the row": 0,
    "after the row": 0,
    "after submit": 1,
    "during the run": 1,
    "before tell": 0,
}
"""With how many trainings are begun again."""


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        *(("random", name) for name in FIVE_POINTS),
        ("bayesian", "after submit"),
        pytest.param("bayesian", "before tell", marks=pytest.mark.slow),
    ],
)
def test_kill_at_the_five_points(child, undisturbed, tmp_path, algorithm, name):
    whole = undisturbed(algorithm)
    point = the_five_points(operations(whole), KILLED)[name]
    assert killed(child, tmp_path / "sweep", algorithm, point)
    assert gone_on(child, tmp_path / "sweep", algorithm, found_in(whole)) == FIVE_POINTS[name]


def cut_short(journal):
    """Leave half of the last line."""
    content = journal.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    journal.write_bytes(content[: (last + len(content)) // 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "where"),
    [
        ("random", "before"),
        ("random", "within"),
        ("random", "after"),
        ("bayesian", "after"),
        ("asha", "after"),
    ],
)
def test_kill_at_every_line_of_the_journal(child, undisturbed, tmp_path, algorithm, where):
    whole = undisturbed(algorithm)
    expected, lines = found_in(whole), len(operations(whole))
    for number in range(1, lines + 1):
        folder = tmp_path / str(number)
        before, after = (WRITES, f"/{JOURNAL}", number + 1), (RENAMES, f"/{JOURNAL}.lock", number)
        assert killed(child, folder, algorithm, before if where == "before" else after)
        if where == "within":
            cut_short(folder / JOURNAL)
        gone_on(child, folder, algorithm, expected)


@pytest.mark.slow
@pytest.mark.parametrize("place", [OUTCOME, TRIALS_CSV, TRIALS_JSONL, "quality_check.json"])
def test_kill_before_every_file_that_is_renamed_into_place(child, undisturbed, tmp_path, place):
    expected = found_in(undisturbed("random"))
    number = 1
    while killed(child, tmp_path / str(number), "random", (RENAMES, f"/{place}", number)):
        gone_on(child, tmp_path / str(number), "random", expected)
        number += 1
    assert number > (1 if place == "quality_check.json" else 5)
