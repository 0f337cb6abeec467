"""Simulated devices: they read accepted pushes from the stand-ins' journals and post receipts, as the SDKs do.

What becomes of a message (received, tapped, when) follows from the seed and the message id alone.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import http.client
import itertools
import json
import os
import signal
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from apps.sandbox.client import ControlClient

MAX_EVENTS = 500
_MAX_BACKOFF_S = 10.0


@dataclass(frozen=True)
class Plan:
    """How to simulate. Shares are of all messages (received) and of those received (converted); delays are means."""

    api_url: str
    publishable_key: str
    controls: tuple[str, ...]
    devices_file: Path
    receive_share: float = 0.9
    convert_share: float = 0.2
    receive_delay_s: float = 0.5
    convert_delay_s: float = 2.0
    poll_s: float = 0.2
    idle_exit_s: float | None = None
    seed: int = 0
    batch_size: int = MAX_EVENTS
    ca_file: Path | None = None
    exit_with_parent: bool = False

    @classmethod
    def from_arguments(cls, options: argparse.Namespace) -> Plan:
        """From the command line; the key may come from AUTOMATA_PUBLISHABLE_KEY. Raises ValueError."""
        key = options.publishable_key or os.environ.get("AUTOMATA_PUBLISHABLE_KEY", "")
        if not key:
            raise ValueError("give --publishable-key or set AUTOMATA_PUBLISHABLE_KEY")
        if not 1 <= options.batch_size <= MAX_EVENTS:
            raise ValueError(f"--batch-size: 1 to {MAX_EVENTS}")
        names = set(cls.__dataclass_fields__) - {"controls", "publishable_key"}
        given = {name: getattr(options, name) for name in names}
        return cls(controls=tuple(options.control), publishable_key=key, **given)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `python -m apps.sandbox devices`."""
    command.add_argument("--api-url", required=True, help="of Automata-Signal, e.g. http://127.0.0.1:8000")
    command.add_argument("--publishable-key", default="", help="else AUTOMATA_PUBLISHABLE_KEY")
    command.add_argument("--control", action="append", required=True, help="a stand-in's control URL; may be repeated")
    command.add_argument("--devices", dest="devices_file", type=Path, required=True, help="JSON lines: token, handle")
    command.add_argument("--receive-share", type=float, default=0.9)
    command.add_argument("--convert-share", type=float, default=0.2)
    command.add_argument("--receive-delay-s", type=float, default=0.5)
    command.add_argument("--convert-delay-s", type=float, default=2.0)
    command.add_argument("--poll-s", type=float, default=0.2)
    command.add_argument("--idle-exit-s", type=float, help="end after so long without a push and nothing left to post")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--batch-size", type=int, default=MAX_EVENTS)
    command.add_argument("--ca-file", type=Path, help="when the API has a certificate of one's own authority")
    command.add_argument("--exit-with-parent", action="store_true", help="end when standard input ends")


@dataclass(frozen=True, slots=True)
class Fate:
    """What one device does with one message; None: it does not. Seconds after the push."""

    received_after_s: float | None
    converted_after_s: float | None


def fate_of(plan: Plan, message_id: str) -> Fate:
    """The fate of a message. Delays are uniform between 0 and twice their mean."""
    digest = hashlib.blake2b(f"{plan.seed}:{message_id}".encode(), digest_size=16).digest()
    receive, convert, first, second = (
        int.from_bytes(digest[start : start + 4], "big") / 2**32 for start in (0, 4, 8, 12)
    )
    if receive >= plan.receive_share:
        return Fate(None, None)
    received_after_s = 2 * plan.receive_delay_s * first
    if convert >= plan.convert_share:
        return Fate(received_after_s, None)
    return Fate(received_after_s, received_after_s + 2 * plan.convert_delay_s * second)


