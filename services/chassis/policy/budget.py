"""How much retrying a client may do: a share of its calls, so that retries cannot keep a fallen server down.

After Finagle's RetryBudget (https://twitter.github.io/finagle/guide/Clients.html#retries).
"""

from typing import Final

RETRY_SHARE: Final = 0.1  # one retry earned by ten calls
RESERVE: Final = 10.0  # for clients that call seldom; also the most that can be saved up


class RetryBudget:
    """Calls deposit, retries withdraw; empty means that the trouble is not a passing one."""

    def __init__(self, share: float = RETRY_SHARE, reserve: float = RESERVE) -> None:
        self._share = share
        self._reserve = reserve
        self._tokens = reserve

    @property
    def retries_left(self) -> int:
        return int(self._tokens + 1e-9)  # ten tenths are one, whatever floats say

    def deposit(self) -> None:
        """A call was begun."""
        self._tokens = min(self._reserve, self._tokens + self._share)

    def withdraw(self) -> bool:
        """Whether a retry may be made; if so, it is paid for."""
        if self.retries_left < 1:
            return False
        self._tokens -= 1
        return True
