"""The demo's second part: e-mail, SMS, Alimtalk, in-app messages and outgoing webhooks, each with what follows a send.

Like the first it uses the API alone, and does by itself what people, gateways and a company's own receiver would do:
it opens and follows the links that stand in the e-mails, answers one with its one-click unsubscribe, holds a stream of
server-sent events open as an app does, and takes the webhooks that the platform posts. At the end the platform's
figures are held against the stand-ins' journals, message by message.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from apps.sandbox.client import ControlClient

PROVIDERS = ("smtp", "solapi", "twilio", "nhn")
EMAIL, SMS, KAKAO, IN_APP = "email", "sms", "kakao_talk", "in_app"
SHOWN_AS = {EMAIL: "E-mail", SMS: "SMS", KAKAO: "Alimtalk", IN_APP: "In-app"}
SETTLES_S = 60.0
"""How long nothing may move."""
POLL_S = 0.1
OPENED_EACH, CLICKED_EACH = 3, 9
"""Every third e-mail is opened, every ninth link is followed."""
READER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0"
"""Who says of itself that it is a program is sent on and not counted."""
DISPLAYED = 20
"""In-app messages that their devices report as displayed."""
NOBODYS_NUMBER, NO_KAKAOTALK = "010023050", "010023104"
"""How numbers begin at which the stand-in reports that they are nobody's, and that nobody there uses KakaoTalk."""
FALLBACK_TEXT = "[Demo shop] Your order has left our warehouse: demo-shop.example/o"
HTML = """<html><head><style>a { color: #0a58ca } p { font-size: 16px }</style></head><body>
<p>Hello {{ name | default("there") }}, what came in this week:</p>
<p><a href="https://demo-shop.example/new?from=letter">See all of it</a></p>
<p><a href="{{ unsubscribe_url }}">No more of these</a></p></body></html>"""


class ChannelsError(Exception):
    """This part cannot go on; the message is one line."""


class Api(Protocol):
    """`tools.demo.Api`."""

    def get(self, path: str) -> Any: ...

    def post(self, path: str, body: Any = None, **headers: str) -> Any: ...

    def delete(self, path: str) -> Any: ...


def say(message: str) -> None:
    print(f"  {message}", flush=True)


# --- What happened -------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One channel, as the table shows it and as it is checked."""

    channel: str
    stats: dict[str, Any]
    took_s: float
    """From the launch until the last message had its result."""
    sent: set[str]
    """Message ids that the peer took, by its journal; of in-app messages those found in inboxes."""
    failed: set[str]
    """Message ids that the peer refused or reported as failed; of e-mails external ids: a relay refuses recipients."""
    arrived: set[str]
    """Message ids that arrived, were opened or displayed: what somebody other than the platform says."""
    converted: set[str] = field(default_factory=set)
    followed: int = 0
    """Messages by which a chain went on, on another channel: the campaign's figures hold them too."""
    note: str = ""


def problems_of(row: Row, told: Mapping[str, set[str]]) -> list[str]:
    """What does not add up of one channel. `told` is what webhooks said: `Receiver.told`."""
    stats, name = row.stats, SHOWN_AS[row.channel]
    sums = [
        ("messages and the sum of their states", stats["total"], sum(stats["by_status"].values())),
        ("messages without an end", 0, stats["by_status"]["pending"] + stats["by_status"]["errored"]),
        (
            "messages, and those that the peer took or refused",
            stats["total"],
            len(row.sent | row.failed) + row.followed,
        ),
        ("messages that failed, and failures by the peer's word", stats["failed"], len(row.failed)),
        ("messages that arrived, and those by the peer's word", stats["received"], len(row.arrived) + row.followed),
        ("messages acted on, and links followed", stats["converted"], len(row.converted)),
    ]
    found = [f"{name}: {what} differ: {one:,} and {other:,}" for what, one, other in sums if one != other]
    failed = "failed people" if row.channel == EMAIL else "failed"
    events = {"successful": row.sent, failed: row.failed, "received": row.arrived, "converted": row.converted}
    for event, ids in events.items():
        of_channel = told.get(f"{row.channel} message.{event}", set())
        if of_channel != ids:
            found.append(f"{name}: webhooks told of {len(of_channel):,} messages {event}, the peers of {len(ids):,}")
    return found


