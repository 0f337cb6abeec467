"""The page of one message: its way from the request to the tap, what was seen, to whom it went and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest
from django.urls import reverse
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from djmoney.money import Money

from apps.billing.selectors import prices_of
from apps.messaging.console.previews import drawn
from apps.messaging.console.words import STATUS_COLOURS, TONES, campaign_link, page_of_step
from apps.messaging.models import (
    Dispatch,
    DispatchBatch,
    FollowUp,
    GatewayRequest,
    Message,
    MessageEvent,
    MessageStatus,
)
from apps.messaging.next_steps import next_step
from apps.messaging.selectors import message_content, message_events
from apps.messaging.services import batch_of
from apps.subscriptions.admin import masked, with_sealed_token
from apps.subscriptions.models import AppUser, Subscription
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment, money
from apps.tenants.console.panels import admin_link, badge, json_text, list_address, short_id
from apps.tenants.models import ChannelCredential

# --- The timeline --------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One thing that happened, or is to happen."""

    at: datetime
    label: Any
    tone: str = ""
    details: list[tuple[Any, Any]] = []  # a NamedTuple's default, never changed
    waited: str = ""
    """Since the one before."""
    is_to_come: bool = False


def timeline(message: Message, dispatch: Dispatch | None, batch: DispatchBatch | None) -> list[Entry]:
    """From the request on, in the order of time, with what the provider answered."""
    entries = []
    if dispatch is not None:
        entries.append(Entry(dispatch.created_at, _request_label(dispatch), "quiet"))
    entries.append(Entry(message.created_at, _("Message made"), "quiet"))
    events = message_events(message)
    credentials = _credentials(events)
    for event in events:
        entries.append(Entry(event.occurred_at, _label(event), TONES[event.event_type], _details(event, credentials)))
    entries.sort(key=lambda entry: entry.at)  # stable: of the same moment, in the order of the lifecycle
    if message.status == MessageStatus.ERRORED and message.retry_at:
        entries.append(Entry(message.retry_at, _("Next attempt"), "quiet", is_to_come=True))
    elif message.status == MessageStatus.PENDING and batch is not None and batch.due_at > timezone.now():
        entries.append(Entry(batch.due_at, _("Due"), "quiet", is_to_come=True))
    return [
        entry._replace(waited=_waited(before.at, entry.at)) if before else entry
        for before, entry in zip([None, *entries], entries, strict=False)
    ]


def _request_label(dispatch: Dispatch) -> Any:
    if dispatch.campaign_id:
        return _("The campaign was launched")
    return _("The request was accepted") if not dispatch.chain_step else _("The step of the chain was planned")


def _label(event: MessageEvent) -> Any:
    return {
        MessageStatus.PENDING.value: _("Taken up again"),
        MessageStatus.SUCCESSFUL.value: _("The provider took it"),
        MessageStatus.ERRORED.value: _("Refused for now"),
        MessageStatus.FAILED.value: _("Failed for good"),
        MessageStatus.RECEIVED.value: _("Arrived on the device"),
        MessageStatus.CONVERTED.value: _("Opened"),
    }[event.event_type]


def _details(event: MessageEvent, credentials: Mapping[str, str]) -> list[tuple[Any, Any]]:
    """What was noted with it, in an operator's words; what we have no word for stands as it is."""
    noted = event.metadata if isinstance(event.metadata, dict) else {}
    words = {
        "http_status": _("HTTP status"),
        "reason": _("the provider's word"),
        "provider_id": _("the provider's id"),
        "provider": _("provider"),
        "credential": _("credential"),
        "attempt": _("attempt"),
        "class": _("whose fault"),
        "outcome": _("means"),
        "code": _("code"),
        "status": _("HTTP status"),
        "implied_by": _("known because it was"),
    }
    found = []
    order = list(words)
    for name, value in sorted(noted.items(), key=lambda item: order.index(item[0]) if item[0] in words else len(order)):
        if name == "credential" and str(value) in credentials:
            value = admin_link("tenants.ChannelCredential", value, credentials[str(value)])
        if value not in (None, "", 0, {}, []):
            found.append((words.get(name, name), value))
    return found


