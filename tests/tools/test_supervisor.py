"""Whatever ends a supervisor, nothing it started is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.conftest import Checkout, eventually, is_running
from tools.supervisor import ProcessSpec, StackError, Supervisor

# A main process with a pool, like Celery's: all note their pids; with "stubborn" they ignore SIGTERM.
POOL = """
import os, signal, sys, time
folder, stubborn = sys.argv[1], "stubborn" in sys.argv
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(2):
    if os.fork() == 0:
        break
open(os.path.join(folder, str(os.getpid())), "w").close()
time.sleep(600)
"""

SUPERVISOR = """
import os, sys, time
from pathlib import Path
from tools.supervisor import ProcessSpec, Supervisor, interrupt_on_signals
interrupt_on_signals()
pids, throw_away, *options = sys.argv[1:]
with Supervisor(Path("logs"), env=os.environ, guardian_grace_s=1) as supervisor:
    supervisor.remove_at_end(Path(throw_away))
    supervisor.start(ProcessSpec("pool", (sys.executable, "pool.py", pids, *options), cwd=Path.cwd()))
    if "foreground" in options:
        supervisor.run_foreground([sys.executable, str(Path("pool.py").resolve()), pids])
    time.sleep(600)
"""


def pids_in(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = (line.split() for line in found.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


@pytest.mark.parametrize(
    ("end", "options"),
    [
        (signal.SIGKILL, ()),
        (signal.SIGKILL, ("stubborn",)),
        (signal.SIGKILL, ("foreground",)),
        (signal.SIGTERM, ()),
        (signal.SIGTERM, ("foreground",)),
        (signal.SIGINT, ()),
        (signal.SIGINT, ("foreground",)),
    ],
)
def test_nothing_outlives_the_supervisor(
    checkout: Checkout, tmp_path: Path, end: signal.Signals, options: tuple[str, ...]
) -> None:
    pids, throw_away = tmp_path / "pids", tmp_path / "throw-away"
    pids.mkdir()
    throw_away.mkdir()
    checkout.write("pool.py", POOL)
    checkout.write("supervise.py", SUPERVISOR)

    process = checkout.start("supervise.py", str(pids), str(throw_away), *options, PYTHONPATH=str(checkout.root))
    expected = 6 if "foreground" in options else 3
    assert eventually(lambda: len(pids_in(pids)) == expected)
    started = [*pids_in(pids), *children_of(process.pid)]
    process.send_signal(end)

    assert eventually(lambda: not any(map(is_running, started)))
    assert eventually(lambda: not throw_away.exists())


def test_a_child_that_ignores_sigterm_is_killed_with_its_pool_after_the_grace(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    with Supervisor(tmp_path / "logs", env=os.environ) as supervisor:
        command = (sys.executable, "-c", POOL, str(pids), "stubborn")
        supervisor.start(ProcessSpec("pool", command, grace_s=0.2))
        assert eventually(lambda: len(pids_in(pids)) == 3)
    assert eventually(lambda: not any(map(is_running, pids_in(pids))))


def test_a_pool_whose_main_process_was_killed_is_killed_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    with Supervisor(tmp_path / "logs", env=os.environ) as supervisor:
        child = supervisor.start(ProcessSpec("pool", (sys.executable, "-c", POOL, str(pids))))
        assert eventually(lambda: len(pids_in(pids)) == 3)
        child.process.kill()
        child.process.wait()
        assert supervisor.ended() == [child]
        assert eventually(lambda: not any(map(is_running, pids_in(pids))))


def test_stages_are_stopped_from_the_highest_to_the_lowest(tmp_path: Path) -> None:
    noting = "import signal, sys, time\ndef note(*_):\n    open('stopped', 'a').write(sys.argv[1])\n    sys.exit()\n"
    noting += "signal.signal(signal.SIGTERM, note)\nprint('ready', flush=True)\ntime.sleep(600)\n"
    with Supervisor(tmp_path / "logs", env=os.environ) as supervisor:
        children = [
            supervisor.start(
                ProcessSpec(f"stage {stage}", (sys.executable, "-c", noting, str(stage)), stage=stage, cwd=tmp_path)
            )
            for stage in (1, 2, 0)
        ]
        assert eventually(lambda: all("ready" in child.log_tail() for child in children))
    assert (tmp_path / "stopped").read_text() == "210"


def test_waiting_ends_when_a_child_ends(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "logs", env=os.environ) as supervisor:
        supervisor.start(ProcessSpec("web", (sys.executable, "-c", "raise SystemExit('no such module')")))
        with pytest.raises(StackError, match="web ended at once: no such module"):
            supervisor.wait_until(lambda: False, timeout_s=10, what="The web")


def test_a_command_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "logs", env=os.environ) as supervisor, pytest.raises(StackError, match="nosuch"):
        supervisor.start(ProcessSpec("nosuch", (str(tmp_path / "nosuch"),)))


@pytest.mark.parametrize(
    ("code", "expected"), [("", 0), ("import sys; sys.exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_exit_code_of_a_foreground_command_is_passed_on(tmp_path: Path, code: str, expected: int) -> None:
    with Supervisor(tmp_path / "logs", env=os.environ) as supervisor:
        assert supervisor.run_foreground([sys.executable, "-c", code]) == expected


def test_lines_on_the_console_carry_the_name_of_their_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervisor(tmp_path / "logs", env=os.environ, on_console=True) as supervisor:
        child = supervisor.start(ProcessSpec("web", (sys.executable, "-c", "print('one'); print('two')")))
        child.process.wait()
        supervisor.ended()
    assert capsys.readouterr().out == "     web | one\n     web | two\n"
    assert child.log.read_text() == "one\ntwo\n"
