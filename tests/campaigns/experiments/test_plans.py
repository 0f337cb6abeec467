"""The plan of a test through the API: taken, given back, refused with the field, and read by nobody else."""

from __future__ import annotations

import pytest
from django.utils import timezone

from apps.campaigns import services
from apps.campaigns.experiments.activity import experiments_measure
from apps.campaigns.experiments.models import Experiment, Variant, VariantTally
from apps.campaigns.models import MessageCampaign
from apps.messaging.dispatch import claim_batch
from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.messaging.services import template_create
from apps.subscriptions.models import Subscription
from tests.campaigns.conftest import problem_fields
from tests.campaigns.experiments.conftest import experiment
from tests.campaigns.experiments.test_running import claim_all, expected_letters, move, sent_letters, tallies_equal_rows

pytestmark = pytest.mark.django_db


def test_a_plan_is_taken_and_given_back(server, draft):
    campaign_id = draft(experiment=experiment(60, 40, holdout_percent=5, winner_by="rule", fallback="best"))
    given = server.get(f"campaigns/{campaign_id}").json()["data"]["experiment"]
    assert [(v["letter"], v["share_percent"], v["title"]) for v in given["variants"]] == [
        ("A", 60, ""),
        ("B", 40, "Hello B"),
    ]
    assert (given["holdout_percent"], given["test_percent"], given["winner_by"]) == (5, 100, "rule")
    assert (given["fallback"], given["winner"]) == ("best", None)
    listed = server.get("campaigns").json()["data"]
    assert listed[0]["experiment"] == given


def test_a_patch_stands_for_the_whole_and_null_takes_it_away(server, draft):
    campaign_id = draft(experiment=experiment(30, 30, 40, holdout_percent=5))
    kept = Variant.objects.get(letter="B").pk
    answer = server.patch(f"campaigns/{campaign_id}", {"experiment": experiment(50, 50)})
    assert answer.json()["data"]["experiment"]["holdout_percent"] == 0
    assert list(Variant.objects.values_list("letter", flat=True)) == ["A", "B"]
    assert Variant.objects.get(letter="B").pk == kept
    assert server.patch(f"campaigns/{campaign_id}", {"name": "Other"}).json()["data"]["experiment"] is not None
    answer = server.patch(f"campaigns/{campaign_id}", {"experiment": None})
    assert answer.json()["data"]["experiment"] is None
    assert not Experiment.objects.exists()
    assert server.get(f"campaigns/{campaign_id}/experiment").status_code == 404


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (experiment(50, 40), "experiment.variants"),
        ({"variants": [{"share_percent": 99}]}, "experiment.variants"),
        ({"variants": [{"share_percent": 50}, {"share_percent": 0}]}, "experiment.variants"),
        ({}, "experiment.variants"),
        (experiment(holdout_percent=51), "experiment.holdout_percent"),
        (experiment(test_percent=0), "experiment.test_percent"),
        (experiment(winner_by="dice"), "experiment.winner_by"),
        (experiment(confidence_percent=100), "experiment.confidence_percent"),
        (experiment(decide_after_h=0), "experiment.decide_after_h"),
        (
            {"variants": [{"share_percent": 50}, {"share_percent": 50, "body": "x", "options": {"badge": "many"}}]},
            "experiment.variants.1.options.badge",
        ),
        (
            {
                "variants": [
                    {"share_percent": 50},
                    {"share_percent": 50, "template_id": "01a2b3c4-0000-7000-8000-000000000006"},
                ]
            },
            "experiment.variants.1.template_id",
        ),
    ],
)
@pytest.mark.parametrize("way", ["create", "patch"])
def test_what_is_wrong_is_named(server, draft, plan, field, way):
    if way == "create":
        body = {"name": "c", "title": "t", "targeting_criteria": {}, "experiment": plan}
        answer = server.post("campaigns", body)
    else:
        answer = server.patch(f"campaigns/{draft()}", {"experiment": plan})
    assert answer.status_code == 400, answer.content
    assert any(name.startswith(field) for name in problem_fields(answer)), answer.content
    assert not Experiment.objects.exists()