def _credentials(events: Any) -> dict[str, str]:
    """Names of the credentials that the events tell of; of one that a provider's events may have made up, none."""
    keys = {str(event.metadata.get("credential")) for event in events if isinstance(event.metadata, dict)} - {"None"}
    if not keys:
        return {}
    application_id = events[0].application_id
    rows = ChannelCredential.objects.filter(application_id=application_id).values_list("pk", "name")
    return {str(pk): name for pk, name in rows if str(pk) in keys}


def _waited(since: datetime, until: datetime) -> str:
    seconds = (until - since).total_seconds()
    if seconds < 0.001:
        return ""
    if seconds < 60:
        return _("+%(seconds)s s") % {"seconds": formats.number_format(round(seconds, 3 if seconds < 1 else 1))}
    if seconds < 3_600:
        return _("+%(count)d min") % {"count": round(seconds / 60)}
    if seconds < 172_800:
        return _("+%(count)d h") % {"count": round(seconds / 3_600)}
    return _("+%(count)d days") % {"count": round(seconds / 86_400)}


# --- Beside it -----------------------------------------------------------------------------------------------------


def page_of(request: HttpRequest, message: Message) -> dict[str, Any]:
    """Everything that the page shows of a message; each part for who may see it."""
    grants = grants_of(request)
    dispatch = Dispatch.objects.filter(pk=message.dispatch_id).select_related("template_version__template").first()
    if dispatch is not None:
        message.dispatch = dispatch  # whose content it may be
    batch = batch_of(application=message.application, message_id=message.pk)
    step = next_step(message.error_reason) if message.status == MessageStatus.FAILED and message.error_reason else None
    return {
        "message": message,
        "state": badge(STATUS_COLOURS[str(message.status)], MessageStatus(message.status).label),
        "entries": timeline(message, dispatch, batch),
        "is_live": message.status in (MessageStatus.PENDING, MessageStatus.ERRORED),
        "advice": step.text if step else "",
        "advice_page": page_of_step(request, step.page, message.application_id) if step else "",
        "advice_link": step.link if step else "",
        "error": json_text(message.error_details) if message.error_details else "",
        "preview": _preview(message),
        "content": _content(message),
        "facts": list(_facts(request, message, dispatch, batch)),
        "recipient": list(_recipient(request, message)),
        "cost": _cost(message) if grants.has("billing:read", message.application_id) else None,
        "chain": _chain(message, dispatch) if dispatch is not None and dispatch.chain_id else [],
        "address": reverse("admin:messaging_message_timeline", args=[message.pk]),
    }


def _stored(message: Message) -> dict[str, Any] | None:
    try:
        return message_content(message)
    except ObjectDoesNotExist:
        return None  # the dispatch that had the content is gone


def _preview(message: Message) -> dict[str, Any] | None:
    """As the recipient saw it, on this channel."""
    content = _stored(message)
    return drawn(message.application, message.channel_type, content) if content is not None else None


def _content(message: Message) -> dict[str, Any]:
    """The same as it is stored."""
    content = _stored(message) or {}
    return {name: json_text(content.get(name)) for name in ("data", "options") if content.get(name)}


def _facts(
    request: HttpRequest, message: Message, dispatch: Dispatch | None, batch: DispatchBatch | None
) -> Iterator[tuple[Any, Any]]:
    yield _("id"), format_html('<span class="as-mono">{}</span>', message.pk)
    yield _("channel"), message.get_channel_type_display()
    if message.campaign_id:
        yield _("campaign"), campaign_link(message.campaign_id)
    if dispatch is not None:
        version = dispatch.template_version
        if version is not None:
            label = f"{version.template.name} {version}"
            yield _("template"), admin_link("messaging.MessageTemplate", version.template_id, label)
        yield _("priority"), dispatch.get_priority_display()
        yield _("purpose"), dispatch.get_purpose_display()
        yield _("dispatch"), admin_link("messaging.Dispatch", dispatch.pk, short_id(dispatch.pk))
    if batch is not None:
        link = admin_link("messaging.DispatchBatch", batch.pk, short_id(batch.pk))
        yield _("batch"), format_html("{} · {}", link, batch.get_state_display())
        yield _("lives until"), moment(batch.expires_at)
    for request_id, provider in _gateway_requests(message):
        yield _("request at the gateway"), format_html('<span class="as-mono">{}</span> · {}', request_id, provider)
    if message.requeued_from:
        yield _("in place of"), admin_link("messaging.Message", message.requeued_from, short_id(message.requeued_from))
    if message.requeued_as:
        yield _("sent again as"), admin_link("messaging.Message", message.requeued_as, short_id(message.requeued_as))


