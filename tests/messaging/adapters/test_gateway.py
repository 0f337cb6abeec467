"""What all senders of gateways promise: no answer is lost, and no message is sent again for a fault of ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from apps.messaging.adapters.base import Content, Delivery, Endpoint, Outcome, Result
from apps.messaging.adapters.gateway import GroupSender
from automata_signal.ids import new_id

HELLO = Content(body="Hello")


class Sender(GroupSender):
    """Takes two a request; an address says what becomes of it."""

    provider = "solapi"
    per_request = 2

    def __init__(self) -> None:
        super().__init__(Endpoint("https://gateway.example", connections=2))
        self.may_answer = threading.Event()
        self.sent: list[str] = []

    def _key(self, delivery):
        if delivery.address == "unmakeable":
            raise KeyError("content")
        return

    def _exchange(self, group):
        self.may_answer.wait(5)
        self.sent += [one.address for one in group]
        if group[0].address == "unreadable":
            raise AttributeError("'str' object has no attribute 'get'")
        return [Result(one.message_id, Outcome.ACCEPTED) for one in group]


def delivery(address: str) -> Delivery:
    return Delivery(str(new_id()), address, HELLO)


@pytest.fixture
def sender():
    sender = Sender()
    yield sender
    sender.close()


def test_what_is_on_the_wire_is_answered_before_a_fault_of_the_source_goes_on(sender):
    """PostgreSQL restarts while a text message is on its way: its answer is recorded, or it would be paid for twice."""
    first, gathered = [delivery("a"), delivery("b")], delivery("not sent")

    def source() -> Iterator[Delivery]:
        yield from first
        yield gathered
        sender.may_answer.set()
        raise ConnectionError("the database is gone")

    results: list[Result] = []
    with pytest.raises(ConnectionError):
        results.extend(sender.send(source()))
    assert {r.message_id: r.outcome for r in results} == {
        **dict.fromkeys((one.message_id for one in first), Outcome.ACCEPTED),
        gathered.message_id: Outcome.TRANSIENT,
    }
    assert sender.sent == ["a", "b"]


def test_an_answer_that_nobody_can_read_leaves_its_messages_unknown_and_the_others_alone(sender):
    sender.may_answer.set()
    sent = [delivery(address) for address in ("unreadable", "x", "a", "unmakeable", "b")]
    outcomes = {r.message_id: (r.outcome, r.reason) for r in sender.send(iter(sent))}
    unknown, accepted = (Outcome.UNKNOWN, "internal_error"), (Outcome.ACCEPTED, "")
    assert [outcomes[one.message_id] for one in sent] == [
        *(unknown, unknown, accepted, (Outcome.PAYLOAD_REJECTED, "internal_error"), accepted)
    ]
