from services.kernel.recent import Recent


def test_what_was_set_longest_ago_is_forgotten_first() -> None:
    recent: Recent[str, int] = Recent(2)
    recent["a"] = 1
    recent["b"] = 2
    recent["c"] = 3
    assert dict(recent) == {"b": 2, "c": 3}


def test_what_is_set_again_is_young_and_takes_no_more_room() -> None:
    recent: Recent[str, int] = Recent(2)
    recent["a"] = 1
    recent["b"] = 2
    recent["a"] = 3
    assert dict(recent) == {"a": 3, "b": 2}
    recent["c"] = 4
    assert dict(recent) == {"a": 3, "c": 4}


def test_looking_makes_nothing_younger() -> None:
    recent: Recent[str, int] = Recent(2)
    recent["a"] = 1
    recent["b"] = 2
    assert recent["a"] == recent.get("a") == 1
    recent["c"] = 3
    assert "a" not in recent
