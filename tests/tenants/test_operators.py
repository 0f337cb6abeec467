from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone
from kombu.exceptions import OperationalError
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from apps.tenants.models import Application, Membership, Operator, Role
from apps.tenants.scopes import ROLE_SCOPES, SCOPES
from apps.tenants.services import (
    membership_remove,
    membership_set,
    operator_create,
    operator_invite,
)
from apps.tenants.tasks import forget_expired_sign_ins, send_password_link
from automata_signal.celery import app as celery
from automata_signal.errors import Conflict, ValidationFailed
from tests.conftest import ApiClient
from tests.tenants.conftest import PASSWORD, sign_in
from tests.tenants.test_keys import code, fields

NEW_PASSWORD = "a new and rather long one"


@pytest.fixture
def mail_goes_out():
    """Tasks run where they are queued."""
    celery.conf.update(task_always_eager=True, task_eager_propagates=True)
    yield
    celery.conf.update(task_always_eager=False, task_eager_propagates=False)


def login(client: ApiClient, email: str = "owner@example.com", password: str = PASSWORD):
    return client.post("auth/login", {"email": email, "password": password})


def refresh(client: ApiClient, token: str):
    return client.post("auth/refresh", {"refresh": token})


# --- Signing in --------------------------------------------------------------------------------------------------


def test_signing_in_gives_tokens_of_15_minutes_and_30_days(anonymous, owner):
    data = login(anonymous).json()["data"]

    access, refresh_token = AccessToken(data["access"]), RefreshToken(data["refresh"])
    assert access["exp"] - access["iat"] == data["expires_in_s"] == 15 * 60
    assert refresh_token["exp"] - refresh_token["iat"] == 30 * 24 * 3600
    owner.refresh_from_db()
    assert owner.last_login is not None


def test_the_address_may_be_written_in_any_case(anonymous, owner):
    assert login(anonymous, "  Owner@Example.COM ").status_code == 200


def test_every_wrong_sign_in_gets_the_same_answer(anonymous, owner):
    operator_create(email="idle@example.com", password=PASSWORD)
    Operator.objects.filter(email="idle@example.com").update(is_active=False)
    answers = [
        login(anonymous, password="wrong"),
        login(anonymous, "nobody@example.com"),
        login(anonymous, "idle@example.com"),
        login(anonymous, "not an address"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({str(answer.json()["error"]) for answer in answers}) == 1
    assert code(answers[0]) == "SIGN_IN_REFUSED"


def test_an_unknown_address_costs_as_much_hashing_as_a_known_one(anonymous, owner, monkeypatch):
    from django.contrib.auth.hashers import MD5PasswordHasher

    hashed = []
    encode = MD5PasswordHasher.encode
    monkeypatch.setattr(MD5PasswordHasher, "encode", lambda *a, **k: hashed.append(1) or encode(*a, **k))
    login(anonymous, password="wrong")
    known, hashed[:] = len(hashed), []
    login(anonymous, "nobody@example.com")
    assert len(hashed) == known == 1


def test_a_stale_authorization_header_does_not_keep_anybody_out(owner):
    assert login(ApiClient("as_sk_long_gone")).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "a@example.com"}, "password"),
        ({"email": ["a"], "password": "x"}, "email"),
        ({"email": "a@example.com", "password": "x", "otp": 1}, "otp"),
        ({"email": "a@example.com", "password": "x" * 1001}, "password"),
        (b'{"email": "a@example.com", "password": "\\u0000"}', "password"),
    ],
)
@pytest.mark.django_db
def test_a_wrong_sign_in_form_is_a_400(anonymous, body, field):
    answer = anonymous.post("auth/login", body)
    assert (answer.status_code, fields(answer)) == (400, [field])


def test_who_guesses_passwords_of_one_address_is_held_up(anonymous, owner, settings):
    settings.API_RATE_PER_MINUTE = settings.API_RATE_PER_MINUTE | {"sign_in": 3}
    assert [login(anonymous, password="wrong").status_code for _ in range(3)] == [401] * 3
    answer = login(anonymous)
    assert (answer.status_code, code(answer)) == (429, "RATE_LIMITED")
    assert int(answer["Retry-After"]) >= 1
    assert login(anonymous, "other@example.com").status_code == 401