def message_id_in(body: str) -> str:
    """The platform's message id: APNs `automata.message_id`, FCM `message.data.automata_message_id`; "" without one."""
    try:
        content = json.loads(body)
        if "message" in content:
            found = content["message"].get("data", {}).get("automata_message_id")
        else:
            found = content.get("automata", {}).get("message_id")
    except (ValueError, AttributeError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


@dataclass
class Summary:
    """What has happened, printed as one line of JSON at the end."""

    pushes: int = 0
    pushes_lost: int = 0  # fell out of a journal before they were read
    without_message_id: int = 0
    unknown_token: int = 0
    duplicate_pushes: int = 0
    received_posted: int = 0
    converted_posted: int = 0
    calls: int = 0
    throttled: int = 0
    failed_calls: int = 0
    statuses: Counter[str] = field(default_factory=Counter)  # of single events
    reasons: Counter[str] = field(default_factory=Counter)
    duration_s: float = 0.0


class ApiRefused(Exception):
    """The API will not take receipts with this key or in this form."""


class ReceiptsApi:
    """`POST /api/v1/receipts` over one connection that is kept open."""

    def __init__(self, plan: Plan) -> None:
        parts = urlsplit(plan.api_url)
        self._path = parts.path.rstrip("/") + "/api/v1/receipts"
        self._headers = {"Authorization": f"Bearer {plan.publishable_key}", "Content-Type": "application/json"}
        host, port = parts.hostname or "127.0.0.1", parts.port
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=str(plan.ca_file) if plan.ca_file else None)
            self._connection = http.client.HTTPSConnection(host, port or 443, timeout=30, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, port or 80, timeout=30)

    def post(self, events: list[dict[str, Any]]) -> tuple[int, float, dict[str, Any]]:
        """Status (0: no answer), Retry-After in seconds (0: none), and the body."""
        try:
            self._connection.request("POST", self._path, json.dumps({"events": events}), self._headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, 0.0, {}
        try:
            body = json.loads(content)
        except ValueError:
            body = {}
        retry_after = response.headers.get("Retry-After", "")
        return response.status, float(retry_after) if retry_after.isdigit() else 0.0, body


class Simulator:
    """Polls, schedules and posts until it is stopped or idle."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.summary = Summary()
        self.stopped = False
        self._controls = [ControlClient(url) for url in plan.controls]
        self._cursors = dict.fromkeys(plan.controls, 0)
        self._api = ReceiptsApi(plan)
        self._handles: dict[str, str] = {}
        self._devices_stamp: tuple[int, int] | None = None
        self._seen: set[tuple[str, str]] = set()
        self._order = itertools.count()
        self._due: list[tuple[float, int, dict[str, Any]]] = []
        self._last_push = time.monotonic()
        self._not_before = 0.0
        self._failures = 0

    def run(self) -> Summary:
        """Raises ApiRefused when the API refuses the key, OSError when the devices cannot be read."""
        started = time.monotonic()
        self._read_devices()
        while not self.stopped and not self._is_idle():
            began = time.monotonic()
            more = self._poll()
            self._post_due()
            if not more and not self.stopped:
                time.sleep(max(0.0, self.plan.poll_s - (time.monotonic() - began)))
        self.summary.duration_s = round(time.monotonic() - started, 3)
        return self.summary

    def _is_idle(self) -> bool:
        idle_exit_s = self.plan.idle_exit_s
        return idle_exit_s is not None and not self._due and time.monotonic() - self._last_push > idle_exit_s

    def _poll(self) -> bool:
        """Read the next page of every journal; whether there may be more at once."""
        more = False
        for control in self._controls:
            since = self._cursors[control.url]
            try:
                page = control.journal(since=since, limit=2000, outcome="accepted")
            except (OSError, http.client.HTTPException):
                continue  # the provider is away: it may come back
            self._cursors[control.url] = page["next"]
            self.summary.pushes_lost += page["lost"]
            for entry in page["entries"]:
                self._schedule(entry)
            if page["entries"]:
                self._last_push = time.monotonic()
                more = more or len(page["entries"]) >= 2000
        return more

    def _schedule(self, entry: dict[str, Any]) -> None:
        summary, token = self.summary, entry["token"]
        summary.pushes += 1
        message_id = message_id_in(entry["body"])
        if not message_id:
            summary.without_message_id += 1
            return
        if token not in self._handles:
            self._read_devices()
        handle = self._handles.get(token)
        if handle is None:
            summary.unknown_token += 1
            return
        if (message_id, token) in self._seen:
            summary.duplicate_pushes += 1
            return
        self._seen.add((message_id, token))
        fate = fate_of(self.plan, message_id)
        for kind, after_s in (("received", fate.received_after_s), ("converted", fate.converted_after_s)):
            if after_s is not None:
                at = entry["received_at"] + after_s
                event = {
                    "message_id": message_id,
                    "handle": handle,
                    "type": kind,
                    "occurred_at": datetime.fromtimestamp(at, UTC).isoformat(),
                    "metadata": {"simulated": True},
                }
                heapq.heappush(self._due, (at, next(self._order), event))

    def _post_due(self) -> None:
        while self._due and not self.stopped and time.monotonic() >= self._not_before:
            now = time.time()
            batch: list[tuple[float, int, dict[str, Any]]] = []
            while self._due and self._due[0][0] <= now and len(batch) < self.plan.batch_size:
                batch.append(heapq.heappop(self._due))
            if not batch:
                return
            if not self._post(batch):
                return
            if len(batch) < self.plan.batch_size:
                return

    def _post(self, batch: list[tuple[float, int, dict[str, Any]]]) -> bool:
        """Post one call; False: it is put back, to be tried again later."""
        summary = self.summary
        events = [event for _, _, event in batch]
        status, retry_after_s, body = self._api.post(events)
        summary.calls += 1
        if 200 <= status < 300:
            self._failures = 0
            for result in (body.get("data") or {}).get("results") or ():
                summary.statuses[str(result.get("status"))] += 1
                if result.get("status") != "accepted" and result.get("reason"):
                    summary.reasons[str(result["reason"])] += 1
            summary.received_posted += sum(event["type"] == "received" for event in events)
            summary.converted_posted += sum(event["type"] == "converted" for event in events)
            return True
        if status in (401, 403, 404):
            raise ApiRefused(f"the API answered {status}: {json.dumps(body)[:300]}")
        if 400 <= status < 500 and status not in (408, 429):
            summary.failed_calls += 1
            summary.reasons[f"http {status}"] += len(events)
            print(f"devices: the API answered {status}: {json.dumps(body)[:300]}", file=sys.stderr)
            return True
        if status == 429:
            summary.throttled += 1
        else:
            summary.failed_calls += 1
        self._failures += 1
        self._not_before = time.monotonic() + (retry_after_s or min(0.2 * 2**self._failures, _MAX_BACKOFF_S))
        for item in batch:
            heapq.heappush(self._due, item)
        return False

    def _read_devices(self) -> None:
        """Read the file of devices, again when it has changed."""
        stat = self.plan.devices_file.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        if stamp == self._devices_stamp:
            return
        self._devices_stamp = stamp
        with self.plan.devices_file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    device = json.loads(line)
                    self._handles[device["token"]] = device["handle"]


def simulate(plan: Plan) -> int:
    """Run until SIGTERM, SIGINT or idle; print the summary. Gives the exit code: 1 when the API refuses."""
    simulator = Simulator(plan)

    def stop(*_: object) -> None:
        simulator.stopped = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if plan.exit_with_parent:
        _stop_with_parent(stop)
    code = 0
    try:
        simulator.run()
    except ApiRefused as error:
        print(f"devices: {error}", file=sys.stderr)
        code = 1
    print(json.dumps(vars(simulator.summary)), flush=True)
    return code


def _stop_with_parent(stop: Any) -> None:
    import threading

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop()

    threading.Thread(target=watch, daemon=True).start()
