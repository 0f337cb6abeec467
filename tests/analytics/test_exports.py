"""What is in the files: ordered through the API, written by the task, loaded by the link."""

from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.utils import timezone

from apps.analytics.exports import writing
from apps.analytics.exports.columns import Column
from apps.analytics.exports.registry import kinds, resources
from apps.analytics.models import MessageHour
from apps.analytics.models.exports import Export
from apps.billing.entitlements import plan_of
from apps.billing.models import LedgerAccount, LedgerEntry, LedgerTransaction
from apps.campaigns.models import MessageCampaign
from apps.messaging import lifecycle
from apps.messaging.models import Message, MessageEvent
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from automata_signal.ids import new_id
from tests.analytics.exporting import body_of, client_with, exported, link_of, order, refused, table, work
from tests.factories import make_dispatch, make_messages, make_subscription, make_user

pytestmark = pytest.mark.django_db

AT = datetime(2026, 3, 1, 15, 30, 0, 120_000, tzinfo=UTC)
TOKEN = "ab" * 32


def messages_of(application, states, **fields) -> list[Message]:
    messages = make_messages(application, states)
    Message.objects.filter(pk__in=[one.pk for one in messages]).update(**fields)
    return messages


# --- Bytes ---------------------------------------------------------------------------------------------------------


def test_a_file_is_this_byte_for_byte(application, server):
    first = AppUser.objects.create(
        application=application, external_id='a,"b"', properties={"이름": "김"}, created_at=AT
    )
    second = AppUser.objects.create(application=application, external_id="줄\r\n바꿈", created_at=AT, last_active_at=AT)
    content = exported(server, "users")
    assert (
        content
        == (
            "id,external_id,properties,created_at,last_active_at,is_archived\r\n"
            f'{first.pk},"a,""b""","{{""이름"": ""김""}}",2026-03-02T00:30:00.120000+09:00,,false\r\n'
            f'{second.pk},"줄\r\n바꿈",{{}},2026-03-02T00:30:00.120000+09:00,2026-03-02T00:30:00.120000+09:00,false\r\n'
        ).encode()
    )


def test_times_are_of_the_zone_that_is_asked_for(application, server):
    AppUser.objects.create(application=application, external_id="u", created_at=AT)
    for zone, text in (
        ("UTC", "2026-03-01T15:30:00.120000+00:00"),
        ("America/New_York", "2026-03-01T10:30:00.120000-05:00"),
        ("Asia/Kolkata", "2026-03-01T21:00:00.120000+05:30"),
    ):
        assert exported(server, "users", time_zone=zone, columns=["created_at"]) == f"created_at\r\n{text}\r\n".encode()


def test_for_excel_it_begins_with_a_byte_order_mark(application, server):
    make_user(application, "u")
    assert exported(server, "users", bom=True, columns=["external_id"]) == b"\xef\xbb\xbfexternal_id\r\nu\r\n"


def test_a_compressed_file_says_the_same(application, server):
    make_user(application, "u")
    plain = exported(server, "users")
    made = order(server, "users", gzip=True)
    work()
    answer = server.get(link_of(server, made["id"]))
    assert answer["Content-Type"] == "application/gzip"
    assert gzip.decompress(body_of(answer)) == plain


def test_an_export_of_nothing_is_its_first_line(server):
    assert exported(server, "campaigns", columns=["id", "name"]) == b"id,name\r\n"


def test_columns_come_in_the_order_that_is_asked_for(application, server):
    user = make_user(application, "u")
    content = exported(server, "users", columns=["is_archived", "external_id", "id"])
    assert content == f"is_archived,external_id,id\r\nfalse,u,{user.pk}\r\n".encode()


def test_its_record_says_size_rows_and_checksum(application, server):
    for number in range(3):
        make_user(application, f"u{number}")
    made = order(server, "users")
    assert (made["state"], made["progress"], made["download_url"]) == ("waiting", 0.0, None)
    work()
    done = server.get(f"exports/{made['id']}").json()["data"]
    body = body_of(server.get(link_of(server, made["id"])))
    assert (done["state"], done["progress"], done["rows_written"]) == ("done", 1.0, 3)
    assert done["bytes_written"] == len(body)
    assert done["sha256"] == hashlib.sha256(body).hexdigest()
    assert done["requested_by"].startswith("key as_sk_")
    assert done["requested_from"] == "127.0.0.1"
    assert done["expires_at"] > done["finished_at"]


def test_every_kind_and_every_column_can_be_exported(application, server, full_world):
    for resource in resources():
        content = exported(server, resource.kind, columns=list(resource.columns()))
        assert len(table(content)) >= 1, resource.kind
        assert list(table(content)[0]) == list(resource.columns()), resource.kind


