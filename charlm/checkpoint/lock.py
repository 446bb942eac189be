"""One trainer at a time: a lock that the system takes back when its process is gone, however it went."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from charlm.errors import CharlmError

LOCK = ".lock"

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # a link would lead out of the folder

if sys.platform == "win32":
    import msvcrt

    def _try(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # behind the content, which others must be able to read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """While this lasts no other process trains the run in this folder.

    Raises CharlmError that says who does, or why nothing can be written there. What a trainer leaves that was killed
    is taken over: only a living process holds a lock. A file system that knows no locks protects nothing.
    """
    file = path / LOCK
    try:
        descriptor = _taken(file)
    except OSError as problem:
        raise CharlmError(
            f"{path}: cannot be written to: {problem.strerror}; choose another `output`, or resume a copy elsewhere"
        ) from None
    try:
        yield
    finally:
        if sys.platform == "win32":  # where an open file cannot be removed
            os.close(descriptor)
        with suppress(OSError):
            file.unlink()
        if sys.platform != "win32":  # the lock goes last: whoever has it finds its own file at this name
            os.close(descriptor)


def _taken(file: Path) -> int:
    """The open lock file. Raises CharlmError if another process has it."""
    while True:
        descriptor = os.open(file, _OPEN, 0o666)
        try:
            _try(descriptor)
        except OSError as problem:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            if problem.errno in _TAKEN:
                os.close(descriptor)
                raise CharlmError(
                    f"{file.parent}: {holder or 'another process'} is training this run; wait for it or stop it"
                ) from None
        if _is(descriptor, file):  # and not one that its last holder has removed meanwhile
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)


def _is(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
