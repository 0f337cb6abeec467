"""Starts processes, keeps their output, and leaves none behind.

A child dies with its supervisor in three ways, each for a case the others do not cover:

- `Supervisor.stop` on a normal end, Ctrl-C or SIGTERM: stage by stage in reverse order, politely, then SIGKILL for
  the whole process group.
- The guardian (`tools/guardian.py`), when the supervisor was killed: it does the same from outside. Each child leads a
  session of its own, so a pool's processes go with it.
- The parent-death signal (Linux), should the guardian be gone too.

The supervisor has no threads: children are started with a hook between fork and exec, and the parent-death signal
follows the thread that forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

from tools.guardian import send

ROOT = Path(__file__).resolve().parent.parent
POLL_S = 0.1
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class StackError(Exception):
    """Something the user can mend. The message is one line, shown without a traceback."""


class Interrupted(BaseException):
    """A signal asked this command to end. Not an Exception, so that no handler for errors swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def interrupt_on_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`. A shell's background job would ignore SIGINT otherwise."""

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        raise Interrupted(signum)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup keeps its promise
        signal.signal(signal.SIGHUP, interrupt)


@dataclass(frozen=True)
class Account:
    """Who a child runs as: ourselves, another user (`uid`, `gid`), or through a command such as unshare (`prefix`)."""

    uid: int | None = None
    gid: int | None = None
    prefix: tuple[str, ...] = ()

    @property
    def extra_groups(self) -> list[int] | None:
        """Another user has no groups besides its own."""
        return None if self.uid is None else []


OURSELVES = Account()


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep running. Stages are stopped from the highest to the lowest."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stage: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0
    account: Account = OURSELVES
    cwd: Path = ROOT
    stdin: bytes | None = None


@dataclass
class Child:
    spec: ProcessSpec
    process: subprocess.Popen[bytes]
    log: Path
    started_at: float

    @property
    def group(self) -> int:
        """The process group as a target for os.kill."""
        return -self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def kill_group(self) -> None:
        """SIGKILL for whatever is left of the group: a pool outlives a main process that was killed."""
        send(self.group, signal.SIGKILL)

    def log_tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def signal_on_parent_death(signum: int) -> Callable[[], None] | None:
    """What a child runs before exec, after any change of user (which would reset it). None where Linux is not."""
    if LIBC is None:
        return None
    prctl, parent = LIBC.prctl, os.getpid()

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, signum)
        if os.getppid() != parent:  # it died before we armed
            os._exit(1)

    return arm


class Supervisor:
    """Use as a context manager; on leaving, everything is stopped and throw-away folders are removed.

    `env` is the environment of every child, under the child's own. Each child writes `<logs>/<name>.log`; with
    `on_console` the lines also appear on standard output, each with the child's name in front.
    """

    def __init__(
        self, logs: Path, *, env: Mapping[str, str], on_console: bool = False, guardian_grace_s: float = 5.0
    ) -> None:
        self.logs = logs
        self.env: dict[str, str] = dict(env)
        self.children: list[Child] = []
        self._logs_begun: set[Path] = set()
        self._console: dict[Path, IO[bytes]] | None = {} if on_console else None
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("guardian.py")), str(guardian_grace_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, spec: ProcessSpec) -> Child:
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = self.logs / f"{spec.name}.log"
        begun = log in self._logs_begun
        self._logs_begun.add(log)
        with log.open("ab" if begun else "wb") as output:
            try:
                process = subprocess.Popen(
                    [*spec.account.prefix, *spec.command],
                    env={**self.env, **spec.env},
                    cwd=spec.cwd,
                    stdin=subprocess.DEVNULL if spec.stdin is None else subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=signal_on_parent_death(spec.stop_signal),
                    user=spec.account.uid,
                    group=spec.account.gid,
                    extra_groups=spec.account.extra_groups,
                )
            except OSError as error:
                raise StackError(f"{spec.name} cannot be started: {error}") from error
        child = Child(spec, process, log, time.monotonic())
        self._tell_guardian(f"+ {child.group} {int(spec.stop_signal)}")
        self.children.append(child)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(spec.stdin or b"")
                process.stdin.close()
        return child

    def remove_at_end(self, folder: Path) -> None:
        """Remove the folder when all children have ended, even if we are killed."""
        self._tell_guardian(f"rm {folder}")

    def ended(self) -> list[Child]:
        """Children that have ended on their own since the last call; they are no longer supervised."""
        self._copy_to_console()
        ended = [child for child in self.children if not child.is_running()]
        for child in ended:
            self._forget(child)
        return ended

    def wait_until(self, is_done: Callable[[], bool], *, timeout_s: float, what: str) -> None:
        """Wait for a condition; a child that ends meanwhile, or the time running out, is a StackError."""
        deadline = time.monotonic() + timeout_s
        while not is_done():
            for child in self.ended():
                raise StackError(f"{child.spec.name} ended at once: {last_line(child.log_tail())} (see {child.log})")
            if time.monotonic() > deadline:
                raise StackError(f"{what} was not ready within {timeout_s:.0f} seconds (see {self.logs})")
            time.sleep(POLL_S / 2)

    def run_foreground(
        self,
        command: Sequence[str],
        *,
        interactive: bool = False,
        while_running: Callable[[], None] | None = None,
    ) -> int:
        """Run a command on our own output until it ends; its exit code, 128 + n if signal n ended it.

        It leads a group of its own, and a signal to us ends all of it. Only an interactive command on a terminal
        shares our group, so that it can read, and Ctrl-C reaches it directly. A termination that it does not obey
        within ten seconds becomes SIGKILL. Raises Interrupted after a signal, unless the command made a success of it
        (a shell does of Ctrl-C). `while_running` is called again and again; what it raises ends the command.
        """
        shares_group = interactive and sys.stdin is not None and sys.stdin.isatty()
        process = subprocess.Popen(
            command,
            env=self.env,
            cwd=ROOT,
            stdin=None if interactive else subprocess.DEVNULL,
            start_new_session=not shares_group,
            preexec_fn=signal_on_parent_death(signal.SIGTERM),
        )
        target = process.pid if shares_group else -process.pid
        # From a shell our group is one job: us, who will be gone then, and the command with all that it started.
        guarded = -os.getpgrp() if shares_group and os.getpgrp() == os.getpid() else target
        self._tell_guardian(f"+ {guarded} {int(signal.SIGTERM)}")
        interrupted: Interrupted | None = None
        kill_at = float("inf")
        try:
            while process.poll() is None:
                try:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(POLL_S)
                    self._copy_to_console()
                    if while_running is not None:
                        while_running()
                    if time.monotonic() > kill_at:
                        send(target, signal.SIGKILL)
                except Interrupted as interrupt:
                    interrupted = interrupt
                    # Where nobody types, Ctrl-C means the end as well, and needs no KeyboardInterrupt's traceback.
                    signum = interrupt.signum if interactive else signal.SIGTERM
                    if signum != signal.SIGINT:
                        kill_at = time.monotonic() + 10
                    if signum != signal.SIGINT or not shares_group:
                        send(target, signum)
        finally:
            if process.poll() is None or not shares_group:
                send(target, signal.SIGKILL)  # itself, or what it left in its group
            code = process.wait()
            self._tell_guardian(f"- {guarded}")
        if interrupted is not None and code != 0:
            raise interrupted
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        """Stop all children, the highest stage first. Another signal meanwhile takes away what is left of the grace."""
        hurried: list[int] = []
        previous = {
            signum: signal.signal(signum, lambda received, _frame: hurried.append(received))
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            for stage in sorted({child.spec.stage for child in self.children}, reverse=True):
                self._stop_stage([child for child in reversed(self.children) if child.spec.stage == stage], hurried)
        finally:
            for log in (self._console or {}).values():
                log.close()
            if self._guardian.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self._guardian.stdin.close()
            self._guardian.wait()
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def stop_child(self, child: Child) -> None:
        """Stop one child before the others, as when a service is given up for another."""
        if child in self.children:
            self._stop_stage([child], [])

    def _stop_stage(self, children: list[Child], hurried: list[int]) -> None:
        for child in children:
            if child.is_running():
                child.process.send_signal(child.spec.stop_signal)
        signalled_at = time.monotonic()
        waiting = list(children)
        while waiting:
            for child in list(waiting):
                out_of_grace = bool(hurried) or time.monotonic() > signalled_at + child.spec.grace_s
                if out_of_grace and child.is_running():
                    child.kill_group()
                    child.process.wait()
                if not child.is_running():
                    self._forget(child)
                    waiting.remove(child)
            if waiting:
                time.sleep(0.02)

    def _forget(self, child: Child) -> None:
        self._copy_to_console()
        child.kill_group()
        self._tell_guardian(f"- {child.group}")
        self.children.remove(child)

    def _tell_guardian(self, line: str) -> None:
        stdin = self._guardian.stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it was killed; the parent-death signal remains
                stdin.write(f"{line}\n".encode())
                stdin.flush()

    def _copy_to_console(self) -> None:
        if self._console is None:
            return
        for child in self.children:
            source = self._console.setdefault(child.log, child.log.open("rb"))
            for line in source:
                sys.stdout.write(f"{child.spec.name:>8} | {line.decode(errors='replace').rstrip()}\n")
        sys.stdout.flush()


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