def test_more_pages_and_parts_are_one_file_without_a_seam(application, server, monkeypatch):
    monkeypatch.setattr(writing, "PAGE_ROWS", 7)
    monkeypatch.setattr("apps.analytics.exports.running.STEP_MAX_S", 0.0)
    users = [make_user(application, f"u{number:03}") for number in range(50)]
    for options in ({}, {"gzip": True}):
        content = exported(server, "users", **options)
        assert [row["id"] for row in table(content)] == [str(user.pk) for user in users]
    assert [len(row.parts) for row in Export.objects.all()] == [8, 8]


# --- Which rows ----------------------------------------------------------------------------------------------------


def test_nothing_of_another_application_is_in_any_file(application, other_application, full_world, stranger):
    for kind in kinds():
        assert table(exported(stranger, kind)) == [], kind


def test_messages_by_each_filter(application, server):
    campaign = new_id()
    wanted = make_messages(application, ["failed"], dispatch=make_dispatch(application, campaign_id=campaign))[0]
    Message.objects.filter(pk=wanted.pk).update(
        campaign_id=campaign, error_reason="Unregistered", error_details={"class": "recipient"}, channel_type="push"
    )
    Subscription.objects.filter(pk=wanted.subscription_id).update(country_code="KR", type="AndroidPush")
    make_messages(application, ["pending", "successful"])
    user = make_user(application, "u")
    Message.objects.filter(pk=wanted.pk).update(user_id=user.pk)
    for name, value in {
        "campaign_id": str(campaign),
        "status": "failed",
        "error_reason": "Unregistered",
        "error_class": "recipient",
        "country": "KR",
        "subscription_type": "AndroidPush",
        "subscription_id": str(wanted.subscription_id),
        "user_id": str(user.pk),
    }.items():
        rows = table(exported(server, "messages", filters={"since": "2026-01-01T00:00:00Z", name: value}))
        assert [row["id"] for row in rows] == [str(wanted.pk)], name
    rows = table(exported(server, "messages", filters={"since": "2026-01-01T00:00:00Z", "channel_type": "email"}))
    assert rows == []


def test_a_period_is_of_when_rows_were_made(application, server):
    old = UUID(int=(int(AT.timestamp() * 1_000) << 80) | (7 << 76) | (2 << 62))
    AppUser.objects.create(pk=old, application=application, external_id="old")
    make_user(application, "new")

    def names(**filters) -> list[str]:
        return [row["external_id"] for row in table(exported(server, "users", filters=filters))]

    assert names(until=AT.isoformat()) == []
    assert names(until=(AT + timedelta(milliseconds=1)).isoformat()) == ["old"]
    assert names(since=AT.isoformat()) == ["old", "new"]
    assert names(since=(AT + timedelta(milliseconds=1)).isoformat()) == ["new"]


def test_what_is_made_after_the_order_is_not_in_the_file(application, server):
    make_user(application, "before")
    made = order(server, "users")
    make_user(application, "after")
    work()
    content = body_of(server.get(link_of(server, made["id"])))
    assert [row["external_id"] for row in table(content)] == ["before"]


@pytest.mark.parametrize(
    ("status", "rows"), [("reachable", ["1"]), ("ended", ["0"]), ("error", ["-10"]), ("archived", ["-2"])]
)
def test_subscriptions_by_status_as_the_console_names_them(application, server, status, rows):
    for number, code in enumerate((1, 0, -10)):
        make_subscription(application, token=f"{number}" * 64, subscription_status=code)
    make_subscription(application, token="a" * 64, subscription_status=-2, is_archived=True)
    found = table(exported(server, "subscriptions", filters={"status": status}))
    assert [
        row["subscription_status"] for row in found if row["is_archived"] == "false" or status == "archived"
    ] == rows


def test_the_events_of_a_message_and_no_other(application, server):
    messages = make_messages(application, ["pending", "pending"])
    for at, one in zip((AT, AT + timedelta(hours=1)), messages, strict=True):
        lifecycle.apply(
            "send", source="pending", ids=[one.pk], application_id=application.pk, at=at, metadata={"status": 200}
        )
    rows = table(
        exported(server, "message_events", time_zone="UTC", columns=["message_id", "event_type", "occurred_at"])
    )
    assert [(row["message_id"], row["event_type"], row["occurred_at"]) for row in rows] == [
        (str(messages[0].pk), "successful", "2026-03-01T15:30:00.120000+00:00"),
        (str(messages[1].pk), "successful", "2026-03-01T16:30:00.120000+00:00"),
    ]


