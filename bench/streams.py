"""Many clients of the process `live`, in one process: `python -m bench.streams FILE --port …`.

FILE has a line for each client: subscription, handle. All are opened, at most `--opening` at a time, from several
loopback addresses, as clients come from several networks. Prints a line of JSON when all are open; then reads events
until its input ends, and prints another: how long each took from its arrival in the inbox (its id, in milliseconds).
"""

from __future__ import annotations

import argparse
import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import percentile

PATH = "/api/v1/in-app/stream"
PER_ADDRESS = 500
"""Clients of one loopback address: the API counts requests by address."""
OPEN_PATIENCE_S = 180.0


@dataclass(eq=False)
class Client:
    sock: socket.socket
    request: bytes
    text: bytes = b""
    is_open: bool = False


@dataclass
class Clients:
    """All streams, and what came by them."""

    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    opened: int = 0
    refused: int = 0
    ended: int = 0
    waits_ms: list[float] = field(default_factory=list)

    def start(self, request: bytes, number: int, port: int) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((f"127.0.1.{1 + number // PER_ADDRESS}", 0))
        sock.connect_ex(("127.0.0.1", port))
        self.selector.register(sock, selectors.EVENT_WRITE, Client(sock, request))

    def step(self, timeout_s: float) -> None:
        for key, mask in self.selector.select(timeout_s):
            client: Client = key.data
            if mask & selectors.EVENT_WRITE:
                client.sock.send(client.request)
                self.selector.modify(client.sock, selectors.EVENT_READ, client)
            else:
                self._read(client)

    def _read(self, client: Client) -> None:
        chunk = client.sock.recv(65_536)
        now_ms = time.time() * 1_000
        if not chunk:
            self.ended += 1
            self.selector.unregister(client.sock)
            client.sock.close()
            return
        client.text += chunk
        while b"\n\n" in client.text:
            block, _, client.text = client.text.partition(b"\n\n")
            self._take(client, block, now_ms)
        if not client.is_open and client.text.startswith(b"HTTP/1.1 ") and not client.text.startswith(b"HTTP/1.1 200"):
            self.refused += 1
            client.text = b""

    def _take(self, client: Client, block: bytes, now_ms: float) -> None:
        if b"event: ready\n" in block:
            client.is_open = True
            self.opened += 1
        elif b"event: message\n" in block:
            at = block.index(b"id: ") + 4
            self.waits_ms.append(now_ms - int(block[at : block.index(b"\n", at)]))


def requests(file: Path, key: str) -> Iterator[bytes]:
    for line in file.read_text().splitlines():
        subscription_id, handle = line.split()
        yield (
            f"GET {PATH}?subscription_id={subscription_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {key}\r\nX-Subscription-Handle: {handle}\r\nAccept: text/event-stream\r\n\r\n"
        ).encode()


def say(**figures: float) -> None:
    print(json.dumps(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--opening", type=int, default=200)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = list(requests(options.file, options.key))
    clients, started, began = Clients(), 0, time.monotonic()
    while (done := clients.opened + clients.refused + clients.ended) < len(wanted):
        while started < len(wanted) and started - done < options.opening:
            clients.start(wanted[started], started, options.port)
            started += 1
        clients.step(1.0)
        if time.monotonic() - began > OPEN_PATIENCE_S:
            break
    say(opened=clients.opened, refused=clients.refused, seconds=time.monotonic() - began)
    clients.selector.register(sys.stdin, selectors.EVENT_READ)
    tell(clients)


def tell(clients: Clients) -> None:
    """For each line of input a line of what came since the one before; the end of input ends it all."""
    while True:
        for key, mask in clients.selector.select():
            if key.fileobj is sys.stdin:
                if not sys.stdin.readline():
                    return
                waits, clients.waits_ms = sorted(clients.waits_ms), []
                shares = {f"p{round(share * 100)}_ms": percentile(waits, share) for share in (0.5, 0.95, 0.99)}
                say(events=len(waits), ended=clients.ended, longest_ms=waits[-1] if waits else 0.0, **shares)
            elif mask & selectors.EVENT_WRITE:
                key.data.sock.send(key.data.request)
            else:
                clients._read(key.data)


if __name__ == "__main__":
    main()
