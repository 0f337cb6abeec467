"""A test from its launch to its end: everybody exactly once, whatever happens in between."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.campaigns import services
from apps.campaigns.experiments import running
from apps.campaigns.experiments.assignment import letter_of, ranges_of
from apps.campaigns.experiments.models import Experiment, VariantTally
from apps.campaigns.experiments.planning import variants_of
from apps.campaigns.experiments.running import campaigns_decide
from apps.campaigns.models import MessageCampaign
from apps.campaigns.services import fanout
from apps.campaigns.services.fanout import Step
from apps.messaging import lifecycle, recorders
from apps.messaging.dispatch import claim_batch
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, Message
from apps.messaging.rates import dispatch_buckets
from apps.messaging.splitting import BUCKETS, bucket_of
from apps.subscriptions.models import AppUser, Subscription
from tests.campaigns.experiments.conftest import experiment
from tests.campaigns.test_lifecycle import in_threads

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small_steps(settings, monkeypatch):
    settings.BATCH_SIZE = 5
    monkeypatch.setattr(fanout, "FIRST_STEP_BATCHES", 2)
    step = services.fanout.fan_out_step
    monkeypatch.setattr(fanout, "fan_out_step", lambda campaign_id: step(campaign_id, limit=20))


@pytest.fixture(autouse=True)
def queued(monkeypatch):
    asked: list[uuid.UUID] = []
    monkeypatch.setattr(running, "queue_rest", asked.append)
    return asked


def claim_all() -> None:
    """Claim what waits, as workers do, in any order."""
    for batch_id in DispatchBatch.objects.filter(first_id=None).order_by("?").values_list("pk", flat=True):
        assert claim_batch(batch_id) is not None


def expected_letters() -> dict[uuid.UUID, str]:
    """Subscription → the letter of its part, by Python's own count."""
    plan = Experiment.objects.get()
    variants = variants_of(plan)
    return {
        pk: letter_of(plan, variants, user_id or pk)
        for pk, user_id in Subscription.objects.values_list("pk", "user_id")
    }


def sent_letters() -> dict[uuid.UUID, str]:
    """Subscription → the letter of what it got; nobody gets two."""
    letter_of_dispatch = dict(Dispatch.objects.values_list("pk", "variant"))
    rows = list(Message.objects.values_list("subscription_id", "dispatch_id"))
    assert len(rows) == len({subscription for subscription, _ in rows}), "somebody got two"
    return {subscription: letter_of_dispatch[dispatch] for subscription, dispatch in rows}


def move(step: str, source: str, ids) -> None:
    message = Message.objects.get(pk=ids[0])
    counts = lifecycle.apply(
        step, source=source, ids=ids, application_id=message.application_id, at=timezone.now(), reason=None
    )
    recorders.record(counts)


def tallies_equal_rows() -> None:
    campaign = MessageCampaign.objects.get()
    rows = defaultdict(Counter)
    of_tally = dict(Dispatch.objects.values_list("pk", "tally_id"))
    for dispatch_id, status in Message.objects.values_list("dispatch_id", "status"):
        rows[of_tally[dispatch_id]][status] += 1
    sums = Counter()
    for tally in VariantTally.objects.all():
        now = rows[tally.pk]
        assert tally.total == sum(now.values())
        assert tally.successful == now["successful"] + now["received"] + now["converted"]
        assert tally.received == now["received"] + now["converted"]
        assert tally.converted == now["converted"]
        assert tally.failed == now["failed"]
        sums.update({name: getattr(tally, name) for name in ("total", "successful", "received", "converted", "failed")})
    assert sums["total"] == campaign.total_recipients
    assert sums["successful"] == campaign.successful_count
    assert sums["converted"] == campaign.converted_count


# --- Who gets what ---------------------------------------------------------------------------------------------------


