"""Takes from this process, for good, all that reading a file does not need: network, other files, other processes.

Linux only. Each layer is tried by itself, because containers forbid some of them: a network namespace of its own
(namespaces(7)), Landlock (landlock(7)) and a seccomp filter (seccomp(2)). Numbers are those of the kernel's headers.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

NO_NEW_PRIVS, SET_SECCOMP, SET_PDEATHSIG = 38, 22, 1
NEW_USER, NEW_NET = 0x10000000, 0x40000000
SIGKILL = 9

# Landlock: the same numbers on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
READ = 0b1101  # execute, read files, read folders
FILE_ONLY = 0b1100000000000111 | 0b1000  # what a rule about a single file may name
FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
TCP, ABSTRACT_SOCKETS_AND_SIGNALS = 3, 3

# Calls that are refused, by machine: (AUDIT_ARCH, clone, clone3, all the others).
DENIED = {
    "x86_64": (
        0xC000003E, 56, 435,
        # socket, connect, execve, execveat, fork, vfork, setsid, setpgid, kill, tkill, tgkill,
        # rt_sigqueueinfo, rt_tgsigqueueinfo, ptrace, process_vm_*, pidfd_*, io_uring_setup, unshare,
        # setns, mount, bpf, keys, perf_event_open, userfaultfd
        (41, 42, 59, 322, 57, 58, 112, 109, 62, 200, 234, 129, 297, 101, 310, 311, 424, 434, 438, 425, 272,
         308, 165, 321, 248, 249, 250, 298, 323),
    ),
    "aarch64": (
        0xC00000B7, 220, 435,
        (198, 203, 221, 281, 157, 154, 129, 130, 131, 138, 240, 117, 270, 271, 424, 434, 438, 425, 97, 268, 40, 280,
         217, 218, 219, 241, 282),
    ),
}  # fmt: skip
THREAD = 0x00010000
# BPF: load a word of seccomp's data, compare, return.
LOAD, EQUAL, AT_LEAST, HAS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000

_libc = ctypes.CDLL(None, use_errno=True)


def limit(memory: int, seconds: int, file_bytes: int) -> None:
    """Bounds on address space (bytes), CPU time, and each file written; no core dumps."""
    for what, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ):
        resource.setrlimit(what, (value, value))


def confine(folder: str) -> set[str]:
    """The layers that hold: of "namespace", "landlock", "seccomp". Only `folder` can be written from now on."""
    if sys.platform != "linux":
        return set()
    _libc.prctl(SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    _libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    layers = {"namespace": _leave_network, "landlock": lambda: _landlock(folder), "seccomp": _seccomp}
    # The order matters: the filter forbids what the others are made with.
    return {name for name, enter in layers.items() if enter()}


def _leave_network() -> bool:
    """Into a network namespace in which there is nothing; who is not root needs one of users with it."""
    return bool(_libc.unshare(NEW_NET) == 0 or _libc.unshare(NEW_USER | NEW_NET) == 0)


def _landlock(folder: str) -> bool:
    version = _libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    everything = (1 << FS_BITS.get(version, 16)) - 1
    fields = [everything, TCP, ABSTRACT_SOCKETS_AND_SIGNALS][: 1 if version < 4 else 2 if version < 6 else 3]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _libc.syscall(CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for path in _readable():
            _allow(ruleset, path, READ & everything)
        _allow(ruleset, folder, everything)
        return bool(_libc.syscall(RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _readable() -> Iterable[str]:
    """Where Python and its libraries are, and the few files that they look at. Nothing of /etc, nothing of ours."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/lib", "/lib64"}
    files = {"/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"}
    return {os.path.realpath(path) for path in places | files if Path(path).exists()} - {"/"}


def _allow(ruleset: int, path: str, access: int) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            allowed = access if Path(path).is_dir() else access & FILE_ONLY & ~0b1000
            _libc.syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, handle), 0)
        finally:
            os.close(handle)


def _seccomp() -> bool:
    known = DENIED.get(platform.machine())
    if known is None:
        return False
    program = _program(*known)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    return bool(_libc.prctl(SET_SECCOMP, 2, header, 0, 0) == 0)


def _program(architecture: int, clone: int, clone3: int, denied: Iterable[int]) -> bytes:
    """Threads may be made, processes not. clone3 hides its flags in memory, so it is said not to exist: the C library
    then takes clone."""
    refuse = FAIL | errno.EPERM
    steps = [
        (LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, refuse),
        (LOAD, 0, 0, 0), (AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, refuse),
        (EQUAL, 0, 1, clone3), (RETURN, 0, 0, FAIL | errno.ENOSYS),
    ]  # fmt: skip
    for number in denied:
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, refuse)]
    steps += [
        (EQUAL, 0, 3, clone), (LOAD, 0, 0, 16), (HAS, 1, 0, THREAD), (RETURN, 0, 0, refuse), (RETURN, 0, 0, ALLOW)
    ]  # fmt: skip
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
