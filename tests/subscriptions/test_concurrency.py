"""Many at once: each outcome is one that some order of single calls would have given."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection
from django.utils import timezone

from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.services import SubscriptionEnd, subscriptions_count_receipts, subscriptions_end

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 8


def at_once(calls):
    """The answers of all calls, which start together, each on a connection of its own."""
    start = threading.Barrier(len(calls))

    def run(call):
        try:
            start.wait(timeout=20)
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_one_token_registered_by_many_at_once_is_one_subscription(sdk):
    for round_number in range(4):
        body = {"type": "iOSPush", "token": f"{round_number:02x}" * 32, "enabled": True}
        answers = at_once([lambda body=body: sdk.post("subscriptions", body)] * THREADS)
        assert Counter(answer.status_code for answer in answers) == {201: 1, 200: THREADS - 1}
        assert len({answer.json()["data"]["id"] for answer in answers}) == 1
    assert Subscription.objects.count() == 4
    assert Counter(SubscriptionEvent.objects.values_list("event_type", flat=True)) == {"registered": 4, "subscribed": 4}


def test_many_devices_that_log_in_as_one_new_user_make_one_user(make_device):
    devices = [make_device() for _ in range(THREADS)]
    answers = at_once([lambda device=device: device.login("anna") for device in devices])
    assert [answer.status_code for answer in answers] == [200] * THREADS
    assert AppUser.objects.get().subscriptions.count() == THREADS


def test_a_user_created_by_many_at_once_is_created_once(server):
    answers = at_once([lambda: server.post("users", {"external_id": "anna"})] * THREADS)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: THREADS - 1}


def test_tags_and_properties_set_at_once_are_all_kept(server, device):
    user = server.post("users", {"external_id": "anna"}).json()["data"]
    calls = [lambda n=n: device.request("PATCH", "/tags", {"tags": {f"t{n}": n}}) for n in range(THREADS // 2)]
    calls += [
        lambda n=n: server.patch(f"users/{user['id']}", {"properties": {f"p{n}": n}}) for n in range(THREADS // 2)
    ]
    assert {answer.status_code for answer in at_once(calls)} == {200}
    assert len(Subscription.objects.get().tags) == len(AppUser.objects.get().properties) == THREADS // 2


def test_one_token_wanted_by_many_subscriptions_goes_to_one_of_them(make_device, sdk):
    devices = [make_device() for _ in range(4)]
    token = "ee" * 32
    calls = [lambda device=device: device.patch(token=token) for device in devices]
    calls += [lambda: sdk.post("subscriptions", {"type": "iOSPush", "token": token})] * 2
    codes = {answer.status_code for answer in at_once(calls)}
    assert codes <= {200, 201, 404}
    live = [row for row in Subscription.objects.all() if row.token == token]
    assert len(live) == 1


def test_two_subscriptions_that_swap_tokens_do_not_wait_for_each_other(make_device):
    for _ in range(5):
        one, two = make_device(), make_device()
        answers = at_once([lambda a=one, b=two: a.patch(token=b.token), lambda a=two, b=one: a.patch(token=b.token)])
        assert {answer.status_code for answer in answers} <= {200, 404}
        assert 200 in {answer.status_code for answer in answers}


def test_logins_against_an_erasure_end_in_an_order(server, make_device):
    for round_number in range(5):
        external_id = f"anna {round_number}"
        user = server.post("users", {"external_id": external_id}).json()["data"]
        devices = [make_device() for _ in range(4)]
        devices[0].login(external_id)
        calls = [partial(device.login, external_id) for device in devices]
        calls += [partial(server.post, f"users/{user['id']}/erase")]
        codes = [answer.status_code for answer in at_once(calls)]
        assert set(codes) <= {200, 204, 404}, codes
        assert codes[-1] == 204
        erased = AppUser.with_archived.get(pk=user["id"])
        assert erased.external_id == f"erased:{erased.pk}"
        assert not Subscription.objects.filter(user=erased).exists()


def test_slices_that_share_subscriptions_do_not_deadlock(application, make_device):
    ids = [Subscription.objects.get(pk=make_device().id).pk for _ in range(60)]

    def end(seed: int):
        mine = random.Random(seed).sample(ids, 40)
        ends = [SubscriptionEnd(key, -10, "Unregistered") for key in mine]
        return subscriptions_end(ends=ends, application_id=application.pk, occurred_at=timezone.now())

    def count(seed: int):
        mine = random.Random(seed).sample(ids, 40)
        return subscriptions_count_receipts(
            received=dict.fromkeys(mine, 1), converted={}, last_active_at=timezone.now(), application_id=application.pk
        )

    calls = [lambda n=n: end(n) for n in range(4)] + [lambda n=n: count(n) for n in range(4)]
    results = at_once(calls)
    ended = Subscription.objects.filter(subscription_status=-10).count()
    assert sum(results[:4]) == ended == SubscriptionEvent.objects.filter(source="provider").count()
    assert sum(row.total_messages_received for row in Subscription.objects.all()) == 160
