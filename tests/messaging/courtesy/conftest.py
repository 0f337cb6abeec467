"""People who agreed, refused, or said nothing, and clocks around the present time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.messaging import dispatch
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import Message
from apps.subscriptions.preferences.categories import category_create
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_set
from apps.subscriptions.preferences.subjects import Subject
from tests.factories import make_dispatch, make_subscription, make_user


@pytest.fixture
def set_settings(application):
    def set_settings(**values):
        application.settings = {**application.settings, **values}
        application.save()

    return set_settings


@pytest.fixture
def news(application):
    return category_create(application=application, slug="news", name_en="News", is_marketing=True)


@pytest.fixture
def person(application):
    """`person("kim", given=True)`: a user with a phone, and what they agreed to on push."""

    def make(name: str, *, given: bool | None = None, night: bool | None = None, categories=None, **fields):
        user = make_user(application, name, **fields.pop("properties", {}))
        row = make_subscription(application, user=user, token=name.encode().hex().rjust(64, "0"), **fields)
        choices = Choices(
            {"push": MarketingChoice(given, night)} if given is not None else {},
            {"push": categories} if categories else {},
        )
        preferences_set(subject=Subject.of_user(user), choices=choices, source="api")
        return row

    return make


@pytest.fixture
def launch(application):
    """Cut a dispatch to everybody into batches; `purpose`, `category` and the like are its own."""

    def launch(**fields):
        order = make_dispatch(application, audience={}, **fields)
        return order, dispatch_slice(dispatch=order, after_id=None, limit=100_000).batch_ids

    return launch


@pytest.fixture
def run():
    def run(batch_ids):
        return [dispatch.run_batch(batch_id) for batch_id in batch_ids]

    return run


def by_name() -> dict[str, tuple[str, str | None]]:
    """State and reason of each message, by its user."""
    rows = Message.objects.select_related("user")
    return {row.user.external_id: (row.status, row.error_reason) for row in rows}


def clock(**shift) -> str:
    """The present time in Seoul, and then some, as settings say it."""
    return (timezone.now() + timedelta(hours=9) + timedelta(**shift)).strftime("%H:%M")
