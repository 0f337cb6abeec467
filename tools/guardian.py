"""Ends a supervisor's children when the supervisor is gone, whichever way it went.

Runs on its own: `python -I -S tools/guardian.py GRACE_S`, with its standard input at the read end of a pipe whose
only writer is the supervisor. End of file therefore means that the supervisor has ended, and `kill -9` is no
exception. Nothing of it is particular to Linux.

The supervisor writes lines:

    + TARGET SIGNAL     a child runs; TARGET is what os.kill takes, so a process group is negative
    - TARGET            that child has ended
    rm PATH             a folder of throw-away data, removed at the end
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable


def is_alive(target: int) -> bool:
    try:
        os.kill(target, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def send(target: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended already, or is not ours any more
        os.kill(target, signum)


def watch(lines: Iterable[str], grace_s: float) -> None:
    """Keep the list of children until end of file, then end those that are left and remove the folders."""
    children: dict[int, int] = {}
    folders: list[str] = []
    for line in lines:
        verb, _, rest = line.rstrip("\n").partition(" ")
        if verb == "+":
            child, signum = rest.split()
            children[int(child)] = int(signum)
        elif verb == "-":
            children.pop(int(rest), None)
        elif verb == "rm":
            folders.append(rest)

    for target in reversed(children):
        send(target, children[target])
    deadline = time.monotonic() + grace_s
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for target in children:
        send(target, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # only the end of the supervisor ends the guardian
    watch(sys.stdin, float(sys.argv[1]))
