"""What a chain is, and its dispatches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from apps.messaging.content import ContentSource, content_source
from apps.messaging.dispatches import dispatch_again, dispatch_create
from apps.messaging.models import Dispatch, FollowOn, MessageStatus, MessageTemplate, Purpose
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from automata_signal.errors import ValidationFailed

STEPS_MAX = 5
WAIT_S_MIN, WAIT_S_MAX = 30, 7 * 24 * 3_600
REACHED = {
    MessageStatus.RECEIVED.value: (MessageStatus.RECEIVED.value, MessageStatus.CONVERTED.value),
    MessageStatus.CONVERTED.value: (MessageStatus.CONVERTED.value,),
}
"""`follow_until` → the states that end the chain."""


@dataclass(frozen=True, slots=True)
class Step:
    """A further step: what is sent, on which channel, and how long it waits for a receipt if another follows."""

    channel_type: str
    content: ContentSource
    wait_s: int | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """What follows a first send."""

    wait_s: int
    """How long the first step waits for a receipt."""
    steps: Sequence[Step]
    follow_on: str = FollowOn.NO_RECEIPT
    follow_until: str = MessageStatus.RECEIVED


def chain_of(
    given: Mapping[str, Any],
    *,
    application: Application,
    template: MessageTemplate | None = None,
    variables: Mapping[str, Any] | None = None,
    purpose: str = Purpose.TRANSACTIONAL,
    category: str = "",
) -> Chain:
    """The chain as a caller writes it: `wait_s`, `on`, `until` and `steps`, each with `channel_type`, `wait_s` and its
    own title, body and data, unless the template has the words of every channel. Raises `ValidationFailed` with
    `chain.steps.<index>.<field>`."""
    steps = []
    for index, step in enumerate(given["steps"]):
        words = {name: step[name] for name in ("title", "body", "data") if step.get(name)}
        try:
            if template is not None and words:
                raise ValidationFailed.of(next(iter(words)), "the content comes from the template")
            if template is None and not words:
                raise ValidationFailed.of("body", "a step without a template says a title, body or data of its own")
            content = content_source(
                application=application,
                channel_type=step["channel_type"],
                template=template,
                options=step.get("options"),
                variables=variables if template is not None else None,
                purpose=purpose,
                category=category,
                **words,
            )
        except ValidationFailed as error:
            raise error.within(f"chain.steps.{index}") from None
        steps.append(Step(step["channel_type"], content, step.get("wait_s")))
    return Chain(
        wait_s=given["wait_s"],
        steps=steps,
        follow_on=given.get("on", FollowOn.NO_RECEIPT),
        follow_until=given.get("until", MessageStatus.RECEIVED),
    )


FALLBACK_WAIT_S = 24 * 3_600
"""How long a failure of an Alimtalk is followed by its text message: gateways report late, but seldom by more."""


def fallback_of(application: Application, source: ContentSource) -> Chain | None:
    """The chain that an Alimtalk's option `fallback` stands for: a text message if it fails. None without one. Raises
    `ValidationFailed` with `options.fallback.text`."""
    fallback = source.options.get("fallback")
    if not fallback:
        return None
    try:
        content = content_source(
            application=application,
            channel_type=ChannelType.SMS,
            body=fallback["text"],
            purpose=source.purpose,
            category=source.category,
        )
    except ValidationFailed as error:
        raise ValidationFailed.of("options.fallback.text", error.details[0].message) from None
    return Chain(FALLBACK_WAIT_S, [Step(ChannelType.SMS, content)], follow_on=FollowOn.FAILURE)


def check_chain(first_channel: str, chain: Chain) -> None:
    """Raise `ValidationFailed` with `chain.…` for waiting times out of bounds, a channel that comes twice, no steps."""
    if not 1 <= len(chain.steps) < STEPS_MAX:
        raise ValidationFailed.of("chain.steps", f"must be 1 to {STEPS_MAX - 1}")
    waits: list[tuple[str, int | None]] = [("chain.wait_s", chain.wait_s)]
    waits += [(f"chain.steps.{i}.wait_s", step.wait_s) for i, step in enumerate(chain.steps[:-1])]
    for field, wait_s in waits:
        if wait_s is None or not WAIT_S_MIN <= wait_s <= WAIT_S_MAX:
            raise ValidationFailed.of(field, f"must be {WAIT_S_MIN} to {WAIT_S_MAX} seconds")
    if chain.follow_until not in REACHED:
        raise ValidationFailed.of("chain.until", f"must be one of {', '.join(REACHED)}")
    seen = {first_channel}
    for index, step in enumerate(chain.steps):
        if step.channel_type in seen:
            raise ValidationFailed.of(f"chain.steps.{index}.channel_type", "is a step already")
        seen.add(step.channel_type)


def chain_create(*, application: Application, first: Dispatch, chain: Chain) -> list[Dispatch]:
    """The dispatches of the further steps, in their order; the first becomes the head of the chain."""
    first.chain_id, first.wait_s = first.pk, chain.wait_s
    first.follow_on, first.follow_until = chain.follow_on, chain.follow_until
    first.save(update_fields=["chain_id", "wait_s", "follow_on", "follow_until"])
    last = len(chain.steps)
    return [
        dispatch_create(
            application=application,
            channel_type=step.channel_type,
            priority=first.priority,
            content=step.content,
            ttl_s=first.ttl_s,
            campaign_id=first.campaign_id,
            messages_per_minute=first.messages_per_minute,
            purpose=first.purpose,
            category=first.category,
            chain_id=first.pk,
            chain_step=number,
            variant=first.variant,
            wait_s=None if number == last else step.wait_s,
            follow_on=chain.follow_on,
            follow_until=chain.follow_until,
        )
        for number, step in enumerate(chain.steps, start=1)
    ]


def chain_again(*, of: Dispatch, first: Dispatch) -> None:
    """Give `first`, a saved `dispatch_again` of the head of a chain, a chain of its own with the same steps."""
    first.chain_id = first.pk
    first.save(update_fields=["chain_id"])
    steps: dict[int, Dispatch] = {}
    for step in of_chain(of.application_id, of.chain_id, chain_step__gt=0):
        steps.setdefault(step.chain_step, step)  # not the copies that requeues have made, which are younger
    Dispatch.objects.bulk_create(
        dispatch_again(step, chain_id=first.pk, variant=first.variant) for step in steps.values()
    )


def next_step(dispatch: Dispatch) -> Dispatch | None:
    """The step after this one; never a requeue's copy of it, for that is younger. Index: `dispatch_by_chain`."""
    return of_chain(dispatch.application_id, dispatch.chain_id, chain_step=dispatch.chain_step + 1).first()


def of_chain(application_id: UUID, chain_id: UUID | None, **fields: Any) -> QuerySet[Dispatch]:
    """The dispatches of a chain in the order of its steps."""
    dispatches = Dispatch.objects.filter(application_id=application_id, chain_id=chain_id, **fields)
    return (dispatches if chain_id else dispatches.none()).select_related("application").order_by("chain_step", "pk")
