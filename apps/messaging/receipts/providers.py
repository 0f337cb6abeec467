"""Which provider's reports can be read: a parser for each, that knows its form and what proves that it is its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from apps.messaging.receipts.reports import Report


class Forged(Exception):
    """Nothing proves that the request comes from the provider, and none of it is believed. The message is for logs."""


class Unreadable(ValueError):
    """It comes from the provider, and is not what its documentation says. The message is for logs."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A request to `/webhooks/<provider>/<credential>`, as it came."""

    credential_id: UUID
    secret: Mapping[str, Any]
    """The credential's own."""
    url: str
    """The whole address, as the provider was told it."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    content_type: str
    method: str = "POST"


class Reference(NamedTuple):
    """A message by the provider's own ids (`GatewayRequest`)."""

    request_id: str
    provider_message_id: str


class OptOut(NamedTuple):
    """Somebody wrote STOP, or called the 080 number: by address, since it answers no message in particular."""

    subscription_type: str
    address: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hooked:
    """What a request says."""

    reports: Sequence[Report] = ()
    by_reference: Sequence[tuple[Reference, Report]] = ()
    """Reports whose `message_id` is empty: it is found by the reference."""
    opt_outs: Sequence[OptOut] = ()
    events: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    """What is about none of these, such as a template that was approved: for `register_listener`."""
    answer: tuple[str, str] = ("", "text/plain")
    """Body and content type of our answer, where the provider looks at it."""


class Parser(Protocol):
    def __call__(self, hook: Hook) -> Hooked:
        """Raises `Forged` or `Unreadable`. No database; network only to fetch what proves the signature."""


PARSERS: dict[str, Parser] = {}
"""Provider (as in credentials) → its parser."""


class Asker(Protocol):
    """Asks a gateway for the reports of a request that it took."""

    def __call__(self, secret: Mapping[str, Any], request_id: str) -> Sequence[tuple[Reference, Report]]:
        """What is known by now. Raises `AskFailed`."""


class AskFailed(Exception):
    """The gateway did not answer; it is asked again."""


ASKERS: dict[str, Asker] = {}
"""Provider → how it is asked."""

Listener = Callable[[UUID, str, Mapping[str, Any]], None]
_listeners: dict[str, list[Listener]] = {}


def register_listener(provider: str, listener: Listener) -> None:
    """Call `listener` with application, provider and each of `Hooked.events`; registering twice is registering once."""
    of_provider = _listeners.setdefault(provider, [])
    if listener not in of_provider:
        of_provider.append(listener)


def tell_listeners(application_id: UUID, provider: str, events: Sequence[Mapping[str, Any]]) -> None:
    for event in events:
        for listener in _listeners.get(provider, ()):
            listener(application_id, provider, event)
