"""`/metrics`: who may read it, and what it says of requests, messages, batches, quotas and what does not answer."""

from __future__ import annotations

import os
import signal
import socket
from datetime import timedelta
from uuid import UUID

import httpx
import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from apps.billing.models import MessageQuota
from apps.messaging import dispatch, sweeps
from apps.messaging.adapters.registry import all_adapters
from apps.messaging.counting import REASONS, known_reason
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import BatchState, DispatchBatch
from apps.messaging.queues import QueuedBatch, enqueue
from apps.tenants.models import BreakerCause, ChannelCredential
from apps.tenants.services import breaker_open
from automata_signal import exposition, figures
from tests import fleet as fleets
from tests.api.test_without_parts import GONE, running_api
from tests.factories import make_dispatch, make_subscriptions, make_user
from tests.fleet import wait_until
from tests.monitoring.series import labels_of, samples, value

TOKEN = "a-token-that-only-prometheus-has"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """What is looked up is looked up each time."""
    monkeypatch.setattr(figures, "KEPT_S", 0.0)


@pytest.fixture
def page(client, db):
    return lambda: client.get("/metrics").content


@pytest.fixture
def closed(settings):
    settings.METRICS_NETWORKS = []


# --- Who may read it ---------------------------------------------------------------------------------------------


def test_nobody_reads_it_unless_that_was_set(client, closed):
    answer = client.get("/metrics", headers={"authorization": "Bearer "})
    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize(("sent", "status"), [(TOKEN, 200), ("another-token-of-some-length", 404), ("", 404)])
def test_prometheus_sends_its_token(client, db, closed, settings, sent, status):
    settings.METRICS_TOKEN = TOKEN
    assert client.get("/metrics", headers={"authorization": f"Bearer {sent}"}).status_code == status


@pytest.mark.parametrize(
    ("address", "status"),
    [("10.1.2.3", 200), ("::ffff:10.1.2.3", 200), ("fdaa::7", 200), ("11.1.2.3", 404), ("", 404), ("10.1.2.3.4", 404)],
)
def test_a_network_can_be_let_in(client, db, settings, address, status):
    settings.METRICS_NETWORKS = ["10.0.0.0/8", "fdaa::/16"]
    assert client.get("/metrics", REMOTE_ADDR=address).status_code == status


def test_nobody_chooses_the_address_they_come_from(client, db, settings):
    settings.METRICS_NETWORKS = ["10.0.0.0/8"]
    headers = {"x-forwarded-for": "10.1.2.3"}
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9", headers=headers).status_code == 404
    settings.TRUSTED_PROXIES = 2
    appended = {"x-forwarded-for": "10.1.2.3, 203.0.113.9, 10.0.0.1"}
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.2", headers=appended).status_code == 404


def test_an_address_that_is_none_is_refused_at_the_start():
    from automata_signal.settings import networks

    with pytest.raises(ImproperlyConfigured, match="METRICS_NETWORKS: 'everybody'"):
        networks("METRICS_NETWORKS", ["10.0.0.0/8", "everybody"])


# --- Requests ----------------------------------------------------------------------------------------------------


def test_requests_are_counted_by_their_route_and_never_by_their_path(server, application, page):
    users = [make_user(application, f"u-{n}") for n in range(3)]
    labels = {"method": "GET", "route": "api/v1/users/<uuid:user_id>", "status": "200"}
    before = value(page(), "automata_http_requests_total", **labels)
    for user in users:
        assert server.get(f"users/{user.pk}").status_code == 200
    text = page().decode()
    assert value(text, "automata_http_requests_total", **labels) == before + 3
    assert value(text, "automata_http_request_seconds_count", method="GET", route=labels["route"]) >= 3
    assert not any(str(user.pk) in text for user in users)


def test_whatever_strangers_ask_for_is_a_few_series(client, page):
    for n in range(20):
        client.generic("BREW", f"/no-such-page-{n}/+82101234567{n}")
        client.get(f"/api/v1/nothing-{n}")
    text = page().decode()
    assert value(text, "automata_http_requests_total", method="other", route="unmatched", status="404") >= 20
    assert "no-such-page" not in text
    assert "nothing-" not in text


def test_an_error_of_ours_is_counted_as_one(client, page, monkeypatch):
    client.raise_request_exception = False
    monkeypatch.setattr("automata_signal.urls.redirect", lambda *_: 1 / 0)
    before = value(page(), "automata_http_requests_total", method="GET", route="", status="500")
    assert client.get("/").status_code == 500
    assert value(page(), "automata_http_requests_total", method="GET", route="", status="500") == before + 1
    assert value(page(), "automata_http_requests_in_progress") == 0


