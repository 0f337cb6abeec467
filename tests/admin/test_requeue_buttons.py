"""Failed messages are sent again by a button, after a page that says how many; a credential shows its traffic."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from apps.campaigns.models import MessageCampaign
from apps.messaging import admin as pages
from apps.messaging import rates
from apps.messaging.adapters.base import Outcome, Result
from apps.messaging.models import DispatchBatch, Message, MessageRequeue
from apps.tenants.models import ChannelCredential, Role
from apps.tenants.services import breaker_open
from automata_signal.ids import new_id
from tests.admin.pages import button, page_of, text_of
from tests.factories import make_messages


def failed_messages(world, reasons: list[str], **fields) -> list[Message]:
    """One failed message of each reason, of the running campaign."""
    campaign = world["campaigns.MessageCampaign"]
    made = make_messages(world.application, ["failed"] * len(reasons), campaign_id=campaign.pk)
    for message, reason in zip(made, reasons, strict=True):
        fields = {"failed_at": timezone.now()} | fields
        Message.objects.filter(pk=message.pk).update(error_reason=reason, **fields)
    DispatchBatch.objects.filter(dispatch_id=made[0].dispatch_id).update(has_failed=True)
    MessageCampaign.objects.filter(pk=campaign.pk).update(failed_count=len(reasons))
    return list(Message.objects.filter(pk__in=[m.pk for m in made]).order_by("pk"))


def successors(campaign) -> int:
    return Message.objects.filter(campaign_id=campaign.pk, requeued_from__isnull=False).count()


def test_a_failed_message_is_sent_again_once_and_only_by_post(world, member):
    marketer, (message,) = member(Role.MARKETER), failed_messages(world, ["server_error"])
    assert button(message, "requeue") in text_of(marketer.get(page_of(message)))
    asked = marketer.get(button(message, "requeue"))
    assert dict(asked.context["facts"])["messages"] == 1
    assert dict(asked.context["facts"])["reason"] == "server_error"
    message = Message.objects.get(pk=message.pk)
    assert message.requeued_as is None
    answer = marketer.post(button(message, "requeue"), follow=True)
    message = Message.objects.get(pk=message.pk)
    assert str(message.requeued_as) in text_of(answer)
    assert Message.objects.get(pk=message.requeued_as).status == "pending"
    assert button(message, "requeue") not in text_of(answer)
    assert "was sent again before" in text_of(marketer.post(button(message, "requeue"), follow=True))
    assert Message.objects.filter(requeued_from=message.pk).count() == 1


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"status": "pending"}, "The message is pending, not failed."),
        ({"sent_at": timezone.now()}, "The provider took the message"),
        ({"subscription_id": new_id()}, "The subscription has ended."),
    ],
)
def test_why_a_message_is_not_sent_again_is_shown(world, member, fields, refusal):
    marketer, (message,) = member(Role.MARKETER), failed_messages(world, ["server_error"], **fields)
    assert refusal in text_of(marketer.post(button(message, "requeue"), follow=True))
    assert not Message.objects.filter(requeued_from=message.pk).exists()


def test_a_campaigns_failed_messages_are_sent_again_after_their_number_is_shown(world, member):
    marketer, campaign = member(Role.MARKETER), world["campaigns.MessageCampaign"]
    failed_messages(world, ["server_error", "server_error", "throttled", "canceled"])
    took = failed_messages(world, ["receipt_timeout"], sent_at=timezone.now())
    assert button(campaign, "requeue_failed") in text_of(marketer.get(page_of(campaign)))
    facts = dict(marketer.get(button(campaign, "requeue_failed")).context["facts"])
    assert facts["messages, at most"] == "3"
    assert (facts["server_error"], facts["throttled"], facts["canceled"]) == ("2", "1", "1")
    assert successors(campaign) == 0
    answer = marketer.post(button(campaign, "requeue_failed"), {"error_reason": "throttled"}, follow=True)
    assert "1 messages are sent again." in text_of(answer)
    assert dict(marketer.get(button(campaign, "requeue_failed")).context["facts"])["messages, at most"] == "2"
    answer = marketer.post(button(campaign, "requeue_failed"), follow=True)
    order = MessageRequeue.objects.filter(campaign_id=campaign.pk).latest("pk")
    assert page_of(order) in text_of(answer)
    assert (order.requeued, order.skipped) == (2, {"canceled": 1})
    assert order.requested_by.startswith("marketer-")
    assert successors(campaign) == 3
    assert not Message.objects.filter(requeued_from=took[0].pk).exists()


def test_a_canceled_campaigns_messages_stay_where_they_are(world, member):
    marketer, campaign = member(Role.MARKETER), world["campaigns.MessageCampaign"]
    failed_messages(world, ["server_error"])
    assert marketer.post(button(campaign, "cancel")).status_code == 302
    assert button(campaign, "requeue_failed") not in text_of(marketer.get(page_of(campaign)))
    answer = marketer.post(button(campaign, "requeue_failed"), {"error_reason": ""})
    assert "The campaign is canceled" in text_of(answer)
    answer = marketer.post(button(campaign, "requeue_failed"), {"error_reason": "\0"})
    assert "error_reason" in answer.context["form"].errors
    assert successors(campaign) == 0


@pytest.mark.parametrize("role", [Role.ANALYST, Role.SUPPORT])
def test_who_may_not_send_does_not_send_again(world, member, role):
    client, (message,) = member(role), failed_messages(world, ["server_error"])
    assert button(message, "requeue") not in text_of(client.get(page_of(message)))
    assert client.post(button(message, "requeue")).status_code == 403
    campaign = world["campaigns.MessageCampaign"]
    assert client.post(button(campaign, "requeue_failed")).status_code in (403, 404)
    assert successors(campaign) == 0


# --- A credential's traffic ----------------------------------------------------------------------------------------


def traffic(client, credential) -> dict:
    shown = client.get(page_of(credential)).context["panels_before"]
    (panel,) = [panel for panel in shown if panel.title == "Traffic"]
    return {str(label): str(value) for label, value in panel.context["facts"]}


def test_a_credentials_page_shows_its_rate_and_who_slowed_it_down(world, member):
    owner = member(Role.OWNER)
    credential = ChannelCredential.objects.get(application=world.application, provider="fcm")
    facts = traffic(owner, credential)
    assert "sending" in facts["breaker"]
    assert facts["limit"] == facts["rate now"] == "600,000 per minute"
    assert traffic(owner, world["tenants.ChannelCredential"])["rate now"] == "as fast as it goes"
    refused = Result(new_id(), Outcome.THROTTLED, "QUOTA_EXCEEDED", 429, retry_after_s=60.0)
    assert rates.note_pushbacks(credential, [refused] * 200, answers=200)
    facts = traffic(owner, credential)
    assert "slowed down" in facts["rate now"]
    assert "QUOTA_EXCEEDED" in facts["last slowed down"]
    assert "held by the provider until" in facts


def test_a_credentials_page_shows_its_breaker(world, member):
    owner, credential = member(Role.OWNER), world["tenants.ChannelCredential"]
    breaker_open(credential.pk, "403 InvalidProviderToken", cause="refused")
    facts = traffic(owner, credential)
    assert "stopped" in facts["breaker"]
    assert "403 InvalidProviderToken" in facts["stopped because"]
    assert facts["failed probes"] == "0"
    ChannelCredential.objects.filter(pk=credential.pk).update(
        breaker_probing_until=timezone.now() + timedelta(minutes=1)
    )
    assert "probing" in traffic(owner, credential)["breaker"]


def test_a_credentials_page_opens_without_redis(world, member, monkeypatch):
    owner, credential = member(Role.OWNER), world["tenants.ChannelCredential"]

    def away(*_: object) -> None:
        raise rates.RedisAway

    monkeypatch.setattr(rates, "_run", away)
    facts = traffic(owner, credential)
    assert facts["rate now"] == facts["sent lately"] == "unknown"
    assert "Redis does not answer" in facts["note"]


def test_traffic_is_for_who_reads_the_settings(world, member):
    analyst = member(Role.ANALYST)
    assert analyst.get(page_of(world["tenants.ChannelCredential"])).status_code == 403
    request = analyst.get("/admin/").wsgi_request
    assert pages.traffic_panel(SimpleNamespace(user=request.user), world["tenants.ChannelCredential"]) is None
