"""The page of a user, of people's requests and of running work: who sees what of them, and how much they cost."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.messaging.console.people import PAGE, Asked, newest_message_ids, newest_statement
from apps.messaging.models import Message, MessageRequeue
from apps.subscriptions.console import users
from apps.subscriptions.console.looking import user_ids_by_prefix
from apps.subscriptions.data_requests.models import DataRequest
from apps.subscriptions.data_requests.running import data_requests_run
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.preferences.models import MarketingConsent, MessageCategory, Suppression
from apps.subscriptions.services import subscription_register
from apps.subscriptions.services.users import ERASED_PREFIX
from apps.subscriptions.status import Setter
from apps.tenants.audit.models import AuditEvent
from apps.tenants.console.work import work_sources
from apps.tenants.models import Operator, Role
from apps.tenants.scopes import ROLE_SCOPES
from automata_signal.ids import new_id
from tests.admin.pages import address, button, list_of, page_of, text_of
from tests.factories import make_messages, make_subscriptions, make_user

pytestmark = pytest.mark.django_db

USER, SUBSCRIPTION, REQUEST = "subscriptions.AppUser", "subscriptions.Subscription", "subscriptions.DataRequest"
QUERIES_MAX = 20


@pytest.fixture
def user(world) -> AppUser:
    return world[USER]


def give_messages(user: AppUser, subscription: Subscription, count: int) -> list[Message]:
    rows = make_messages(user.application, ["successful"] * count)
    Message.objects.filter(pk__in=[row.pk for row in rows]).update(user=user, subscription=subscription)
    return rows


# --- Finding -------------------------------------------------------------------------------------------------------


def test_users_are_found_by_how_their_id_begins_and_by_an_address(world, other, member, user):
    email, _ = subscription_register(
        application=user.application, type="Email", token="kim@example.com", setter=Setter.PERSON, user=user
    )
    make_user(other.application, "Aurora-spy")
    support = member(Role.SUPPORT)
    for term in ("Aurora-u", "kim@EXAMPLE.com", str(user.pk)):
        answer = support.get(list_of(USER), {"q": term})
        assert [row.pk for row in answer.context["cl"].result_list] == [user.pk], term
    for term in ("Aurora-s", "im@example.com", "aurora"):
        assert support.get(list_of(USER), {"q": term}).context["cl"].result_count == 0, term
    for term in ("kim@example.com", "Aurora-u"):
        found = support.get(list_of(SUBSCRIPTION), {"q": term}).context["cl"].result_list
        assert email.pk in [row.pk for row in found], term


def test_an_address_finds_nobody_for_who_may_not_read_subscriptions(world, member, user, monkeypatch):
    monkeypatch.setitem(ROLE_SCOPES, Role.SUPPORT, ROLE_SCOPES[Role.SUPPORT] - {"subscriptions:read"})
    support = member(Role.SUPPORT)
    assert support.get(list_of(USER), {"q": world.token}).context["cl"].result_count == 0
    assert "…" not in text_of(support.get(page_of(user))).split('aria-label="Properties"')[0].split("person-facts")[1]


def explained(sql: str, values: object) -> str:
    """The plan, if a table of this size were worth an index: what is not found by one is read whole all the same."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", values)
        plan = json.dumps(cursor.fetchone()[0])
        cursor.execute("SET LOCAL enable_seqscan = on")
    return plan