def test_parts_are_exact_also_of_odd_percents():
    found = ranges_of(shares=[33, 33, 34], test_percent=7, holdout_percent=3)
    assert found.held_out_from == 970_000
    assert found.variants == [0, 22_407, 44_814, 67_900]
    assert ranges_of(shares=[1, 99], test_percent=1, holdout_percent=0).variants == [0, 100, 10_000]


def test_the_database_and_python_come_to_the_same_bucket(users, launched):
    users(50)
    campaign = launched(experiment=experiment())
    from apps.messaging.splitting import BUCKET

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT coalesce(s.user_id, s.id), {BUCKET} FROM subscriptions_subscription s", [campaign.pk])
        for subject_id, bucket in cursor.fetchall():
            assert bucket == bucket_of(campaign.pk, subject_id)
            assert 0 <= bucket < BUCKETS


def test_each_gets_the_variant_of_its_user_and_all_devices_of_one_the_same(users, people, launched):
    users(40)
    people(30)
    campaign = launched(experiment=experiment(30, 30, 40))
    assert services.fan_out(campaign.pk) is Step.DONE
    claim_all()
    got = sent_letters()
    assert got == expected_letters()
    assert set(got.values()) == {"A", "B", "C"}
    by_user = defaultdict(set)
    for subscription in Subscription.objects.exclude(user=None):
        by_user[subscription.user_id].add(got[subscription.pk])
    assert {len(letters) for letters in by_user.values()} == {1}
    words = dict(Dispatch.objects.values_list("variant", "title"))
    assert words == {"A": "Hello", "B": "Hello B", "C": "Hello C"}
    tallies_equal_rows()


def test_who_is_held_out_gets_nothing_and_is_counted(users, launched):
    users(60)
    campaign = launched(experiment=experiment(holdout_percent=40))
    services.fan_out(campaign.pk)
    claim_all()
    expected = expected_letters()
    held_out = {pk for pk, letter in expected.items() if letter == "-"}
    assert held_out
    assert set(sent_letters()) == set(expected) - held_out
    row = MessageCampaign.objects.get()
    assert row.total_recipients == len(expected) - len(held_out)
    assert Experiment.objects.get().held_out == len(held_out)
    tallies_equal_rows()


# --- The rest and its winner -----------------------------------------------------------------------------------------


def after_its_test(launched, users, **plan) -> MessageCampaign:
    users(100)
    campaign = launched(experiment=experiment(test_percent=30, holdout_percent=10, **plan))
    assert services.fan_out(campaign.pk) is Step.DONE
    claim_all()
    return MessageCampaign.objects.get()


def test_the_rest_waits_and_gets_the_winner(server, users, launched, queued):
    campaign = after_its_test(launched, users)
    assert campaign.awaits_winner
    expected = expected_letters()
    assert sent_letters() == {pk: letter for pk, letter in expected.items() if letter in ("A", "B")}
    finish_all()
    assert services.campaigns_finish_done() == 0
    stats = server.get(f"campaigns/{campaign.pk}/stats").json()["data"]
    assert (stats["status"], stats["awaits_winner"], stats["fanout_done"]) == ("running", True, False)
    answer = server.post(f"campaigns/{campaign.pk}/experiment/winner", {"variant": "B"})
    assert answer.status_code == 200, answer.content
    assert queued == []  # on commit, which a test has none of
    assert services.fan_out(campaign.pk) is Step.DONE
    claim_all()
    got = sent_letters()
    assert got == {pk: letter or "B" for pk, letter in expected.items() if letter != "-"}
    tallies_equal_rows()
    parts = {(t.variant.letter, t.part): t.total for t in VariantTally.objects.select_related("variant")}
    assert parts["B", "rest"] == sum(letter == "" for letter in expected.values())
    finish_all()
    assert services.campaigns_finish_done() == 1
    assert MessageCampaign.objects.get().status == "completed"


def finish_all() -> None:
    DispatchBatch.objects.update(state=BatchState.DONE)


