"""The step of the variants: who gets which, what each says, and how the winner is found.

Each variant has a form (`v-<letter>`) and an editor (`c-<letter>`); a button that adds, copies or takes one away saves
what stands on the page too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django import forms
from django.forms.widgets import Media
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.analytics.charts import share_bar
from apps.campaigns import services
from apps.campaigns.console.flow import DONE, MISSING, Flow, StepState, flow_part, flow_step
from apps.campaigns.console.probe import probe_context
from apps.campaigns.console.step_forms import INPUT, select_field
from apps.campaigns.experiments.models import LETTERS, Fallback, Metric, Variant, WinnerBy
from apps.campaigns.experiments.planning import (
    CONFIDENCE_MAX_PERCENT,
    CONFIDENCE_MIN_PERCENT,
    DECIDE_AFTER_MAX_H,
    HOLDOUT_MAX_PERCENT,
    VARIANTS_MAX,
    VARIANTS_MIN,
    as_sent,
    experiment_of,
    plan_of,
    variants_of,
)
from apps.campaigns.experiments.words import peeking, plan_in_words
from apps.campaigns.models import MessageCampaign
from apps.messaging.console.editor import content_form, editor_media
from apps.messaging.console.parts import aliases_of
from apps.messaging.console.previews import preview_fragment
from apps.messaging.content import source_on_channel
from apps.messaging.models import MessageTemplate
from apps.tenants.console.forms import add_refusal
from automata_signal.errors import SignalError, ValidationFailed

WORDS = ("title", "body", "data", "options")
MEDIA = Media(css={"all": ["campaigns/variants.css"]}, js=["campaigns/variants.js"])
COLOURS = ("#3b82f6", "#14b8a6", "#a855f7", "#f59e0b", "#ef4444")
REST, NOTHING = "#94a3b8", "#cbd5e1"
SOURCES = (
    ("campaign", gettext_lazy("What the content step says")),
    ("own", gettext_lazy("Own words")),
    ("template", gettext_lazy("A template")),
)


def _number(label: Any, lowest: int, highest: int, help_text: Any = "") -> forms.IntegerField:
    widget = forms.NumberInput({**INPUT, "min": lowest, "max": highest})
    return forms.IntegerField(label=label, min_value=lowest, max_value=highest, widget=widget, help_text=help_text)


class PlanForm(forms.Form):
    """What holds for the whole test."""

    test_percent = _number(
        gettext_lazy("Test on so many % of the recipients"),
        1,
        100,
        gettext_lazy("The others wait and get the winner. 100: nobody waits."),
    )
    holdout_percent = _number(
        gettext_lazy("So many % get nothing"),
        0,
        HOLDOUT_MAX_PERCENT,
        gettext_lazy("They show what would have happened without the campaign. They cost nothing."),
    )
    winner_by = forms.ChoiceField(
        label=gettext_lazy("Who chooses the winner"), choices=WinnerBy.choices, widget=forms.RadioSelect
    )
    metric = select_field(gettext_lazy("Best is what is most often"), Metric.choices)
    decide_after_h = _number(gettext_lazy("Hours to wait after the test is sent"), 1, DECIDE_AFTER_MAX_H)
    confidence_percent = _number(
        gettext_lazy("Confidence that is needed (%)"),
        CONFIDENCE_MIN_PERCENT,
        CONFIDENCE_MAX_PERCENT,
        gettext_lazy("How probable it has to be that the best so far is really the best. 95 is usual."),
    )
    fallback = select_field(gettext_lazy("If that is not reached"), Fallback.choices)


class VariantForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("What is different"), required=False, max_length=100, widget=forms.TextInput(INPUT)
    )
    share_percent = forms.IntegerField(
        label=gettext_lazy("Share (%)"),
        min_value=1,
        max_value=99,
        widget=forms.NumberInput({**INPUT, "min": 1, "max": 99, "data-share": ""}),
    )
    source = forms.ChoiceField(label=gettext_lazy("What it says"), choices=SOURCES, widget=forms.RadioSelect)
    template = forms.ModelChoiceField(
        MessageTemplate.objects.none(), label=gettext_lazy("Template"), required=False, widget=forms.Select(INPUT)
    )

    def __init__(self, *args: Any, templates: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["template"].queryset = templates  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("source") == "template" and cleaned.get("template") is None and "template" not in self.errors:
            self.add_error("template", _("Choose a template."))
        return cleaned


class Slot:
    """One variant on the page."""

    def __init__(self, page: Page, letter: str, given: dict[str, Any], post: Any) -> None:
        self.letter, self.given = letter, given
        self.source_key = f"source-{letter}"
        self.colour = COLOURS[LETTERS.index(letter)]
        initial = {
            "name": given.get("name", ""),
            "share_percent": given.get("share_percent"),
            "template": given.get("template_id"),
            "source": _source_of(given),
        }
        self.form = VariantForm(post, prefix=f"v-{letter}", initial=initial, templates=page.templates)
        words = {name: given.get(name) for name in WORDS}
        if _source_of(given) != "own":  # what one begins with who writes own words
            words = {name: getattr(page.campaign, name) for name in WORDS}
        self.editor = content_form(page.campaign.channel_type)(
            post, application=page.campaign.application, stored=words, prefix=f"c-{letter}"
        )

    @property
    def source(self) -> str:
        return str(self.form.cleaned_data.get("source", ""))

    def is_valid(self) -> bool:
        return self.form.is_valid() and (self.source != "own" or self.editor.is_valid())

    def plan(self) -> dict[str, Any]:
        cleaned = self.form.cleaned_data
        plan = {"name": cleaned["name"].strip(), "share_percent": cleaned["share_percent"]}
        if self.source == "own":
            return plan | self.editor.content()
        return plan | ({"template_id": cleaned["template"].pk} if self.source == "template" else {})


class Page:
    """The forms as the campaign or the request has them."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.campaign = flow, flow.campaign
        post: Any = flow.request.POST if flow.is_post else None
        self.stored: Any = plan_of(self.campaign)
        stored: Any = self.stored or {}
        self.templates = MessageTemplate.objects.for_application(self.campaign.application).order_by("name")
        self.form = PlanForm(post, initial={k: v for k, v in stored.items() if k != "variants"})
        self.slots = [
            Slot(self, letter, given, post) for letter, given in zip(LETTERS, stored.get("variants", []), strict=False)
        ]

    def is_valid(self) -> bool:
        found = [self.form.is_valid(), *(slot.is_valid() for slot in self.slots)]  # so that each shows its errors
        return all(found)

    def plan(self) -> dict[str, Any]:
        return {**self.form.cleaned_data, "variants": [slot.plan() for slot in self.slots]}

    def refuse(self, error: SignalError) -> None:
        """On the field that it names."""
        for problem in error.details:
            place = problem.field.removeprefix("experiment.")
            form: forms.Form = self.form
            aliases: Any = {}
            parts = place.split(".", 2)
            if parts[0] == "variants" and len(parts) == 3 and parts[1].isdigit() and int(parts[1]) < len(self.slots):
                slot, place = self.slots[int(parts[1])], parts[2]
                is_word = place.split(".")[0] in WORDS and slot.source == "own"
                form = slot.editor if is_word else slot.form
                aliases = aliases_of(slot.editor.channel) if is_word else {"template_id": "template"}
            if place == "variants":
                form.add_error(None, _said(problem.message))
            else:
                add_refusal(form, ValidationFailed(error.message, details=[problem._replace(field=place)]), aliases)
        if not error.details:
            self.form.add_error(None, error.message)

    def context(self) -> dict[str, Any]:
        experiment = experiment_of(self.campaign)
        variants = variants_of(experiment) if experiment is not None else []
        return {
            "form": self.form,
            "slots": self.slots,
            "has_test": experiment is not None,
            "words": plan_in_words(experiment, variants) if experiment is not None else "",
            "bar": _bar(self.stored) if self.stored else "",
            "peeking": peeking(),
            "can_add": len(self.slots) < VARIANTS_MAX,
            "can_remove": len(self.slots) > VARIANTS_MIN,
            "previews_address": self.flow.part_address("variant-previews"),
            "editor_media": editor_media + MEDIA,
            **probe_context(self.flow),
        }