def test_what_looks_for_people_and_their_messages_has_an_index(world, user):
    sql, values = newest_statement(user, Asked(channel="push", state="failed"), PAGE)
    plan = explained(sql, values)
    assert "Seq Scan" not in plan
    assert "Sort Key" in plan  # of what each subscription gave, and not of the table
    assert "subscription_id" in plan
    AppUser.objects.bulk_create(AppUser(application=user.application, external_id=f"many-{n:05}") for n in range(3_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE subscriptions_appuser")
    rows = AppUser.with_archived.filter(application_id=user.application_id, external_id__startswith="Aur")
    sql, values = rows.values("pk").query.sql_with_params()
    assert "user_by_prefix" in explained(sql, values)
    sql, values = (
        AppUser.objects.for_application(user.application).filter(is_test=True).order_by("-pk").query.sql_with_params()
    )
    assert "user_test_group" in explained(sql, values)
    assert user_ids_by_prefix([user.application_id], "Aur%") == []


# --- The page ------------------------------------------------------------------------------------------------------


def test_the_page_costs_the_same_for_much_as_for_little(world, user, member):
    owner = member(Role.OWNER)
    owner.get(page_of(user))
    with CaptureQueriesContext(connection) as few:
        assert owner.get(page_of(user)).status_code == 200
    assert len(few) <= QUERIES_MAX, [q["sql"][:150] for q in few]
    for row in make_subscriptions(user.application, [f"{n:064x}" for n in range(40)], user=user):
        give_messages(user, row, 3)
    with CaptureQueriesContext(connection) as many:
        assert owner.get(page_of(user)).status_code == 200
    assert len(many) <= len(few)


def test_the_timeline_goes_backward_by_key_and_filters(world, user, member):
    subscription = world[SUBSCRIPTION]
    rows = give_messages(user, subscription, PAGE + 5)
    before = Message.objects.filter(user=user).count()
    support = member(Role.SUPPORT)
    place = reverse("admin:person_timeline", args=[user.pk])
    seen: list[str] = []
    address_ = f"{place}?state=successful"
    while address_:
        panel = support.get(address_).context["panel"]
        seen += [entry.address for entry in panel["entries"]]
        address_ = panel["more"]
    assert len(seen) == len(set(seen))
    assert {page_of(row) for row in rows} <= set(seen)
    assert support.get(f"{place}?channel=sms&state=successful").context["panel"]["entries"] == []
    changes = support.get(f"{place}?state=changes").context["panel"]["entries"]
    assert changes
    assert not any("/message/" in entry.address for entry in changes)
    assert len(newest_message_ids(user, Asked(), 1_000)) == before
    assert support.get(f"{place}?before=x&channel=y&state=%00").status_code == 200


def test_a_device_that_changed_hands_tells_each_only_their_own(world, user):
    theirs = make_user(user.application, "next-owner")
    subscription = world[SUBSCRIPTION]
    give_messages(user, subscription, 2)
    Subscription.objects.filter(pk=subscription.pk).update(user=theirs)
    SubscriptionEvent.objects.create(
        application=user.application, subscription=subscription, user=user, event_type="linked", channel="iOSPush",
        source="device",
    )  # fmt: skip
    later = give_messages(theirs, subscription, 1)
    assert newest_message_ids(theirs, Asked(), 10) == [later[0].pk]
    assert later[0].pk not in newest_message_ids(AppUser.objects.get(pk=user.pk), Asked(), 50)
    assert newest_message_ids(AppUser.objects.get(pk=user.pk), Asked(), 50)


@pytest.mark.parametrize("role", Role.values)
def test_each_role_sees_of_a_person_what_its_scopes_say(world, user, member, role):
    client, scopes = member(role), ROLE_SCOPES[role]
    shown = text_of(client.get(page_of(user)))
    assert ('aria-label="Timeline"' in shown) == ("messages:read" in scopes)
    assert ('aria-label="Channels"' in shown) == ("subscriptions:read" in scopes)
    assert ('aria-label="Consent and preferences"' in shown) == ("preferences:read" in scopes)
    assert (button(user, "erase") in shown) == ("users:write" in scopes)
    assert (address(USER, "properties", user.pk) in shown) == ("users:write" in scopes)
    assert (address(USER, "preferences", user.pk) in shown) == ("preferences:write" in scopes)
    end = button(world[SUBSCRIPTION], "end")
    assert (end in shown) == ("subscriptions:write" in scopes)
    for name, scope in (("properties", "users:write"), ("preferences", "preferences:write")):
        expected = 200 if scope in scopes else 403
        assert client.get(address(USER, name, user.pk)).status_code == expected
        if expected == 403:
            assert client.post(address(USER, name, user.pk)).status_code == 403
    tags = client.get(address(SUBSCRIPTION, "tags", world[SUBSCRIPTION].pk)).status_code
    assert tags == (200 if "subscriptions:write" in scopes else 403)
    order = client.get(address(REQUEST, "order")).status_code
    assert order == (200 if "users:write" in scopes else 403)


def test_another_applications_person_is_nobody(world, other, member):
    owner, theirs = member(Role.OWNER), other[USER]
    places = [
        address(USER, "properties", theirs.pk),
        address(USER, "preferences", theirs.pk),
        address(SUBSCRIPTION, "tags", other[SUBSCRIPTION].pk),
        address(REQUEST, "progress", other[REQUEST].pk),
        reverse("admin:person_timeline", args=[theirs.pk]),
        button(other[REQUEST], "download"),
    ]
    for place in places:
        assert owner.get(place).status_code == 404, place
        assert owner.post(place, {"reason": "x"}).status_code in (403, 404), place


def test_an_erased_person_leaves_no_name_on_any_page(world, user, member):
    owner, external_id = member(Role.OWNER), user.external_id
    owner.post(button(user, "add_to_test_group"))
    owner.post(page_of(user), {"properties": '{"name": "Kim Aurora-user"}'})
    owner.get(page_of(user))  # with what is said of the change, once
    assert owner.post(button(user, "erase"), {"external_id": external_id}).status_code == 302
    while data_requests_run():
        pass
    request = DataRequest.objects.get(kind="erase")
    for place in (page_of(user), page_of(request), list_of(REQUEST), list_of(USER), reverse("admin:work")):
        assert external_id not in text_of(owner.get(place)), place
    assert owner.get(address(USER, "preferences", user.pk)).status_code == 404
    told = AuditEvent.objects.filter(application_id=user.application_id)
    assert {"data_request.erase", "data_request.done"} <= set(told.values_list("action", flat=True))
    assert told.filter(object_id=str(user.pk)).count() >= 2
    assert external_id not in str(list(told.values()))


# --- What is written -----------------------------------------------------------------------------------------------


def test_properties_and_tags_are_rows_of_a_form(world, user, member):
    support, place = member(Role.SUPPORT), address(USER, "properties", user.pk)
    given = {"name": ["name", "age", "", ""], "was": ["name", "", "", ""], "kind": ["text", "number", "text", "text"]}
    answer = support.post(place, given | {"value": ["Kim", "old", "", ""]})
    assert answer.status_code == 200
    assert "must be a number" in text_of(answer)
    answer = support.post(place, given | {"value": ["Kim", "31", "", ""]})
    assert answer.status_code == 302
    user.refresh_from_db()
    assert user.properties == {"name": "Kim", "age": 31}
    event = AuditEvent.objects.get(action="user.properties")
    assert event.details == {"changed": ["age", "name"]}
    assert user.external_id not in event.object_name
    taken = {"name": ["age"], "was": ["age"], "kind": ["number"], "value": ["31"], "remove": ["age"]}
    support.post(place, taken)
    user.refresh_from_db()
    assert user.properties == {"name": "Kim"}
    place = address(SUBSCRIPTION, "tags", world[SUBSCRIPTION].pk)
    answer = support.post(place, {"name": ["vip"], "was": [""], "kind": ["boolean"], "value": ["yes"]})
    assert answer.status_code == 302
    assert Subscription.objects.get(pk=world[SUBSCRIPTION].pk).tags["vip"] is True
    answer = support.post(place, {"name": ["x"], "was": [""], "kind": ["json"], "value": ["{}"]})
    assert answer.status_code == 200


def test_what_a_person_wants_is_written_down_with_its_source(world, user, member):
    support, place = member(Role.SUPPORT), address(USER, "preferences", user.pk)
    assert support.post(place, {"sms.marketing": "on", "sms.night": "on", "evidence": "phone call"}).status_code == 302
    consent = MarketingConsent.objects.get(user_id=user.pk, channel="sms")
    assert (consent.is_given, consent.is_night_given, consent.source) == (True, True, "operator")
    assert consent.evidence == "phone call"
    support.post(place, {})
    consent.refresh_from_db()
    assert (consent.is_given, consent.is_night_given) == (False, False)
    assert not MarketingConsent.objects.filter(user_id=user.pk, is_given=True).exists()


def test_a_selection_is_ended_and_restored_with_a_reason(world, other, member):
    support = member(Role.SUPPORT)
    rows = make_subscriptions(world.application, [f"{n:064x}" for n in range(3)])
    chosen = {"action": "end_selected", "_selected_action": [str(row.pk) for row in rows]}
    asked = support.post(list_of(SUBSCRIPTION), chosen)
    assert asked.status_code == 200
    assert "3 subscriptions are chosen" in text_of(asked)
    assert not Subscription.with_archived.filter(is_archived=True, pk__in=[row.pk for row in rows]).exists()
    theirs = [*chosen["_selected_action"], str(other[SUBSCRIPTION].pk)]
    answer = support.post(list_of(SUBSCRIPTION), chosen | {"_selected_action": theirs, "reason": "fraud"})
    assert answer.status_code == 302
    assert Subscription.with_archived.filter(is_archived=True, pk__in=[row.pk for row in rows]).count() == 3
    assert not Subscription.with_archived.get(pk=other[SUBSCRIPTION].pk).is_archived
    reasons = set(SubscriptionEvent.objects.filter(event_type="archived").values_list("reason", flat=True))
    assert all(reason.startswith("fraud · ") for reason in reasons)
    assert AuditEvent.objects.get(action="subscription.end").details["reason"].startswith("fraud")
    analyst = member(Role.ANALYST)
    refused = analyst.post(list_of(SUBSCRIPTION), chosen | {"action": "restore_selected", "reason": "x"})
    assert refused.status_code in (200, 302, 403)
    assert Subscription.with_archived.filter(is_archived=True, pk__in=[row.pk for row in rows]).count() == 3


def test_a_selection_joins_the_test_group_and_the_filter_finds_it(world, other, member, user):
    support = member(Role.SUPPORT)
    chosen = {"action": "join_test_group", "_selected_action": [str(user.pk), str(other[USER].pk)]}
    assert support.post(list_of(USER), chosen).status_code == 302
    assert list(AppUser.objects.filter(is_test=True)) == [user]
    found = support.get(list_of(USER), {"test": "1"}).context["cl"].result_list
    assert [row.pk for row in found] == [user.pk]
    assert AuditEvent.objects.filter(action="user.join_test_group", application_id=user.application_id).exists()
    assert support.post(button(user, "leave_test_group")).status_code == 302
    assert not AppUser.objects.filter(is_test=True).exists()


def test_many_are_erased_after_their_number_is_typed(world, member, user):
    support = member(Role.SUPPORT)
    make_user(world.application, "second")
    order = {
        "application": str(world.application.pk),
        "kind": "erase",
        "external_ids": f"{user.external_id}\nsecond\nx",
    }
    answer = support.post(address(REQUEST, "order"), order | {"confirmation": "2"})
    assert answer.status_code == 200
    assert "Type 3" in text_of(answer)
    answer = support.post(address(REQUEST, "order"), order | {"confirmation": "3"})
    assert answer.status_code == 302
    made = DataRequest.objects.filter(kind="erase")
    assert {request.user.external_id for request in made} == {user.external_id, "second"}
    listed = support.get(answer["Location"])
    assert listed.context["cl"].result_count == 2
    erase = {"action": "erase_all", "_selected_action": [str(user.pk)]}
    to = support.post(list_of(USER), erase)["Location"]
    assert "1 user is chosen" in text_of(support.get(to))


def test_who_is_erased_is_who_was_typed_to_the_letter(world, member, user):
    manager, application = member(Role.MANAGER), user.application
    kim, other_kim = make_user(application, "kim"), make_user(application, "kim,1")
    place = reverse("admin:subscriptions_datarequest_order")
    given = {"application": str(application.pk), "kind": "erase", "external_ids": "kim,1", "confirmation": "1"}
    assert manager.post(place, given).status_code == 302
    assert DataRequest.objects.filter(user=other_kim, kind="erase").exists()
    assert not DataRequest.objects.filter(user=kim).exists()
    for content in ("kim\n".encode("utf-16"), b"kim\0\n", b"\xff\n"):
        file = SimpleUploadedFile("people.csv", content, "text/csv")
        answer = manager.post(place, {**given, "external_ids": "", "file": file})
        assert answer.status_code == 200
        assert "Save the file as CSV in UTF-8." in text_of(answer)


def test_of_too_large_a_selection_nobody_is_taken(world, member, user, monkeypatch):
    monkeypatch.setattr(users, "SELECTED_MAX", 1)
    keys = [str(user.pk), str(make_user(user.application, "one more").pk)]
    manager = member(Role.MANAGER)
    for action in ("erase_all", "join_test_group"):
        answer = manager.post(list_of(USER), {"action": action, "_selected_action": keys}, follow=True)
        assert "Choose 1 users at most." in text_of(answer)
    assert not AppUser.objects.filter(is_test=True, pk__in=keys).exists()


def test_an_erasure_that_could_not_be_counted_again_is_tried_again(world, member, user):
    request = DataRequest.objects.get(pk=world[REQUEST].pk)
    manager, again = member(Role.MANAGER), button(request, "retry")
    for kind, is_offered in (("erase", True), ("export", False)):
        DataRequest.objects.filter(pk=request.pk).update(state="failed", kind=kind)
        AppUser.objects.filter(pk=request.user_id).update(external_id=f"{ERASED_PREFIX}{request.user_id}")
        assert (again in text_of(manager.get(page_of(request)))) is is_offered, kind


def test_another_applications_people_cannot_be_ordered(world, other, member):
    owner = member(Role.OWNER)
    order = {"application": str(other.application.pk), "kind": "export", "external_ids": other[USER].external_id}
    before = DataRequest.objects.count()
    assert owner.post(address(REQUEST, "order"), order).status_code == 200
    query = f"?application={other.application.pk}&user={other[USER].pk}&kind=export"
    shown = text_of(owner.get(address(REQUEST, "order") + query))
    assert other[USER].external_id not in shown
    assert owner.post(address(REQUEST, "order") + query, order).status_code == 200
    assert DataRequest.objects.count() == before


def test_a_selection_is_ordered_for_its_own_application_alone(world, other, user, member, root):
    query = f"?application={user.application_id}&user={user.pk}&kind=export"
    order = {"application": str(other.application.pk), "kind": "export"}
    answer = root.post(address(REQUEST, "order") + query, order)
    assert answer.status_code == 200
    assert answer.context["form"].errors["application"]
    answer = member(Role.SUPPORT).post(
        address(REQUEST, "order"),
        {"application": str(user.application_id), "kind": "export", "external_ids": "nobody"},
        follow=True,
    )
    assert "nobody" in text_of(answer)
    assert "0 requests" not in text_of(answer)


def test_the_suppression_list_is_added_to_without_an_address_in_the_audit_log(world, user, member):
    owner, add = member(Role.OWNER), address("subscriptions.Suppression", "add")
    given = {"application": str(user.application_id), "type": "Email", "reason": "manual", "note": "by letter"}
    assert owner.post(add, {**given, "address": "lee@example.com"}).status_code == 302
    row = Suppression.objects.get(masked_address="l…@example.com")
    event = AuditEvent.objects.get(action="suppression.add")
    assert (event.object_id, event.changes["note"][1]) == (str(row.pk), "by letter")
    file = SimpleUploadedFile("list.csv", b"address\nlee@example.com\nhan@example.com\nx\n", "text/csv")
    assert owner.post(add, {**given, "file": file}).status_code == 302
    assert AuditEvent.objects.get(action="suppression.import").details == {"added": 1, "known": 1, "refused": 1}
    assert owner.post(button(row, "take_off"), {"note": "they asked for it"}).status_code == 302
    assert AuditEvent.objects.get(action="suppression.take_off").details["note"] == "they asked for it"
    told = str(list(AuditEvent.objects.filter(action__startswith="suppression.").values()))
    assert "lee" not in told
    assert "l…" not in told
    assert "han@" not in told


def test_categories_have_their_name_in_the_language_of_who_looks(world, user, member):
    MessageCategory.objects.filter(application=user.application).update(name_ko="소식지")
    owner = member(Role.OWNER)
    assert "소식지" not in text_of(owner.get(page_of(user)))
    Operator.objects.filter(pk=owner.session["_auth_user_id"]).update(language="ko")
    assert "소식지" in text_of(owner.get(page_of(user)))


def test_a_copy_is_loaded_by_who_may_see_personal_data_and_it_is_told(world, user, member):
    request = world[REQUEST]
    while data_requests_run():
        pass
    support, manager = member(Role.SUPPORT), member(Role.MANAGER)
    assert button(request, "download") not in text_of(support.get(page_of(request)))
    assert support.post(button(request, "download")).status_code == 403
    answer = manager.post(button(request, "download"))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/downloads?token=")
    file = manager.get(answer["Location"])
    assert file["Content-Type"] == "application/zip"
    assert b"".join(file.streaming_content)[:2] == b"PK"
    assert AuditEvent.objects.filter(action="data_request.download", object_id=str(request.pk)).count() == 1


# --- Running work --------------------------------------------------------------------------------------------------


def test_running_work_is_ones_own_and_of_what_the_role_may_see(world, other, member):
    assert {source.name for source in work_sources()} >= {
        "imports",
        "data_requests",
        "exports",
        "requeues",
        "campaigns",
        "rebuilds",
    }
    DataRequest.objects.filter(pk=world[REQUEST].pk).update(state="running", section=2, sections=8)
    MessageRequeue.objects.filter(application=world.application).update(finished_at=timezone.now() - timedelta(hours=1))
    owner = member(Role.OWNER)
    with CaptureQueriesContext(connection) as queries:
        answer = owner.get(reverse("admin:work"))
    assert len(queries) <= QUERIES_MAX
    shown = text_of(answer)
    assert page_of(world[REQUEST]) in shown
    assert page_of(world["subscriptions.Import"]) in shown
    for row in (other[REQUEST], other["subscriptions.Import"], other["campaigns.MessageCampaign"]):
        assert str(row.pk) not in shown
    assert not any(mark in shown for mark in other.marks)
    support = text_of(member(Role.SUPPORT).get(reverse("admin:work")))
    assert page_of(world[REQUEST]) in support
    assert page_of(world["subscriptions.Import"]) not in support
    assert button(world[REQUEST], "cancel") in support
    analyst = text_of(member(Role.ANALYST).get(reverse("admin:work")))
    assert page_of(world[REQUEST]) in analyst
    assert button(world[REQUEST], "cancel") not in analyst
    named = owner.get(reverse("admin:work"), {"application": str(other.application.pk)})
    assert named.context["running"] == named.context["over"] == []
    part = owner.get(reverse("admin:work"), headers={"HX-Request": "true"})
    assert "<html" not in text_of(part)


def test_an_order_of_very_many_hides_no_other_in_running_work(world, user, member):
    DataRequest.objects.all().delete()
    application = world.application
    first = DataRequest.objects.create(application=application, user=user, kind="erase", requested_by="x")
    people = AppUser.objects.bulk_create(AppUser(application=application, external_id=f"n-{n}") for n in range(520))
    order = new_id()
    DataRequest.objects.bulk_create(
        DataRequest(application=application, user=one, kind="erase", order_id=order, requested_by="x") for one in people
    )
    answer = member(Role.SUPPORT).get(reverse("admin:work"), {"kind": "data_requests"})
    assert [row["work"].line for row in answer.context["running"]] == ["0 of 520 people", ""]
    assert page_of(first) in text_of(answer)


def test_the_sign_in_the_frame_counts_what_runs(world, other, root, member):
    DataRequest.objects.all().update(state="done")
    MessageRequeue.objects.all().update(finished_at=timezone.now())
    support = member(Role.SUPPORT)
    count = reverse("admin:work_count")
    assert support.get(count).context["count"] == 0
    DataRequest.objects.filter(pk__in=(world[REQUEST].pk, other[REQUEST].pk)).update(state="running")
    assert support.get(count).context["count"] == 1
    with CaptureQueriesContext(connection) as queries:
        assert root.get(count).context["count"] >= 2
    assert len(queries) <= QUERIES_MAX
    assert f'hx-get="{count}"' in text_of(support.get(page_of(world[USER])))
