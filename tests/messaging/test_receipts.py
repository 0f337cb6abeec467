"""`POST /api/v1/receipts`: what devices report, and what must not be believed."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from apps.messaging.models import Message, MessageEvent
from apps.subscriptions.models import Subscription
from tests.factories import handle_of, make_messages


def event(message, type="received", **fields):
    return {"message_id": str(message.pk), "type": type, "handle": handle_of(message), **fields}


def post(client, *events):
    response = client.post("receipts", {"events": list(events)})
    assert response.status_code == 200, response.content
    return response.json()["data"]


def states(*messages):
    stored = {m.pk: m.status for m in Message.objects.all()}
    return [stored[m.pk] for m in messages]


def timeline(message):
    events = MessageEvent.objects.filter(message_id=message.pk)
    return [e.event_type for e in sorted(events, key=lambda e: e.occurred_at)]


def test_a_received_message_is_received(application, sdk):
    (message,) = make_messages(application, ["successful"])
    answer = post(sdk, event(message))
    assert (answer["accepted"], answer["ignored"], answer["rejected"]) == (1, 0, 0)
    assert states(message) == ["received"]
    assert timeline(message) == ["received"]


def test_a_tap_of_a_successful_message_records_received_and_converted(application, sdk):
    (message,) = make_messages(application, ["successful"])
    post(sdk, event(message, "converted"))
    assert states(message) == ["converted"]
    assert sorted(timeline(message)) == ["converted", "received"]


@pytest.mark.parametrize("early", ["pending", "errored"])
def test_a_receipt_before_the_providers_answer_is_recorded_is_not_lost(application, sdk, early):
    (message,) = make_messages(application, [early])
    post(sdk, event(message))
    assert states(message) == ["received"]
    assert sorted(timeline(message)) == ["received", "successful"]


@pytest.mark.parametrize(
    ("state", "type", "reason"),
    [
        ("received", "received", "already_received"),
        ("converted", "received", "already_converted"),
        ("converted", "converted", "already_converted"),
        ("failed", "received", "message_failed"),
        ("failed", "converted", "message_failed"),
    ],
)
def test_what_the_table_does_not_allow_is_ignored(application, sdk, state, type, reason):
    (message,) = make_messages(application, [state])
    answer = post(sdk, event(message, type))
    assert [(r["status"], r["reason"]) for r in answer["results"]] == [("ignored", reason)]
    assert states(message) == [state]


def test_both_events_in_one_call_in_any_order(application, sdk):
    first, second = make_messages(application, ["successful", "successful"])
    answer = post(sdk, event(first), event(first, "converted"), event(second, "converted"), event(second))
    assert answer["accepted"] == 4
    assert states(first, second) == ["converted", "converted"]


def test_the_same_event_twice_in_one_call_is_a_duplicate(application, sdk):
    (message,) = make_messages(application, ["successful"])
    answer = post(sdk, event(message), event(message))
    assert [r["reason"] for r in answer["results"]] == ["", "duplicate"]


def test_knowing_the_id_is_not_enough(application, sdk):
    """Without the handle, with a neighbour's handle, and for an unknown message the answer is the same."""
    mine, neighbours = make_messages(application, ["successful", "successful"])
    answer = post(
        sdk,
        {"message_id": str(mine.pk), "type": "received"},
        event(mine, handle=handle_of(neighbours)),
        event(mine, handle="sh_" + "x" * 43),
        event(mine, message_id=str(uuid4())),
    )
    assert {(r["status"], r["reason"]) for r in answer["results"]} == {("rejected", "not_found")}
    assert states(mine, neighbours) == ["successful", "successful"]


def test_another_applications_message_is_not_found(application, stranger):
    (message,) = make_messages(application, ["successful"])
    answer = post(stranger, event(message))
    assert answer["results"][0]["reason"] == "not_found"
    assert states(message) == ["successful"]


def test_an_app_server_reports_without_handles(application, server):
    (message,) = make_messages(application, ["successful"])
    assert post(server, {"message_id": str(message.pk), "type": "received"})["accepted"] == 1


def test_one_handle_serves_all_events_of_a_device(application, sdk):
    (message,) = make_messages(application, ["successful"])
    body = {"handle": handle_of(message), "events": [{"message_id": str(message.pk), "type": "received"}]}
    assert sdk.post("receipts", body).json()["data"]["accepted"] == 1


def test_a_bad_event_costs_no_other(application, sdk):
    (message,) = make_messages(application, ["successful"])
    bad = [
        {"message_id": "nonsense", "type": "received"},
        {"message_id": str(message.pk), "type": "exploded"},
        {"message_id": str(message.pk), "type": "received", "occurred_at": "yesterday"},
        {"message_id": str(message.pk), "type": "received", "metadata": [1]},
        {"message_id": str(message.pk), "type": "received", "metadata": {"x": "y" * 3_000}},
        {"message_id": str(message.pk), "type": "received", "surprise": 1},
        {"message_id": str(message.pk), "type": "received", "handle": 7},
        {"message_id": 12, "type": "received"},
        "text",
        None,
    ]
    answer = post(sdk, *bad, event(message))
    assert [r["status"] for r in answer["results"]] == ["rejected"] * len(bad) + ["accepted"]
    fields = [r["reason"].split(":")[0] for r in answer["results"][:8]]
    assert fields == ["message_id", "type", "occurred_at", "metadata", "metadata", "surprise", "handle", "message_id"]


def test_more_than_500_events_are_refused(sdk):
    body = {"events": [{"message_id": str(uuid4()), "type": "received"}] * 501}
    response = sdk.post("receipts", body)
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["field"] == "events"


def test_a_devices_clock_cannot_put_a_receipt_into_the_future_or_before_the_message(application, sdk):
    early, late = make_messages(application, ["successful", "successful"])
    tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
    post(sdk, event(early, occurred_at="1970-01-01T00:00:00Z"), event(late, occurred_at=tomorrow))
    stored = {m.pk: m for m in Message.objects.all()}
    assert stored[early.pk].received_at == stored[early.pk].created_at
    assert stored[late.pk].received_at <= timezone.now()


def test_a_time_without_zone_is_utc(application, sdk):
    (message,) = make_messages(application, ["successful"])
    Message.objects.update(created_at=datetime(2026, 1, 1, tzinfo=UTC))
    post(sdk, event(message, occurred_at="2026-01-02T03:04:05"))
    assert Message.objects.get().received_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_subscription_counts_what_it_received(application, sdk):
    (message,) = make_messages(application, ["successful"])
    post(sdk, event(message), event(message, "converted"))
    post(sdk, event(message))
    row = Subscription.objects.get(pk=message.subscription_id)
    assert (row.total_messages_received, row.total_messages_converted) == (1, 1)
    assert row.last_active_at is not None


def test_metadata_is_kept_with_the_event(application, sdk):
    (message,) = make_messages(application, ["successful"])
    post(sdk, event(message, metadata={"network": "wifi"}))
    assert MessageEvent.objects.get(message_id=message.pk).metadata == {"network": "wifi"}


def test_the_number_of_statements_does_not_grow_with_the_events(application, sdk, django_assert_max_num_queries):
    messages = make_messages(application, ["successful"] * 200)
    events = [event(m, "converted") for m in messages]
    with django_assert_max_num_queries(16):
        assert post(sdk, *events)["accepted"] == 200