def test_who_guesses_addresses_from_one_place_is_held_up(anonymous, owner, settings):
    settings.API_RATE_PER_MINUTE = settings.API_RATE_PER_MINUTE | {"anonymous": 3}
    for number in range(3):
        assert login(anonymous, f"n{number}@example.com").status_code == 401
    assert login(anonymous).status_code == 429


# --- Tokens ------------------------------------------------------------------------------------------------------


def test_a_refresh_token_works_once(anonymous, owner):
    first = login(anonymous).json()["data"]["refresh"]
    second = refresh(anonymous, first)
    assert second.status_code == 200
    assert ApiClient(second.json()["data"]["access"]).get("me").status_code == 200

    again = refresh(anonymous, first)
    assert (again.status_code, code(again)) == (401, "TOKEN_REFUSED")
    assert refresh(anonymous, second.json()["data"]["refresh"]).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_of_two_refreshes_at_once_one_is_refused():
    operator_create(email="owner@example.com", password=PASSWORD)
    token = login(ApiClient("")).json()["data"]["refresh"]
    together = threading.Barrier(4)

    def call(_: int) -> int:
        try:
            together.wait(20)
            return refresh(ApiClient(""), token).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(call, range(4))) == [200, 401, 401, 401]


def test_a_refresh_token_is_ended_by_logging_out(anonymous, owner):
    token = login(anonymous).json()["data"]["refresh"]
    assert anonymous.post("auth/logout", {"refresh": token}).status_code == 204
    assert refresh(anonymous, token).status_code == 401
    assert anonymous.post("auth/logout", {"refresh": token}).status_code == 401


@pytest.mark.parametrize("token", ["x", "a.b.c", "é", "as_sk_x", "x" * 4000])
@pytest.mark.django_db
def test_what_is_no_refresh_token_is_refused(anonymous, token):
    assert refresh(anonymous, token).status_code == 401
    assert anonymous.post("auth/logout", {"refresh": token}).status_code == 401


def test_an_access_token_does_not_refresh_and_a_refresh_token_does_not_open(anonymous, owner):
    data = login(anonymous).json()["data"]
    assert refresh(anonymous, data["access"]).status_code == 401
    assert ApiClient(data["refresh"]).get("me").status_code == 401


def test_an_expired_access_token_opens_nothing(owner):
    token = AccessToken.for_user(owner)
    token.set_exp(from_time=timezone.now() - timedelta(hours=1))
    assert ApiClient(str(token)).get("me").status_code == 401


def test_a_token_signed_by_another_opens_nothing(owner):
    import jwt

    payload = AccessToken.for_user(owner).payload
    for token in (jwt.encode(payload, "x" * 40, "HS256"), jwt.encode(payload, None, "none")):
        assert ApiClient(token).get("me").status_code == 401


def test_an_operator_who_is_put_to_rest_is_out_at_once(anonymous, owner):
    data = login(anonymous).json()["data"]
    Operator.objects.update(is_active=False)
    assert ApiClient(data["access"]).get("me").status_code == 401
    assert refresh(anonymous, data["refresh"]).status_code == 401


def test_no_usable_token_is_stored(anonymous, owner):
    token = login(anonymous).json()["data"]["refresh"]
    refresh(anonymous, token)
    assert set(OutstandingToken.objects.values_list("token", flat=True)) == {""}


def test_expired_sign_ins_are_forgotten(anonymous, owner):
    login(anonymous)
    login(anonymous)
    expired = OutstandingToken.objects.first()
    OutstandingToken.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    forget_expired_sign_ins()
    assert OutstandingToken.objects.count() == 1


# --- Passwords by e-mail -------------------------------------------------------------------------------------------


def link_in(message) -> dict[str, str]:
    found = re.search(r"/account/password#uid=(?P<uid>[\w-]+)&token=(?P<token>[\w-]+)", message.body)
    assert found, message.body
    return found.groupdict()


def ask(client: ApiClient, email: str = "owner@example.com"):
    return client.post("auth/password-reset", {"email": email})


def test_the_link_sets_a_password_once_and_ends_all_sign_ins(
    anonymous, owner, mail_goes_out, django_capture_on_commit_callbacks
):
    old = login(anonymous).json()["data"]["refresh"]
    assert ask(anonymous).status_code == 202
    assert [message.to for message in mail.outbox] == [["owner@example.com"]]
    link = link_in(mail.outbox[0])

    done = anonymous.post("auth/password-reset/confirm", link | {"password": NEW_PASSWORD})

    assert done.status_code == 204, done.content
    assert refresh(anonymous, old).status_code == 401
    assert login(anonymous).status_code == 401
    assert login(anonymous, password=NEW_PASSWORD).status_code == 200
    again = anonymous.post("auth/password-reset/confirm", link | {"password": PASSWORD})
    assert (again.status_code, fields(again)) == (400, ["token"])


