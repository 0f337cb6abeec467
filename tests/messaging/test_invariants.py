"""Random orders of answers, retries, receipts, cancels and time-outs: what must hold after each (design, section 8)."""

import contextlib
from collections import Counter
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.messaging import claims, dispatch, lifecycle, recorders, services
from apps.messaging.adapters.base import Outcome, Result
from apps.messaging.breaker import Breaker
from apps.messaging.models import Dispatch, DispatchBatch, Message, MessageEvent
from apps.messaging.receipts.sdk import Receipt, receipts_apply
from apps.messaging.recording import Recording
from apps.subscriptions.models import Subscription
from apps.tenants.models import ChannelCredential
from automata_signal.errors import Conflict
from tests.factories import make_messages

MESSAGES = 3
ALLOWED = {(source, step.target) for step in lifecycle.steps().values() for source in step.sources}

indexes = st.integers(0, MESSAGES - 1)
answers = st.sampled_from(
    [
        (Outcome.ACCEPTED, None),
        (Outcome.TRANSIENT, None),
        (Outcome.THROTTLED, None),
        (Outcome.UNKNOWN, None),
        (Outcome.RECIPIENT_GONE, -10),
        (Outcome.PAYLOAD_REJECTED, None),
    ]
)
operations = st.one_of(
    st.tuples(st.just("work"), st.lists(answers, min_size=MESSAGES, max_size=MESSAGES)),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("receive"), indexes),
    st.tuples(st.just("convert"), indexes),
    st.tuples(st.just("cancel one"), indexes),
    st.tuples(st.just("cancel all"), st.none()),
    st.tuples(st.just("expire"), st.none()),
)


class World:
    """One batch of messages, the worker that sends it, its devices and its operator."""

    def __init__(self, application, tally: Counter) -> None:
        self.application = application
        self.messages = make_messages(application, ["pending"] * MESSAGES)
        self.batch = DispatchBatch.objects.get(first_id=self.messages[0].pk)
        self.credential = ChannelCredential(application=application, provider="apns", name="test")
        self.tally = tally

    def work(self, outcomes) -> None:
        """A worker claims what is due, gets these answers and records them."""
        DispatchBatch.objects.filter(state="waiting").update(due_at=timezone.now())
        Message.objects.filter(status="errored").update(retry_at=timezone.now())
        claim = claims.claim_batch(self.batch.pk)
        if claim is None:
            return
        if claim.dispatch.state == "canceled":
            claims.fail_rest(claim, "canceled")
        else:
            claims.fail_unsendable(claim)
            by_id = dict(zip([str(m.pk) for m in self.messages], outcomes, strict=True))
            results = [
                Result(r.message_id, by_id[r.message_id][0], "why", 0, by_id[r.message_id][1]) for r in claim.recipients
            ]
            if results:
                Recording(claim, self.credential, Breaker(self.credential))._record(results)
        dispatch.finish_batch(claim)

    def crash(self, _) -> None:
        """A worker claims and dies; the lease runs out."""
        DispatchBatch.objects.filter(state="waiting").update(due_at=timezone.now())
        if claims.claim_batch(self.batch.pk):
            DispatchBatch.objects.update(state="waiting", lease_id=None)

    def receive(self, index) -> None:
        receipts_apply(
            application=self.application, receipts=[Receipt(self.messages[index].pk, "received")], trusted=True
        )

    def convert(self, index) -> None:
        receipts_apply(
            application=self.application, receipts=[Receipt(self.messages[index].pk, "converted")], trusted=True
        )

    def cancel_one(self, index) -> None:
        with contextlib.suppress(Conflict):  # it has left already
            services.message_cancel(application=self.application, message_id=self.messages[index].pk)

    def cancel_all(self, _) -> None:
        Dispatch.objects.update(state="canceled")

    def expire(self, _) -> None:
        DispatchBatch.objects.update(expires_at=timezone.now() + timedelta(seconds=1))

    def check(self) -> None:
        rows = {m.pk: m for m in Message.objects.all()}
        assert rows.keys() == {m.pk for m in self.messages}
        for row in rows.values():
            assert (row.status == "failed") == (row.failed_at is not None)
            assert row.status != "failed" or row.error_reason
            assert row.status != "errored" or row.retry_at
            assert row.status not in ("received", "converted") or row.received_at
            self._check_events(row)
        counted = Counter({"pending": MESSAGES})
        counted.update(self.tally)
        assert +counted == Counter(row.status for row in rows.values()), "the recorders were told something else"
        ended = {m.subscription_id for m in rows.values() if (m.error_details or {}).get("outcome") == "recipient_gone"}
        assert ended == set(Subscription.objects.filter(subscription_status=-10).values_list("pk", flat=True))

    def _check_events(self, row) -> None:
        """The events, in the order they were written, are a legal way from pending to the present state."""
        events = list(MessageEvent.objects.filter(message_id=row.pk))
        way = _legal_way([e.event_type for e in events], row.status)
        assert way, f"{[e.event_type for e in events]} is no way from pending to {row.status}"


def _legal_way(targets: list[str], end: str) -> bool:
    """Whether the targets can be put in an order that the transition table allows, ending in `end`."""
    if not targets:
        return end == "pending"
    remaining = Counter(targets)

    def walk(state: str) -> bool:
        if not +remaining:
            return state == end
        for target in list(+remaining):
            if (state, target) in ALLOWED:
                remaining[target] -= 1
                if walk(target):
                    return True
                remaining[target] += 1
        return False

    return walk("pending")


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(operations, min_size=1, max_size=12))
def test_every_order_of_events_keeps_the_promises(application, steps):
    tally: Counter[str] = Counter()

    def count(counts):
        for row in counts:
            tally[row.new] += row.messages
            tally[row.old] -= row.messages

    recorders.register(count)
    try:
        with transaction.atomic():
            world = World(application, tally)
            for name, argument in steps:
                getattr(world, name.replace(" ", "_"))(argument)
                world.check()
            transaction.set_rollback(True)
    finally:
        recorders._recorders.remove(count)
