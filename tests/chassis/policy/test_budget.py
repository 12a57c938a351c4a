from services.chassis.policy.budget import RetryBudget


def test_a_new_budget_has_a_reserve() -> None:
    budget = RetryBudget(share=0.1, reserve=3)
    assert [budget.withdraw() for _ in range(4)] == [True, True, True, False]


def test_ten_calls_earn_one_retry() -> None:
    budget = RetryBudget(share=0.1, reserve=3)
    while budget.withdraw():
        pass
    for _ in range(9):
        budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()
    assert not budget.withdraw()


def test_savings_end_at_the_reserve() -> None:
    budget = RetryBudget(share=0.1, reserve=3)
    for _ in range(1000):
        budget.deposit()
    assert budget.retries_left == 3


def test_retries_stay_a_tenth_of_the_calls_in_the_long_run() -> None:
    budget = RetryBudget(share=0.1, reserve=10)
    made = 0
    for _ in range(10_000):
        budget.deposit()
        made += budget.withdraw()
    assert made <= 10_000 * 0.1 + 10
