"""Streams of server-sent events, from the process `live` over real sockets."""

from __future__ import annotations

import json
import time

import pytest
from django.utils import timezone

from apps.messaging.inbox.publishing import channel_of
from apps.messaging.inbox.publishing import client as redis_client
from apps.subscriptions.handles import HANDLE_HEADER
from tests.factories import make_user
from tests.fleet import wait_until
from tests.messaging.inbox.streams import PATH, SseClient, ask, running_live

pytestmark = pytest.mark.django_db(transaction=True)

HEARTBEAT_S, CHECK_S, QUEUE_MAX, PER_SUBSCRIPTION, PER_ADDRESS = 1.0, 1.0, 20, 2, 60


@pytest.fixture(scope="session")
def live(django_db_setup, django_db_blocker, tmp_path_factory):
    """One process for all tests: starting Django takes seconds."""
    with django_db_blocker.unblock():
        settings = {
            "LIVE_HEARTBEAT_S": str(HEARTBEAT_S),
            "LIVE_CHECK_S": str(CHECK_S),
            "LIVE_QUEUE_MAX": str(QUEUE_MAX),
            "LIVE_CONNECTIONS_PER_SUBSCRIPTION": str(PER_SUBSCRIPTION),
            "LIVE_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
        }
        with running_live(tmp_path_factory.mktemp("live"), **settings) as process:
            yield process


def open_stream(live, device, **more) -> SseClient:
    last_event_id = {"Last-Event-ID": more.pop("last_event_id")} if "last_event_id" in more else {}
    path = f"{PATH}?subscription_id={device.subscription.pk}"
    return SseClient(live.port, path, **device.headers, **last_event_id, **more)


def test_a_message_comes_to_an_open_stream(make_device, send, live):
    device = make_device()
    with open_stream(live, device) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (stream.headers["cache-control"], "ratelimit-limit" in stream.headers) == ("no-store", True)
        ready = stream.next_named("ready")
        assert (ready.data, ready.retry) == ({"unread": 0}, 3_000)
        (message_id,) = send(device, options={"layout": "banner_top"})
        event = stream.next_named("message")
        assert event.data == device.displayed()[0]
        assert (event.data["id"], event.data["layout"]) == (message_id, "banner_top")
        assert int(event.id) == pytest.approx(time.time() * 1_000, abs=60_000)


def test_all_devices_of_a_user_and_nobody_else_are_told(application, make_device, send, live):
    user = make_user(application)
    phone, tablet, other = make_device(user), make_device(user), make_device()
    with open_stream(live, phone) as first, open_stream(live, tablet) as second, open_stream(live, other) as third:
        for stream in (first, second, third):
            stream.next_named("ready")
        (item, _) = send(user)
        assert [stream.next_named("message").data["id"] for stream in (first, second)] == [item] * 2
        phone.post("inbox/read", {"ids": [item]})
        state = second.next_named("state")
        assert state.data == {"change": "read", "ids": [item], "unread": 0}
        send(other, title="for another")
        assert third.next_named("message").data["title"] == "for another"


def test_a_client_that_comes_back_gets_what_it_missed(make_device, send, live):
    device = make_device()
    send(device, title="old")
    device_items = device.inbox()
    with open_stream(live, device) as stream:
        assert stream.next_named("ready").data == {"unread": 1}
    arrived = int(timezone.datetime.fromisoformat(device_items[0]["arrived_at"]).timestamp() * 1_000)
    send(device, title="missed")
    with open_stream(live, device, last_event_id=str(arrived + 120_000)) as stream:
        stream.next_named("ready")
        send(device, title="new")
        assert stream.next_named("message").data["title"] == "new", "what is older than the margin is not repeated"
    with open_stream(live, device, last_event_id=str(arrived)) as stream:
        stream.next_named("ready")
        titles = [stream.next_named("message").data["title"] for _ in range(3)]
        assert titles == ["old", "missed", "new"], "at least once, in their order"


