"""The suppression list: nothing that is on it is subscribed, whoever asks for it and how."""

from __future__ import annotations

import pytest
from django.utils import timezone

from apps.subscriptions.models import Subscription
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_set
from apps.subscriptions.preferences.models import ConsentEvent, MarketingConsent, Suppression, SuppressionEvent
from apps.subscriptions.preferences.subjects import Subject
from apps.subscriptions.services import SubscriptionEnd, subscriptions_end
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def suppress(server, address="kim@example.com", **fields):
    return server.post("suppressions", {"type": "Email", "address": address, **fields})


def status_of(row) -> int:
    return Subscription.with_archived.get(pk=row.pk).subscription_status


@pytest.mark.parametrize(
    ("reason", "status"),
    [("hard_bounce", -42), ("complaint", -44), ("unsubscribed", -45), ("manual", -31), ("import", -31)],
)
def test_a_suppressed_address_is_registered_as_ended(server, register, reason, status):
    assert suppress(server, reason=reason).status_code == 201
    assert register().subscription_status == status
    assert register("lee@example.com").subscription_status == 1


def test_adding_an_address_ends_its_subscription_and_is_done_once(server, register):
    row = register()
    answer = suppress(server, "kim@EXAMPLE.com")
    assert answer.json()["data"]["address"] == "k…@example.com"
    assert status_of(row) == -31
    assert suppress(server).status_code == 200
    assert SuppressionEvent.objects.count() == 1
    refused = server.patch(f"subscriptions/{row.pk}", {"enabled": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "SUPPRESSED")
    assert server.patch(f"subscriptions/{row.pk}", {"tags": {"a": 1}}).status_code == 200


def test_moving_to_a_suppressed_address_ends_the_subscription(server, register):
    suppress(server, "lee@example.com", reason="complaint")
    row = register()
    assert server.patch(f"subscriptions/{row.pk}", {"token": "lee@example.com"}).status_code == 200
    assert status_of(row) == -44


def test_an_import_does_not_subscribe_what_is_suppressed(server, application):
    from apps.subscriptions.imports.services import ImportOptions, import_create
    from apps.subscriptions.imports.steps import import_run

    suppress(server, reason="complaint")
    run = import_create(
        application=application,
        kind="subscriptions",
        file_name="people.csv",
        chunks=[b"type,token,enabled\nEmail,kim@example.com,true\nEmail,lee@example.com,true\n"],
        options=ImportOptions(mode="apply", resubscribe=True),
        by="tests",
    )
    while import_run(run.pk):
        pass
    run.refresh_from_db()
    assert (run.created_rows, run.kept_rows) == (2, 1)
    assert sorted(Subscription.objects.values_list("subscription_status", flat=True)) == [-44, 1]


def test_taking_an_address_off_needs_a_reason_and_subscribes_nobody(server, register):
    suppress(server, reason="complaint")
    row = register()
    key = Suppression.objects.get().pk
    for note in ("", "short"):
        assert server.post(f"suppressions/{key}/remove", {"note": note}).status_code == 400
    assert server.post(f"suppressions/{key}/remove", {"note": "she wrote to us on Monday"}).status_code == 204
    assert status_of(row) == -44
    event = SuppressionEvent.objects.get(is_removal=True)
    assert event.note == "she wrote to us on Monday"
    assert event.by.startswith("key as_sk_")
    assert register().subscription_status == 1


def test_a_list_is_imported_by_csv_and_what_is_no_address_is_named(server, register):
    row = register()
    lines = ("address;type;reason;note", "kim@example.com;Email;complaint;by post", "+821012345678;SMS;;", "x;Email;;")
    content = "\ufeff" + "\r\n".join(lines)
    answer = server.post("suppressions/import", {"content": content}).json()["data"]
    assert (answer["added"], answer["known"], answer["refused"]) == (2, 0, 1)
    assert answer["problems"] == [{"field": "line 4.address", "message": "is not an e-mail address"}]
    assert status_of(row) == -44
    again = server.post("suppressions/import", {"content": content}).json()["data"]
    assert (again["added"], again["known"]) == (0, 2)
    bad = server.post("suppressions/import", {"content": "email\nkim@example.com\n"})
    assert (bad.status_code, bad.json()["error"]["details"][0]["field"]) == (400, "content")


def test_the_list_is_found_by_address_and_is_one_applications_own(server, stranger):
    suppress(server)
    assert len(server.get("suppressions?type=Email&address=kim@example.com").json()["data"]) == 1
    assert server.get("suppressions?type=Email&address=lee@example.com").json()["data"] == []
    assert stranger.get("suppressions").json()["data"] == []
    key = Suppression.objects.get().pk
    assert stranger.post(f"suppressions/{key}/remove", {"note": "a good reason"}).status_code == 404


def test_what_a_provider_says_comes_on_the_list_and_withdraws_consent(application, register):
    user = make_user(application, "kim")
    bounced, complained, full = (register(f"{name}@example.com", external_id="kim") for name in ("a", "b", "c"))
    choice = MarketingChoice(given=True)
    preferences_set(subject=Subject.of_user(user), choices=Choices({"email": choice}), source="api")
    ends = [
        SubscriptionEnd(bounced.pk, -42, "550"),
        SubscriptionEnd(complained.pk, -44, "complaint"),
        SubscriptionEnd(full.pk, -43, "452"),
    ]
    now = timezone.now()
    assert subscriptions_end(ends=ends, application_id=application.pk, occurred_at=now) == 3
    assert dict(Suppression.objects.values_list("masked_address", "reason")) == {
        "a…@example.com": "hard_bounce",
        "b…@example.com": "complaint",
    }
    assert not MarketingConsent.objects.get().is_given
    event = ConsentEvent.objects.last()
    assert (event.event_type, event.source, event.subscription_id) == ("withdrawn", "provider", complained.pk)
    subscriptions_end(ends=ends, application_id=application.pk, occurred_at=now)
    assert Suppression.objects.count() == 2
    assert ConsentEvent.objects.count() == 2


def test_a_complaint_takes_the_place_of_another_reason(application, register, server):
    row = register()
    suppress(server, reason="unsubscribed")
    ends = [SubscriptionEnd(row.pk, -44, "complaint")]
    subscriptions_end(ends=ends, application_id=application.pk, occurred_at=timezone.now())
    assert Suppression.objects.get().reason == "complaint"
    suppress(server, reason="manual")
    assert Suppression.objects.get().reason == "complaint"
