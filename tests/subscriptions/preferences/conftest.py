"""People with addresses, links to our pages, and a notifier that keeps what it was given."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from django.test import Client

from apps.subscriptions.models import Subscription
from apps.subscriptions.preferences import notices
from apps.subscriptions.preferences.categories import category_create
from automata_signal.errors import Conflict
from automata_signal.ids import new_id
from automata_signal.link_tokens import make_link_token


@pytest.fixture
def news(application):
    return category_create(application=application, slug="news", name_en="News", name_ko="소식", is_marketing=True)


@pytest.fixture
def security(application):
    return category_create(application=application, slug="security", name_en="Security", may_opt_out=False)


@pytest.fixture
def register(server):
    """Registers an address as the app server does; answers with its row."""

    def register(address: str = "kim@example.com", *, type: str = "Email", **fields) -> Subscription:
        answer = server.post("subscriptions", {"type": type, "token": address, "enabled": True, **fields})
        assert answer.status_code in (200, 201), answer.content
        return Subscription.objects.select_related("application", "user").get(pk=answer.json()["data"]["id"])

    return register


@dataclass
class Links:
    """Follows links as a browser or a mail program does: no cookies, and CSRF checked."""

    client: Client

    def token(self, purpose: str, row: Subscription, **fields) -> str:
        return make_link_token(purpose, subscription_id=row.pk, **fields)

    def get(self, purpose: str, token: str, query: str = "", **headers: str):
        return self.client.get(f"/e/{purpose}/{token}{query}", headers=headers)

    def post(self, purpose: str, token: str, body=None, **headers: str):
        return self.client.post(f"/e/{purpose}/{token}", body or {"confirm": "yes"}, headers=headers)


@pytest.fixture
def links(db) -> Links:
    return Links(Client(enforce_csrf_checks=True))


class KeptNotices(list):
    """A notifier; `refuses` makes it fail."""

    refuses = False

    def __call__(self, notice):
        if self.refuses:
            raise Conflict("there is no sender")
        self.append(notice)
        return new_id()


@pytest.fixture
def told(monkeypatch) -> KeptNotices:
    kept = KeptNotices()
    monkeypatch.setattr(notices, "_notifiers", [kept])
    return kept


@pytest.fixture
def set_settings(application):
    def set_settings(**values):
        application.settings = {**application.settings, **values}
        application.save()

    return set_settings