def test_the_winner_is_chosen_once_and_only_when_the_test_is_cut(server, users, launched):
    users(60)
    campaign = launched(experiment=experiment(test_percent=50))
    path = f"campaigns/{campaign.pk}/experiment/winner"
    fanout.fan_out_step(campaign.pk)
    assert server.post(path, {"variant": "A"}).json()["error"]["code"] == "TEST_NOT_CUT"
    services.fan_out(campaign.pk)
    assert server.post(path, {"variant": "C"}).status_code == 400
    server.post(f"campaigns/{campaign.pk}/pause")
    assert server.post(path, {"variant": "A"}).json()["error"]["code"] == "CAMPAIGN_STATE"
    server.post(f"campaigns/{campaign.pk}/resume")
    assert server.post(path, {"variant": "A"}).status_code == 200
    assert server.post(path, {"variant": "B"}).json()["error"]["code"] == "WINNER_CHOSEN"


@pytest.mark.django_db(transaction=True)
def test_two_who_decide_at_once_make_one_rest(server, users, launched):
    campaign = after_its_test(launched, users)
    path = f"campaigns/{campaign.pk}/experiment/winner"
    statuses = in_threads(4, lambda n: server.post(path, {"variant": "AB"[n % 2]}).status_code)
    assert sorted(statuses) == [200, 409, 409, 409]
    assert VariantTally.objects.filter(part="rest").count() == 1


@pytest.mark.parametrize("crash_at", [1, 2, 3, 4])
@pytest.mark.parametrize("of", ["test", "rest"])
@pytest.mark.django_db(transaction=True)
def test_a_crash_at_any_step_neither_skips_nor_repeats_anybody(launched, users, monkeypatch, crash_at, of):
    users(100)
    campaign = launched(experiment=experiment(test_percent=50, holdout_percent=10))
    if of == "rest":
        services.fan_out(campaign.pk)
        running.winner_choose(campaign=campaign, letter="B", decided_by="x")
    name = "dispatches_slice" if of == "test" else "dispatch_slice"
    cut, calls = getattr(running, name), 0

    def cut_and_die(**kwargs):
        nonlocal calls
        calls += 1
        sliced = cut(**kwargs)
        if calls == crash_at:
            raise SystemExit("the worker is killed after the batches were written, before the checkpoint")
        return sliced

    with monkeypatch.context() as patch:
        patch.setattr(running, name, cut_and_die)
        with pytest.raises(SystemExit):
            services.fan_out(campaign.pk)
    assert services.fan_out(campaign.pk) is Step.DONE
    if of == "test":
        running.winner_choose(campaign=campaign, letter="B", decided_by="x")
        assert services.fan_out(campaign.pk) is Step.DONE
    claim_all()
    expected = expected_letters()
    assert sent_letters() == {pk: letter or "B" for pk, letter in expected.items() if letter != "-"}
    assert Experiment.objects.get().held_out == sum(letter == "-" for letter in expected.values())
    tallies_equal_rows()


@pytest.mark.django_db(transaction=True)
def test_a_step_during_which_it_is_paused_never_was(server, launched, users, monkeypatch):
    users(60)
    campaign = launched(experiment=experiment(holdout_percent=20))
    fanout.fan_out_step(campaign.pk)
    before = (MessageCampaign.objects.get().total_recipients, Experiment.objects.get().held_out)
    cut = running.dispatches_slice

    def cut_while_somebody_pauses_it(**kwargs):
        sliced = cut(**kwargs)
        in_threads(1, lambda _: server.post(f"campaigns/{campaign.pk}/pause").status_code)
        return sliced

    with monkeypatch.context() as patch:
        patch.setattr(running, "dispatches_slice", cut_while_somebody_pauses_it)
        assert fanout.fan_out_step(campaign.pk) is Step.STOPPED
    assert (MessageCampaign.objects.get().total_recipients, Experiment.objects.get().held_out) == before
    assert set(Dispatch.objects.values_list("state", flat=True)) == {"paused"}
    server.post(f"campaigns/{campaign.pk}/resume")
    services.fan_out(campaign.pk)
    claim_all()
    assert set(sent_letters()) == {pk for pk, letter in expected_letters().items() if letter != "-"}


