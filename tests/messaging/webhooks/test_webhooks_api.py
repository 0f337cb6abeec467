"""`/api/v1/webhooks` and the console's pages: what may be made, what is shown, and what is refused."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from apps.messaging.webhooks.models import WebhookDelivery, WebhookEndpoint
from apps.messaging.webhooks.payloads import EVENT_TYPES, TEST_TYPE
from apps.messaging.webhooks.services import endpoint_create
from apps.tenants.models import Operator
from automata_signal.encryption import keyring
from tests.docs.markdown import codes, table, text
from tests.messaging.webhooks.conftest import pump
from tests.monitoring.series import value

URL = "https://hooks.example/events?of=shop"


def made(server, **fields):
    answer = server.post("webhooks", {"url": URL} | fields)
    assert answer.status_code == 201, answer.content
    return answer.json()["data"]


def test_the_secret_is_answered_once_and_stored_encrypted(server, application):
    new = made(server, description="Shop", event_types=["subscription.*", "message.failed"], channels=["push"])
    assert new["secret"].startswith("whsec_")
    assert new["event_types"] == ["subscription.*", "message.failed"]
    for answer in (server.get("webhooks"), server.get(f"webhooks/{new['id']}"), server.patch(f"webhooks/{new['id']}")):
        assert answer.status_code == 200
        assert new["secret"] not in answer.content.decode()
    rotated = server.post(f"webhooks/{new['id']}/rotate-secret", {"overlap_s": 60}).json()["data"]
    assert rotated["secret"] != new["secret"]
    assert rotated["previous_until"]
    row = WebhookEndpoint.objects.get()
    assert (row.secret, row.previous_secret) == (rotated["secret"], new["secret"])
    stored = WebhookEndpoint.objects.raw("SELECT id, secret::text AS stored FROM messaging_webhookendpoint")[0].stored
    assert stored.startswith(f"\\x{keyring().current_id:02x}")
    assert WebhookEndpoint.history.count() == 3


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": "http://hooks.example/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "url"),
        ({"url": "https://[::ffff:127.0.0.1]/"}, "url"),
        ({"url": "https://user:secret@hooks.example/"}, "url"),
        ({"url": "https://hooks.example:6379/"}, "url"),
        ({"url": "https://hooks.example/\r\nX-Evil: 1"}, "url"),
        ({"url": ""}, "url"),
        ({}, "url"),
        ({"url": URL, "event_types": ["message.eaten"]}, "event_types"),
        ({"url": URL, "event_types": "message.failed"}, "event_types"),
        ({"url": URL, "channels": ["pigeon"]}, "channels[0]"),
        ({"url": URL, "description": "x" * 201}, "description"),
        ({"url": URL, "secret": "mine"}, "secret"),
    ],
)
def test_what_cannot_be_a_webhook_is_refused_by_its_field(server, given, field):
    answer = server.post("webhooks", given)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == field
    assert not WebhookEndpoint.objects.exists()


def test_an_application_has_so_many_webhooks_and_no_more(server, stranger, settings):
    settings.WEBHOOK_ENDPOINTS_MAX = 2
    first = made(server)
    made(server)
    answer = server.post("webhooks", {"url": URL})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "TOO_MANY_WEBHOOKS")
    made(stranger)
    assert server.delete(f"webhooks/{first['id']}").status_code == 204
    made(server)


def test_a_strangers_key_gets_nothing(server, stranger):
    webhook = made(server)
    test = server.post(f"webhooks/{webhook['id']}/test").json()["data"]
    routes = [
        *(("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate-secret"), ("POST", "/test")),
        *(("GET", "/deliveries"), ("POST", f"/deliveries/{test['id']}/replay")),
        ("POST", "/replay"),
    ]
    mine = made(stranger)
    for method, rest in routes:
        body = {"since": "2026-01-01T00:00:00Z", "until": "2030-01-01T00:00:00Z"} if rest == "/replay" else {}
        answer = stranger.request(method, f"webhooks/{webhook['id']}{rest}", body if method != "GET" else b"")
        assert answer.status_code == 404, (method, rest)
    across = stranger.post(f"webhooks/{mine['id']}/deliveries/{test['id']}/replay")
    assert across.status_code == 404
    assert [row["id"] for row in stranger.get("webhooks").json()["data"]] == [mine["id"]]


@pytest.mark.django_db(transaction=True)
def test_what_was_delivered_can_be_looked_up_and_sent_again(server, endpoint, there, sent):
    sent(3)
    pump()
    tested = server.post(f"webhooks/{endpoint.pk}/test")
    assert tested.status_code == 202
    refused = server.post(f"webhooks/{endpoint.pk}/deliveries/{tested.json()['data']['id']}/replay")
    assert refused.json()["error"]["code"] == "DELIVERY_WAITS"
    pump()
    page = server.get(f"webhooks/{endpoint.pk}/deliveries?state=delivered").json()["data"]
    assert page[0]["kind"] == "test"
    assert sum(len(row["event_ids"]) for row in page) == 4
    assert (page[0]["status"], page[0]["attempts"], page[0]["error"]) == (200, 1, "")
    again = server.post(f"webhooks/{endpoint.pk}/deliveries/{page[-1]['id']}/replay").json()["data"]
    assert again["replay_of"] == page[-1]["id"]
    period = {"since": "2026-01-01T00:00:00Z", "until": "2090-01-01T00:00:00Z"}
    made_again = server.post(f"webhooks/{endpoint.pk}/replay", period).json()["data"]["deliveries"]
    assert made_again == len(page) - 1  # the test is none
    waiting = server.get(f"webhooks/{endpoint.pk}").json()["data"]
    assert waiting["waiting_deliveries"] == made_again + 1
    assert waiting["oldest_waiting_at"]
    pump()
    assert server.get(f"webhooks/{endpoint.pk}/deliveries?state=waiting").json()["data"] == []
    wrong = server.post(f"webhooks/{endpoint.pk}/replay", {"since": period["until"], "until": period["since"]})
    assert wrong.json()["error"]["details"][0]["field"] == "until"


def test_a_role_without_the_scope_does_not_see_the_address(server, application):
    made(server)
    assert made(server)["url"] == URL
    key = server.post("keys", {"name": "reader", "kind": "secret", "scopes": ["messages:read"]}).json()["data"]["key"]
    assert type(server)(key).get("webhooks").status_code == 403


@pytest.mark.django_db(transaction=True)
def test_the_console_makes_an_endpoint_shows_its_secret_once_and_sends_a_test(application, there, settings):
    settings.OUTGOING_ALLOW_PRIVATE = True
    client = Client()
    client.force_login(Operator.objects.create_superuser("root@example.com", "x"))
    add = reverse("admin:messaging_webhookendpoint_add")
    given = {"application": str(application.pk), "url": there.url, "event_types": ["message.*"], "description": "Shop"}
    refused = client.post(add, given | {"url": "ftp://hooks.example/"})
    assert "url" in refused.context["adminform"].form.errors
    answer = client.post(add, given)
    row = WebhookEndpoint.objects.get()
    assert row.secret in answer.content.decode()
    assert row.event_types == ["message.*"]
    page = reverse("admin:messaging_webhookendpoint_change", args=[row.pk])
    assert row.secret not in client.get(page).content.decode()
    client.post(reverse("admin:messaging_webhookendpoint_do", args=[row.pk, "test"]))
    pump()
    assert there.events[0]["type"] == TEST_TYPE
    delivery = WebhookDelivery.objects.get()
    client.post(reverse("admin:messaging_webhookdelivery_do", args=[delivery.pk, "replay"]))
    pump()
    assert len(there.taken) == 2
    client.post(page, {"url": there.url, "description": "Off", "event_types": []})
    row.refresh_from_db()
    assert (row.is_active, row.description, row.event_types) == (False, "Off", [])
    client.post(reverse("admin:messaging_webhookendpoint_do", args=[row.pk, "enable"]))
    row.refresh_from_db()
    assert row.is_active


@pytest.mark.django_db(transaction=True)
def test_prometheus_is_told_who_lags_and_what_was_taken(client, application, endpoint, there, sent):
    before = value(client.get("/metrics").content, "automata_webhook_events_total")
    sent(3)
    pump()
    there.answer = lambda posted: 500
    sent(1)
    pump()
    endpoint_create(application=application, url=URL)
    page = client.get("/metrics").content
    labels = {"application": str(application.pk), "webhook": str(endpoint.pk)}
    assert value(page, "automata_webhook_lag_seconds", **labels) >= 0
    assert value(page, "automata_webhook_reader_age_seconds") < 60
    assert value(page, "automata_webhooks_disabled") == 0
    assert value(page, "automata_webhook_events_total") == before + 3
    assert value(page, "automata_webhook_posts_total", outcome="refused") >= 1


def test_the_page_of_the_documentation_has_every_event():
    shown = {codes(row["Type"])[0] for row in table(text("webhooks.md"), "Events")}
    assert shown == {*EVENT_TYPES, TEST_TYPE}
