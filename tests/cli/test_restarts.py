from services.chassis.policy.backoff import Backoff
from services.cli.restarts import RestartPolicy

POLICY = RestartPolicy(Backoff(first_s=0.5, max_s=4.0), healthy_after_s=30.0)


def longest(deaths: int) -> float:
    return POLICY.delay_s(deaths, lambda: 1.0)


def test_a_first_death_is_answered_at_once() -> None:
    assert longest(1) == 0.0


def test_programs_that_keep_dying_are_started_ever_more_slowly_up_to_a_limit() -> None:
    assert [longest(deaths) for deaths in range(2, 8)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_the_wait_is_a_random_share_so_that_programs_do_not_come_back_in_step() -> None:
    assert POLICY.delay_s(3, lambda: 0.25) == 0.25


def test_a_death_after_a_healthy_life_counts_as_the_first() -> None:
    assert POLICY.deaths_in_a_row(5, lived_s=30.0) == 1


def test_a_death_soon_after_the_start_adds_up() -> None:
    assert POLICY.deaths_in_a_row(5, lived_s=29.9) == 6