def table(rows: Sequence[Row]) -> str:
    """A line for each channel."""
    head = f"  {'Channel':<10}{'sent':>8}{'arrived':>10}{'acted on':>10}{'failed':>8}{'time':>9}"
    lines = [head]
    for row in rows:
        stats = row.stats
        figures = f"{len(row.sent):>8,}{stats['received']:>10,}{stats['converted']:>10,}{stats['failed']:>8,}"
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in stats["failures"].items())
        note = "; ".join(filter(None, (row.note, reasons)))
        lines.append(f"  {SHOWN_AS[row.channel]:<10}{figures}{row.took_s:>7.1f} s   {note}".rstrip())
    return "\n".join(lines)


# --- A company's receiver of webhooks, and an app's open stream -----------------------------------------------------


class Receiver:
    """Takes webhooks as docs/webhooks.md tells receivers to: the signature first, then each event once."""

    def __init__(self) -> None:
        self.secret = ""
        self.posts = self.forged = self.repeated = 0
        self.messages: dict[str, set[str]] = defaultdict(set)
        """Message ids by channel and event, `email message.failed`, and external ids: `email message.failed people`."""
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/automata"

    @property
    def events(self) -> int:
        return len(self._seen)

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        """One request; the status to answer."""
        timestamp = headers.get("X-Automata-Timestamp") or ""
        mac = hmac.new(self.secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        given = (headers.get("X-Automata-Signature") or "").split(",")
        is_signed = any(hmac.compare_digest(f"v1={mac}", one) for one in given)
        with self._lock:
            self.posts += 1
            if not is_signed or not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > 300:
                self.forged += 1
                return 401
            for event in json.loads(body):
                if event["id"] in self._seen:
                    self.repeated += 1
                    continue
                self._seen.add(event["id"])
                name, data = f"{event['data'].get('channel')} {event['type']}", event["data"]
                self.messages[name].add(data.get("message_id") or "")
                self.messages[f"{name} people"].add(data.get("external_id") or "")
        return 204

    def told(self) -> dict[str, set[str]]:
        with self._lock:
            return {name: set(ids) for name, ids in self.messages.items()}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(receiver.take(dict(self.headers), body))
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: the demo counts."""

        return Handler


class Stream:
    """An app that holds the inbox's stream open (docs/in-app.md)."""

    def __init__(self, live_url: str, key: str, inbox: Mapping[str, str]) -> None:
        parts = urlsplit(live_url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port or 80, timeout=SETTLES_S
        )
        self.messages: list[tuple[float, dict[str, Any]]] = []
        """When each came, epoch seconds, and what it says."""
        self._ready = threading.Event()
        query = urlencode({"subscription_id": inbox["subscription_id"]})
        headers = {"Authorization": f"Bearer {key}", "X-Subscription-Handle": inbox["handle"]}
        self._connection.request("GET", f"/api/v1/in-app/stream?{query}", headers=headers)
        self._answer = self._connection.getresponse()
        if self._answer.status != 200:
            raise ChannelsError(f"the stream was not opened: {self._answer.status} {self._answer.read(300)!r}")
        self._thread = threading.Thread(target=self._read, name="stream", daemon=True)
        self._thread.start()
        if not self._ready.wait(SETTLES_S):
            raise ChannelsError("the stream says nothing")

    def close(self) -> None:
        """The connection is closed by the process's end: its thread waits in a read."""

    def _read(self) -> None:
        event = ""
        try:
            for raw in self._answer:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("event:"):
                    event = line.removeprefix("event:").strip()
                    if event == "ready":
                        self._ready.set()
                elif line.startswith("data:") and event == "message":
                    self.messages.append((time.time(), json.loads(line.removeprefix("data:"))))
        except (OSError, http.client.HTTPException, ValueError):
            return  # the scenario notices that nothing came


# --- The scenario --------------------------------------------------------------------------------------------------


@dataclass
class Campaign:
    """One that was launched."""

    channel: str
    id: str
    launched_at: float
    settled_at: float = 0.0
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        waiting = self.stats["by_status"]["pending"] + self.stats["by_status"]["errored"]
        return bool(self.stats["fanout_done"]) and not waiting


class Channels:
    """The steps, in their order."""

    def __init__(self, api: Api, state: Mapping[str, Any], environ: Mapping[str, str], state_dir: Path) -> None:
        self.api, self.state, self.sdk_key = api, state["channels"], state["publishable_key"]
        self.inboxes = [json.loads(line) for line in (state_dir / "inboxes.jsonl").read_text().splitlines()]
        self.web_url, self.live_url = environ["API_URL"].rstrip("/"), environ["LIVE_URL"].rstrip("/")
        self.controls = {name: ControlClient(environ[f"SANDBOX_{name.upper()}_CONTROL_URL"]) for name in PROVIDERS}
        self.receiver = Receiver()
        self.name = time.strftime("%Y-%m-%d %H:%M:%S")
        self.cursors = {name: control.stats()["journal_last_cursor"] for name, control in self.controls.items()}

    def play(self) -> tuple[list[Row], list[str]]:
        """The channels' rows, and what does not add up."""
        self.register()
        hook = self.subscribe_to_events()
        try:
            stream = Stream(self.live_url, self.sdk_key, self.inboxes[0])
            campaigns = self.launch()
            self.follow(campaigns)
            rows = [
                self.letters(campaigns[EMAIL]),
                self.texts(campaigns[SMS]),
                self.alimtalk(campaigns[KAKAO]),
                self.in_app(campaigns[IN_APP], stream),
            ]
            self.follow_figures(campaigns, rows)
            problems = self.follow_events(rows)
        finally:
            self.api.delete(f"webhooks/{hook}")
            self.receiver.close()
        receiver = self.receiver
        say(
            f"webhooks: {receiver.events:,} events in {receiver.posts:,} signed POSTs,"
            f" {receiver.repeated:,} repeated, {receiver.forged:,} with a wrong signature"
        )
        return rows, problems

    def register(self) -> None:
        """What an operator does in the gateways' consoles: keys, sender numbers, templates, where reports go."""
        for name, control in self.controls.items():
            known = self.state[name]
            control.register_keys(*known["keys"])
            if known.get("senders"):
                control.register_senders(*known["senders"])
            if known.get("profiles"):
                control.register_profiles(*known["profiles"])
                control.register_templates(*known["templates"])
            for hook in known.get("hooks", ()):
                control.report_to(
                    self.web_url + hook["path"],
                    secret=hook["secret"],
                    account=hook["account"],
                    service=hook.get("service", ""),
                )
        found = self.api.post("kakao/sync")
        say(f"POST /kakao/sync: {found['templates']:,} approved Alimtalk template")

    def subscribe_to_events(self) -> str:
        """An address of ours that is told of every message from now on; the webhook's id."""
        hook = self.api.post("webhooks", {"url": self.receiver.url, "event_types": ["message.*"]})
        self.receiver.secret = hook["secret"]
        say("POST /webhooks: a receiver that is told of message.*")
        return str(hook["id"])

    def launch(self) -> dict[str, Campaign]:
        """A campaign on each channel. The Alimtalk has a chain: who has no KakaoTalk gets a text message instead."""
        template = self.state["solapi"]["templates"][0]
        shipped = {"template_code": template["id"]}
        chain = {"wait_s": 60, "on": "failure", "steps": [{"channel_type": SMS, "title": "", "body": FALLBACK_TEXT}]}
        contents: dict[str, dict[str, Any]] = {
            KAKAO: {"data": {"name": "고객", "order": "1001"}, "options": shipped, "chain": chain},
            SMS: {"body": "[Demo shop] 20 % off until Sunday: demo-shop.example/sale"},
            EMAIL: {"template_id": self._letter_template()},
            IN_APP: {
                "title": "The sale is on",
                "body": "Everything is 20 % off until Sunday.",
                "options": {"layout": "banner_top"},
            },
        }
        return {channel: self._launch(channel, content) for channel, content in contents.items()}

    def _letter_template(self) -> str:
        words = {
            "channel": EMAIL,
            "language": "",
            "title": '{{ name | default("Hello") }}, new this week',
            "body": HTML,
            "options": {"list_unsubscribe": True},
        }
        body = {"name": f"Weekly letter {self.name}", "body_template": "New this week.", "variants": [words]}
        return str(self.api.post("templates", body)["id"])

    def _launch(self, channel: str, content: Mapping[str, Any]) -> Campaign:
        audience = self.state["audiences"][_SUBSCRIPTION_TYPE[channel]]
        criteria = {"field": "tags.place", "op": "lte", "value": audience["last_place"]}
        found = self.api.post("audience/count", {"criteria": criteria, "channel_type": channel})["count"]
        if found != audience["people"]:
            raise ChannelsError(
                f"{SHOWN_AS[channel]}: {audience['people']:,} people were seeded, {found:,} are reachable"
            )
        given = {"name": f"{SHOWN_AS[channel]} {self.name}", "channel_type": channel, "targeting_criteria": criteria}
        campaign = self.api.post("campaigns", {**given, **content})
        launched_at = time.time()
        self.api.post(f"campaigns/{campaign['id']}/launch")
        say(f"POST /campaigns/…/launch: {SHOWN_AS[channel]} to {found:,} people")
        return Campaign(channel, str(campaign["id"]), launched_at)

    def follow(self, campaigns: Mapping[str, Campaign]) -> None:
        """Until each message has its provider's answer."""
        quiet = Quiet("sending on the other channels")
        while waiting := [campaign for campaign in campaigns.values() if not campaign.settled_at]:
            for campaign in waiting:
                campaign.stats = self.api.get(f"campaigns/{campaign.id}/stats")
                if campaign.is_settled:
                    campaign.settled_at = time.time()
            quiet.watch([campaign.stats["by_status"] for campaign in campaigns.values()])
            time.sleep(POLL_S)

    # --- What follows, by channel

    def letters(self, campaign: Campaign) -> Row:
        """People open some e-mails, follow a link in some, and one wants no more."""
        entries = [
            {**entry, "message_id": entry["message_id"].strip("<>").partition("@")[0]} for entry in self._seen("smtp")
        ]
        sent = {entry["message_id"]: entry for entry in entries if entry["outcome"] == "accepted"}
        failed = {entry["token"].partition(".")[0] for entry in entries if entry["outcome"] == "refused"}
        opened, clicked = set(sorted(sent)[::OPENED_EACH]), set(sorted(sent)[::CLICKED_EACH])
        visitor = Visitor(self.web_url)
        for message_id in sorted(opened):
            letter = Letter(sent[message_id]["body"], self.web_url)
            visitor.expect(200, "GET", letter.pixel)
            if message_id in clicked:
                visitor.expect(302, "GET", letter.links[0])
        last = Letter(sent[max(sent)]["body"], self.web_url)
        visitor.expect(200, "POST", last.one_click, b"List-Unsubscribe=One-Click")
        visitor.close()
        say(f"e-mail: {len(opened):,} opened, {len(clicked):,} links followed, 1 unsubscribed by one click")
        return self._row(campaign, set(sent), failed, opened | clicked, clicked, note="opened; 1 unsubscribed")

    def texts(self, campaign: Campaign) -> Row:
        """The gateway reports by webhook what became of each."""
        entries = [entry for entry in self._texts() if entry["text"] != FALLBACK_TEXT]
        sent = {entry["message_id"] for entry in entries}
        failed = {entry["message_id"] for entry in entries if entry["token"].startswith(NOBODYS_NUMBER)}
        return self._row(campaign, sent, failed, sent - failed, note="delivered, by the gateway's webhooks")

    def alimtalk(self, campaign: Campaign) -> Row:
        """Who has no KakaoTalk gets a text message; the gateway says so after it has taken the Alimtalk."""
        entries = [entry for entry in self._seen("solapi") if json.loads(entry["body"])["type"] == "ATA"]
        sent = {entry["message_id"] for entry in entries if entry["outcome"] == "accepted"}
        failed = {entry["message_id"] for entry in entries if entry["token"].startswith(NO_KAKAOTALK)}
        quiet = Quiet("text messages instead of Alimtalk")
        while len(texts := [entry for entry in self._texts() if entry["text"] == FALLBACK_TEXT]) < len(failed):
            quiet.watch(len(texts))
            time.sleep(POLL_S)
        say(f"Alimtalk: {len(failed):,} people have no KakaoTalk, {len(texts):,} got a text message instead")
        row = self._row(campaign, sent, failed, sent - failed, note=f"{len(texts):,} by SMS instead")
        row.followed = len(texts)
        self.fallbacks = {entry["message_id"] for entry in texts}
        return row

    def in_app(self, campaign: Campaign, stream: Stream) -> Row:
        """One device gets it while it is open; all find it in their inbox, and some say that they showed it."""
        quiet = Quiet("the stream")
        while not stream.messages:
            quiet.watch(0)
            time.sleep(POLL_S)
        came_at, shown = stream.messages[0]
        found: list[str] = []
        device = Visitor(self.web_url, {"Authorization": f"Bearer {self.sdk_key}"})
        for inbox in self.inboxes:
            query, handle = urlencode({"subscription_id": inbox["subscription_id"]}), inbox["handle"]
            (item, *_) = device.json("GET", f"/api/v1/in-app/inbox?{query}", handle=handle)
            found.append(item["id"])
            if len(found) <= DISPLAYED:
                report = {"events": [{"message_id": item["id"], "type": "shown"}]}
                device.json("POST", f"/api/v1/in-app/events?{query}", report, handle=handle)
        device.close()
        displayed = set(found[:DISPLAYED])
        if found[0] != shown["id"]:
            raise ChannelsError("in-app: what came over the stream is not what stands in that inbox")
        say(
            f"in-app: 1 came over the open stream {(came_at - campaign.launched_at) * 1_000:,.0f} ms after the launch,"
            f" {len(found):,} devices found it in their inbox, {len(displayed):,} displayed it"
        )
        return self._row(campaign, set(found), set(), displayed, note="displayed; 1 live")

    def _row(self, campaign: Campaign, sent: set[str], failed: set[str], arrived: set[str],
             converted: set[str] | None = None, *, note: str) -> Row:  # fmt: skip
        took_s = campaign.settled_at - campaign.launched_at
        return Row(campaign.channel, campaign.stats, took_s, sent, failed, arrived, converted or set(), note=note)

    # --- Until all is counted

    def follow_figures(self, campaigns: Mapping[str, Campaign], rows: Iterable[Row]) -> None:
        """Until the platform counts what the peers say, or nothing moves any more."""
        for row in rows:
            quiet = Quiet(f"the figures of {SHOWN_AS[row.channel]}", raises=False)
            expected = (len(row.arrived) + row.followed, len(row.converted), len(row.failed))
            while True:
                row.stats = stats = self.api.get(f"campaigns/{campaigns[row.channel].id}/stats")
                now = (stats["received"], stats["converted"], stats["failed"])
                if now == expected or quiet.watch(now):
                    break
                time.sleep(POLL_S)

    def follow_events(self, rows: Sequence[Row]) -> list[str]:
        """Until the receiver was told of everything, or nothing comes any more; what does not add up."""
        quiet = Quiet("webhooks", raises=False)
        while True:
            told = self.receiver.told()
            for event in ("successful", "received"):  # the text messages of the chain are no part of the row of SMS
                told.get(f"{SMS} message.{event}", set()).difference_update(self.fallbacks)
            problems = [problem for row in rows for problem in problems_of(row, told)]
            if not problems or quiet.watch(self.receiver.events):
                break
            time.sleep(POLL_S)
        if self.receiver.forged:
            problems.append(f"{self.receiver.forged:,} webhooks had no right signature")
        return problems

    # --- Journals

    def _seen(self, name: str) -> list[dict[str, Any]]:
        entries = self.controls[name].entries(since=self.cursors[name])
        twice = [key for key, count in Counter(e["message_id"] for e in entries if e["outcome"] == "accepted").items()
                 if count > 1]  # fmt: skip
        if twice:
            raise ChannelsError(f"{name} took {len(twice):,} messages twice")
        return [entry for entry in entries if entry["outcome"] in ("accepted", "refused")]

    def _texts(self) -> list[dict[str, Any]]:
        """Text messages that Solapi took, each with its `text`."""
        bodies = [(entry, json.loads(entry["body"])) for entry in self._seen("solapi")]
        return [{**entry, "text": body["text"]} for entry, body in bodies if body["type"] in ("SMS", "LMS")]


_SUBSCRIPTION_TYPE = {EMAIL: "Email", SMS: "SMS", KAKAO: "KakaoTalk", IN_APP: "InAppMessage"}


class Quiet:
    """Notices that nothing moves any more."""

    def __init__(self, what: str, *, raises: bool = True) -> None:
        self._what, self._raises = what, raises
        self._state: Any = None
        self._moved_at = time.monotonic()
        self._patience_s = SETTLES_S if raises else SETTLES_S / 3

    def watch(self, state: Any) -> bool:
        """True when it has been so for too long, or `ChannelsError`."""
        if state != self._state:
            self._state, self._moved_at = state, time.monotonic()
        elif time.monotonic() - self._moved_at > self._patience_s:
            if self._raises:
                raise ChannelsError(f"{self._what}: nothing has moved for {self._patience_s:.0f} s ({state})")
            return True
        return False


class Letter:
    """An e-mail as the relay took it, read as a mail program does."""

    def __init__(self, raw: str, web_url: str) -> None:
        message = message_from_bytes(raw.encode("utf-8", "surrogateescape"), policy=policy.default)
        part = message.get_body(preferencelist=("html",))
        html = part.get_content() if part is not None else ""
        self.one_click = str(message["List-Unsubscribe"] or "").strip("<> ")
        self.links = [
            link for link in re.findall(r'<a [^>]*href="([^"]+)"', html) if link.startswith(f"{web_url}/e/c/")
        ]
        pixels = re.findall(r'<img [^>]*src="([^"]+)"', html)
        if not pixels or not self.links or not self.one_click.startswith(web_url):
            raise ChannelsError("an e-mail lacks its picture, its link or its List-Unsubscribe")
        self.pixel = pixels[-1]


class Visitor:
    """A mail program, a browser or an app: requests to the web, over one connection."""

    def __init__(self, web_url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(web_url)
        self._connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=30)
        self._headers = {"User-Agent": READER, **(headers or {})}

    def expect(self, status: int, method: str, url: str, body: bytes | None = None) -> None:
        """Raises `ChannelsError` for another status."""
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        got, content = self._call(method, target, body, headers)
        if got != status:
            raise ChannelsError(f"{method} {parts.path[:12]}…: {got} instead of {status} ({content[:200]!r})")

    def json(self, method: str, target: str, body: Any = None, *, handle: str) -> Any:
        """`data` of the API's answer to a device."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"X-Subscription-Handle": handle, "Content-Type": "application/json"}
        status, answer = self._call(method, target, content, headers)
        if status >= 300:
            raise ChannelsError(f"{method} {target.partition('?')[0]}: {status} {answer[:300]!r}")
        return json.loads(answer)["data"]

    def close(self) -> None:
        self._connection.close()

    def _call(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        self._connection.request(method, target, body, {**self._headers, **headers})
        answer = self._connection.getresponse()
        return answer.status, answer.read()
