"""What a chain has said to one recipient, as one."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from apps.billing.selectors import prices_of
from apps.messaging.chains.models import FollowUp
from apps.messaging.chains.steps import REACHED, of_chain
from apps.messaging.models import Dispatch, DispatchBatch, Message, MessageEvent, MessageStatus
from apps.messaging.selectors import message_events, messages_of_user
from automata_signal.ids import IdRange


class Turn(NamedTuple):
    """A message, and what became of it."""

    step: int
    because: str
    """Why it followed; empty for the first step."""
    message: Message
    events: Sequence[MessageEvent]


class Conversation(NamedTuple):
    is_reached: bool
    is_waiting: bool
    """Whether a further step may follow."""
    cost: Decimal
    """Of the messages that a provider took, by the present prices."""
    currency: str
    turns: list[Turn]


def conversation_of(message: Message) -> Conversation:
    """The messages of the chain that went to the message's user, oldest first; of no chain: the message alone."""
    dispatch = message.dispatch
    steps = list(of_chain(message.application_id, dispatch.chain_id))
    messages = _messages(message, [step.pk for step in steps])
    because = _reasons(message, steps)
    turns = [Turn(m.dispatch.chain_step, because.get(m.dispatch_id, ""), m, message_events(m)) for m in messages]
    ends = REACHED.get(dispatch.follow_until, REACHED[MessageStatus.RECEIVED.value])
    is_reached = any(m.status in ends for m in messages)
    prices = prices_of(message.application)
    sent = [m for m in messages if m.sent_at is not None]
    cost = sum((prices.of(m.channel_type) for m in sent), Decimal(0))
    return Conversation(is_reached, not is_reached and _is_waiting(messages), cost, prices.currency, turns)


def _reasons(message: Message, steps: Sequence[Dispatch]) -> dict[UUID, str]:
    """Why each step was taken for the message's user."""
    if message.user_id is None:
        return {}
    taken = FollowUp.objects.for_application(message.application).filter(
        dispatch_id__in=[step.pk for step in steps], user_id=message.user_id
    )
    return dict(taken.values_list("dispatch_id", "because"))


def _messages(message: Message, dispatch_ids: Sequence[UUID]) -> list[Message]:
    """By `message_by_subscription`: a chain's messages are made after its first dispatch."""
    chain_id = message.dispatch.chain_id
    if chain_id is None or message.user is None:
        return [message]
    messages = messages_of_user(message.user).filter(dispatch_id__in=dispatch_ids, id__gt=chain_id)
    return list(messages.select_related("dispatch__template_version", "user").order_by("id"))


def _is_waiting(messages: Sequence[Message]) -> bool:
    """Whether the batch of one of the messages is still followed up."""
    for message in messages:
        batches = DispatchBatch.objects.filter(application_id=message.application_id, dispatch_id=message.dispatch_id)
        for batch in batches.filter(first_id__lte=message.pk, follow_up_at__isnull=False).order_by("-first_id")[:1]:
            assert batch.first_id is not None
            if message.pk <= IdRange(batch.first_id).last:
                return True
    return False
