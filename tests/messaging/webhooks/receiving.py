"""A receiver of webhooks: a real HTTP server that answers several at a time, and keeps what it got."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Posted:
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        return json.loads(self.body)

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.events]


def take(posted: Posted) -> int:
    return 200


@dataclass
class Receiver:
    url: str = ""
    answer: Callable[[Posted], int] = take
    headers_sent: dict[str, str] = field(default_factory=dict)
    got: list[Posted] = field(default_factory=list)
    """Everything that came, in order."""
    taken: list[Posted] = field(default_factory=list)
    """What was answered with 2xx."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """Of what was taken; repeats are dropped by id, as the documentation tells receivers to."""
        found = {event["id"]: event for posted in self.taken for event in posted.events}
        return list(found.values())

    def told_of(self, message_id: object) -> list[str]:
        """The states of a message, in the order in which they came."""
        return [e["data"]["status"] for e in self.events if e["data"].get("message_id") == str(message_id)]


@contextmanager
def receiver() -> Iterator[Receiver]:
    told, lock = Receiver(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted = Posted({name.lower(): value for name, value in self.headers.items()}, body)
            with lock:
                told.got.append(posted)
            status = told.answer(posted)
            with lock:
                if 200 <= status < 300:
                    told.taken.append(posted)
            self.send_response(status)
            for name, value in told.headers_sent.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}/events"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
