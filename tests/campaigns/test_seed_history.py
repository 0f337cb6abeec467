"""`manage.py seed_history`: thirty days that the statistics, the counters and the ledger all agree on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum
from django.utils import timezone

from apps.analytics.fills import fill_all
from apps.analytics.models import AudienceDay
from apps.analytics.selectors import days_of, message_totals
from apps.billing.checking import differences
from apps.campaigns.experiments.models import VariantTally
from apps.campaigns.management.commands import _history_plan as plan
from apps.campaigns.management.commands.seed_demo import read_state
from apps.campaigns.models import CampaignFailure, CampaignStatus, MessageCampaign
from apps.messaging.models import Message, MessageEvent
from apps.tenants.models import Application, Operator
from tests.conftest import ApiClient

pytestmark = pytest.mark.django_db(transaction=True)  # fills read what is committed


@pytest.fixture
def shop(tmp_path) -> Application:
    call_command("seed_demo", recipients=300, state_dir=tmp_path, channels=True)
    call_command("seed_history", state_dir=tmp_path)
    return Application.objects.get(name="Demo shop")


def test_thirty_days_that_agree_with_each_other(shop, tmp_path):
    sent = MessageCampaign.objects.filter(application=shop, sent_at__isnull=False)
    assert sent.count() == len(plan.CAMPAIGNS)
    for campaign in sent:
        messages = Message.objects.filter(campaign_id=campaign.pk)
        assert campaign.total_recipients == messages.count() > 0
        assert campaign.successful_count + campaign.failed_count == campaign.total_recipients
        assert campaign.received_count == messages.filter(received_at__isnull=False).count()
        assert campaign.converted_count == messages.filter(converted_at__isnull=False).count()
        counted = CampaignFailure.objects.filter(campaign=campaign).aggregate(sum=Sum("count"))["sum"] or 0
        assert counted == campaign.failed_count
    assert not Message.objects.filter(status__in=("pending", "errored")).exists()
    assert not Message.objects.filter(sent_at__gt=timezone.now()).exists()
    assert sent.filter(status=CampaignStatus.CANCELED).count() == 1
    [tested] = sent.filter(has_variants=True)
    tallies = VariantTally.objects.filter(variant__experiment__campaign=tested)
    assert sum(tally.total for tally in tallies) == tested.total_recipients
    assert len(tallies) == 2

    while fill_all():
        pass
    totals = message_totals(application=shop, period=days_of(application=shop, days=32))
    assert totals.sent == Message.objects.filter(sent_at__isnull=False).count()
    assert totals.failed == MessageEvent.objects.filter(event_type="failed").count()

    assert differences(shop) == []
    assert AudienceDay.objects.filter(application=shop, subscription_type="").count() == 30
    oldest = Message.objects.order_by("id").first()
    assert timedelta(days=29) < timezone.now() - oldest.created_at < timedelta(days=32)

    before = Message.objects.count()
    call_command("seed_history", state_dir=tmp_path)
    assert Message.objects.count() == before


def test_the_team_can_sign_in(shop, tmp_path):
    password = read_state(tmp_path / "demo.json")["password"]
    for mailbox, _name, role in plan.TEAM:
        email = f"{mailbox}@{plan.DOMAIN}"
        assert ApiClient("").post("auth/login", {"email": email, "password": password}).status_code == 200
        assert Operator.objects.get(email=email).memberships.get(application=shop).role == role


def test_it_wants_the_demos_application_first(tmp_path):
    with pytest.raises(CommandError, match="seed_demo"):
        call_command("seed_history", state_dir=tmp_path)