def test_who_signs_in_between_test_and_rest_gets_no_second_one(people, users, launched):
    """Whose bucket changes with the user that they are now."""
    people(60)
    campaign = launched(experiment=experiment(test_percent=50))
    services.fan_out(campaign.pk)
    claim_all()
    had = sent_letters()
    plan = Experiment.objects.get()
    for pk in had:  # each becomes somebody's who stands in the rest
        while True:
            user = AppUser(application=campaign.application, external_id=str(uuid.uuid4()))
            if letter_of(plan, variants_of(plan), user.pk) == "":
                break
        user.save()
        Subscription.objects.filter(pk=pk).update(user=user)
    running.winner_choose(campaign=campaign, letter="A", decided_by="x")
    services.fan_out(campaign.pk)
    claim_all()
    assert set(sent_letters()) == set(Subscription.objects.values_list("pk", flat=True))


def test_a_cancel_while_the_rest_waits_ends_it(server, users, launched):
    campaign = after_its_test(launched, users)
    assert server.post(f"campaigns/{campaign.pk}/cancel").status_code == 200
    assert set(Dispatch.objects.values_list("state", flat=True)) == {"canceled"}
    answer = server.post(f"campaigns/{campaign.pk}/experiment/winner", {"variant": "B"})
    assert answer.json()["error"]["code"] == "CAMPAIGN_STATE"


def test_variants_share_the_throttle(users, launched):
    users(10)
    campaign = launched(experiment=experiment(), messages_per_minute=60)
    keys = {bucket.key for dispatch in Dispatch.objects.all() for bucket in dispatch_buckets(dispatch)}
    assert keys == {f"automata:rate:{campaign.pk}"}


# --- The rule --------------------------------------------------------------------------------------------------------


def outcome(letter: str, successful: int, converted: int) -> None:
    VariantTally.objects.filter(variant__letter=letter, part="test").update(
        successful=successful, received=converted, converted=converted
    )


def it_is_time() -> None:
    Experiment.objects.update(decide_at=timezone.now() - timedelta(seconds=1))


def test_the_rule_takes_the_best_when_it_is_sure_enough(users, launched, queued):
    campaign = after_its_test(launched, users, winner_by="rule", decide_after_h=2)
    plan = Experiment.objects.get()
    assert timedelta(hours=1.9) < plan.decide_at - timezone.now() < timedelta(hours=2)
    assert campaigns_decide() == 0
    outcome("A", 1000, 20)
    outcome("B", 1000, 60)
    it_is_time()
    assert campaigns_decide() == 1
    assert campaigns_decide() == 0
    plan.refresh_from_db()
    assert (plan.winner.letter, plan.decided_because, plan.decided_by) == ("B", "confidence", "")
    assert plan.decided_confidence > 0.99
    assert services.fan_out(campaign.pk) is Step.DONE
    claim_all()
    assert Counter(sent_letters().values())["B"] > 100


@pytest.mark.parametrize(("fallback", "winner"), [("best", "B"), ("control", "A"), ("wait", None)])
def test_the_rule_falls_back_when_it_is_not(users, launched, fallback, winner):
    after_its_test(launched, users, winner_by="rule", fallback=fallback)
    outcome("A", 1000, 30)
    outcome("B", 1000, 32)
    it_is_time()
    assert campaigns_decide() == (winner is not None)
    plan = Experiment.objects.get()
    assert (plan.winner.letter if plan.winner else None) == winner
    assert plan.decide_at is None
    assert (plan.asked_at is not None) == (winner is None)
    assert MessageCampaign.objects.get().awaits_winner == (winner is None)