def test_another_applications_template_is_none(server, draft, other_application):
    template = template_create(application=other_application, name="theirs", body_template="x", created_by="x")
    plan = {"variants": [{"share_percent": 50}, {"share_percent": 50, "template_id": str(template.pk)}]}
    answer = server.patch(f"campaigns/{draft()}", {"experiment": plan})
    assert problem_fields(answer) == {"experiment.variants.1.template_id"}


def test_a_launch_refuses_what_became_unsendable(server, draft, people, application, credentials):
    people(1)
    template = template_create(application=application, name="ours", body_template="x", created_by="x")
    plan = {"variants": [{"share_percent": 50}, {"share_percent": 50, "template_id": str(template.pk)}]}
    campaign_id = draft(experiment=plan)
    type(template).objects.update(is_active=False)
    answer = server.post(f"campaigns/{campaign_id}/launch")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "TEMPLATE_INACTIVE"


def test_a_test_message_is_the_variant_that_is_named(server, draft, users, credentials):
    users(1)
    campaign_id = draft(experiment=experiment(50, 50))
    body = {"external_ids": ["user-0"]}
    assert server.post(f"campaigns/{campaign_id}/test", {**body, "variant": "B"}).status_code == 202
    assert Dispatch.objects.get().title == "Hello B"
    assert problem_fields(server.post(f"campaigns/{campaign_id}/test", {**body, "variant": "C"})) == {"variant"}
    server.post(f"campaigns/{campaign_id}/test", body)
    assert Dispatch.objects.order_by("id").last().title == "Hello"


def test_the_figures_say_who_leads_and_how_sure_that_is(server, users, launched):
    users(40)
    campaign = launched(experiment=experiment())
    services.fan_out(campaign.pk)
    for letter, opened in (("A", 32), ("B", 41)):
        VariantTally.objects.filter(variant__letter=letter).update(successful=1000, received=500, converted=opened)
    found = server.get(f"campaigns/{campaign.pk}/experiment").json()["data"]
    first, second = found["variants"]
    assert (found["leader"], found["is_enough"], found["winner"]) == ("B", True, None)
    assert (first["rate"], second["rate"]) == (0.032, 0.041)
    assert second["difference"] == pytest.approx(0.009)
    assert second["difference_interval"]["low"] == pytest.approx(-0.0075, abs=5e-4)
    assert first["best"] + second["best"] == pytest.approx(1.0)
    assert second["best"] == second["higher_than_control"] == pytest.approx(0.858, abs=5e-3)


# --- With what else a campaign may be ---------------------------------------------------------------------------------


def test_a_quota_reserves_for_who_gets_something_and_gives_back_what_a_cancel_leaves(
    server, users, launched, application
):
    from apps.billing.models import MessageQuota
    from apps.billing.services.quota import billing_of

    billing_of(application)
    MessageQuota.objects.filter(application=application, channel_type="push").update(daily_quota=1000)
    users(100)
    campaign = launched(experiment=experiment(test_percent=40, holdout_percent=20))
    letters = list(expected_letters().values())
    wanted = sum(letter != "-" for letter in letters)
    quota = MessageQuota.objects.get(application=application, channel_type="push")
    assert (quota.daily_used, quota.reserved) == (wanted, wanted)
    services.fan_out(campaign.pk)
    row = MessageCampaign.objects.get()
    waiting = sum(letter == "" for letter in letters)
    assert (row.awaits_winner, row.reserved_left) == (True, waiting)
    server.post(f"campaigns/{campaign.pk}/cancel")
    quota.refresh_from_db()
    assert quota.daily_used == wanted - waiting


