"""Changing what a subject wants: consent to advertising by channel, by night, and categories.

Each change leaves an event in the same transaction, and what changes nothing leaves none: a call can be repeated.
Rows are locked in the order of channels and categories; who also locks users or subscriptions does so before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from apps.subscriptions.preferences.categories import categories_of
from apps.subscriptions.preferences.models import (
    ConsentEvent,
    ConsentEventType,
    MarketingConsent,
    MessageCategory,
    Preference,
)
from apps.subscriptions.preferences.notices import notices_of_results, two_years_after
from apps.subscriptions.preferences.subjects import Subject
from apps.tenants.channels import ChannelType
from automata_signal.errors import FieldProblem, ValidationFailed

EVIDENCE_MAX = 200


class MarketingChoice(NamedTuple):
    """What is said about advertising on one channel; None leaves it as it is."""

    given: bool | None = None
    night: bool | None = None
    """21:00 to 08:00 in Korea needs a consent of its own (정보통신망법 50 ③)."""
    evidence: str = ""
    """Version or name of the text that was agreed to."""
    given_at: datetime | None = None
    """When it was given, if that was before now: only an app server or an import may say so."""


@dataclass(frozen=True)
class Choices:
    """Channel → consent to advertising, and channel → category's slug → whether it is wanted."""

    marketing: Mapping[str, MarketingChoice] = field(default_factory=dict)
    categories: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)


def preferences_set(
    *, subject: Subject, choices: Choices, source: str, message_id: UUID | None = None
) -> list[ConsentEvent]:
    """Write down what a subject chose; what is not named stays. Answers with the events of what has changed.

    Raises `ValidationFailed`, which names each field: unknown channels and categories, a category that may not be
    refused, night consent without consent, a `given_at` in the future or before a withdrawal. Then nothing changes.
    """
    known = {category.slug: category for category in categories_of(subject.application)}
    _check(choices, known)
    with transaction.atomic():
        log = _Log(subject, source, message_id)
        for channel in sorted(choices.marketing):
            _set_marketing(log, channel, choices.marketing[channel])
        for channel in sorted(choices.categories):
            for slug in sorted(choices.categories[channel]):
                _set_category(log, channel, known[slug], choices.categories[channel][slug])
        log.save()
    return log.events


def marketing_withdraw(
    *, subject: Subject, channel: str, source: str, message_id: UUID | None = None
) -> list[ConsentEvent]:
    """Withdraw consent to advertising on a channel, by day and by night, if it was given."""
    choices = Choices(marketing={channel: MarketingChoice(given=False)})
    return preferences_set(subject=subject, choices=choices, source=source, message_id=message_id)


class _Log:
    """The events of one call."""

    def __init__(self, subject: Subject, source: str, message_id: UUID | None) -> None:
        self.subject, self.source, self.message_id = subject, source, message_id
        self.now = timezone.now()
        self.events: list[ConsentEvent] = []

    def note(
        self,
        event_type: ConsentEventType,
        channel: str,
        *,
        category: str = "",
        evidence: str = "",
        effective_at: datetime | None = None,
    ) -> None:
        subject = self.subject
        self.events.append(
            ConsentEvent(
                application=subject.application,
                user_id=subject.user_id,
                subscription_id=subject.through_id or subject.subscription_id,
                channel=channel,
                category=category,
                event_type=event_type.value,
                source=self.source,
                evidence=evidence,
                message_id=self.message_id,
                effective_at=effective_at or self.now,
                occurred_at=self.now,
            )
        )

    def save(self) -> None:
        ConsentEvent.objects.bulk_create(self.events)
        notices_of_results(self.subject.application, self.events)


def event_note(
    *, subject: Subject, event_type: ConsentEventType, channel: str, source: str, message_id: UUID | None = None
) -> None:
    """Leave an event of something that is no choice of this module, such as a confirmed address."""
    log = _Log(subject, source, message_id)
    log.note(event_type, channel)
    log.save()


