"""The demo's scenario, `python -m tools.demo`: a campaign from the API call to the tap, with every number real.

It does what a company's own systems would do, and only over HTTP: an app server with the secret key, and (in a process
of their own) simulated phones with the publishable key. What the stand-in providers saw is read from their journals
and held against what the platform says. `manage.py seed_demo` comes first; the addresses come from the environment
(`tools.processes.Addresses`). Exit code 0 only if every message is accounted for.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from apps.sandbox.client import ControlClient, ControlError
from apps.sandbox.devices import Plan, fate_of
from tools import demo_channels
from tools.demo_channels import Channels, ChannelsError
from tools.supervisor import ROOT
from tools.workspace import LOCAL

STATE_DIR = LOCAL / "demo"
READY_TIMEOUT_S = 30.0
STALLED_AFTER_S = 60.0
POLL_S = 0.1
RECEIVE_DELAY_S, CONVERT_DELAY_S = 0.3, 0.7
"""Means; devices take at most twice as long."""
JOURNAL_PAGE = 20_000
JOURNAL_HOLDS = 300_000
"""Messages that the journals hold together without losing the first; for more they are read while they grow."""
CHANNEL = "push"
TITLE = '{{ name | default("Hello") }}, the weekend sale is on'
BODY = "{{ discount }} % off everything in {{ city }} until Sunday."


class ScenarioError(Exception):
    """The scenario cannot go on, or its sums do not add up; the message is one line."""


# --- Parts -------------------------------------------------------------------------------------------------------


class Api:
    """Automata-Signal's REST API with one key, over a connection that stays open."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ScenarioError(f"API_URL is {url!r}: the demo speaks plain HTTP with this machine")
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=60)

    def get(self, path: str) -> Any:
        return self._call("GET", path)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._call("POST", path, body if body is not None else {}, headers)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def is_ready(self) -> bool:
        try:
            status, _ = self._exchange("GET", "/readyz", None, {})
        except (OSError, http.client.HTTPException):
            return False
        return status == 200

    def _call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        try:
            status, answer = self._exchange(method, f"/api/v1/{path}", content, headers or {})
        except (OSError, http.client.HTTPException) as error:
            raise ScenarioError(f"{method} {path}: the API does not answer ({error})") from error
        if status >= 300:
            raise ScenarioError(f"{method} {path}: the API refused: {refusal(status, answer)}")
        return answer.get("data")

    def _exchange(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        try:
            self._connection.request(method, path, content, {**self._headers, **headers})
            response = self._connection.getresponse()
            text = response.read()
        except BaseException:
            self._connection.close()
            raise
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        return response.status, answer if isinstance(answer, dict) else {}


def refusal(status: int, answer: dict[str, Any]) -> str:
    """`400 VALIDATION_ERROR: The input is not valid. (name: is required)`"""
    error = answer.get("error") or {}
    details = "; ".join(f"{item.get('field')}: {item.get('message')}" for item in error.get("details") or ())
    return f"{status} {error.get('code', '')}: {error.get('message', 'no reason given')}" + (
        details and f" ({details})"
    )


class Progress:
    """One line that moves in a terminal; elsewhere a line now and then."""

    WIDTH = 32
    EVERY_S = 2.0

    def __init__(self, what: str) -> None:
        self.what = what
        self._moves = sys.stdout.isatty()
        self._shown_at = 0.0

    def show(self, done: int, total: int, note: str = "") -> None:
        share = done / total if total else 0.0
        text = f"{self.what:<9} {share:4.0%}  {done:,} of {total:,}  {note}"
        if self._moves:
            bar = "█" * int(share * self.WIDTH)
            print(f"\r\033[K  {bar:░<{self.WIDTH}} {text}", end="", flush=True)
        elif time.monotonic() - self._shown_at >= self.EVERY_S:
            self._shown_at = time.monotonic()
            print(f"  {text}", flush=True)

    def end(self, done: int, total: int, note: str = "") -> None:
        self._shown_at = 0.0
        self.show(done, total, note)
        if self._moves:
            print(flush=True)


class Devices:
    """The simulated phones: a process that reads the stand-ins' journals and posts receipts, as SDKs would."""

    def __init__(self, plan: Plan) -> None:
        command = [sys.executable, "-m", "apps.sandbox", "devices", "--exit-with-parent"]
        command += ["--api-url", plan.api_url, "--devices", str(plan.devices_file)]
        command += ["--receive-delay-s", str(plan.receive_delay_s), "--convert-delay-s", str(plan.convert_delay_s)]
        for url in plan.controls:
            command += ["--control", url]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "AUTOMATA_SANDBOX": "1", "AUTOMATA_PUBLISHABLE_KEY": plan.publishable_key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def check(self) -> None:
        if self._process.poll() is not None:
            raise ScenarioError(f"the simulated devices ended with code {self._process.returncode} (see above)")

    def stop(self) -> dict[str, Any]:
        """End them; what they have done."""
        self._process.terminate()
        try:
            output, _ = self._process.communicate(timeout=20)
            summary: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError):
            raise ScenarioError("the simulated devices did not say what they have done") from None
        return summary

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Journal:
    """What the stand-in providers saw of the campaign."""

    accepted: Counter[str] = field(default_factory=Counter)
    """By message id: how often a provider took it."""
    refused: Counter[str] = field(default_factory=Counter)
    arrived_at: dict[str, float] = field(default_factory=dict)
    """By message id: when it was first at a provider, epoch seconds."""
    lost: int = 0
    """Entries that fell out before they were read."""
    cursors: dict[str, int] = field(default_factory=dict)
    """By control address: how far its journal was read."""

    @classmethod
    def from_now_on(cls, controls: Iterable[ControlClient]) -> Journal:
        return cls(cursors={control.url: control.stats()["journal_last_cursor"] for control in controls})

    def catch_up(self, controls: Iterable[ControlClient]) -> None:
        """Read what has come since."""
        for control in controls:
            while True:
                page = control.journal(since=self.cursors[control.url], limit=JOURNAL_PAGE, body=False)
                self.cursors[control.url] = page["next"]
                self.lost += page["lost"]
                for entry in page["entries"]:
                    self._note(entry)
                if len(page["entries"]) < JOURNAL_PAGE:
                    break

    def _note(self, entry: dict[str, Any]) -> None:
        message_id, outcome = entry["message_id"], entry["outcome"]
        if outcome not in ("accepted", "refused"):
            return
        if outcome == "accepted":
            self.accepted[message_id] += 1
        else:
            self.refused[message_id] += 1
        at = entry["received_at"]
        self.arrived_at[message_id] = min(at, self.arrived_at.get(message_id, at))


