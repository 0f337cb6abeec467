"""SIGTERM: a worker takes nothing more, answers what is in flight, and gives its batch back, within seconds."""

import os
import re
import signal
import time
from collections import Counter

import psycopg
import pytest
import redis
from django.db import connection

from apps.campaigns import services as campaigns
from apps.messaging import dispatch, requeue, stopping, sweeps
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import DispatchBatch, Message
from apps.messaging.queues import QueuedBatch, enqueue
from tests import fleet as fleets
from tests.factories import make_dispatch, make_subscriptions
from tests.fleet import ROOT, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

SLOW_MS = 400


def tokens(count):
    return [f"{n:064x}" for n in range(count)]


@pytest.fixture
def stopped():
    stopping.stop()
    yield
    stopping.forget()


@pytest.fixture
def batch(application, settings):
    """A batch of so many that it takes a worker half a minute, if nobody stops it."""
    settings.BATCH_SIZE = 4_000
    make_subscriptions(application, tokens(4_000))
    order = make_dispatch(application, audience={})
    (batch_id,) = dispatch_slice(dispatch=order, after_id=None, limit=10_000).batch_ids
    return DispatchBatch.objects.get(pk=batch_id)


@pytest.fixture
def working(fleet, apns, batch):
    """A worker in the middle of the batch."""
    apns.settings(latency_ms=SLOW_MS)
    fleet.environment |= {"BATCH_LEASE_S": "120", "PROVIDER_STREAMS": "20", "PROVIDER_CONNECTIONS": "2"}
    worker = fleet.start_worker("push.medium")
    wait_until(lambda: is_taken(batch))
    wait_until(lambda: apns.stats()["accepted"] >= 100)
    return worker


def is_taken(batch) -> bool:
    """Hand it over, once more if need be: kombu's Redis drops what is published before a worker has bound the queue."""
    batch.refresh_from_db()
    if batch.state == "waiting":
        enqueue([QueuedBatch(batch.pk, batch.application_id, "push", "medium")])
        time.sleep(0.3)
    return batch.state != "waiting"


def is_given_back(batch, apns):
    """Waiting and due now, with what was in flight recorded: nobody gets it twice."""
    batch.refresh_from_db()
    assert (batch.state, batch.lease_id, batch.queued_at) == ("waiting", None, None)
    states = Counter(Message.objects.values_list("status", flat=True))
    assert set(states) == {"pending", "successful"}
    assert states["successful"] == apns.stats()["accepted"]
    assert states["successful"] + states["pending"] == 4_000
    return states


def test_a_worker_that_is_told_to_stop_gives_its_batch_back(working, batch, apns):
    began = time.monotonic()
    working.terminate()
    assert working.wait(timeout=30) == 0
    assert time.monotonic() - began < 10
    states = is_given_back(batch, apns)
    assert states["pending"] > 1_000, "it did not wait for the whole batch"


def test_another_worker_finishes_it_and_nobody_gets_it_twice(working, batch, fleet, apns):
    working.terminate()
    working.wait(timeout=30)
    apns.settings(latency_ms=0)
    fleet.start_worker("push.medium,control")
    wait_until(lambda: sweeps.queue_due())
    wait_until(lambda: DispatchBatch.objects.get().state == "done")
    assert Counter(Message.objects.values_list("status", flat=True)) == {"successful": 4_000}
    assert apns.duplicates() == []


def test_a_supervisor_that_signals_the_whole_group_stops_it_as_politely(working, batch, apns):
    """systemd sends SIGTERM to the children as well, which billiard would end at once."""
    os.killpg(working.pid, signal.SIGTERM)
    working.wait(timeout=30)
    is_given_back(batch, apns)


def test_a_cold_shutdown_ends(working, batch):
    """SIGQUIT asks for no politeness: the lease gives the batch back. It only must not hang."""
    working.send_signal(signal.SIGQUIT)
    working.wait(timeout=30)


