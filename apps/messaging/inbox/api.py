"""`/in-app/…`: what SDKs ask and report of in-app messages. docs/in-app.md has the protocol step by step.

A device names its subscription in `?subscription_id=` and proves by its handle that it is its own. App servers may do
the same for any subscription of theirs, without a handle.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, ClassVar
from uuid import UUID

import orjson
from django.conf import settings
from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging.inbox import selectors, services
from apps.messaging.inbox.services import FAILURES, IDS_MAX, REPORT_TYPES, DeviceReport
from apps.messaging.inbox.tickets import TICKET_S, Ticket, ticket_issue, ticket_take
from apps.subscriptions.api.subscriptions import HANDLE, setter_of
from apps.subscriptions.handles import HANDLE_HEADER
from apps.subscriptions.models import Subscription
from apps.subscriptions.selectors import subscription_for_device, subscription_get
from apps.subscriptions.status import Setter
from apps.tenants.access import Caller, caller_of_key
from apps.tenants.scopes import SDK_SCOPE
from apps.tenants.views import SignalView
from automata_signal.api import CursorPagination, NoInput, StrictSerializer, validated
from automata_signal.errors import Conflict, SignalError, Unauthenticated, ValidationFailed
from automata_signal.openapi import PAGE_PARAMETERS

READ = ("messages:read", SDK_SCOPE)
WRITE = ("receipts:write", SDK_SCOPE)
TAG = ["inbox"]
REPORTS_MAX = 100


class Misdirected(SignalError):
    """This address is another process's."""

    code = "MISDIRECTED"
    status = 421


# --- Input and answers -----------------------------------------------------------------------------------------------


class SubscriptionQuery(StrictSerializer):
    from_text = True
    subscription_id = serializers.UUIDField()


class InboxQuery(SubscriptionQuery):
    state = serializers.ChoiceField(choices=selectors.STATES, default="all")


class StreamQuery(StrictSerializer):
    from_text = True
    subscription_id = serializers.UUIDField(required=False)
    ticket = serializers.CharField(max_length=100, required=False, help_text="In place of key, id and handle.")
    last_event_id = serializers.CharField(
        max_length=20, required=False, help_text="As the header `Last-Event-ID`, for who cannot send it."
    )


class ItemsInput(StrictSerializer):
    ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=IDS_MAX)


class DeviceReportInput(StrictSerializer):
    message_id = serializers.UUIDField()
    type = serializers.ChoiceField(choices=REPORT_TYPES)
    occurred_at = serializers.DateTimeField(required=False, help_text="The device's clock; never taken as future.")
    button_id = serializers.RegexField(r"^[A-Za-z0-9_.-]{1,32}$", required=False, help_text="Of a click on a button.")
    code = serializers.IntegerField(
        min_value=min(FAILURES),
        max_value=max(FAILURES),
        required=False,
        help_text="Why it could not be displayed; with `failed` only.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if (attrs["type"] == services.FAILED) != ("code" in attrs):
            raise serializers.ValidationError({"code": ["Is needed with `failed`, and with nothing else."]})
        if "button_id" in attrs and attrs["type"] != services.CLICKED:
            raise serializers.ValidationError({"button_id": ["Belongs to `clicked`."]})
        return attrs


class DeviceReportsInput(StrictSerializer):
    events = DeviceReportInput(many=True, min_length=1, max_length=REPORTS_MAX)  # type: ignore[call-arg]


class DeviceReportAnswer(serializers.Serializer[Any]):
    message_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=("accepted", "ignored", "rejected"))
    reason = serializers.CharField(allow_blank=True)


class DeviceReportsAnswer(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    ignored = serializers.IntegerField()
    rejected = serializers.IntegerField()
    results = DeviceReportAnswer(many=True)


class InAppMessageAnswer(serializers.Serializer[Any]):
    """An in-app message; docs/in-app.md explains each field."""

    id = serializers.UUIDField()
    title = serializers.CharField(allow_blank=True)
    body = serializers.CharField(allow_blank=True)
    data = serializers.DictField()  # type: ignore[assignment]
    layout = serializers.CharField()
    image = serializers.CharField(allow_blank=True)
    landscape_image = serializers.CharField(allow_blank=True)
    background_color = serializers.CharField(allow_blank=True)
    text_color = serializers.CharField(allow_blank=True)
    action = serializers.DictField(allow_null=True)
    buttons = serializers.ListField(child=serializers.DictField())
    triggers = serializers.ListField(child=serializers.ListField(child=serializers.DictField()))
    frequency = serializers.DictField()
    priority = serializers.IntegerField(min_value=1, max_value=10)
    period = serializers.DictField()
    app_version = serializers.DictField()
    languages = serializers.ListField(child=serializers.CharField())
    is_test = serializers.BooleanField()
    arrived_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True)
    archived_at = serializers.DateTimeField(allow_null=True)
    shown_count = serializers.IntegerField()
    last_shown_at = serializers.DateTimeField(allow_null=True)


class UnreadAnswer(serializers.Serializer[Any]):
    unread = serializers.IntegerField()


