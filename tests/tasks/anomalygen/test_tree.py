import pytest

from tasks.anomalygen.tree import parsed_name, sample_name


def test_a_name_is_read_as_it_was_written():
    name = sample_name("board+excess solder_2", 7)
    assert name == "board+excess solder_2_00007"
    parts = parsed_name(name)
    assert parts is not None
    assert (parts.defect, parts.anomaly) == ("board+excess solder_2", "excess solder_2")


def test_the_prefix_of_searched_samples_is_no_part_of_the_defect():
    parts = parsed_name("idx000012_PCB+bridge_00003")
    assert parts is not None
    assert (parts.defect, parts.anomaly) == ("PCB+bridge", "bridge")


@pytest.mark.parametrize("name", ["missing_0001", "board+missing", "board+_1", "+missing_1", ""])
def test_other_names_are_none(name):
    assert parsed_name(name) is None
