"""What messages tell on the page of one user: a timeline of all that was sent and happened, and what came of it in sum.

Messages have no index by user. Each subscription that is or was the user's is read from its newest message backward, by
`message_by_subscription`, and no further than the page needs: whoever has three messages among twenty millions is found
as quickly as whoever has thousands.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging.console.words import TONES
from apps.messaging.models import Message, MessageStatus
from apps.messaging.selectors import message_content
from apps.subscriptions.models import AppUser, SubscriptionEvent
from apps.subscriptions.preferences.models import ConsentEvent
from apps.subscriptions.preferences.subjects import CHANNEL_OF
from apps.subscriptions.selectors import once_linked
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.pages import console_page
from apps.tenants.console.panels import Panel, list_address, panel_for
from automata_signal.ids import event_id

READ = "messages:read"
PAGE = 15
COUNTED = 1_000
"""The newest messages that the sums are of."""
TYPES_OF = defaultdict(list)
for _type, _channel in CHANNEL_OF.items():
    TYPES_OF[str(_channel)].append(str(_type))

CHANGES = "changes"
"""In the place of a message's state: only what is no message."""
_CHOICES = ((CHANGES, gettext_lazy("What changed, without messages")),)

# Backward from `before`, of each subscription by an index that has its rows in this order: `LIMIT` ends each.
NEWEST = """
SELECT m.id FROM unnest(%(subscriptions)s::uuid[]) AS s (id) CROSS JOIN LATERAL (
  SELECT id FROM messaging_message
  WHERE subscription_id = s.id AND user_id = %(user)s AND application_id = %(application)s
    AND id < %(before)s {narrowed}
  ORDER BY id DESC LIMIT %(limit)s
) m ORDER BY m.id DESC LIMIT %(limit)s
"""
# Each message's events are a range of the primary key.
EVENTS = """
SELECT e.message_id, e.event_type, e.occurred_at
FROM unnest(%(first)s::uuid[], %(last)s::uuid[]) AS r (first, last) CROSS JOIN LATERAL (
  SELECT message_id, event_type, occurred_at FROM messaging_messageevent WHERE id BETWEEN r.first AND r.last
) e ORDER BY e.occurred_at
"""
_SUMS = """
SELECT m.channel_type, m.status, m.campaign_id, m.id
FROM unnest(%(subscriptions)s::uuid[]) AS s (id) CROSS JOIN LATERAL (
  SELECT id, channel_type, status, campaign_id FROM messaging_message
  WHERE subscription_id = s.id AND user_id = %(user)s AND application_id = %(application)s
  ORDER BY id DESC LIMIT %(limit)s
) m ORDER BY m.id DESC LIMIT %(limit)s
"""
_LAST_ID = UUID(int=2**128 - 1)


@dataclass(frozen=True)
class Asked:
    """What of the timeline is wanted."""

    channel: str = ""
    state: str = ""
    before: UUID | None = None

    @classmethod
    def of(cls, request: HttpRequest) -> Asked:
        channel, state = request.GET.get("channel", ""), request.GET.get("state", "")
        return cls(
            channel if channel in ChannelType.values else "",
            state if state in (*MessageStatus.values, CHANGES) else "",
            as_uuid(request.GET.get("before", "")),
        )


@dataclass(frozen=True)
class Entry:
    id: UUID
    at: datetime
    title: str
    tone: str
    channel: Any = ""
    words: str = ""
    details: Sequence[str] = ()
    steps: Sequence[tuple[Any, datetime]] = ()
    address: str = ""
    link_label: Any = ""


# --- The timeline --------------------------------------------------------------------------------------------------


@panel_for(AppUser)
def timeline_panel(request: HttpRequest, user: AppUser) -> Panel | None:
    if not grants_of(request).has(READ, user.application_id):
        return None
    return Panel(_("Timeline"), "admin/messaging/person_timeline.html", timeline_context(request, user))


