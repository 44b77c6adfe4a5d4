"""Takes from a process what a decoder of images does not need: files, network, other processes, cloud keys.

The process of a decoder reads bytes that strangers wrote, by C libraries. Who takes such a process over should find
nothing in it that is worth having, and no way out but the answer that its parent checks. Python imports the plugin of
a format when the first file of it comes: so the folders of the packages stay readable, and nothing else does.

- `environment` is what the process is started with: no variable that may hold a key, no current folder on the path.
- `confine` is what it does to itself before the first image: it may write no file (RLIMIT_FSIZE), open files below the
  folders of its packages only (Landlock, Linux 5.13), open no socket, start no process, send signals to none but
  itself, and look into none (seccomp, Linux 3.17, on x86-64 and ARM64). Where a kernel or a container refuses one of
  the two, the others hold, and the parent says what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from dedup_spark.stages.reading import syscalls

_KEPT_VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "TZ")
"""What finds libraries and the interpreter, and how it reads names."""
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom")

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2

# linux/landlock.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _RULE_PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
"""From which version of Landlock how many rights over files it knows."""
_CONNECT_AND_BIND, _NET_VERSION = 3, 4
_SIGNALS_AND_ABSTRACT_SOCKETS, _SCOPE_VERSION = 3, 6


def environment(package_root: str) -> dict[str, str]:
    """The environment of a decoder process: `package_root` and the packages of this one on its path, no keys."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join([package_root, *_import_path()]),
        "PYTHONSAFEPATH": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def confine() -> list[str]:
    """Give up what a decoder does not need; returns by name what this kernel or container refuses, not done.

    Only this process is concerned, and it cannot be undone. Where standard error is a file, as on YARN, nothing more
    is written to it: what a decoder has to say goes into its answer.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # Python ignores SIGXFSZ: a write fails with EFBIG
    if sys.platform != "linux":
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        return ["Landlock", "seccomp"]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # asked for by both
    refused = [] if _allow_files(libc, [*_SYSTEM_FOLDERS, *_package_folders()]) else ["Landlock"]
    if not _forbid_calls(libc):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no threads either, which no decoder of ours starts
        refused.append("seccomp")
    return refused


def _import_path() -> list[str]:
    """The import path of this process without the current folder, in which there may be the files of a lake."""
    return [place for place in sys.path if place and not _is_here(place)]


def _is_here(place: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(place).samefile(".")
    return False


def _package_folders() -> Iterator[str]:
    yield from {sys.prefix, sys.base_prefix, sys.exec_prefix}
    yield from filter(None, sys.path)
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        yield from filter(None, os.environ.get(name, "").split(os.pathsep))


def _allow_files(libc: ctypes.CDLL, places: Iterable[str]) -> bool:
    """Allow reading below `places` and nothing else of any file; returns whether Landlock took it."""
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    if version < 1:
        return False
    rights = max(bits for since, bits in _FILE_RIGHTS if since <= version)
    attributes = struct.pack(
        "<QQQ",
        (1 << rights) - 1,
        _CONNECT_AND_BIND if version >= _NET_VERSION else 0,
        _SIGNALS_AND_ABSTRACT_SOCKETS if version >= _SCOPE_VERSION else 0,
    )
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes) if version >= 6 else 8), 0)
    if ruleset < 0:
        return False
    try:
        for place in places:
            _add_rule(libc, ruleset, place)
        return libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _add_rule(libc: ctypes.CDLL, ruleset: int, place: str) -> None:
    try:
        opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine
        return
    try:
        allowed = _READ_FILE | (_READ_DIR if Path(place).is_dir() else 0)
        libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("<Qi", allowed, opened), 0)
    finally:
        os.close(opened)


def _forbid_calls(libc: ctypes.CDLL) -> bool:
    """Forbid the system calls of `syscalls.py` by a seccomp filter; returns whether the kernel took it."""
    program = syscalls.program(os.uname().machine, os.getpid())
    if program is None:
        return False
    instructions = ctypes.create_string_buffer(b"".join(program))
    sock_fprog = struct.pack("@HP", len(program), ctypes.addressof(instructions))
    taken: int = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, sock_fprog, 0, 0)
    return taken == 0
