import shutil
from pathlib import Path

import pytest

from tasks.errors import InputError
from tasks.export.samples import sample_id, samples_of
from tests.tasks.export.conftest import LABELS, weak_rows, write_rows


def of(samples, kind):
    return [one for one in samples if one.set == kind]


def test_last_phase_that_has_each(run):
    found = samples_of(run)
    weak, mined = of(found, "weak"), of(found, "mined")
    assert [one.label for one in weak] == list(LABELS)
    assert {one.phase for one in weak} == {"iter1"}
    assert {one.phase for one in mined} == {"iter2"}


def test_chosen_phase(run):
    assert len(samples_of(run, "baseline")) == 2
    assert {one.phase for one in samples_of(run, "iter1")} == {"iter1"}


def test_lightings_of_one_mined_sample_are_one_and_the_closer_counts(run):
    mined = of(samples_of(run), "mined")
    assert [(one.object_name, one.similarity) for one in mined] == [("p00", 0.9), ("p01", 0.9), ("p02", None)]
    assert mined[0].target_label == "PASS"
    assert mined[2].target is None


def test_goldens_are_those_of_the_sets(run):
    weak, mined = of(samples_of(run), "weak"), of(samples_of(run), "mined")
    assert all(one.golden and one.golden.name == one.image.name for one in weak)
    assert [one.golden is None for one in mined] == [True, False, False]


def test_ids_are_stable_and_differ(run, tmp_path):
    first = [one.id for one in samples_of(run)]
    moved = shutil.copytree(run, tmp_path / "moved")
    assert [one.id for one in samples_of(moved)] == first
    assert len(set(first)) == len(first)
    assert all(len(one) == 24 and int(one, 16) >= 0 for one in first)


def test_id_says_where_a_sample_comes_from():
    assert sample_id("weak", "a", "bc") != sample_id("weak", "ab", "c") != sample_id("mined", "ab", "c")


def test_row_that_stands_there_twice_is_kept_twice(run, tmp_path):
    twice = weak_rows(tmp_path / "images of line 1", LABELS[:1]) * 2
    write_rows(run / "baseline" / "rca_results" / "2026-01-02_000000" / "weak_samples.parquet", twice)
    first, second = samples_of(run, "baseline")
    assert first.id == sample_id("weak", first.input_path, first.object_name)
    assert first.id != second.id


def test_deleted_scores_leave_samples_without_golden(run):
    shutil.rmtree(run / "iter1" / "inference")
    assert all(one.golden is None for one in of(samples_of(run), "weak"))


def test_missing_image_is_named(run, tmp_path):
    gone = tmp_path / "images of line 1" / "pool" / "p01_B.png"
    gone.unlink()
    with pytest.raises(InputError, match=r"1 of 8 images do not exist: .*p01_B\.png"):
        samples_of(run)


@pytest.mark.parametrize("phase", ["iter9", "../run_1/iter1", ""])
def test_unknown_phase_is_one_line(run, phase):
    with pytest.raises(InputError, match=r"has no phase .*; it has baseline, iter1, iter2"):
        samples_of(run, phase)


def test_run_without_samples_is_one_line(run):
    for label in ("baseline", "iter1", "iter2"):
        shutil.rmtree(run / label)
    with pytest.raises(InputError, match="nothing to export"):
        samples_of(run)


def test_other_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"is no run with a data loop: it has no deft_state\.json"):
        samples_of(tmp_path)


def test_spoilt_parquet_is_named(run):
    file = next(Path(run).glob("iter1/rca_results/*/weak_samples.parquet"))
    file.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"weak_samples\.parquet cannot be read"):
        samples_of(run)
    write_rows(file, [{"label": "a"}])
    with pytest.raises(InputError, match="lacks the columns input_path, object_name"):
        samples_of(run)
