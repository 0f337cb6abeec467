"""Exports at the console: from a list's button to the file."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.analytics.models.exports import Export, ExportDownload
from apps.tenants.models import Operator, Role
from apps.tenants.services import membership_set
from automata_signal.ids import new_id
from tests.analytics.exporting import body_of, table, work
from tests.factories import make_messages, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(application):
    """`member("analyst")`: somebody of that role at the console."""

    def make(role: str, of=application) -> Client:
        operator = Operator.objects.create_user(f"{role}-{of.pk.hex[-6:]}@example.com", "pass-word-1234", name=role)
        membership_set(operator=operator, application=of, role=role)
        client = Client()
        client.force_login(operator)
        return client

    return make


def new_address(kind: str) -> str:
    return reverse("admin:analytics_export_new", args=[kind])


def filled(answer, **changes) -> dict:
    """What the browser would send of the form as it is shown."""
    form = answer.context["form"]
    values = {name: form[name].value() for name in form.fields}
    sent = {name: value for name, value in values.items() if value not in (None, False, "")}
    return {**sent, "application": str(form.fields["application"].queryset.get().pk), **changes}


def test_from_the_button_above_the_messages_to_the_file(application, member):
    [failed, _pending] = make_messages(application, ["failed", "pending"])
    manager = member(Role.MANAGER)
    shown = manager.get(reverse("admin:messaging_message_changelist"), {"status": "failed"})
    [button] = shown.context["list_links"]
    assert button.address in shown.content.decode().replace("&amp;", "&")
    assert parse_qs(urlsplit(button.address).query) == {"status": ["failed"]}

    form = manager.get(button.address)
    ordered = manager.post(button.address, filled(form, unmasked="on"))
    export = Export.objects.get()
    assert ordered["Location"] == reverse("admin:analytics_export_change", args=[export.pk])
    assert export.filters["status"] == "failed"
    assert export.requested_by == str(Operator.objects.get())
    assert (export.is_masked, export.requested_from) == (False, "127.0.0.1")

    page = manager.get(ordered["Location"]).content.decode()
    progress = reverse("admin:analytics_export_progress", args=[export.pk])
    assert f'hx-get="{progress}"' in page
    work()
    done = manager.get(progress).content.decode()
    assert "hx-get" not in done
    assert "100 %" in done

    button = manager.post(reverse("admin:analytics_export_do", args=[export.pk, "download"]))
    answer = manager.get(button["Location"])
    assert answer["Content-Disposition"].startswith("attachment")
    assert [row["id"] for row in table(body_of(answer))] == [str(failed.pk)]
    assert ExportDownload.objects.get().downloaded_by == str(Operator.objects.get())
    assert "127.0.0.1" in manager.get(ordered["Location"]).content.decode()


BUTTONS = {
    "messaging_message": ("messages", {"campaign": str(new_id()), "added": "24h"}, {"campaign_id", "since"}),
    "messaging_messageevent": ("message_events", {"event": "failed"}, {"event_type"}),
    "subscriptions_appuser": ("users", {"archived": "1"}, {"archived"}),
    "subscriptions_subscription": ("subscriptions", {"type": "iOSPush", "status": "ended"}, {"type", "status"}),
    "subscriptions_subscriptionevent": ("subscription_events", {"subscription": str(new_id())}, {"subscription_id"}),
    "campaigns_messagecampaign": ("campaigns", {"status__exact": "running"}, {"status"}),
    "billing_ledgertransaction": ("ledger", {"kind__exact": "top_up"}, {"transaction_kind"}),
}


@pytest.mark.parametrize("page", BUTTONS)
def test_each_list_has_a_button_that_takes_its_filters_along(application, member, page):
    kind, filters, carried = BUTTONS[page]
    owner = member(Role.OWNER)
    shown = owner.get(reverse(f"admin:{page}_changelist"), filters)
    assert shown.status_code == 200, shown
    [button] = [link for link in shown.context["list_links"] if "/analytics/export/new/" in link.address]
    address = urlsplit(button.address)
    assert address.path == new_address(kind)
    assert carried <= set(parse_qs(address.query))
    answer = owner.post(button.address, filled(owner.get(button.address)))
    assert answer.status_code == 302, answer.context["form"].errors
    assert carried <= set(Export.objects.get().filters)


def test_support_may_not_export_and_sees_no_button(application, member):
    support = member(Role.SUPPORT)
    assert support.get(reverse("admin:messaging_message_changelist")).context["list_links"] == []
    for kind in ("messages", "users"):
        assert support.get(new_address(kind)).status_code == 403
        assert support.post(new_address(kind), {}).status_code == 403
    assert support.get(reverse("admin:analytics_export_changelist")).status_code == 403


def test_an_analyst_gets_masked_files_whatever_the_form_says(application, member):
    make_user(application, "Kim-Minji")
    analyst = member(Role.ANALYST)
    form = analyst.get(new_address("users"))
    assert "unmasked" not in form.context["form"].fields
    analyst.post(new_address("users"), filled(form, unmasked="on"))
    work()
    export = Export.objects.get()
    assert export.is_masked
    link = analyst.post(reverse("admin:analytics_export_do", args=[export.pk, "download"]))["Location"]
    assert b"Kim-Minji" not in body_of(analyst.get(link))


def test_a_link_of_somebody_else_opens_nothing_that_ones_own_role_does_not(application, other_application, member):
    """The manager's link in the hands of an analyst, of another application's owner, and of nobody."""
    make_user(application, "Kim-Minji")
    manager = member(Role.MANAGER)
    manager.post(new_address("users"), filled(manager.get(new_address("users")), unmasked="on"))
    work()
    link = manager.post(reverse("admin:analytics_export_do", args=[Export.objects.get().pk, "download"]))["Location"]
    assert manager.get(link).status_code == 200
    assert member(Role.ANALYST).get(link).status_code == 404
    assert member(Role.OWNER, other_application).get(link).status_code == 404
    assert Client().get(link).status_code == 302, "to the page where one signs in"
    assert manager.get(link.partition("?")[0]).status_code == 404


def test_an_export_into_another_application_is_not_offered_and_not_taken(application, other_application, member):
    owner = member(Role.OWNER)
    form = owner.get(new_address("users"))
    assert "Stranger" not in form.content.decode()
    answer = owner.post(new_address("users"), filled(form, application=str(other_application.pk)))
    assert "application" in answer.context["form"].errors
    assert not Export.objects.exists()


def test_what_is_refused_is_shown_on_its_field(application, member, settings):
    owner = member(Role.OWNER)
    form = owner.get(new_address("messages"))
    late = (timezone.now() + timedelta(days=2)).isoformat()
    wrong = owner.post(new_address("messages"), filled(form, since=late))
    assert "since" in wrong.context["form"].errors
    none = owner.post(new_address("messages"), filled(form, columns=[]))
    assert "columns" in none.context["form"].errors
    settings.EXPORTS_OPEN_MAX = 0
    busy = owner.post(new_address("messages"), filled(form))
    assert "waiting or running" in busy.content.decode()
    assert not Export.objects.exists()


def test_a_canceled_export_at_the_console(application, member):
    owner = member(Role.OWNER)
    owner.post(new_address("users"), filled(owner.get(new_address("users"))))
    export = Export.objects.get()
    owner.post(reverse("admin:analytics_export_do", args=[export.pk, "cancel"]))
    export.refresh_from_db()
    assert export.state == "canceled"


def test_nobody_edits_adds_or_deletes_a_record(application, member):
    owner = member(Role.OWNER)
    owner.post(new_address("users"), filled(owner.get(new_address("users"))))
    export = Export.objects.get()
    root = Client()
    root.force_login(Operator.objects.create_superuser("root@example.com", "pass-word-1234"))
    for client in (owner, root):
        assert client.get(reverse("admin:analytics_export_add")).status_code == 403
        assert (
            client.post(reverse("admin:analytics_export_delete", args=[export.pk]), {"post": "yes"}).status_code == 403
        )
        client.post(reverse("admin:analytics_export_change", args=[export.pk]), {"requested_by": "nobody"})
    export.refresh_from_db()
    assert export.requested_by != "nobody"


def test_addresses_that_somebody_made_up(application, member):
    owner = member(Role.OWNER)
    assert owner.get(new_address("operators")).status_code == 404
    assert owner.get(new_address("users") + "?application=x&archived=%00&status=zzz").status_code == 200
    for name in ("progress", "download"):
        assert owner.get(reverse(f"admin:analytics_export_{name}", args=[new_id()])).status_code == 404
