"""Values that executors keep between tasks: the last ones used, within a bound of bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Kept[V]:
    """A cache whose least recently used values go first. Not for several threads.

    Args:
        max_bytes: what all of them may take, where there are more than `at_least`.
        at_least: so many stay whatever they take, as the work in hand needs them.
    """

    def __init__(self, max_bytes: int, at_least: int, bytes_of: Callable[[V], int]) -> None:
        self._max_bytes, self._at_least, self._bytes_of = max_bytes, at_least, bytes_of
        self._values: dict[Hashable, V] = {}  # the last one used comes last

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value kept for `key`, else a new one."""
        value = self._values.pop(key) if key in self._values else make()
        self._values[key] = value
        while len(self._values) > self._at_least and sum(map(self._bytes_of, self._values.values())) > self._max_bytes:
            del self._values[next(iter(self._values))]
        return value

    def clear(self) -> None:
        self._values.clear()
