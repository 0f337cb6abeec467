"""Campaigns, segments and templates at the console: drafts by forms, everything else by buttons."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.billing.models import MessageQuota
from apps.billing.services.quota import billing_of
from apps.campaigns import services
from apps.campaigns.approvals.models import CampaignApproval
from apps.campaigns.models import MessageCampaign, Segment
from apps.campaigns.services import campaign_create, campaign_update, segment_update
from apps.campaigns.services.timing import timing_of
from apps.messaging.models import Dispatch, Message
from apps.tenants.audit.models import AuditEvent
from apps.tenants.models import ChannelCredential, Role
from automata_signal.errors import ValidationFailed
from tests.admin.pages import address, button, list_of, page_of, text_of
from tests.admin.test_rows import errors_of

NEW = "/admin/campaigns/messagecampaign/add/?advanced=1"
"""The plain form, with everything of a campaign."""


def plain(campaign) -> str:
    """The plain form of a draft."""
    return page_of(campaign) + "?advanced=1"


def step_of(campaign, name: str) -> str:
    return address("campaigns.MessageCampaign", "step", campaign.pk, name)


def part_of(campaign, name: str) -> str:
    return address("campaigns.MessageCampaign", "part", campaign.pk, name)


def form(world, **changes) -> dict[str, str]:
    return {
        "application": str(world.application.pk),
        "name": "Summer",
        "channel_type": "push",
        "purpose": "transactional",
        "priority": "low",
        "when_over_quota": "refuse",
        "title": "Hello",
        "body": "It is summer",
        "data": "{}",
        "options": "{}",
        "variables": "{}",
        "targeting_criteria": "{}",
    } | changes


@pytest.fixture
def draft(world) -> MessageCampaign:
    return campaign_create(application=world.application, name="Draft", title="Hi", body="There", targeting_criteria={})


def reread(campaign: MessageCampaign) -> MessageCampaign:
    return MessageCampaign.objects.get(pk=campaign.pk)


def test_a_draft_is_made_and_changed_through_the_services(world, member):
    marketer = member(Role.MARKETER)
    assert marketer.post(NEW, form(world)).status_code == 302
    campaign = MessageCampaign.objects.get(name="Summer")
    assert campaign.created_by.startswith("marketer-")
    criteria = '{"segment": "' + str(world["campaigns.Segment"].pk) + '"}'
    changed = form(world, name="Summer 2", targeting_criteria=criteria)
    assert marketer.post(page_of(campaign), changed).status_code == 302
    campaign = reread(campaign)
    assert campaign.name == "Summer 2"
    assert "Aurora segment" in text_of(marketer.get(page_of(campaign), follow=True))
    assert "Summer 2" in text_of(marketer.get(page_of(campaign, "history")))


def test_what_a_service_refuses_is_an_error_on_the_named_field(world, member):
    marketer = member(Role.MARKETER)
    place = NEW
    wrong = {
        "targeting_criteria": '{"field": "nonsense", "op": "eq", "value": 1}',
        "ttl_s": "99999999",
        "template": str(world["messaging.MessageTemplate"].pk),
        "channel_type": "pigeon",
        "options": '{"badge": "many"}',
    }
    for field, value in wrong.items():
        found = errors_of(marketer.post(place, form(world, **{field: value})))
        assert list(found) == [field], found
    assert list(errors_of(marketer.post(place, form(world, targeting_criteria="")))) == ["targeting_criteria"]
    assert not MessageCampaign.objects.filter(name="Summer").exists()


def test_a_launched_campaign_is_not_edited(world, member):
    launched = world["campaigns.MessageCampaign"]
    marketer = member(Role.MARKETER)
    assert marketer.get(page_of(launched)).status_code == 200
    assert marketer.post(page_of(launched), form(world)).status_code == 403
    assert marketer.post(page_of(launched, "delete"), {"post": "yes"}).status_code == 403


def test_a_draft_can_be_deleted(draft, member):
    assert member(Role.MARKETER).post(page_of(draft, "delete"), {"post": "yes"}).status_code == 302
    assert not MessageCampaign.objects.filter(pk=draft.pk).exists()


def test_launch_asks_first_with_the_number_of_recipients(draft, member):
    marketer = member(Role.MARKETER)
    page = marketer.get(button(draft, "launch"))
    assert dict(page.context["facts"])["Recipients, as of now"] == "4"
    assert reread(draft).status == "draft"
    assert marketer.post(button(draft, "launch")).status_code == 302
    assert reread(draft).status == "running"


def test_a_launch_that_does_not_fit_the_quota_says_how_many_would(draft, member):
    billing_of(draft.application)
    MessageQuota.objects.filter(application=draft.application, channel_type="push").update(
        daily_quota=F("daily_used") + 2
    )
    answer = member(Role.MARKETER).post(button(draft, "launch"), follow=True)
    assert "2 would fit" in text_of(answer)
    assert reread(draft).status == "draft"


def test_the_buttons_take_a_campaign_through_its_life(draft, member):
    marketer = member(Role.MARKETER)
    at = (timezone.now() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    steps = [
        ("schedule", {"at": at, "time_zone": "Asia/Seoul"}, "scheduled"),
        ("unschedule", {}, "draft"),
        ("launch", {}, "running"),
        ("pause", {}, "paused"),
        ("resume", {}, "running"),
        ("cancel", {}, "canceled"),
    ]
    for name, given, state in steps:
        answer = marketer.post(button(draft, name), given)
        assert answer.status_code == 302, (name, text_of(answer))
        assert reread(draft).status == state, name


def test_an_illegal_step_shows_the_refusal(draft, member):
    marketer = member(Role.MARKETER)
    for name in ("pause", "resume", "unschedule"):
        shown = text_of(marketer.post(button(draft, name), follow=True))
        assert "The campaign is draft" in shown, name
    for at in ("2020-01-01T00:00", "soon", "9999-12-31T00:00"):
        answer = marketer.post(button(draft, "schedule"), {"at": at})
        assert answer.context["form"].errors["at"]
    answer = marketer.post(button(draft, "schedule"), {"at": "2026-12-24T09:00", "time_zone": "Mars/Olympus"})
    assert answer.context["form"].errors["time_zone"]
    ChannelCredential.objects.all().update(is_active=False)
    assert "no active credential" in text_of(marketer.post(button(draft, "launch"), follow=True))
    assert reread(draft).status == "draft"


def test_only_buttons_that_fit_the_state_are_offered(draft, world, member):
    marketer = member(Role.MARKETER)
    shown = text_of(marketer.get(plain(draft)))
    assert button(draft, "launch") in shown
    assert button(draft, "pause") not in shown
    running = world["campaigns.MessageCampaign"]
    shown = text_of(marketer.get(page_of(running)))
    assert button(running, "pause") in shown
    assert button(running, "launch") not in shown
    assert button(running, "pause") not in text_of(member(Role.ANALYST).get(page_of(running)))


def test_a_test_goes_to_the_named_recipients(draft, world, member):
    marketer = member(Role.MARKETER)
    before = Message.objects.count()
    given = {"external_ids": "Aurora-user\nnobody", "subscription_ids": ""}
    answer = marketer.post(button(draft, "test"), given, follow=True)
    assert "nobody (not_found)" in text_of(answer)
    assert Message.objects.count() == before + 1
    assert "external_ids" in marketer.post(button(draft, "test"), {}).context["form"].errors
    answer = marketer.post(button(draft, "test"), {"subscription_ids": "x"})
    assert "subscription_ids" in answer.context["form"].errors


def test_the_page_shows_progress_rates_and_reasons(world, member):
    campaign = world["campaigns.MessageCampaign"]
    MessageCampaign.objects.filter(pk=campaign.pk).update(
        total_recipients=200, successful_count=100, failed_count=50, received_count=40, converted_count=10
    )
    analyst = member(Role.ANALYST)
    shown = text_of(analyst.get(page_of(campaign)))
    for text in ("75.0 %", "40.0 %", "25.0 %", "Aurora_reason"):
        assert text in shown, text
    live = analyst.get(reverse("admin:campaigns_messagecampaign_progress", args=[campaign.pk]))
    assert "75.0 %" in text_of(live)
    assert "hx-get" in text_of(live)


def test_segments_say_who_is_in_them_and_how_many(world, member):
    marketer = member(Role.MARKETER)
    given = {
        "application": str(world.application.pk),
        "name": "Phones",
        "description": "",
        "criteria": '{"all": [{"field": "type", "op": "eq", "value": "iOSPush"}]}',
    }
    assert marketer.post(address("campaigns.Segment", "add"), given).status_code == 302
    segment = Segment.objects.get(name="Phones")
    analyst = member(Role.ANALYST)
    facts = dict(analyst.get(page_of(segment)).context["panels_before"][0].context["facts"])
    assert facts["who"] == "Channel of the subscription is iOS push"
    assert facts["reachable by push now"] == "4"
    taken = given | {"name": "Aurora segment"}
    assert list(errors_of(marketer.post(page_of(segment), taken))) in (["name"], ["__all__"])
    circle = given | {"criteria": '{"segment": "' + str(segment.pk) + '"}'}
    assert list(errors_of(marketer.post(page_of(segment), circle))) == ["criteria"]


def test_a_segment_in_use_cannot_be_deleted(world, member):
    marketer, segment = member(Role.MARKETER), world["campaigns.Segment"]
    campaign_create(
        application=world.application,
        name="User",
        title="Hi",
        body="There",
        targeting_criteria={"segment": str(segment.pk)},
    )
    answer = marketer.post(page_of(segment, "delete"), {"post": "yes"}, follow=True)
    assert "The segment is in use" in text_of(answer)
    assert Segment.objects.filter(pk=segment.pk).exists()


def test_what_people_wrote_is_never_markup(world, member):
    """Names and contents come from everywhere, and the console is where the rights are."""
    marketer = member(Role.MARKETER)
    evil = "<script>alert(1)</script>"
    given = form(world, name=evil, title=evil, body=evil, data='{"a": "</pre><script>alert(1)</script>"}')
    assert marketer.post(NEW, given).status_code == 302
    campaign = MessageCampaign.objects.get(name=evil)
    places = [page_of(campaign), button(campaign, "launch"), list_of("campaigns.MessageCampaign")]
    assert marketer.post(button(campaign, "test"), {"external_ids": "Aurora-user"}).status_code == 302
    message = Message.objects.order_by("-id").first()
    steps = [step_of(campaign, name) for name in ("basics", "audience", "content", "schedule", "check", "launch")]
    for place in [*places, *steps, plain(campaign), page_of(campaign, "history"), page_of(message), "/admin/"]:
        assert evil not in text_of(marketer.get(place)), place


def test_the_language_is_switched(root):
    assert root.post(reverse("admin:console_language"), {"language": "ko", "next": "/admin/"}).status_code == 302
    assert 'lang="ko"' in text_of(root.get("/admin/"))


def test_no_page_asks_another_host(world, root):
    import re

    for place in ("/admin/", page_of(world["campaigns.MessageCampaign"]), NEW):
        shown = text_of(root.get(place))
        assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]+"', shown), place


# --- The guided flow -----------------------------------------------------------------------------------------------

STEPS = ("basics", "audience", "content", "schedule", "check", "launch")
PARTS = (
    *("check-recipients", "check-unreachable", "check-duplicates", "check-sample"),
    *("schedule-words", "template-preview", "test-send", "test-state", "breakdown"),
)
HTMX = {"HTTP_HX_REQUEST": "true"}


def begun(world, client, **changes) -> MessageCampaign:
    """A draft as the page "New campaign" makes it."""
    given = {"application": str(world.application.pk), "name": "New", "channel_type": "push"}
    place = address("campaigns.MessageCampaign", "add")
    answer = client.post(place, given | {"purpose": "transactional"} | changes)
    assert answer.status_code == 302, errors_of(answer)
    campaign = MessageCampaign.objects.get(name="New")
    assert answer.url == step_of(campaign, "audience")
    return campaign


def content_form(**changes) -> dict[str, str]:
    given = {"source": "own", "own-title": "Hello", "own-body": "There", "chain_on": "no_receipt"}
    return given | {"chain_until": "received", "go": "next"} | changes


def test_a_campaign_is_built_step_by_step_without_a_script(world, member):
    marketer = member(Role.MARKETER)
    campaign = begun(world, marketer)
    assert not campaign.is_audience_chosen
    assert marketer.get(page_of(campaign)).url == step_of(campaign, "audience")
    assert marketer.post(step_of(campaign, "audience"), {"criteria": "", "go": "next"}).context["form"].errors
    answer = marketer.post(step_of(campaign, "audience"), {"criteria": "{}", "go": "next"})
    assert answer.status_code == 302
    assert reread(campaign).is_audience_chosen
    segment = world["campaigns.Segment"]
    given = {"segment": str(segment.pk), "criteria": "", "go": "segment"}
    assert marketer.post(step_of(campaign, "audience"), given).status_code == 302
    assert reread(campaign).targeting_criteria == {"segment": str(segment.pk)}
    assert marketer.post(step_of(campaign, "content"), content_form()).status_code == 302
    at = (timezone.now() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    when = {"when": "at", "planned_at": at, "time_zone": "Asia/Seoul", "clock": "local", "local_time": "09:30"}
    how = {"priority": "low", "when_over_quota": "refuse", "messages_per_minute": "600", "ttl_s": "86400"}
    assert marketer.post(step_of(campaign, "schedule"), {**when, **how, "go": "next"}).status_code == 302
    row = reread(campaign)
    assert (row.title, row.ttl_s, row.messages_per_minute, row.scheduled_time_zone) == (
        "Hello",
        86_400,
        600,
        "Asia/Seoul",
    )
    assert f"{timing_of(row)[0]:%H:%M}" == "09:30"
    told = AuditEvent.objects.filter(action="campaign.update").order_by("-pk").first()
    assert told.changes["scheduled_at"] == [None, str(row.scheduled_at)]
    counted = text_of(marketer.get(step_of(campaign, "check") + "?count=1"))
    assert "4 get it, as of now" in counted
    shown = text_of(marketer.get(step_of(campaign, "launch")))
    assert button(campaign, "schedule") in shown
    answer = marketer.post(button(campaign, "schedule"), {"at": row.scheduled_at.isoformat()}, follow=True)
    assert reread(campaign).status == "scheduled", text_of(answer)


def test_each_step_shows_what_the_service_refuses_on_its_field(world, member):
    marketer = member(Role.MARKETER)
    campaign = begun(world, marketer)
    wrong = marketer.post(step_of(campaign, "content"), content_form(**{"own-title": "", "own-body": ""}))
    assert wrong.status_code == 302  # nothing is written yet, and that is no error
    wrong = marketer.post(step_of(campaign, "content"), content_form(source="template"))
    assert "template" in wrong.context["form"].errors
    past = {"when": "at", "planned_at": "2020-01-01T09:00", "clock": "at_once", "priority": "low"}
    wrong = marketer.post(step_of(campaign, "schedule"), past | {"when_over_quota": "refuse"})
    assert list(wrong.context["form"].errors) == ["planned_at"]
    nonsense = '{"all": [{"field": "nonsense", "op": "eq", "value": 1}]}'
    assert "criteria" in marketer.post(step_of(campaign, "audience"), {"criteria": nonsense}).context["form"].errors
    basics = {"name": "", "channel_type": "push", "purpose": "marketing"}
    assert "name" in marketer.post(step_of(campaign, "basics"), basics).context["form"].errors


def test_channels_that_follow_are_added_and_taken_away(draft, member):
    marketer = member(Role.MARKETER)
    place = step_of(draft, "content")
    added = marketer.post(place, content_form(go="add", new_channel="in_app"))
    assert [follower.channel for follower in added.context["followers"]] == ["in_app"]
    assert reread(draft).chain == {}
    words = {"follower": "in_app", "step-in_app-title": "Did you see it?", "step-in_app-body": "Look", "wait_0": "90"}
    assert marketer.post(place, content_form(**words)).status_code == 302
    chain = reread(draft).chain
    assert (chain["wait_s"], chain["steps"][0]["channel_type"]) == (5_400, "in_app")
    assert marketer.post(place, content_form(go="remove-in_app", **words)).context["followers"] == []
    assert marketer.post(place, content_form()).status_code == 302
    assert reread(draft).chain == {}


def test_every_step_and_part_keeps_to_application_and_role(draft, other, member):
    theirs = campaign_create(application=other.application, name="Borealis draft", title="Hi", targeting_criteria={})
    owner, analyst, support = member(Role.OWNER), member(Role.ANALYST), member(Role.SUPPORT)
    for place in [*(step_of(theirs, name) for name in STEPS), *(part_of(theirs, name) for name in PARTS)]:
        assert owner.get(place).status_code == 404, place
        assert owner.post(place, {"name": "x"}).status_code == 404, place
    for name in STEPS:
        assert analyst.get(step_of(draft, name)).status_code == 200, name
        assert support.get(step_of(draft, name)).status_code == 404, name
    for name in ("basics", "audience", "content", "schedule"):
        assert analyst.post(step_of(draft, name), {"name": "x"}).status_code == 403, name
    for name in ("test-send", "test-state"):
        assert analyst.get(part_of(draft, name)).status_code == 403, name
    for name in PARTS:
        for extra in ({}, HTMX):
            answer = owner.get(part_of(draft, name), **extra)
            assert answer.status_code == 200, (name, extra)
            assert ("<html" in text_of(answer)) is not bool(extra), name
    assert owner.get(step_of(draft, "nonsense")).status_code == 404
    assert owner.get(part_of(draft, "nonsense")).status_code == 404


def test_a_launched_campaign_has_a_result_and_no_steps(world, member):
    running = world["campaigns.MessageCampaign"]
    analyst = member(Role.ANALYST)
    assert analyst.get(step_of(running, "audience")).url == page_of(running)
    shown = text_of(analyst.get(page_of(running)))
    assert "From recipients to opened" in shown
    assert "What to do" in shown
    assert part_of(running, "breakdown") in shown
    answer = analyst.get(part_of(running, "breakdown"), **HTMX)
    assert answer.status_code == 200


def test_a_test_is_sent_from_the_page_and_followed(draft, world, other, member):
    marketer = member(Role.MARKETER)
    user = world["subscriptions.AppUser"]
    type(user).objects.filter(pk=user.pk).update(is_test=True)
    assert "Aurora-user" in text_of(marketer.get(step_of(draft, "check")))
    answer = marketer.post(part_of(draft, "test-send"), {"testers": "Aurora-user", "external_ids": "nobody"}, **HTMX)
    assert "1 test message is on its way" in text_of(answer)
    assert "there is no such user" in text_of(answer)
    message = Message.objects.order_by("-id").first()
    state = marketer.get(part_of(draft, "test-state"), {"m": f"{message.pk}~Aurora-user"}, **HTMX)
    assert "Pending" in text_of(state)
    theirs = marketer.get(part_of(draft, "test-state"), {"m": f"{other['messaging.Message'].pk}~x"}, **HTMX)
    assert page_of(other["messaging.Message"]) not in text_of(theirs)
    assert "must name 1 to 20" in text_of(marketer.post(part_of(draft, "test-send"), {}, **HTMX))


def test_a_double_click_launches_once(draft, member):
    marketer = member(Role.MARKETER)
    assert marketer.post(button(draft, "launch")).status_code == 302
    assert marketer.post(button(draft, "launch")).status_code == 302
    assert reread(draft).status == "running"
    assert Dispatch.objects.filter(campaign_id=draft.pk).count() == 1


def test_a_large_audience_is_typed(draft, member, monkeypatch):
    monkeypatch.setattr("apps.campaigns.console.launch.CONFIRMED_ABOVE", 3)
    marketer = member(Role.MARKETER)
    assert "Type the number of recipients" in text_of(marketer.get(step_of(draft, "launch")))
    for typed in ("", "12", "many"):
        answer = marketer.post(button(draft, "launch"), {"confirmation": typed})
        assert "confirmation" in answer.context["form"].errors, typed
    assert marketer.post(button(draft, "launch"), {"confirmation": "4"}).status_code == 302
    assert reread(draft).status == "running"


def test_a_second_person_approves_at_the_console(draft, member, application):
    application.settings = {"campaign_approval": {"mode": "required"}}
    application.save()
    marketer, manager = member(Role.MARKETER), member(Role.MANAGER)
    assert "needs the approval" in text_of(marketer.post(button(draft, "launch"), follow=True))
    assert marketer.post(button(draft, "ask_approval"), {"note": "Please"}).url == step_of(draft, "launch")
    assert marketer.post(button(draft, "approve")).status_code == 403
    shown = manager.get(step_of(draft, "launch"))
    assert "Please" in text_of(shown)
    digest = shown.context["approval"]["digest"]
    marketer.post(step_of(draft, "content"), content_form())
    stale = manager.post(button(draft, "approve"), {"digest": digest})
    assert "Nobody has asked" in text_of(stale)
    marketer.post(button(draft, "ask_approval"), {"note": ""})
    digest = manager.get(step_of(draft, "launch")).context["approval"]["digest"]
    assert manager.post(button(draft, "approve"), {"digest": digest, "comment": "Fine"}).status_code == 302
    assert marketer.post(button(draft, "launch")).status_code == 302
    assert reread(draft).status == "running"


def test_an_approval_that_no_longer_holds_is_not_said_to_hold(draft, member, application, world):
    application.settings = {"campaign_approval": {"mode": "required"}}
    application.save()
    segment = world["campaigns.Segment"]
    campaign_update(campaign=draft, targeting_criteria={"segment": str(segment.pk)})
    marketer, manager = member(Role.MARKETER), member(Role.MANAGER)
    marketer.post(button(draft, "ask_approval"), {"note": ""})
    page = manager.get(button(draft, "approve"))
    digest = page.context["form"]["digest"].value()
    assert manager.post(button(draft, "approve"), {"comment": "unseen"}).status_code == 200
    assert CampaignApproval.objects.get(campaign=draft).state == "asked"
    assert manager.post(button(draft, "approve"), {"digest": digest}).status_code == 302
    assert "Approved by" in text_of(marketer.get(step_of(draft, "check")))
    segment_update(segment=segment, criteria={"field": "country", "op": "eq", "value": "JP"})
    page = text_of(marketer.get(step_of(draft, "check")))
    assert "the approval no longer holds" in page
    assert "Approved by" not in page
    assert "Something was changed" in text_of(marketer.get(step_of(draft, "audience")))


def test_a_start_is_planned_only_with_all_that_was_given(draft, member, monkeypatch):
    def refused(**given):
        raise ValidationFailed.of("ttl_s", "must be less")

    monkeypatch.setattr(services, "campaign_update", refused)
    at = (timezone.now() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    given = {"when": "at", "planned_at": at, "time_zone": "Asia/Seoul", "clock": "at_once", "priority": "high"}
    answer = member(Role.MARKETER).post(step_of(draft, "schedule"), {**given, "when_over_quota": "refuse"})
    assert "ttl_s" in answer.context["form"].errors
    assert reread(draft).scheduled_at is None


def test_progress_reloads_the_page_when_the_state_has_changed(world, member):
    running = world["campaigns.MessageCampaign"]
    analyst = member(Role.ANALYST)
    place = reverse("admin:campaigns_messagecampaign_progress", args=[running.pk])
    assert "HX-Refresh" not in analyst.get(place, {"state": "running"}, **HTMX)
    assert analyst.get(place, {"state": "paused"}, **HTMX)["HX-Refresh"] == "true"


def test_the_list_has_tabs_and_duplicates(draft, world, member):
    marketer = member(Role.MARKETER)
    shown = text_of(marketer.get(list_of("campaigns.MessageCampaign")))
    assert "?status__exact=draft" in shown
    answer = marketer.post(button(draft, "duplicate"))
    copy = MessageCampaign.objects.get(name="Draft (copy)")
    assert answer.url == page_of(copy)
    assert (copy.status, copy.title, copy.created_by.split("-")[0]) == ("draft", "Hi", "marketer")
    only = text_of(marketer.get(list_of("campaigns.MessageCampaign", "?status__exact=draft")))
    assert "Aurora campaign" not in only


def test_the_tabs_count_what_the_list_is_narrowed_to(draft, other, root):
    theirs = other.application
    shown = root.get(list_of("campaigns.MessageCampaign", f"?application={theirs.pk}"))
    [whole, *_states] = shown.context["campaign_tabs"]
    assert whole["count"] == MessageCampaign.objects.filter(application=theirs).count()
    found = root.get(list_of("campaigns.MessageCampaign", "?q=Draft&channel_type__exact=push"))
    assert [tab["count"] for tab in found.context["campaign_tabs"]] == [1, 1]


def test_the_list_asks_as_much_for_many_tests_as_for_one(draft, member, django_assert_num_queries):
    plan = {"variants": [{"share_percent": 50}, {"share_percent": 50, "title": "Hi", "body": "You"}]}

    def waiting() -> None:
        row = campaign_create(application=draft.application, name="Test", title="a", body="b", experiment=plan)
        now = timezone.now()
        MessageCampaign.objects.filter(pk=row.pk).update(
            status="running", sent_at=now, fanout_done_at=now, awaits_winner=True
        )

    marketer = member(Role.MARKETER)
    waiting()
    marketer.get(list_of("campaigns.MessageCampaign"))
    with CaptureQueriesContext(connection) as once:
        marketer.get(list_of("campaigns.MessageCampaign"))
    for _ in range(3):
        waiting()
    with django_assert_num_queries(len(once)):
        marketer.get(list_of("campaigns.MessageCampaign"))


def test_that_messages_are_not_kept_any_more_is_said(world, member):
    running = world["campaigns.MessageCampaign"]
    MessageCampaign.objects.filter(pk=running.pk).update(successful_count=9)
    Message.objects.all().delete()
    page = text_of(member(Role.ANALYST).get(part_of(running, "breakdown"), **HTMX))
    assert "Its messages are not kept any more." in page


def test_an_empty_list_leads_to_the_first_campaign(application, member):
    shown = text_of(member(Role.MARKETER).get(list_of("campaigns.MessageCampaign")))
    assert "Create your first campaign" in shown
    assert "Create your first campaign" not in text_of(member(Role.ANALYST).get(list_of("campaigns.MessageCampaign")))


def test_campaigns_are_compared_only_within_the_application(world, other, draft, member):
    owner = member(Role.OWNER)
    running = world["campaigns.MessageCampaign"]
    theirs = other["campaigns.MessageCampaign"]
    shown = text_of(owner.get(page_of(running), {"with": [str(theirs.pk), "zzz"]}))
    assert "Borealis" not in shown


def test_no_step_asks_for_many_queries(draft, world, member, django_assert_max_num_queries):
    marketer = member(Role.MARKETER)
    marketer.get(list_of("campaigns.MessageCampaign"))
    for name in STEPS:
        with django_assert_max_num_queries(20):
            marketer.get(step_of(draft, name))
    with django_assert_max_num_queries(20):
        marketer.get(page_of(world["campaigns.MessageCampaign"]))
    with django_assert_max_num_queries(20):
        marketer.get(list_of("campaigns.MessageCampaign"))
