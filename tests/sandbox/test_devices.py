"""Simulated devices against an API that records what it is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from apps.sandbox.client import ROOT, Sandbox
from apps.sandbox.devices import Plan, fate_of, message_id_in
from tests.sandbox.wire import Reply

Push = Callable[..., Reply]
KEY = "pk_test_1"


class Api(ThreadingHTTPServer):
    """Takes receipts; the first `throttle` calls answer 429."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ApiHandler)
        self.calls: list[tuple[str, str, list[dict[str, Any]]]] = []
        self.call_times: list[float] = []
        self.throttle = 0
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def events(self) -> list[dict[str, Any]]:
        return [event for _, _, events in self.calls for event in events]


class ApiHandler(BaseHTTPRequestHandler):
    server: Api
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        events = json.loads(self.rfile.read(int(self.headers["content-length"])))["events"]
        api = self.server
        api.call_times.append(time.monotonic())
        if api.throttle:
            api.throttle -= 1
            self.reply(429, {"success": False}, ("Retry-After", "1"))
            return
        if api.status != 200:
            self.reply(api.status, {"success": False, "error": {"code": "INVALID_KEY"}})
            return
        api.calls.append((self.path, self.headers["authorization"], events))
        results = [{"index": i, "message_id": e["message_id"], "status": "accepted"} for i, e in enumerate(events)]
        self.reply(200, {"success": True, "data": {"results": results, "accepted": len(results)}})

    def reply(self, status: int, body: dict[str, Any], *headers: tuple[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (*headers, ("content-length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run_devices(api: Api, sandbox: Sandbox, devices: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "apps.sandbox", "devices", "--api-url", api.url, "--devices", str(devices)]
    usual = ["--control", sandbox.control_url, "--poll-s", "0.02", "--idle-exit-s", "0.2", "--receive-delay-s", "0.01"]
    return subprocess.run(
        [*command, *usual, "--convert-delay-s", "0.01", *arguments],
        cwd=ROOT,
        env={**os.environ, "AUTOMATA_SANDBOX": "1", "AUTOMATA_PUBLISHABLE_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def body(message_id: str) -> bytes:
    return b'{"aps":{"alert":"Hi"},"automata":{"message_id":"%s"}}' % message_id.encode()


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    path = tmp_path / "devices.jsonl"
    lines = [{"token": f"ab{n:02x}", "subscription_id": str(n), "handle": f"handle-{n}"} for n in range(40)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_devices_post_receipts_for_accepted_pushes(push: Push, apns: Sandbox, api: Api, devices: Path) -> None:
    for number in range(40):
        push(f"ab{number:02x}", body=body(f"message-{number}"))
    push("ab00", body=body("message-0"))  # a duplicate: the SDK reports a message once
    push("cdef", body=body("message-x"))
    push("ab01", body=b'{"aps":{"alert":"not ours"}}')
    push("dead4101", body=body("message-y"))
    done = run_devices(api, apns, devices, "--receive-share", "0.5", "--convert-share", "0.5")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    plan = Plan(api.url, KEY, (), devices, receive_share=0.5, convert_share=0.5)
    fates = {f"message-{number}": fate_of(plan, f"message-{number}") for number in range(40)}
    received = {e["message_id"] for e in api.events() if e["type"] == "received"}
    converted = {e["message_id"] for e in api.events() if e["type"] == "converted"}
    assert received == {name for name, fate in fates.items() if fate.received_after_s is not None}
    assert converted == {name for name, fate in fates.items() if fate.converted_after_s is not None}
    assert 0 < len(converted) < len(received) < 40
    assert {path for path, _, _ in api.calls} == {"/api/v1/receipts"}
    assert {key for _, key, _ in api.calls} == {f"Bearer {KEY}"}
    event = api.events()[0]
    assert event["handle"] == f"handle-{event['message_id'].split('-')[1]}"
    assert event.keys() == {"message_id", "handle", "type", "occurred_at", "metadata"}
    assert (summary["pushes"], summary["duplicate_pushes"], summary["unknown_token"]) == (43, 1, 1)
    assert summary["without_message_id"] == 1
    assert summary["received_posted"] == len(received)
    assert summary["statuses"] == {"accepted": len(received) + len(converted)}


def test_devices_wait_when_throttled_and_lose_nothing(push: Push, apns: Sandbox, api: Api, devices: Path) -> None:
    for number in range(5):
        push(f"ab{number:02x}", body=body(f"message-{number}"))
    api.throttle = 1
    done = run_devices(api, apns, devices, "--receive-share", "1", "--convert-share", "0", "--batch-size", "2")
    assert sorted(event["message_id"] for event in api.events()) == [f"message-{number}" for number in range(5)]
    assert max(len(events) for _, _, events in api.calls) == 2
    assert api.call_times[1] - api.call_times[0] >= 0.95
    assert json.loads(done.stdout)["throttled"] == 1


def test_devices_end_with_a_clear_line_when_the_key_is_refused(
    push: Push, apns: Sandbox, api: Api, devices: Path
) -> None:
    push("ab00", body=body("message-0"))
    api.status = 401
    done = run_devices(api, apns, devices, "--receive-share", "1")
    assert done.returncode == 1
    assert "the API answered 401" in done.stderr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"aps":{},"automata":{"message_id":"m1"}}', "m1"),
        ('{"message":{"token":"t","data":{"automata_message_id":"m2"}}}', "m2"),
        ('{"message":{"token":"t"}}', ""),
        ('{"aps":{}}', ""),
        ("nonsense", ""),
    ],
)
def test_the_message_id_is_found_in_a_push(text: str, found: str) -> None:
    assert message_id_in(text) == found
