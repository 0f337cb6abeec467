"""The transition table, per message and in sets: the two must be the same, for every pair of states."""

import itertools
from collections import Counter

import pytest
from django.utils import timezone
from django_fsm import TransitionNotAllowed

from apps.messaging import lifecycle
from apps.messaging.models import Message, MessageEvent, MessageStatus
from apps.messaging.recorders import StatusCount
from automata_signal.ids import event_id, new_id
from tests.factories import make_messages

SPECIFICATION = {
    ("pending", "successful"),
    ("pending", "failed"),
    ("pending", "errored"),
    ("errored", "pending"),
    ("errored", "successful"),
    ("errored", "failed"),
    ("successful", "received"),
    ("successful", "failed"),
    ("received", "converted"),
}
STATES = [state.value for state in MessageStatus]
STEPS = sorted(lifecycle.steps())


def test_the_table_is_the_specifications():
    declared = {(source, step.target) for step in lifecycle.steps().values() for source in step.sources}
    assert declared == SPECIFICATION


@pytest.mark.parametrize(("step", "source"), list(itertools.product(STEPS, STATES)))
def test_a_set_moves_exactly_when_one_message_may(application, step, source):
    """Every transition from every state: the FSM on the model and the set-based statement agree."""
    (message,) = make_messages(application, [source])
    in_memory = Message(status=source)
    target = lifecycle.steps()[step].target
    try:
        getattr(in_memory, step)()
        allowed = True
    except TransitionNotAllowed:
        allowed = False
    arguments = {"ids": [message.pk], "application_id": application.pk, "at": timezone.now(), "reason": "because"}
    if allowed:
        moved = lifecycle.apply(step, source=source, attempted=step in ("send", "error"), **arguments)
        assert [(count.old, count.new, count.messages) for count in moved] == [(source, target, 1)]
        assert Message.objects.get(pk=message.pk).status == in_memory.status == target
        assert [e.event_type for e in MessageEvent.objects.filter(message_id=message.pk)] == [target]
    else:
        with pytest.raises(ValueError, match="transition table"):
            lifecycle.apply(step, source=source, **arguments)
        assert Message.objects.get(pk=message.pk).status == source


@pytest.mark.parametrize("step", STEPS)
def test_a_set_moves_only_what_is_in_the_source_state(application, step):
    messages = make_messages(application, STATES * 3)
    source = sorted(lifecycle.steps()[step].sources)[0]
    moved = lifecycle.apply(
        step, source=source, ids=[m.pk for m in messages], application_id=application.pk, at=timezone.now()
    )
    target = lifecycle.steps()[step].target
    after = Counter(Message.objects.values_list("status", flat=True))
    expected = Counter(STATES * 3)
    expected[source] -= 3
    expected[target] += 3
    assert (sum(count.messages for count in moved), after) == (3, +expected)
    assert MessageEvent.objects.count() == 3


def test_the_answer_is_how_many_moved_by_campaign_and_channel(application):
    messages = make_messages(application, ["pending"] * 3 + ["failed"])
    campaign_id = new_id()
    Message.objects.filter(pk=messages[0].pk).update(campaign_id=campaign_id)
    arguments = {"ids": [m.pk for m in messages], "application_id": application.pk, "at": timezone.now()}
    counts = lifecycle.apply("fail", source="pending", reason="because", **arguments)
    scope = {"application_id": application.pk, "channel_type": "push"}
    change = {"old": "pending", "new": "failed", "reason": "because"}
    assert sorted(counts, key=lambda count: count.messages) == [
        StatusCount(campaign_id=campaign_id, messages=1, dispatch_id=messages[0].dispatch_id, **scope, **change),
        StatusCount(campaign_id=None, messages=2, **scope, **change),
    ]
    assert MessageEvent.objects.count() == 3
    assert lifecycle.apply("fail", source="pending", **arguments) == []


def test_a_message_that_lies_between_the_named_ones_does_not_move(application):
    messages = make_messages(application, ["pending"] * 3)
    named = [messages[0].pk, messages[2].pk]
    lifecycle.apply("send", source="pending", ids=named, application_id=application.pk, at=timezone.now())
    moved = Message.objects.filter(status="successful").values_list("pk", flat=True)
    assert sorted(moved) == sorted(named)


def test_a_message_of_another_application_does_not_move(application, other_application):
    (message,) = make_messages(application, ["pending"])
    arguments = {"ids": [message.pk], "at": timezone.now()}
    assert lifecycle.apply("send", source="pending", application_id=other_application.pk, **arguments) == []
    assert Message.objects.get(pk=message.pk).status == "pending"


def test_an_unknown_id_is_no_error(application):
    (message,) = make_messages(application, ["pending"])
    stranger = event_id(message.pk, 7)
    assert (
        lifecycle.apply("send", source="pending", ids=[stranger], application_id=application.pk, at=timezone.now())
        == []
    )


def test_each_attempt_has_an_event_of_its_own(application):
    (message,) = make_messages(application, ["pending"])
    scope = {"ids": [message.pk], "application_id": application.pk, "at": timezone.now()}
    for _ in range(5):
        lifecycle.apply("error", source="pending", attempted=True, reason="busy", retry_at=timezone.now(), **scope)
        lifecycle.apply("retry", source="errored", **scope)
    lifecycle.apply("send", source="pending", attempted=True, **scope)
    events = MessageEvent.objects.filter(message_id=message.pk).values_list("event_type", flat=True)
    assert Counter(events) == {"errored": 5, "pending": 5, "successful": 1}
    row = Message.objects.get(pk=message.pk)
    assert (row.attempts, row.error_reason, row.retry_at) == (6, None, None)


def test_times_and_notes_of_their_own_for_each_message(application):
    messages = make_messages(application, ["successful", "successful"])
    times = [timezone.now(), timezone.now()]
    lifecycle.apply(
        "receive",
        source="successful",
        ids=[m.pk for m in messages],
        application_id=application.pk,
        at=times,
        metadata=[{"n": 1}, None],
    )
    stored = {m.pk: m.received_at for m in Message.objects.all()}
    assert [stored[m.pk] for m in messages] == times
    notes = {e.message_id: e.metadata for e in MessageEvent.objects.all()}
    assert [notes[m.pk] for m in messages] == [{"n": 1}, None]


def test_updates_stay_hot():
    """No index names the state or a time, so a move touches no index (design, section 7)."""
    indexed = {name for index in Message._meta.indexes for name in index.fields}
    changed = {"status", "attempts", "sent_at", "received_at", "converted_at", "failed_at", "retry_at", "error_reason"}
    assert not indexed & changed