# --- Messages ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(transactional_db, application, apns):
    """25 messages: 22 are taken, 3 devices are gone."""
    make_subscriptions(application, [f"{n:064x}" for n in range(22)])
    make_subscriptions(application, [f"dead4101{n:056x}" for n in range(3)])
    order = make_dispatch(application, audience={})

    def send():
        for batch_id in dispatch_slice(dispatch=order, after_id=None, limit=1_000).batch_ids:
            dispatch.run_batch(UUID(str(batch_id)))

    return send


def test_messages_are_counted_by_what_became_of_them(sent, client):
    def counted():
        text = client.get("/metrics").content
        return (
            value(text, "automata_messages_total", channel="push", status="pending"),
            value(text, "automata_messages_total", channel="push", status="successful"),
            value(text, "automata_messages_total", channel="push", status="failed"),
            value(text, "automata_messages_failed_total", channel="push", reason="Unregistered"),
            value(text, "automata_provider_answers_total", provider="apns", outcome="accepted", fault="none"),
            value(
                text, "automata_provider_answers_total", provider="apns", outcome="recipient_gone", fault="recipient"
            ),
            value(text, "automata_record_slice_seconds_count"),
        )

    before = counted()
    sent()
    assert [after - was for after, was in zip(counted(), before, strict=True)] == [25, 22, 3, 3, 22, 3, 1]


def test_a_provider_is_timed(sent, client):
    def timed():
        text = client.get("/metrics").content
        return [value(text, f"automata_provider_seconds_{part}", provider="apns") for part in ("count", "sum")]

    count, seconds = timed()
    sent()
    after, after_s = timed()
    assert 1 <= after - count <= 25
    assert 0 < after_s - seconds < 5


def test_what_providers_say_does_not_make_series_without_end():
    assert known_reason("Unregistered") == "Unregistered"
    assert known_reason("a word that was never heard before") == "other"
    assert known_reason("render_error: 'name' is undefined") == "render_error"
    assert all(len(adapter.reasons) < 100 for adapter in all_adapters().values())
    assert len(REASONS) < 400


# --- What is looked up -------------------------------------------------------------------------------------------


def make_batch(application, **fields):
    order = make_dispatch(
        application, priority=fields.pop("priority", "medium"), state=fields.pop("dispatch", "active")
    )
    now = timezone.now()
    defaults = {"subscription_type": "iOSPush", "expires_at": now + timedelta(hours=1), "recipient_count": 1}
    return DispatchBatch.objects.create(
        dispatch=order, application=application, priority=order.priority, **defaults | {"due_at": now} | fields
    )


def test_batches_are_shown_by_queue_with_the_age_of_the_oldest(application, page):
    now = timezone.now()
    make_batch(application, priority="high", due_at=now - timedelta(seconds=90))
    make_batch(application, priority="high", due_at=now - timedelta(seconds=30))
    make_batch(application, priority="low", due_at=now + timedelta(hours=1))
    make_batch(application, priority="low", due_at=now - timedelta(hours=1), dispatch="paused")
    text = page()
    assert value(text, "automata_batches_due", queue="push.high") == 2
    assert value(text, "automata_batches_oldest_due_seconds", queue="push.high") == pytest.approx(90, abs=10)
    assert {"queue": "push.low"} not in labels_of(text, "automata_batches_due")
    assert value(text, "automata_batches_later") == 1


def test_a_batch_whose_worker_is_gone_is_stuck_until_it_is_freed(application, page):
    now = timezone.now()
    make_batch(application, state=BatchState.CLAIMED, lease_until=now - timedelta(seconds=200))
    make_batch(application, state=BatchState.CLAIMED, lease_until=now + timedelta(seconds=60))
    text = page()
    assert (value(text, "automata_batches_claimed"), value(text, "automata_batches_stuck")) == (2, 1)
    assert value(text, "automata_batches_stuck_seconds") == pytest.approx(200, abs=10)
    abandoned = value(text, "automata_batches_abandoned_total")
    sweeps.free_abandoned()
    text = page()
    assert (value(text, "automata_batches_claimed"), value(text, "automata_batches_stuck")) == (1, 0)
    assert value(text, "automata_batches_abandoned_total") == abandoned + 1


def test_a_credential_that_does_not_send_is_named_with_the_cause(application, apns, page):
    credential = ChannelCredential.objects.get()
    text = page()
    assert value(text, "automata_credentials", provider="apns", breaker="closed") == 1
    assert labels_of(text, "automata_breaker_open") == []
    breaker_open(credential.pk, reason="it was revoked by kim@example.com", cause=BreakerCause.REFUSED)
    text = page()
    assert value(text, "automata_credentials", provider="apns", breaker="open") == 1
    assert labels_of(text, "automata_breaker_open") == [
        {
            "application": str(application.pk),
            "provider": "apns",
            "credential": str(credential.pk),
            "cause": "refused",
        }
    ]
    assert b"kim@example.com" not in text


