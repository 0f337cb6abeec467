"""A client for the control endpoint, and `running_sandbox` that starts a stand-in and ends it again."""

from __future__ import annotations

import http.client
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from apps.sandbox.gateway_client import GatewayCalls

ROOT = Path(__file__).resolve().parents[2]
READY_S = 20.0


class ControlError(Exception):
    """The control endpoint has refused a request."""


class ControlClient(GatewayCalls):
    """The control endpoint of one stand-in, e.g. `http://127.0.0.1:9301`. Safe to share between threads."""

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        self.url = url
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._timeout_s = timeout_s
        self._connections = threading.local()

    def health(self) -> dict[str, Any]:
        return self._call("GET", "/health")

    def stats(self) -> dict[str, Any]:
        """Requests, accepted, outcomes, reasons, duplicates, connections, max_concurrent_streams, goaways."""
        return self._call("GET", "/stats")

    def register_keys(self, *registrations: Mapping[str, Any]) -> None:
        """Register keys or accounts, e.g. `credentials.ApnsKey.registration()`."""
        self._call("POST", "/keys", list(registrations))

    def register_tokens(self, tokens: Iterable[Mapping[str, Any]]) -> None:
        """Bind device tokens: APNs {"token", "topic", "environment"}, FCM {"token", "project_id"}."""
        self._call("POST", "/tokens", {"tokens": list(tokens)})

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings (latency_ms, jitter_ms, down, goaway_every, …) and give all of them."""
        return self._call("PUT", "/settings", changes) if changes else self._call("GET", "/settings")

    def behave(self, behaviour: str | Mapping[str, Any], **target: Any) -> int:
        """Add a rule: one of token=, tokens=, prefix=, share=, next=; and times= for the first K requests per token."""
        ids: list[int] = self._call("POST", "/behaviours", {"behaviour": behaviour, **target})["ids"]
        return ids[0]

    def clear_behaviours(self) -> None:
        self._call("DELETE", "/behaviours")

    def journal(
        self,
        *,
        since: int = 0,
        limit: int = 1000,
        token: str | None = None,
        outcome: str | None = None,
        body: bool = True,
    ) -> dict[str, Any]:
        """{"entries": [...], "next": cursor to go on from, "lost": entries that fell out before they were read}."""
        query = {"since": since, "limit": limit, "token": token, "outcome": outcome, "body": int(body)}
        given = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", f"/journal?{urlencode(given)}")

    def entries(self, *, token: str | None = None, outcome: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """All entries after `since` that fit."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.journal(since=since, limit=20_000, token=token, outcome=outcome)
            found += page["entries"]
            if page["next"] <= since or not page["entries"]:
                return found
            since = page["next"]

    def accepted_by_token(self, *, at_least: int = 1) -> dict[str, int]:
        counts: dict[str, int] = self._call("GET", f"/journal/counts?at_least={at_least}")["accepted_by_token"]
        return counts

    def duplicates(self) -> list[dict[str, Any]]:
        """Messages accepted more than once for one token: {"token", "message_id", "count"}."""
        found: list[dict[str, Any]] = self._call("GET", "/journal/duplicates")["duplicates"]
        return found

    def add_hook(self, esp: str, url: str, **secrets: str) -> dict[str, str]:
        """Of the e-mail providers: where `esp` posts its events. Gives what the receiver needs to check signatures."""
        return self._call("POST", "/hooks", {"esp": esp, "url": url, **secrets})

    def send_event(self, event: str, recipient: str | list[str], **more: Any) -> list[dict[str, Any]]:
        """Of the e-mail providers: let the provider post an event of a message that it took for this recipient.

        `more`: esp=, at=, signed_at= (epoch seconds), forged=True, times=2 (the same request again), fields={…}, and
        send=False, which only shows the request. Gives each request with its receiver's status.
        """
        target = {"recipients": recipient} if isinstance(recipient, list) else {"recipient": recipient}
        requests: list[dict[str, Any]] = self._call("POST", "/events", {"event": event, **target, **more})["requests"]
        return requests

    def goaway(self, **options: Any) -> None:
        """GOAWAY on all open connections; graceful unless `last_stream_id` is given."""
        self._call("POST", "/goaway", options)

    def disconnect(self) -> None:
        """Drop all open connections."""
        self._call("POST", "/disconnect", {})

    def reset(self, *what: str) -> None:
        """Without names: journal, behaviours, settings, counts. By name also: keys, tokens, access_tokens."""
        self._call("POST", "/reset", {"what": list(what)})

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._connections, "connection", None)
        if connection is not None:
            connection.close()
            self._connections.connection = None

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        content = json.dumps(body).encode() if body is not None else None
        for attempt in (1, 2):
            connection = getattr(self._connections, "connection", None)
            fresh = connection is None
            if connection is None:
                connection = http.client.HTTPConnection(*self._address, timeout=self._timeout_s)
                self._connections.connection = connection
            try:
                connection.request(method, path, content, {"content-type": "application/json"})
                response = connection.getresponse()
                answer: dict[str, Any] = json.loads(response.read())
                break
            except (OSError, http.client.HTTPException):
                self.close()
                if fresh or attempt == 2:
                    raise
        if response.status != 200:
            raise ControlError(f"{method} {path}: {response.status} {answer.get('error')}")
        return answer


@dataclass
class Sandbox:
    """A running stand-in. `url` is the TLS address, `sandbox_url` APNs' development one, `token_url` FCM's /token.

    Of the mail relay `url` (smtp://) begins in clear and takes STARTTLS; `tls_url` (smtps://) is TLS from the start.
    """

    provider: str
    pid: int
    url: str
    control_url: str
    ca_file: Path
    sandbox_url: str = ""
    token_url: str = ""
    tls_url: str = ""
    control: ControlClient = field(init=False)

    def __post_init__(self) -> None:
        self.control = ControlClient(self.control_url)


@contextmanager
def running_sandbox(provider: str, *, ca_dir: Path, arguments: Iterable[str] = ()) -> Iterator[Sandbox]:
    """Run `python -m apps.sandbox apns|fcm|smtp|esp` on free ports for the length of the block.

    `arguments` go to the command, e.g. ("--latency-ms", "40"). The process also ends when this one dies, however it
    dies (its standard input is a pipe from here). Raises RuntimeError with its error text when it does not start.
    """
    command = [sys.executable, "-m", "apps.sandbox", provider, "--ca-dir", str(ca_dir), "--exit-with-parent"]
    environment = {**os.environ, "AUTOMATA_SANDBOX": "1"}
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ready = _wait_ready(process)
        names = ("provider", "pid", "url", "control_url", "sandbox_url", "token_url", "tls_url")
        sandbox = Sandbox(**{name: ready[name] for name in names if name in ready}, ca_file=Path(ready["ca_file"]))
        assert process.stderr is not None
        threading.Thread(target=_pass_on, args=(process.stderr,), daemon=True).start()
        try:
            yield sandbox
        finally:
            sandbox.control.close()
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _wait_ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        readable, _, _ = select.select([process.stdout], [], [], 0.2)
        if readable:
            line = process.stdout.readline()
            if line:
                ready: dict[str, Any] = json.loads(line)
                return ready
            process.wait(timeout=5)
            raise RuntimeError(f"the sandbox did not start: {process.stderr.read().strip()}")
    raise RuntimeError(f"the sandbox was not ready within {READY_S:.0f} s")


def _pass_on(stream: Any) -> None:
    """What the process writes on its error output goes to ours."""
    with stream:
        for line in stream:
            sys.stderr.write(f"sandbox: {line}")
