"""Token buckets over a real Redis: shared, adaptive, and never in a worker's way."""

import heapq
import random
import threading
import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from apps.campaigns.services import campaign_create, campaign_launch
from apps.messaging import breaker, dispatch, rates
from apps.messaging.adapters.base import Outcome, Result
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.messaging.rates import Bucket, Pace, credential_bucket, device_waits, note_pushbacks, snapshot
from apps.messaging.services import Recipients, messages_send
from apps.tenants.models import ChannelCredential
from apps.tenants.services import credential_update
from tests.factories import make_dispatch, make_subscription, make_subscriptions

NOON = 1_800_000_000.0


def bucket(per_minute, turns_s=300.0):
    return Bucket(f"automata:rate:{uuid4()}", per_minute / 60, turns_s)


class Clock:
    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


def credential(**fields):
    return ChannelCredential(**{"provider": "fcm", "name": "test"} | fields)


def pushbacks(count, *, retry_after_s=None, status=429, reason="QUOTA_EXCEEDED"):
    outcome = Outcome.THROTTLED if status == 429 else Outcome.TRANSIENT
    return [Result(uuid4(), outcome, reason, status, retry_after_s=retry_after_s) for _ in range(count)]


def sliced(application, **fields):
    order = make_dispatch(application, audience={}, **fields)
    return dispatch_slice(dispatch=order, after_id=None, limit=100_000).batch_ids


def fcm_tokens(count):
    return [f"fcm-token-{n}:{'x' * 120}" for n in range(count)]


def take_all(pace, wanted=10**6):
    """All that may leave without waiting."""
    taken = 0
    while granted := pace.take(wanted - taken):
        taken += granted
    return taken


# --- The bucket ----------------------------------------------------------------------------------------------------


def test_two_workers_share_one_bucket_and_never_exceed_it_by_more_than_a_chunk():
    shared, granted = bucket(per_minute=120_000), []
    take_all(Pace([shared]))
    begin = time.monotonic()

    def work():
        while time.monotonic() < begin + 1.5:
            granted.append(Pace([shared]).take(300) or 0)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed_s = time.monotonic() - begin
    limit_per_s, capacity = 2_000, 4_001
    assert sum(granted) <= limit_per_s * elapsed_s + capacity
    assert sum(granted) >= limit_per_s * 1.5 * 0.9, "and it is used"


def test_without_a_limit_a_batch_asks_once_for_each_chunk():
    pace = Pace([bucket(0)])
    assert [pace.take(1_200), pace.take(700), pace.take(200)] == [500, 500, 200]


def test_the_narrower_of_two_buckets_decides():
    clock = Clock()
    wide, narrow = bucket(600_000), bucket(60)
    assert Pace([wide, narrow], clock=clock).take(100) == 2
    tokens = rates._scripts().take.registered_client.hget(wide.key, "tokens")
    assert float(tokens) == 4_001 - 2, "and nothing is lost in the wider one"


def test_what_did_not_leave_is_given_back():
    clock, slow = Clock(), bucket(6_000)
    pace = Pace([slow], clock=clock)
    taken = take_all(pace)
    pace.put_back(50)
    assert take_all(Pace([slow], clock=clock)) == 50
    assert taken > 50


def test_a_short_wait_is_spent_in_the_worker_and_a_long_one_is_not():
    clock, fast, slow = Clock(), bucket(60_000), bucket(600)
    here, away = Pace([fast], clock=clock), Pace([slow], clock=clock)
    take_all(here, 1_600)
    assert here.take(600) == 0
    assert here.back_in_s is None
    clock.now += 0.5
    assert here.take(400) > 300
    take_all(away, 16)
    assert away.take(1_000) is None
    assert 1 < away.back_in_s < 4


def test_patience_ends_where_others_take_it_all():
    clock, fast = Clock(), bucket(60_000)
    unlucky = Pace([fast], clock=clock)
    for _ in range(300):
        take_all(Pace([fast], clock=clock), 2_000)
        if unlucky.take(200) is None:
            break
        clock.now += 0.02
    assert unlucky.back_in_s is not None
    assert clock.now - NOON < 5


