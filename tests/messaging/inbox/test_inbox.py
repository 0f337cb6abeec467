"""The inbox over the API: whose it is, what lies in it, and what devices do with it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.messaging.adapters.base import Content
from apps.messaging.adapters.in_app import Placement
from apps.messaging.dispatches import dispatch_cancel
from apps.messaging.inbox import services
from apps.messaging.inbox.models import InboxItem
from apps.messaging.inbox.publishing import channel_of
from apps.messaging.inbox.publishing import client as redis_client
from apps.messaging.inbox.services import inbox_deliver, inbox_forget
from apps.messaging.inbox.shown import message_frame
from apps.messaging.models import Dispatch, Message, MessageEvent
from apps.subscriptions.services import subscription_login, user_erase, user_export
from apps.subscriptions.status import Setter
from tests.factories import make_user
from tests.messaging.test_hot_queries import taken_down

pytestmark = pytest.mark.django_db


def titles(items):
    return [item["title"] for item in items]


def test_a_message_comes_to_the_inbox_with_everything_the_sdk_needs(make_device, send):
    device = make_device()
    options = {"layout": "card", "image": "https://cdn.example.com/a.png", "priority": 2}
    (message_id,) = send(device, options=options, data={"order": 7})
    (item,) = device.inbox()
    assert item["id"] == message_id
    assert (item["title"], item["body"], item["data"]) == ("Sale", "Today", {"order": 7})
    assert (item["layout"], item["image"], item["priority"]) == ("card", options["image"], 2)
    assert item["frequency"] == {"limit": 1, "minimum_gap_s": 0, "per_session": None}
    assert (item["read_at"], item["archived_at"], item["shown_count"]) == (None, None, 0)
    assert device.unread() == 1
    assert device.displayed() == [item]


def test_a_user_with_two_devices_has_one_item_and_one_state(application, make_device, send):
    user = make_user(application)
    phone, tablet = make_device(user), make_device(user)
    send(user)
    assert Message.objects.filter(status="successful").count() == 2
    ((on_phone,), (on_tablet,)) = phone.inbox(), tablet.inbox()
    assert on_phone == on_tablet
    answer = phone.post("inbox/read", {"ids": [on_phone["id"]]}).json()["data"]
    assert answer == {"changed": 1, "unread": 0}
    assert (tablet.unread(), tablet.inbox(state="unread")) == (0, [])
    phone.post("inbox/unread", {"ids": [on_phone["id"]]})
    assert tablet.unread() == 1


@pytest.mark.parametrize("is_alike", [True, False])
def test_an_event_is_made_only_for_inboxes_that_a_stream_is_open_to(make_device, send, monkeypatch, is_alike):
    devices = [make_device() for _ in range(3)]
    ids = send(*devices)
    InboxItem.objects.all().delete()
    alike = Content("Sale", "Today", {}, {})
    contents = [alike if is_alike else Content("Sale", f"for {one}", {}, {}) for one in ids]
    made = []
    monkeypatch.setattr(
        services, "message_frame", lambda words, **times: made.append(words) or message_frame(words, **times)
    )
    with redis_client().pubsub() as listening:
        listening.subscribe(channel_of(devices[1].subscription.pk))
        assert listening.get_message(timeout=5)["type"] == "subscribe"
        later = timezone.now() + timedelta(hours=1)
        inbox_deliver([Placement(one, content, None, later) for one, content in zip(ids, contents, strict=True)])
        event = listening.get_message(timeout=5)["data"]
    assert f'"id":"{ids[1]}"'.encode() in event
    assert len(made) == 1
    assert InboxItem.objects.count() == 3


def test_a_device_without_a_user_has_an_inbox_of_its_own(application, make_device, send):
    user = make_user(application)
    anonymous, signed_in = make_device(), make_device(user)
    send(anonymous, title="for the device")
    send(signed_in, title="for the user")
    assert (titles(anonymous.inbox()), titles(signed_in.inbox())) == (["for the device"], ["for the user"])


def test_who_signs_out_no_longer_sees_the_users_inbox(application, make_device, send):
    user = make_user(application)
    device = make_device(user)
    send(user)
    device.subscription.user = None
    device.subscription.save()
    assert (device.inbox(), device.unread(), device.displayed()) == ([], 0, [])


def test_archived_items_are_put_away_and_can_be_taken_back(make_device, send):
    device = make_device()
    (first,) = send(device, title="first")
    send(device, title="second")
    device.post("inbox/archive", {"ids": [first]})
    assert titles(device.inbox()) == titles(device.displayed()) == ["second"]
    assert (titles(device.inbox(state="archived")), device.unread()) == (["first"], 1)
    device.post("inbox/unarchive", {"ids": [first]})
    assert titles(device.inbox()) == ["second", "first"]
    assert device.post("inbox/read-all").json()["data"] == {"changed": 2, "unread": 0}


def test_the_inbox_comes_in_pages(make_device, send):
    device = make_device()
    for n in range(5):
        send(device, title=str(n))
    first = device.get("inbox", limit="2").json()
    rest = device.get("inbox", limit="3", cursor=first["meta"]["next_cursor"]).json()
    assert titles(first["data"] + rest["data"]) == ["4", "3", "2", "1", "0"]
    assert rest["meta"]["next_cursor"] is None


def test_sending_twice_shows_nothing_twice(make_device, send):
    device = make_device()
    (message_id,) = send(device)
    device.post("inbox/read", {"ids": [message_id]})
    inbox_deliver([Placement(message_id, Content("x"), None, timezone.now() + timedelta(hours=1))])
    (item,) = device.inbox()
    assert item["read_at"] is not None


def test_what_is_over_or_has_not_begun_is_not_seen(make_device, send):
    device = make_device()
    tomorrow = (timezone.now() + timedelta(hours=20)).isoformat()
    send(device, title="later", options={"period": {"starts_at": tomorrow}}, ttl_s=86_400)
    send(device, title="over")
    assert titles(device.inbox()) == ["over"]
    InboxItem.objects.filter(starts_at=None).update(expires_at=timezone.now())
    assert (device.inbox(), device.unread()) == ([], 0)
    InboxItem.objects.update(starts_at=timezone.now())
    assert titles(device.inbox()) == titles(device.displayed()) == ["later"]


def test_a_canceled_dispatch_is_taken_back(make_device, send):
    device = make_device()
    send(device)
    dispatch_cancel(Dispatch.objects.get())
    assert (device.inbox(), device.unread(), device.displayed()) == ([], 0, [])


# --- Display -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "is_displayed"),
    [
        ({}, True),
        ({"layout": "inbox_only"}, False),
        ({"app_version": {"min": "2.0"}}, True),
        ({"app_version": {"min": "2.10"}}, False),
        ({"app_version": {"max": "2.9.1"}}, True),
        ({"app_version": {"max": "1"}}, False),
        ({"languages": ["ko", "en"]}, True),
        ({"languages": ["ja"]}, False),
        ({"languages": ["ko-KP"]}, False),
    ],
)
def test_each_device_displays_what_is_meant_for_it(make_device, send, options, is_displayed):
    device = make_device(app_version="2.9.0", device_language="ko-KR")
    send(device, options=options)
    assert bool(device.displayed()) == is_displayed
    assert device.unread() == 1, "it lies in the inbox all the same"


def test_the_most_urgent_comes_first_and_of_those_the_newest(make_device, send):
    device = make_device()
    for title, priority in (("b", 5), ("c", 5), ("a", 1), ("d", 9)):
        send(device, title=title, options={"priority": priority})
    assert titles(device.displayed()) == ["a", "c", "b", "d"]


def test_an_answer_that_has_not_changed_is_304(make_device, send):
    device = make_device()
    send(device)
    first = device.get("messages")
    again = device.get("messages", {"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    send(device)
    assert device.get("messages", {"If-None-Match": first["ETag"]}).status_code == 200


def test_a_device_that_has_ended_displays_nothing(make_device, send):
    device = make_device()
    send(device)
    device.subscription.subscription_status = -2
    device.subscription.save()
    assert device.displayed() == []


# --- Reports -------------------------------------------------------------------------------------------------------


def test_what_a_device_reports_becomes_receipts(make_device, send):
    device = make_device()
    (message_id,) = send(device, options={"frequency": {"limit": 2}})
    at = (timezone.now() - timedelta(seconds=1)).isoformat()
    shown = {"message_id": message_id, "type": "shown", "occurred_at": at}
    (answer,) = device.report(shown)
    assert (answer["status"], Message.objects.get().status) == ("accepted", "received")
    (again,) = device.report(shown)
    assert (again["status"], again["reason"]) == ("ignored", "already_received")
    assert InboxItem.objects.get().shown_count == 1, "told twice, shown once"
    device.report({"message_id": message_id, "type": "clicked", "button_id": "buy"})
    message = Message.objects.get()
    event = MessageEvent.objects.get(message_id=message.pk, event_type="converted")
    assert (message.status, event.metadata) == ("converted", {"in_app": "clicked", "button_id": "buy"})
    assert device.unread() == 0


def test_what_was_shown_often_enough_is_not_displayed_again_on_any_device(application, make_device, send):
    user = make_user(application)
    phone, tablet = make_device(user), make_device(user)
    send(user)
    (message,) = phone.displayed()
    phone.report({"message_id": message["id"], "type": "shown"})
    assert (phone.displayed(), tablet.displayed()) == ([], [])
    assert tablet.unread() == 1


def test_each_device_has_its_receipt_for_its_own_message(application, make_device, send):
    user = make_user(application)
    phone, tablet = make_device(user), make_device(user)
    send(user)
    late = make_device(user)
    (item,) = late.inbox()
    for device in (phone, tablet):
        device.report({"message_id": item["id"], "type": "shown"})
    received = Message.objects.filter(status="received").values_list("subscription_id", flat=True)
    assert set(received) == {phone.subscription.pk, tablet.subscription.pk}
    (answer,) = late.report({"message_id": item["id"], "type": "clicked"})
    assert (answer["status"], Message.objects.get(pk=item["id"]).status) == ("accepted", "converted")


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        (-70, "app_version_mismatch", 1),
        (-71, "disabled_by_user", -71),
        (-72, "conditions_not_met", 1),
        (-73, "storage_full", 1),
        (-74, "sdk_error", 1),
    ],
)
def test_a_device_says_why_it_displayed_nothing(make_device, send, code, reason, status):
    device = make_device()
    (message_id,) = send(device)
    (answer,) = device.report({"message_id": message_id, "type": "failed", "code": code})
    message = Message.objects.get()
    assert (answer["status"], message.status, message.error_reason) == ("accepted", "failed", reason)
    assert (message.error_details["class"], message.error_details["subscription_status"]) == ("recipient", code)
    device.subscription.refresh_from_db()
    assert device.subscription.subscription_status == status
    assert device.displayed() == []
    (again,) = device.report({"message_id": message_id, "type": "failed", "code": code})
    assert (again["status"], again["reason"]) == ("ignored", "already_final")


def test_a_failure_on_one_device_leaves_the_other_its_message(application, make_device, send):
    user = make_user(application)
    phone, tablet = make_device(user), make_device(user)
    send(user)
    (item,) = phone.displayed()
    phone.report({"message_id": item["id"], "type": "failed", "code": -73})
    assert (phone.displayed(), titles(tablet.displayed())) == ([], ["Sale"])


def test_failures_lock_their_messages_before_the_counters_that_all_share(application, make_device, send):
    device = make_device(make_user(application))
    for _ in range(2):
        send(device.subscription.user)
    events = [{"message_id": item["id"], "type": "failed", "code": -73} for item in device.displayed()]
    with taken_down() as statements:
        device.report(*events)
    shared = [number for number, sql in enumerate(statements) if "campaigns_" in sql or "UPDATE billing_" in sql]
    locks = [number for number, sql in enumerate(statements) if "messaging_message" in sql and "FOR UPDATE" in sql]
    assert locks[0] < min([*shared, len(statements)])
    assert len(events) == 2


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"type": "shown"}, "events[0].message_id"),
        ({"message_id": "x", "type": "shown"}, "events[0].message_id"),
        ({"message_id": 1, "type": "shown"}, "events[0].message_id"),
        ({"type": "opened"}, "events[0].type"),
        ({"type": "failed"}, "events[0].code"),
        ({"type": "failed", "code": -75}, "events[0].code"),
        ({"type": "shown", "code": -70}, "events[0].code"),
        ({"type": "shown", "button_id": "a"}, "events[0].button_id"),
        ({"type": "clicked", "button_id": "<b>"}, "events[0].button_id"),
        ({"type": "shown", "occurred_at": "yesterday"}, "events[0].occurred_at"),
        ({"type": "shown", "extra": 1}, "events[0].extra"),
    ],
)
def test_a_report_that_makes_no_sense_names_the_field(make_device, event, field):
    device = make_device()
    body = {"message_id": str(device.subscription.pk), **event} if field != "events[0].message_id" else event
    answer = device.post("events", {"events": [body]})
    assert answer.status_code == 400, answer.content
    assert field in {problem["field"] for problem in answer.json()["error"]["details"]}


# --- Strangers -----------------------------------------------------------------------------------------------------

ROUTES = [
    ("GET", "inbox", None),
    ("GET", "inbox/unread-count", None),
    ("GET", "messages", None),
    ("GET", "stream", None),
    ("POST", "inbox/read", {"ids": []}),
    ("POST", "inbox/read-all", {}),
    ("POST", "stream-tickets", {}),
    ("POST", "events", {"events": []}),
]


@pytest.mark.parametrize(("method", "route", "body"), ROUTES)
def test_without_the_handle_a_publishable_key_sees_nothing(make_device, send, sdk, method, route, body):
    victim, other = make_device(), make_device()
    send(victim)
    answers = [
        sdk.request(method, victim.path(route), body or b""),
        sdk.request(method, victim.path(route), body or b"", **{"X-Subscription-Handle": other.handle}),
        sdk.request(method, victim.path(route), body or b"", **{"X-Subscription-Handle": "sh_" + "A" * 43}),
    ]
    assert [answer.status_code for answer in answers] == [404] * 3


def test_ids_of_another_inbox_change_nothing(make_device, send):
    victim, intruder = make_device(), make_device()
    (message_id,) = send(victim)
    assert intruder.post("inbox/read", {"ids": [message_id]}).json()["data"]["changed"] == 0
    (answer,) = intruder.report({"message_id": message_id, "type": "clicked"})
    assert (answer["status"], answer["reason"]) == ("rejected", "not_found")
    intruder.report({"message_id": message_id, "type": "failed", "code": -71})
    intruder.subscription.refresh_from_db()
    assert (victim.unread(), Message.objects.get().status) == (1, "successful")
    assert intruder.subscription.subscription_status == 1


def test_another_applications_server_sees_nothing(make_device, send, stranger):
    device = make_device()
    send(device)
    assert stranger.get(device.path("inbox")).status_code == 404
    assert stranger.post(device.path("inbox/read-all")).status_code == 404


# --- Forgetting ----------------------------------------------------------------------------------------------------


def test_an_erased_person_leaves_no_inbox(application, make_device, send):
    user = make_user(application)
    make_device(user)
    bystander = make_device()
    send(user, title="for you alone")
    send(bystander)
    exported = user_export(user=user)
    assert titles(exported["inbox"]) == ["for you alone"]
    user_erase(user=user)
    assert titles(bystander.inbox()) == ["Sale"]
    assert InboxItem.objects.count() == 1


def test_what_nobody_can_see_any_more_is_deleted(make_device, send):
    device = make_device()
    send(device)
    assert inbox_forget() == 0
    assert inbox_forget(now=timezone.now() + timedelta(days=30)) == 1
    assert InboxItem.objects.count() == 0


@pytest.mark.parametrize(
    ("setter", "is_required", "seen"),
    [(Setter.DEVICE, False, []), (Setter.DEVICE, True, ["Old"]), (Setter.PERSON, False, ["Old"])],
)
def test_who_says_that_they_are_somebody_does_not_read_what_came_before(
    application, make_device, send, monkeypatch, setter, is_required, seen
):
    user = make_user(application)
    make_device(user)
    send(user, title="Old")
    application.settings["identity_verification"] = {"required": is_required}
    application.save()
    monkeypatch.setattr("apps.subscriptions.services.subscriptions.verify_identity", lambda **_: None)
    device = make_device()
    subscription_login(subscription=device.subscription, external_id=user.external_id, setter=setter)
    assert (titles(device.inbox()), titles(device.displayed()), device.unread()) == (seen, seen, len(seen))
    assert device.post("inbox/read-all", {}).json()["data"]["changed"] == len(seen)
    send(user, title="New")
    assert titles(device.inbox()) == ["New", *seen]
