"""The lease on a set of tables: one run writes at a time, and each commit checks that it is still the one.

Each process that takes the tables creates a file below `<root>/_lease`, with a higher number than those before. The
file with the highest number names the holder of the tables. Whoever wants them creates the next file *if it is not
there*, and stores promise that only one process succeeds (by a link on disks, by If-None-Match on S3, and likewise on
ADLS and GCS): of two that find the same dead holder, only one can take over. The holder writes a heartbeat into its own
file, and `released` at the end. A holder that paused for so long that another took over finds a higher number before
its next commit, and ends there.

A killed process leaves its file. Others take over at once where it ran on this machine and is no longer there, else
when its heartbeat is older than ten minutes, or by `--break-lock`. All of this runs on the driver.
"""

from __future__ import annotations

import getpass
import itertools
import json
import logging
import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from dedup_spark.errors import LeaseError
from dedup_spark.store import files

log = logging.getLogger(__name__)

FOLDER = "_lease"
STALE_SECONDS = 600.0
"""A process whose heartbeat is older counts as dead. Twenty heartbeats fit in, so a slow store does no harm."""
_HEARTBEAT_SECONDS = 30.0
_TRIES = 5
_MACHINE = ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid")


@dataclass(frozen=True)
class Holder:
    """The content of a file of the lease. Times are ISO 8601, UTC; `machine` and `started` tell process ids apart."""

    nonce: str
    run_id: str
    command: str
    user: str
    host: str
    machine: str
    pid: int
    started: str
    since: str
    heartbeat: str
    released: bool = False
    leaves_doubt: bool = False
    """Whether an earlier run may still be in the middle of an append, which the next one must make fail."""
    is_void: bool = False
    """Whether the store turned out to let in more than one: no heartbeat follows, and nobody is kept out."""

    def age_seconds(self) -> float:
        """Since the last heartbeat, by this machine's clock."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.heartbeat)).total_seconds()

    def is_over(self) -> bool:
        """Whether the holder has released the tables or is dead, so that they can be taken."""
        if self.released or self.age_seconds() > STALE_SECONDS:
            return True
        return self.machine == _machine() != "" and _start_of(self.pid) != self.started

    def describe(self) -> str:
        since = datetime.fromisoformat(self.since)
        return (
            f"run {self.run_id} ({self.command}), started by {self.user} on {self.host} as process {self.pid} at "
            f"{since:%Y-%m-%d %H:%M:%S} UTC, last seen {max(0.0, self.age_seconds()):.0f} s ago"
        )


class Lease:
    """The right to write to the tables below `root`, until `release`. `number` is higher for each new holder."""

    def __init__(self, root: str, number: int, holder: Holder) -> None:
        self.root, self.number, self.holder = root, number, holder
        self._commits = itertools.count(1)
        self._ended = threading.Event()
        self._writing = threading.Lock()  # a late heartbeat must not undo `released`
        _HELD.add(self)
        threading.Thread(target=self._beat, daemon=True, name="lease").start()

    @property
    def took_over(self) -> bool:
        """Whether an earlier run may not know yet that it has lost the tables."""
        return self.holder.leaves_doubt

    def clear_doubt(self) -> None:
        """Store that nothing of earlier runs can be committed any more."""
        with self._writing:
            self.holder = replace(self.holder, leaves_doubt=False)
            self._write(released=False)

    def require(self) -> None:
        """Raise LeaseError where another run took the tables over. One listing of a folder of two or three files."""
        try:
            newest = max(_with_patience(lambda: _numbers(self.root)), default=0)
        except Exception as e:  # each store has error types of its own
            raise LeaseError(
                f"the lease on the tables at {self.root} cannot be read ({type(e).__name__}: {e}): this run ends "
                "here; what it committed before is kept"
            ) from e
        if newest != self.number:
            raise LeaseError(
                f"the tables at {self.root} were taken over by {_described(_read(self.root, newest))}: this run seemed "
                "dead, or --break-lock was given. It ends here; what it committed before is kept"
            )

    def name_run(self, run_id: str) -> None:
        """Tell others which run this is. Its id comes from the tables, which are read only under the lease."""
        with self._writing:
            self.holder = replace(self.holder, run_id=run_id)
            self._write(released=False)

    def next_commit(self) -> int:
        """A number that rises from commit to commit and from holder to holder: the version of Delta's transactions."""
        return (self.number << 32) + next(self._commits)

    def release(self) -> None:
        """Let others in at once. A second call does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        with self._writing, suppress(Exception):  # where the store is gone, the lease ends by its heartbeat
            self._write(released=True)

    def _beat(self) -> None:
        while not self._ended.wait(_HEARTBEAT_SECONDS):
            with self._writing:
                if self._ended.is_set():
                    return
                try:
                    self._write(released=False)
                except Exception as e:  # each store has error types of its own, and the next beat may reach it
                    log.warning("lease: the heartbeat could not be written to %s: %s", self.root, e)
                    files.find_credentials_anew()

    def _write(self, *, released: bool) -> None:
        self.holder = replace(self.holder, heartbeat=_now(), released=released)
        files.write_atomically(_path(self.root, self.number), _to_json(self.holder))


_HELD: weakref.WeakSet[Lease] = weakref.WeakSet()


def release_all() -> None:
    """Release the leases that this process holds, for one that ends here."""
    for held in list(_HELD):
        held.release()


def take(root: str, run_id: str, command: str, *, break_lock: bool = False) -> Lease | None:
    """The lease of the tables below `root`; None, and a warning, where the store cannot create a file exclusively.

    Args:
        command: For the messages of others.
        break_lock: Take over from a holder that seems alive. It will end before its next commit.

    Raises:
        LeaseError: another run holds it.
    """
    if not files.creates_exclusively(root):
        _warn_of_no_lease(root)
        return None
    for _ in range(_TRIES):
        numbers = _numbers(root)
        newest = max(numbers, default=0)
        before = _read(root, newest) if newest else None
        if newest and not break_lock and not _is_over(root, newest, before):
            raise LeaseError(
                f"the tables at {root} are being written by {_described(before)}: nothing was started. Wait until "
                f"it ends; if it is dead, this works again {STALE_SECONDS / 60:.0f} minutes after it was last seen, or "
                "now with --break-lock"
            )
        is_clean = not newest or (before is not None and before.released and not before.leaves_doubt)
        # Minutes, so that numbers rise also where somebody deleted the folder: Delta skips commits of lower ones.
        number = max(newest + 1, int(time.time() / 60))
        holder = _this_process(run_id, command, leaves_doubt=not is_clean)
        if not _create(root, number, holder):
            continue
        if _creates_again(root, number, holder):
            files.write_atomically(_path(root, number), _to_json(replace(holder, is_void=True)))
            _warn_of_no_lease(root)
            return None
        lease = Lease(root, number, holder)
        lease.require()  # somebody may have gone on while this process stood still
        for old in numbers:
            if old < newest:  # the last holder's file stays: by it that holder sees who took the tables over
                files.delete_tree(_path(root, old))
        return lease
    raise LeaseError(f"several runs try to take the tables at {root} at once: nothing was started; try again")


def holder_of(root: str) -> Holder | None:
    """Who holds the tables below `root`, or held them last; None where nobody did, or has only just begun to."""
    newest = max(_numbers(root), default=0)
    return _read(root, newest) if newest else None


def tells_who_is_alive(root: str) -> bool:
    """Whether the lease is of effect on the tables below `root`: the store creates files exclusively, by its kind and
    by what its last holder found."""
    held = holder_of(root)
    return files.creates_exclusively(root) and not (held is not None and held.is_void)


def _warn_of_no_lease(root: str) -> None:
    log.warning(
        "lease: %s is in a store without exclusive creation of files: nothing keeps a second run from writing there at "
        "the same time; make sure that there is none",
        root,
    )


def _is_over(root: str, number: int, holder: Holder | None) -> bool:
    """As Holder.is_over. The age of a file without content, whose writer was killed, counts from its creation."""
    if holder is not None:
        return holder.is_over()
    written_at = files.written_at(_path(root, number))
    return written_at is not None and time.time() - written_at > STALE_SECONDS


def _this_process(run_id: str, command: str, *, leaves_doubt: bool) -> Holder:
    pid, now = os.getpid(), _now()
    return Holder(
        nonce=secrets.token_hex(8), run_id=run_id, command=command, user=_user(), host=socket.gethostname(),
        machine=_machine(), pid=pid, started=_start_of(pid), since=now, heartbeat=now, leaves_doubt=leaves_doubt,
    )  # fmt: skip


def _create(root: str, number: int, holder: Holder) -> bool:
    """False where another process was quicker."""
    try:
        files.create_exclusively(_path(root, number), _to_json(holder))
    except FileExistsError:
        found = _read(root, number)  # the store may have carried out the request and answered with an error
        return found is not None and found.nonce == holder.nonce
    return True


def _creates_again(root: str, number: int, holder: Holder) -> bool:
    """Whether the store, or an old package for it, creates a file that exists already: then the lease has no effect."""
    try:
        files.create_exclusively(_path(root, number), _to_json(holder))
    except FileExistsError:
        return False
    return True


def _with_patience[Answer](ask: Callable[[], Answer]) -> Answer:
    for attempt in range(_TRIES):
        try:
            return ask()
        except Exception:  # each store has error types of its own
            if attempt + 1 == _TRIES:
                raise
            files.find_credentials_anew()
            time.sleep(2.0**attempt)
    raise AssertionError("the last try returned or raised")


def _numbers(root: str) -> list[int]:
    names = files.list_names(f"{root}/{FOLDER}")
    return [int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdecimal()]


def _read(root: str, number: int) -> Holder | None:
    """None where the file is not whole, as its writer has only just created it, or is gone."""
    try:
        known = json.loads(files.read_bytes(_path(root, number)))
        names = {field.name for field in fields(Holder)}  # a newer version may write more
        return Holder(**{name: value for name, value in known.items() if name in names})
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


def _described(holder: Holder | None) -> str:
    return holder.describe() if holder else "a run that has just started"


def _path(root: str, number: int) -> str:
    return f"{root}/{FOLDER}/{number:08d}.json"


def _to_json(holder: Holder) -> bytes:
    return json.dumps(asdict(holder), indent=1).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without an entry, as containers have it
        return f"user {os.getuid()}"


def _machine() -> str:
    """Equal for two processes exactly if they see each other's ids: the boot and the namespace of processes."""
    try:
        return f"{Path(_MACHINE[0]).read_text().strip()}/{Path(_MACHINE[1]).readlink()}"
    except OSError:  # no Linux: heartbeats alone tell
        return ""


def _start_of(pid: int) -> str:
    """When a live process started, in ticks since the boot; else empty. Ids are used again, with another start."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if facts[0] == "Z" else facts[19]  # Z: a zombie, which its parent has not waited for yet