def _said(message: str) -> str:
    """The refusal of shares in the operator's language."""
    return _("The shares have to sum to 100 %.") if "sum" in message else message


def _source_of(given: dict[str, Any]) -> str:
    if given.get("template_id"):
        return "template"
    return "own" if any(given.get(name) for name in WORDS) else "campaign"


def _bar(plan: dict[str, Any]) -> Any:
    """Who gets what, as a bar of the whole audience."""
    something = 100 - plan["holdout_percent"]
    tested = something * plan["test_percent"] / 100
    parts = [
        (letter, colour, tested * given["share_percent"] / 100)
        for letter, colour, given in zip(LETTERS, COLOURS, plan["variants"], strict=False)
    ]
    parts += [(_("the winner"), REST, something - tested), (_("nothing"), NOTHING, float(plan["holdout_percent"]))]
    return share_bar(_("Shares of the audience"), parts)


# --- What the buttons do ---------------------------------------------------------------------------------------------


def _even(count: int) -> list[int]:
    """Shares that sum to 100, the first ones a bit larger."""
    whole, more = divmod(100, count)
    return [whole + (place < more) for place in range(count)]


def _shared_evenly(variants: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    shares = _even(len(variants))
    return [{**given, "share_percent": share} for given, share in zip(variants, shares, strict=True)]


def _content_of(campaign: MessageCampaign) -> dict[str, Any]:
    """The campaign's own content, to begin with."""
    if campaign.template_id:
        return {"template_id": campaign.template_id}
    return {name: getattr(campaign, name) for name in WORDS}


def _first_plan(campaign: MessageCampaign) -> dict[str, Any]:
    variants = [{"name": _("As it is")}, {"name": _("Another idea"), **_content_of(campaign)}]
    return {"variants": _shared_evenly(variants)}


def _rearranged(plan: dict[str, Any], go: str, campaign: MessageCampaign) -> dict[str, Any]:
    """What a button makes of the plan that stands on the page."""
    variants: list[dict[str, Any]] = list(plan["variants"])
    word, _sep, letter = go.partition("-")
    place = LETTERS.find(letter) if len(letter) == 1 else -1
    if word == "add" and len(variants) < VARIANTS_MAX:
        variants = _shared_evenly([*variants, {"name": "", **_content_of(campaign)}])
    elif word == "copy" and 0 <= place < len(variants) < VARIANTS_MAX:
        copied = {**variants[place], "name": _("Copy of %(letter)s") % {"letter": letter}}
        if _source_of(copied) == "campaign":
            copied |= _content_of(campaign)
        variants = _shared_evenly([*variants, copied])
    elif word == "remove" and 0 <= place < len(variants) > VARIANTS_MIN:
        variants = _shared_evenly([given for index, given in enumerate(variants) if index != place])
    elif word == "even":
        variants = _shared_evenly(variants)
    return {**plan, "variants": variants}


def _told(plan: Any) -> Any:
    """As the audit log keeps it."""
    return json.loads(json.dumps(plan, default=str))


# --- The pages -------------------------------------------------------------------------------------------------------


def variants_state(flow: Flow) -> StepState:
    if not flow.campaign.has_variants:
        return StepState(DONE, _("One content for all"))
    problem = flow.content_problem
    if problem is not None and any(p.field.startswith("experiment.") for p in problem.details):
        return StepState(MISSING, problem.details[0].message)
    count = Variant.objects.filter(experiment__campaign_id=flow.campaign.pk).count()
    return StepState(DONE, _("%(count)d variants") % {"count": count})


@flow_step("variants", title=gettext_lazy("Variants"), position=25, icon="science", state=variants_state)
def variants(flow: Flow) -> HttpResponse:
    page = Page(flow)
    go = flow.request.POST.get("go", "") if flow.is_post else ""
    if go == "begin" and page.stored is None:
        return _saved(flow, page, _first_plan(flow.campaign)) or _shown(flow, page)
    if go == "end" and page.stored is not None:
        return _saved(flow, page, None) or _shown(flow, page)
    if go and page.stored is None:  # nothing is tested: on to the next step
        return flow.saved("variants", {}, {})
    if go == "even":  # shares that are wrong are what it is pressed for
        page = _with_even_shares(flow)
    if go and page.is_valid():
        answer = _saved(flow, page, _rearranged(page.plan(), go, flow.campaign))
        if answer is not None:
            return answer
    return _shown(flow, page)


def _with_even_shares(flow: Flow) -> Page:
    given = flow.request.POST.copy()
    letters = [letter for letter in LETTERS if f"v-{letter}-share_percent" in given]
    for letter, share in zip(letters, _even(max(1, len(letters))), strict=False):
        given[f"v-{letter}-share_percent"] = str(share)
    flow.request.POST = given  # type: ignore[assignment]
    return Page(flow)


def _shown(flow: Flow, page: Page) -> HttpResponse:
    return flow.page("variants", "admin/campaigns/variants.html", page.context())


def _saved(flow: Flow, page: Page, plan: Any) -> HttpResponse | None:
    """None with the refusal on the form."""
    try:
        flow.campaign = services.campaign_update(campaign=flow.campaign, by=flow.by, experiment=plan)
    except SignalError as error:
        page.form.is_valid()
        page.refuse(error)
        return None
    flow.forget()
    after = plan_of(flow.campaign)
    return flow.saved("variants", {"experiment": _told(page.stored)}, {"experiment": _told(after)})


@flow_part("variant-previews")
def variant_previews(flow: Flow) -> HttpResponse:
    """What each variant looks like, beside each other, as it is saved."""
    experiment = experiment_of(flow.campaign)
    shown = [
        {
            "letter": variant.letter,
            "name": variant.name,
            "colour": COLOURS[LETTERS.index(variant.letter)],
            "fragment": _preview(flow, as_sent(flow.campaign, variant)),
        }
        for variant in (variants_of(experiment) if experiment is not None else [])
    ]
    return flow.part("admin/campaigns/parts/variant_previews.html", {"shown": shown})


def _preview(flow: Flow, view: MessageCampaign) -> Any:
    channel = view.channel_type
    if view.template is None:
        words = {name: getattr(view, name) for name in WORDS}
        return preview_fragment(flow.request, view.application, channel, words, is_literal=True)
    source = source_on_channel(view.template, channel, view.options)
    words = {name: getattr(source, name) for name in WORDS}
    return preview_fragment(
        flow.request, view.application, channel, words, variables=view.variables, languages=source.languages
    )