def _check(choices: Choices, known: Mapping[str, MessageCategory]) -> None:
    problems: list[FieldProblem] = []
    for channel, choice in choices.marketing.items():
        field_name = f"marketing.{channel[:20]}"
        if channel not in ChannelType.values:
            problems.append(FieldProblem(field_name, "is not a channel"))
        if len(choice.evidence) > EVIDENCE_MAX or any(ord(character) < 32 for character in choice.evidence):
            problems.append(FieldProblem(f"{field_name}.evidence", f"must be plain text of up to {EVIDENCE_MAX}"))
        if choice.given_at is not None and choice.given_at > timezone.now():
            problems.append(FieldProblem(f"{field_name}.given_at", "is in the future"))
        if choice.given_at is not None and not (choice.given or choice.night):
            problems.append(FieldProblem(f"{field_name}.given_at", "goes with a consent that is given"))
        if choice.given is False and choice.night:
            problems.append(FieldProblem(f"{field_name}.night", "cannot be given where advertising is refused"))
    for channel, by_slug in choices.categories.items():
        if channel not in ChannelType.values:
            problems.append(FieldProblem(f"categories.{channel[:20]}", "is not a channel"))
        for slug, wanted in by_slug.items():
            category = known.get(slug)
            field_name = f"categories.{channel[:20]}.{slug[:50]}"
            if category is None:
                problems.append(FieldProblem(field_name, "is not a category"))
            elif not wanted and not category.may_opt_out:
                problems.append(FieldProblem(field_name, "cannot be refused"))
    if problems:
        raise ValidationFailed("The input is not valid.", details=problems)


# --- Advertising -----------------------------------------------------------------------------------------------------


def _set_marketing(log: _Log, channel: str, choice: MarketingChoice) -> None:
    row = _locked_consent(log.subject, channel, source=log.source, make=bool(choice.given or choice.night))
    if row is None:
        return  # nothing to withdraw
    before = (row.is_given, row.is_night_given, row.evidence, row.night_evidence)
    effective_at = choice.given_at or log.now
    if choice.given is True:
        _give(log, row, choice, effective_at)
    elif choice.given is False:
        _withdraw(log, row)
    if choice.night is True:
        _give_night(log, row, choice, effective_at)
    elif choice.night is False:
        _withdraw_night(log, row)
    if before != (row.is_given, row.is_night_given, row.evidence, row.night_evidence):
        row.source, row.updated_at = log.source, log.now
        row.save()


def _locked_consent(subject: Subject, channel: str, *, source: str, make: bool) -> MarketingConsent | None:
    """The row, made if there is none and `make`, and locked. By `one_consent_per_subject`."""
    rows = MarketingConsent.objects.filter(application=subject.application, subject_id=subject.id, channel=channel)
    row = rows.select_for_update().first()
    if row is None and make:
        made = MarketingConsent(
            application=subject.application,
            user_id=subject.user_id,
            subscription_id=subject.subscription_id,
            channel=channel,
            source=source,
        )
        MarketingConsent.objects.bulk_create([made], ignore_conflicts=True)
        row = rows.select_for_update().get()
    return row


def _give(log: _Log, row: MarketingConsent, choice: MarketingChoice, effective_at: datetime) -> None:
    """Given once more it is another consent only if another text was agreed to."""
    if row.is_given and choice.evidence in ("", row.evidence):
        return
    if row.withdrawn_at is not None and effective_at <= row.withdrawn_at:
        raise ValidationFailed.of(f"marketing.{row.channel}.given_at", "is before the last withdrawal")
    row.is_given, row.given_at, row.evidence = True, effective_at, choice.evidence
    row.confirmed_at, row.confirm_due_at = None, two_years_after(effective_at)
    log.note(ConsentEventType.GIVEN, row.channel, evidence=choice.evidence, effective_at=effective_at)


def _withdraw(log: _Log, row: MarketingConsent) -> None:
    _withdraw_night(log, row)
    if row.is_given:
        row.is_given, row.withdrawn_at, row.confirm_due_at = False, log.now, None
        log.note(ConsentEventType.WITHDRAWN, row.channel)


