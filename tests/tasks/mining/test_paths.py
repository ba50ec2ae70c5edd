import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.mining.paths import identity


@pytest.mark.parametrize(
    "spelling", ["a/b.png", " a/b.png ", "./a/b.png", "a//b.png", "a/x/../b.png", "a\\b.png"]
)
def test_one_file_has_one_identity(spelling: str):
    assert identity(spelling) == "a/b.png"


@given(st.text("ab./\\", min_size=1))
def test_the_identity_of_an_identity_is_itself(text: str):
    assert identity(identity(text)) == identity(text)


def test_an_empty_path_has_none():
    with pytest.raises(InputError, match="empty"):
        identity("  ")