def _gateway_requests(message: Message) -> list[tuple[str, str]]:
    """Of gateways that report by request; by the index on application and id, around the time it was sent."""
    if message.channel_type not in ("sms", "kakao_talk") or message.sent_at is None:
        return []
    rows = GatewayRequest.objects.filter(application_id=message.application_id, pk__gt=message.pk)
    near = rows.order_by("pk")[:200].values_list("request_id", "provider", "message_ids")
    return [(request_id, provider) for request_id, provider, ids in near if message.pk in ids]


def _recipient(request: HttpRequest, message: Message) -> Iterator[tuple[Any, Any]]:
    """To whom it went: names and devices for who may read users and subscriptions."""
    grants = grants_of(request)
    if message.user_id is not None:
        user = AppUser.with_archived.filter(pk=message.user_id).first()
        may_see = grants.has("users:read", message.application_id)
        yield (
            _("user"),
            admin_link("subscriptions.AppUser", message.user_id, user or message.user_id) if may_see else "–",
        )
    rows = with_sealed_token(Subscription.with_archived.filter(pk=message.subscription_id))
    subscription = rows.first()
    if subscription is None:
        yield _("subscription"), str(message.subscription_id)
        return
    may_see = grants.has("subscriptions:read", message.application_id)
    text = f"{subscription.get_type_display()} · {masked(subscription.sealed)}"
    yield _("subscription"), admin_link("subscriptions.Subscription", subscription.pk, text) if may_see else text
    if subscription.device_model:
        yield _("device"), f"{subscription.device_model} {subscription.device_os}".strip()
    if subscription.app_version:
        yield _("app version"), subscription.app_version
    if subscription.country_code:
        yield _("country"), subscription.country_code
    others = list_address("messaging.Message", subscription=subscription.pk)
    yield _("all messages to it"), format_html('<a class="text-link" href="{}">{}</a>', others, _("Show them"))


def _cost(message: Message) -> dict[str, Any]:
    """By the price of today; a message that no provider took costs nothing."""
    prices = prices_of(message.application)
    price = Money(prices.of(message.channel_type), prices.currency or "KRW")
    if message.sent_at is None:
        note = _("No provider took it.") if message.status == MessageStatus.FAILED else _("Only what a provider takes.")
        return {"amount": money(price * 0), "note": note}
    return {"amount": money(price), "note": _("By the price that holds now.")}


def _chain(message: Message, dispatch: Dispatch) -> list[dict[str, Any]]:
    """The steps of its chain, and what each sent to the same user. Indexes: `dispatch_by_chain`, and by follow-up."""
    of_chain = Dispatch.objects.filter(application_id=message.application_id, chain_id=dispatch.chain_id)
    steps = list(of_chain.order_by("chain_step"))
    follow_ups = {}
    if message.user_id is not None:
        rows = FollowUp.objects.filter(dispatch_id__in=[step.pk for step in steps], user_id=message.user_id)
        follow_ups = {row.dispatch_id: row for row in rows}
    found = []
    for number, step in enumerate(steps, start=1):
        followed = follow_ups.get(step.pk)
        found.append(
            {
                "number": number,
                "channel": step.get_channel_type_display(),
                "is_this": step.pk == message.dispatch_id,
                "because": followed.because if followed else "",
                "problem": followed.problem if followed else "",
                "at": moment(followed.created_at) if followed else "",
                "before": reverse("admin:messaging_message_change", args=[followed.after_message_id])
                if followed and followed.after_message_id
                else "",
                "messages": f"{list_address('messaging.Message', dispatch=step.pk)}"
                + (f"&user={message.user_id}" if message.user_id else ""),
            }
        )
    return found
