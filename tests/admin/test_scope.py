"""A member of one application gets nothing of another: not by list, id, search, choice, filter, history or button."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse

from apps.messaging.models import MessageEvent
from apps.tenants.models import Operator, Role
from apps.tenants.scopes import ROLE_SCOPES
from tests.admin.pages import address, button, list_of, page_of, registered, text_of

READ = {
    "tenants.Application": "settings:read",
    "tenants.ApiKey": "settings:read",
    "tenants.ChannelCredential": "settings:read",
    "tenants.Membership": "settings:read",
    "tenants.Invitation": "settings:read",
    "tenants.AuditEvent": "audit:read",
    "tenants.IdempotencyRecord": "settings:read",
    "subscriptions.AppUser": "users:read",
    "subscriptions.Subscription": "subscriptions:read",
    "subscriptions.SubscriptionEvent": "subscriptions:read",
    "subscriptions.Import": "imports:write",
    "subscriptions.DataRequest": "users:read",
    "subscriptions.MessageCategory": "preferences:read",
    "subscriptions.Preference": "preferences:read",
    "subscriptions.MarketingConsent": "preferences:read",
    "subscriptions.ConsentEvent": "preferences:read",
    "subscriptions.ConsentNotice": "preferences:read",
    "subscriptions.OptIn": "preferences:read",
    "subscriptions.ActiveHours": "preferences:read",
    "subscriptions.SendTiming": "campaigns:read",
    "subscriptions.Suppression": "suppressions:read",
    "subscriptions.SuppressionEvent": "suppressions:read",
    "messaging.MediaFile": "media:read",
    "messaging.MediaVariant": "media:read",
    "messaging.KakaoChannel": "templates:read",
    "messaging.KakaoTemplate": "templates:read",
    "messaging.MessageTemplate": "templates:read",
    "messaging.MessageTemplateVersion": "templates:read",
    "messaging.Message": "messages:read",
    "messaging.MessageEvent": "messages:read",
    "messaging.Dispatch": "messages:read",
    "messaging.DispatchBatch": "messages:read",
    "messaging.MessageRequeue": "messages:read",
    "messaging.FollowUp": "messages:read",
    "messaging.GatewayRequest": "messages:read",
    "messaging.InboxItem": "messages:read",
    "messaging.WebhookEndpoint": "webhooks:read",
    "messaging.WebhookDelivery": "webhooks:read",
    "campaigns.Segment": "segments:read",
    "campaigns.MessageCampaign": "campaigns:read",
    "campaigns.CampaignFailure": "campaigns:read",
    "campaigns.CampaignApproval": "campaigns:read",
    "analytics.ReportSchedule": "analytics:read",
    "analytics.ReportRun": "analytics:read",
    "analytics.Export": "exports:write",
    "billing.BillingProfile": "billing:read",
    "billing.MessageQuota": "billing:read",
    "billing.LedgerTransaction": "billing:read",
    "billing.LedgerAccount": "billing:read",
    "billing.LedgerEntry": "billing:read",
    "billing.BillingAlert": "billing:read",
}
SCOPED = list(READ)


def shows(answer, world) -> bool:
    """Whether a page tells anything of an application: a name, or an id that is not in its own address."""
    shown = text_of(answer).replace(answer.wsgi_request.get_full_path(), "")
    ids = [str(row.pk) for row in world.rows.values()]
    return any(text in shown for text in [*world.marks, world.application.name, *ids])


def test_lists_have_only_ones_own_rows(world, other, member):
    owner = member(Role.OWNER)
    for label in SCOPED:
        answer = owner.get(list_of(label))
        assert answer.status_code == 200, label
        assert not shows(answer, other), label
        assert str(world[label].pk) in text_of(answer), label


def test_another_applications_row_is_one_that_does_not_exist(world, other, member):
    owner = member(Role.OWNER)
    for label in SCOPED:
        theirs, nobodys = other[label], address(label, "change", "0196f3d2-0000-7000-8000-000000000000")
        for page in ("change", "history", "delete"):
            answer = owner.get(page_of(theirs, page))
            same = owner.get(nobodys.replace("/change/", f"/{page}/"))
            assert answer.status_code in (302, 403, 404), (label, page)
            assert answer.status_code == same.status_code, (label, page)
            followed = owner.get(page_of(theirs, page), follow=True)
            assert not any(mark in text_of(followed) for mark in other.marks), (label, page)


def test_search_finds_nothing_of_others(world, other, member):
    owner = member(Role.OWNER)
    related = ("subscriptions.AppUser", "subscriptions.Subscription", "campaigns.MessageCampaign", "messaging.Message")
    words = [other.token, "Borealis-user", "Borealis", "Borealis-idem", *(str(other[label].pk) for label in related)]
    for label in SCOPED:
        for term in {*words, str(other[label].pk)}:
            answer = owner.get(list_of(label), {"q": term})
            assert answer.status_code == 200
            assert answer.context["cl"].result_count == 0, (label, term)


def test_search_finds_ones_own(world, other, member):
    owner = member(Role.OWNER)
    found = {
        "subscriptions.AppUser": ["Aurora-user"],
        "subscriptions.Subscription": ["Aurora-user", world.token, world.token.upper()],
        "messaging.Message": [
            "Aurora-user",
            world.token,
            str(world["subscriptions.Subscription"].pk),
            str(world["campaigns.MessageCampaign"].pk),
            str(world["subscriptions.AppUser"].pk),
        ],
        "messaging.MessageEvent": [str(world["messaging.Message"].pk)],
        "campaigns.MessageCampaign": ["aurora camp"],
        "tenants.ApiKey": ["Aurora key"],
    }
    for label, terms in found.items():
        for term in [str(world[label].pk), *terms]:
            answer = owner.get(list_of(label), {"q": term})
            assert str(world[label].pk) in text_of(answer), (label, term)


def test_a_whole_key_finds_whose_it_is(world, root):
    plaintext = next(text for text in world.secrets if text.startswith("as_sk_"))
    answer = root.get(list_of("tenants.ApiKey"), {"q": plaintext})
    assert answer.context["cl"].result_count == 1


FILTERED = {
    "subscription": "subscriptions.Subscription",
    "user": "subscriptions.AppUser",
    "campaign": "campaigns.MessageCampaign",
    "dispatch": "messaging.Dispatch",
    "range": "messaging.DispatchBatch",
}
"""Whose id a filter takes."""


def test_filters_by_anothers_id_are_empty(world, other, member):
    owner = member(Role.OWNER)
    for label, model_admin in registered().items():
        if label not in SCOPED:
            continue
        for item in model_admin.list_filter:
            name = getattr(item, "parameter_name", None)
            row = other.rows.get(FILTERED.get(name or "", "tenants.Application"))
            query = {name: str(row.first_id if name == "range" else row.pk)} if name else {"status": "running"}
            answer = owner.get(list_of(label), query)
            assert answer.status_code in (200, 302, 400)
            assert not any(mark in text_of(answer) for mark in other.marks), (label, name)


def test_choices_and_autocomplete_offer_only_ones_own(world, other, member):
    owner = member(Role.OWNER)
    query = {"app_label": "campaigns", "model_name": "messagecampaign", "field_name": "template", "term": ""}
    answer = owner.get(reverse("admin:autocomplete"), query)
    assert [found["id"] for found in json.loads(answer.content)["results"]] == [
        str(world["messaging.MessageTemplate"].pk)
    ]
    for term in ("Borealis", "Borealis\0", str(other["messaging.MessageTemplate"].pk)):
        assert json.loads(owner.get(reverse("admin:autocomplete"), query | {"term": term}).content)["results"] == []
    for label in ("tenants.ApiKey", "campaigns.MessageCampaign", "campaigns.Segment", "tenants.ChannelCredential"):
        answer = owner.get(address(label, "add"), {"application": str(other.application.pk), "template": "zzz"})
        assert not shows(answer, other), label


def test_autocomplete_by_any_field_of_any_model_stays_inside(world, other, member):
    """Django lets the caller name the field: whatever is named, the target's own admin answers for the scope."""
    owner = member(Role.OWNER)
    for label, model_admin in registered().items():
        for field in model_admin.model._meta.get_fields():
            if not field.is_relation or field.auto_created:
                continue
            app_label, model_name = label.split(".")
            query = {
                "app_label": app_label,
                "model_name": model_name.lower(),
                "field_name": field.name,
                "term": "Borealis",
            }
            answer = owner.get(reverse("admin:autocomplete"), query)
            assert answer.status_code in (200, 403, 404), (label, field.name)
            assert "Borealis" not in text_of(answer), (label, field.name)