def test_an_urgent_message_finds_the_tenth_that_others_leave():
    clock, busy = Clock(), bucket(6_000)
    take_all(Pace([busy], clock=clock))
    assert Pace([busy], clock=clock).take(500) is None
    assert Pace([busy], is_urgent=True, clock=clock).take(1) == 1


def test_an_urgent_message_does_not_stand_in_line():
    clock, busy = Clock(), bucket(600)
    for _ in range(20):
        pace = Pace([busy], clock=clock)
        take_all(pace, 1_000)
    assert pace.back_in_s > 20
    urgent = Pace([busy], is_urgent=True, clock=clock)
    take_all(urgent, 100)
    assert urgent.back_in_s < 3


@pytest.mark.parametrize("per_minute", [12, 100, 600, 6_000, 30_000])
def test_a_throttle_is_kept_within_a_tenth_over_any_minute(per_minute):
    """The batches of one dispatch, workers that are late by up to 1.5 s, four minutes."""
    throttle, clock, chance = bucket(per_minute), Clock(), random.Random(1)
    size = min(1_000, max(10, per_minute // 2))
    left = dict.fromkeys(range(5 * per_minute // size), size)
    due = [(NOON, batch) for batch in left]
    sent: list[tuple[float, int]] = []
    while due and clock.now < NOON + 240:
        at, batch = heapq.heappop(due)
        clock.now = max(clock.now, at + chance.uniform(0, 1.5) * (at > NOON))
        pace = Pace([throttle], clock=clock)
        while left[batch] and (granted := pace.take(left[batch])) is not None:
            if granted:
                sent.append((clock.now, granted))
                left[batch] -= granted
            else:
                clock.now += 0.02
        if left[batch]:
            heapq.heappush(due, (clock.now + pace.back_in_s, batch))
    allowed = max(1, per_minute * 0.1)
    for start_s in range(0, 175, 5):
        window = sum(n for at, n in sent if start_s <= at - NOON < start_s + 60)
        assert abs(window - per_minute) <= allowed, f"{window} in the minute from second {start_s}"


def test_a_limit_that_is_changed_holds_at_once():
    clock, row = Clock(), credential(rate_per_minute=6_000)
    take_all(Pace([credential_bucket(row)], clock=clock))
    row.rate_per_minute = 60_000
    clock.now += 1
    assert take_all(Pace([credential_bucket(row)], clock=clock)) > 500
    row.rate_per_minute = 60
    clock.now += 1
    assert take_all(Pace([credential_bucket(row)], clock=clock)) <= 5


# --- Slower, and faster again ----------------------------------------------------------------------------------------


def used(row, clock, seconds, per_second=50):
    """Time goes by while messages are sent."""
    for _ in range(seconds):
        clock.now += 1
        Pace([credential_bucket(row)], clock=clock).take(per_second)


@pytest.mark.parametrize("limit", [0, 600_000])
def test_pushbacks_halve_what_was_sent_and_it_grows_back_by_a_fixed_step(limit, settings):
    settings.RATE_PER_MINUTE = {"fcm": limit}
    clock, row = Clock(), credential()
    used(row, clock, 10, per_second=100)
    assert note_pushbacks(row, pushbacks(60), answers=1_000, now=clock.now)
    slowed = snapshot(row, now=clock.now)
    assert slowed.is_slowed
    assert slowed.rate_per_minute == pytest.approx(100 * 60 / 2, rel=0.25)
    assert slowed.throttled_by == "429 QUOTA_EXCEEDED"
    speeds = []
    for _ in range(3):
        used(row, clock, 10)
        speeds.append(snapshot(row, now=clock.now).rate_per_minute)
    steps = [b - a for a, b in zip([slowed.rate_per_minute, *speeds], speeds, strict=False)]
    assert steps == pytest.approx([steps[0]] * 3, rel=0.05), "additive"
    assert steps[0] > 0
    used(row, clock, 80)
    assert not snapshot(row, now=clock.now).is_slowed
    assert snapshot(row, now=clock.now).rate_per_minute == (limit or None)


def test_a_burst_of_pushbacks_slows_down_once_and_later_ones_again():
    clock, row = Clock(), credential()
    used(row, clock, 10, per_second=400)
    rows = []
    for after_s in (0, 0.2, 0.4, 1.5):
        note_pushbacks(row, pushbacks(300), answers=300, now=clock.now + after_s)
        rows.append(snapshot(row, now=clock.now + after_s).rate_per_minute)
    assert rows[1:3] == pytest.approx([rows[0]] * 2, rel=0.02)
    assert rows[3] < rows[0] * 0.7


def test_retry_after_holds_the_bucket():
    clock, row = Clock(), credential()
    used(row, clock, 5, per_second=100)
    note_pushbacks(row, pushbacks(100, retry_after_s=30.0), answers=100, now=clock.now)
    assert snapshot(row, now=clock.now).held_until.timestamp() == pytest.approx(clock.now + 30)
    pace = Pace([credential_bucket(row)], clock=clock)
    assert pace.take(10) is None
    assert pace.back_in_s >= 30
    clock.now += 31
    assert Pace([credential_bucket(row)], clock=clock).take(10)


def test_pushbacks_for_a_few_devices_slow_nobody_down():
    clock, row = Clock(), credential()
    used(row, clock, 5, per_second=400)
    assert not note_pushbacks(row, pushbacks(9), answers=500, now=clock.now), "too few"
    assert not note_pushbacks(row, pushbacks(50), answers=500, now=clock.now), "too small a share of 2,000"
    apple = credential(provider="apns")
    ones = pushbacks(500, reason="TooManyRequests")
    assert not note_pushbacks(apple, ones, answers=500, now=clock.now), "one device's"
    assert not snapshot(row, now=clock.now).is_slowed


def test_apples_advice_for_one_message_holds_no_other():
    clock, row = Clock(), credential(provider="apns")
    refused = pushbacks(50, status=503, reason="Shutdown", retry_after_s=900.0)
    assert note_pushbacks(row, refused, answers=50, now=clock.now)
    seen = snapshot(row, now=clock.now)
    assert seen.is_slowed
    assert seen.held_until is None


def sent_to(answer, clock, row, seconds, *, per_second):
    """What an application of `per_second` sends to a provider whose `answer(n)` is how many of n it refuses; each
    second's messages and refusals."""
    seen = []
    for _ in range(seconds):
        clock.now += 1
        pace, granted = Pace([credential_bucket(row)], clock=clock), 0
        while granted < per_second and (more := pace.take(per_second - granted)):
            granted += more
        refused = answer(granted)
        if refused:
            note_pushbacks(row, pushbacks(refused, retry_after_s=10.0), answers=granted, now=clock.now + 0.1)
        seen.append((granted, refused))
    return seen


@pytest.mark.parametrize(("limit", "share"), [(0, 0.1), (0, 0.2), (600_000, 0.2), (600_000, 0.4)])
def test_what_is_refused_at_any_speed_slows_nobody_down_for_long(limit, share, settings):
    """A provider that is half well, for a quarter of an hour: its refusals are not about our speed."""
    settings.RATE_PER_MINUTE = {"fcm": limit}
    chance = random.Random(1)
    seen = sent_to(lambda n: round(n * share * chance.uniform(0.8, 1.2)), Clock(), credential(), 900, per_second=400)
    assert sum(granted for granted, _ in seen) > 0.85 * 900 * 400
    assert min(granted for granted, _ in seen[:10]) < 250, "it was tried whether a lower speed helps"


@pytest.mark.parametrize("allowed", [40, 120, 280, 360])
def test_a_quota_is_found_and_kept(allowed):
    """A provider that takes so many a second: the more we send, the more it refuses."""
    seen = sent_to(lambda n: max(0, n - allowed), Clock(), credential(), 600, per_second=400)[120:]
    granted, refused = (sum(column) for column in zip(*seen, strict=True))
    assert granted - refused > 0.5 * 480 * allowed, "and used"
    assert refused < 0.2 * granted


@pytest.mark.parametrize(("status", "reason", "last"), [(429, "QUOTA_EXCEEDED", 20), (503, "UNAVAILABLE", 150)])
def test_most_refused_for_a_quota_slows_down_each_second_and_an_outage_is_left_to_the_breaker(status, reason, last):
    """After an outage the rate must not be so low that it takes minutes to come back."""
    clock, row = Clock(), credential()
    used(row, clock, 10, per_second=400)
    rates_seen = []
    for _ in range(8):
        clock.now += 1.1
        note_pushbacks(row, pushbacks(300, status=status, reason=reason), answers=500, now=clock.now)
        rates_seen.append(snapshot(row, now=clock.now).rate_per_minute / 60)
    assert rates_seen[0] == pytest.approx(200, rel=0.2)
    assert last / 2 < max(rates_seen[-1], 11) < last


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("refusal", ["UNAVAILABLE-plain", "QUOTA_EXCEEDED"])
def test_a_fifth_refused_for_good_delays_those_messages_and_no_others(application, fcm, settings, refusal):
    """With a Retry-After or without: 1,200 messages have their first attempt in seconds, not in minutes."""
    settings.BATCH_SIZE = 250
    make_subscriptions(application, fcm_tokens(1_200), type="AndroidPush")
    fcm.settings(latency_ms=20)
    fcm.behave(refusal, share=0.2)
    batch_ids, begin = sliced(application), time.monotonic()
    while Message.objects.filter(attempts__gt=0).count() < 1_200:
        assert time.monotonic() < begin + 60
        due = DispatchBatch.objects.filter(pk__in=batch_ids, state="waiting", due_at__lte=timezone.now())
        for batch_id in due.values_list("pk", flat=True):
            dispatch.run_batch(batch_id)
    assert fcm.stats()["reasons"][refusal.partition("-")[0]] > 150
    assert set(Message.objects.values_list("status", flat=True)) == {"successful", "errored"}


@pytest.mark.django_db(transaction=True)
def test_a_429_with_retry_after_slows_the_project_down_and_it_goes_on_later(application, fcm):
    make_subscriptions(application, fcm_tokens(100), type="AndroidPush")
    fcm.behave({"name": "QUOTA_EXCEEDED", "retry_after_s": 30}, next=60)
    first, second = sliced(application)[0], sliced(application)[0]
    dispatch.run_batch(first)
    row = ChannelCredential.objects.get()
    seen = snapshot(row)
    assert seen.is_slowed
    assert seen.held_until > timezone.now() + timedelta(seconds=25)
    assert Message.objects.filter(status="errored", error_reason="QUOTA_EXCEEDED").count() == 60

    before = fcm.stats()["requests"]
    dispatch.run_batch(second)
    waiting = DispatchBatch.objects.get(pk=second)
    assert fcm.stats()["requests"] == before, "held"
    assert waiting.state == "waiting"
    assert waiting.due_at > timezone.now() + timedelta(seconds=25)

    let_go(row)
    make_due()
    for batch_id in (first, second):
        dispatch.run_batch(batch_id)
    assert set(Message.objects.values_list("status", flat=True)) == {"successful"}
    assert Message.objects.count() == 200


def let_go(row):
    """As if the Retry-After were long over, and its rate had recovered."""
    recovered = {"held": 0, "rate": 0, "tokens": 1_000}
    rates._scripts().take.registered_client.hset(credential_bucket(row).key, mapping=recovered)


def make_due():
    now = timezone.now()
    Message.objects.filter(status="errored").update(retry_at=now)
    DispatchBatch.objects.filter(state="waiting").update(due_at=now)


# --- Redis is no more than a memory --------------------------------------------------------------------------------


@pytest.fixture
def dead_redis(settings, monkeypatch):
    """Nothing listens where Redis should be."""
    broker = settings.REDIS_URL
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(rates, "_local", rates._Local())
    for cached in (rates._scripts, breaker._counters):
        cached.cache_clear()
    yield
    settings.REDIS_URL = broker
    rates._asked_again_at = 0.0
    for cached in (rates._scripts, breaker._counters):
        cached.cache_clear()


def test_without_redis_a_worker_keeps_to_its_share(dead_redis, settings):
    settings.RATE_LOCAL_SHARE = 0.1
    shared, taken, begin = bucket(per_minute=120_000), 0, time.monotonic()
    while time.monotonic() < begin + 1:
        taken += Pace([shared]).take(50) or 0
    assert 150 <= taken <= 200 * (time.monotonic() - begin) + 1
    assert Pace([bucket(0)]).take(50) == 50, "no limit is no limit"


def test_without_redis_a_batch_that_is_too_slow_for_a_worker_goes_back(dead_redis):
    pace = Pace([bucket(per_minute=60)])
    while pace.take(500):
        pass
    assert pace.back_in_s > 1


def test_without_redis_a_retry_after_still_holds(dead_redis):
    row = credential()
    assert note_pushbacks(row, pushbacks(20, retry_after_s=30.0), answers=20)
    pace = Pace([credential_bucket(row)])
    assert pace.take(10) is None
    assert pace.back_in_s > 25
    assert snapshot(row).is_live is False


@pytest.mark.django_db(transaction=True)
def test_without_redis_messages_leave_all_the_same(application, apns, fcm, dead_redis):
    make_subscriptions(application, [f"{n:064x}" for n in range(30)])
    make_subscriptions(application, fcm_tokens(30), type="AndroidPush")
    for batch_id in sliced(application):
        assert dispatch.run_batch(batch_id)
    assert set(Message.objects.values_list("status", flat=True)) == {"successful"}


def test_an_emptied_redis_is_a_bucket_that_starts_anew():
    clock, slow = Clock(), bucket(600)
    pace = Pace([slow], clock=clock)
    take_all(pace)
    client = rates._scripts().take.registered_client
    client.delete(slow.key)
    client.script_flush()
    assert Pace([slow], clock=clock).take(5) == 5


# --- Throttled campaigns ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_throttled_batch_gives_its_worker_back_and_comes_again(application, apns):
    make_subscriptions(application, [f"{n:064x}" for n in range(60)])
    (batch_id,) = sliced(application, messages_per_minute=600)
    begin = time.monotonic()
    dispatch.run_batch(batch_id)
    assert time.monotonic() - begin < 2
    sent = apns.stats()["accepted"]
    assert 10 <= sent <= 22
    batch = DispatchBatch.objects.get()
    assert (batch.state, batch.lease_id) == ("waiting", None)
    assert timedelta(0) < batch.due_at - timezone.now() < timedelta(seconds=5)
    rates._scripts().take.registered_client.delete(f"automata:rate:{batch.dispatch_id}")  # the seconds go by
    make_due()
    dispatch.run_batch(batch_id)
    assert sent < apns.stats()["accepted"] <= 2 * 22


@pytest.mark.django_db(transaction=True)
def test_a_campaign_takes_its_throttle_to_its_dispatch(application, apns, server, monkeypatch):
    make_subscription(application)
    body = {"name": "Sale", "title": "Hi", "targeting_criteria": {}, "messages_per_minute": 5_000}
    made = server.post("campaigns", body).json()["data"]
    assert made["messages_per_minute"] == 5_000
    server.post(f"campaigns/{made['id']}/launch")
    assert Dispatch.objects.get().messages_per_minute == 5_000
    again = campaign_create(application=application, name="Free", title="Hi", targeting_criteria={})
    campaign_launch(campaign=again)
    assert Dispatch.objects.get(campaign_id=again.pk).messages_per_minute is None


@pytest.mark.django_db
@pytest.mark.parametrize("value", [0, -1, 10**9, "fast"])
def test_a_throttle_that_makes_no_sense_is_refused(server, value):
    body = {"name": "Sale", "title": "Hi", "targeting_criteria": {}, "messages_per_minute": value}
    answer = server.post("campaigns", body)
    assert answer.status_code == 422 or answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == "messages_per_minute"


# --- Devices ------------------------------------------------------------------------------------------------------


def test_a_device_gets_so_many_in_a_minute_and_so_many_in_an_hour(settings):
    row, device, other = credential(), str(uuid4()), str(uuid4())
    settings.DEVICE_RATES = {"fcm": (240, 5_000)}
    begin = NOON - NOON % 3_600
    assert not any(device_waits(row, [device] * 240, now=begin))
    assert device_waits(row, [device, other], now=begin + 10) == [50, 0]
    counted = 240
    for minute in range(1, 60):
        waits = device_waits(row, [device] * 240, now=begin + 60 * minute)
        counted += waits.count(0)
    assert 5_000 <= counted <= 5_500
    assert device_waits(row, [device], now=begin + 3_599) == [1]
    assert device_waits(row, [device], now=begin + 3_600) == [0]


@pytest.mark.django_db(transaction=True)
def test_what_is_too_much_for_a_device_waits_and_the_others_leave(application, fcm):
    busy, idle = make_subscriptions(application, fcm_tokens(2), type="AndroidPush")
    credential_update(credential=ChannelCredential.objects.get(), device_rate_per_minute=3)
    for _ in range(5):
        send_to(application, [busy])
    send_to(application, [busy, idle])
    for batch_id in DispatchBatch.objects.order_by("id").values_list("id", flat=True):
        dispatch.run_batch(batch_id)
    assert fcm.stats()["accepted"] == 4
    assert Message.objects.filter(subscription=idle, status="successful").count() == 1
    assert Message.objects.filter(subscription=busy, status="pending").count() == 3
    soon = timezone.now() + timedelta(seconds=61)
    assert DispatchBatch.objects.filter(state="waiting", due_at__gt=timezone.now(), due_at__lte=soon).count() == 3


def send_to(application, subscriptions):
    ids = [UUID(str(subscription.pk)) for subscription in subscriptions]
    messages_send(
        application=application,
        channel_type="push",
        recipients=Recipients(external_ids=[], subscription_ids=ids),
        content=rates_content(application),
        priority="high",
        ttl_s=None,
    )


def rates_content(application):
    from apps.messaging.content import content_source

    return content_source(application=application, channel_type="push", title="Hi", body="There")


@pytest.mark.django_db
def test_an_operator_changes_the_limits_of_a_credential(application, fcm, server):
    row = ChannelCredential.objects.get()
    changes = {"rate_per_minute": 1_200, "device_rate_per_hour": 10}
    answer = server.patch(f"credentials/{row.pk}", changes).json()["data"]
    assert (answer["rate_per_minute"], answer["device_rate_per_minute"]) == (1_200, None)
    row.refresh_from_db()
    assert credential_bucket(row).limit_per_s == 20
    assert rates.device_limits(row) == (240, 10)
    server.patch(f"credentials/{row.pk}", {"rate_per_minute": None})
    row.refresh_from_db()
    assert credential_bucket(row).limit_per_s == 10_000
    assert server.patch(f"credentials/{row.pk}", {"rate_per_minute": 0}).status_code in (400, 422)


def test_a_snapshot_of_a_quiet_credential(settings):
    settings.RATE_PER_MINUTE = {"apns": 0, "fcm": 600_000}
    apple, google = snapshot(credential(provider="apns")), snapshot(credential())
    assert (apple.limit_per_minute, apple.rate_per_minute, apple.tokens) == (None, None, None)
    assert (google.limit_per_minute, google.rate_per_minute, google.tokens) == (600_000, 600_000, 4_001)
    assert (google.breaker, google.is_slowed, google.throttled_by, google.sent_per_minute) == ("closed", False, "", 0)
