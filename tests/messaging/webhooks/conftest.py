"""An endpoint at a receiver of our own, and things that happen to messages."""

from __future__ import annotations

import pytest
from django.utils import timezone

from apps.messaging.webhooks.delivering import deliver_due
from apps.messaging.webhooks.models import WebhookLane
from apps.messaging.webhooks.routing import route_all
from apps.messaging.webhooks.services import endpoint_create
from tests.analytics.happenings import move
from tests.factories import make_messages
from tests.messaging.webhooks.receiving import receiver


@pytest.fixture
def there():
    with receiver() as told:
        yield told


@pytest.fixture
def endpoint(transactional_db, application, there, settings):
    """An endpoint of the application that `there` is; `endpoint.plain` is its secret."""
    settings.OUTGOING_ALLOW_PRIVATE = True
    new = endpoint_create(application=application, url=there.url)
    new.endpoint.plain = new.secret
    return new.endpoint


@pytest.fixture
def sent(application):
    """`sent(5)`: messages that a provider took, with an event each."""

    def make(count: int = 1, *, of=application, **fields):
        messages = make_messages(of, ["pending"] * count, **fields)
        move("send", "pending", messages)
        return messages

    return make


def pump() -> None:
    """All that happened is written down, and all that is due is delivered."""
    assert not route_all(max_s=60)
    assert not deliver_due(max_s=60)


def be_due() -> None:
    """The back-off is over."""
    WebhookLane.objects.filter(retry_at__isnull=False).update(retry_at=timezone.now())