def test_buttons_and_forms_do_nothing_to_another_application(world, other, member):
    owner = member(Role.OWNER)
    for label in SCOPED:
        theirs = other[label]
        for name in registered()[label].row_actions:
            for answer in (owner.get(button(theirs, name)), owner.post(button(theirs, name), {"reason": "x"})):
                assert answer.status_code == 404, (label, name)
        assert owner.post(page_of(theirs), {"name": "mine now"}).status_code in (302, 403)
        assert owner.post(page_of(theirs, "delete"), {"post": "yes"}).status_code in (302, 403)
        before = theirs.__dict__
        theirs = type(theirs)._base_manager.get(pk=theirs.pk)
        assert getattr(theirs, "name", None) == before.get("name")
    progress = reverse("admin:campaigns_messagecampaign_progress", args=[other["campaigns.MessageCampaign"].pk])
    assert owner.get(progress).status_code == 404


def test_an_add_form_cannot_write_into_another_application(world, other, member):
    owner = member(Role.OWNER)
    given = {"application": str(other.application.pk), "name": "Intruder", "criteria": "{}"}
    answer = owner.post(address("campaigns.Segment", "add"), given)
    assert answer.status_code == 200
    assert "application" in answer.context["adminform"].form.errors
    given = {
        "application": str(world.application.pk),
        "name": "Borrowed",
        "channel_type": "push",
        "priority": "low",
        "when_over_quota": "refuse",
        "targeting_criteria": "{}",
        "template": str(other["messaging.MessageTemplate"].pk),
    }
    answer = owner.post(address("campaigns.MessageCampaign", "add") + "?advanced=1", given)
    assert "template" in answer.context["adminform"].form.errors
    given |= {"template": "zzz"}
    assert owner.post(address("campaigns.MessageCampaign", "add") + "?advanced=1", given).status_code == 200


