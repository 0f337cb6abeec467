"""The process `live` as production starts it, and clients that read its streams from the socket."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fleet import ROOT, test_database_url, wait_until

PATH = "/api/v1/in-app/stream"
ANSWER_S = 30.0


class LiveProcess:
    """Granian with the Procfile's arguments, on a port of its own."""

    def __init__(self, port: int, log: Path, **settings: str) -> None:
        self.port = port
        line = next(line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("live:"))
        words = shlex.split(line.removeprefix("live:").replace("${LIVE_PORT:-8001}", str(port)))
        at = words.index("granian")
        given = dict(word.split("=", 1) for word in words[:at] if "=" in word)
        arguments = ["127.0.0.1" if word == "0.0.0.0" else word for word in words[at:]]
        own = {
            "DATABASE_URL": test_database_url(),
            "AUTOMATA_ENV": "test",
            "API_KEY_CACHE_S": "0",
            "PROMETHEUS_MULTIPROC_DIR": str(log.parent / "metrics"),
        }
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**os.environ, **given, **own, **settings},
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> None:
        wait_until(self._answers, timeout_s=60)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return ask(self.port, "/healthz")[0] == 200
        except OSError:
            return False

    def terminate(self) -> int:
        """Ask it to stop as a supervisor does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def running_live(folder: Path, **settings: str) -> Iterator[LiveProcess]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    live = LiveProcess(port, folder / f"live-{port}.log", **settings)
    try:
        live.wait()
        yield live
    finally:
        live.end()


def ask(port: int, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request and its whole answer."""
    with SseClient(port, path, **headers) as client:
        return client.status, client.headers, client.rest()


@dataclass
class Event:
    name: str = "message"
    data: dict = field(default_factory=dict)
    id: str = ""
    retry: int | None = None


class SseClient:
    """Reads a stream as an EventSource does; `status` and `headers` are there when it is made."""

    def __init__(self, port: int, path: str, *, receive_buffer: int = 0, **headers: str) -> None:
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(ANSWER_S)
        self._socket.connect(("127.0.0.1", port))
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: text/event-stream"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        self._text = b""

    def __enter__(self) -> SseClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def rest(self) -> bytes:
        """All of an answer that is no stream."""
        return self._file.read(int(self.headers.get("content-length", 0)))

    def next(self) -> Event | None:
        """The next event; None when the stream has ended."""
        event = Event()
        while True:
            while b"\n\n" not in self._text:
                chunk = self._chunk()
                if not chunk:
                    return None
                self._text += chunk
            block, _, self._text = self._text.partition(b"\n\n")
            for line in block.split(b"\n"):
                name, _, value = line.partition(b": ")
                if name == b"retry":
                    event.retry = int(value)
                elif name == b"id":
                    event.id = value.decode()
                elif name == b"event":
                    event.name = value.decode()
                elif name == b"data":
                    event.data = json.loads(value)
            if event.data:
                return event

    def next_named(self, *names: str) -> Event:
        event = self.next()
        assert event is not None
        assert event.name in names, event
        return event

    def comment(self) -> bytes:
        """The next bytes as they come."""
        return self._chunk()

    def _chunk(self) -> bytes:
        """A chunk of the chunked coding; empty at its end."""
        line = self._file.readline()
        if not line:
            return b""
        size = int(line, 16)
        chunk = self._file.read(size)
        self._file.readline()
        return chunk