@console_page("person_timeline", "people/<uuid:user_id>/timeline/", scope=READ)
def timeline_page(request: HttpRequest, user_id: UUID) -> HttpResponse:
    """The timeline alone, for a page that filters it or wants what is older. 404 for whoever may not read it."""
    user = AppUser.with_archived.filter(pk=user_id).first()
    grants = grants_of(request)
    if user is None or not all(grants.has(scope, user.application_id) for scope in (READ, "users:read")):
        raise Http404
    template = "timeline_more" if request.GET.get("before") else "person_timeline"
    return TemplateResponse(
        request, f"admin/messaging/{template}.html", {"panel": timeline_context(request, user), "is_part": True}
    )


def timeline_context(request: HttpRequest, user: AppUser) -> dict[str, Any]:
    asked = Asked.of(request)
    entries = timeline(request, user, asked)
    page = entries[:PAGE]
    address = reverse("admin:person_timeline", args=[user.pk])
    query = {"channel": asked.channel, "state": asked.state}
    more = ""
    if len(entries) > PAGE:
        more = f"{address}?{urlencode({**query, 'before': str(page[-1].id)})}"
    return {
        "entries": page,
        "more": more,
        "address": address,
        "channel": asked.channel,
        "state": asked.state,
        "channels": ChannelType.choices,
        "states": [*MessageStatus.choices, *_CHOICES],
        "all_messages": list_address("messaging.Message", user=user.pk),
    }


def timeline(request: HttpRequest, user: AppUser, asked: Asked) -> list[Entry]:
    """The newest of all kinds, one more than a page; all ids are UUIDv7, so they are in order of time."""
    grants, limit = grants_of(request), PAGE + 1
    found: list[Entry] = []
    if asked.state != CHANGES:
        found += _messages(user, asked, limit)
    if asked.state in ("", CHANGES):
        if grants.has("subscriptions:read", user.application_id):
            found += _subscription_events(user, asked, limit)
        if grants.has("preferences:read", user.application_id):
            found += _consent_events(user, asked, limit)
    return sorted(found, key=lambda entry: entry.id, reverse=True)[:limit]


def newest_message_ids(user: AppUser, asked: Asked, limit: int) -> list[UUID]:
    narrowed, values = newest_statement(user, asked, limit)
    with connection.cursor() as cursor:
        cursor.execute(narrowed, values)
        return [key for (key,) in cursor.fetchall()]


def newest_statement(user: AppUser, asked: Asked, limit: int) -> tuple[str, dict[str, Any]]:
    conditions = ""
    if asked.channel:
        conditions += " AND channel_type = %(channel)s"
    if asked.state:
        conditions += " AND status = %(state)s"
    values = {
        "subscriptions": sorted(once_linked(user)),
        "user": user.pk,
        "application": user.application_id,
        "before": asked.before or _LAST_ID,
        "channel": asked.channel,
        "state": asked.state,
        "limit": limit,
    }
    return NEWEST.format(narrowed=conditions), values


def _messages(user: AppUser, asked: Asked, limit: int) -> list[Entry]:
    keys = newest_message_ids(user, asked, limit)
    rows = Message.objects.filter(pk__in=keys).select_related("dispatch__template_version") if keys else []
    steps = _steps(keys)
    return [_of_message(row, steps.get(row.pk, [])) for row in rows]


def _steps(keys: Sequence[UUID]) -> dict[UUID, list[tuple[Any, datetime]]]:
    found: dict[UUID, list[tuple[Any, datetime]]] = defaultdict(list)
    if keys:
        values = {"first": [event_id(key, 1) for key in keys], "last": [event_id(key, 255) for key in keys]}
        with connection.cursor() as cursor:
            cursor.execute(EVENTS, values)
            for message_id, event_type, occurred_at in cursor.fetchall():
                found[message_id].append((MessageStatus(event_type).label, occurred_at))
    return found


def _of_message(row: Message, steps: list[tuple[Any, datetime]]) -> Entry:
    content = message_content(row)
    words = " — ".join(part for part in (content["title"], content["body"]) if part)
    details = (
        [row.error_reason] if row.error_reason and row.status in (MessageStatus.FAILED, MessageStatus.ERRORED) else []
    )
    if row.dispatch.chain_step:
        details.append(_("step %(number)s of a chain") % {"number": row.dispatch.chain_step + 1})
    return Entry(
        row.pk,
        row.created_at,
        str(MessageStatus(row.status).label),
        TONES[str(row.status)],
        channel=ChannelType(row.channel_type).label,
        words=words[:300],
        details=details,
        steps=steps,
        address=reverse("admin:messaging_message_change", args=[row.pk]),
        link_label=_("Message"),
    )


