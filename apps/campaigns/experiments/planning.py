"""The plan of a test: read from what a person gives, checked, and kept beside its campaign until the launch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NotRequired, TypedDict
from uuid import UUID

from apps.campaigns.experiments.models import LETTERS, Experiment, Fallback, Metric, Variant, WinnerBy
from apps.campaigns.models import MessageCampaign
from apps.messaging.content import ContentSource
from apps.messaging.models import MessageTemplate
from automata_signal.errors import ValidationFailed

VARIANTS_MIN, VARIANTS_MAX = 2, len(LETTERS)
HOLDOUT_MAX_PERCENT = 50
DECIDE_AFTER_MAX_H = 7 * 24
CONFIDENCE_MIN_PERCENT, CONFIDENCE_MAX_PERCENT = 50, 99


class VariantPlan(TypedDict):
    """One of the variants, in the order of their letters. Without content of its own it says what the campaign says."""

    share_percent: int
    name: NotRequired[str]
    template_id: NotRequired[UUID | None]
    title: NotRequired[str]
    body: NotRequired[str]
    data: NotRequired[dict[str, Any]]
    options: NotRequired[dict[str, Any]]


class ExperimentPlan(TypedDict):
    variants: list[VariantPlan]
    holdout_percent: NotRequired[int]
    test_percent: NotRequired[int]
    winner_by: NotRequired[str]
    metric: NotRequired[str]
    decide_after_h: NotRequired[int]
    confidence_percent: NotRequired[int]
    fallback: NotRequired[str]


_BOUNDS = {
    "holdout_percent": (0, HOLDOUT_MAX_PERCENT),
    "test_percent": (1, 100),
    "decide_after_h": (1, DECIDE_AFTER_MAX_H),
    "confidence_percent": (CONFIDENCE_MIN_PERCENT, CONFIDENCE_MAX_PERCENT),
}
_CHOICES = {"winner_by": WinnerBy.values, "metric": Metric.values, "fallback": Fallback.values}
_CONTENT = ("title", "body", "data", "options")


def experiment_of(campaign: MessageCampaign) -> Experiment | None:
    if not campaign.has_variants:
        return None
    return Experiment.objects.filter(application_id=campaign.application_id, campaign_id=campaign.pk).first()


def variants_of(experiment: Experiment) -> list[Variant]:
    """In the order of their letters."""
    rows = Variant.objects.filter(application_id=experiment.application_id, experiment_id=experiment.pk)
    return list(rows.select_related("template").order_by("letter"))


def plan_of(campaign: MessageCampaign) -> ExperimentPlan | None:
    """The plan as it was given: what can be changed and given back."""
    experiment = experiment_of(campaign)
    if experiment is None:
        return None
    plan: dict[str, Any] = {name: getattr(experiment, name) for name in (*_BOUNDS, *_CHOICES)}
    plan["variants"] = [
        {name: getattr(variant, name) for name in ("name", "share_percent", "template_id", *_CONTENT)}
        for variant in variants_of(experiment)
    ]
    return plan  # type: ignore[return-value]


def digest_of(campaign: MessageCampaign) -> object:
    """What an approval is of (`approvals.digest.register_part`): the plan, and the versions of its templates."""
    experiment = experiment_of(campaign)
    if experiment is None:
        return None
    versions = [variant.template.version if variant.template else None for variant in variants_of(experiment)]
    return [plan_of(campaign), versions]


def plan_copy(original: MessageCampaign, duplicate: MessageCampaign) -> None:
    """Take the plan along (`services.duplicate.register_copier`), unchecked as the copy itself."""
    experiment = experiment_of(original)
    if experiment is None:
        return
    variants = variants_of(experiment)
    fresh = Experiment(application_id=duplicate.application_id, campaign=duplicate)
    for name in (*_BOUNDS, *_CHOICES):
        setattr(fresh, name, getattr(experiment, name))
    fresh.save()
    for variant in variants:
        own = {name: getattr(variant, name) for name in ("letter", "name", "share_percent", "template_id", *_CONTENT)}
        Variant.objects.create(application_id=fresh.application_id, experiment=fresh, **own)
    duplicate.has_variants = True
    MessageCampaign.objects.filter(pk=duplicate.pk).update(has_variants=True)


def plan_set(campaign: MessageCampaign, plan: ExperimentPlan | None) -> None:
    """Write the plan down, or take it away; in the transaction that changes the campaign, which is not launched.

    What is given stands for the whole: what is left out becomes what it is unless told. Variants keep their rows by
    their letters. Raises `ValidationFailed` with `experiment.…`.
    """
    campaign.has_variants = plan is not None
    MessageCampaign.objects.filter(pk=campaign.pk).update(has_variants=campaign.has_variants)
    if plan is None:
        Experiment.objects.filter(campaign_id=campaign.pk).delete()
        return
    present = Experiment.objects.filter(campaign_id=campaign.pk).first()
    experiment = present or Experiment(application=campaign.application, campaign=campaign)
    unless_told = Experiment()
    for name in (*_BOUNDS, *_CHOICES):
        setattr(experiment, name, plan.get(name, getattr(unless_told, name)))
    _check_numbers(experiment)
    planned = plan.get("variants") or []
    _check_shares(planned)
    known = {variant.letter: variant for variant in variants_of(experiment)} if present else {}
    variants = [
        _variant(experiment, known.get(letter), letter, given, index)
        for index, (letter, given) in enumerate(zip(LETTERS, planned, strict=False))
    ]
    experiment.save()
    for variant in variants:
        variant.save()
    gone = [letter for letter in known if letter not in LETTERS[: len(variants)]]
    Variant.objects.filter(experiment=experiment, letter__in=gone).delete()
    contents_check(campaign, variants)


def _check_numbers(experiment: Experiment) -> None:
    for name, (lowest, highest) in _BOUNDS.items():
        value = getattr(experiment, name)
        if not isinstance(value, int) or not lowest <= value <= highest:
            raise ValidationFailed.of(f"experiment.{name}", f"must be from {lowest} to {highest}")
    for name, words in _CHOICES.items():
        if getattr(experiment, name) not in words:
            raise ValidationFailed.of(f"experiment.{name}", f"must be one of {', '.join(words)}")


def _check_shares(planned: Sequence[VariantPlan]) -> None:
    if not VARIANTS_MIN <= len(planned) <= VARIANTS_MAX:
        raise ValidationFailed.of("experiment.variants", f"must be {VARIANTS_MIN} to {VARIANTS_MAX}")
    for index, given in enumerate(planned):
        if not 1 <= given.get("share_percent", 0) <= 99:
            raise ValidationFailed.of(f"experiment.variants.{index}.share_percent", "must be from 1 to 99")
    total = sum(given["share_percent"] for given in planned)
    if total != 100:
        raise ValidationFailed.of("experiment.variants", f"the shares must sum to 100, and sum to {total}")


def _variant(experiment: Experiment, present: Variant | None, letter: str, given: VariantPlan, index: int) -> Variant:
    place = f"experiment.variants.{index}"
    variant = present or Variant(application_id=experiment.application_id, experiment=experiment, letter=letter)
    variant.share_percent = given["share_percent"]
    variant.name = given.get("name", "").strip()
    if len(variant.name) > 100:
        raise ValidationFailed.of(f"{place}.name", "must have at most 100 characters")
    variant.title, variant.body = given.get("title", ""), given.get("body", "")
    variant.data, variant.options = given.get("data") or {}, given.get("options") or {}
    variant.template = _template(experiment, given.get("template_id"), place)
    return variant


def _template(experiment: Experiment, template_id: UUID | None, place: str) -> MessageTemplate | None:
    if template_id is None:
        return None
    rows = MessageTemplate.objects.filter(application_id=experiment.application_id, pk=template_id)
    if (template := rows.first()) is None:
        raise ValidationFailed.of(f"{place}.template_id", "there is no such template")
    return template


# --- Contents --------------------------------------------------------------------------------------------------------


def as_sent(campaign: MessageCampaign, variant: Variant) -> MessageCampaign:
    """The campaign as if the variant's content were its own: whatever reads a campaign's content reads the variant's.
    Never saved."""
    view = copy.copy(campaign)
    view._state = copy.copy(campaign._state)  # with its own relations, which the next line sets
    view._state.fields_cache = dict(campaign._state.fields_cache)
    if variant.has_own_content:
        view.template = variant.template
        view.title, view.body, view.data, view.options = variant.title, variant.body, variant.data, variant.options
    return view


def variant_view(campaign: MessageCampaign, letter: str = "") -> MessageCampaign:
    """The campaign with the content of this variant, the first unless told; without variants the campaign itself.
    Raises `ValidationFailed` with `variant`."""
    experiment = experiment_of(campaign)
    variants = variants_of(experiment) if experiment is not None else []
    if not variants and not letter:
        return campaign
    for variant in variants:
        if letter in ("", variant.letter):
            return as_sent(campaign, variant)
    raise ValidationFailed.of("variant", "there is no such variant")


def contents_check(campaign: MessageCampaign, variants: Sequence[Variant]) -> None:
    """Raise `ValidationFailed` with `experiment.variants.<index>.…` for a content that cannot be sent. One that is not
    there yet, as of a draft whose own is not written, is found missing at the launch."""
    from apps.campaigns.services.drafts import campaign_content

    for index, variant in enumerate(variants):
        if variant.has_own_content:
            try:
                campaign_content(as_sent(campaign, variant))
            except ValidationFailed as error:
                raise error.within(f"experiment.variants.{index}") from None


def variants_check(campaign: MessageCampaign, check: Callable[[MessageCampaign], ContentSource]) -> ContentSource:
    """`check` the content of each variant, and what follows it. Returns the first's; raises `ValidationFailed` with
    `experiment.variants.<index>.…`, and what else `check` raises."""
    from apps.campaigns.services.drafts import campaign_chain

    contents = []
    experiment = experiment_of(campaign)
    for index, variant in enumerate(variants_of(experiment) if experiment else []):
        try:
            view = as_sent(campaign, variant)
            contents.append(check(view))
            campaign_chain(view)
        except ValidationFailed as error:
            raise error.within(f"experiment.variants.{index}") from None
    if not contents:
        raise ValidationFailed.of("experiment.variants", "there are none")
    return contents[0]