WRITE = {
    "subscriptions.Import": "imports:write",
    "tenants.ApiKey": "settings:write",
    "tenants.ChannelCredential": "settings:write",
    "tenants.Invitation": "settings:write",
    "subscriptions.AppUser": "users:write",
    "subscriptions.MessageCategory": "preferences:write",
    "subscriptions.Suppression": "suppressions:write",
    "messaging.MessageTemplate": "templates:write",
    "messaging.MediaFile": "media:write",
    "messaging.KakaoTemplate": "templates:write",
    "messaging.WebhookEndpoint": "webhooks:write",
    "campaigns.Segment": "segments:write",
    "campaigns.MessageCampaign": "campaigns:write",
    "analytics.ReportSchedule": "exports:write",
}
BUTTONS = {
    ("tenants.ApiKey", "revoke"): "settings:write",
    ("tenants.Membership", "reset_second_factor"): "settings:write",
    ("tenants.Membership", "unlock"): "settings:write",
    ("tenants.Invitation", "resend"): "settings:write",
    ("tenants.Invitation", "revoke"): "settings:write",
    ("tenants.ChannelCredential", "close_breaker"): "settings:write",
    ("tenants.ChannelCredential", "verify"): "settings:write",
    ("tenants.ChannelCredential", "move_up"): "settings:write",
    ("tenants.ChannelCredential", "move_down"): "settings:write",
    ("subscriptions.AppUser", "erase"): "users:write",
    ("subscriptions.AppUser", "copy"): "users:write",
    ("subscriptions.AppUser", "add_to_test_group"): "users:write",
    ("subscriptions.DataRequest", "cancel"): "users:write",
    ("subscriptions.DataRequest", "retry"): "users:write",
    ("subscriptions.DataRequest", "download"): "personal_data:read",
    ("subscriptions.Subscription", "end"): "subscriptions:write",
    ("messaging.Message", "cancel"): "messages:send",
    ("messaging.MediaFile", "make_variant"): "media:write",
    ("messaging.KakaoChannel", "sync"): "templates:write",
    ("messaging.KakaoTemplate", "inspect"): "templates:write",
    ("messaging.KakaoTemplate", "cancel_inspection"): "templates:write",
    ("messaging.KakaoTemplate", "sync"): "templates:write",
    ("subscriptions.MessageCategory", "archive"): "preferences:write",
    ("subscriptions.ConsentNotice", "done"): "preferences:write",
    ("subscriptions.Suppression", "take_off"): "suppressions:write",
    ("subscriptions.Import", "apply"): "imports:write",
    ("subscriptions.Import", "rejects"): "imports:write",
    ("subscriptions.Import", "cancel"): "imports:write",
    ("messaging.Message", "requeue"): "messages:send",
    ("messaging.WebhookEndpoint", "test"): "webhooks:write",
    ("messaging.WebhookEndpoint", "rotate_secret"): "webhooks:write",
    ("messaging.WebhookEndpoint", "replay"): "webhooks:write",
    ("messaging.WebhookEndpoint", "enable"): "webhooks:write",
    ("messaging.WebhookDelivery", "replay"): "webhooks:write",
    ("campaigns.MessageCampaign", "requeue_failed"): "messages:send",
    ("campaigns.MessageCampaign", "launch"): "campaigns:launch",
    ("campaigns.MessageCampaign", "test"): "campaigns:write",
    ("analytics.ReportSchedule", "send_to_me"): "exports:write",
    ("analytics.Export", "cancel"): "exports:write",
    ("billing.BillingProfile", "webhook"): "billing:write",
    ("billing.BillingProfile", "top_up"): "platform",
    ("billing.BillingProfile", "adjust"): "platform",
    ("billing.BillingProfile", "refund"): "platform",
    ("billing.BillingProfile", "change_plan"): "platform",
    ("billing.BillingProfile", "change_credit_limit"): "platform",
    ("billing.MessageQuota", "set_terms"): "platform",
    ("billing.MessageQuota", "reset_terms"): "platform",
    ("billing.BillingAlert", "deliver_again"): "billing:write",
}


