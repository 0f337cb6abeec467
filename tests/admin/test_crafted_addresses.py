"""What somebody types into the address bar, or into a scanner: an answer below 500 on every page of the console."""

from __future__ import annotations

import pytest
from django.urls import reverse

from apps.tenants.models import Role
from tests.admin.pages import address, list_of, page_of, registered, text_of

ODD = {
    "q": ("%00", "%FF", "%27--"),
    "p": ("x", "-1", "99999999999999999999"),
    "o": ("x", "1.-2.99", "99999999999999999999"),
    "e": ("1",),
    "_popup": ("%00", "1&_to_field=id"),
    "_to_field": ("x", "application__name"),
    "_facets": ("%00",),
    "_changelist_filters": ("%00", "p%3Dx%26a"),
    "all": ("%00",),
    "id": ("x", "%00", "x&e=1"),
    "zz": ("1", "%00"),
    "a__b": ("1",),
}
"""Values of the parameters that Django and unfold read from an address."""


@pytest.fixture(params=["superuser", "member"])
def client(request, root, member):
    return root if request.param == "superuser" else member(Role.OWNER)


def queries(*parameters: str) -> list[str]:
    return [f"?{name}={value}" for name in parameters for value in ODD.get(name, ("x", "%00"))]


def fine(answer) -> bool:
    return answer.status_code < 500


def get(client, place: str):
    """The answer, redirects followed: an odd address often ends at the same list with `?e=1`."""
    client.raise_request_exception = False
    return client.get(place, follow=True)


@pytest.mark.parametrize("label", registered())
def test_no_list_fails_for_an_odd_parameter(world, platform_rows, root, label):
    chosen = registered()[label].list_filter
    filters = [getattr(item, "parameter_name", f"{item}__exact") for item in chosen]
    nested = [f"{item}__{last}" for item in chosen if isinstance(item, str) for last in ("in", "zz")]
    failed = []
    for query in queries(*ODD, *filters, *nested):
        answer = get(root, list_of(label, query))
        if not fine(answer) or "Database error" in text_of(answer):
            failed.append((query, answer.status_code))
    assert failed == []


@pytest.mark.parametrize("label", registered())
def test_no_form_fails_for_an_odd_parameter(world, platform_rows, root, label):
    if root.get(list_of(label)).status_code == 403:
        return
    add = address(label, "add")
    fields = [field.name for field in registered()[label].model._meta.fields if field.editable]
    places = []
    if row := (world.rows | platform_rows).get(label):
        places += [page_of(row, page) + q for page in ("change", "delete") for q in queries("_popup", "_to_field")]
        places += [page_of(row) + q for q in queries("_changelist_filters", "preview")]
        places += [page_of(row, "history") + q for q in queries("p", "page")]
    places += [add + q for q in queries("_popup", "_to_field")]
    # Of a form's fields all at once: each is read, whatever the others hold.
    places += [f"{add}?{'&'.join(f'{name}={value}' for name in fields)}" for value in ("x", "%00", "2026-01-01")]
    assert [place for place in places if not fine(get(root, place))] == []


@pytest.mark.parametrize("label", registered())
def test_no_key_in_an_address_is_a_failure(world, platform_rows, client, label):
    failed = []
    for key in ("%00", "-1", "99999999999999999999", "_5F", "%F0%9F%98%80"):
        for page in ("change/", "history/", "delete/", "history/%00/"):
            place = f"{list_of(label)}{key}/{page}"
            failed += [] if fine(get(client, place)) else [place]
    assert failed == []


def test_autocomplete_answers_only_for_fields_that_a_form_offers(world, client):
    offered = {(label, name) for label, model_admin in registered().items() for name in model_admin.autocomplete_fields}
    assert ("campaigns.MessageCampaign", "template") in offered
    for label, model_admin in registered().items():
        app_label, model_name = label.lower().split(".")
        names = {field.name for field in model_admin.model._meta.get_fields()} | {"pk", "zz", "", "\0"}
        for name in names:
            query = {"app_label": app_label, "model_name": model_name, "field_name": name, "term": "\0a"}
            answer = client.get(reverse("admin:autocomplete"), query)
            assert answer.status_code == (200 if (label, name) in offered else 403), (label, name)


@pytest.mark.parametrize("left_out", ["app_label", "model_name", "field_name"])
def test_autocomplete_refuses_names_that_there_are_not(world, client, left_out):
    query = {"app_label": "campaigns", "model_name": "messagecampaign", "field_name": "template", "term": ""}
    assert client.get(reverse("admin:autocomplete"), query).status_code == 200
    for value in ("", "x", "\0", "contenttypes", "historicalsegment", "__class__", "application__members"):
        assert client.get(reverse("admin:autocomplete"), query | {left_out: value}).status_code == 403, value
    del query[left_out]
    assert client.get(reverse("admin:autocomplete"), query).status_code == 403


def test_autocomplete_has_no_odd_pages(world, client):
    query = {"app_label": "campaigns", "model_name": "messagecampaign", "field_name": "template", "term": ""}
    for page in ("x", "-1", "0", "1.5", "\0", "99999999999999999999"):
        assert client.get(reverse("admin:autocomplete"), query | {"page": page}).status_code == 404, page


def test_the_quick_search_has_no_odd_pages(world, client):
    place = reverse("admin:search")
    for term in ("a", "\0", "😀"):
        assert client.get(place, {"s": term}).status_code == 200
        for page in ("x", "", "-1", "0", "1.5", "2", "\0", "99999999999999999999"):
            assert client.get(place, {"s": term, "page": page, "extended": "1"}).status_code == 404, (term, page)


def test_no_address_of_the_frame_fails(world, client):
    from django.contrib.contenttypes.models import ContentType

    kind = ContentType.objects.get_for_model(world.application).pk
    for place in ("r/x/y/", f"r/{kind}/x/", f"r/{kind}/{world.application.pk}/", "zz/", "tenants/zz/", "%00/", "zz%00"):
        assert get(client, f"/admin/{place}").status_code == 404, place
    for query in queries("next", "_popup", "s"):
        for place in ("", "tenants/", "login/", "jsi18n/", "password_change/", "logout/"):
            assert fine(get(client, f"/admin/{place}{query}")), (place, query)


def test_no_choice_of_rows_is_a_failure(platform_rows, root):
    """The bulk actions of schedules: the only lists that have some."""
    root.raise_request_exception = False
    place = list_of("django_celery_beat.PeriodicTask")
    for given in (
        {"action": "enable_tasks", "_selected_action": "x"},
        {"action": "enable_tasks", "_selected_action": "99999999999999999999"},
        {"action": "enable_tasks", "_selected_action": "\0"},
        {"action": "zz", "index": "x", "select_across": "x"},
        {"action": "enable_tasks", "index": "99", "_selected_action": "1"},
    ):
        assert fine(root.post(place, given, follow=True)), given
