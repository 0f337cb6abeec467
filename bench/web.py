"""The web process as production starts it, and loads of requests against it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.load import Loaded, write_requests
from tools.processes import python_module
from tools.services import free_ports
from tools.stack import answers
from tools.supervisor import ROOT, Child, ProcessSpec, StackError, Supervisor

READY_S = 60.0


def web_process(procfile: Path, *, port: int, env: Mapping[str, str]) -> ProcessSpec:
    """What the Procfile starts under `web`, with its environment and its arguments, on `port` of the loopback."""
    line = next(line for line in procfile.read_text().splitlines() if line.startswith("web:"))
    words = shlex.split(line.removeprefix("web:").replace("${PORT:-8000}", str(port)).replace("0.0.0.0", "127.0.0.1"))
    at = words.index("granian")
    settings = dict(word.split("=", 1) for word in words[:at] if "=" in word)
    return python_module("web", *words[at:], env={**settings, "LOG_JSON": "true", **env})


class Web:
    """Use as a context manager; ready when it answers."""

    def __init__(self, supervisor: Supervisor, folder: Path, *, env: Mapping[str, str] | None = None) -> None:
        self._supervisor, self._folder, self._env = supervisor, folder, dict(env or {})
        (self.port,) = free_ports(1)

    def __enter__(self) -> Self:
        self.child: Child = self._supervisor.start(web_process(ROOT / "Procfile", port=self.port, env=self._env))
        url = f"http://127.0.0.1:{self.port}/healthz"
        self._supervisor.wait_until(lambda: answers(url), timeout_s=READY_S, what="The web process")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._supervisor.stop_child(self.child)

    def load(self, requests: Iterable[bytes], *, rate: float = 0.0, connections: int = 8) -> Loaded:
        """Send the requests from a process of its own (`bench.load`) and wait for all answers."""
        file = self._folder / "requests"
        write_requests(file, requests)
        arguments = ("--port", str(self.port), "--rate", str(rate), "--connections", str(connections))
        command = [sys.executable, "-m", "bench.load", str(file), *arguments]
        result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        file.unlink()
        if result.returncode:
            raise StackError("the load's process failed (see above)")
        return Loaded(**json.loads(result.stdout))
