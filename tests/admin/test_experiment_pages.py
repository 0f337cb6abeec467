"""A test of variants at the console: its step, its result, and who may choose the winner."""

from __future__ import annotations

from functools import cache

import pytest

from apps.campaigns.experiments.models import Experiment, Variant, VariantTally
from apps.campaigns.models import MessageCampaign
from apps.campaigns.services import campaign_create, campaign_duplicate, campaign_launch, fan_out
from apps.messaging.dispatch import claim_batch
from apps.messaging.models import Dispatch, DispatchBatch
from apps.tenants.audit.models import AuditEvent
from apps.tenants.models import ChannelCredential, Role
from tests.admin.pages import page_of, text_of
from tests.admin.test_campaign_pages import part_of, step_of
from tests.factories import make_messages

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(member):
    """The same person each time."""
    return cache(member)


@pytest.fixture
def draft(world) -> MessageCampaign:
    return campaign_create(application=world.application, name="Draft", title="Hi", body="There", targeting_criteria={})


@pytest.fixture
def begun(draft, member) -> MessageCampaign:
    """With variants A and B, by the button."""
    assert member(Role.MARKETER).post(step_of(draft, "variants"), {"go": "begin"}).status_code == 302
    return MessageCampaign.objects.get(pk=draft.pk)


def form(**changes) -> dict[str, str]:
    given = {
        "test_percent": "100",
        "holdout_percent": "0",
        "winner_by": "hand",
        "metric": "converted",
        "decide_after_h": "4",
        "confidence_percent": "95",
        "fallback": "wait",
        "v-A-name": "Plain",
        "v-A-share_percent": "50",
        "v-A-source": "campaign",
        "v-B-name": "Warm",
        "v-B-share_percent": "50",
        "v-B-source": "own",
        "c-B-title": "Good morning",
        "c-B-body": "Spring is here",
    }
    return given | {"go": "stay"} | changes


def plan() -> list[tuple[str, int, str]]:
    return list(Variant.objects.order_by("letter").values_list("letter", "share_percent", "title"))


def test_a_test_is_begun_with_a_copy_of_the_content(begun, member):
    assert begun.has_variants
    assert plan() == [("A", 50, ""), ("B", 50, "Hi")]
    page = text_of(member(Role.MARKETER).get(step_of(begun, "variants")))
    assert "Variant A" in page
    assert "All recipients are shared among the variants: A 50 %, B 50 %." in page


def test_what_is_written_is_saved_and_told(begun, member):
    marketer = member(Role.MARKETER)
    given = form(**{"v-A-share_percent": "30", "v-B-share_percent": "70", "holdout_percent": "10", "winner_by": "rule"})
    assert marketer.post(step_of(begun, "variants"), given).status_code == 302
    assert plan() == [("A", 30, ""), ("B", 70, "Good morning")]
    told = AuditEvent.objects.filter(action="campaign.update").order_by("-pk").first()
    before, after = told.changes["experiment"]
    assert (before["holdout_percent"], after["holdout_percent"]) == (0, 10)


def test_wrong_shares_and_numbers_are_said_where_they_stand(begun, member):
    marketer = member(Role.MARKETER)
    wrong = form(**{"v-A-share_percent": "30", "holdout_percent": "80"})
    answer = marketer.post(step_of(begun, "variants"), wrong)
    assert answer.status_code == 200
    assert "holdout_percent" in answer.context["form"].errors
    answer = marketer.post(step_of(begun, "variants"), form(**{"v-A-share_percent": "30"}))
    assert "The shares have to sum to 100 %." in text_of(answer)
    assert (
        marketer.post(step_of(begun, "variants"), form(**{"v-A-share_percent": "30", "go": "even"})).status_code == 302
    )
    assert [share for _letter, share, _title in plan()] == [50, 50]


def test_variants_are_added_copied_and_taken_away(begun, member):
    marketer = member(Role.MARKETER)
    assert marketer.post(step_of(begun, "variants"), form(go="copy-B")).status_code == 302
    assert plan() == [("A", 34, ""), ("B", 33, "Good morning"), ("C", 33, "Good morning")]
    third = {"v-C-name": "", "v-C-share_percent": "33", "v-C-source": "campaign", "v-A-share_percent": "34"}
    given = form(go="remove-B", **third) | {"v-B-share_percent": "33"}
    assert marketer.post(step_of(begun, "variants"), given).status_code == 302
    assert plan() == [("A", 50, ""), ("B", 50, "")]
    assert marketer.post(step_of(begun, "variants"), {"go": "end"}).status_code == 302
    assert not MessageCampaign.objects.get(pk=begun.pk).has_variants
    assert not Experiment.objects.exists()


