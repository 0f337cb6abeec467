"""The step of the words: a template or own ones, on the first channel and on those that follow.

Each channel has the editor of `messaging.console.editor`, with a preview beside it; its fields have the prefix
`step-<place>`, the first one `own`. A channel is added and taken away without anything being saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpResponse
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from apps.campaigns import services
from apps.campaigns.console.flow import DONE, MISSING, Flow, StepState, flow_part, flow_step
from apps.campaigns.console.probe import probe_context
from apps.campaigns.console.step_forms import INPUT, json_field, select_field
from apps.campaigns.models import MessageCampaign
from apps.messaging.chains.steps import REACHED, STEPS_MAX, WAIT_S_MAX
from apps.messaging.console.editor import ContentForm, content_form, editor_media
from apps.messaging.console.parts import aliases_of
from apps.messaging.console.previews import preview_fragment
from apps.messaging.content import source_on_channel
from apps.messaging.models import FollowOn, MessageStatus, MessageTemplate
from apps.subscriptions.models import MessageCategory
from apps.tenants.channels import ChannelType
from apps.tenants.console.forms import add_refusal
from apps.tenants.console.lists import as_uuid
from automata_signal.errors import SignalError, ValidationFailed

WORDS = ("title", "body", "data", "options")
OWN = "own"
FOLLOW_ON = (
    (FollowOn.NO_RECEIPT.value, gettext_lazy("when no receipt has come in time, or it has failed")),
    (FollowOn.FAILURE.value, gettext_lazy("only when it has failed")),
)
FOLLOW_UNTIL = (
    (MessageStatus.RECEIVED.value, gettext_lazy("it was received")),
    (MessageStatus.CONVERTED.value, gettext_lazy("it was opened")),
)
WAIT_UNLESS_TOLD_S = 3_600


class SourceForm(forms.Form):
    """Where the words come from, and what is the same for every channel."""

    source = forms.ChoiceField(
        label=gettext_lazy("Where the words come from"),
        choices=(("own", gettext_lazy("Own words, the same for everybody")), ("template", gettext_lazy("A template"))),
        widget=forms.RadioSelect,
    )
    template = forms.ModelChoiceField(
        MessageTemplate.objects.none(),
        label=gettext_lazy("Template"),
        required=False,
        widget=forms.Select(INPUT),
        help_text=gettext_lazy("A template greets people by name and has words for each channel and language."),
    )
    variables = json_field(gettext_lazy("Values for the template"), gettext_lazy("A user's own property comes first."))
    category = forms.ChoiceField(
        label=gettext_lazy("Category"),
        required=False,
        widget=forms.Select(INPUT),
        help_text=gettext_lazy("People who have refused this category do not get it."),
    )
    chain_on = select_field(gettext_lazy("It goes on"), FOLLOW_ON, required=False)
    chain_until = select_field(gettext_lazy("It ends when"), FOLLOW_UNTIL, required=False)
    wait_0 = forms.IntegerField(
        label=gettext_lazy("Minutes to wait before the next channel"),
        required=False,
        min_value=1,
        max_value=WAIT_S_MAX // 60,
        widget=forms.NumberInput(INPUT),
    )

    def __init__(self, *args: Any, campaign: MessageCampaign, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        templates = MessageTemplate.objects.for_application(campaign.application).order_by("name")
        self.fields["template"].queryset = templates  # type: ignore[attr-defined]
        self.fields["category"].choices = _categories(campaign)  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("source") == "template" and cleaned.get("template") is None and "template" not in self.errors:
            self.add_error("template", _("Choose a template."))
        return cleaned


class WaitForm(forms.Form):
    wait = forms.IntegerField(
        label=gettext_lazy("Minutes to wait before the channel after it"),
        required=False,
        min_value=1,
        max_value=WAIT_S_MAX // 60,
        widget=forms.NumberInput(INPUT),
    )


@dataclass
class Follower:
    """A channel that follows, with its editor."""

    number: int
    channel: str
    label: Any
    form: ContentForm
    waits: WaitForm
    kept: Mapping[str, Any]
    """What is stored of it."""

    @property
    def place(self) -> int:
        return self.number - 2


class Words:
    """The whole page: the forms as the campaign or the request has them."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.campaign = flow, flow.campaign
        post: Any = flow.request.POST if flow.is_post else None
        self.source = SourceForm(post, campaign=self.campaign, initial=_initial_of(self.campaign))
        self.own = self._editor(self.campaign.channel_type, post, OWN, _words_of(self.campaign))
        stored = list((self.campaign.chain or {}).get("steps", ()))
        if post is None:
            chosen = [(step["channel_type"], step) for step in stored]
        else:
            chosen = [(channel, _kept(stored, channel)) for channel in self._posted_channels(post)]
        self.followers = [
            self._follower(place, channel, kept, post if channel != self._added else None)
            for place, (channel, kept) in enumerate(chosen)
        ]

    @property
    def _added(self) -> str:
        """The channel that is being added: nothing of it was typed yet."""
        request = self.flow.request
        return request.POST.get("new_channel", "") if request.POST.get("go") == "add" else ""

    def _posted_channels(self, post: Any) -> list[str]:
        gone = post.get("go", "").removeprefix("remove-") if post.get("go", "").startswith("remove-") else ""
        given = [*post.getlist("follower"), *([self._added] if self._added else [])]
        allowed = [value for value in ChannelType.values if value != self.campaign.channel_type]
        return [channel for channel in dict.fromkeys(given) if channel in allowed and channel != gone][: STEPS_MAX - 1]

    def _editor(self, channel: str, post: Any, prefix: str, stored: Mapping[str, Any]) -> ContentForm:
        return content_form(channel)(post, application=self.campaign.application, stored=stored, prefix=prefix)

    def _follower(self, place: int, channel: str, kept: Mapping[str, Any], post: Any) -> Follower:
        prefix = f"step-{channel}"
        words = {name: kept.get(name) for name in WORDS}
        waits = WaitForm(post, prefix=prefix, initial={"wait": _minutes(kept.get("wait_s"))})
        label = dict(ChannelType.choices)[channel]
        return Follower(place + 2, channel, label, self._editor(channel, post, prefix, words), waits, kept)

    # --- What was given --------------------------------------------------------------------------------------------

    @property
    def is_template(self) -> bool:
        return self.source.cleaned_data.get("source") == "template"

    def is_valid(self) -> bool:
        """Of a template, the editors' words count for nothing and are not looked at."""
        if not self.source.is_valid():
            return False
        forms_: list[forms.Form] = [follower.waits for follower in self.followers]
        if not self.is_template:
            forms_ += [self.own, *(follower.form for follower in self.followers)]
        found = [form.is_valid() for form in forms_]  # each is asked, so that each shows its errors
        return all(found)

    def fields(self) -> dict[str, Any]:
        """As the services name them."""
        given = self.source.cleaned_data
        own = {"title": "", "body": "", "data": {}, "options": self.campaign.options if self._had_template else {}}
        if not self.is_template:
            own = self.own.content()
        return {
            **own,
            "template_id": given["template"].pk if self.is_template else None,
            "variables": given["variables"] if self.is_template else {},
            "category": given["category"],
            "chain": self._chain(),
        }

    @property
    def _had_template(self) -> bool:
        return self.campaign.template_id is not None

    def _chain(self) -> dict[str, Any]:
        if not self.followers:
            return {}
        given, stored = self.source.cleaned_data, self.campaign.chain or {}
        steps = []
        for follower in self.followers:
            step: dict[str, Any] = {"channel_type": follower.channel}
            if self.is_template:
                step |= {"options": follower.kept["options"]} if follower.kept.get("options") else {}
            else:
                step |= {name: value for name, value in follower.form.content().items() if value}
            if follower is not self.followers[-1]:
                minutes = follower.waits.cleaned_data.get("wait")
                step["wait_s"] = _seconds(minutes, follower.kept.get("wait_s"))
            steps.append(step)
        until = given.get("chain_until")
        return {
            "wait_s": _seconds(given.get("wait_0"), stored.get("wait_s")),
            "on": given.get("chain_on") or FollowOn.NO_RECEIPT.value,
            "until": until if until in REACHED else MessageStatus.RECEIVED.value,
            "steps": steps,
        }

    # --- Refusals --------------------------------------------------------------------------------------------------

    def refuse(self, error: SignalError) -> None:
        """On the field of the editor that it names."""
        for problem in error.details or ():
            form, place = self._form_of(problem.field)
            one = ValidationFailed(error.message, details=[problem._replace(field=place)])
            if form is self.source:
                aliases: Mapping[str, str] = {"template_id": "template", "chain.wait_s": "wait_0", "chain": "chain_on"}
            else:
                aliases = aliases_of(form.channel)  # type: ignore[attr-defined]
            add_refusal(form, one, aliases)
        if not error.details:
            self.source.add_error(None, error.message)

    def _form_of(self, field: str) -> tuple[forms.Form, str]:
        for follower in self.followers:
            prefix = f"chain.steps.{follower.place}."
            if field.startswith(prefix):
                return follower.form, field.removeprefix(prefix)
        is_word = field.split(".")[0] in WORDS and not self.is_template
        return (self.own, field) if is_word else (self.source, field)

    def context(self) -> dict[str, Any]:
        used = {self.campaign.channel_type, *(follower.channel for follower in self.followers)}
        free = [(value, label) for value, label in ChannelType.choices if value not in used]
        return {
            "form": self.source,
            "own": self.own,
            "followers": self.followers,
            "free_channels": free if len(self.followers) < STEPS_MAX - 1 else [],
            "template_address": self.flow.part_address("template-preview"),
            "editor_media": editor_media,
            **probe_context(self.flow),
        }


