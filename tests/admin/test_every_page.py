"""Every model has its pages, none of them fails, and none shows a secret or gets slower with more rows."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.admin.conftest import make_world
from tests.admin.pages import OURS, address, list_of, page_of, registered, text_of
from tests.factories import make_messages, make_subscriptions

QUERIES_MAX = 20
ON_THE_CAMPAIGNS_PAGE = {"campaigns.Experiment", "campaigns.Variant", "campaigns.VariantTally"}
"""A step and a section of it: they have no lists of their own."""


def addresses(rows) -> list[str]:
    """Every page that can be opened: lists, add forms, and each row's own pages."""
    found = ["/admin/"]
    for label, model_admin in registered().items():
        found += [list_of(label), list_of(label, "?q=zz"), address(label, "add")]
        filters = [item for item in model_admin.list_filter if hasattr(item, "parameter_name")]
        found += [list_of(label, f"?{item.parameter_name}=nonsense") for item in filters]
    for row in rows:
        found += [page_of(row), page_of(row, "history"), page_of(row, "delete")]
        found += [address(row._meta.label, "do", row.pk, name) for name in _admin_of(row).row_actions]
    return found


def _admin_of(row):
    return registered()[row._meta.label]


def test_every_model_of_ours_is_registered():
    models = [model for model in apps.get_models() if model._meta.app_label in OURS]
    ours = {model._meta.label for model in models if not model.__name__.startswith("Historical")}
    assert ours - set(registered()) == ON_THE_CAMPAIGNS_PAGE


def test_every_page_opens_for_a_superuser(world, platform_rows, root):
    rows = [*world.rows.values(), *platform_rows.values()]
    missing = set(registered()) - {row._meta.label for row in rows}
    assert missing <= {
        "django_celery_beat.ClockedSchedule",
        "django_celery_beat.CrontabSchedule",
        "django_celery_beat.SolarSchedule",
    }
    for place in addresses(rows):
        answer = root.get(place, follow=False)
        refused = place.endswith(("/add/", "/delete/"))
        assert answer.status_code == 200 or (refused and answer.status_code == 403), (place, answer.status_code)


@pytest.mark.parametrize(("who", "language"), [("root", "en"), ("owner", "ko")])
def test_no_page_shows_a_secret(world, platform_rows, root, member, who, language):
    rows = [*world.rows.values(), *platform_rows.values()]
    client = root if who == "root" else member(who)
    client.cookies["django_language"] = language
    for place in addresses(rows):
        answer = client.get(place)
        if answer.status_code == 200:
            shown = text_of(answer)
            leaked = [secret for secret in world.secrets if secret in shown]
            assert not leaked, (place, leaked)


def test_queries_are_few_and_do_not_grow_with_the_rows(world, other_application, root, provider_keys):
    def counts() -> dict[str, int]:
        found = {}
        rows = world.rows.values()
        places = [place for row in rows for place in (list_of(row._meta.label), page_of(row), page_of(row, "history"))]
        for place in places:
            with CaptureQueriesContext(connection) as queries:
                assert root.get(place).status_code == 200
            found[place] = len(queries)
        return found

    ContentType.objects.get_for_models(*apps.get_models())  # what is read once per process
    root.get(list_of("tenants.Operator"))
    root.get(list_of("billing.BillingProfile"))  # makes the profiles that are missing
    few = counts()
    assert {place: n for place, n in few.items() if n > QUERIES_MAX} == {}
    make_world(other_application, "Corona", provider_keys, people=5)
    grow(world)
    assert counts() == few


def grow(world) -> None:
    """Thirty more of what there is most of."""
    application = world.application
    subscription, user = world["subscriptions.Subscription"], world["subscriptions.AppUser"]
    more = make_subscriptions(application, [f"{n:064x}" for n in range(30)], user=user)
    messages = make_messages(application, ["pending"] * 30, campaign_id=world["campaigns.MessageCampaign"].pk)
    type(messages[0]).objects.filter(pk__in=[m.pk for m in messages]).update(
        subscription_id=subscription.pk, user_id=user.pk
    )
    for n in range(30):
        application.name = f"Name {n}"
        application.save()
    assert len(more) == 30


def test_nothing_that_comes_in_an_address_is_a_500(world, root):
    for label in registered():
        for query in ("?q=%00", "?q=%F0%9F%98%80", "?p=99999", "?o=1.-2.99", "?id=x", "?e=1&all=", "?_to_field=x"):
            assert root.get(list_of(label, query)).status_code in (200, 302, 400), (label, query)
        for key in ("x", "00000000-0000-0000-0000-000000000000"):
            for page in ("change", "history", "delete"):
                place = list_of(label) + f"{key}/{page}/"
                assert root.get(place).status_code in (200, 302, 403, 404), place


def test_columns_that_no_filter_offers_cannot_be_probed(world, root):
    for query in ("token_digest__gt=x", "digest__isnull=0", "application__members__email__startswith=o", "pk__gt=0"):
        label = "tenants.ApiKey" if query.startswith("digest") else "subscriptions.Subscription"
        assert root.get(list_of(label, f"?{query}")).status_code == 400