def test_asking_tells_nothing_about_an_address(anonymous, owner, mail_goes_out):
    answers = [ask(anonymous, email) for email in ("owner@example.com", "nobody@example.com", "not an address")]
    assert {answer.status_code for answer in answers} == {202}
    assert {str(answer.json()["data"]) for answer in answers} == {"None"}
    assert len(mail.outbox) == 1


def test_without_a_broker_asking_is_a_503_for_every_address(anonymous, owner, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OperationalError("Error 111 connecting to redis")

    monkeypatch.setattr("automata_signal.celery._broker", {"left_alone_until": 0.0})
    monkeypatch.setattr(send_password_link, "apply_async", unreachable)
    answers = [ask(anonymous, email) for email in ("owner@example.com", "nobody@example.com")]
    assert [(answer.status_code, code(answer)) for answer in answers] == [(503, "UNAVAILABLE")] * 2
    assert "Retry-After" in answers[0]


def test_an_operator_who_is_put_to_rest_gets_no_link(anonymous, owner, mail_goes_out):
    Operator.objects.update(is_active=False)
    assert ask(anonymous).status_code == 202
    assert mail.outbox == []


def test_a_link_to_one_operator_does_not_open_another(anonymous, owner, mail_goes_out):
    other = operator_create(email="other@example.com", password=PASSWORD)
    ask(anonymous)
    ask(anonymous, other.email)
    mine, theirs = (link_in(message) for message in mail.outbox)
    crossed = {"uid": theirs["uid"], "token": mine["token"], "password": NEW_PASSWORD}
    assert anonymous.post("auth/password-reset/confirm", crossed).status_code == 400


def test_a_weak_password_is_refused_with_the_rules_it_breaks(anonymous, owner, mail_goes_out):
    ask(anonymous)
    answer = anonymous.post("auth/password-reset/confirm", link_in(mail.outbox[0]) | {"password": "password"})
    assert (answer.status_code, set(fields(answer))) == (400, {"password"})
    assert login(anonymous).status_code == 200


@pytest.mark.parametrize("uid", ["x", "", "AAAA", "é", "MDAwMA", "LS0tLQ", "_" * 99])
@pytest.mark.django_db
def test_a_link_that_is_none_is_refused(anonymous, uid):
    answer = anonymous.post("auth/password-reset/confirm", {"uid": uid, "token": "a-b", "password": NEW_PASSWORD})
    assert answer.status_code == 400


def test_a_link_expires(anonymous, owner, mail_goes_out, settings):
    ask(anonymous)
    settings.PASSWORD_RESET_TIMEOUT = -1
    answer = anonymous.post("auth/password-reset/confirm", link_in(mail.outbox[0]) | {"password": NEW_PASSWORD})
    assert fields(answer) == ["token"]


@pytest.mark.django_db
def test_the_page_of_the_link_is_there(client):
    page = client.get("/account/password")
    assert page.status_code == 200
    assert b"auth/password-reset/confirm" in page.content


def test_who_is_invited_gets_a_link_and_a_role(
    anonymous, application, mail_goes_out, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        operator_invite(email="New@example.com", application=application, role=Role.ANALYST)
    link = link_in(mail.outbox[0])
    assert anonymous.post("auth/password-reset/confirm", link | {"password": NEW_PASSWORD}).status_code == 204
    me = sign_in("new@example.com", NEW_PASSWORD).get("me").json()["data"]
    assert [membership["role"] for membership in me["memberships"]] == ["analyst"]


def test_who_has_an_account_is_given_the_role_without_a_link(
    owner, other_application, mail_goes_out, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        operator_invite(email=owner.email, application=other_application, role=Role.SUPPORT)
    assert mail.outbox == []
    assert owner.memberships.count() == 2


# --- Roles -------------------------------------------------------------------------------------------------------


def test_me_says_who_i_am_and_what_i_may_do_where(owner, application, other_application):
    membership_set(operator=owner, application=other_application, role=Role.SUPPORT)
    data = sign_in(owner.email).get("me").json()["data"]

    assert (data["email"], data["name"], data["is_superuser"]) == ("owner@example.com", "Olga", False)
    by_name = {membership["application"]["name"]: membership for membership in data["memberships"]}
    assert by_name["Shop"]["role"] == "owner"
    assert by_name["Shop"]["scopes"] == list(SCOPES)
    assert set(by_name["Stranger"]["scopes"]) == ROLE_SCOPES[Role.SUPPORT]
    assert "password" not in data


def test_a_key_is_nobody(server):
    assert server.get("me").status_code == 403


@pytest.mark.parametrize("role", Role.values)
def test_a_role_gives_its_scopes_and_no_others(owner, application, role):
    member = operator_create(email="member@example.com", password=PASSWORD)
    membership_set(operator=member, application=application, role=role)
    client = sign_in(member.email, **{"x-application-id": str(application.pk)})

    may_read = "settings:read" in ROLE_SCOPES[role]
    may_write = "settings:write" in ROLE_SCOPES[role]
    assert client.get("application").status_code == (200 if may_read else 403)
    assert client.patch("application", {"name": "N"}).status_code == (200 if may_write else 403)
    assert ROLE_SCOPES[role] <= set(SCOPES)


def test_every_role_has_its_scopes():
    assert set(ROLE_SCOPES) == set(Role.values)


def test_only_owners_change_settings_and_only_who_may_send_can_launch():
    assert {role for role in Role.values if "settings:write" in ROLE_SCOPES[role]} == {Role.OWNER}
    senders = {role for role in Role.values if "messages:send" in ROLE_SCOPES[role]}
    assert senders == {role for role in Role.values if "campaigns:launch" in ROLE_SCOPES[role]}
    assert senders == {Role.OWNER, Role.MANAGER, Role.MARKETER}


def test_an_operator_must_name_the_application(owner):
    answer = sign_in(owner.email).get("application")
    assert (answer.status_code, code(answer)) == (403, "APPLICATION_NEEDED")


def test_where_one_has_no_role_there_might_as_well_be_nothing(owner, other_application):
    client = sign_in(owner.email)
    answers = [
        client.get("application", **{"x-application-id": name})
        for name in (str(other_application.pk), str(uuid4()), "x", "", "é")
    ]
    assert {answer.status_code for answer in answers} == {403}
    assert len({str(answer.json()["error"]) for answer in answers}) == 1


def test_a_role_that_is_taken_away_is_gone_at_once(console, owner, application):
    assert console.get("application").status_code == 200
    Membership.objects.filter(operator=owner).delete()
    assert console.get("application").status_code == 403


def test_a_superuser_acts_everywhere(db, other_application):
    operator_create(email="root@example.com", password=PASSWORD, is_superuser=True)
    client = sign_in("root@example.com", **{"x-application-id": str(other_application.pk)})
    assert client.get("application").json()["data"]["name"] == "Stranger"


def test_the_last_owner_stays(owner, application):
    with pytest.raises(Conflict) as refusal:
        membership_remove(membership=owner.memberships.get())
    assert refusal.value.code == "LAST_OWNER"
    with pytest.raises(Conflict):
        membership_set(operator=owner, application=application, role=Role.ANALYST)

    second = operator_create(email="second@example.com", password=PASSWORD)
    membership_set(operator=second, application=application, role=Role.OWNER)
    membership_remove(membership=owner.memberships.get(), by="console")
    assert application.memberships.get().operator == second
    assert Membership.history.filter(history_type="-").get().history_change_reason == "console"


@pytest.mark.django_db(transaction=True)
def test_two_owners_cannot_remove_each_other_at_once():
    application = Application.objects.create(name="Shop")
    for number in range(2):
        operator = operator_create(email=f"n{number}@example.com", password=PASSWORD)
        membership_set(operator=operator, application=application, role=Role.OWNER)
    together = threading.Barrier(2)

    def remove(membership: Membership) -> bool:
        try:
            together.wait(20)
            membership_remove(membership=membership)
        except Conflict:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(remove, Membership.objects.all())) == [False, True]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "OWNER@example.com"}, "email"),
        ({"email": "a" * 250 + "@example.com"}, "email"),
        ({"password": "short"}, "password"),
    ],
)
def test_an_operator_that_cannot_be_is_refused_by_its_field(owner, wrong, field):
    with pytest.raises(ValidationFailed) as refusal:
        operator_create(**({"email": "n@example.com", "password": PASSWORD} | wrong))
    assert {problem.field for problem in refusal.value.details} == {field}
