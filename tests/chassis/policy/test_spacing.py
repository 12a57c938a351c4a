import pytest

from services.chassis.policy.spacing import Spacing


@pytest.mark.parametrize(
    ("asked_at", "turns_in_s"),
    [
        ([0.0] * 5, [0.0, 0.0, 0.1, 0.2, 0.3]),
        ([0.0, 0.1, 0.2, 0.3], [0.0] * 4),
        ([0.0] * 4 + [0.4] * 2, [0.0, 0.0, 0.1, 0.2, 0.0, 0.0]),
        ([0.0] * 4 + [0.1], [0.0, 0.0, 0.1, 0.2, 0.2]),
        ([0.0, 9.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.1]),  # a long rest saves up no more
    ],
)
def test_turns(asked_at: list[float], turns_in_s: list[float]) -> None:
    spacing = Spacing(10, at_once=2)
    assert [spacing.turn_in_s(now) for now in asked_at] == pytest.approx(turns_in_s)
