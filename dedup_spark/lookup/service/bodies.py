"""How many bytes of bodies the service holds at a time, of all requests: those that come, wait and are looked up."""

from __future__ import annotations

import threading


class Bodies:
    """A budget of bytes. Used by any number of threads."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self.held = 0

    def hold(self) -> Held:
        """The share of one request, which has nothing yet."""
        return Held(self)

    def take(self, n: int) -> bool:
        """Whether there is room for so many more bytes, which are then taken."""
        with self._lock:
            is_free = self.held + n <= self._most
            self.held += n if is_free else 0
            return is_free

    def give_back(self, n: int) -> None:
        """They are free for others."""
        with self._lock:
            self.held -= n


class Held:
    """What one request holds, until `release`. `is_lent`: who works on it releases it."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._n = bodies, 0
        self.is_lent = False

    def take(self, n: int) -> bool:
        """Whether the request may hold so many more bytes."""
        is_free = self._bodies.take(n)
        self._n += n if is_free else 0
        return is_free

    def release(self) -> None:
        """Give all of it back; a second time does nothing."""
        n, self._n = self._n, 0
        self._bodies.give_back(n)
