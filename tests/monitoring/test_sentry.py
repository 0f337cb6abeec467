"""What leaves for Sentry: a process as the settings make it fails, and a server on this machine reads what it says."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.fleet import ROOT

SECRET = "as_" + "sk_of_somebody_1234567890"
PERSONAL = (SECRET, "kim@example.com", "+821012345678", "hunter2", "0123456789abcdef" * 4, "kim-minsu-1987")

FAILING = """
import logging, os
import django
django.setup()
from django.core.wsgi import get_wsgi_application
from django.test import RequestFactory
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
import automata_signal.urls as urls
from automata_signal.task_context import log_fields
from automata_signal.celery import app

secret, person = os.environ["TEST_SECRET"], os.environ["TEST_PERSON"]

@csrf_exempt
def fails(request, who):
    local = request.headers["Authorization"]
    logging.getLogger("apps").info("a crumb about %s", person, extra={"request": local})
    raise ValueError(f"no user {person}; key {secret}")

urls.urlpatterns.insert(0, path("fails/<str:who>", fails))

@app.task(name="tests.fails")
def task_fails(token):
    raise RuntimeError(f"bad token {token}")

request = RequestFactory(SERVER_NAME="localhost").post(
    f"/fails/{person}?external_id=kim-minsu-1987", data={"password": "hunter2", "email": person},
    content_type="application/json",
    headers={"authorization": f"Bearer {secret}", "cookie": "sessionid=hunter2", "x-forwarded-for": "203.0.113.9"},
)
with log_fields(application_id="app-1", campaign_id="campaign-1"):
    answer = get_wsgi_application()(request.environ, lambda *_: None)
    b"".join(answer)
    answer.close()
task_fails.apply(args=["0123456789abcdef" * 4])
logging.getLogger("apps").error("breaker opened", extra={"credential": secret, "reason": f"it was {person}"})
import sentry_sdk
sentry_sdk.flush(10)
print("is on:", sentry_sdk.is_initialized())
"""


class Sink(ThreadingHTTPServer):
    """Takes what is posted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.bodies: list[bytes] = []
        self.headers: list[str] = []

    @property
    def dsn(self) -> str:
        return f"http://public@127.0.0.1:{self.server_port}/1"


class _Taker(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        compressed = self.headers.get("Content-Encoding") == "gzip"
        self.server.bodies.append(gzip.decompress(body) if compressed else body)
        self.server.headers.append(str(self.headers))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@pytest.fixture
def sink():
    server = Sink()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fail_in_a_process(**environment: str) -> str:
    own = {"TEST_SECRET": SECRET, "TEST_PERSON": "kim@example.com", "no_proxy": "*", "SENTRY_TRACES_SAMPLE_RATE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FAILING], cwd=ROOT, env={**os.environ, **own, **environment}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def events(sink: Sink) -> list[dict]:
    """The items of every envelope, but for their headers."""
    items = [json.loads(line) for body in sink.bodies for line in body.splitlines() if line.startswith(b"{")]
    return [item for item in items if "platform" in item]


def test_an_error_is_reported_with_its_place_and_ids_and_nothing_of_anybody(sink):
    fail_in_a_process(SENTRY_DSN=sink.dsn)
    everything = b"".join(sink.bodies).decode() + "".join(sink.headers)
    assert [personal for personal in PERSONAL if personal in everything] == []
    assert "203.0.113.9" not in everything
    failures = {event["exception"]["values"][-1]["type"]: event for event in events(sink) if "exception" in event}
    assert {"ValueError", "RuntimeError"} <= set(failures)
    [failed] = [failures["ValueError"]]
    assert failed["request"] == {"method": "POST", "url": "http://localhost/fails/…"}
    assert failed["exception"]["values"][-1]["value"] == "no user …; key as_sk_…"
    frames = failed["exception"]["values"][-1]["stacktrace"]["frames"]
    assert frames[-1]["function"] == "fails"
    assert not any("vars" in frame for frame in frames)
    assert (failed["tags"]["application_id"], failed["tags"]["campaign_id"]) == ("app-1", "campaign-1")
    assert "user" not in failed
    assert "extra" not in failed
    assert failures["RuntimeError"]["tags"]["task"] == "tests.fails"
    said = [event["logentry"]["message"] for event in events(sink) if "logentry" in event]
    assert "breaker opened" in said


def test_transactions_are_reported_by_route_and_not_by_path(sink):
    fail_in_a_process(SENTRY_DSN=sink.dsn)
    names = {event.get("transaction") for event in events(sink) if event.get("type") == "transaction"}
    assert {"/fails/{who}", "tests.fails"} <= names


def test_without_a_dsn_nothing_leaves(sink):
    assert "is on: False" in fail_in_a_process(SENTRY_DSN="")
    assert sink.bodies == []
