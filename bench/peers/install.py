"""The peers' own environments below `.local/bench/`: made on demand, pinned with hashes, no part of the project."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.supervisor import ROOT
from tools.workspace import LOCAL

PYTHON_LOCK = ROOT / "requirements" / "peers.lock"
NPM_FILES = (Path(__file__).with_name("package.json"), Path(__file__).with_name("package-lock.json"))
INSTALL_S = 300.0


class Unavailable(Exception):
    """A peer cannot be measured here; the message is one line."""


def python(folder: Path = LOCAL / "bench" / "peers-python") -> Path:
    """The Python that has the Python peers. Raises `Unavailable`."""
    interpreter = folder / "bin" / "python"

    def install() -> None:
        _must([sys.executable, "-m", "venv", str(folder)])
        _must([str(interpreter), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(PYTHON_LOCK)])

    _once(folder, [PYTHON_LOCK], install)
    return interpreter


def node_modules(folder: Path = LOCAL / "bench" / "peers-node") -> Path:
    """The folder with the peers of Node.js. Raises `Unavailable`."""
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            raise Unavailable(f"there is no {command} on this machine")

    def install() -> None:
        for file in NPM_FILES:
            shutil.copy(file, folder)
        _must(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)

    _once(folder, NPM_FILES, install)
    return folder / "node_modules"


def _once(folder: Path, locks: Sequence[Path], install: Callable[[], None]) -> None:
    """Fill the folder anew, unless it has been filled from locks of this content."""
    stamp = folder / ".installed"
    wanted = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    install()
    stamp.write_text(wanted)


def _must(command: Sequence[str], cwd: Path = ROOT) -> None:
    """Run a package manager with its own settings, which say where its registry is."""
    try:
        result = subprocess.run(
            command, cwd=cwd, env=own_environment(), capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{Path(command[0]).name} did not end within {INSTALL_S:.0f} s") from error
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        reasons = [line for line in lines if "error" in line.lower()] or lines or [f"exit code {result.returncode}"]
        raise Unavailable(f"{Path(command[0]).name} could not install it: {reasons[0][:200]}")


def own_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of this process, without what points Python or Django at the project."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE")
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **(more or {})}