def _subscription_events(user: AppUser, asked: Asked, limit: int) -> Iterable[Entry]:
    """By `subscription_event_of_user`."""
    rows = SubscriptionEvent.objects.filter(application_id=user.application_id, user_id=user.pk)
    if asked.before:
        rows = rows.filter(pk__lt=asked.before)
    if asked.channel:
        rows = rows.filter(channel__in=TYPES_OF[asked.channel])
    for row in rows.order_by("-pk")[:limit]:
        change = "" if row.old_status == row.new_status else f"{_or_dash(row.old_status)} → {_or_dash(row.new_status)}"
        yield Entry(
            row.pk,
            row.occurred_at,
            row.get_event_type_display(),
            "quiet",
            channel=_channel_name(row.channel),
            details=[part for part in (change, row.reason, row.source) if part],
            address=reverse("admin:subscriptions_subscription_change", args=[row.subscription_id]),
            link_label=_("Subscription"),
        )


def _consent_events(user: AppUser, asked: Asked, limit: int) -> Iterable[Entry]:
    """By `consent_event_of_user`."""
    rows = ConsentEvent.objects.filter(user_id=user.pk)
    if asked.before:
        rows = rows.filter(pk__lt=asked.before)
    if asked.channel:
        rows = rows.filter(channel=asked.channel)
    for row in rows.order_by("-pk")[:limit]:
        yield Entry(
            row.pk,
            row.occurred_at,
            row.get_event_type_display(),
            "quiet",
            channel=row.get_channel_display(),
            details=[part for part in (row.category, str(row.get_source_display()), row.evidence) if part],
            address=reverse("admin:subscriptions_consentevent_change", args=[row.pk]),
            link_label=_("Consent"),
        )


def _or_dash(status: int | None) -> str:
    return "–" if status is None else str(status)


def _channel_name(type_: str) -> Any:
    channel = CHANNEL_OF.get(type_)
    return ChannelType(channel).label if channel else type_


# --- In sum --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """Of the newest messages of a user."""

    total: int
    by_channel: list[tuple[Any, int, int, int]]
    """Channel, sent, received or opened, failed."""
    by_campaign: list[tuple[UUID, int, str]]
    """Campaign, messages, the state of the newest; the newest first."""


def sums_of(user: AppUser) -> Sums:
    """Of the newest `COUNTED` messages; read once, kept on the row for whoever else shows it."""
    known: Sums | None = getattr(user, "_message_sums", None)
    if known is not None:
        return known
    values: dict[str, Any] = {
        "subscriptions": sorted(once_linked(user)),
        "user": user.pk,
        "application": user.application_id,
        "limit": COUNTED,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, values)
        rows = cursor.fetchall()
    sent, arrived, failed = Counter[str](), Counter[str](), Counter[str]()
    campaigns: dict[UUID, list[str]] = {}
    for channel, status, campaign_id, _key in rows:
        sent[channel] += 1
        arrived[channel] += status in (MessageStatus.RECEIVED, MessageStatus.CONVERTED)
        failed[channel] += status == MessageStatus.FAILED
        if campaign_id is not None:
            campaigns.setdefault(campaign_id, []).append(status)
    sums = Sums(
        len(rows),
        [
            (ChannelType(name).label, sent[name], arrived[name], failed[name])
            for name in ChannelType.values
            if sent[name]
        ],
        [(key, len(states), states[0]) for key, states in campaigns.items()],
    )
    user._message_sums = sums  # type: ignore[attr-defined]
    return sums


@panel_for(AppUser)
def sums_panel(request: HttpRequest, user: AppUser) -> Panel | None:
    """How many messages by channel, and what came of them."""
    if not grants_of(request).has(READ, user.application_id):
        return None
    sums = sums_of(user)
    context = {"rows": sums.by_channel, "is_cut": sums.total == COUNTED, "limit": COUNTED}
    return Panel(_("Messages in sum"), "admin/messaging/person_sums.html", context, is_aside=True)
