"""So many a second, and a few more at once after a rest. Pure; whoever asks says what time it is.

After the generic cell rate algorithm (ITU-T I.371, annex A), of which only the next turn has to be known.
"""


class Spacing:
    """Gives out turns, evenly spaced."""

    def __init__(self, per_s: float, at_once: int) -> None:
        """`at_once`: how many turns a rest may save up."""
        self._every_s = 1 / per_s
        self._saved_s = at_once / per_s
        self._taken_until = float("-inf")

    def turn_in_s(self, now: float) -> float:
        """Seconds until the turn that is taken hereby; 0: at once."""
        self._taken_until = max(self._taken_until, now - self._saved_s) + self._every_s
        return max(self._taken_until - now, 0.0)
