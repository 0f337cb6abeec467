"""The stand-in for e-mail providers with an HTTP API: takes messages as they do, and posts their events to a webhook.

`esp_apis.py` holds what each asks and answers, `esp_events.py` what each tells and how it signs it.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from apps.sandbox.behaviours import Action, Behaviour, Behaviours
from apps.sandbox.esp_apis import APIS, Api, EspAccount, Outgoing, RefusedError
from apps.sandbox.esp_events import ESPS, EVENTS, Hook, WebhookRequest, event_of, signed, subscription_confirmation
from apps.sandbox.exchange import Answer, Connection, Request, Route
from apps.sandbox.journal import Journal, Outcome
from apps.sandbox.provider import BAD_GATEWAY_HTML, HTML_HEADER, Examined, Provider, Settings

CERTIFICATE_PATH = b"/sns/SimpleNotificationService.pem"
CONFIRM_PATH = b"/sns/confirm"
MESSAGE_ID_KEYS = ("automata_message_id", "message_id")
JOURNAL_BYTES = 256 * 1024
KEPT_MESSAGES = 50_000
WEBHOOK_TIMEOUT_S = 10.0
_TRIES = 3
_MARKER = re.compile(r"\+([A-Za-z0-9-]+?)(?:~(\d+))?@")
_AFTER_DELIVERY = ("complained", "opened", "clicked", "unsubscribed")


def _refusal(name: str, status: int, meaning: str, **more: Any) -> Behaviour:
    return Behaviour(name, "", status, meaning, meaning=f"{status}, in the provider's form", **more)


ESP_TABLE = (
    Behaviour("accepted", accepted=True, meaning="taken"),
    Behaviour("slow-1s", accepted=True, delay_s=1.0, meaning="taken after 1 s"),
    Behaviour("slow-5s", accepted=True, delay_s=5.0, meaning="taken after 5 s"),
    Behaviour("hang", action=Action.HANG, meaning="no answer; not taken"),
    Behaviour("hang-accepted", action=Action.HANG, accepted=True, meaning="no answer, yet taken"),
    Behaviour("abort", action=Action.ABORT, meaning="connection dropped; not taken"),
    Behaviour("abort-accepted", action=Action.ABORT, accepted=True, meaning="connection dropped, yet taken"),
    _refusal("400", 400, "Bad Request"),
    _refusal("401", 401, "Unauthorized"),
    _refusal("403", 403, "Forbidden"),
    _refusal("413", 413, "Payload Too Large"),
    _refusal("422", 422, "Unprocessable Entity"),
    _refusal("429", 429, "Too Many Requests", retry_after_s=2),
    _refusal("429-plain", 429, "Too Many Requests"),
    _refusal("500", 500, "Internal Server Error"),
    _refusal("502", 502, "Bad Gateway", body="html"),
    _refusal("503", 503, "Service Unavailable"),
    *(Behaviour(name, accepted=True, meaning=f"taken; its event follows: {name}") for name in EVENTS),
)


@dataclass
class EspSettings(Settings):
    """A provider's settings, beside those of every stand-in."""

    events: str = ""
    """The event that follows an address without a marker, when its provider has a hook: "" for none."""