def _initial_of(campaign: MessageCampaign) -> dict[str, Any]:
    chain = campaign.chain or {}
    return {
        "source": "template" if campaign.template_id else "own",
        "template": campaign.template_id,
        "variables": campaign.variables,
        "category": campaign.category,
        "chain_on": chain.get("on", FollowOn.NO_RECEIPT.value),
        "chain_until": chain.get("until", MessageStatus.RECEIVED.value),
        "wait_0": _minutes(chain.get("wait_s", WAIT_UNLESS_TOLD_S)),
    }


def _words_of(campaign: MessageCampaign) -> dict[str, Any]:
    return {name: getattr(campaign, name) for name in WORDS}


def _kept(stored: list[Mapping[str, Any]], channel: str) -> Mapping[str, Any]:
    return next((step for step in stored if step.get("channel_type") == channel), {})


def _minutes(seconds: int | None) -> int | None:
    return None if seconds is None else max(1, round(seconds / 60))


def _seconds(minutes: int | None, kept: int | None) -> int:
    """What was stored to the second stays so while its minutes are not touched."""
    if kept is not None and minutes in (None, _minutes(kept)):
        return kept
    return WAIT_UNLESS_TOLD_S if minutes is None else minutes * 60


def _categories(campaign: MessageCampaign) -> list[tuple[str, str]]:
    rows = MessageCategory.objects.filter(application_id=campaign.application_id, is_archived=False)
    language = get_language() or "en"
    found = [(row.slug, row.name_in(language)) for row in rows.order_by("position", "slug")[:200]]
    if campaign.category and campaign.category not in dict(found):
        found.append((campaign.category, campaign.category))
    return [("", _("none")), *found]