def test_a_message_for_other_versions_only_lies_in_the_inbox(make_device, send, live):
    old = make_device(app_version="1.0", device_language="ko")
    with open_stream(live, old) as stream:
        stream.next_named("ready")
        send(old, options={"app_version": {"min": "2"}})
        assert stream.next_named("inbox").data["app_version"] == {"min": "2", "max": None}
        send(old, options={"languages": ["ko"]})
        stream.next_named("message")


def test_a_ticket_opens_one_stream_once(make_device, send, live):
    device = make_device()
    ticket = device.post("stream-tickets").json()["data"]
    path = ticket["url"].partition("8000")[2]
    assert (path, ticket["expires_in_s"]) == (f"{PATH}?ticket={ticket['ticket']}", 30)
    with SseClient(live.port, path) as stream:
        assert stream.status == 200
        stream.next_named("ready")
        send(device)
        stream.next_named("message")
    status, _, body = ask(live.port, path)
    assert (status, json.loads(body)["error"]["code"]) == (401, "UNAUTHENTICATED")


def test_a_ticket_dies_with_the_handle(make_device, live):
    device = make_device()
    ticket = device.post("stream-tickets").json()["data"]["ticket"]
    device.subscription.handle_version += 1
    device.subscription.save()
    assert ask(live.port, f"{PATH}?ticket={ticket}")[0] == 401


def test_strangers_get_no_stream(make_device, live, stranger):
    victim, other = make_device(), make_device()
    path = f"{PATH}?subscription_id={victim.subscription.pk}"
    with_key = {"Authorization": f"Bearer {victim.key}"}
    cases = {
        "nobody": ({}, 401),
        "a made-up key": ({"Authorization": "Bearer as_pk_" + "A" * 32}, 401),
        "the key without the handle": (with_key, 404),
        "another device's handle": ({**with_key, HANDLE_HEADER: other.handle}, 404),
        "another application": (dict(stranger._headers), 404),
        "a made-up ticket": ({}, 401),
    }
    for who, (headers, expected) in cases.items():
        address = f"{PATH}?ticket=tk_{'x' * 32}" if "ticket" in who else path
        status, _, body = ask(live.port, address, **headers)
        assert (status, json.loads(body)["success"]) == (expected, False), who


def test_a_device_that_has_ended_gets_no_stream_and_loses_the_one_it_has(make_device, live):
    device = make_device()
    with open_stream(live, device) as stream:
        stream.next_named("ready")
        device.subscription.subscription_status = -71
        device.subscription.save()
        assert stream.next_named("bye").data == {"reason": "changed"}
        assert stream.next() is None
    assert ask(live.port, f"{PATH}?subscription_id={device.subscription.pk}", **device.headers)[0] == 409


def test_who_signs_out_hears_no_more_of_the_user(application, make_device, live):
    user = make_user(application)
    device = make_device(user)
    with open_stream(live, device) as stream:
        stream.next_named("ready")
        device.subscription.user = None
        device.subscription.save()
        assert stream.next_named("bye").data == {"reason": "changed"}


def test_silence_is_broken_by_a_heartbeat(make_device, live):
    with open_stream(live, make_device()) as stream:
        stream.next_named("ready")
        assert stream.comment() == b":\n\n"


def test_the_newest_streams_of_a_device_stay(make_device, live):
    device = make_device()
    streams = [open_stream(live, device) for _ in range(PER_SUBSCRIPTION)]
    for stream in streams:
        stream.next_named("ready")
    with open_stream(live, device) as newest:
        assert streams[0].next_named("bye").data == {"reason": "replaced"}
        newest.next_named("ready")
    for stream in streams:
        stream.__exit__()


