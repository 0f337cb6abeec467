"""Devices with in-app subscriptions, and messages that were sent to them the whole way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from apps.messaging import lifecycle
from apps.messaging.adapters.base import Content, Delivery, Endpoint, Outcome
from apps.messaging.adapters.in_app import InAppAdapter
from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.subscriptions.handles import HANDLE_HEADER, handle_for
from apps.subscriptions.models import Subscription
from apps.tenants.models import KeyKind
from apps.tenants.services import key_create
from automata_signal.ids import new_range
from tests.conftest import ApiClient
from tests.factories import make_dispatch, make_subscription


@dataclass
class Device:
    """An SDK: the publishable key, its subscription and the handle of that."""

    subscription: Subscription
    key: str

    @property
    def handle(self) -> str:
        return handle_for(self.subscription.pk, self.subscription.handle_version)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", HANDLE_HEADER: self.handle}

    def path(self, route: str, **query) -> str:
        return f"in-app/{route}?{urlencode({'subscription_id': str(self.subscription.pk), **query})}"

    def get(self, route: str, headers=None, **query):
        return ApiClient(self.key, **{HANDLE_HEADER: self.handle}).get(self.path(route, **query), **(headers or {}))

    def post(self, route: str, body=None):
        return ApiClient(self.key, **{HANDLE_HEADER: self.handle}).post(self.path(route), body)

    def inbox(self, **query) -> list[dict]:
        answer = self.get("inbox", **query)
        assert answer.status_code == 200, answer.content
        return answer.json()["data"]

    def displayed(self) -> list[dict]:
        answer = self.get("messages")
        assert answer.status_code == 200, answer.content
        return answer.json()["data"]

    def unread(self) -> int:
        return self.get("inbox/unread-count").json()["data"]["unread"]

    def report(self, *events: dict) -> list[dict]:
        answer = self.post("events", {"events": list(events)})
        assert answer.status_code == 200, answer.content
        return answer.json()["data"]["results"]


@pytest.fixture
def publishable(application) -> str:
    return key_create(application=application, name="sdk", kind=KeyKind.PUBLISHABLE).plaintext


@pytest.fixture
def make_device(application, publishable):
    def make(user=None, **fields) -> Device:
        token = f"in-app-{Subscription.with_archived.count()}-{'x' * 40}"
        row = make_subscription(application, type="InAppMessage", token=token, user=user, **fields)
        return Device(row, publishable)

    return make


@pytest.fixture
def send(application):
    """Send to these devices, or to all devices of these users: messages as the API makes them, then a worker's part by
    the adapter, in the test's own transaction; the ids of the messages."""

    def send_to(*to, title="Sale", body="Today", ttl_s=3_600, **fields) -> list[str]:
        order = make_dispatch(application, channel_type="in_app", title=title, body=body, ttl_s=ttl_s, **fields)
        rows = [one.subscription for one in to if isinstance(one, Device)]
        rows += [row for one in to if not isinstance(one, Device) for row in one.subscriptions.order_by("id")]
        ids = [str(message.pk) for message in make_messages_to(order, rows)]
        content = Content(order.title, order.body, order.data, order.options)
        expires_at = (timezone.now() + timedelta(seconds=ttl_s)).timestamp()
        results = InAppAdapter().open({}, Endpoint("")).send([Delivery(one, "", content, 0, expires_at) for one in ids])
        assert [result.outcome for result in results] == [Outcome.ACCEPTED] * len(ids)
        lifecycle.apply("send", source="pending", ids=ids, application_id=application.pk, at=timezone.now())
        return ids

    return send_to


def make_messages_to(order: Dispatch, subscriptions: list[Subscription]) -> list[Message]:
    """Pending messages of one batch."""
    ids = new_range()
    application = order.application
    DispatchBatch.objects.create(
        dispatch=order,
        application=application,
        subscription_type="InAppMessage",
        priority=order.priority,
        expires_at=timezone.now() + timedelta(hours=1),
        first_id=ids.base,
        recipient_count=len(subscriptions),
    )
    return Message.objects.bulk_create(
        Message(
            id=ids.at(position),
            application=application,
            dispatch=order,
            subscription=subscription,
            user_id=subscription.user_id,
            channel_type="in_app",
        )
        for position, subscription in enumerate(subscriptions)
    )