class EspBehaviours(Behaviours):
    """Tokens are addresses; the marker stands in the local part: `anna+bounced@…`, `anna+429~2@…` for two tries."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(ESP_TABLE, seed=seed)

    def choose(self, token: str) -> Behaviour:
        if self._rules or self._by_token:
            rule = self._choose_rule(token)
            if rule is not None:
                return rule.behaviour
        marker = _MARKER.search(token)
        behaviour = self.table.get(marker[1]) if marker is not None else None
        if marker is None or behaviour is None:
            return ESP_TABLE[0]
        if marker[2] and self._tries[token] >= int(marker[2]):
            return ESP_TABLE[0]
        self._tries[token] += 1
        return behaviour


@dataclass(slots=True)
class ExaminedMail(Examined):
    """A request with its messages."""

    api: Api | None = None
    path: bytes = b""
    messages: list[Outgoing] = field(default_factory=list)


class Esp(Provider):
    """All providers on one TLS port, each under its prefix."""

    name = "esp"
    settings: EspSettings

    def __init__(self, settings: EspSettings, journal: Journal, *, seed: int = 0) -> None:
        super().__init__(EspBehaviours(seed=seed), settings, journal, seed=seed)
        self.url = ""  # its own address, once it is known
        self.ca_file = ""
        self.apis: dict[str, Api] = {api.name: api() for api in APIS}
        self.hooks: dict[str, Hook] = {}
        self.confirmed = 0
        self._sent: dict[tuple[str, str], Outgoing] = {}
        self._deliveries: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # requests

    def handle(self, connection: Connection, request: Request) -> None:
        if request.method == b"GET" and request.path.startswith(b"/sns/"):
            connection.answer(request.stream_id, self._of_sns(request.path))
            return
        super().handle(connection, request)

    def _of_sns(self, path: bytes) -> Answer:
        if path.startswith(CONFIRM_PATH):
            self.confirmed += 1
            return Answer(200, ((b"content-type", b"text/xml"),), b"<ConfirmSubscriptionResponse/>")
        if path == CERTIFICATE_PATH and "ses" in self.hooks:
            return Answer(200, ((b"content-type", b"application/x-pem-file"),), self.hooks["ses"].certificate())
        return Answer(404)

    def examine(self, connection: Connection, request: Request) -> Examined:
        seen = ExaminedMail(path=request.path)
        for api in self.apis.values():
            if request.path.startswith(api.prefix):
                seen.api, seen.path = api, request.path.partition(b"?")[0].removeprefix(api.prefix)
                try:
                    if request.method == b"GET":
                        seen.refusal, seen.outcome = api.query(request), "validated"
                        break
                    seen.messages = api.read(request)
                except RefusedError as error:
                    seen.refusal, seen.reason = error.answer, error.reason
                except (KeyError, TypeError, AttributeError, ValueError) as error:
                    seen.refusal, seen.reason = api.error(400, "Bad Request"), repr(error)
                break
        else:
            seen.refusal, seen.reason = Answer(404), "no such provider"
        recipients = [address for message in seen.messages for address in message.recipients]
        if recipients:
            marked = (address for address in recipients if _MARKER.search(address))
            seen.token = next(marked, recipients[0])
        return seen

    def accept(self, connection: Connection, examined: Examined) -> Answer:
        assert isinstance(examined, ExaminedMail)
        assert examined.api is not None
        answer = examined.api.accepted(examined.path, examined.messages)
        for message in examined.messages:
            if message.inactive:
                continue
            for recipient in message.recipients:
                self._sent[(message.esp, recipient.lower())] = message
            if message.esp in self.hooks:
                self._follow(message)
        while len(self._sent) > KEPT_MESSAGES:
            del self._sent[next(iter(self._sent))]
        return answer

    def refuse(self, behaviour: Behaviour, examined: Examined) -> Answer:
        assert isinstance(examined, ExaminedMail)
        assert examined.api is not None
        if behaviour.body == "html":
            return Answer(behaviour.status, (HTML_HEADER,), BAD_GATEWAY_HTML)
        answer = examined.api.error(behaviour.status, behaviour.reason)
        if behaviour.retry_after_s is None:
            return answer
        header = (b"retry-after", b"%d" % behaviour.retry_after_s)
        return Answer(answer.status, (*answer.headers, header), answer.body)

    def unavailable(self, request: Request) -> Answer:
        return Answer(503, (HTML_HEADER,), b"<h1>503 Service Temporarily Unavailable</h1>")

    def _record(
        self,
        outcome: Outcome,
        connection: Connection,
        request: Request,
        examined: Examined,
        status: int,
        reason: str,
    ) -> None:
        """One entry of the journal for each recipient."""
        messages = examined.messages if isinstance(examined, ExaminedMail) else []
        if not messages:
            super()._record(outcome, connection, request, examined, status, reason)
        for message in messages:
            taken: Outcome = "refused" if message.inactive else outcome
            headers = message.headers | {"esp": message.esp, "subject": message.subject, "from": message.sender}
            headers |= {f"metadata-{name}": str(value) for name, value in message.metadata.items()}
            own = (str(message.metadata[name]) for name in MESSAGE_ID_KEYS if name in message.metadata)
            message_id = next(own, message.message_id)
            for recipient in message.recipients:
                self.journal.record(
                    taken, recipient, message_id, message.message_id, headers, request.body[:JOURNAL_BYTES], status,
                    reason, connection.number, request.stream_id,
                )  # fmt: skip

    # events

    def _follow(self, message: Outgoing) -> None:
        """Post the events that the addresses ask for."""
        for recipient in message.recipients:
            marker = _MARKER.search(recipient)
            event = marker[1] if marker is not None and marker[1] in EVENTS else self.settings.events
            if event:
                task = asyncio.ensure_future(self._post_all(message, recipient, event))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _post_all(self, message: Outgoing, recipient: str, event: str) -> None:
        hook = self.hooks[message.esp]
        for name in ("delivered", event) if event in _AFTER_DELIVERY else (event,):
            try:
                content = event_of(name, message, recipient, at=self.now())
            except ValueError:
                continue
            for attempt in range(1, _TRIES + 1):
                request = signed(hook, [content], at=self.now())
                status = await self._post(hook, request)
                if 200 <= status < 300:
                    break
                await asyncio.sleep(0.2 * attempt)

    async def _post(self, hook: Hook, request: WebhookRequest) -> int:
        """The receiver's status; 0 when it gave none."""
        status, body = await asyncio.to_thread(_post, hook.url, request, self.ca_file)
        self._deliveries.append({"esp": hook.esp, "status": status, "answer": body})
        del self._deliveries[:-1000]
        return status

    async def _send_events(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        """Make events of messages that were taken, sign them and post them (or only show them, with `send: false`)."""
        recipients = body["recipients"] if "recipients" in body else [body["recipient"]]
        requests: list[dict[str, Any]] = []
        by_esp: dict[str, list[dict[str, Any]]] = {}
        for recipient in recipients:
            message = self._message(recipient, body.get("esp"))
            at = body.get("at") or self.now()
            content = event_of(body["event"], message, recipient, at=at, **body.get("fields", {}))
            by_esp.setdefault(message.esp, []).append(content)
        for esp, events in by_esp.items():
            hook = self._hook(esp)
            for group in [events] if esp == "sendgrid" else [[event] for event in events]:
                request = signed(
                    hook, group, at=body.get("signed_at") or self.now(), is_forged=bool(body.get("forged"))
                )
                for _ in range(int(body.get("times", 1))):
                    status = await self._post(hook, request) if body.get("send", True) else None
                    encoded = base64.b64encode(request.body).decode()
                    requests.append({"status": status, "headers": request.headers, "body": encoded})
        return {"requests": requests}

    def _message(self, recipient: str, esp: str | None) -> Outgoing:
        for name in [esp] if esp else list(ESPS):
            found = self._sent.get((str(name), recipient.lower()))
            if found is not None:
                return found
        raise ValueError(f"no message was taken for {recipient}")

    def _hook(self, esp: str) -> Hook:
        if esp not in self.hooks:
            raise ValueError(f"{esp} has no hook: POST /hooks first")
        return self.hooks[esp]

    # the control endpoint

    def control_routes(self) -> dict[tuple[str, str], Route]:
        return {
            ("POST", "/hooks"): self._add_hook,
            ("GET", "/hooks/deliveries"): lambda query, body: {"deliveries": self._deliveries},
            ("POST", "/hooks/confirm"): self._confirm,
            ("POST", "/events"): self._send_events,
        }

    def _add_hook(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        """{"esp", "url", maybe "basic_auth", "signing_key", "signature_version"}; gives what the receiver needs."""
        if body.get("esp") not in ESPS:
            raise ValueError(f"esp: one of {', '.join(ESPS)}")
        url = self.url + CERTIFICATE_PATH.decode()
        hook = Hook(**{"certificate_url": url} | body)
        self.hooks[hook.esp] = hook
        return hook.secrets()

    async def _confirm(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        """Ask SES' hook to confirm its subscription."""
        hook = self._hook("ses")
        url = f"{self.url}{CONFIRM_PATH.decode()}?Action=ConfirmSubscription"
        status = await self._post(hook, subscription_confirmation(hook, url, at=self.now()))
        return {"status": status, "confirmed": self.confirmed}

    def register(self, body: Mapping[str, Any]) -> None:
        """{"esp", "api_key", "domains": ["example.com"], "key_id": of SES}."""
        esp, key, domains = body.get("esp"), body.get("api_key"), body.get("domains")
        if esp not in self.apis or not isinstance(key, str) or not key or not isinstance(domains, list):
            raise ValueError(f"esp: one of {', '.join(self.apis)}; api_key: a text; domains: a list")
        account = EspAccount(key, frozenset(str(name).lower() for name in domains), str(body.get("key_id") or ""))
        self.apis[str(esp)].accounts.append(account)

    def registered(self) -> list[dict[str, Any]]:
        return [
            {"esp": name, "domains": sorted(account.domains)}
            for name, api in self.apis.items()
            for account in api.accounts
        ]

    def register_token(self, body: Mapping[str, Any]) -> None:
        raise ValueError("addresses belong nowhere; use POST /behaviours")

    def forget(self, what: str) -> bool:
        if what == "keys":
            for api in self.apis.values():
                api.accounts.clear()
        elif what == "hooks":
            self.hooks.clear()
            self._deliveries.clear()
        return what in ("keys", "hooks", "tokens")


def _post(url: str, request: WebhookRequest, ca_file: str) -> tuple[int, str]:
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca_file or None)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=WEBHOOK_TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=WEBHOOK_TIMEOUT_S)
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("POST", path, request.body, request.headers)
        response = connection.getresponse()
        return response.status, response.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()
