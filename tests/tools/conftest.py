"""The tools are tested in a checkout of their own, so that a demo that runs next door is not disturbed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.supervisor import ROOT

NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "PREFER_EMBEDDED", "PG_BINDIR", "PORT")


def is_running(pid: int) -> bool:
    """Whether a process lives; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it ended just now, or there is no /proc
        return sys.platform != "linux"
    return status.rpartition(")")[2].split()[0] != "Z"


def eventually(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Checkout:
    """A folder with the tools and the runner, and commands run in it with this Python."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[subprocess.Popen[str]] = []
        shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "run", root / "run")

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Start `python COMMAND` with its standard output and error in one pipe."""
        kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.root,
            env={**kept, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *command: str, **env: str) -> tuple[int, str]:
        """Exit code and all output of `python COMMAND`."""
        process = self.start(*command, **env)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user can enter, which tmp_path is not: PostgreSQL may run as another one."""
    with tempfile.TemporaryDirectory(prefix="automata-tools-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def checkout(open_folder: Path) -> Iterator[Checkout]:
    made = Checkout(open_folder)
    yield made
    for process in made.started:
        process.kill()
        process.wait()
