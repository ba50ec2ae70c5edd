from tasks.mining.precheck import precheck, yield_warning


def test_labels_that_the_pool_lacks_are_named_with_their_count():
    warnings = precheck(["Bridge", "bridge ", "missing", "PASS"], ["pass", "MISSING"])
    assert len(warnings) == 1
    assert "BRIDGE, which 2 weak samples" in warnings[0]


def test_nothing_to_warn_of():
    assert precheck(["bridge"], ["BRIDGE"]) == []


def test_a_pool_without_labels_is_not_checkable():
    assert "not checkable" in precheck(["bridge"], None)[0]


def test_yield_below_half_is_a_warning_and_half_is_not():
    assert yield_warning(50, 100) is None
    assert yield_warning(0, 0) is None
    warning = yield_warning(49, 100)
    assert warning is not None
    assert "49" in warning
    assert "100" in warning
    assert "51 %" in warning
