import pytest
from pydantic import ValidationError

from tasks.automl.ranking import CANDIDATES
from tasks.automl.settings import SweepSettings

LLM = {"endpoint": "http://localhost:8000/v1", "model": "m"}


def test_defaults():
    settings = SweepSettings()
    assert (settings.algorithm, settings.trials, settings.concurrency) == ("bayesian", 8, 1)
    assert (settings.max_hours, settings.max_failures, settings.target, settings.patience) == (None,) * 4


def test_as_many_checkpoints_stay_as_trials_may_win():
    assert SweepSettings().keep == CANDIDATES


def test_settings_survive_their_form():
    settings = SweepSettings(algorithm="llm", llm=LLM, only=("lr",), target=3.0, search_space="space.yaml")
    assert SweepSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"algorithm": "gradient"}, "unknown algorithm 'gradient'; choose one of: bayesian"),
        ({"algorithm": "pbt"}, "algorithm pbt is not offered; the nearest choice is asha"),
        ({"algorithm": "llm"}, "algorithm llm and llm"),
        ({"llm": LLM}, "algorithm llm and llm"),
        ({"trials": 0}, "trials"),
        ({"concurrency": 0}, "concurrency"),
        ({"keep": 2}, "keep"),
        ({"max_hours": 0}, "max_hours"),
        ({"suspicious_gap": 1}, "suspicious_gap"),
        ({"selection": "best"}, "selection"),
        ({"num_recommendations": 8}, "num_recommendations"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        SweepSettings(**given)
