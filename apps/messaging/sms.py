"""Text messages: what every one needs, and what people say to a gateway: STOP, START, and the 080 number that Solapi
keeps to itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from apps.messaging.adapters.base import Content
from apps.messaging.adapters.phone import to_e164
from apps.messaging.content import ContentSource, register_preparer
from apps.messaging.previews import register_preview
from apps.messaging.receipts import nhn, solapi, twilio
from apps.messaging.receipts.providers import ASKERS, PARSERS, AskFailed, register_listener
from apps.messaging.sms_lengths import shown_lengths
from apps.subscriptions.models import Subscription
from apps.subscriptions.preferences.models import ConsentSource
from apps.subscriptions.preferences.suppressing import suppression_lift
from apps.subscriptions.services import SubscriptionEnd, subscription_update, subscriptions_end
from apps.subscriptions.services.subscriptions import token_digest
from apps.subscriptions.status import Setter, SubscriptionStatus
from apps.subscriptions.validation import normal_token
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ChannelCredential
from automata_signal.encryption import DecryptionError
from automata_signal.errors import SignalError, ValidationFailed

log = logging.getLogger(__name__)

DENIED_SINCE = timedelta(days=3)
"""How far back the list of opt-outs is read: an outage of ours as long as that loses none."""


def register_gateways() -> None:
    """At start-up: who reads the reports of SMS and Alimtalk, and whom we ask."""
    PARSERS.update(
        {
            "solapi": solapi.parse,
            "solapi_kakao": solapi.parse,
            "twilio": twilio.parse,
            "nhn_sms": nhn.parse_sms,
            "nhn_kakao": nhn.parse_kakao,
        }
    )
    ASKERS.update(
        {
            "solapi": solapi.ask,
            "solapi_kakao": solapi.ask,
            "twilio": twilio.ask,
            "nhn_sms": nhn.ask_sms,
            "nhn_kakao": nhn.ask_kakao,
        }
    )
    register_listener("twilio", opt_in)
    register_preparer(ChannelType.SMS, require_text)
    register_preview(ChannelType.SMS, show_lengths)


def require_text(application: Application, source: ContentSource) -> ContentSource:
    """A text message has a text; what a template makes of it for one recipient is checked when it is sent."""
    if not source.body.strip():
        raise ValidationFailed.of("body", "a text message needs a text")
    return source


def show_lengths(application: Application, content: Content) -> Mapping[str, Any]:
    """For previews: how long the text is at each gateway, and what it costs."""
    return shown_lengths(application, text=content.body, title=content.title, options=content.options)


def opt_in(application_id: UUID, provider: str, event: Mapping[str, Any]) -> None:
    """Somebody who had written STOP wrote START: their subscription lives again, and their number leaves the
    suppression list. What ended it otherwise still does."""
    if event.get("kind") != twilio.OPT_IN:
        return
    try:
        row = Subscription.objects.filter(
            application_id=application_id,
            type=event["type"],
            token_digest=_digest(event["type"], event["address"]),
            subscription_status=SubscriptionStatus.SMS_BLOCKED,
        ).first()
        if row is not None:
            suppression_lift(row, note="START", source=ConsentSource.PROVIDER)
            subscription_update(subscription=row, setter=Setter.PERSON, enabled=True, source=provider, reason="START")
    except SignalError as error:  # no number, or one that is on the suppression list
        log.info("an opt-in changed nothing", extra={"provider": provider, "cause": str(error)})


def end_denied() -> int:
    """End the subscriptions of numbers on Solapi's list of 080 opt-outs; how many. Who subscribed after having opted
    out stays."""
    ended = 0
    since = (timezone.now() - DENIED_SINCE).astimezone(UTC).isoformat(timespec="seconds")
    for credential in ChannelCredential.objects.filter(provider="solapi", is_active=True):
        try:
            numbers = solapi.denied_numbers(credential.secret, since=since)
        except (AskFailed, DecryptionError) as error:
            log.warning("a list of opt-outs could not be read", extra={"provider": "solapi", "cause": str(error)})
            continue
        denied = {digest: at for number, at in numbers.items() if (digest := _digest("SMS", to_e164(number)))}
        rows = Subscription.objects.filter(
            application_id=credential.application_id,
            type="SMS",
            token_digest__in=list(denied),
            subscription_status__gt=0,
        )
        ends = [
            SubscriptionEnd(row.pk, SubscriptionStatus.SMS_BLOCKED, "080")
            for row in rows.only("pk", "token_digest", "subscribed_at")
            if row.subscribed_at is None or row.subscribed_at <= denied[bytes(row.token_digest)]
        ]
        if ends:
            ended += subscriptions_end(application_id=credential.application_id, ends=ends, occurred_at=timezone.now())
    return ended


def _digest(type: str, address: str) -> bytes:
    """Empty for what is no address."""
    try:
        return token_digest(type, normal_token(type, address))
    except SignalError:
        return b""
