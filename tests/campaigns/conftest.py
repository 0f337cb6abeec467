"""An application that can send push, people it reaches, and campaigns made through the API."""

from __future__ import annotations

import secrets

import pytest

from apps.campaigns.models import MessageCampaign
from apps.subscriptions.models import AppUser, Subscription, SubscriptionType
from apps.tenants.models import ChannelCredential


@pytest.fixture
def credentials(application):
    """What APNs and FCM know the application by; nothing here connects to them."""
    return [
        ChannelCredential.objects.create(application=application, provider=provider, name=provider, secret={"key": "x"})
        for provider in ("apns", "fcm")
    ]


@pytest.fixture
def people(application):
    """`people(100, country_code="KR")` makes so many reachable subscriptions."""

    def make(count: int, *, of=application, external_id: str = "", **columns) -> list[Subscription]:
        user = AppUser.objects.create(application=of, external_id=external_id) if external_id else None
        fields = {"type": SubscriptionType.IOS_PUSH, "subscription_status": 1, "user": user, **columns}
        return Subscription.objects.bulk_create(
            Subscription(application=of, token=secrets.token_hex(32), token_digest=secrets.token_bytes(32), **fields)
            for _ in range(count)
        )

    return make


@pytest.fixture
def draft(server):
    """`draft(title="Hi")` makes a draft through the API and gives its id."""

    def make(**fields) -> str:
        body = {"name": "Spring", "title": "Hello", "body": "It is spring", "targeting_criteria": {}} | fields
        answer = server.post("campaigns", body)
        assert answer.status_code == 201, answer.content
        return answer.json()["data"]["id"]

    return make


@pytest.fixture
def launched(server, draft, credentials):
    """`launched()` makes and launches a campaign, and gives its row; people must be there before."""

    def make(**fields) -> MessageCampaign:
        campaign_id = draft(**fields)
        answer = server.post(f"campaigns/{campaign_id}/launch")
        assert answer.status_code == 200, answer.content
        return MessageCampaign.objects.get(pk=campaign_id)

    return make


def problem_fields(answer) -> set[str]:
    return {problem["field"] for problem in answer.json()["error"]["details"]}
