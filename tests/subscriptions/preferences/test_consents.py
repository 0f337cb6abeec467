"""Preferences and consent by API: what changes leaves an event, what does not leaves none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.db.utils import ProgrammingError
from django.utils import timezone

from apps.subscriptions.models import AppUser
from apps.subscriptions.preferences import notices
from apps.subscriptions.preferences.models import ConsentEvent, ConsentNotice, MarketingConsent, Preference
from apps.subscriptions.preferences.notices import confirmations_find, notices_send, two_years_after
from apps.subscriptions.services import user_erase, user_export
from tests.factories import make_subscription, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def user(application):
    return make_user(application, "kim")


@pytest.fixture
def put(server, user):
    def put(body, status=200):
        answer = server.request("PUT", f"users/{user.pk}/preferences", body)
        assert answer.status_code == status, answer.content
        return answer.json()["data"] if status == 200 else answer.json()["error"]

    return put


def events():
    return list(ConsentEvent.objects.order_by("id").values_list("event_type", flat=True))


def test_without_a_choice_the_default_of_the_category_counts(server, user, news, security):
    answer = server.get("users/by-external-id/preferences?external_id=kim").json()["data"]
    assert answer["channels"]["email"]["categories"] == {
        "news": {"opted_in": True, "is_default": True},
        "security": {"opted_in": True, "is_default": True},
    }
    assert answer["channels"]["sms"]["marketing"]["given"] is False


def test_the_same_choice_twice_is_one_event(put, news):
    body = {"marketing": {"email": {"given": True, "evidence": "v1"}}, "categories": {"email": {"news": False}}}
    first = put(body)
    assert put(body) == first
    assert events() == ["given", "opted_out"]
    assert first["channels"]["email"]["marketing"]["evidence"] == "v1"
    assert first["channels"]["email"]["categories"]["news"] == {"opted_in": False, "is_default": False}
    assert first["channels"]["push"]["categories"]["news"]["opted_in"] is True


def test_another_text_is_another_consent_and_a_withdrawal_ends_the_night_as_well(put):
    put({"marketing": {"sms": {"given": True, "night": True, "evidence": "v1"}}})
    put({"marketing": {"sms": {"given": True, "evidence": "v2"}}})
    after = put({"marketing": {"sms": {"given": False}}})["channels"]["sms"]["marketing"]
    assert (after["given"], after["night"]) == (False, False)
    assert after["withdrawn_at"]
    assert after["night_withdrawn_at"]
    assert after["confirm_due_at"] is None
    assert events() == ["given", "night_given", "given", "night_withdrawn", "withdrawn"]
    assert ConsentEvent.objects.first().source == "api"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"marketing": {"fax": {"given": True}}}, "marketing.fax"),
        ({"marketing": {"sms": {"night": True}}}, "marketing.sms.night"),
        ({"marketing": {"sms": {"given": False, "night": True}}}, "marketing.sms.night"),
        ({"marketing": {"sms": {"given": "yes"}}}, "marketing.sms.given"),
        ({"marketing": {"sms": {"given": True, "given_at": "2999-01-01T00:00:00Z"}}}, "marketing.sms.given_at"),
        ({"marketing": {"sms": {"given_at": "2020-01-01T00:00:00Z"}}}, "marketing.sms.given_at"),
        ({"marketing": {"sms": {"given": True, "evidence": "a\nb"}}}, "marketing.sms.evidence"),
        ({"categories": {"email": {"unknown": True}}}, "categories.email.unknown"),
        ({"categories": {"email": {"security": False}}}, "categories.email.security"),
        ({"categories": {"fax": {}}}, "categories.fax"),
        ({"consent": {}}, "consent"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(put, news, security, body, field):
    good = (
        {"categories": {"email": {"news": False}}} if "marketing" in body else {"marketing": {"email": {"given": True}}}
    )
    assert [detail["field"] for detail in put(good | body, status=400)["details"]] == [field]
    assert not ConsentEvent.objects.exists()
    assert not Preference.objects.exists()


def test_a_consent_from_before_a_withdrawal_does_not_come_back(put):
    put({"marketing": {"email": {"given": True}}})
    put({"marketing": {"email": {"given": False}}})
    error = put({"marketing": {"email": {"given": True, "given_at": "2020-01-01T00:00:00Z"}}}, status=400)
    assert error["details"][0]["field"] == "marketing.email.given_at"
    assert put({"marketing": {"email": {"given": True}}})["channels"]["email"]["marketing"]["given"] is True


def test_a_device_chooses_for_its_own_channel_and_says_no_past(sdk, application, news):
    row = make_subscription(application, user=make_user(application, "lee"))
    from apps.subscriptions.handles import handle_for

    headers = {"X-Subscription-Handle": handle_for(row.pk, 1)}
    path = f"subscriptions/{row.pk}/preferences"
    assert sdk.request("PUT", path, {"marketing": {"push": {"given": True}}}, **headers).status_code == 200
    assert sdk.request("PUT", path, {"marketing": {"sms": {"given": True}}}, **headers).status_code == 403
    past = {"marketing": {"push": {"given": True, "given_at": "2020-01-01T00:00:00Z"}}}
    assert sdk.request("PUT", path, past, **headers).status_code == 403
    assert sdk.request("PUT", path, {"marketing": {"push": {"given": False}}}).status_code == 404  # no handle
    consent = MarketingConsent.objects.get()
    assert (consent.user.external_id, consent.channel, consent.source) == ("lee", "push", "device")
    assert ConsentEvent.objects.get().subscription_id == row.pk


def test_a_subscription_without_user_chooses_for_itself(server, application, news):
    row = make_subscription(application)
    server.request("PUT", f"subscriptions/{row.pk}/preferences", {"categories": {"push": {"news": False}}})
    assert Preference.objects.get().subject_id == row.pk
    assert server.get(f"subscriptions/{row.pk}/preferences").json()["data"]["channels"]["push"]["categories"][
        "news"
    ] == {
        "opted_in": False,
        "is_default": False,
    }


def test_consents_and_their_history_are_listed(server, stranger, put, user):
    put({"marketing": {"email": {"given": True, "evidence": "v1"}}})
    [consent] = server.get("consents?external_id=kim&is_given=true").json()["data"]
    assert (consent["external_id"], consent["channel"], consent["evidence"]) == ("kim", "email", "v1")
    [event] = server.get("consents/events?external_id=kim&event_type=given").json()["data"]
    assert event["source"] == "api"
    assert server.get("consents/events?external_id=nobody").json()["data"] == []
    assert stranger.get("consents").json()["data"] == stranger.get("consents/events").json()["data"] == []


@pytest.mark.parametrize(
    "statement", ["UPDATE subscriptions_consentevent SET evidence = 'x'", "DELETE FROM subscriptions_consentevent"]
)
def test_the_history_cannot_be_changed(put, statement):
    put({"marketing": {"email": {"given": True}}})
    with pytest.raises(ProgrammingError, match="never changed"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


# --- Two years, and fourteen days ------------------------------------------------------------------------------------


def test_the_leap_day_becomes_the_28th():
    assert two_years_after(datetime(2024, 2, 29, tzinfo=UTC)) == datetime(2026, 2, 28, tzinfo=UTC)


def consent_of_two_years_ago(put, channel="email"):
    given_at = (timezone.now() - timedelta(days=720)).isoformat()
    put({"marketing": {channel: {"given": True, "given_at": given_at}}})


def test_after_two_years_people_are_told_once_and_it_counts_from_then(
    put, user, application, register, told, set_settings
):
    set_settings(consent_notices={"reconfirm": "send"})
    row = register(external_id="kim", device_language="ko-KR")
    consent_of_two_years_ago(put)
    assert confirmations_find() == 1
    assert confirmations_find() == 0
    assert notices_send() == 1
    [notice] = told
    assert (notice.kind, notice.subscription_id, notice.language) == ("reconfirm", row.pk, "ko")
    assert "수신에 동의하셨습니다" in notice.body
    assert "/e/preferences/" in notice.body
    consent = MarketingConsent.objects.get()
    assert consent.is_given
    assert consent.confirm_due_at == two_years_after(consent.confirmed_at)
    assert events()[-1] == "confirmed"
    assert notices_send() == 0


def test_what_operators_tell_themselves_stays_on_the_list_until_they_say_so(put, register, server, told):
    register(external_id="kim")
    consent_of_two_years_ago(put)
    confirmations_find()
    assert notices_send() == 0
    assert told == []
    [notice] = server.get("consents/notices?state=due&kind=reconfirm").json()["data"]
    assert notice["external_id"] == "kim"
    done = server.post(f"consents/notices/{notice['id']}/done", {"note": "letter"})
    assert done.json()["data"]["state"] == "done"
    assert MarketingConsent.objects.get().confirmed_at is not None
    assert server.post(f"consents/notices/{notice['id']}/done").status_code == 409


def test_who_has_withdrawn_meanwhile_is_not_told(put, register, told, set_settings):
    set_settings(consent_notices={"reconfirm": "send"})
    register(external_id="kim")
    consent_of_two_years_ago(put)
    confirmations_find()
    put({"marketing": {"email": {"given": False}}})
    notices_send()
    assert told == []
    assert ConsentNotice.objects.get().state == "void"


def test_the_consents_that_are_due_are_found_by_their_index():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "EXPLAIN SELECT id FROM subscriptions_marketingconsent WHERE confirm_due_at <= now()"
            " ORDER BY confirm_due_at LIMIT 10"
        )
        assert "consent_due" in "\n".join(line for (line,) in cursor.fetchall())


def test_the_result_is_told_within_fourteen_days_where_the_law_asks_for_it(put, register, told, set_settings):
    put({"marketing": {"email": {"given": True}}})
    assert not ConsentNotice.objects.exists()
    set_settings(advertising_rules="kr", consent_notices={"result": "send"})
    register(external_id="kim")
    put({"marketing": {"email": {"given": False}}})
    notice = ConsentNotice.objects.get()
    assert notice.due_at - notice.said_at == timedelta(days=14)
    told.refuses = True
    notices_send()
    notice.refresh_from_db()
    assert (notice.state, notice.attempts) == ("due", 1)
    assert notice.attempt_at > timezone.now()
    told.refuses = False
    ConsentNotice.objects.update(attempt_at=timezone.now())
    notices_send()
    assert "no longer agree" in told[0].body
    assert told[0].channel == "email"


def test_erasure_forgets_choices_and_keeps_the_proof(put, user, news, register):
    register(external_id="kim")
    put({"marketing": {"email": {"given": True}}, "categories": {"email": {"news": False}}})
    exported = user_export(user=AppUser.objects.get(pk=user.pk))["choices"]
    assert exported["preferences"]["email"]["marketing"]["given"]
    assert len(exported["consent_events"]) == 2
    user_erase(user=AppUser.objects.get(pk=user.pk))
    assert not MarketingConsent.objects.exists()
    assert not Preference.objects.exists()
    assert events() == ["given", "opted_out"]


def test_a_fault_of_ours_with_one_notice_is_noted_and_holds_up_no_other(put, register, told, set_settings, monkeypatch):
    set_settings(advertising_rules="kr", consent_notices={"result": "send"})
    register(external_id="kim")
    put({"marketing": {"email": {"given": True}}})
    put({"marketing": {"email": {"given": False}}})
    letter_of, asked = notices.letter_of, []

    def first_fails(notice, subscription):
        asked.append(notice)
        if len(asked) == 1:
            raise KeyError("words")
        return letter_of(notice, subscription)

    monkeypatch.setattr(notices, "letter_of", first_fails)
    assert notices_send() == 2
    assert len(told) == 1
    assert sorted(ConsentNotice.objects.values_list("state", "attempts")) == [("due", 1), ("sent", 0)]


def test_what_operators_tell_themselves_is_not_read_again_every_ten_seconds():
    """Where the law asks for a list, everybody's choice stands on it until an operator says that it is done."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'consent_notice_due'")
        ((definition,),) = cursor.fetchall()
    assert "is_to_be_sent" in definition
