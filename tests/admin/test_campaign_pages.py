"""Campaigns, segments and templates at the console: drafts by forms, everything else by buttons."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from apps.billing.models import MessageQuota
from apps.billing.services.quota import billing_of
from apps.campaigns.models import MessageCampaign, Segment
from apps.campaigns.services import campaign_create
from apps.messaging.models import Message
from apps.tenants.models import ChannelCredential, Role
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
    assert dict(page.context["facts"])["recipients now"] == "4"
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