# --- The pages -----------------------------------------------------------------------------------------------------


def content_state(flow: Flow) -> StepState:
    problem = flow.content_problem
    campaign = flow.campaign
    if problem is not None:
        is_empty = not (campaign.template_id or campaign.title or campaign.body or campaign.data or campaign.options)
        text = problem.details[0].message if problem.details else problem.message
        return StepState(MISSING, _("Nothing is written yet") if is_empty else text)
    return StepState(DONE, (str(campaign.template) if campaign.template else campaign.title or campaign.body)[:80])


@flow_step("content", title=gettext_lazy("Content"), position=20, icon="edit_note", state=content_state)
def content(flow: Flow) -> HttpResponse:
    words = Words(flow)
    is_rearranged = flow.request.POST.get("go", "").startswith(("add", "remove-"))
    if flow.is_post and not is_rearranged and words.is_valid():
        before = {
            **_words_of(flow.campaign),
            "template_id": flow.campaign.template_id,
            "variables": flow.campaign.variables,
            "category": flow.campaign.category,
            "chain": flow.campaign.chain or {},
        }
        fields = words.fields()
        changed: Any = {name: value for name, value in fields.items() if before[name] != value}
        try:
            if changed:
                flow.campaign = services.campaign_update(campaign=flow.campaign, by=flow.by, **changed)
        except SignalError as error:
            words.refuse(error)
        else:
            flow.forget()
            return flow.saved("content", before, changed)
    return flow.page("content", "admin/campaigns/content.html", words.context())


@flow_part("template-preview")
def template_preview(flow: Flow) -> HttpResponse:
    """The chosen template on the campaign's channel, for somebody made up."""
    given = as_uuid(flow.request.GET.get("template", ""))
    templates = MessageTemplate.objects.for_application(flow.campaign.application)
    template = templates.filter(pk=given).first() if given else None
    if template is None or not flow.may("templates:read"):
        return flow.part("admin/campaigns/parts/template_preview.html", {"fragment": ""})
    channel = flow.campaign.channel_type
    source = source_on_channel(template, channel)
    shown = {name: getattr(source, name) for name in WORDS}
    fragment = preview_fragment(
        flow.request,
        flow.campaign.application,
        channel,
        shown,
        variables=flow.campaign.variables,
        languages=source.languages,
    )
    return flow.part("admin/campaigns/parts/template_preview.html", {"fragment": fragment})