def test_the_rate_of_a_credential_is_shown(application, fcm, page):
    credential = ChannelCredential.objects.get()
    labels = {"application": str(application.pk), "provider": "fcm", "credential": str(credential.pk)}
    text = page()
    assert value(text, "automata_rate_per_minute", **labels) == 600_000
    assert value(text, "automata_rate_slowed", **labels) == 0
    assert ("automata_rate_slowed", frozenset(labels.items())) in samples(text)


def test_the_use_of_a_quota_is_shown_and_a_period_that_is_over_counts_from_zero(application, page):
    now = timezone.now()
    MessageQuota.objects.update_or_create(
        application=application,
        channel_type="push",
        defaults={
            **{"daily_quota": 1_000, "daily_used": 850, "reset_date": now + timedelta(hours=1)},
            **{"monthly_quota": 10_000, "monthly_used": 9_000, "monthly_reset_date": now - timedelta(hours=1)},
            **{"reserved": 5, "sent_total": 40, "posted_total": 30},
            **{"day_began_at": now, "month_began_at": now},
        },
    )
    of = {"application": str(application.pk), "channel": "push"}
    text = page()
    assert value(text, "automata_quota_used_share", **of, period="day") == 0.85
    assert value(text, "automata_quota_used_share", **of, period="month") == 0
    assert value(text, "automata_quota_reserved_messages") == 5
    assert value(text, "automata_ledger_unposted_messages") == 10


def test_thousands_of_quotas_are_a_few_hundred_series(page, settings):
    from apps.tenants.models import Application

    now = timezone.now()
    rows = Application.objects.bulk_create(Application(name=f"Shop {n}") for n in range(300))
    MessageQuota.objects.bulk_create(
        MessageQuota(
            application=row,
            channel_type="email",
            daily_quota=1_000,
            daily_used=n,
            reset_date=now + timedelta(hours=1),
            monthly_reset_date=now,
            day_began_at=now,
            month_began_at=now,
        )
        for n, row in enumerate(rows)
    )
    shown = labels_of(page(), "automata_quota_used_share")
    assert len(shown) == figures.ROWS_MAX
    assert str(rows[-1].pk) in {labels["application"] for labels in shown}, "the fullest"
    assert str(rows[0].pk) not in {labels["application"] for labels in shown}


def test_a_running_campaign_shows_how_far_it_is(application, server, apns, page):
    make_subscriptions(application, [f"{n:064x}" for n in range(7)])
    body = {"name": "Spring", "title": "Hi", "body": "There", "targeting_criteria": {}}
    campaign_id = server.post("campaigns", body).json()["data"]["id"]
    assert server.post(f"campaigns/{campaign_id}/launch").status_code == 200
    text = page()
    assert (value(text, "automata_campaigns_running"), value(text, "automata_fanouts_unfinished")) == (1, 1)
    assert ("automata_campaign_recipients", frozenset({("state", "cut")})) in samples(text)


def test_queues_and_the_database_are_shown(page):
    text = page()
    assert {"queue": "push.high"} in labels_of(text, "automata_queue_length")
    assert {"queue": "control"} in labels_of(text, "automata_queue_length")
    assert value(text, "automata_database_connections", state="active") >= 1
    assert value(text, "automata_database_connections_max") >= 20
    assert value(text, "automata_redis_memory_bytes") > 100_000
    assert {labels["source"] for labels in labels_of(text, "automata_source_up")} >= {
        *("postgresql", "redis", "replica", "batches", "credentials", "rates", "quotas", "campaigns")
    }
    assert all(value(text, "automata_source_up", **labels) == 1 for labels in labels_of(text, "automata_source_up"))


