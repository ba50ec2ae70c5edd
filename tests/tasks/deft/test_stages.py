import itertools

import pytest

from tasks.deft.stages import (
    BASELINE_STAGES,
    FINAL,
    FIRST,
    ITERATION_STAGES,
    LOOP_STOP,
    STAGES,
    Step,
    previous_label,
    step_after,
)
from tasks.deft.state import Phase

ALL = [
    *(Step(label="baseline", stage=stage) for stage in (*BASELINE_STAGES, LOOP_STOP)),
    *(
        Step(label=label, stage=stage)
        for label in ("iter1", "iter2")
        for stage in (*ITERATION_STAGES, LOOP_STOP)
        if (label, stage) != ("iter2", "rca")
    ),
]
LEGAL = {
    ("baseline/train", "baseline/evaluate"),
    ("baseline/evaluate", "baseline/rca"),
    ("baseline/evaluate", "baseline/loop_stop"),
    ("baseline/rca", "iter1/routing"),
    ("iter1/rca", "iter2/routing"),
    *(
        (f"{label}/{one}", f"{label}/{other}")
        for label in ("iter1", "iter2")
        for one, other in itertools.pairwise(ITERATION_STAGES[:-1])
    ),
    ("iter1/evaluate", "iter1/rca"),
    ("iter1/evaluate", "iter1/loop_stop"),
    ("iter2/evaluate", "iter2/loop_stop"),
}


def followers(step):
    return {step_after(step, passed, max_iterations=2) for passed in (False, True)}


@pytest.mark.parametrize("one", ALL, ids=str)
def test_table_of_all_pairs_of_steps(one):
    legal = {other for start, other in LEGAL if start == str(one)}
    assert {str(step) for step in followers(one) if step} == legal


def test_nothing_follows_the_end():
    assert followers(Step(label="iter2", stage=LOOP_STOP)) == {None}
    assert followers(Step(label=FINAL, stage=FINAL)) == {None}


def test_a_run_begins_with_the_baseline():
    assert str(FIRST) == "baseline/train"
    assert FIRST.iteration == 0


def test_the_phase_before():
    assert previous_label("iter1") == "baseline"
    assert previous_label("iter12") == "iter11"


def test_every_field_of_a_stage_is_one_of_the_phase_and_has_one_owner():
    loop = [name for stage in STAGES if stage != FINAL for name in STAGES[stage].fields]
    assert len(loop) == len(set(loop))
    assert set(loop) | {"status", "stage_completed"} == set(Phase.model_fields)
    assert set(STAGES[FINAL].fields) <= set(Phase.model_fields)