def made_at(message_id: str) -> float:
    """Epoch seconds at which a message was made: its id is a UUIDv7."""
    return (UUID(message_id).int >> 80) / 1_000


# --- Scenario ----------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """All that the table shows."""

    recipients: int
    stats: dict[str, Any]
    journal: Journal
    launched_at: float
    settled_at: float
    devices: dict[str, Any]
    expected_receipts: tuple[int, int]
    ended: int
    console_url: str


class Scenario:
    """The steps, in their order."""

    def __init__(self, environ: dict[str, str], state_dir: Path, recipients: int) -> None:
        try:
            self.state: dict[str, Any] = json.loads((state_dir / "demo.json").read_text())
            api_url = environ["API_URL"].rstrip("/")
            controls = {
                provider: ControlClient(environ[f"SANDBOX_{provider.upper()}_CONTROL_URL"])
                for provider in ("apns", "fcm")
            }
        except KeyError as error:
            raise ScenarioError(f"{error.args[0]} is not set: ./run demo starts the scenario with it") from None
        except (OSError, ValueError) as error:
            raise ScenarioError(f"{state_dir / 'demo.json'} cannot be read: {error}") from None
        self.recipients = recipients
        self.controls = controls
        self.api = Api(api_url, self.state["secret_key"])
        self.plan = Plan(
            api_url=api_url,
            publishable_key=self.state["publishable_key"],
            controls=tuple(control.url for control in controls.values()),
            devices_file=state_dir / "devices.jsonl",
            receive_delay_s=RECEIVE_DELAY_S,
            convert_delay_s=CONVERT_DELAY_S,
        )
        self.criteria = {"field": "tags.place", "op": "lte", "value": recipients}

    def play(self) -> Outcome:
        self.wait_until_ready()
        for provider, control in self.controls.items():
            control.register_keys(*self.state[f"{provider}_keys"])
        campaign_id = self.make_campaign()
        journal = Journal.from_now_on(self.controls.values())
        devices = Devices(self.plan)
        try:
            launched_at = time.time()
            self.api.post(f"campaigns/{campaign_id}/launch", **{"Idempotency-Key": f"launch-{campaign_id}"})
            say(f"POST /campaigns/{campaign_id}/launch")
            settled_at = self.follow_sending(campaign_id, launched_at, devices, journal)
            journal.catch_up(self.controls.values())
            expected = self.expected_receipts(journal.accepted)
            stats = self.follow_receipts(campaign_id, expected, devices)
            summary = devices.stop()
        except BaseException:
            devices.kill()
            raise
        return Outcome(
            recipients=self.recipients,
            stats=stats,
            journal=journal,
            launched_at=launched_at,
            settled_at=settled_at,
            devices=summary,
            expected_receipts=expected,
            ended=self.recipients - self.count_audience(),
            console_url=f"{self.plan.api_url}/admin/",
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.api.is_ready():
            if time.monotonic() > deadline:
                raise ScenarioError(f"/readyz did not answer 200 within {READY_TIMEOUT_S:.0f} s")
            time.sleep(POLL_S)

    def make_campaign(self) -> str:
        """A template, a look at the audience, a draft; its id."""
        name = f"Weekend sale {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
        template = self.api.post(
            "templates",
            {"name": name, "title_template": TITLE, "body_template": BODY, "data_template": {"screen": "sale"}},
        )
        say(f'POST /templates: "{TITLE}"')
        count = self.count_audience()
        say(f"POST /audience/count: {count:,} reachable")
        if count != self.recipients:
            raise ScenarioError(f"{self.recipients:,} recipients were asked for, the audience has {count:,}")
        campaign = self.api.post(
            "campaigns",
            {
                "name": name,
                "template_id": template["id"],
                "channel_type": CHANNEL,
                "priority": "low",
                "variables": {"discount": 20, "city": "your city"},
                "targeting_criteria": self.criteria,
            },
        )
        say(f'POST /campaigns: "{name}"')
        return str(campaign["id"])

    def count_audience(self) -> int:
        found = self.api.post("audience/count", {"criteria": self.criteria, "channel_type": CHANNEL})
        return int(found["count"])

    def follow_sending(self, campaign_id: str, launched_at: float, devices: Devices, journal: Journal) -> float:
        """Until no message waits; the moment in which that was seen, so the rate is never too good."""
        progress, stall = Progress("sending"), Stall("sending")
        while True:
            stats = self.api.get(f"campaigns/{campaign_id}/stats")
            now = time.time()
            done = stats["successful"] + stats["failed"]
            note = f"{done / (now - launched_at):,.0f}/s"
            if is_settled(stats):
                progress.end(done, stats["total"], note)
                return now
            progress.show(done, max(stats["total"], self.recipients), note)
            devices.check()
            stall.watch(done, stats)
            if self.recipients > JOURNAL_HOLDS:
                journal.catch_up(self.controls.values())
            time.sleep(POLL_S)

    def expected_receipts(self, message_ids: Iterable[str]) -> tuple[int, int]:
        """How many of these the phones will report as received and as converted: their fate hangs on the id alone."""
        fates = [fate_of(self.plan, message_id) for message_id in message_ids]
        received = sum(fate.received_after_s is not None for fate in fates)
        return received, sum(fate.converted_after_s is not None for fate in fates)

    def follow_receipts(self, campaign_id: str, expected: tuple[int, int], devices: Devices) -> dict[str, Any]:
        """Until all receipts that the phones send are counted; the campaign's last figures."""
        progress, stall = Progress("receipts"), Stall("receipts")
        while True:
            stats: dict[str, Any] = self.api.get(f"campaigns/{campaign_id}/stats")
            done = stats["received"] + stats["converted"]
            if (stats["received"], stats["converted"]) == expected:
                progress.end(done, sum(expected))
                return stats
            progress.show(done, sum(expected))
            devices.check()
            stall.watch(done, stats)
            time.sleep(POLL_S)


class Stall:
    """Notices that nothing moves any more."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._done = -1
        self._moved_at = time.monotonic()

    def watch(self, done: int, stats: dict[str, Any]) -> None:
        if done != self._done:
            self._done, self._moved_at = done, time.monotonic()
        elif time.monotonic() - self._moved_at > STALLED_AFTER_S:
            raise ScenarioError(
                f"{self._what}: nothing has moved for {STALLED_AFTER_S:.0f} s; the campaign is {stats['status']}, "
                f"messages by state: {stats['by_status']} (see the logs)"
            )


def is_settled(stats: dict[str, Any]) -> bool:
    """Whether every message has a provider's answer, or none will come."""
    waiting = stats["by_status"]["pending"] + stats["by_status"]["errored"]
    return bool(stats["fanout_done"]) and not waiting and stats["successful"] + stats["failed"] == stats["total"]


def discrepancies(outcome: Outcome) -> list[str]:
    """What does not add up; empty if all messages are accounted for."""
    stats, journal = outcome.stats, outcome.journal
    refused_for_good = set(journal.refused) - set(journal.accepted)
    sums = [
        ("recipients and messages", outcome.recipients, stats["total"]),
        ("messages and the sum of their states", stats["total"], sum(stats["by_status"].values())),
        ("messages without an end", 0, stats["by_status"]["pending"] + stats["by_status"]["errored"]),
        ("messages that providers took, and successful ones", len(journal.accepted), stats["successful"]),
        ("messages that providers refused, and failed ones", len(refused_for_good), stats["failed"]),
        ("devices that received, and received messages", outcome.expected_receipts[0], stats["received"]),
        ("devices that were tapped, and converted messages", outcome.expected_receipts[1], stats["converted"]),
        ("subscriptions that were ended, and tokens that are dead", outcome.ended, len(refused_for_good)),
    ]
    if journal.lost:
        sums.append(("journal entries that were lost", 0, journal.lost))
    return [f"{what} differ: {one:,} and {other:,}" for what, one, other in sums if one != other]


# --- Output ------------------------------------------------------------------------------------------------------


def say(message: str) -> None:
    print(f"  {message}", flush=True)


def table(outcome: Outcome, state: dict[str, Any], state_dir: Path) -> str:
    """What happened, one line each: name, figure, what it says."""
    stats, journal, devices = outcome.stats, outcome.journal, outcome.devices
    took_s = outcome.settled_at - outcome.launched_at
    posted = devices["received_posted"] + devices["converted_posted"]
    receipts = f"{devices['received_posted']:,} received, {devices['converted_posted']:,} tapped"
    twice = sum(count > 1 for count in journal.accepted.values())
    lines = [
        ("Messages", f"{stats['total']:,}", "by state:"),
        *((f"  {name}", f"{count:,}", "") for name, count in stats["by_status"].items()),
        ("Speed", f"{stats['total'] / took_s:,.0f}/s", f"{took_s:.2f} s from the launch to the last recorded result"),
        ("Latency", "", spread([at - outcome.launched_at for at in journal.arrived_at.values()], "launch")),
        ("", "", spread([at - made_at(id_) for id_, at in journal.arrived_at.items()], "message made")),
        ("Invalid tokens", f"{stats['failed']:,}", ", ".join(f"{n:,} {word}" for word, n in stats["failures"].items())),
        ("Subscriptions ended", f"{outcome.ended:,}", "by the provider's word"),
        ("Accepted twice", f"{twice:,}", "the same collapse id: a device shows one"),
        ("Receipts posted", f"{posted:,}", receipts),
        ("Console", "", f"{outcome.console_url}   {state['email']}   {state['password']}"),
        ("Keys", "", f"in {state_dir / 'demo.json'}"),
    ]
    return "\n".join(f"  {name:<20}{value:>9}   {note}".rstrip() for name, value, note in lines)


def spread(delays: Sequence[float], since: str) -> str:
    """`launch → provider: first 40 ms, median …`"""
    ordered = sorted(delays)
    figures = {"first": 0.0, "median": 0.5, "95 %": 0.95, "last": 1.0}
    shown = ", ".join(f"{name} {quantile(ordered, share) * 1_000:,.0f} ms" for name, share in figures.items())
    return f"{since} → provider: {shown}"


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of all lies. `ordered` is sorted and not empty."""
    if share == 0.5:
        return statistics.median(ordered)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def seed(recipients: int, state_dir: Path) -> None:
    command = [sys.executable, "manage.py", "seed_demo", "--channels"]
    command += ["--recipients", str(recipients), "--state-dir", str(state_dir)]
    past = [sys.executable, "manage.py", "seed_history", "--state-dir", str(state_dir)]
    for step in (command, past):
        if subprocess.run(step, cwd=ROOT).returncode:
            raise ScenarioError("the demo's data could not be made (see above)")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--recipients", type=int, default=10_000, metavar="N", help="size of the campaign")
    parser.add_argument("--state-dir", type=Path, default=STATE_DIR, help="where seed_demo keeps log-in and keys")
    options = parser.parse_args(arguments)
    try:
        seed(options.recipients, options.state_dir)
        scenario = Scenario(dict(os.environ), options.state_dir, options.recipients)
        outcome = scenario.play()
        say("And the other channels:")
        rows, wrong = Channels(scenario.api, scenario.state, os.environ, options.state_dir).play()
    except (ScenarioError, ChannelsError, ControlError) as error:
        return fail(str(error))
    except (OSError, http.client.HTTPException) as error:
        return fail(f"a stand-in provider does not answer: {error}")
    except KeyboardInterrupt:
        return 130
    print(f"\n{table(outcome, scenario.state, options.state_dir)}\n\n{demo_channels.table(rows)}\n", flush=True)
    if wrong := [*discrepancies(outcome), *wrong]:
        return fail(*wrong)
    messages = outcome.recipients + sum(row.stats["total"] for row in rows)
    say(f"All {messages:,} messages are accounted for.")
    return 0


def fail(*problems: str) -> int:
    """Say what is wrong, below a line that may still be moving; the exit code."""
    if sys.stdout.isatty():
        print(flush=True)
    for problem in problems:
        print(f"demo: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
