"""The in-app adapter: our own inbox is the provider, so a slice of deliveries is a statement and no request.

An adapter imports no model, so the inbox registers here at start-up (`AppConfig.ready`). Putting a message there again
changes nothing: sending twice is harmless.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NamedTuple

from django.db import Error as DatabaseLayerError

from apps.messaging.adapters import in_app_content
from apps.messaging.adapters.base import (
    Content,
    ContentError,
    CredentialError,
    Delivery,
    Endpoint,
    Outcome,
    Result,
    SecretField,
)
from automata_signal.metrics import provider_answered

__all__ = ["InAppAdapter", "Placement", "register_inbox"]

log = logging.getLogger(__name__)

SLICE = 1_000
"""Deliveries that are put into the inbox at once."""
GATHER_S = 0.05
"""How long a delivery waits for others."""
NOW_S = 60
"""A message that is for now or never (time to live 0) can be seen for so long."""
NEVER_SEEN = "never_seen"
"""The reason of a message whose period is over, or begins after its time to live has ended."""
INBOX_AWAY = "inbox_away"


class Placement(NamedTuple):
    """A message for the inbox, and when it can be seen there."""

    message_id: str
    content: Content
    """Recipients of a plain batch share one object."""
    starts_at: datetime | None
    expires_at: datetime


Deliver = Callable[[Sequence[Placement]], None]
"""Puts up to `SLICE` messages into their inboxes, in a transaction of its own. Raises what the database raises; then
none is there."""
_inbox: list[Deliver] = []


def register_inbox(deliver: Deliver) -> None:
    """Let `deliver` put messages into inboxes from now on. The last call wins."""
    _inbox[:] = [deliver]


class InAppAdapter:
    """The inbox as a provider."""

    name: ClassVar[str] = "in_app"
    resend_is_harmless: ClassVar[bool] = True
    needs_secret: ClassVar[bool] = False
    secret_fields: ClassVar[tuple[SecretField, ...]] = ()
    reasons: ClassVar[frozenset[str]] = frozenset({NEVER_SEEN, INBOX_AWAY})

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what the SDK could not show: providers.md 7.3."""
        in_app_content.check_content(content)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """There is none."""
        for name in secret:
            raise CredentialError(name, "is not needed: the inbox is our own")

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        return {}

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> InAppSender:
        return InAppSender()


class InAppSender:
    """Puts deliveries into the inbox, a slice at a time."""

    def __init__(self) -> None:
        self._checked: Content | None = None
        self._problem: str = ""
        self._period: tuple[datetime | None, datetime | None] = (None, None)

    def send(self, deliveries: Iterable[Delivery | None]) -> Iterator[Result]:
        """See `Sender.send`."""
        gathered: list[Placement] = []
        put_by = 0.0
        for delivery in deliveries:
            if delivery is not None:
                placed = self._placement(delivery)
                if isinstance(placed, Result):
                    yield placed
                else:
                    put_by = put_by if gathered else time.monotonic() + GATHER_S
                    gathered.append(placed)
            is_full = len(gathered) >= SLICE
            if gathered and (delivery is None or is_full or time.monotonic() >= put_by):
                yield from self._put(gathered)
                gathered = []
        if gathered:
            yield from self._put(gathered)

    def close(self) -> None:
        """Nothing is open."""

    def _placement(self, delivery: Delivery) -> Placement | Result:
        content = delivery.content
        if content is not self._checked:
            self._look_at(content)
        if self._problem:
            return Result(delivery.message_id, Outcome.PAYLOAD_REJECTED, self._problem)
        now = datetime.now(UTC)
        starts_at, ends_at = self._period
        expires_at = (
            datetime.fromtimestamp(delivery.expires_at, UTC) if delivery.expires_at else now + timedelta(seconds=NOW_S)
        )
        expires_at = min(expires_at, ends_at) if ends_at else expires_at
        if expires_at <= now or (starts_at and starts_at >= expires_at):
            return Result(delivery.message_id, Outcome.PAYLOAD_REJECTED, NEVER_SEEN)
        return Placement(delivery.message_id, content, starts_at, expires_at)

    def _look_at(self, content: Content) -> None:
        """Check what is sent next; what was rendered may be too long."""
        self._problem = ""
        try:
            in_app_content.check_content(content)
            self._period = in_app_content.period_of(content.options)
        except ContentError as error:
            self._problem = f"invalid {error.field}"
        self._checked = content

    def _put(self, placements: Sequence[Placement]) -> Iterator[Result]:
        began = time.monotonic()
        try:
            _inbox[0](placements)
        except DatabaseLayerError as error:
            log.warning("messages could not be put into the inbox", extra={"cause": str(error)})
            for placement in placements:
                yield Result(placement.message_id, Outcome.TRANSIENT, INBOX_AWAY)
            return
        provider_answered(InAppAdapter.name, time.monotonic() - began)
        for placement in placements:
            yield Result(placement.message_id, Outcome.ACCEPTED)