@pytest.mark.parametrize("role", Role.values)
def test_each_role_gets_what_its_scopes_say(world, member, role):
    client, scopes = member(role), ROLE_SCOPES[role]
    for label, scope in READ.items():
        expected = 200 if scope in scopes else 403
        assert client.get(list_of(label)).status_code == expected, label
        assert client.get(page_of(world[label])).status_code == expected, label
    for label in SCOPED:
        expected = 200 if WRITE.get(label, "nobody") in scopes else 403
        assert client.get(address(label, "add")).status_code == expected, label
    for (label, name), scope in BUTTONS.items():
        expected = 200 if scope in scopes else 404 if READ[label] not in scopes else 403
        assert client.get(button(world[label], name)).status_code == expected, (label, name)
        if expected != 200:
            assert client.post(button(world[label], name)).status_code == expected, (label, name)


def test_the_platforms_own_pages_are_for_superusers(world, platform_rows, member, root):
    owner = member(Role.OWNER)
    for label in set(registered()) - set(SCOPED):
        assert owner.get(list_of(label)).status_code == 403, label
        assert owner.get(address(label, "add")).status_code == 403, label
        assert root.get(list_of(label)).status_code == 200, label
    assert owner.get(page_of(platform_rows["tenants.Operator"])).status_code in (302, 403)
    assert "Operators" not in text_of(owner.get("/admin/"))
    assert "Operators" in text_of(root.get("/admin/"))


def test_panels_keep_to_the_role_too(world, member, monkeypatch):
    """Support reads users and messages; a panel of what a role may not read is not there."""
    user, application = world["subscriptions.AppUser"], world["tenants.Application"]
    shown = text_of(member(Role.SUPPORT).get(page_of(user)))
    assert page_of(world["messaging.Message"]) in shown
    assert page_of(world["subscriptions.Subscription"]) in shown
    fewer = ROLE_SCOPES[Role.SUPPORT] - {"messages:read", "subscriptions:read"}
    monkeypatch.setitem(ROLE_SCOPES, Role.SUPPORT, fewer)
    Operator.objects.filter(email__startswith="support").delete()
    shown = text_of(member(Role.SUPPORT, application).get(page_of(user)))
    assert page_of(world["messaging.Message"]) not in shown
    assert page_of(world["subscriptions.Subscription"]) not in shown


def test_the_end_of_a_membership_is_the_end(world, member, application):
    manager = member(Role.MANAGER)
    assert manager.get(page_of(world["messaging.Message"])).status_code == 200
    application.memberships.filter(role=Role.MANAGER).delete()
    assert manager.get(page_of(world["messaging.Message"])).status_code in (302, 403)
    assert MessageEvent.objects.exists()
    assert not shows(manager.get("/admin/"), world)
