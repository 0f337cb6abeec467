"""The SMS and Kakao gateways' stand-ins, one process each for all tests, and somewhere for their webhooks to go.

A test that uses one begins with `reset_gateway(sandbox)` and registers what it needs: an account
(apps.sandbox.gateway_credentials), sender numbers, and for Alimtalk a profile and templates.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from apps.sandbox.client import Sandbox, running_sandbox


@pytest.fixture(scope="session")
def solapi_sandbox(ca_dir: Path) -> Iterator[Sandbox]:
    with running_sandbox("solapi", ca_dir=ca_dir) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def twilio_sandbox(ca_dir: Path) -> Iterator[Sandbox]:
    with running_sandbox("twilio", ca_dir=ca_dir) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def nhn_sandbox(ca_dir: Path) -> Iterator[Sandbox]:
    with running_sandbox("nhn", ca_dir=ca_dir) as sandbox:
        yield sandbox


def reset_gateway(sandbox: Sandbox) -> Sandbox:
    """Forget all that tests have registered, sent and set."""
    sandbox.control.reset()
    sandbox.control.reset("registrations")
    return sandbox


class Received(NamedTuple):
    """One webhook. Header names are lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class WebhookReceiver:
    """Takes webhooks over plain HTTP on loopback. `answers` are the statuses of the next ones, then 200."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook_receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.close()