def test_a_content_that_a_provider_refuses_is_said_at_its_editor(begun, member):
    answer = member(Role.MARKETER).post(step_of(begun, "variants"), form(**{"c-B-body": "x" * 5_000}))
    assert answer.status_code == 200
    slot = answer.context["slots"][1]
    assert slot.editor.errors or slot.form.errors, text_of(answer)[:500]


def test_previews_stand_beside_each_other(begun, member):
    marketer = member(Role.MARKETER)
    marketer.post(step_of(begun, "variants"), form())
    page = text_of(marketer.get(part_of(begun, "variant-previews"), headers={"HX-Request": "true"}))
    assert "Good morning" in page
    assert "Hi" in page


def test_who_only_reads_changes_nothing(begun, member):
    analyst = member(Role.ANALYST)
    assert analyst.get(step_of(begun, "variants")).status_code == 200
    assert analyst.post(step_of(begun, "variants"), form()).status_code == 403
    assert analyst.post(part_of(begun, "winner"), {"variant": "A"}).status_code == 403


def test_a_copy_of_the_campaign_has_the_variants(begun):
    copied = campaign_duplicate(campaign=begun)
    assert copied.has_variants
    assert [variant.letter for variant in copied.experiment.variants.all()] == ["A", "B"]


@pytest.fixture
def launched(begun, world) -> MessageCampaign:
    for provider in ("apns", "fcm"):
        ChannelCredential.objects.update_or_create(
            application=world.application, provider=provider, name=provider, defaults={"secret": {"key": "x"}}
        )
    Experiment.objects.update(test_percent=40, holdout_percent=5)
    campaign_launch(campaign=begun)
    fan_out(begun.pk)
    for batch_id in DispatchBatch.objects.filter(dispatch__campaign_id=begun.pk, first_id=None).values_list(
        "pk", flat=True
    ):
        claim_batch(batch_id)
    return MessageCampaign.objects.get(pk=begun.pk)


def outcome(letter: str, sent: int, opened: int) -> None:
    VariantTally.objects.filter(variant__letter=letter, part="test").update(
        total=sent, successful=sent, received=opened, converted=opened
    )


def test_the_result_says_what_the_figures_say_and_somebody_who_may_launch_chooses(launched, member, world):
    outcome("A", 1000, 32)
    outcome("B", 1000, 55)
    analyst = text_of(member(Role.ANALYST).get(page_of(launched)))
    assert "B is better than A with 99.4 % confidence: open rate 5.5 % against 3.2 %." in analyst
    assert "+2.3 points" in analyst
    assert "Yes, B wins" not in analyst
    manager = member(Role.MANAGER)
    assert "Yes, B wins" in text_of(manager.get(page_of(launched)))
    assert manager.post(part_of(launched, "winner"), {"variant": "B"}).status_code == 302
    assert Experiment.objects.get().winner.letter == "B"
    assert AuditEvent.objects.filter(action="campaign.winner").exists()
    page = text_of(manager.get(page_of(launched)))
    assert "has chosen B." in page
    assert "Yes, B wins" not in page


def test_too_little_is_said_to_be_too_little(launched, member):
    assert "There is not enough data yet" in text_of(member(Role.ANALYST).get(page_of(launched)))


def test_what_each_variant_says_is_told_where_it_was_sent(launched, member):
    page = text_of(member(Role.ANALYST).get(page_of(launched)))
    assert "A: Hi — There · B: Hi — There" in page


def test_too_little_is_said_of_what_is_compared(launched, member):
    Experiment.objects.update(metric="received")
    assert "10 received of all together" in text_of(member(Role.ANALYST).get(page_of(launched)))


def test_a_message_says_which_variant_it_is(launched, member):
    tested = Dispatch.objects.filter(campaign_id=launched.pk, tally_id__isnull=False).first()
    [message] = make_messages(launched.application, ["successful"], dispatch=tested, campaign_id=launched.pk)
    page = text_of(member(Role.MANAGER).get(page_of(message)))
    assert "A/B test" in page
    assert "See the figures of the test" in page


def test_another_application_sees_nothing(launched, other, member):
    stranger = member(Role.OWNER, other.application)
    assert stranger.get(part_of(launched, "experiment")).status_code == 404
    assert stranger.post(part_of(launched, "winner"), {"variant": "A"}).status_code == 404
