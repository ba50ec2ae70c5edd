from tasks.reports.words import counted, share


def test_counts_and_shares_are_words():
    assert [counted(1, "row"), counted(0, "row"), counted(1200, "row")] == ["1 row", "0 rows", "1,200 rows"]
    assert share(7, 154) == "7 of 154 (4.5 %)"
    assert share(0, 0) == "0 of 0"