def test_the_entries_of_a_ledger_add_up(application, server, full_world):
    rows = table(exported(server, "ledger"))
    assert sum(Decimal(row["amount"]) for row in rows) == 0
    assert {row["account"] for row in rows} == {"credit", "funding"}


# --- What is refused -----------------------------------------------------------------------------------------------

SINCE = "2026-01-01T00:00:00Z"
REFUSED = {
    "no period": ("messages", {}, "filters.since"),
    "a period that ends before it begins": ("messages", {"filters": {"since": SINCE, "until": SINCE}}, "filters.since"),
    "a period of years": ("messages", {"filters": {"since": "2020-01-01T00:00:00Z"}}, "filters.since"),
    "the future": ("users", {"filters": {"since": "2999-01-01T00:00:00Z"}}, "filters.since"),
    "a time that is none": ("messages", {"filters": {"since": "yesterday"}}, "filters.since"),
    "a filter of another kind": ("users", {"filters": {"campaign_id": str(new_id())}}, "filters.campaign_id"),
    "a state that there is not": ("messages", {"filters": {"since": SINCE, "status": "sent"}}, "filters.status"),
    "a campaign that is no id": ("messages", {"filters": {"since": SINCE, "campaign_id": "x"}}, "filters.campaign_id"),
    "a text that is too long": ("messages", {"filters": {"since": SINCE, "country": "KOR"}}, "filters.country"),
    "a column that there is not": ("users", {"columns": ["id", "token"]}, "columns[1]"),
    "a column twice": ("users", {"columns": ["id", "id"]}, "columns"),
    "too many columns": ("users", {"columns": ["id"] * 65}, "columns"),
    "a zone that there is not": ("users", {"time_zone": "Mars/Olympus"}, "time_zone"),
    "a kind that there is not": ("operators", {}, "kind"),
    "a field that there is not": ("users", {"format": "xlsx"}, "format"),
}