def test_the_rest_uses_what_was_reserved_at_the_launch(server, users, launched, application):
    from apps.billing.models import MessageQuota
    from apps.billing.services.quota import billing_of

    billing_of(application)
    MessageQuota.objects.filter(application=application, channel_type="push").update(daily_quota=1000)
    users(60)
    campaign = launched(experiment=experiment(test_percent=50))
    services.fan_out(campaign.pk)
    server.post(f"campaigns/{campaign.pk}/experiment/winner", {"variant": "A"})
    rest = Dispatch.objects.order_by("id").last()
    assert rest.reserved_at == MessageCampaign.objects.get().dispatch.created_at
    services.fan_out(campaign.pk)
    quota = MessageQuota.objects.get(application=application, channel_type="push")
    assert quota.daily_used == quota.reserved == 120
    assert MessageCampaign.objects.get().reserved_left == 0


def test_each_variant_has_the_campaigns_chain_and_so_has_the_rest(server, users, launched):
    users(40)
    chain = {"wait_s": 60, "steps": [{"channel_type": "email", "title": "Still there?", "body": "Look"}]}
    campaign = launched(experiment=experiment(test_percent=50), chain=chain)
    services.fan_out(campaign.pk)
    heads = Dispatch.objects.filter(chain_step=0)
    assert {d.variant for d in heads} == {"A", "B"}
    steps = dict(Dispatch.objects.filter(chain_step=1).values_list("chain_id", "variant"))
    assert steps == {d.pk: d.variant for d in heads}
    server.post(f"campaigns/{campaign.pk}/experiment/winner", {"variant": "B"})
    rest = Dispatch.objects.filter(chain_step=0).order_by("id").last()
    assert rest.chain_id == rest.pk
    assert Dispatch.objects.get(chain_step=1, chain_id=rest.pk).variant == "B"


def test_a_message_that_is_sent_again_counts_for_its_variant(server, users, launched):
    users(30)
    campaign = launched(experiment=experiment())
    services.fan_out(campaign.pk)
    claim_all()
    failed = Message.objects.filter(dispatch__variant="B").first()
    move("fail", "pending", [failed.pk])
    before = VariantTally.objects.get(variant__letter="B").total
    answer = server.post(f"messages/{failed.pk}/requeue")
    assert answer.status_code in (200, 202), answer.content
    assert VariantTally.objects.get(variant__letter="B").total == before + 1
    tallies_equal_rows()


def test_who_uses_the_app_is_counted_also_of_those_who_get_nothing(users, launched):
    users(200)
    campaign = launched(experiment=experiment(holdout_percent=30))
    services.fan_out(campaign.pk)
    Subscription.objects.update(created_at=timezone.now() - timezone.timedelta(days=2))
    expected = expected_letters()
    active = [pk for pk, letter in expected.items() if letter == "B"][:20] + [
        pk for pk, letter in expected.items() if letter == "-"
    ][:5]
    Subscription.objects.filter(pk__in=active).update(last_active_at=timezone.now())
    assert experiments_measure() == 0
    Experiment.objects.update(measure_at=timezone.now())
    assert experiments_measure() == 1
    plan = Experiment.objects.get()
    counts = {letter: list(expected.values()).count(letter) for letter in "AB-"}
    assert plan.activity == {"A": [counts["A"], 0], "B": [counts["B"], 20], "-": [counts["-"], 5]}
    assert plan.measure_at > timezone.now()


def test_people_who_join_before_their_slice_is_made_get_the_variant_of_their_own(users, launched):
    users(40)
    late = Subscription.objects.order_by("id")[:20]
    keys = [row.pk for row in late]
    Subscription.objects.filter(pk__in=keys).update(subscription_status=0)
    campaign = launched(experiment=experiment())
    services.fan_out(campaign.pk)
    Subscription.objects.filter(pk__in=keys).update(subscription_status=1)
    for batch_id in DispatchBatch.objects.values_list("pk", flat=True):
        claim_batch(batch_id)
    expected = expected_letters()
    assert all(expected[pk] == letter for pk, letter in sent_letters().items())
