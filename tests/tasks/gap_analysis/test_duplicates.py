import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.gap_analysis.duplicates import count_duplicates

TEXT = st.text("ab\0é", max_size=20) | st.text("x", min_size=14, max_size=40)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=40), st.integers(0, 5))
def test_equals_counting_with_a_set(pairs, skip):
    table = pa.table(
        {name: pa.array([pair[i] for pair in pairs], pa.string()) for i, name in enumerate("pq")}
    )
    chunked = pa.concat_tables([table, table]).slice(skip)
    kept = (pairs + pairs)[skip:]
    assert count_duplicates(chunked, ["p", "q"]) == len(kept) - len(set(kept))


@pytest.mark.parametrize("middle", ["1", "2"])
def test_texts_that_differ_in_the_middle_only_are_different(middle):
    texts = pa.array(["front" * 8 + end + "back" * 8 for end in ("1", middle)])
    assert count_duplicates(pa.table({"p": texts}), ["p"]) == (1 if middle == "1" else 0)
