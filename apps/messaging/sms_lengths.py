"""How long a text message is at the gateways by which an application sends, and what it costs, before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from apps.billing.selectors import prices_of
from apps.messaging.adapters.base import ContentError
from apps.messaging.adapters.sms_content import LMS_BYTES, SMS_BYTES, TWILIO_CHARACTERS, is_korean_gateway, sms_parts
from apps.messaging.content import used_adapters
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application


class SmsLength(NamedTuple):
    """What becomes of a text at one gateway."""

    provider: str
    encoding: str
    """`euc_kr`, `gsm7` or `ucs2`; empty if it is refused."""
    units: int
    limit: int
    """Of what it is sent as: bytes, or Twilio's characters."""
    segments: int
    kind: str
    problem: str
    """What the gateway would refuse; empty for nothing."""


class SmsPrice(NamedTuple):
    """What the application is charged for one message to one recipient, however many parts it has: prices of plans are
    per message. The gateway's own bill counts the segments, and an LMS as one."""

    amount: Decimal
    currency: str


def sms_lengths(*, application: Application, text: str, title: str = "", type: str = "auto") -> list[SmsLength]:
    """By each gateway that the application has a credential of; by all there are if it has none."""
    return [_length(adapter.name, text, title, type) for adapter in used_adapters(application, "SMS")]


def sms_price(application: Application) -> SmsPrice:
    prices = prices_of(application)
    return SmsPrice(prices.of(ChannelType.SMS), prices.currency)


def _length(provider: str, text: str, title: str, type: str) -> SmsLength:
    try:
        parts = sms_parts(text, provider, title=title, type=type)
    except ContentError as error:
        return SmsLength(provider, "", 0, 0, 0, "", f"{error.field}: {error.message}")
    limit = TWILIO_CHARACTERS
    if is_korean_gateway(provider):
        limit = SMS_BYTES if parts.kind == "sms" else LMS_BYTES
    return SmsLength(provider, parts.encoding, parts.units, limit, parts.segments, parts.kind, "")


def shown_lengths(application: Application, *, text: str, title: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """For previews: lengths and price as JSON."""
    wanted = options.get("type", "auto")
    lengths = sms_lengths(
        application=application, text=text, title=title, type=wanted if isinstance(wanted, str) else "auto"
    )
    price = sms_price(application)
    return {
        "gateways": [length._asdict() for length in lengths],
        "price": {"amount": str(price.amount), "currency": price.currency, "per": "message"},
    }
