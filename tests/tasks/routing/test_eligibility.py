import pytest

from tasks.routing.eligibility import compared, route, routing_text


@pytest.mark.parametrize("label", ["excess solder", " Excess-Solder ", "EXCESS_SOLDER", "excess - solder"])
def test_spellings_of_one_label_are_compared_equal(label: str):
    assert compared(label) == "EXCESS_SOLDER"


def test_both_ways_are_decided_independently():
    routing = route(["a", "b", "c", "d"], ["A", "C"], ["b", "c"])
    assert routing.to_mining == [True, False, True, False]
    assert routing.to_generation == [False, True, True, False]
    assert [item.facts()["routed_to"] for item in routing.labels] == [
        "mining only",
        "anomalygen only",
        "mining + anomalygen",
        "neither (DROPPED)",
    ]


def test_labels_stand_by_count_descending():
    routing = route(["z", "b", "z", "a"], ["z"], [])
    assert [(item.label, item.count) for item in routing.labels] == [("Z", 2), ("A", 1), ("B", 1)]


def test_the_summary_says_it_all():
    assert routing_text(
        route(["MISSING", "missing", "scratch"], None, ["MISSING"]), "m.parquet", "g.parquet"
    ) == (
        "Routing summary\nTotal weak samples: 3\nMining subset: 0 -> m.parquet\n"
        "AnomalyGen subset: 2 -> g.parquet\nNo source pool: mining=no for every label\nPer label:\n"
        "  MISSING: 2  mining=no  anomalygen=yes\n  SCRATCH: 1  mining=no  anomalygen=no\n"
    )
