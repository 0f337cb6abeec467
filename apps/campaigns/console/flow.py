"""The guided flow of a draft: steps with pages of their own, in any order, each saved by itself.

A step is a view registered with `flow_step`; other modules add theirs with a position between the others (`variants`
of a test stands between content, 20, and schedule, 30). A part of a page that is asked for later, a count or the state
of a test message, is a view registered with `flow_part`; it works as a page of its own for who has no script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from apps.campaigns.console.words import APPROVE, LAUNCH, STATUS_COLOURS, WRITE
from apps.campaigns.experiments.planning import variants_check
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.campaigns.services.drafts import campaign_chain, campaign_content
from apps.campaigns.services.rows import EDITABLE
from apps.messaging.content import ContentSource
from apps.tenants.audit.services import audit
from apps.tenants.console.access import grants_of
from apps.tenants.console.panels import badge
from apps.tenants.models import Operator
from automata_signal.errors import SignalError

if TYPE_CHECKING:
    from apps.campaigns.console.campaigns import MessageCampaignAdmin

DONE, MISSING, WARNING, OPEN = "done", "missing", "warning", "open"


@dataclass(frozen=True)
class StepState:
    """How far a step is, and in a few words what was chosen or what is missing."""

    state: str = OPEN
    note: str = ""


StepView = Callable[["Flow"], HttpResponse]
StateOf = Callable[["Flow"], StepState]


@dataclass(frozen=True)
class FlowStep:
    name: str
    title: Any
    icon: str
    position: int
    view: StepView
    state: StateOf
    is_offered: Callable[[Flow], bool]
    is_in_bar: bool
    """Else it is reached by a link only."""


def _always(flow: Flow) -> bool:
    return True


_steps: dict[str, FlowStep] = {}
_parts: dict[str, StepView] = {}


def flow_step(
    name: str,
    *,
    title: Any,
    position: int,
    icon: str = "",
    state: StateOf = lambda flow: StepState(),
    is_offered: Callable[[Flow], bool] = _always,
    is_in_bar: bool = True,
) -> Callable[[StepView], StepView]:
    """Register a view (flow → response) as the step `name`. It answers GET, and POST of who may write; `flow.page`
    shows its template and `flow.saved` goes on."""

    def register(view: StepView) -> StepView:
        _steps[name] = FlowStep(name, title, icon, position, view, state, is_offered, is_in_bar)
        return view

    return register


def flow_part(name: str) -> Callable[[StepView], StepView]:
    """Register a view of a part of a page, which is asked for by itself (`flow.part_address`)."""

    def register(view: StepView) -> StepView:
        _parts[name] = view
        return view

    return register


def is_advanced(request: HttpRequest) -> bool:
    """Whether the plain form is asked for, with everything as JSON."""
    return "advanced" in request.GET


def operator_of(request: HttpRequest) -> Operator:
    """Who is signed in."""
    assert isinstance(request.user, Operator)
    return request.user


def step_named(name: str) -> FlowStep | None:
    return _steps.get(name)


def part_named(name: str) -> StepView | None:
    return _parts.get(name)


@dataclass(frozen=True)
class ShownStep:
    """A step as the bar shows it."""

    step: FlowStep
    number: int
    address: str
    state: StepState
    is_current: bool

    @property
    def css(self) -> str:
        return f"as-is-{self.state.state}"

    @property
    def state_text(self) -> str:
        """For who does not see colours."""
        return {DONE: _("done"), MISSING: _("missing"), WARNING: _("to be looked at")}.get(self.state.state, "")


class Flow:
    """One request to one campaign's flow: who asks, what is there, and what of it is done."""

    def __init__(self, admin: MessageCampaignAdmin, request: HttpRequest, campaign: MessageCampaign) -> None:
        self.admin, self.request, self.campaign = admin, request, campaign

    # --- Who -----------------------------------------------------------------------------------------------------

    def may(self, scope: str) -> bool:
        return grants_of(self.request).has(scope, self.campaign.application_id)

    @property
    def may_write(self) -> bool:
        return self.may(WRITE)

    @property
    def may_launch(self) -> bool:
        return self.may(LAUNCH)

    @property
    def may_approve(self) -> bool:
        return self.may(APPROVE)

    @property
    def by(self) -> str:
        return str(self.request.user)

    @property
    def is_post(self) -> bool:
        """Whether something is to be written; 403 for who may not."""
        if self.request.method != "POST":
            return False
        if not self.may_write:
            raise PermissionDenied
        return True

    @property
    def is_editable(self) -> bool:
        return self.campaign.status in EDITABLE

    # --- What ----------------------------------------------------------------------------------------------------

    @cached_property
    def content(self) -> ContentSource | SignalError:
        """What would be sent, or why it cannot be: asked once for all that shows it."""
        try:
            if self.campaign.has_variants:
                return variants_check(self.campaign, campaign_content)
            source = campaign_content(self.campaign)
            campaign_chain(self.campaign)
        except SignalError as error:
            return error
        return source

    def forget(self) -> None:
        """After a change: what was read before is old."""
        self.__dict__.pop("content", None)

    @property
    def content_problem(self) -> SignalError | None:
        return self.content if isinstance(self.content, SignalError) else None

    # --- Where ---------------------------------------------------------------------------------------------------

    def address_of(self, step: str) -> str:
        return reverse("admin:campaigns_messagecampaign_step", args=[self.campaign.pk, step])

    def part_address(self, name: str) -> str:
        return reverse("admin:campaigns_messagecampaign_part", args=[self.campaign.pk, name])

    def steps(self, current: str = "") -> list[ShownStep]:
        offered = sorted(
            (step for step in _steps.values() if step.is_in_bar and step.is_offered(self)), key=lambda s: s.position
        )
        return [
            ShownStep(step, number, self.address_of(step.name), self._state(step), step.name == current)
            for number, step in enumerate(offered, start=1)
        ]

    def _state(self, step: FlowStep) -> StepState:
        try:
            return step.state(self)
        except SignalError as error:
            return StepState(MISSING, error.message)

    def first_open(self) -> str:
        """The address of the first step that is not done: where somebody who opens the draft goes on."""
        steps = self.steps()
        return next((shown.address for shown in steps if shown.state.state in (MISSING, OPEN)), steps[-1].address)

    # --- Answers -------------------------------------------------------------------------------------------------

    def page(self, name: str, template: str, context: Mapping[str, Any], *, status: int = 200) -> HttpResponse:
        """The step's page: the bar, and `template`, which extends `admin/campaigns/flow.html`."""
        step = _steps[name]
        steps = self.steps(name)
        at = next((index for index, shown in enumerate(steps) if shown.is_current), None)
        form = context.get("form")
        media = form.media if form is not None else ""
        media = context.get("editor_media") or media
        whole = {
            **self.admin.admin_site.each_context(self.request),
            "opts": self.admin.model._meta,
            "title": step.title,
            "subtitle": str(self.campaign),
            "flow": self,
            "campaign": self.campaign,
            "original": self.campaign,
            "status_badge": badge(STATUS_COLOURS[self.campaign.status], CampaignStatus(self.campaign.status).label),
            "step": step,
            "steps": steps,
            "back": steps[at - 1] if at else None,
            "next": steps[at + 1] if at is not None and at + 1 < len(steps) else None,
            "media": media,
            **self.links(),
            **context,
        }
        return TemplateResponse(self.request, template, whole, status=status)

    def links(self) -> dict[str, str]:
        """Of the campaign's head."""
        own = self.admin.address_of(self.campaign.pk)
        return {
            "basics_address": self.address_of("basics"),
            "history_address": reverse("admin:campaigns_messagecampaign_history", args=[self.campaign.pk]),
            "advanced_address": f"{own}?advanced=1",
        }

    def part(self, template: str, context: Mapping[str, Any]) -> HttpResponse:
        """A part by itself; as a page for who has no script."""
        if self.request.headers.get("HX-Request"):
            return TemplateResponse(self.request, template, {"flow": self, "campaign": self.campaign, **context})
        whole = {
            **self.admin.admin_site.each_context(self.request),
            "opts": self.admin.model._meta,
            "title": str(self.campaign),
            "flow": self,
            "campaign": self.campaign,
            "part": template,
            "media": self.admin.media,
            **context,
        }
        return TemplateResponse(self.request, "admin/campaigns/part.html", whole)

    def saved(self, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> HttpResponse:
        """After a step was written: it is told in the audit log, and the page goes on as the button said."""
        changes = {field: [before.get(field), value] for field, value in after.items() if before.get(field) != value}
        if changes:
            audit(
                "campaign.update",
                request=self.request,
                application_id=self.campaign.application_id,
                row=self.campaign,
                changes=_plain(changes),
                details={"step": name},
            )
        go = self.request.POST.get("go", "")
        if changes and go != "next":
            messages.success(self.request, _("Saved."))
        steps = self.steps(name)
        at = next((index for index, shown in enumerate(steps) if shown.is_current), None)
        if go == "next" and at is not None and at + 1 < len(steps):
            return HttpResponseRedirect(steps[at + 1].address)
        if at is None:
            return HttpResponseRedirect(self.admin.address_of(self.campaign.pk))
        return HttpResponseRedirect(self.address_of(name))


def _plain(changes: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """As JSON has it."""
    return {name: [_value(value) for value in pair] for name, pair in changes.items()}


def _value(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool | dict | list) else str(value)