def test_pages_that_are_asked_for_at_once_are_looked_up_once(page, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(figures, "KEPT_S", 60.0)
    page()
    with django_assert_num_queries(0):
        page()


# --- What does not answer ----------------------------------------------------------------------------------------


def test_without_redis_the_page_tells_of_the_rest(db, application, fcm, tmp_path):
    with running_api(tmp_path / "log", DATABASE_URL=fleets.test_database_url(), REDIS_URL=f"redis://{GONE}/0") as api:
        text = api.get("/metrics").text
    assert value(text, "automata_source_up", source="redis") == 0
    assert value(text, "automata_source_up", source="batches") == 1
    assert labels_of(text, "automata_queue_length") == []


@pytest.mark.parametrize("pool", ["0", "2"])
def test_without_postgresql_the_page_tells_of_the_rest(tmp_path, pool):
    database = f"postgresql://nobody:a-password@{GONE}/nothing"
    with running_api(tmp_path / "log", DATABASE_URL=database, DATABASE_POOL_MAX=pool) as api:
        answer = api.get("/metrics", timeout=9.5)
    assert answer.status_code == 200
    assert value(answer.text, "automata_source_up", source="postgresql") == 0
    assert value(answer.text, "automata_source_up", source="quotas") == 0
    assert value(answer.text, "automata_source_up", source="redis") == 1
    assert "a-password" not in answer.text + (tmp_path / "log").read_text()


def test_a_query_that_takes_too_long_is_given_up(transactional_db, client, monkeypatch):
    monkeypatch.setattr(figures, "STATEMENT_MAX_S", 2.0)
    with psycopg.connect(fleets.test_database_url()) as other:
        other.execute("LOCK TABLE billing_messagequota IN ACCESS EXCLUSIVE MODE")
        text = client.get("/metrics").content
        assert value(text, "automata_source_up", source="quotas") == 0
        assert value(text, "automata_source_up", source="batches") == 1
        other.rollback()
    assert value(client.get("/metrics").content, "automata_source_up", source="quotas") == 1


# --- Several processes -------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.mark.timeout(120)
def test_the_processes_of_a_worker_add_up_on_its_own_page(fleet, application, apns, tmp_path, settings):
    settings.BATCH_SIZE = 10
    make_subscriptions(application, [f"{n:064x}" for n in range(40)])
    order = make_dispatch(application, audience={})
    port = free_port()
    fleet.environment |= {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "METRICS_ADDRESS": f"127.0.0.1:{port}",
        "METRICS_TOKEN": TOKEN,
        "METRICS_NETWORKS": "10.0.0.0/8",
    }
    worker = fleet.start_worker("push.medium", concurrency=2)
    address, header = f"http://127.0.0.1:{port}/metrics", {"Authorization": f"Bearer {TOKEN}"}

    def page() -> str:
        try:
            return httpx.get(address, headers=header, trust_env=False).text
        except httpx.TransportError:
            return ""

    wait_until(lambda: value(page(), "automata_worker_processes") == 2)
    assert httpx.get(address, trust_env=False).status_code == 404
    assert httpx.get(address.replace("metrics", "else"), headers=header, trust_env=False).status_code == 404
    batches = dispatch_slice(dispatch=order, after_id=None, limit=1_000).batch_ids
    enqueue([QueuedBatch(batch_id, application.pk, "push", "medium") for batch_id in batches])
    wait_until(lambda: value(page(), "automata_messages_total", channel="push", status="successful") == 40)
    wait_until(lambda: value(page(), "automata_task_seconds_count", task="messaging.send_batch") >= 4)
    # What a child counted stays when it is gone, and its successor goes on.
    children = (tmp_path / "metrics").glob("counter_*.db")
    for pid in {int(path.stem.partition("_")[2]) for path in children} - {worker.pid}:
        os.kill(pid, signal.SIGKILL)
    assert value(page(), "automata_messages_total", channel="push", status="successful") == 40
    assert not any(name.startswith("automata_batches_due") for name, _ in samples(page())), "that is the web's to tell"


def test_a_worker_with_nowhere_to_count_says_so(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with pytest.raises(ImproperlyConfigured, match="PROMETHEUS_MULTIPROC_DIR"):
        exposition.serve("127.0.0.1:9100")


@pytest.mark.parametrize("address", ["9100", "127.0.0.1:", "127.0.0.1:http", ""])
def test_an_address_without_a_port_is_refused(monkeypatch, tmp_path, address):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(ImproperlyConfigured, match="METRICS_ADDRESS"):
        exposition.serve(address)


def test_both_web_processes_are_on_the_page_whichever_answers(db, application, tmp_path):
    folder = tmp_path / "metrics"
    with running_api(
        tmp_path / "log",
        DATABASE_URL=fleets.test_database_url(),
        PROMETHEUS_MULTIPROC_DIR=str(folder),
        DATABASE_POOL_MAX="2",
    ) as api:
        for _ in range(3):
            api.get("/api/v1/users")
        text = api.get("/metrics").text
    assert value(text, "automata_http_requests_total", method="GET", route="api/v1/users", status="401") == 3
    assert value(text, "automata_database_pool_connections", state="max") == 2
    assert folder.stat().st_mode & 0o077 == 0


def test_a_folder_that_others_can_write_to_is_refused(tmp_path, monkeypatch):
    from automata_signal.metrics import _prepare_folder

    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "open"))
    with pytest.raises(RuntimeError, match="others can write to"):
        _prepare_folder()
