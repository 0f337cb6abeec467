"""Whether this worker is to stop: SIGTERM was sent, and what runs is to be given back within `WORKER_GRACE_S`.

On SIGTERM Celery's main process takes no more tasks and waits for its pool; it tells the children nothing, and a child
would send its batch to the end. So the flag lies in memory that parent and children share: the main process raises it
as `worker_shutting_down`, and the children see it with their next delivery.

Some supervisors (systemd, process managers that signal the group) send SIGTERM to the children as well, where billiard
would end the task at once. During a task a child therefore takes the first SIGTERM as the same flag.
"""

from __future__ import annotations

import mmap
import signal
from types import FrameType
from typing import Any

from celery.signals import task_postrun, task_prerun, worker_process_init, worker_shutting_down

_shared = mmap.mmap(-1, 1)
"""Anonymous and shared with what is forked later. Where a pool spawns its children (macOS) they have one of their own,
and finish their batch."""


def is_stopping() -> bool:
    """Whether to give work back rather than begin it or go on. A byte in memory: cheap enough for each message."""
    return _shared[0] != 0


def stop() -> None:
    """Give back what runs, take nothing more; for this process and its children."""
    _shared[0] = 1


def forget() -> None:
    """Take it back; for tests, where the process goes on."""
    _shared[0] = 0


@worker_shutting_down.connect
def on_worker_shutting_down(**_: Any) -> None:
    stop()


class _Drain:
    """In a child of the pool: the first SIGTERM during a task stops it politely, and a second one ends it."""

    is_child = False
    before: Any = None


@worker_process_init.connect
def on_worker_process_init(**_: Any) -> None:
    _Drain.is_child = True


@task_prerun.connect
def on_task_prerun(**_: Any) -> None:
    # billiard sets its own handler after `worker_process_init`, so ours is set for each task: 2 µs.
    if _Drain.is_child:
        _Drain.before = signal.signal(signal.SIGTERM, _on_sigterm)


@task_postrun.connect
def on_task_postrun(**_: Any) -> None:
    if _Drain.before is not None:
        signal.signal(signal.SIGTERM, _Drain.before)
        _Drain.before = None


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    stop()
    signal.signal(signal.SIGTERM, _Drain.before)
