import subprocess
import sys

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import NopPruner
from optuna.samplers import TPESampler

from tasks.automl.algorithms import (
    ALGORITHMS,
    NEAREST,
    AroundBase,
    known,
    pruner_of,
    sampler_of,
    seed_of,
    startup_trials,
)
from tasks.errors import InputError

BOXES = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.6),
    "width": IntDistribution(8, 256, log=True),
    "optim": CategoricalDistribution(("adam", "sgd", "adamw")),
}
BASE = {"lr": 1e-3, "dropout": 0.0, "width": 64, "optim": "adamw"}


@pytest.mark.parametrize(("name", "nearest"), NEAREST.items())
def test_an_algorithm_that_is_not_offered_names_the_nearest(name, nearest):
    with pytest.raises(InputError, match=rf"{name} is not offered.* {nearest}$"):
        known(name)
    assert nearest in ALGORITHMS


def test_an_unknown_algorithm_lists_the_known_ones():
    with pytest.raises(InputError, match=r"unknown algorithm 'bayes'.*bayesian"):
        known("bayes")


@given(st.integers(1, 500))
def test_the_model_takes_over_early(budget):
    assert 2 <= startup_trials(budget) <= 4
    assert startup_trials(10) == 3


@pytest.mark.parametrize("name", ["bayesian", "hyperband", "asha", "bohb"])
@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 30])
def test_every_algorithm_runs_with_every_number_of_epochs(name, epochs):
    study = optuna.create_study(
        study_name="one",
        sampler=sampler_of(name, 6, 0, BASE),
        pruner=pruner_of(name, 6, epochs),
    )
    for number in range(5):
        trial = study.ask(BOXES)
        reached = []
        for epoch in range(1, epochs + 1):
            reached.append(epoch)
            trial.report(number + 1 / epoch, epoch)
            if epoch < epochs and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, number + 1 / epochs)
        assert reached[-1] <= epochs
    assert study.trials[0].state == optuna.trial.TrialState.COMPLETE
    assert study.best_value == 1 / epochs


@pytest.mark.parametrize("name", ALGORITHMS)
def test_two_epochs_are_too_few_to_stop_a_trial(name):
    assert isinstance(pruner_of(name, 20, 2), NopPruner)


def test_samplers_are_those_of_the_table():
    assert isinstance(sampler_of("bohb", 20, 0), TPESampler)
    with pytest.raises(InputError, match="pbt"):
        sampler_of("pbt", 20, 0)


@given(st.integers(0, 2**31))
def test_first_trials_lie_in_the_box_and_near_the_base(seed):
    sampler = AroundBase(BASE, seed)
    drawn = {name: sampler.sample_independent(None, None, name, box) for name, box in BOXES.items()}
    assert all(box._contains(box.to_internal_repr(drawn[name])) for name, box in BOXES.items())
    assert isinstance(drawn["width"], int)


def test_first_trials_spread_a_fifth_of_the_box_and_keep_every_second_choice():
    sampler = AroundBase({"x": 0.5, "optim": "adamw"}, 0)
    xs = [sampler.sample_independent(None, None, "x", FloatDistribution(0, 1)) for _ in range(500)]
    choices = [sampler.sample_independent(None, None, "optim", BOXES["optim"]) for _ in range(600)]
    assert sum(abs(x - 0.5) < 0.2 for x in xs) == pytest.approx(341, abs=30)
    assert choices.count("adamw") == pytest.approx(400, abs=40)
    assert choices.count("sgd") == pytest.approx(100, abs=30)


def test_a_seed_is_the_same_in_every_process():
    code = "from tasks.automl.algorithms import seed_of; print(seed_of(7, 'phase1', 3))"
    given = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert given == [f"{seed_of(7, 'phase1', 3)}\n"] * 2
    assert seed_of(7, 12) != seed_of(71, 2)
