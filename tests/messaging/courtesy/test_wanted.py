"""Advertising reaches who agreed, and a category who did not refuse it: when it is cut, made, sent and accepted."""

from __future__ import annotations

import pytest

from apps.messaging.models import DispatchBatch, Message
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_set
from apps.subscriptions.preferences.subjects import Subject
from tests.factories import make_subscription
from tests.messaging.courtesy.conftest import by_name

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_campaign_of_advertising_reaches_who_agreed(application, apns, person, launch, run, news):
    person("agreed", given=True)
    person("refused", given=False)
    person("silent")
    person("no-news", given=True, categories={"news": False})
    make_subscription(application)
    _, batch_ids = launch(purpose="marketing", category="news")
    assert DispatchBatch.objects.get().recipient_count == 1
    run(batch_ids)
    assert by_name() == {"agreed": ("successful", None)}


def test_who_withdraws_after_the_slice_was_cut_gets_nothing(application, apns, person, launch, run):
    row = person("agreed", given=True)
    _, batch_ids = launch(purpose="marketing")
    withdrawn = Choices({"push": MarketingChoice(given=False)})
    preferences_set(subject=Subject.of_subscription(row), choices=withdrawn, source="api")
    run(batch_ids)
    assert not Message.objects.exists()
    assert apns.stats()["accepted"] == 0


def test_what_waits_for_its_next_attempt_is_looked_at_again(application, apns, person, launch, run):
    busy = person("busy", given=True)
    busy.token = "deaf50332" + "0" * 55
    busy.save()
    _, batch_ids = launch(purpose="marketing")
    run(batch_ids)
    assert by_name()["busy"][0] == "errored"
    withdrawn = Choices({"push": MarketingChoice(given=False)})
    preferences_set(subject=Subject.of_subscription(busy), choices=withdrawn, source="api")
    from django.utils import timezone

    Message.objects.update(retry_at=timezone.now())
    DispatchBatch.objects.update(due_at=timezone.now())
    run(batch_ids)
    assert by_name() == {"busy": ("failed", "no_consent")}


def test_a_category_of_services_reaches_all_but_who_refused_it(application, apns, person, launch, run):
    from apps.subscriptions.preferences.categories import category_create

    category_create(application=application, slug="orders", name_en="Orders")
    category_create(application=application, slug="tips", name_en="Tips", is_default_opted_in=False)
    person("silent")
    person("chose", categories={"orders": False, "tips": True})
    for category, reached in (("orders", "silent"), ("tips", "chose"), ("gone", None)):
        Message.objects.all().delete()
        _, batch_ids = launch(category=category)
        run(batch_ids)
        assert set(by_name()) == ({reached} if reached else {"silent", "chose"})


def test_who_is_named_and_does_not_want_it_is_told_to_the_caller(server, application, apns, person, news):
    person("agreed", given=True)
    row = person("silent")
    body = {"title": "t", "body": "b", "purpose": "marketing", "category": "news"}
    answer = server.post("messages", body | {"recipients": {"external_ids": ["agreed", "silent"]}})
    assert answer.status_code == 202, answer.content
    data = answer.json()["data"]
    assert len(data["messages"]) == 1
    assert [(one["value"], one["reason"]) for one in data["skipped"]] == [("silent", "no_consent")]
    refused = server.post("messages", body | {"recipients": {"subscription_ids": [str(row.pk)]}})
    assert refused.status_code == 400
    plain = server.post("messages", {"title": "t", "body": "b", "recipients": {"external_ids": ["silent"]}})
    assert plain.status_code == 202


@pytest.mark.parametrize(
    ("purpose", "category", "field"),
    [("marketing", "unknown", "category"), ("transactional", "news", "category"), ("marketing", "fixed", "category")],
)
def test_a_category_has_to_fit(server, application, person, news, purpose, category, field):
    from apps.subscriptions.preferences.categories import category_create

    category_create(application=application, slug="fixed", name_en="Fixed", may_opt_out=False)
    person("agreed", given=True)
    body = {"title": "t", "body": "b", "recipients": {"external_ids": ["agreed"]}}
    refused = server.post("messages", body | {"purpose": purpose, "category": category})
    assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (400, field)


def test_a_plain_message_asks_nobody(django_assert_num_queries, application):
    from apps.messaging.courtesy.wanted import wanted
    from apps.subscriptions.targeting import compile_criteria

    predicate = compile_criteria({})
    with django_assert_num_queries(0):
        scope = {"application_id": application.pk, "channel": "push", "purpose": "transactional", "category": ""}
        assert wanted(predicate, **scope) is predicate
