"""The steady window of a closed loop: from every place's first answer to the first place left empty."""

from __future__ import annotations


class Window:
    """Watches arrivals come and go.

    Args:
        places: how many there are; `None` where that changes, and nothing is steady.
    """

    def __init__(self, places: int | None) -> None:
        self.begin: int | None = None
        self.end: int | None = None
        self._places = places
        self._first_ones: set[int] | None = None  # who filled all places
        self._measuring = False

    def started(self, going: set[int], *, measured: bool) -> None:
        """An arrival took a place. `going`: the numbers of all that have one."""
        self._measuring = self._measuring or measured
        if self._places is not None and self._first_ones is None and len(going) >= self._places:
            self._first_ones = set(going)

    def ended(self, number: int, now: int, *, refilled: bool) -> None:
        """An arrival left its place; `refilled`: another one takes it."""
        if self._first_ones is None:
            return
        self._first_ones.discard(number)
        if not self._first_ones and self.begin is None and self._measuring:
            self.begin = now
        if not refilled and self.end is None:
            self.end = now

    def bounds(self) -> tuple[int | None, int | None]:
        """Its instants; `None` twice where there was no such window."""
        if self.begin is None or self.end is None or self.end <= self.begin:
            return None, None
        return self.begin, self.end
