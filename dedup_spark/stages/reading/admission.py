"""Who may use a shared amount of memory: the Python workers of one executor, which are processes of one machine.

The amount is cut into slots, and a slot is a file that its user locks (`flock`). A lock ends with the process that
holds it, however that ends, so a killed worker takes nothing with it. Whoever needs memory waits for its turn, another
lock, and then collects free slots until it has enough: so a large image gets what it needs after those before it are
done, small ones cannot overtake it for ever, and as only one collects at a time, no two wait for each other's slots.
An admission costs some 0.1 ms where slots are free; ordinary images need none.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dedup_spark.store import files

_N_SLOTS = 64
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.05
_TURN = "turn"


class DoesNotFit(Exception):
    """More was asked for than there is in all."""


class Admission:
    """`n_bytes` that all who name the same `folder` and the same `name` share; threads and processes alike."""

    def __init__(self, folder: Path, name: str, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._folder = folder / f"{name}-{n_bytes}"
        self._slot_bytes = max(1, -(-n_bytes // _N_SLOTS))

    @contextmanager
    def admitted(self, n_bytes: int) -> Iterator[None]:
        """Hold so many bytes inside of it; nothing at all where that is none. Waits for them.

        Raises:
            DoesNotFit: at once.
        """
        if n_bytes > self.n_bytes:
            raise DoesNotFit(f"{n_bytes:,} of {self.n_bytes:,} bytes")
        held = self._collected(-(-n_bytes // self._slot_bytes)) if n_bytes > 0 else []
        try:
            yield
        finally:
            _close(held)

    def _collected(self, n_slots: int) -> list[int]:
        """Open files of so many slots, locked."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        turn = self._opened(_TURN)
        held: dict[str, int] = {}
        pause = _FIRST_PAUSE_SECONDS
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
            while not self._collect(n_slots, held):
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        except BaseException:
            _close(held.values())
            raise
        finally:
            os.close(turn)
        return list(held.values())

    def _collect(self, n_slots: int, held: dict[str, int]) -> bool:
        """Add free slots to those held; returns whether they are enough."""
        for name in map(str, range(_N_SLOTS)):
            if len(held) == n_slots:
                break
            if name not in held and (slot := self._locked(name)) is not None:
                held[name] = slot
        return len(held) == n_slots

    def _locked(self, name: str) -> int | None:
        slot = self._opened(name)
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(slot)
            return None
        return slot

    def _opened(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def shared_folder() -> Path:
    """What the Python workers of one executor share and no others: Spark's own folder of the executor, which it names
    to its workers and deletes with it. Outside of a worker, a folder that all processes of this user share."""
    for folder in filter(None, os.environ.get("SPARK_LOCAL_DIRS", "").split(",")):
        with suppress(OSError):
            mine = Path(folder, f"dedup_spark-{os.getuid()}")
            mine.mkdir(mode=0o700, exist_ok=True)
            if mine.lstat().st_uid == os.getuid() and not mine.is_symlink() and _takes_locks(mine):
                return mine
    return files.private_folder("admission")


def _takes_locks(folder: Path) -> bool:
    """Some network filesystems know no flock."""
    try:
        opened = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(opened)
    return True


def _close(held: Iterable[int]) -> None:
    for slot in held:
        os.close(slot)