def test_a_fault_of_one_test_does_not_hold_up_the_others(users, launched, monkeypatch):
    campaign = after_its_test(launched, users, winner_by="rule", fallback="best")
    other = launched(experiment=experiment(test_percent=30, winner_by="rule", fallback="best"))
    services.fan_out(other.pk)
    ask, asked = running._ask_rule, []

    def faulty(campaign_id, now):
        asked.append(campaign_id)
        if len(asked) == 1:
            raise ZeroDivisionError
        return ask(campaign_id, now)

    monkeypatch.setattr(running, "_ask_rule", faulty)
    it_is_time()
    assert campaigns_decide() == 1
    assert set(asked) == {campaign.pk, other.pk}


def test_the_rule_of_what_was_canceled_is_not_said_to_have_been_asked(users, launched):
    campaign = after_its_test(launched, users, winner_by="rule")
    services.campaign_cancel(campaign=campaign)
    it_is_time()
    assert campaigns_decide() == 0
    plan = Experiment.objects.get()
    assert (plan.decide_at, plan.asked_at) == (None, None)


def test_too_little_is_never_sure(users, launched):
    after_its_test(launched, users, winner_by="rule", confidence_percent=50)
    outcome("A", 20, 0)
    outcome("B", 20, 9)
    it_is_time()
    assert campaigns_decide() == 0


def test_what_is_paused_is_decided_when_it_goes_on(server, users, launched):
    campaign = after_its_test(launched, users, winner_by="rule", fallback="best")
    it_is_time()
    server.post(f"campaigns/{campaign.pk}/pause")
    assert campaigns_decide() == 0
    server.post(f"campaigns/{campaign.pk}/resume")
    assert campaigns_decide() == 1


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_decide_once(users, launched):
    after_its_test(launched, users, winner_by="rule", fallback="best")
    it_is_time()
    assert sum(in_threads(4, lambda _: campaigns_decide())) == 1
    assert VariantTally.objects.filter(part="rest").count() == 1


def test_without_a_rest_the_rule_names_the_winner_also_when_all_is_sent(users, launched):
    users(20)
    campaign = launched(experiment=experiment(winner_by="rule", fallback="best"))
    services.fan_out(campaign.pk)
    finish_all()
    assert services.campaigns_finish_done() == 1
    it_is_time()
    assert campaigns_decide() == 1
    campaign = MessageCampaign.objects.get()
    assert (campaign.status, campaign.awaits_winner, campaign.fanout_done_at is None) == ("completed", False, False)


# --- What it costs ---------------------------------------------------------------------------------------------------


def statements(work) -> int:
    """But what others ask once in a while: whether the platform has a switch off."""
    with CaptureQueriesContext(connection) as captured:
        work()
    return len([row for row in captured.captured_queries if "tenants_platformswitch" not in str(row["sql"])])


def costs(campaign) -> tuple[int, int, int]:
    """Statements of a step of the fan-out, of a claim with the making of its messages, and of recording a slice."""
    step = statements(lambda: fanout.fan_out_step(campaign.pk))
    batch = DispatchBatch.objects.first()
    claim = statements(lambda: claim_batch(batch.pk))
    ids = list(Message.objects.values_list("pk", flat=True))
    return step, claim, statements(lambda: move("send", "pending", ids))


def test_without_variants_a_step_and_a_slice_run_as_many_statements_as_ever(people, launched):
    """Counted at the revision before there were variants (60f9fb9)."""
    people(60)
    assert costs(launched()) == (10, 9, 4)


def test_with_variants_a_step_runs_four_more_and_a_slice_one(people, launched):
    """The plan, the variants, their dispatches and the tallies (and those held out, if a step meets any); and the tally
    of what moved. The subscriptions are read once for all variants."""
    people(60)
    assert costs(launched(experiment=experiment(30, 30, 40))) == (14, 9, 5)
