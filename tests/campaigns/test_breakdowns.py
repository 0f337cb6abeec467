"""How a campaign went by platform and country is of all that was sent, or says that it is a part."""

from __future__ import annotations

import uuid

import pytest

from apps.campaigns import services
from apps.campaigns.breakdowns import breakdown_of, evenly
from apps.campaigns.models import MessageCampaign
from apps.messaging.dispatch import claim_batch
from apps.messaging.models import DispatchBatch
from apps.subscriptions.models import Subscription

pytestmark = pytest.mark.django_db


def test_batches_are_taken_from_the_first_to_the_last():
    for count in (13, 23, 24, 10_000):
        bases = [uuid.UUID(int=place) for place in range(count)]
        chosen = evenly(bases)
        assert (len(set(chosen)), chosen[0], chosen[-1]) == (12, bases[0], bases[-1])
        assert list(chosen) == sorted(chosen)
    assert evenly(bases[:12]) == bases[:12]


def test_who_was_erased_since_still_counts(launched, people):
    [gone, *_others] = people(3, country_code="KR")
    people(2, country_code="JP")
    campaign: MessageCampaign = launched()
    services.fan_out(campaign.pk)
    for batch_id in DispatchBatch.objects.values_list("pk", flat=True):
        claim_batch(batch_id)
    Subscription.objects.filter(pk=gone.pk).delete()
    found = breakdown_of(campaign)
    assert (found.messages, found.is_whole) == (5, True)
    assert {group.key: group.messages for group in found.by_country} == {"KR": 2, "JP": 2, "": 1}
    assert {group.key: group.messages for group in found.by_type} == {"iOSPush": 4, "": 1}
