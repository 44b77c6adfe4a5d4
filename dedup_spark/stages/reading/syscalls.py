"""The system calls that a decoder process may not make, as a program for seccomp (classic BPF, linux/filter.h).

It names what is forbidden and lets the rest pass: which calls Python, NumPy and a dozen C libraries need changes with
their versions, while what reaches out of a process is a short list. A forbidden call fails with EPERM, as if the user
had no right to it, so that a library that asks for no reason goes on.
"""

from __future__ import annotations

import errno
import os
import struct

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""AUDIT_ARCH of linux/audit.h, and the column of the numbers below."""
_X32_BIT = 0x40000000

_NONE = -1
_FORBIDDEN = {
    # network
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    # other programs and processes
    "fork": (57, _NONE), "vfork": (58, _NONE), "execve": (59, 221), "execveat": (322, 281), "tkill": (200, 130),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "process_madvise": (440, 440), "kcmp": (312, 272),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "sched_setaffinity": (203, 122),
    # changes of files
    "creat": (85, _NONE), "truncate": (76, 45), "unlink": (87, _NONE), "unlinkat": (263, 35), "rename": (82, _NONE),
    "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, _NONE), "mkdirat": (258, 34), "rmdir": (84, _NONE),
    "link": (86, _NONE), "linkat": (265, 37), "symlink": (88, _NONE), "symlinkat": (266, 36), "chmod": (90, _NONE),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, _NONE), "fchown": (93, 55),
    "lchown": (94, _NONE), "fchownat": (260, 54), "mknod": (133, _NONE), "mknodat": (259, 33), "utime": (132, _NONE),
    "utimes": (235, _NONE), "futimesat": (261, _NONE), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "open_by_handle_at": (304, 265),
    # the kernel
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "userfaultfd": (323, 282), "init_module": (175, 105), "finit_module": (313, 273),
    "kexec_load": (246, 104), "reboot": (169, 142), "move_mount": (429, 429), "open_tree": (428, 428),
    "fsopen": (430, 430), "mount_setattr": (442, 442),
}  # fmt: skip
_UNKNOWN_HERE = {"clone3": (435, 435), "openat2": (437, 437)}
"""Their arguments lie in memory, where a filter cannot look: answered as by a kernel that is older than they are, so
that the C library falls back on the calls below."""
_OWN_PROCESS_ONLY = {"kill": (62, 129), "tgkill": (234, 131)}
_CLONE, _OPEN, _OPENAT = (56, 220), (2, _NONE), (257, 56)
_CLONE_THREAD = 0x00010000
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_LOAD, _JUMP_EQUAL, _JUMP_SET, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _ERROR, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in struct seccomp_data; of an argument of 64 bits the lower half, on machines that are little-endian."""


def program(machine: str, own_pid: int) -> list[bytes] | None:
    """The instructions of the filter, 8 bytes each; None for a machine whose numbers are not known here."""
    if machine not in _ARCHITECTURES:
        return None
    architecture, column = _ARCHITECTURES[machine]
    instructions = [
        _instruction(_LOAD, value=_ARCHITECTURE),
        _instruction(_JUMP_EQUAL, 1, 0, architecture),
        _instruction(_RETURN, value=_KILL_PROCESS),
        _instruction(_LOAD, value=_NUMBER),
    ]
    if machine == "x86_64":
        instructions += [_instruction(_JUMP_AT_LEAST, 0, 1, _X32_BIT), _fail(errno.ENOSYS)]
    for numbers in _FORBIDDEN.values():
        instructions += _when(numbers[column], [_fail(errno.EPERM)])
    for numbers in _UNKNOWN_HERE.values():
        instructions += _when(numbers[column], [_fail(errno.ENOSYS)])
    for numbers in _OWN_PROCESS_ONLY.values():
        instructions += _when(numbers[column], _unless(_JUMP_EQUAL, own_pid, argument=0))
    instructions += _when(_CLONE[column], _unless(_JUMP_SET, _CLONE_THREAD, argument=0))
    instructions += _when(_OPEN[column], _if_set(_TO_WRITE, argument=1))
    instructions += _when(_OPENAT[column], _if_set(_TO_WRITE, argument=2))
    return [*instructions, _instruction(_RETURN, value=_ALLOW)]


def _instruction(code: int, jump_true: int = 0, jump_false: int = 0, value: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jump_true, jump_false, value)


def _fail(error: int) -> bytes:
    return _instruction(_RETURN, value=_ERROR | error)


def _when(number: int, then: list[bytes]) -> list[bytes]:
    """`then`, which ends in a return, for the call of that number; no instruction for a call that is not there."""
    return [] if number == _NONE else [_instruction(_JUMP_EQUAL, 0, len(then), number), *then]


def _unless(jump: int, value: int, argument: int) -> list[bytes]:
    """Allow the call where its argument is (or has the bit) `value`."""
    look = _instruction(_LOAD, value=_FIRST_ARGUMENT + 8 * argument)
    return [look, _instruction(jump, 0, 1, value), _instruction(_RETURN, value=_ALLOW), _fail(errno.EPERM)]


def _if_set(value: int, argument: int) -> list[bytes]:
    """Refuse the call where its argument has one of the bits of `value`."""
    look = _instruction(_LOAD, value=_FIRST_ARGUMENT + 8 * argument)
    return [look, _instruction(_JUMP_SET, 0, 1, value), _fail(errno.EPERM), _instruction(_RETURN, value=_ALLOW)]