def test_a_worker_that_stops_takes_no_batch(batch, apns, stopped):
    assert not dispatch.run_batch(batch.pk)
    batch.refresh_from_db()
    assert (batch.state, batch.claims, batch.queued_at) == ("waiting", 0, None)


def test_the_work_of_the_control_queue_goes_on_elsewhere(application, server, apns, stopped, monkeypatch, settings):
    settings.BATCH_SIZE = 10
    make_subscriptions(application, tokens(100))
    body = {"name": "Sale", "title": "Hi", "body": "There", "targeting_criteria": {}}
    campaign_id = server.post("campaigns", body).json()["data"]["id"]
    server.post(f"campaigns/{campaign_id}/launch")
    assert campaigns.fan_out(campaign_id).value == "more"
    assert DispatchBatch.objects.count() == 4, "one step, and the rest is for the next worker"
    again = []
    monkeypatch.setattr(sweeps, "request_cancel", again.append)
    order = DispatchBatch.objects.first().dispatch
    type(order).objects.update(state="canceled")
    sweeps.fail_canceled(order.pk)
    assert again == [order.pk]


# --- Connections -------------------------------------------------------------------------------------------------


def test_a_worker_process_has_two_connections_one_sends_and_one_records(fleet, batch, apns):
    fleet.environment |= {"APPLICATION_NAME": "counted-worker"}
    fleet.start_worker("push.medium", concurrency=1)
    wait_until(lambda: is_taken(batch))
    most = 0
    while DispatchBatch.objects.get().state != "done":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted-worker'")
            most = max(most, cursor.fetchone()[0])
        time.sleep(0.02)
    assert most == 2


def test_a_transaction_that_hangs_and_a_lock_that_is_not_had_end(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting::int FROM pg_settings WHERE name LIKE '%_timeout'")
        limits = dict(cursor.fetchall())
    assert limits["statement_timeout"] == 60_000
    assert limits["lock_timeout"] == 30_000
    assert limits["idle_in_transaction_session_timeout"] == 60_000
    assert limits["statement_timeout"] < requeue.STATEMENT_MAX_S * 1_000


def test_the_deployments_give_a_worker_its_grace(settings):
    compose, fly = ((ROOT / name).read_text() for name in ("docker-compose.yml", "fly.toml"))
    assert f"stop_grace_period: {settings.WORKER_GRACE_S}s # WORKER_GRACE_S" in compose
    assert f'kill_timeout = "{settings.WORKER_GRACE_S}s" # WORKER_GRACE_S' in fly


def test_the_default_deployment_has_at_most_50_connections():
    """Pools of the web, two of each sending process, one of the control worker, webhooks and beat (operations.md)."""
    total = 0
    for line in (ROOT / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": ")
        if name == "web":
            workers = int(re.search(r"--workers (\d+)", command)[1])
            total += workers * int(re.search(r"DATABASE_POOL_MAX=(\d+)", command)[1])
        elif name.startswith("worker-"):
            processes = int(re.search(r"--concurrency (\d+)", command)[1])
            total += processes * (1 if name in ("worker-control", "worker-webhooks") else 2)
        elif name == "beat":
            total += 1
    assert total == 23


def test_beat_stops_when_it_is_told_to_in_the_middle_of_a_query(fleet, settings):
    """Celery's own handler would save the schedule over the connection that the query holds, and wait for ever."""
    broker = redis.Redis.from_url(settings.REDIS_URL)
    beat = fleet.start_beat()
    wait_until(lambda: broker.llen("control"))  # it ticks
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(fleets.test_database_url()) as other, connection.cursor() as cursor:
        other.execute("LOCK TABLE django_celery_beat_periodictasks")
        wait_until(lambda: cursor.execute(waits).fetchone()[0])
        beat.terminate()
        time.sleep(0.5)  # the handler has run: nothing outside tells when
        assert beat.poll() is None
    assert beat.wait(timeout=15) == 0
