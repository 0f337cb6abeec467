"""The pages of messages: one message from the request to the tap, and searches that read no whole table."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.messaging import lifecycle
from apps.messaging.console import searching
from apps.messaging.console.messages import MessageAdmin
from apps.messaging.models import Dispatch, DispatchBatch, FollowUp, GatewayRequest, Message
from apps.subscriptions.models import Subscription, SubscriptionEvent
from apps.tenants.console import lists
from apps.tenants.models import Role
from tests.admin.pages import list_of, page_of, text_of
from tests.factories import make_messages

LIST = "/admin/messaging/message/"
QUERIES_MAX = 20


def failed_messages(world, reasons: list[str], **fields) -> list[Message]:
    made = make_messages(world.application, ["failed"] * len(reasons))
    for message, reason in zip(made, reasons, strict=True):
        Message.objects.filter(pk=message.pk).update(
            error_reason=reason,
            failed_at=timezone.now(),
            subscription_id=world["subscriptions.Subscription"].pk,
            **fields,
        )
    DispatchBatch.objects.filter(dispatch_id=made[0].dispatch_id).update(has_failed=True)
    return list(Message.objects.filter(pk__in=[message.pk for message in made]).order_by("pk"))


def shown_ids(answer) -> set:
    return {row.pk for row in answer.context["cl"].result_list}


# --- One message -------------------------------------------------------------------------------------------------


def test_a_message_is_told_from_the_request_to_the_tap(world, member):
    message = world["messaging.Message"]
    lifecycle.apply(
        "convert",
        source="received",
        ids=[message.pk],
        application_id=world.application.pk,
        at=timezone.now() + timedelta(seconds=9),
    )
    answer = member("owner").get(page_of(message))
    labels = [str(entry.label) for entry in answer.context["page"]["entries"]]
    assert labels[-3:] == ["The provider took it", "Arrived on the device", "Opened"]
    shown = text_of(answer)
    assert "HTTP status" in shown
    assert "Aurora-apns-id" in shown
    assert "Aurora title" in shown or "ap-phone" in shown


def test_a_refusal_is_told_with_the_providers_answer_and_what_to_do(world, member):
    (message,) = failed_messages(world, ["BadDeviceToken"], error_details={"class": "recipient", "http_status": 400})
    shown = text_of(member("owner").get(page_of(message)))
    assert "Failed: BadDeviceToken" in shown
    assert "bundle id" in shown
    assert "/admin/tenants/channelcredential/" in shown
    assert "http_status" in shown
    assert "/admin/tenants/channelcredential/?" not in text_of(member("support").get(page_of(message)))


@pytest.mark.parametrize(("role", "sees_cost"), [("owner", True), ("analyst", True), ("support", False)])
def test_cost_is_for_who_may_read_billing(world, member, role, sees_cost):
    answer = member(role).get(page_of(world["messaging.Message"]))
    assert (answer.context["page"]["cost"] is not None) is sees_cost


def test_users_are_named_to_who_may_read_them_and_addresses_are_masked(world, member):
    answer = member("support").get(page_of(world["messaging.Message"]))
    assert "Aurora-user" in text_of(answer)
    assert world.token not in text_of(answer)


def test_the_steps_of_its_chain_are_beside_it(world, member):
    message, user = world["messaging.Message"], world["subscriptions.AppUser"]
    second = make_messages(world.application, ["pending"])[0]
    dispatches = type(world["messaging.Dispatch"]).objects
    for step, key in enumerate((message.dispatch_id, second.dispatch_id)):
        dispatches.filter(pk=key).update(chain_id=message.dispatch_id, chain_step=step)
    Message.objects.filter(pk=second.pk).update(user_id=user.pk)
    FollowUp.objects.create(
        application=world.application,
        dispatch_id=second.dispatch_id,
        user_id=user.pk,
        after_message_id=message.pk,
        because="no_receipt",
    )
    page = member("owner").get(page_of(second)).context["page"]
    assert [(step["number"], step["is_this"]) for step in page["chain"]] == [(1, False), (2, True)]
    assert page["chain"][1]["because"] == "no_receipt"
    assert str(message.pk) in page["chain"][1]["before"]


def test_only_a_message_that_goes_on_asks_again(world, member):
    owner = member("owner")
    done = owner.get(page_of(world["messaging.Message"]))
    assert "every 5s" not in text_of(done)
    pending = make_messages(world.application, ["pending"])[0]
    assert "every 5s" in text_of(owner.get(page_of(pending)))
    alone = owner.get(f"{LIST}{pending.pk}/timeline/")
    assert alone.status_code == 200
    assert "<html" not in text_of(alone)


def test_another_applications_timeline_is_one_that_does_not_exist(world, other, member):
    theirs, owner = other["messaging.Message"], member("owner")
    assert owner.get(f"{LIST}{theirs.pk}/timeline/").status_code == 404
    assert owner.get(f"{LIST}{theirs.pk}/do/requeue/").status_code == 404


def test_buttons_of_a_message_are_for_who_may_send(world, member):
    (message,) = failed_messages(world, ["no_credential"])
    assert "/do/requeue/" in text_of(member("marketer").get(page_of(message)))
    analyst = member("analyst")
    assert "/do/requeue/" not in text_of(analyst.get(page_of(message)))
    assert analyst.post(f"{LIST}{message.pk}/do/requeue/").status_code == 403


# --- Searching ---------------------------------------------------------------------------------------------------


def test_messages_are_found_by_whatever_an_operator_has_in_hand(world, member):
    message, owner = world["messaging.Message"], member("owner")
    dispatch, template = world["messaging.Dispatch"], world["messaging.MessageTemplate"]
    type(dispatch).objects.filter(pk=dispatch.pk).update(template_version=template.versions.first())
    GatewayRequest.objects.update(request_id="GW-4711")
    terms = [
        message.pk,
        message.subscription_id,
        message.user_id,
        message.campaign_id,
        dispatch.pk,
        template.pk,
        "Aurora-user",
        world.token,
        "GW-4711",
    ]
    for term in terms:
        assert message.pk in shown_ids(owner.get(LIST, {"q": str(term)})), term
    for name, key in (("dispatch", dispatch.pk), ("template", template.pk), ("campaign", message.campaign_id)):
        assert message.pk in shown_ids(owner.get(LIST, {name: str(key)})), name


def test_failed_messages_are_found_by_reason_and_sent_again_after_a_count(world, member):
    first, second, _other = failed_messages(world, ["no_credential", "no_credential", "Unregistered"])
    marketer = member("marketer")
    answer = marketer.get(LIST, {"reason": "no_credential"})
    assert shown_ids(answer) == {first.pk, second.pk}
    assert "2 found, the newest first." in text_of(answer)
    assert shown_ids(marketer.get(LIST, {"q": "no_credential"})) == {first.pk, second.pk}
    address = answer.context["asked"].requeue
    facts = {str(label): value for label, value in marketer.get(address).context["asked"].facts}
    assert facts["messages, at most"] == "2"
    assert member("analyst").get(LIST, {"reason": "no_credential"}).context["asked"].requeue == ""


def test_a_search_by_reason_goes_on_where_it_ended(world, member, monkeypatch):
    old = failed_messages(world, ["rare", "other"])
    new = failed_messages(world, ["rare", "other"])
    monkeypatch.setattr(searching, "MESSAGES", 1)
    owner = member("owner")
    answer = owner.get(LIST, {"reason": "rare"})
    assert shown_ids(answer) == {new[0].pk}
    assert "found so far" in text_of(answer)
    further = owner.get(LIST + answer.context["asked"].older)
    assert shown_ids(further) == {old[0].pk}


def test_a_search_by_reason_goes_on_within_a_batch(world, member, monkeypatch):
    made = failed_messages(world, ["rare"] * 3)
    monkeypatch.setattr(searching, "FOUND", 2)
    owner = member("owner")
    answer = owner.get(LIST, {"reason": "rare"})
    assert shown_ids(answer) == {made[2].pk, made[1].pk}
    further = owner.get(LIST + answer.context["asked"].older)
    assert shown_ids(further) == {made[0].pk}
    assert "1 found, the newest first." in text_of(further)


def test_a_reason_with_a_state_or_a_campaign_finds_older_ones_too(world, member, monkeypatch):
    made = failed_messages(world, ["rare"], campaign_id=world["campaigns.MessageCampaign"].pk)
    dispatch_id = made[0].dispatch_id
    Dispatch.objects.filter(pk=dispatch_id).update(campaign_id=world["campaigns.MessageCampaign"].pk)
    make_messages(world.application, ["received"] * 3)
    monkeypatch.setattr(lists.newest, "__defaults__", (1,))
    monkeypatch.setattr(searching, "COUNT_MAX", -1)
    owner = member("owner")
    assert shown_ids(owner.get(LIST, {"reason": "rare", "status": "failed"})) == {made[0].pk}
    of_campaign = {"reason": "rare", "campaign": str(world["campaigns.MessageCampaign"].pk)}
    assert shown_ids(owner.get(LIST, of_campaign)) == {made[0].pk}


def test_a_reason_counts_what_the_hours_asked_for_hold(world, member, monkeypatch):
    failed_messages(world, ["rare"])
    owner, ahead = member("owner"), searching.day_begins("2100-01-01")
    assert "1 found" in text_of(owner.get(LIST, {"reason": "rare", "added": "24h"}))
    monkeypatch.setattr(lists.AddedFilter, "first_of", staticmethod(lambda value: ahead if value else None))
    later = owner.get(LIST, {"reason": "rare", "added": "24h"})
    assert "Nothing has failed in that time." in text_of(later)
    assert "since=2100-01-01" in later.context["asked"].requeue


def test_what_leads_to_a_reason_is_kept_while_one_looks_further(world, member):
    failed_messages(world, ["rare"])
    shown = text_of(member("owner").get(LIST, {"reason": "rare", "added": "24h"}))
    assert '<input type="hidden" name="added" value="24h">' in shown


def test_a_reason_is_found_over_several_applications(world, other, root):
    (first,), (second,) = failed_messages(world, ["rare"]), failed_messages(other, ["rare"])
    assert shown_ids(root.get(LIST, {"q": "rare"})) == {first.pk, second.pk}


def test_a_user_has_also_the_messages_to_what_was_theirs_once(world, member):
    message, owner = world["messaging.Message"], member("owner")
    Subscription.with_archived.filter(pk=message.subscription_id).update(user=None)
    SubscriptionEvent.objects.filter(subscription_id=message.subscription_id).update(user_id=message.user_id)
    assert message.pk in shown_ids(owner.get(LIST, {"user": str(message.user_id)}))
    assert message.pk in shown_ids(owner.get(LIST, {"q": "Aurora-user"}))


@pytest.mark.parametrize("close_per_minute", [0, 1_000_000])
def test_what_a_campaign_sends_again_after_weeks_is_found_without_what_lies_between(
    world, member, monkeypatch, close_per_minute
):
    """Both ways: from the first to the last, and batch by batch."""
    monkeypatch.setattr(searching, "CLOSE_PER_MINUTE", close_per_minute)
    campaign_id = world["campaigns.MessageCampaign"].pk
    wanted = {message.pk for message in Message.objects.filter(campaign_id=campaign_id)}
    make_messages(world.application, ["received"])
    late = make_messages(world.application, ["failed", "received"])
    Message.objects.filter(pk__in=[row.pk for row in late]).update(campaign_id=campaign_id)
    Dispatch.objects.filter(pk=late[0].dispatch_id).update(campaign_id=campaign_id)
    owner = member("owner")
    assert shown_ids(owner.get(LIST, {"campaign": str(campaign_id)})) == wanted | {row.pk for row in late}
    failed = shown_ids(owner.get(LIST, {"campaign": str(campaign_id), "status": "failed"}))
    assert late[0].pk in failed
    assert late[1].pk not in failed


def test_days_are_those_of_the_operators_clock(world, member):
    owner, message = member("owner"), world["messaging.Message"]
    today = timezone.localdate()
    assert message.pk in shown_ids(owner.get(LIST, {"since": str(today), "until": str(today)}))
    later = {"since": str(today + timedelta(days=2))}
    assert shown_ids(owner.get(LIST, later)) == set()
    assert shown_ids(owner.get(LIST, {"until": str(today - timedelta(days=2))})) == set()
    for odd in ("x", "2026-02-31", "9999-12-31", "0001-01-01", "%00"):
        assert owner.get(LIST, {"since": odd, "until": odd, "older": odd, "reason": odd}).status_code == 200, odd


def test_state_and_channel_narrow_the_list(world, member):
    failed_messages(world, ["no_credential"])
    owner = member("owner")
    rows = owner.get(LIST, {"status": "failed", "channel": "push"}).context["cl"].result_list
    assert {row.status for row in rows} == {"failed"}
    assert not owner.get(LIST, {"channel": "email"}).context["cl"].result_list


def test_a_reason_of_another_application_finds_nothing(world, other, member):
    failed_messages(other, ["secret_reason"])
    owner = member("owner")
    for query in ({"reason": "secret_reason"}, {"reason": "secret_reason", "application": str(other.application.pk)}):
        assert shown_ids(owner.get(LIST, query)) == set()
    assert shown_ids(owner.get(LIST, {"q": "secret_reason"})) == set()


# --- Plans -------------------------------------------------------------------------------------------------------

SEARCHES = {
    "list": {},
    "by state": {"status": "failed"},
    "by channel": {"channel": "email"},
    "by days": {"since": "2026-01-01", "until": "2030-01-01", "status": "failed"},
    "by reason": {"reason": "no_credential"},
    "by subscription": {"subscription": "SUBSCRIPTION"},
    "by user": {"user": "USER"},
    "by campaign": {"campaign": "CAMPAIGN"},
    "by campaign, close together": {"campaign": "CAMPAIGN"},
    "by campaign and state": {"campaign": "CAMPAIGN", "status": "failed"},
    "by dispatch": {"dispatch": "DISPATCH"},
    "by template": {"template": "TEMPLATE"},
    "search: id": {"q": "MESSAGE"},
    "search: external id": {"q": "Aurora-user"},
    "search: token": {"q": "TOKEN"},
    "search: nothing": {"q": "nobody knows"},
    "search: campaign": {"q": "CAMPAIGN"},
}


def bounded(plan: dict, *, is_limited: bool = False) -> list[str]:
    """What a plan reads of messages without an end: a sequential scan, or an index from one end to the other where no
    limit stops it before a filter has thrown rows away."""
    found = []
    limited = is_limited or plan["Node Type"] == "Limit"
    if str(plan.get("Relation Name", "")).startswith(("messaging_message_p", "messaging_message_default")) or (
        plan.get("Relation Name") == "messaging_message"
    ):
        by_key = "Index Cond" in plan or plan["Node Type"] == "Bitmap Heap Scan"
        walks = plan["Node Type"] in ("Index Scan", "Index Only Scan") and limited and "Filter" not in plan
        if plan["Node Type"] == "Seq Scan" or not (by_key or walks):
            found.append(f"{plan['Node Type']} on {plan['Relation Name']}: {plan.get('Filter', '')}")
    for inner in plan.get("Plans", ()):
        found += bounded(inner, is_limited=limited)
    return found


@pytest.mark.parametrize("who", ["owner", "root"])
@pytest.mark.parametrize("name", SEARCHES)
def test_no_search_reads_the_whole_table(world, member, root, monkeypatch, name, who):
    """With sequential scans priced out, what is left of them is what has no index to go by. There are more rows than
    what a filter without an index looks through, and than a page has, as there are in earnest."""
    monkeypatch.setattr(lists.newest, "__defaults__", (1,))
    monkeypatch.setattr(MessageAdmin, "list_per_page", 1)
    if name.endswith("close together"):
        monkeypatch.setattr(searching, "CLOSE_PER_MINUTE", 0)
    keys = {
        "MESSAGE": world["messaging.Message"].pk,
        "SUBSCRIPTION": world["subscriptions.Subscription"].pk,
        "USER": world["subscriptions.AppUser"].pk,
        "CAMPAIGN": world["campaigns.MessageCampaign"].pk,
        "DISPATCH": world["messaging.Dispatch"].pk,
        "TEMPLATE": world["messaging.MessageTemplate"].pk,
        "TOKEN": world.token,
    }
    failed_messages(world, ["no_credential"])
    client = root if who == "root" else member(Role.OWNER)
    asked = {name: str(keys.get(value, value)) for name, value in SEARCHES[name].items()}
    client.get(LIST, asked)
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(LIST, asked)
    assert answer.status_code == 200
    assert len(queries) <= QUERIES_MAX
    statements = [q["sql"] for q in queries if "messaging_message" in q["sql"] and q["sql"].startswith("SELECT")]
    assert statements or name == "search: nothing"
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for statement in statements:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}")
            (plan,) = cursor.fetchone()
            plan = json.loads(plan) if isinstance(plan, str) else plan
            assert not bounded(plan[0]["Plan"]), statement


def test_pages_of_messages_ask_few_queries(world, member):
    owner = member("owner")
    failed = failed_messages(world, ["no_credential"] * 3)
    for place in (page_of(world["messaging.Message"]), page_of(failed[0]), list_of("messaging.MessageRequeue")):
        owner.get(place)
        with CaptureQueriesContext(connection) as queries:
            assert owner.get(place).status_code == 200
        assert len(queries) <= QUERIES_MAX, place