@pytest.mark.parametrize(("kind", "fields", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_meant_is_refused_by_name(server, kind, fields, named):
    answer = refused(server, kind, **fields)
    assert answer.status_code == 400
    assert named in {problem["field"] for problem in answer.json()["error"]["details"]}


def test_an_export_needs_the_scope_of_its_rows(application):
    for resource in resources():
        answer = refused(client_with(application, without=(resource.scope,)), resource.kind, filters={"since": SINCE})
        assert answer.status_code == 403
        assert resource.scope in answer.json()["error"]["message"]


def test_a_plan_without_exports_has_none(application, server):
    plan = plan_of(application)
    plan.features = ["api"]
    plan.save()
    answer = refused(server, "users")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "PLAN_FEATURE")


# --- Masks ---------------------------------------------------------------------------------------------------------

PERSONAL = {
    "messages": ("external_id", "title", "body", "data"),
    "message_events": ("external_id", "metadata"),
    "users": ("external_id", "properties"),
    "subscriptions": ("external_id", "tags"),
    "subscription_events": ("external_id",),
    "campaigns": (),
    "statistics": (),
    "ledger": (),
}
SECRET = "Kim-Minji"


def test_what_is_personal_is_listed_here():
    """So that a new column does not go in clear because nobody thought of it."""
    found = {r.kind: {name for name, column in r.columns().items() if column.is_personal} for r in resources()}
    assert found == {kind: set(names) for kind, names in PERSONAL.items()}


@pytest.mark.parametrize("kind", PERSONAL)
def test_personal_data_is_masked_without_the_scope_for_it(application, full_world, kind):
    if not PERSONAL[kind]:
        return
    reader = client_with(application, without=("personal_data:read",))
    masked = table(exported(reader, kind, columns=list(PERSONAL[kind])))
    clear = table(exported(client_with(application), kind, columns=list(PERSONAL[kind])))
    for name in PERSONAL[kind]:
        assert any(SECRET in row[name] for row in clear), name
        assert all(SECRET not in row[name] for row in masked), name
        assert any("…" in row[name] for row in masked), name
    assert SECRET not in str(table(exported(reader, kind)))


def test_who_has_the_scope_may_ask_for_a_masked_file(application, server):
    make_user(application, SECRET)
    assert table(exported(server, "users", masked=True))[0]["external_id"] == "Ki…"
    assert [row.is_masked for row in Export.objects.all()] == [True]


def test_who_has_not_cannot_ask_for_one_in_clear(application):
    answer = refused(client_with(application, without=("personal_data:read",)), "users", masked=False)
    assert answer.status_code == 403


def test_a_campaigns_own_content_is_not_personal(application):
    campaign = new_id()
    make_messages(
        application,
        ["pending"],
        dispatch=make_dispatch(application, campaign_id=campaign, title="For all", audience={}),
    )
    reader = client_with(application, without=("personal_data:read",))
    assert table(exported(reader, "messages", columns=["title"])) == [{"title": "For all"}]


def test_tokens_are_masked_for_everybody(application, server):
    row = make_subscription(application, token=TOKEN)
    make_subscription(application, type="Email", token='=k,"minji.long@example.com')
    content = exported(server, "subscriptions", columns=["token", "type"])
    assert content == f'type,token\r\niOSPush,{row.masked_token}\r\nEmail,"\'=k,""….com"\r\n'.encode()
    assert TOKEN not in content.decode()


# --- Formulas ------------------------------------------------------------------------------------------------------

FREE_TEXT = {
    resource.kind: [name for name, column in resource.columns().items() if type(column) is Column]
    for resource in resources()
}


@pytest.mark.parametrize("formula", ["=1+1", "＝1+1", "@SUM(1)", "-A1+1", "+cmd|' /C calc'!A0", "\t=1", "\r=1"])
def test_no_column_of_free_text_begins_a_formula(application, server, full_world, formula):
    fill_with(application, formula)
    for kind, names in FREE_TEXT.items():
        rows = table(exported(server, kind, columns=names))
        seen = {name for row in rows for name in names if formula[:2] in row[name]}
        for row in rows:
            for name in names:
                assert row[name][:1] not in tuple("=+-@＝＋－＠\t\r\n"), (kind, name, row[name])
        as_json = {"properties", "tags", "data", "metadata", "targeting_criteria"}
        assert seen | as_json >= set(names) - {"error_class"}, (kind, set(names) - seen)


def fill_with(application, text: str) -> None:
    """The text in every column that somebody else writes."""
    AppUser.with_archived.filter(application=application).update(external_id=text, properties={"a": text})
    Subscription.with_archived.filter(application=application).update(
        device_model=text,
        device_os=text,
        device_language=text,
        app_version=text,
        sdk_version=text,
        country_code=text[:2],
        status_source=text[:16],
        tags={"a": text},
    )
    SubscriptionEvent.objects.filter(application=application).update(reason=text, source=text[:16])
    Message.objects.filter(application=application).update(
        title=text, body=text, data={"a": text}, error_reason=text, error_details={"class": text}
    )
    MessageEvent.objects.filter(application=application).update(metadata={"a": text})
    MessageHour.objects.filter(application=application).update(reason=text)
    MessageCampaign.objects.filter(application=application).update(
        name=text, title=text, body=text, data={"a": text}, failure_reason=text, created_by=text
    )
    post(application, reason=text, posted_by=text, reference=text)  # what is posted cannot be changed


@pytest.fixture
def full_world(application):
    """A row of each kind, with a person's name wherever one can be."""
    user = make_user(application, SECRET, name=SECRET)
    subscription = make_subscription(application, user=user, token=TOKEN, tags={"name": SECRET}, country_code="KR")
    SubscriptionEvent.objects.create(
        application=application,
        subscription=subscription,
        user=user,
        event_type="subscribed",
        channel="iOSPush",
        source="api",
        reason="asked",
    )
    campaign = MessageCampaign.objects.create(application=application, name="Spring", title="Hello")
    dispatch = make_dispatch(application, campaign_id=campaign.pk, title="Hi {{ name }}", is_personalised=True)
    [message] = make_messages(application, ["pending"], dispatch=dispatch, campaign_id=campaign.pk)
    Message.objects.filter(pk=message.pk).update(
        user_id=user.pk, subscription_id=subscription.pk, title=f"Hi {SECRET}", body=SECRET, data={"name": SECRET}
    )
    lifecycle.apply(
        "send",
        source="pending",
        ids=[message.pk],
        application_id=application.pk,
        at=timezone.now(),
        metadata={"note": SECRET},
    )
    MessageHour.objects.create(
        application=application, hour=AT.replace(minute=0, microsecond=0), channel_type="push", reason="why", sent=3
    )
    post(application, reason="paid")
    return user


def post(application, **fields) -> None:
    posting = LedgerTransaction.objects.create(application=application, kind="top_up", **fields)
    for kind, amount in (("credit", 100), ("funding", -100)):
        account, _ = LedgerAccount.objects.get_or_create(application=application, kind=kind)
        LedgerEntry.objects.create(transaction=posting, account=account, amount=amount)
