"""A load of HTTP requests as a process of its own: `python -m bench.load FILE --port PORT …` prints one JSON line.

FILE holds the whole bytes of each request (`write_requests`), so that making them is not measured. HTTP/1.1 over
connections that stay open, written and read as plain bytes: about 40 µs of CPU a request.

With `--rate` the load is open: requests come by the clock, at random with that many a second, whether or not the
earlier ones have been answered, and each is timed from the moment at which it was due. Without it, every connection
sends its next request when it has the answer to the one before.
"""

from __future__ import annotations

import argparse
import json
import mmap
import random
import re
import selectors
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

CONNECTIONS_MAX = 400
"""Of an open load, which opens one more whenever a request is due and none is free."""
PATIENCE_S = 30.0
"""Without any answer for so long the rest is counted as errors."""
_LENGTH = struct.Struct(">I")
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3})[^\r]*\r\n(?:[^\r]*\r\n)*?content-length: *(\d+)", re.IGNORECASE)
_ACCEPTED = re.compile(rb'"accepted":(\d+)')


class Loaded(NamedTuple):
    """What came of a load. Latencies are in milliseconds, of answered requests."""

    requests: int
    statuses: dict[str, int]
    errors: int
    """Requests without an answer: refused, cut or timed out connections."""
    accepted: int
    """The sum of `"accepted": N` in the answers, which is how many receipts were taken."""
    seconds: float
    median_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    connections: int
    cpu_s: float


def write_requests(path: Path, requests: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for request in requests:
            file.write(_LENGTH.pack(len(request)) + request)


def post(path: str, body: bytes, *, key: str, headers: str = "") -> bytes:
    """The bytes of a POST with JSON; `headers` are whole lines."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class Connection:
    socket: socket.socket
    due_at: float = 0.0
    answer: bytes = b""


class Load:
    """Sends `requests` and counts the answers."""

    def __init__(self, address: tuple[str, int], requests: Iterator[bytes], *, connections: int) -> None:
        self.address, self.requests = address, requests
        self.selector = selectors.DefaultSelector()
        self.free: deque[Connection] = deque()
        self.opened = self.in_flight = self.errors = self.accepted = 0
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []
        for _ in range(connections):
            self.free.append(self._open())

    def run_closed(self) -> None:
        while self.free and (request := next(self.requests, None)) is not None:
            self._send(self.free.popleft(), request, time.monotonic())
        answered_at = time.monotonic()
        while self.in_flight:
            for connection in self._answered(0.5):
                answered_at = time.monotonic()
                if (request := next(self.requests, None)) is not None:
                    self._send(connection, request, answered_at)
            if time.monotonic() > answered_at + PATIENCE_S:
                break
        self.errors += self.in_flight

    def run_open(self, rate: float) -> None:
        chance = random.Random(1)
        waiting: deque[tuple[float, bytes]] = deque()
        due_at = answered_at = time.monotonic()
        request = next(self.requests, None)
        while request is not None or self.in_flight or waiting:
            now = time.monotonic()
            while request is not None and due_at <= now:
                waiting.append((due_at, request))
                due_at += chance.expovariate(rate)
                request = next(self.requests, None)
            while waiting and (self.free or self.opened < CONNECTIONS_MAX):
                due, body = waiting.popleft()
                self._send(self.free.popleft() if self.free else self._open(), body, due)
            if any(self._answered(0.5 if request is None else max(0.0, due_at - time.monotonic()))):
                answered_at = time.monotonic()
            if self.in_flight and time.monotonic() > answered_at + PATIENCE_S:
                break
        self.errors += self.in_flight + len(waiting)

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            key.data.socket.close()
        self.selector.close()

    def _open(self) -> Connection:
        connection = Connection(socket.create_connection(self.address, timeout=10))
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        self.opened += 1
        return connection

    def _send(self, connection: Connection, request: bytes, due_at: float) -> None:
        connection.due_at, connection.answer = due_at, b""
        self.in_flight += 1
        try:
            connection.socket.sendall(request)
        except OSError:
            self._fail(connection)

    def _answered(self, timeout_s: float) -> list[Connection]:
        """Read what there is; the connections whose answer is complete, which are free again."""
        done = []
        for key, _ in self.selector.select(timeout_s):
            connection: Connection = key.data
            try:
                chunk = connection.socket.recv(1 << 18)
            except OSError:
                chunk = b""
            if not chunk:
                self._fail(connection)
                continue
            connection.answer += chunk
            if self._is_complete(connection.answer):
                self.latencies.append(time.monotonic() - connection.due_at)
                self.in_flight -= 1
                self.free.append(connection)
                done.append(connection)
        return done

    def _is_complete(self, answer: bytes) -> bool:
        end = answer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = _HEAD.match(answer, 0, end + 2)
        if head is None:
            raise ValueError(f"an answer without a length: {answer[:end]!r}")
        if len(answer) < end + 4 + int(head[2]):
            return False
        self.statuses[head[1].decode()] += 1
        if accepted := _ACCEPTED.search(answer, end):
            self.accepted += int(accepted[1])
        return True

    def _fail(self, connection: Connection) -> None:
        """The connection has ended; what was asked on it, if anything, has no answer."""
        self.selector.unregister(connection.socket)
        connection.socket.close()
        self.opened -= 1
        if connection in self.free:
            self.free.remove(connection)
        else:
            self.errors += 1
            self.in_flight -= 1


def percentile(values: list[float], share: float) -> float:
    """Of sorted values; 0 when there are none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.0)
    options = parser.parse_args()
    with options.file.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as requests:
        load = Load(("127.0.0.1", options.port), _read(requests), connections=options.connections)
        began, cpu = time.monotonic(), time.process_time()
        load.run_open(options.rate) if options.rate else load.run_closed()
        seconds, used = time.monotonic() - began, time.process_time() - cpu
        load.close()
    print(json.dumps(_result(load, seconds, used)._asdict()))


def _read(requests: mmap.mmap) -> Iterator[bytes]:
    at = 0
    while at < len(requests):
        (length,) = _LENGTH.unpack_from(requests, at)
        at += _LENGTH.size + length
        yield requests[at - length : at]


def _result(load: Load, seconds: float, cpu_s: float) -> Loaded:
    times = sorted(latency * 1_000 for latency in load.latencies)
    return Loaded(
        requests=len(times) + load.errors,
        statuses=dict(load.statuses),
        errors=load.errors,
        accepted=load.accepted,
        seconds=seconds,
        median_ms=percentile(times, 0.5),
        p95_ms=percentile(times, 0.95),
        p99_ms=percentile(times, 0.99),
        max_ms=times[-1] if times else 0.0,
        connections=load.opened,
        cpu_s=cpu_s,
    )


if __name__ == "__main__":
    main()