def _give_night(log: _Log, row: MarketingConsent, choice: MarketingChoice, effective_at: datetime) -> None:
    if not row.is_given:
        raise ValidationFailed.of(f"marketing.{row.channel}.night", "needs consent to advertising as well")
    if row.is_night_given and choice.evidence in ("", row.night_evidence):
        return
    if row.night_withdrawn_at is not None and effective_at <= row.night_withdrawn_at:
        raise ValidationFailed.of(f"marketing.{row.channel}.given_at", "is before the last withdrawal")
    row.is_night_given, row.night_given_at, row.night_evidence = True, effective_at, choice.evidence
    log.note(ConsentEventType.NIGHT_GIVEN, row.channel, evidence=choice.evidence, effective_at=effective_at)


def _withdraw_night(log: _Log, row: MarketingConsent) -> None:
    if row.is_night_given:
        row.is_night_given, row.night_withdrawn_at = False, log.now
        log.note(ConsentEventType.NIGHT_WITHDRAWN, row.channel)


# --- Categories ------------------------------------------------------------------------------------------------------


def _set_category(log: _Log, channel: str, category: MessageCategory, wanted: bool) -> None:
    """What agrees with a default is kept too: it was chosen, and stays when the default changes."""
    subject = log.subject
    rows = Preference.objects.filter(
        application=subject.application, subject_id=subject.id, channel=channel, category=category
    )
    row = rows.select_for_update().first()
    if row is None:
        made = Preference(
            application=subject.application,
            user_id=subject.user_id,
            subscription_id=subject.subscription_id,
            channel=channel,
            category=category,
            is_opted_in=not wanted,  # so that it is a change below, whoever makes the row
            source=log.source,
        )
        Preference.objects.bulk_create([made], ignore_conflicts=True)
        row = rows.select_for_update().get()
    if row.is_opted_in == wanted:
        return
    row.is_opted_in, row.source, row.updated_at = wanted, log.source, log.now
    row.save(update_fields=["is_opted_in", "source", "updated_at"])
    event_type = ConsentEventType.OPTED_IN if wanted else ConsentEventType.OPTED_OUT
    log.note(event_type, channel, category=category.slug)


# --- Reading ---------------------------------------------------------------------------------------------------------


def preferences_of(subject: Subject, *, channels: Iterable[str] = ChannelType.values) -> dict[str, Any]:
    """What a subject wants, by channel: consent to advertising, and each category with where the answer comes from."""
    categories = categories_of(subject.application)
    consents = {
        row.channel: row
        for row in MarketingConsent.objects.filter(application=subject.application, subject_id=subject.id)
    }
    chosen = {
        (row.channel, row.category_id): row.is_opted_in
        for row in Preference.objects.filter(application=subject.application, subject_id=subject.id)
    }
    return {
        "channels": {
            channel: {
                "marketing": consent_of(consents.get(channel)),
                "categories": {
                    category.slug: {
                        "opted_in": is_wanted(category, chosen.get((channel, category.pk))),
                        "is_default": (channel, category.pk) not in chosen,
                    }
                    for category in categories
                },
            }
            for channel in channels
        },
        "categories": [
            {
                "slug": category.slug,
                "name_en": category.name_en,
                "name_ko": category.name_ko,
                "description_en": category.description_en,
                "description_ko": category.description_ko,
                "is_marketing": category.is_marketing,
                "may_opt_out": category.may_opt_out,
            }
            for category in categories
        ],
    }


def is_wanted(category: MessageCategory, choice: bool | None) -> bool:
    """Whether messages of a category are wanted by who chose this, or nothing."""
    if not category.may_opt_out:
        return True
    return category.is_default_opted_in if choice is None else choice


def consent_of(row: MarketingConsent | None) -> dict[str, Any]:
    row = row or MarketingConsent()
    return {
        "given": row.is_given,
        "given_at": row.given_at,
        "withdrawn_at": row.withdrawn_at,
        "evidence": row.evidence,
        "night": row.is_night_given,
        "night_given_at": row.night_given_at,
        "night_withdrawn_at": row.night_withdrawn_at,
        "night_evidence": row.night_evidence,
        "source": row.source,
        "confirmed_at": row.confirmed_at,
        "confirm_due_at": row.confirm_due_at,
    }
