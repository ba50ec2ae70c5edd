from tasks.artifacts import write_json
from tasks.dataset.headline import headline

ROWS = "row_index,source,origin_iter,origin\n0,base_train,0,base\n1,base_train,0,base\n2,new,1,mined\n"


def told(folder, dropped):
    facts = {"iteration": 1, "rows_checked": 3, "previous_rows": 2, "new_rows": 1, "dedup_dropped": dropped}
    (folder / "provenance.csv").write_text(ROWS)
    return headline(write_json(folder / "merge.json", facts), folder / "provenance.csv")


def test_says_how_many_rows_there_are_and_where_they_came_from(tmp_path):
    found = told(tmp_path, 0)
    assert found.sentence.startswith("Iteration 1 trains on 3 rows: 2 from before, 1 new. None shows")
    assert found.rows == [
        ("the start", "the rows at the start", 2),
        ("iteration 1", "mined from the pool", 1),
    ]


def test_rows_left_out_are_told(tmp_path):
    assert "1 new, 5 repeated rows left out." in told(tmp_path, 5).sentence
