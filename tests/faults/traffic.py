"""What runs while something breaks: a campaign, and single messages posted by a client that tries again."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from uuid import uuid4

from tests.faults.stack import Failed, Stack

POSTERS = 3
GIVE_UP_S = 240.0


class Refused(Exception):
    """The API answered, and it was no 2xx."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status


class Api:
    """One client's connection to the API, with the application's secret key."""

    def __init__(self, stack: Stack, *, timeout_s: float = 30.0) -> None:
        self._address = ("127.0.0.1", stack.web_port)
        self._key, self._timeout_s = stack.key, timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """The answer's data and headers. Raises `Refused`, `OSError` or `http.client.HTTPException`."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*self._address, timeout=self._timeout_s)
        own = {"authorization": f"Bearer {self._key}", "content-type": "application/json", **(headers or {})}
        try:
            content = None if body is None else json.dumps(body).encode()
            self._connection.request(method, f"/api/v1/{path}", content, own)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.status >= 300:
            raise Refused(response.status, text[:300])
        return json.loads(text)["data"], {name.lower(): value for name, value in response.headers.items()}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Accepted:
    """A single message that the API took."""

    key: str
    body: dict[str, Any]
    message_ids: list[str]


@dataclass
class Singles:
    """What the posters did. `slowest_s` and `refusals` are of single requests, repetitions included."""

    accepted: list[Accepted] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    slowest_s: float = 0.0
    lost: list[str] = field(default_factory=list)
    """Keys of requests that never got a 2xx, however often they were sent."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, *, took_s: float, refusal: str = "", accepted: Accepted | None = None, lost: str = "") -> None:
        with self._lock:
            self.slowest_s = max(self.slowest_s, took_s)
            if refusal:
                self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
            if accepted is not None:
                self.accepted.append(accepted)
            if lost:
                self.lost.append(lost)

    def unexpected(self) -> dict[str, int]:
        """Answers that no client can do anything with: 500, or a 4xx for a request that is right."""
        return {name: n for name, n in self.refusals.items() if name.isdigit() and name not in ("502", "503")}


class Poster(threading.Thread):
    """One client: posts single messages, each again under its key until it is accepted, as a good client does."""

    def __init__(self, stack: Stack, singles: Singles, *, per_s: float, recipients: Iterator[str]) -> None:
        super().__init__(daemon=True)
        self._api, self._singles, self._recipients = Api(stack), singles, recipients
        self._pause_s = 1 / per_s
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                began = time.monotonic()
                self._post()
                self.stopping.wait(max(0.0, self._pause_s - (time.monotonic() - began)))
        finally:
            self._api.close()

    def _post(self) -> None:
        key = str(uuid4())
        body = {
            "recipients": {"subscription_ids": [next(self._recipients)]},
            "title": "Your parcel",
            "body": "is on its way",
            "priority": "high",
        }
        give_up_at = time.monotonic() + GIVE_UP_S
        while time.monotonic() < give_up_at:
            began = time.monotonic()
            try:
                data, _ = self._api.request("POST", "messages", body, {"Idempotency-Key": key})
            except (OSError, http.client.HTTPException, Refused) as error:
                name = str(error.status) if isinstance(error, Refused) else type(error).__name__
                self._singles.note(took_s=time.monotonic() - began, refusal=name)
                time.sleep(0.2)
                continue
            ids = [message["id"] for message in data["messages"]]
            self._singles.note(took_s=time.monotonic() - began, accepted=Accepted(key, body, ids))
            return
        self._singles.note(took_s=0, lost=key)


@contextmanager
def posting(stack: Stack) -> Iterator[Singles]:
    """While inside, clients post single messages."""
    singles = Singles()
    shares = [cycle(stack.singles[n::POSTERS]) for n in range(POSTERS)]
    posters = [Poster(stack, singles, per_s=stack.size.singles_per_s / POSTERS, recipients=s) for s in shares]
    for poster in posters:
        poster.start()
    try:
        yield singles
    finally:
        for poster in posters:
            poster.stopping.set()
        for poster in posters:
            poster.join(GIVE_UP_S + 10)


def launch(stack: Stack, **fields: Any) -> str:
    """A campaign to the whole audience but the recipients of single messages; its id."""
    api = Api(stack)
    criteria = {"field": "country", "op": "eq", "value": "KR"}
    campaign = {"name": "Sale", "title": "Sale", "body": "20 % off", "targeting_criteria": criteria, **fields}
    campaign_id: str = api.request("POST", "campaigns", campaign)[0]["id"]
    api.request("POST", f"campaigns/{campaign_id}/launch", {})
    api.close()
    return campaign_id


def repeat_some(stack: Stack, singles: Singles, *, count: int = 10) -> None:
    """Send requests that were accepted once more under their keys: each gets its first answer."""
    api = Api(stack)
    step = max(1, len(singles.accepted) // count)
    for accepted in singles.accepted[::step]:
        data, headers = api.request("POST", "messages", accepted.body, {"Idempotency-Key": accepted.key})
        is_replayed = headers.get("idempotency-replayed") == "true"
        if not is_replayed or [m["id"] for m in data["messages"]] != accepted.message_ids:
            raise Failed(f"the request with key {accepted.key} was done again")
    api.close()
