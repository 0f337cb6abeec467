"""The pages of operations: who sees and does what, what a switch stops, and that nothing is lost meanwhile."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from apps.analytics.exports import running
from apps.analytics.models.rollups import MessageHour
from apps.messaging import claims, rates, sweeps
from apps.messaging.models import BatchState, DispatchBatch, DispatchState, MessageRequeue
from apps.messaging.operations import watching
from apps.messaging.operations.services import breaker_override_hold, rate_override
from apps.messaging.senders import route_for
from apps.subscriptions.imports import steps
from apps.tenants.models import AuditEvent, BreakerCause, ChannelCredential, Operator
from apps.tenants.operations import switches
from apps.tenants.operations.models import PlatformSwitch
from apps.tenants.scopes import ROLE_SCOPES
from apps.tenants.services import breaker_end_probe, breaker_hold, breaker_take_probe
from automata_signal import heartbeats
from tests.admin.pages import text_of
from tests.factories import make_messages

OPERATIONS = "/admin/operations/"
PLATFORM_PAGES = ["health/", "queues/", "schedules/", "storage/", "switches/", "switches/sending/"]
QUERIES_MAX = 20
ROLES = ["owner", "manager", "marketer", "analyst", "support"]


@pytest.fixture(autouse=True)
def switches_forgotten():
    switches.forget()
    yield
    switches.forget()


@pytest.fixture
def credential(world) -> ChannelCredential:
    return ChannelCredential.objects.get(application=world.application, provider="apns")


def open_breaker(credential, cause=BreakerCause.OUTAGE):
    now = timezone.now()
    ChannelCredential.objects.filter(pk=credential.pk).update(
        breaker_opened_at=now,
        breaker_cause=cause,
        breaker_reason="92% fail",
        breaker_probe_at=now + timedelta(minutes=1),
    )


def turn(name: str, *, is_on: bool, reason: str = "an incident"):
    switches.switch_set(name=name, is_on=is_on, reason=reason)
    switches.forget()


# --- Who ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_the_platforms_pages_are_superusers_alone(world, member, role):
    client = member(role)
    for page in PLATFORM_PAGES:
        assert client.get(OPERATIONS + page).status_code == 403, page
    assert client.post(f"{OPERATIONS}switches/sending/", {"reason": "x"}).status_code == 403
    assert not PlatformSwitch.objects.exists()


def test_every_page_opens_for_a_superuser_with_few_queries(world, root, platform_rows):
    for page in [*PLATFORM_PAGES, "breakers/", "failed/"]:
        root.get(OPERATIONS + page)  # what is read once per process
        with CaptureQueriesContext(connection) as queries:
            answer = root.get(OPERATIONS + page)
        assert answer.status_code == 200, page
        assert len(queries) <= QUERIES_MAX, (page, len(queries))


@pytest.mark.parametrize("role", ROLES)
def test_breakers_and_failed_messages_are_shown_to_who_has_their_scope(world, other, member, role):
    client, scopes = member(role), ROLE_SCOPES[role]
    breakers, failed = client.get(f"{OPERATIONS}breakers/"), client.get(f"{OPERATIONS}failed/")
    assert breakers.status_code == (200 if "settings:read" in scopes else 403)
    assert failed.status_code == (200 if "messages:read" in scopes else 403)
    for answer in (breakers, failed):
        assert not any(mark in text_of(answer) for mark in other.marks)
    if "settings:read" in scopes:
        assert "Aurora apns" in text_of(breakers)
        may_write = "settings:write" in scopes
        assert ("/hold/" in text_of(breakers)) is may_write


def test_another_applications_credential_is_one_that_does_not_exist(world, other, member):
    theirs = ChannelCredential.objects.get(application=other.application, provider="apns")
    owner = member("owner")
    for what in ("close", "hold", "rate", "nothing"):
        assert owner.get(f"{OPERATIONS}breakers/{theirs.pk}/{what}/").status_code == 404
        assert owner.post(f"{OPERATIONS}breakers/{theirs.pk}/{what}/", {"reason": "x", "hours": 1}).status_code == 404
    for page in ("breakers/", "failed/", "requeue/"):
        assert owner.get(OPERATIONS + page, {"application": str(other.application.pk)}).status_code == 404
    theirs.refresh_from_db()
    assert theirs.breaker_opened_at is None


def test_a_manager_sees_breakers_and_overrides_none(world, member, credential):
    manager = member("manager")
    for what in ("close", "hold", "rate"):
        address = f"{OPERATIONS}breakers/{credential.pk}/{what}/"
        assert manager.get(address).status_code == 403
        assert manager.post(address, {"reason": "x", "hours": 1, "rate_per_minute": 1}).status_code == 403


# --- Breakers and rates ------------------------------------------------------------------------------------------


def test_a_breaker_is_closed_by_hand_with_a_reason_that_is_kept(world, member, credential):
    open_breaker(credential)
    owner, address = member("owner"), f"{OPERATIONS}breakers/{credential.pk}/close/"
    assert "92% fail" in text_of(owner.get(address))
    assert owner.post(address, {"reason": ""}).status_code == 200  # the form again, with what is missing
    credential.refresh_from_db()
    assert credential.breaker_opened_at is not None
    assert owner.post(address, {"reason": "they say it works"}).status_code == 302
    credential.refresh_from_db()
    assert credential.breaker_opened_at is None
    told = AuditEvent.objects.get(action="breaker.close")
    assert told.application_id == world.application.pk
    assert told.changes == {"breaker": ["outage", "closed"]}
    assert told.details["reason"] == "they say it works"


def test_a_breaker_that_is_held_stays_open_and_the_next_credential_takes_over(world, member, credential):
    owner = member("owner")
    held = {"reason": "the key leaked", "hours": "4"}
    assert owner.post(f"{OPERATIONS}breakers/{credential.pk}/hold/", held).status_code == 302
    credential.refresh_from_db()
    assert credential.breaker_cause == BreakerCause.HELD
    assert credential.breaker_probe_at > timezone.now() + timedelta(hours=3)
    waits = route_for(world.application.pk, "iOSPush")
    assert not hasattr(waits, "credential")  # nobody else reaches it: it waits until then
    second = ChannelCredential.objects.get(pk=credential.pk)
    second.pk, second.position, second._state.adding = None, 5, True
    second.id = ChannelCredential._meta.get_field("id").get_default()
    second.breaker_opened_at = second.breaker_probe_at = None
    second.breaker_cause = ""
    second.save()
    assert route_for(world.application.pk, "iOSPush").credential.pk == second.pk
    assert AuditEvent.objects.get(action="breaker.hold").details["reason"] == "the key leaked"


@pytest.mark.parametrize("works", [True, False])
def test_a_probe_that_began_before_does_not_end_what_an_operator_holds(credential, works):
    open_breaker(credential)
    ChannelCredential.objects.filter(pk=credential.pk).update(breaker_probe_at=timezone.now())
    assert breaker_take_probe(credential.pk, for_s=60)
    until = timezone.now() + timedelta(hours=4)
    breaker_hold(credential, reason="the key leaked", until=until)
    breaker_end_probe(credential.pk, works=works, reason="a probe failed")
    credential.refresh_from_db()
    assert (credential.breaker_cause, credential.breaker_probe_at) == (BreakerCause.HELD, until)
    ChannelCredential.objects.filter(pk=credential.pk).update(breaker_probe_at=timezone.now())
    assert breaker_take_probe(credential.pk, for_s=60)  # the time is over: now a probe decides
    breaker_end_probe(credential.pk, works=works)
    credential.refresh_from_db()
    assert (credential.breaker_opened_at is None) is works


def test_the_audit_log_says_what_an_override_has_changed_also_if_somebody_was_quicker(world, credential, rf):
    request = rf.post("/")
    request.user = Operator.objects.create(email="quick@example.com")
    opened_before = ChannelCredential.objects.get(pk=credential.pk)
    ChannelCredential.objects.filter(pk=credential.pk).update(rate_per_minute=50)
    open_breaker(credential)
    rate_override(credential=opened_before, rate_per_minute=600, forget_slowdown=False, request=request)
    breaker_override_hold(credential=opened_before, reason="why", hours=1, request=request)
    assert AuditEvent.objects.get(action="rate.override").changes == {"rate_per_minute": [50, 600]}
    assert AuditEvent.objects.get(action="breaker.hold").changes == {"breaker": ["outage", "held"]}


def test_a_rate_is_set_without_closing_the_breaker(world, member, credential):
    open_breaker(credential)
    owner, address = member("owner"), f"{OPERATIONS}breakers/{credential.pk}/rate/"
    assert owner.post(address, {"rate_per_minute": "0"}).status_code == 200
    assert owner.post(address, {"rate_per_minute": "600", "forget_slowdown": "on"}).status_code == 302
    credential.refresh_from_db()
    assert credential.rate_per_minute == 600
    assert credential.breaker_opened_at is not None
    assert AuditEvent.objects.get(action="rate.override").changes == {"rate_per_minute": [None, 600]}
    assert "600 a minute" in text_of(owner.get(f"{OPERATIONS}breakers/"))


def test_a_slowdown_that_is_forgotten_gives_the_limit_back(credential):
    rates.forget_slowdown(credential)
    now = time.time()
    key = rates.credential_bucket(credential).key
    rates._scripts().peek.registered_client.hset(
        key, mapping={"rate": 5, "full": 50, "tokens": 0, "at": now, "held": now + 60}
    )
    assert rates.snapshot(credential).is_slowed
    assert rates.forget_slowdown(credential)
    assert not rates.snapshot(credential).is_slowed
    assert rates.snapshot(credential).held_until is None


# --- Switches ----------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting_batch(world) -> DispatchBatch:
    batch = DispatchBatch.objects.filter(application=world.application).first()
    DispatchBatch.objects.exclude(pk=batch.pk).update(state=BatchState.DONE)
    DispatchBatch.objects.filter(pk=batch.pk).update(
        state=BatchState.WAITING, due_at=timezone.now() - timedelta(seconds=1), queued_at=None
    )
    make_messages(world.application, ["pending"])
    DispatchBatch.objects.exclude(pk=batch.pk).update(state=BatchState.DONE)
    batch.refresh_from_db()
    return batch


@pytest.mark.parametrize("name", ["sending", "sending.push"])
def test_nothing_is_claimed_while_sending_is_off_and_it_goes_on_afterwards(world, waiting_batch, name):
    turn(name, is_on=False)
    assert sweeps.queue_due() == 0
    assert claims.claim_batch(waiting_batch.pk) is None
    assert claims.claim_batch_or_next(waiting_batch.pk, world.application.pk) is None
    waiting_batch.refresh_from_db()
    assert waiting_batch.state == BatchState.WAITING
    assert waiting_batch.claims == 0
    turn(name, is_on=True)
    assert claims.claim_batch(waiting_batch.pk) is not None


def test_other_channels_go_on(waiting_batch):
    turn("sending.email", is_on=False)
    assert switches.stopped_channels() == ["email"]
    assert claims.claim_batch(waiting_batch.pk) is not None


def test_what_was_canceled_is_failed_also_while_sending_is_off(waiting_batch):
    turn("sending", is_on=False)
    type(waiting_batch.dispatch).objects.filter(pk=waiting_batch.dispatch_id).update(state=DispatchState.CANCELED)
    assert claims.claim_batch(waiting_batch.pk) is not None


def test_asking_costs_no_query_within_the_time_that_it_is_kept(db):
    switches.off()
    with CaptureQueriesContext(connection) as queries:
        for _ in range(1_000):
            assert switches.may_send("push")
    assert len(queries) == 0


def test_imports_and_exports_rest_while_they_are_off(world):
    turn("imports", is_on=False)
    turn("exports", is_on=False)
    import_ = world["subscriptions.Import"]
    before = type(import_).objects.filter(pk=import_.pk).values().get()
    assert steps.import_run(import_.pk) is False
    assert steps.imports_continue() == 0
    assert type(import_).objects.filter(pk=import_.pk).values().get() == before
    export = world["analytics.Export"]
    assert running.export_step() is False
    assert running.exports_continue() is False
    assert type(export).objects.get(pk=export.pk).lease_id is None


def test_webhooks_wait_while_they_are_off(world):
    from apps.messaging.webhooks.delivering import deliver_due

    delivery = world["messaging.WebhookDelivery"]
    turn("webhooks", is_on=False)
    assert deliver_due(max_s=1) is False
    assert type(delivery).objects.get(pk=delivery.pk).state == "waiting"


def test_a_switch_is_turned_on_its_page_with_a_reason_and_told_in_the_audit_log(root):
    address = f"{OPERATIONS}switches/exports/"
    assert root.post(address, {"turn": "off", "reason": ""}).status_code == 200
    assert not PlatformSwitch.objects.filter(is_off=True).exists()
    assert 'name="turn" value="off"' in text_of(root.get(address))
    for _twice in range(2):  # pressed again, or by somebody else: it stays off
        assert root.post(address, {"turn": "off", "reason": "the disk is full"}).status_code == 302
    row = PlatformSwitch.objects.get(pk="exports")
    assert (row.is_off, row.reason, row.changed_by) == (True, "the disk is full", "root@example.com")
    assert "the disk is full" in text_of(root.get(f"{OPERATIONS}switches/"))
    assert root.post(address, {"turn": "on", "reason": ""}).status_code == 302  # nobody has to say why
    actions = AuditEvent.objects.filter(action__startswith="switch.").order_by("id")
    assert [(e.action, e.changes) for e in actions] == [
        ("switch.off", {"is_off": [False, True]}),
        ("switch.on", {"is_off": [True, False]}),
    ]
    assert root.get(f"{OPERATIONS}switches/nothing/").status_code == 404
    assert root.get(f"{OPERATIONS}switches/sending.fax/").status_code == 404


def test_nobody_takes_it_for_granted_that_all_is_on(monkeypatch):
    read = threading.Event()

    class Slow:
        class objects:
            @staticmethod
            def filter(**_kwargs):
                read.wait(5)
                return type("Rows", (), {"values_list": lambda *_args, **_kwargs: ["sending"]})()

    monkeypatch.setattr(switches, "PlatformSwitch", Slow)
    kept, answers = switches._Kept(), []
    threads = [threading.Thread(target=lambda: answers.append(kept.off())) for _ in range(3)]
    for thread in threads:
        thread.start()
    read.set()
    for thread in threads:
        thread.join()
    assert answers == [frozenset({"sending"})] * 3


# --- Queues, workers, schedules, storage, health -----------------------------------------------------------------


def test_what_waits_is_told_by_channel_and_priority(world, root, waiting_batch):
    lines = watching.waiting(world.application.pk)
    assert [(line.channel_type, line.priority, line.batches) for line in lines] == [("push", waiting_batch.priority, 1)]
    assert f"push.{waiting_batch.priority}" in text_of(root.get(f"{OPERATIONS}queues/"))


def test_workers_are_alive_as_long_as_they_say_so(root):
    since = time.time() - 100
    facts = {
        "concurrency": 2,
        "queues": ["push.high"],
        "tasks": [{"task": "messaging.send_batch", "since": since}],
        "done": 7,
    }
    heartbeats.write("high@one", since=since, facts=facts)
    heartbeats._redis().hset(heartbeats.KEY, "low@gone", '{"at": %f, "since": 1.0}' % (time.time() - 60))
    heartbeats._redis().hset(heartbeats.KEY, "odd", "no json")
    try:
        found = {beat.name: beat.is_alive() for beat in heartbeats.read()}
        assert found == {"high@one": True, "low@gone": False}
        shown = text_of(root.get(f"{OPERATIONS}queues/"))
        assert "messaging.send_batch" in shown
        assert "not seen for" in shown
    finally:
        heartbeats.remove("high@one")
        heartbeats.remove("low@gone")


def test_the_live_part_alone_answers_htmx(root):
    answer = root.get(f"{OPERATIONS}queues/", headers={"HX-Request": "true"})
    assert "<html" not in text_of(answer)
    assert 'id="queues"' in text_of(answer)


def test_a_schedule_is_run_now(root, monkeypatch):
    interval = IntervalSchedule.objects.create(every=10, period=IntervalSchedule.SECONDS)
    row = PeriodicTask.objects.create(name="queue what is due", task="messaging.queue_due", interval=interval)
    assert "queue what is due" in text_of(root.get(f"{OPERATIONS}schedules/"))
    before = watching.queue_lengths(["control"]).get("control", 0)
    assert root.post(f"{OPERATIONS}schedules/{row.pk}/run/").status_code == 302
    assert watching.queue_lengths(["control"])["control"] == before + 1
    assert AuditEvent.objects.get(action="schedule.run").details == {"task": "messaging.queue_due"}
    assert root.get(f"{OPERATIONS}schedules/999999/run/").status_code == 404


def test_months_are_shown_with_the_day_they_go(world, root):
    world.application.settings = {**world.application.settings, "retention_days": 30}
    world.application.save()
    kept = watching.kept_by_application()
    states = watching.partition_states()
    assert {state.table for state in states} == {"messaging_message", "messaging_messageevent"}
    if any(one.days is None for one in kept):
        assert watching.dropped_on(states[0], kept) is None
    only = [one for one in kept if one.application.pk == world.application.pk]
    assert watching.dropped_on(states[0], only) is not None
    assert states[0].name in text_of(root.get(f"{OPERATIONS}storage/"))


def test_health_names_what_is_missing(root):
    found = {check.name: check for check in watching.checks(heartbeats.read(), now=timezone.now())}
    assert found["database"].tone in ("good", "warning")
    assert found["redis"].tone == "good"
    assert found["beat"].tone == "bad"
    assert found["workers"].tone == "bad"
    assert found["migrations"].tone == "good"
    away = {check.name: check for check in watching.checks(None, now=timezone.now())}
    assert away["beat"].tone == "warning"


# --- Failed messages ---------------------------------------------------------------------------------------------


@pytest.fixture
def failed(world):
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    MessageHour.objects.create(
        application=world.application, hour=hour, channel_type="push", reason="no_credential", failed=2
    )
    messages = make_messages(world.application, ["failed", "failed"])
    ids = [message.pk for message in messages]
    type(messages[0]).objects.filter(pk__in=ids).update(
        error_reason="no_credential",
        error_details={"class": "sender"},
        sent_at=None,
        subscription_id=world["subscriptions.Subscription"].pk,
    )
    DispatchBatch.objects.filter(dispatch_id=messages[0].dispatch_id).update(has_failed=True)
    return messages


def test_failed_messages_stand_by_reason_with_the_next_step(world, member, failed):
    shown = text_of(member("marketer").get(f"{OPERATIONS}failed/"))
    assert "no_credential" in shown
    assert "Add one, then send the failed ones again" in shown
    assert "/operations/requeue/" in shown
    assert "reason=no_credential&amp;added=7d" in shown
    assert "/operations/requeue/" not in text_of(member("analyst").get(f"{OPERATIONS}failed/"))


def test_a_next_step_leads_to_no_list_that_one_may_not_see(world, member, failed):
    pages = {
        role: [row["page"] for row in member(role).get(f"{OPERATIONS}failed/").context["rows"]]
        for role in ("owner", "marketer")
    }
    assert any("/tenants/channelcredential/" in page for page in pages["owner"])
    assert "settings:read" not in ROLE_SCOPES["marketer"]
    assert not any(pages["marketer"])


def test_what_failed_is_counted_before_it_is_sent_again(world, member, failed):
    which = {"application": str(world.application.pk), "reason": "no_credential"}
    marketer = member("marketer")
    answer = marketer.get(f"{OPERATIONS}requeue/", which)
    facts = {str(label): value for label, value in answer.context["asked"].facts}
    assert facts["messages, at most"] == "2"
    query = "&".join(f"{name}={value}" for name, value in which.items())
    done = marketer.post(f"{OPERATIONS}requeue/?{query}")
    order = MessageRequeue.objects.order_by("-pk").first()
    assert done.status_code == 302
    assert str(order.pk) in done["Location"]
    assert (order.error_reason, order.requeued) == ("no_credential", 2)
    assert AuditEvent.objects.get(action="message.requeue").details["requeued"] == 2


@pytest.mark.parametrize("role", ["analyst", "support"])
def test_who_may_not_send_sends_nothing_again(world, member, failed, role):
    client, before = member(role), MessageRequeue.objects.count()
    address = f"{OPERATIONS}requeue/?application={world.application.pk}&reason=no_credential"
    assert client.get(address).status_code == 403
    assert client.post(address).status_code == 403
    assert MessageRequeue.objects.count() == before


def test_odd_addresses_are_no_errors(world, root):
    key = world.application.pk
    odd = ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-12:00", "0001-01-01")
    queries = [f"{name}={moment}" for name in ("since", "until") for moment in odd]
    for query in ("reason=%00", "since=never", "until=99999-01-01", f"reason={'x' * 200}", *queries):
        assert root.get(f"{OPERATIONS}requeue/?application={key}&{query}").status_code == 400
    for query in ("days=x", "days=99", "days="):
        assert root.get(f"{OPERATIONS}failed/?{query}").status_code == 200
    assert root.get(f"{OPERATIONS}requeue/").status_code == 404
