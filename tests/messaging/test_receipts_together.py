"""Receipts of several requests at once: one transaction, an answer for each."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from apps.messaging.models import Message
from apps.messaging.receipts import together
from apps.messaging.receipts.sdk import Receipt
from tests.factories import handle_of, make_messages

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gathering():
    return together.Gathering()


@pytest.fixture
def recorded(monkeypatch):
    """How many receipts each transaction had."""
    sizes = []
    apply = together.receipts_apply

    def noted(**arguments):
        sizes.append(len(arguments["receipts"]))
        return apply(**arguments)

    monkeypatch.setattr(together, "receipts_apply", noted)
    return sizes


def at_once(gathering, application, calls):
    """Make the calls while the first of them is held up by a locked message; their answers, in order."""

    def call(receipts):
        try:
            return gathering.apply(application=application, receipts=receipts, trusted=False)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        with transaction.atomic():
            list(Message.objects.select_for_update().filter(pk=calls[0][0].message_id))
            first = pool.submit(call, calls[0])
            wait_until(lambda: gathering._is_recording)
            others = [pool.submit(call, receipts) for receipts in calls[1:]]
            wait_until(lambda: len(gathering._waiting) == len(others))
        return [future.result(timeout=20) for future in (first, *others)]


def wait_until(is_so):
    pause = threading.Event()
    for _ in range(2_000):
        if is_so():
            return
        pause.wait(0.005)
    raise AssertionError("it does not come to that")


def received(message):
    return Receipt(message.pk, "received", handle=handle_of(message))


def test_those_who_wait_are_recorded_together(application, gathering, recorded):
    messages = make_messages(application, ["successful"] * 4)
    answers = at_once(gathering, application, [[received(message)] for message in messages])
    assert recorded == [1, 3]
    assert [[answer.message_id for answer in each] for each in answers] == [[str(m.pk)] for m in messages]
    assert set(Message.objects.values_list("status", flat=True)) == {"received"}


def test_each_gets_the_answer_to_its_own(application, gathering, recorded):
    first, second, third = make_messages(application, ["successful", "successful", "failed"])
    wrong = Receipt(second.pk, "received", handle="sh_wrong")
    answers = at_once(gathering, application, [[received(first)], [wrong], [received(second), received(third)]])
    assert [[answer.status for answer in each] for each in answers] == [
        ["accepted"],
        ["rejected"],
        ["accepted", "ignored"],
    ]


def test_what_fails_together_is_recorded_by_each_alone(application, gathering, recorded):
    messages = make_messages(application, ["successful"] * 3)
    impossible = Receipt("not-a-uuid", "received", handle="sh_wrong")
    calls = [[received(messages[0])], [received(messages[1])], [received(messages[2]), impossible]]
    with pytest.raises(Exception, match="uuid"):
        at_once(gathering, application, calls)
    assert sorted(recorded) == [1, 1, 2, 3]
    states = dict(Message.objects.values_list("pk", "status"))
    assert [states[m.pk] for m in messages] == ["received", "received", "successful"]


def test_after_a_failure_the_next_is_recorded(application, gathering):
    (message,) = make_messages(application, ["successful"])
    with pytest.raises(Exception, match="uuid"):
        gathering.apply(application=application, receipts=[Receipt("not-a-uuid", "received")], trusted=True)
    (answer,) = gathering.apply(application=application, receipts=[received(message)], trusted=False)
    assert answer.status == "accepted"