class ChangedAnswer(UnreadAnswer):
    changed = serializers.IntegerField()


class TicketAnswer(serializers.Serializer[Any]):
    ticket = serializers.CharField()
    url = serializers.CharField(help_text="The stream's address with the ticket in it, for EventSource.")
    expires_in_s = serializers.IntegerField()


# --- The inbox -------------------------------------------------------------------------------------------------------


class InAppView(SignalView):
    """What these views share: the subscription, by its handle if a device asks."""

    def find(self, subscription_id: UUID) -> Subscription:
        if setter_of(self.caller) is Setter.DEVICE:
            handle = self.request.headers.get(HANDLE_HEADER)
            return subscription_for_device(application=self.application, subscription_id=subscription_id, handle=handle)
        return subscription_get(application=self.application, subscription_id=subscription_id)

    def subscription(self) -> Subscription:
        return self.find(self.query(SubscriptionQuery)["subscription_id"])


class InboxView(InAppView):
    scopes = {"GET": READ}

    @extend_schema(
        operation_id="in_app_inbox",
        summary="List the inbox",
        description="Newest first. The user's inbox on all devices; of a device without a user its own.",
        tags=TAG,
        parameters=[InboxQuery, HANDLE, *PAGE_PARAMETERS],
        responses=InAppMessageAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        wanted = self.query(InboxQuery)
        items = selectors.inbox_items(self.find(wanted["subscription_id"]), state=wanted["state"])
        paginator = CursorPagination()
        rows = paginator.paginate_queryset(items, request, self)
        return paginator.get_paginated_response(selectors.inbox_represented(rows, self.application.pk))


class UnreadCountView(InAppView):
    scopes = {"GET": READ}

    @extend_schema(
        operation_id="in_app_unread_count",
        summary="Count what is unread",
        tags=TAG,
        parameters=[SubscriptionQuery, HANDLE],
        responses=UnreadAnswer,
    )
    def get(self, request: Request) -> Response:
        subscription = self.subscription()
        owner_id = selectors.owner_of(subscription)
        since = selectors.seen_since(subscription)
        return Response({"unread": selectors.unread_count(self.application.pk, owner_id, since=since)})


class ChangeView(InAppView):
    """Does one thing to items of the inbox."""

    scopes = {"POST": WRITE}
    change: ClassVar[str]

    def post(self, request: Request) -> Response:
        subscription = self.subscription()
        ids = validated(ItemsInput, request.data)["ids"]
        return Response(services.inbox_change(subscription=subscription, change=self.change, ids=ids))


def _described(change: str, summary: str) -> Any:
    return extend_schema_view(
        post=extend_schema(
            operation_id=f"in_app_{change}",
            summary=summary,
            description="What is not in this inbox changes nothing. The user's other devices are told.",
            tags=TAG,
            parameters=[SubscriptionQuery, HANDLE],
            request=ItemsInput,
            responses=ChangedAnswer,
        )
    )


@_described("read", "Mark items as read")
class ReadView(ChangeView):
    change = "read"


@_described("unread", "Mark items as unread")
class UnreadView(ChangeView):
    change = "unread"


@_described("archive", "Put items away")
class ArchiveView(ChangeView):
    change = "archive"


@_described("unarchive", "Take items back into the inbox")
class UnarchiveView(ChangeView):
    change = "unarchive"


class ReadAllView(InAppView):
    scopes = {"POST": WRITE}

    @extend_schema(
        operation_id="in_app_read_all",
        summary="Mark everything as read",
        tags=TAG,
        parameters=[SubscriptionQuery, HANDLE],
        request=None,
        responses=ChangedAnswer,
    )
    def post(self, request: Request) -> Response:
        subscription = self.subscription()
        validated(NoInput, request.data)
        return Response(services.inbox_change(subscription=subscription, change="read"))


# --- Display ---------------------------------------------------------------------------------------------------------


class MessagesToDisplayView(InAppView):
    scopes = {"GET": READ}

    @extend_schema(
        operation_id="in_app_messages",
        summary="What this device may display now",
        description=(
            "The most urgent first. Period, version of the app, language and how often it was shown are asked here; "
            "triggers and the other rules by the SDK. With `If-None-Match` 304 if nothing has changed."
        ),
        tags=TAG,
        parameters=[
            SubscriptionQuery,
            HANDLE,
            OpenApiParameter("If-None-Match", OpenApiTypes.STR, OpenApiParameter.HEADER),
        ],
        responses={
            200: InAppMessageAnswer(many=True),
            304: OpenApiResponse(description="It is as the `ETag` says."),
        },
    )
    def get(self, request: Request) -> Response:
        messages = selectors.messages_to_display(self.subscription())
        told = orjson.dumps(messages, default=str, option=orjson.OPT_UTC_Z)
        etag = f'"{hashlib.sha256(told).hexdigest()[:32]}"'
        known = request.headers.get("If-None-Match", "").split(",")
        is_known = etag in [one.strip().removeprefix("W/") for one in known]
        response = Response(status=304) if is_known else Response(messages)
        response["ETag"] = etag
        response["Cache-Control"] = "private, no-cache"
        return response


class DeviceReportsView(InAppView):
    scopes = {"POST": WRITE}

    @extend_schema(
        operation_id="in_app_events",
        summary="Report what became of messages",
        description=(
            "`shown` and `dismissed` record the receipt `received`, `clicked` records `converted`. `failed` says why "
            "by its code: -70 version of the app, -71 turned off by the user (which also ends the subscription), "
            "-72 conditions, -73 storage, -74 SDK."
        ),
        tags=TAG,
        parameters=[SubscriptionQuery, HANDLE],
        request=DeviceReportsInput,
        responses=DeviceReportsAnswer,
    )
    def post(self, request: Request) -> Response:
        subscription = self.subscription()
        reports = [
            DeviceReport(
                event["message_id"],
                event["type"],
                event.get("occurred_at"),
                event.get("button_id", ""),
                event.get("code", 0),
            )
            for event in validated(DeviceReportsInput, request.data)["events"]
        ]
        answers = services.inbox_report(subscription=subscription, reports=reports)
        tally = Counter(answer.status for answer in answers)
        counts = {status: tally[status] for status in ("accepted", "ignored", "rejected")}
        return Response({**counts, "results": [answer._asdict() for answer in answers]})


# --- Streams ---------------------------------------------------------------------------------------------------------


class StreamTicketsView(InAppView):
    scopes = {"POST": READ}

    @extend_schema(
        operation_id="in_app_stream_ticket",
        summary="Get a ticket for the stream",
        description=f"For a browser's EventSource: opens one stream, once, within {TICKET_S} seconds.",
        tags=TAG,
        parameters=[SubscriptionQuery, HANDLE],
        request=None,
        responses={201: TicketAnswer},
    )
    def post(self, request: Request) -> Response:
        subscription = self.subscription()
        validated(NoInput, request.data)
        key = self.caller.key
        if key is None:
            raise ValidationFailed.of("Authorization", "must be an API key: a ticket stands for it")
        ticket = ticket_issue(subscription=subscription, key_id=key.pk)
        url = f"{settings.LIVE_URL}/api/v1/in-app/stream?ticket={ticket}"
        return Response({"ticket": ticket, "url": url, "expires_in_s": TICKET_S}, status=201)


class TicketAuthentication(BaseAuthentication):
    """A ticket is as good as the key that asked for it."""

    def authenticate(self, request: Request) -> tuple[Any, Caller]:
        ticket = ticket_take(request.query_params["ticket"])
        if ticket is None:
            raise Unauthenticated("The ticket is unknown, used or expired.")
        request.ticket = ticket  # type: ignore[attr-defined]
        return caller_of_key(ticket.key_id)


class AnyAccept(BaseContentNegotiation):
    """An EventSource accepts `text/event-stream` alone; a refusal is JSON all the same."""

    def filter_parsers(self, request: Request, parsers: Any) -> Any:
        return parsers

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class StreamView(InAppView):
    """Who may open a stream. The process `live` asks it and then streams (`apps.messaging.inbox.live`); on the web it
    only says so."""

    scopes = {"GET": READ}
    content_negotiation_class = AnyAccept
    is_live = False
    """Whether this is the process that streams."""

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """A ticket in the address stands for key, id and handle."""
        made = super().initialize_request(request, *args, **kwargs)
        if "ticket" in made.query_params:
            made.authenticators = [TicketAuthentication()]
        return made

    @extend_schema(
        operation_id="in_app_stream",
        summary="Stream of what comes to the inbox",
        description=(
            "Server-sent events: `ready`, `message`, `inbox`, `state`, `bye`. Served by the process `live` (LIVE_URL); "
            "a web process answers 421. `Last-Event-ID` resumes."
        ),
        tags=TAG,
        parameters=[
            StreamQuery,
            HANDLE,
            OpenApiParameter("Last-Event-ID", OpenApiTypes.STR, OpenApiParameter.HEADER),
        ],
        responses={
            (200, "text/event-stream"): OpenApiTypes.STR,
            421: OpenApiResponse(description="Ask the process `live`."),
        },
    )
    def get(self, request: Request) -> Response:
        subscription = self._subscription()
        if not subscription.is_subscribed:
            raise Conflict("The subscription has ended: nothing is displayed there.", code="SUBSCRIPTION_ENDED")
        if not self.is_live:
            raise Misdirected(f"Streams are served by the process `live`: {settings.LIVE_URL}/api/v1/in-app/stream")
        response = Response()
        response.opened = subscription, self.caller  # type: ignore[attr-defined]
        return response

    def _subscription(self) -> Subscription:
        query = self.query(StreamQuery)
        ticket: Ticket | None = getattr(self.request, "ticket", None)
        if ticket is None:
            if "subscription_id" not in query:
                raise ValidationFailed.of("subscription_id", "is needed")
            return self.find(query["subscription_id"])
        subscription = subscription_get(application=self.application, subscription_id=ticket.subscription_id)
        if subscription.handle_version != ticket.handle_version:
            raise Unauthenticated("The ticket is unknown, used or expired.")
        return subscription
