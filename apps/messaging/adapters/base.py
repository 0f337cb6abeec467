"""What every channel adapter takes and gives: plain values in, one result per recipient out.

An adapter builds requests, sends them and parses the answers. It imports no model, no quota and no
template, so it can be read, tested and replaced alone. What follows from a result (retry, failure,
the subscription's status, an alarm) is decided by the outcome in `apps.messaging.retry`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from automata_signal.secret_fields import FieldKind as FieldKind
from automata_signal.secret_fields import SecretField as SecretField
from automata_signal.secret_fields import summary_of as summary_of


class Outcome(enum.Enum):
    """What became of one request, in our words; the provider's own word is `Result.reason`."""

    ACCEPTED = "accepted"
    """The provider took it. Never means delivered: only a receipt says that."""
    TRANSIENT = "transient"
    """The provider's fault or ours on the wire; the same request may work later."""
    THROTTLED = "throttled"
    """Too fast; try again after `Result.retry_after_s`."""
    RECIPIENT_GONE = "recipient_gone"
    """The address is dead: app removed, token expired."""
    RECIPIENT_MISMATCH = "recipient_mismatch"
    """The address does not fit this credential. Could be our own mistake, so a breaker watches it."""
    PAYLOAD_REJECTED = "payload_rejected"
    """This request is wrong and will stay wrong; the address may be fine."""
    CREDENTIAL = "credential"
    """Key, topic, project or account is wrong: nothing can be sent with it, and no recipient is to blame."""
    UNSUPPORTED = "unsupported"
    """The provider has no such function."""
    UNKNOWN = "unknown"
    """No answer after the request was written: it may have arrived."""


class Attachment(NamedTuple):
    """A file that goes along with a message."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """What the recipient sees, rendered.

    `title` is the subject of an e-mail, `body` its HTML. `options` holds the channel's own fields (`PushOptions` for
    push), `data` what the app gets (for Alimtalk: the template's variables).
    """

    title: str = ""
    body: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


class Delivery(NamedTuple):
    """One recipient of a batch.

    Recipients of a plain batch share one `Content` object; adapters encode it once per object.
    """

    message_id: str
    """A UUID as text: the form in which it is sent and recorded."""
    address: str
    content: Content
    test_type: int = 0
    """0 production, 1 development, 2 ad hoc (specification 3.3)."""
    expires_at: float | None = None
    """Epoch seconds after which the provider need not try; None leaves it to the provider."""
    subscription_id: str = ""
    """A UUID as text, for links by which the recipient unsubscribes."""


class Result(NamedTuple):
    """The provider's answer for one delivery."""

    message_id: str
    outcome: Outcome
    reason: str = ""
    """The provider's own word, for example `BadDeviceToken`; empty when accepted."""
    http_status: int = 0
    """0 when there was no HTTP answer."""
    subscription_status: int | None = None
    """The code to end the subscription with, or None to leave it alone."""
    retry_after_s: float | None = None
    gone_at: float | None = None
    """Epoch seconds since when the address is dead (APNs 410): a later registration is not ended."""
    provider_message_id: str = ""
    """The provider's id of this message, in the request that carried it if `request_id` is given."""
    request_id: str = ""
    """The gateway's id of the request that carried it, if its later reports do not carry our own id: they are matched
    by it, and asked for (`apps.messaging.polling`)."""
    soft_status: int | None = None
    """The code to end the subscription with after repeated failures: a full mailbox, a phone that is off."""
    message_status: int | None = None
    """The code that describes the failure without saying anything of the recipient: a sender number or a template that
    is not approved. It is kept with the message, and the subscription is left alone."""


class ContentError(ValueError):
    """The content cannot be sent on this channel. `field` is a dotted path such as `options.badge`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class CredentialError(ValueError):
    """The credential's secret is incomplete or malformed. `field` names the key of the secret."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider is and how to talk to it; made from settings by the registry."""

    url: str
    """Origin for production traffic, for example `https://api.push.apple.com:443`."""
    sandbox_url: str = ""
    """Origin for `test_type` 1 and 2, where the provider has one."""
    token_url: str = ""
    """OAuth token endpoint, where the provider has one."""
    public_url: str = ""
    """Where recipients and providers reach us: links, and addresses for reports."""
    report_url: str = ""
    """Where the provider is to report on what is sent with this credential (`/webhooks/<provider>/<credential>`)."""
    ca_file: str = ""
    """PEM bundle that signs the provider; empty means the system's."""
    connections: int = 4
    streams: int = 100
    """Requests in flight per connection, at most; the provider's own limit is honoured below that."""
    timeout_s: float = 15.0


class Sender(Protocol):
    """Open connections to one provider with one credential; lives as long as its worker process."""

    def send(self, deliveries: Iterable[Delivery | None]) -> Iterator[Result]:
        """Send each delivery, and yield one result for each, in the order the answers come.

        `deliveries` is consumed lazily, and may give None when it has nothing yet: it is asked again soon. When it
        ends early (pause, cancel), what is in flight is still answered and nothing more leaves. Never raises for a
        single recipient, nor loses one.
        """

    def close(self) -> None:
        """Close the connections; the sender cannot be used afterwards."""


class Adapter(Protocol):
    """One provider of one channel. Stateless; `open` gives the object that holds connections."""

    name: ClassVar[str]
    """The provider's name in credentials and the registry: `apns`, `fcm`."""
    resend_is_harmless: ClassVar[bool]
    """Whether a message whose fate is unknown (`Outcome.UNKNOWN`) may be sent once more: it costs nothing, and a second
    one takes the place of the first (a collapse id). Where it is paid for or shows twice it fails as `unknown_outcome`,
    and an operator decides."""

    needs_secret: ClassVar[bool]
    """Whether an application needs a credential of this provider. Without, one is made on first use, so that its rate
    and its breaker are a credential's like any other's."""

    secret_fields: ClassVar[tuple[SecretField, ...]]
    """What the secret consists of, in the order of the console's form."""

    reasons: ClassVar[frozenset[str]]
    """The provider's words that figures tell apart (`automata_messages_failed_total`)."""

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` if the provider would refuse it: sizes, types, unknown options."""

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` if the secret lacks a key, or a key cannot be read. No network."""

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        """What may be shown of a secret that passed `check_secret`: identifiers, never a key."""

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> Sender:
        """A sender for this credential. Connects on the first send."""
