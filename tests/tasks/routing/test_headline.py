from tasks.artifacts import write_json
from tasks.registry import find_action

ROUTE = find_action("routing", "route")


def told(folder, **facts):
    none = {"total": 0, "to_mining": 0, "to_generation": 0, "to_both": 0, "dropped": 0, "labels": []}
    write_json(folder / "routing.json", none | facts)
    return ROUTE.code.headline(ROUTE.spec({"gaps_parquet": folder / "gaps.parquet", "results_dir": folder}))


def test_says_how_many_go_where_and_which_can_go_nowhere(tmp_path):
    labels = [
        {"label": "BRIDGE", "count": 3, "mining": True, "generation": False, "routed_to": "mining only"}
    ]
    found = told(tmp_path, total=4, to_mining=3, dropped=1, labels=labels)
    assert found.sentence == (
        "Of 4 weak samples 3 go to mining and 0 to generation, 0 of them to both; 1 sample can go nowhere."
    )
    assert found.rows == [("BRIDGE", 3, True, False)]


def test_nothing_to_route_is_a_headline_too(tmp_path):
    found = told(tmp_path)
    assert found.sentence.startswith("Of 0 weak samples 0 go to mining")
    assert not found.rows