def test_one_address_has_a_limited_number_of_streams(make_device, live):
    """And this many are served at once: each is told of its message."""
    devices = [make_device() for _ in range(PER_ADDRESS)]
    streams = [open_stream(live, device) for device in devices]
    for stream in streams:
        stream.next_named("ready")
    status, headers, body = ask(live.port, f"{PATH}?subscription_id={devices[0].subscription.pk}", **devices[0].headers)
    assert (status, headers["retry-after"], json.loads(body)["error"]["code"]) == (429, "30", "RATE_LIMITED")
    for device in devices:
        redis_client().publish(channel_of(device.subscription.pk), b'\nevent: message\ndata: {"id": "x"}\n\n')
    assert {stream.next_named("message").data["id"] for stream in streams} == {"x"}
    for stream in streams:
        stream.__exit__()


def test_a_client_that_takes_nothing_is_cut_off_and_the_others_go_on(make_device, live):
    slow, quick = make_device(), make_device()
    big = b'\nevent: message\ndata: {"id": "%s"}\n\n' % (b"x" * 15_000)
    with open_stream(live, slow, receive_buffer=2_048) as stuck, open_stream(live, quick) as stream:
        stream.next_named("ready")
        stuck.next_named("ready")
        for _ in range(40 * QUEUE_MAX):
            redis_client().publish(channel_of(slow.subscription.pk), big)
        redis_client().publish(channel_of(quick.subscription.pk), b'\nevent: message\ndata: {"id": "y"}\n\n')
        assert stream.next_named("message").data == {"id": "y"}
        wait_until(lambda: ended(live, "slow") >= 1, timeout_s=15)
        events = 0
        while stuck.next() is not None:
            events += 1
        assert events < 40 * QUEUE_MAX


def ended(live, reason: str) -> float:
    _, _, page = ask_page(live, "/metrics")
    lines = [line for line in page.splitlines() if line.startswith(f'automata_live_ended_total{{reason="{reason}"}}')]
    return float(lines[0].split()[-1]) if lines else 0.0


def ask_page(live, path: str) -> tuple[int, dict, str]:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{live.port}{path}", timeout=10) as answer:
        return answer.status, dict(answer.headers), answer.read().decode()


def test_many_events_at_once_are_not_too_many(make_device, live):
    device = make_device()
    with open_stream(live, device) as stream:
        stream.next_named("ready")
        with redis_client().pipeline() as pipe:
            for number in range(5 * QUEUE_MAX):
                event = b'\nevent: message\ndata: {"id": "%d"}\n\n' % number
                pipe.publish(channel_of(device.subscription.pk), event)
            pipe.execute()
        assert [stream.next_named("message").data["id"] for _ in range(5 * QUEUE_MAX)] == [
            str(number) for number in range(5 * QUEUE_MAX)
        ]


def test_it_tells_of_itself_and_serves_nothing_else(live):
    assert ask_page(live, "/readyz")[0] == 200
    page = ask_page(live, "/metrics")[2]
    assert "automata_live_connections" in page
    assert "automata_live_events_total" in page
    assert ask(live.port, "/api/v1/messages")[0] == 404
    assert ask(live.port, "/admin/")[0] == 404


def test_streams_survive_redis_and_catch_up(make_device, send, live):
    device = make_device()
    with open_stream(live, device) as stream:
        stream.next_named("ready")
        redis_client().client_kill_filter(_type="pubsub")
        send(device, title="while it was away")
        assert stream.next_named("message").data["title"] == "while it was away"


def test_a_process_that_is_stopped_says_when_to_come_back(make_device, tmp_path):
    with running_live(tmp_path) as process:
        streams = [open_stream(process, make_device()) for _ in range(5)]
        for stream in streams:
            stream.next_named("ready")
        began = time.monotonic()
        assert process.terminate() == 0
        byes = [stream.next_named("bye") for stream in streams]
        assert time.monotonic() - began < 10
        assert {bye.data["reason"] for bye in byes} == {"restart"}
        assert all(1_000 <= bye.retry <= 10_000 for bye in byes)
        assert len({bye.retry for bye in byes}) > 1
        assert [stream.next() for stream in streams] == [None] * 5
