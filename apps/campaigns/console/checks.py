"""The lines of the check: what can be said at once, and what has to be counted (in parts that the page asks for).

What blocks is what the launch itself would refuse, in its words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import OperationalError
from django.utils import timezone
from django.utils.translation import gettext as _
from djmoney.money import Money

from apps.billing.entitlements import require_feature
from apps.billing.models import Feature
from apps.campaigns import forecast
from apps.campaigns.approvals.digest import approval_holds
from apps.campaigns.approvals.models import ApprovalState
from apps.campaigns.approvals.selectors import approval_current, rule_of
from apps.campaigns.console.flow import Flow
from apps.campaigns.console.schedules import local_text, schedule_in_words
from apps.campaigns.console.words import in_words, quick_statements
from apps.campaigns.models import CampaignStatus, OverQuota
from apps.campaigns.services.approval import approval_is_needed
from apps.campaigns.services.lifecycle import refuse_missing_credentials
from apps.messaging.adapters.registry import adapters_for, subscription_types_of
from apps.messaging.content import ContentSource
from apps.messaging.courtesy.advertising import MARK
from apps.messaging.courtesy.rules import rules_of
from apps.messaging.courtesy.wanted import NO_CONSENT, OPTED_OUT, SUPPRESSED
from apps.messaging.media.addresses import media_ids_in
from apps.messaging.media.models import MediaFile
from apps.messaging.models import Purpose
from apps.messaging.previews import preview
from apps.subscriptions.models import SubscriptionType
from apps.subscriptions.preferences.letters import sender_name
from apps.tenants.channels import ChannelType
from apps.tenants.console import formats
from apps.tenants.models import ChannelCredential
from automata_signal.errors import SignalError

OK, NOTE, WARNING, BLOCKING = "ok", "note", "warning", "blocking"
BIG = 100_000
"""Recipients from which on a campaign is called big."""
EXPIRES_SOON = timedelta(days=14)
_LINK = re.compile(r"\bhttps?://[^\s\"'<>)}]+", re.IGNORECASE)
_HOST = re.compile(r"\Ahttps?://([^/:?#]+)", re.IGNORECASE)


@dataclass(frozen=True)
class CheckLine:
    """One thing that was looked at. `step` is where it is mended."""

    level: str
    title: str
    text: str = ""
    step: str = ""
    items: list[str] = field(default_factory=list)

    @property
    def icon(self) -> str:
        return {OK: "check_circle", NOTE: "info", WARNING: "warning", BLOCKING: "block"}[self.level]

    @property
    def css(self) -> str:
        return {OK: "as-good", NOTE: "as-muted", WARNING: "as-warning", BLOCKING: "as-bad"}[self.level]

    @property
    def level_text(self) -> str:
        """For who does not see colours."""
        return {OK: _("fine"), NOTE: _("to know"), WARNING: _("warning"), BLOCKING: _("stops the launch")}[self.level]


Check = Callable[[Flow], Iterator[CheckLine]]


def check_lines(flow: Flow) -> list[CheckLine]:
    """What can be said at once, what blocks first."""
    checks: tuple[Check, ...] = (
        *(_set_up, _audience, _content, _law, _schedule, _credentials, _links, _media),
        *(_chain, _approval),
    )
    return [line for check in checks for line in check(flow)]


def worst(lines: list[CheckLine]) -> str:
    levels = {line.level for line in lines}
    return next((level for level in (BLOCKING, WARNING) if level in levels), OK)


# --- At once -------------------------------------------------------------------------------------------------------


def _set_up(flow: Flow) -> Iterator[CheckLine]:
    application = flow.campaign.application
    if not application.is_active:
        yield CheckLine(BLOCKING, _("Application"), _("The application is not active."))
    try:
        require_feature(application, Feature.CAMPAIGNS)
    except SignalError as error:
        yield CheckLine(BLOCKING, _("Plan"), error.message)


def _audience(flow: Flow) -> Iterator[CheckLine]:
    campaign, title = flow.campaign, _("Audience")
    if not campaign.is_audience_chosen:
        yield CheckLine(BLOCKING, title, _("Nobody has chosen yet who gets it."), "audience")
    elif not campaign.targeting_criteria:
        yield CheckLine(WARNING, title, _("Everybody of the application gets it. Is that meant?"), "audience")
    else:
        yield CheckLine(OK, title, in_words(campaign.application, campaign.targeting_criteria), "audience")


def _content(flow: Flow) -> Iterator[CheckLine]:
    title = _("Content")
    if (problem := flow.content_problem) is not None:
        items = [f"{one.field}: {one.message}" for one in problem.details if one.message not in problem.message]
        yield CheckLine(BLOCKING, title, problem.message, "content", items)
        return
    campaign, content = flow.campaign, flow.content
    assert isinstance(content, ContentSource)
    if campaign.template is not None and not campaign.template.is_active:
        yield CheckLine(
            BLOCKING, title, _("The template %(name)s is not active.") % {"name": campaign.template}, "content"
        )
        return
    yield CheckLine(
        OK, title, _("Every provider of the channel takes it: length, size and fields are right."), "content"
    )
    if campaign.channel_type == ChannelType.SMS:
        yield from _sms_length(flow, content)


def _sms_length(flow: Flow, content: ContentSource) -> Iterator[CheckLine]:
    try:
        shown = preview(flow.campaign.application, content, {}).shown
    except SignalError:
        return
    items = [f"{name}: {value}" for name, value in shown.items() if isinstance(value, str | int)]
    if items:
        yield CheckLine(NOTE, _("Length of the text message"), _("As the gateways would send it:"), "content", items)


def _law(flow: Flow) -> Iterator[CheckLine]:
    campaign, title = flow.campaign, _("Advertising law (Korea)")
    rules = rules_of(campaign.application_id)
    if not rules.is_korean:
        if campaign.purpose == Purpose.MARKETING:
            text = _("It is advertising: only people who agreed to it get it. No country's rules are set up.")
            yield CheckLine(NOTE, _("Advertising"), text)
        return
    if campaign.purpose != Purpose.MARKETING:
        text = _("Sent as information: it needs no consent, and must not advertise anything.")
        yield CheckLine(NOTE, title, text, "basics")
        return
    if flow.content_problem is not None:
        return
    items = [
        _("it begins with %(mark)s") % {"mark": MARK},
        _("it names the sender, %(name)s") % {"name": sender_name(campaign.application)},
    ]
    if campaign.channel_type in (ChannelType.SMS, ChannelType.EMAIL):
        items.append(_("it says how to refuse, free of charge"))
    items.append(_("it goes only to people who agreed to advertising"))
    if rules.has_night(channel=campaign.channel_type, purpose=campaign.purpose):
        items.append(_("from 21:00 to 08:00 it waits for who has not agreed to the night"))
    yield CheckLine(OK, title, _("What has to be there is there:"), "content", items)


def _schedule(flow: Flow) -> Iterator[CheckLine]:
    campaign, title = flow.campaign, _("Schedule")
    is_planned = campaign.scheduled_at is not None
    if campaign.status == CampaignStatus.DRAFT and is_planned and campaign.scheduled_at <= timezone.now():  # type: ignore[operator]
        yield CheckLine(BLOCKING, title, _("The time that was chosen is over."), "schedule")
        return
    yield CheckLine(OK, title, schedule_in_words(campaign), "schedule")


def _credentials(flow: Flow) -> Iterator[CheckLine]:
    campaign, title = flow.campaign, _("Provider")
    try:
        refuse_missing_credentials(campaign, None)
    except SignalError as error:
        yield CheckLine(BLOCKING, title, error.message)
        return
    names = {adapter.name for kind in subscription_types_of(campaign.channel_type) for adapter in adapters_for(kind)}
    rows = ChannelCredential.objects.for_application(campaign.application).filter(is_active=True, provider__in=names)
    used = list(rows.defer("secret").order_by("provider", "position"))
    is_fine = True
    for row in used:
        if row.breaker_opened_at is not None:
            is_fine = False
            text = _("%(name)s is stopped: %(reason)s. What cannot be sent waits.")
            yield CheckLine(WARNING, title, text % {"name": row.name, "reason": row.breaker_reason or "–"})
        if row.expires_at is not None and row.expires_at < (campaign.scheduled_at or timezone.now()) + EXPIRES_SOON:
            is_fine = False
            text = _("%(name)s expires on %(day)s.")
            yield CheckLine(WARNING, title, text % {"name": row.name, "day": formats.day(row.expires_at.date())})
    if is_fine and used:
        yield CheckLine(OK, title, _("Ready: %(names)s") % {"names": ", ".join(row.name for row in used)})


def _texts(flow: Flow) -> list[str]:
    """Everything that is said, as text."""
    content = flow.content
    if isinstance(content, SignalError):
        campaign = flow.campaign
        return [campaign.title, campaign.body, str(campaign.data), str(campaign.options)]
    languages = [str(words) for words in content.languages.values()]
    return [content.title, content.body, str(dict(content.data)), str(dict(content.options)), *languages]


def _links(flow: Flow) -> Iterator[CheckLine]:
    links = [link for text in _texts(flow) for link in _LINK.findall(text)]
    if not links:
        return
    hosts = sorted({found.group(1).lower() for link in links if (found := _HOST.match(link))})
    if any(link.lower().startswith("http://") for link in links):
        yield CheckLine(WARNING, _("Links"), _("A link is not encrypted (http://)."), "content", hosts)
    else:
        yield CheckLine(OK, _("Links"), _("They lead to:"), "content", hosts)


def _media(flow: Flow) -> Iterator[CheckLine]:
    named = media_ids_in(_texts(flow))
    if not named:
        return
    there = MediaFile.objects.for_application(flow.campaign.application).filter(pk__in=named).count()
    if there < len(named):
        text = _("%(count)s uploaded files that it names are not there any more.")
        yield CheckLine(BLOCKING, _("Pictures and files"), text % {"count": len(named) - there}, "content")
    else:
        yield CheckLine(OK, _("Pictures and files"), _("All %(count)s are there.") % {"count": there}, "content")


def _chain(flow: Flow) -> Iterator[CheckLine]:
    steps = (flow.campaign.chain or {}).get("steps", ())
    if steps and flow.content_problem is None:
        names = dict(ChannelType.choices)
        items = [str(names.get(step["channel_type"], step["channel_type"])) for step in steps]
        text = _("Whoever is not reached gets it on the next channel, which costs too:")
        yield CheckLine(NOTE, _("Next channels"), text, "content", items)


def _approval(flow: Flow) -> Iterator[CheckLine]:
    campaign = flow.campaign
    if not rule_of(campaign.application).is_required or not campaign.is_audience_chosen:
        return
    title = _("Approval")
    try:
        with quick_statements():
            is_needed = approval_is_needed(campaign)
    except (OperationalError, SignalError):  # the count took too long: it is not a small audience
        is_needed = True
    if not is_needed:
        yield CheckLine(OK, title, _("Not needed for so few recipients."))
        return
    approval = approval_current(campaign)
    if approval is not None and not approval_holds(approval, campaign):
        text = _("Something was changed since: the approval no longer holds. Ask for it again.")
        yield CheckLine(WARNING, title, text, "launch")
    elif approval is not None and approval.state == ApprovalState.APPROVED:
        yield CheckLine(OK, title, _("Approved by %(who)s.") % {"who": approval.decided_by}, "launch")
    elif approval is not None:
        yield CheckLine(WARNING, title, _("It was asked for, and waits for an answer."), "launch")
    else:
        yield CheckLine(WARNING, title, _("A second person has to approve the launch: ask in the last step."), "launch")


# --- Counted -------------------------------------------------------------------------------------------------------

EXCLUDED = {
    NO_CONSENT: lambda: _("have not agreed to advertising"),
    OPTED_OUT: lambda: _("have refused this category"),
    SUPPRESSED: lambda: _("are on the suppression list"),
    "frequency_capped": lambda: _("had as many messages as they may get"),
    forecast.HELD_OUT: lambda: _("get nothing, for comparison: the test leaves them out"),
}


def recipient_lines(flow: Flow) -> Iterator[CheckLine]:
    """Who gets it and who does not; raises `OperationalError` if it takes too long."""
    campaign = flow.campaign
    with quick_statements():
        found = forecast.recipients_of(campaign)
    title = _("Recipients")
    names = dict(SubscriptionType.choices)
    by_type = [f"{names.get(kind, kind)}: {formats.number(count)}" for kind, count in sorted(found.by_type.items())]
    if not found.total:
        text = _("Nobody in the audience can be reached on this channel.")
        yield CheckLine(BLOCKING, title, text, "audience")
    else:
        level = WARNING if found.total >= BIG else OK
        text = _("%(count)s get it, as of now.") if level == OK else _("%(count)s get it, as of now: that is many.")
        yield CheckLine(level, title, text % {"count": formats.number(found.total)}, "audience", by_type)
        try:
            refuse_missing_credentials(campaign, set(found.by_type))
        except SignalError as error:
            yield CheckLine(BLOCKING, _("Provider"), error.message)
    if found.excluded:
        items = [
            f"{formats.number(count)} {EXCLUDED.get(reason, lambda r=reason: r)()}"
            for reason, count in found.excluded.items()
        ]
        text = _("%(count)s of the audience do not get it:") % {"count": formats.number(found.matched - found.total)}
        yield CheckLine(NOTE, _("Left out"), text, "audience", items)
    waits = forecast.waiting_of(campaign, found)
    if waits:
        zone = campaign.application.time_zone
        items = [
            _("%(count)s until %(moment)s") % {"count": formats.number(count), "moment": local_text(at, zone, zone)}
            for at, count in waits.items()
        ]
        text = _("It would start in quiet hours. Who waits, roughly:")
        yield CheckLine(WARNING, _("Quiet hours"), text, "schedule", items)
    else:
        yield CheckLine(OK, _("Quiet hours"), _("Nobody has to wait at that time."), "schedule")
    if found.total:
        yield from _cost_lines(flow, found.total)


def _cost_lines(flow: Flow, messages: int) -> Iterator[CheckLine]:
    campaign = flow.campaign
    cost = forecast.cost_of(campaign, messages)
    items = []
    for label, left in ((_("today"), cost.daily_left), (_("this month"), cost.monthly_left)):
        if left is not None:
            items.append(
                _("%(label)s: %(before)s left, %(after)s after it")
                % {"label": label, "before": formats.number(left), "after": formats.number(max(0, left - messages))}
            )
    if cost.credit is not None and cost.credit_after is not None:
        items.append(
            _("credit: %(before)s, %(after)s after it")
            % {
                "before": formats.money(Money(cost.credit, cost.currency)),
                "after": formats.money(Money(cost.credit_after, cost.currency)),
            }
        )
    text = _("About %(amount)s for %(count)s messages (an estimate).") % {
        "amount": formats.money(Money(cost.amount, cost.currency)),
        "count": formats.number(messages),
    }
    if cost.fits:
        yield CheckLine(OK, _("Cost and quota"), text, "", items)
    elif campaign.when_over_quota == OverQuota.PARTIAL and cost.is_included and cost.left != 0:
        more = _("It does not fit the quota or the credit: it is sent as far as it goes, and the rest fails.")
        yield CheckLine(WARNING, _("Cost and quota"), f"{text} {more}", "schedule", items)
    elif not cost.is_included:
        yield CheckLine(BLOCKING, _("Cost and quota"), _("The plan does not include this channel."), "basics")
    else:
        more = _("It does not fit the quota or the credit, and would be refused.")
        yield CheckLine(BLOCKING, _("Cost and quota"), f"{text} {more}", "schedule", items)


def unreachable_lines(flow: Flow) -> Iterator[CheckLine]:
    with quick_statements():
        count = forecast.unreachable_of(flow.campaign)
    if count:
        text = _("%(count)s subscriptions that meet the conditions have ended or are switched off on the device.")
        yield CheckLine(NOTE, _("Not reachable"), text % {"count": formats.number(count)}, "audience")


def duplicate_lines(flow: Flow) -> Iterator[CheckLine]:
    """The same content to the same people, and the same person on several devices."""
    campaign, title = flow.campaign, _("The same again")
    if flow.content_problem is not None:
        return
    similar = forecast.similar_to(campaign)
    for other in similar:
        with quick_statements():
            overlap = forecast.overlap_of(campaign, other)
        if overlap:
            text = _("“%(name)s” says the same, and %(count)s of this audience are in its audience too.")
            values = {"name": other.name, "count": formats.number(overlap)}
            yield CheckLine(WARNING, title, text % values, "audience")
    if not similar:
        yield CheckLine(OK, title, _("No campaign of the last 7 days says the same."))
    with quick_statements():
        several = forecast.several_devices_of(campaign)
    if several:
        text = _("%(count)s people have it on several devices or addresses, and get it on each.")
        yield CheckLine(NOTE, _("Several devices"), text % {"count": formats.number(several)})


def sample_lines(flow: Flow) -> Iterator[CheckLine]:
    """What some real recipients would get."""
    content, title = flow.content, _("With real people")
    if isinstance(content, SignalError):
        return
    with quick_statements():
        found = forecast.sampled(flow.campaign, content)
    if not found.people:
        return
    if found.failed:
        items = [f"{place}: {why}" for _key, place, why in found.failed[:5]]
        text = _("For %(failed)s of %(people)s recipients that were tried it cannot be made:")
        values: dict[str, Any] = {"failed": len(found.failed), "people": found.people}
        yield CheckLine(WARNING, title, text % values, "content", items)
    if found.missing:
        items = [
            _("%(name)s: %(count)s of %(people)s") % {"name": name, "count": count, "people": found.people}
            for name, count in found.missing.items()
        ]
        yield CheckLine(WARNING, title, _("Some have no value for what the words use:"), "content", items)
    if not found.failed and not found.missing:
        text = _("Tried with %(people)s of them: it can be made for each.")
        yield CheckLine(OK, title, text % {"people": found.people}, "content")


COUNTED: dict[str, Callable[[Flow], Iterator[CheckLine]]] = {
    "recipients": recipient_lines,
    "unreachable": unreachable_lines,
    "duplicates": duplicate_lines,
    "sample": sample_lines,
}
