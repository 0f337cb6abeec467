"""Signing in to the console, and what a session may not do."""

from __future__ import annotations

import re
import time
from io import StringIO

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from allauth.usersessions.models import UserSession
from axes.models import AccessAttempt
from django.core import mail
from django.core.management import call_command
from django.test import Client

from apps.tenants.accounts import second_factor
from apps.tenants.accounts.invitations import invitation_create, invitation_send
from apps.tenants.accounts.models import Invitation
from apps.tenants.audit.models import AuditEvent
from apps.tenants.models import Membership, Operator, Role
from apps.tenants.services import application_update, membership_remove, membership_set, operator_create
from automata_signal.errors import SignalError, ValidationFailed
from tests.conftest import ApiClient
from tests.tenants.conftest import PASSWORD, sign_in
from tests.tenants.test_keys import code as code_in

LOGIN = "/account/login/"


def code_of(secret: str, ahead: int = 0) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + ahead))


def with_second_factor(operator: Operator) -> str:
    """The secret of a new authenticator."""
    secret = generate_totp_secret()
    TOTP.activate(operator, secret)
    RecoveryCodes.activate(operator)
    return secret


def come_in(client: Client, email: str = "owner@example.com", password: str = PASSWORD, **extra):
    return client.post(LOGIN, {"login": email, "password": password}, **extra)


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def told(action: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action=action))


# --- The door ------------------------------------------------------------------------------------------------------


def test_the_console_has_one_door(client, owner):
    answer = client.get("/admin/tenants/application/", follow=True)
    assert answer.redirect_chain[-1][0] == f"{LOGIN}?next=/admin/tenants/application/"
    before = client.session.session_key
    answer = come_in(client, " Owner@Example.com")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    assert client.session.session_key != before
    assert is_in(client)
    assert [event.actor for event in told("sign_in.done")] == [owner.email]
    versions = owner.history.count()
    owner.refresh_from_db()
    assert owner.last_login
    assert owner.history.count() == versions == 1  # coming in is no edit
    assert client.post("/admin/logout/")["Location"] == LOGIN
    assert not is_in(client)
    assert len(told("sign_out.done")) == 1


def test_next_leads_nowhere_else(client, owner):
    for place in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "http:///x"):
        client.logout()
        assert client.post(LOGIN, {"login": owner.email, "password": PASSWORD, "next": place})["Location"] == "/admin/"
    client.logout()
    given = {"login": owner.email, "password": PASSWORD, "next": "/admin/tenants/apikey/?q=1"}
    assert client.post(LOGIN, given)["Location"] == "/admin/tenants/apikey/?q=1"


def test_sign_in_and_out_need_the_token_against_forgery(owner):
    client = Client(enforce_csrf_checks=True)
    assert come_in(client).status_code == 403
    client.force_login(owner)
    assert client.post("/account/logout/").status_code == 403
    assert client.get("/account/logout/").status_code == 405
    assert is_in(client)


def test_what_is_not_needed_of_allauth_does_not_exist(client, db):
    for place in ("signup/", "email/", "confirm-email/", "login/code/", "phone/change/", "2fa/webauthn/", "3rdparty/"):
        assert client.get(f"/account/{place}").status_code == 404, place
    assert client.get("/account/oidc/oidc/login/").status_code == 404
    assert client.get("/account/oidc/oidc/login/callback/").status_code == 404


def test_every_refusal_reads_the_same(client, owner):
    Operator.objects.create_user("idle@example.com", PASSWORD, is_active=False)
    pages = [come_in(client, *who) for who in ((owner.email, "wrong"), ("nobody@example.com",), ("idle@example.com",))]
    texts = {re.search(r'role="alert">(.*?)</div>', page.content.decode(), re.S).group(1).strip() for page in pages}
    assert len(texts) == 1
    assert {page.status_code for page in pages} == {200}
    assert [event.actor for event in told("sign_in.refused")] == [
        "idle@example.com",
        "nobody@example.com",
        owner.email,
    ]


def test_who_may_not_use_the_console_is_told_after_the_password(client, owner):
    Operator.objects.filter(pk=owner.pk).update(is_staff=False)
    assert "wrong" in come_in(client, password="wrong").content.decode()
    answer = client.post(LOGIN, {"login": owner.email, "password": PASSWORD}, follow=True)
    assert "may not use the console" in answer.content.decode()
    assert not is_in(client)
    client.force_login(owner)
    assert client.get("/admin/login/").status_code == 403  # and no loop of redirects


# --- Lock-out ------------------------------------------------------------------------------------------------------


def test_too_many_refusals_lock_the_pair_for_console_and_api(client, anonymous, owner, settings):
    settings.AXES_FAILURE_LIMIT = 3
    for _ in range(3):
        come_in(client, password="wrong")
    assert come_in(client).status_code == 200
    assert not is_in(client)
    answer = anonymous.post("auth/login", {"email": owner.email, "password": PASSWORD})
    assert (answer.status_code, code_in(answer)) == (401, "SIGN_IN_REFUSED")
    assert len(told("sign_in.locked")) == 1
    elsewhere = Client(REMOTE_ADDR="203.0.113.7")
    assert come_in(elsewhere).status_code == 302  # who guesses from one place locks nobody out at another
    AccessAttempt.objects.all().delete()
    assert come_in(client).status_code == 302


def test_refusals_of_the_api_count_too(client, anonymous, owner, settings):
    settings.AXES_FAILURE_LIMIT = 3
    for _ in range(3):
        anonymous.post("auth/login", {"email": owner.email, "password": "wrong"})
    assert come_in(client).status_code == 200
    assert not is_in(client)


def test_one_network_of_ipv6_is_one_place(owner, settings):
    settings.AXES_FAILURE_LIMIT = 3
    for number in range(3):
        come_in(Client(REMOTE_ADDR=f"2001:db8:1:1::{number}"), password="wrong")
    assert come_in(Client(REMOTE_ADDR="2001:db8:1:1::99")).status_code == 200
    assert come_in(Client(REMOTE_ADDR="2001:db8:1:2::99")).status_code == 302


def test_no_password_is_kept_of_a_refusal(client, owner):
    come_in(client, password="a secret typed wrong")
    row = AccessAttempt.objects.get()
    assert "a secret" not in f"{row.post_data} {row.get_data}"
    assert "a secret" not in str(list(AuditEvent.objects.values()))


# --- The second factor ---------------------------------------------------------------------------------------------


def test_a_code_is_asked_for_and_works_once(client, owner):
    secret = with_second_factor(owner)
    assert come_in(client)["Location"] == "/account/2fa/authenticate/"
    assert not is_in(client)
    code = code_of(secret)
    assert client.post("/account/2fa/authenticate/", {"code": "000000"}).status_code == 200
    assert client.post("/account/2fa/authenticate/", {"code": code})["Location"] == "/admin/"
    assert is_in(client)
    other = Client()
    come_in(other)
    assert other.post("/account/2fa/authenticate/", {"code": code}).status_code == 200
    assert not is_in(other)
    assert other.post("/account/2fa/authenticate/", {"code": code_of(secret, 1)}).status_code == 302


def test_a_recovery_code_works_once(client, owner):
    with_second_factor(owner)
    codes = RecoveryCodes(Authenticator.objects.get(user=owner, type="recovery_codes")).get_unused_codes()
    come_in(client)
    assert client.post("/account/2fa/authenticate/", {"code": codes[0]}).status_code == 302
    other = Client()
    come_in(other)
    assert other.post("/account/2fa/authenticate/", {"code": codes[0]}).status_code == 200
    assert second_factor.recovery_codes_left(owner) == 9
    assert len(told("second_factor.recovery_code")) == 1


def test_guessing_codes_ends_from_wherever_they_come(owner, settings):
    secret = with_second_factor(owner)
    for _ in range(second_factor.FAILURES_MAX):
        assert second_factor.verify_code(operator=owner, code="000000") is second_factor.Check.WRONG
    assert second_factor.verify_code(operator=owner, code=code_of(secret)) is second_factor.Check.LOCKED


def test_secrets_of_the_second_factor_are_encrypted(owner):
    secret = with_second_factor(owner)
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored
    assert second_factor.verify_code(operator=owner, code=code_of(secret))


def test_second_factors_come_under_a_new_key(owner, settings):
    secret = with_second_factor(owner)
    old = dict(settings.ENCRYPTION_KEYS)
    settings.ENCRYPTION_KEYS = {9: b"n" * 32, **old}
    call_command("rotate_encryption", verbosity=0, stdout=StringIO())
    settings.ENCRYPTION_KEYS = {9: b"n" * 32}
    assert second_factor.recovery_codes_left(owner) == 10
    assert second_factor.verify_code(operator=owner, code=code_of(secret))


def test_the_api_asks_for_the_code_too(anonymous, owner):
    secret = with_second_factor(owner)
    given = {"email": owner.email, "password": PASSWORD}
    answer = anonymous.post("auth/login", given)
    assert (answer.status_code, code_in(answer)) == (401, "MFA_REQUIRED")
    answer = anonymous.post("auth/login", given | {"code": "000000"})
    assert (answer.status_code, code_in(answer)) == (401, "MFA_REFUSED")
    code = code_of(secret)
    assert anonymous.post("auth/login", given | {"code": code}).status_code == 200
    assert code_in(anonymous.post("auth/login", given | {"code": code})) == "MFA_REFUSED"
    wrong = anonymous.post("auth/login", given | {"password": "wrong", "code": code})
    assert code_in(wrong) == "SIGN_IN_REFUSED"  # nobody learns of a second factor without the password


def test_what_the_api_is_told_of_a_second_factor_is_in_the_audit_log(anonymous, owner):
    with_second_factor(owner)
    [code, *_others] = RecoveryCodes(Authenticator.objects.get(user=owner, type="recovery_codes")).get_unused_codes()
    given = {"email": owner.email, "password": PASSWORD}
    assert anonymous.post("auth/login", given | {"code": code}).status_code == 200
    assert [event.actor for event in told("second_factor.recovery_code")] == [owner.email]
    for _ in range(second_factor.FAILURES_MAX):
        second_factor.verify_code(operator=owner, code="000000")
    assert code_in(anonymous.post("auth/login", given | {"code": "000000"})) == "MFA_REFUSED"
    assert told("sign_in.refused")[-1].details == {"of": "second factor locked"}
    assert anonymous.post("auth/password-reset", {"email": owner.email}).status_code == 202
    assert [event.actor for event in told("password.link_asked")] == [owner.email]


def test_who_came_in_before_there_was_a_second_factor_is_out(
    client, anonymous, owner, django_capture_on_commit_callbacks
):
    given = {"email": owner.email, "password": PASSWORD}
    refresh = anonymous.post("auth/login", given).json()["data"]["refresh"]
    thief = Client()
    come_in(thief)
    come_in(client)
    page = client.get("/account/2fa/totp/activate/")
    secret = re.search(r'id="totp-secret">(\w+)<', page.content.decode()).group(1)
    with django_capture_on_commit_callbacks(execute=True):
        assert client.post("/account/2fa/totp/activate/", {"code": code_of(secret)}).status_code == 302
    assert is_in(client)
    assert not is_in(thief)
    assert anonymous.post("auth/refresh", {"refresh": refresh}).status_code == 401


@pytest.mark.parametrize("by", ["platform", "application"])
def test_who_must_have_a_second_factor_sees_nothing_before(client, anonymous, owner, application, settings, by):
    if by == "platform":
        settings.REQUIRE_SECOND_FACTOR = ["owner"]
    else:
        application_update(application=application, settings={"require_second_factor": ["owner"]})
    come_in(client)
    for place in ("/admin/", "/admin/tenants/application/", "/account/", "/account/sessions/", "/account/security/"):
        assert client.get(place)["Location"] == "/account/2fa/totp/activate/", place
    answer = anonymous.post("auth/login", {"email": owner.email, "password": PASSWORD})
    assert (answer.status_code, code_in(answer)) == (401, "MFA_SETUP_NEEDED")
    page = client.get("/account/2fa/totp/activate/")
    secret = re.search(r'id="totp-secret">(\w+)<', page.content.decode()).group(1)
    assert client.post("/account/2fa/totp/activate/", {"code": code_of(secret)}).status_code == 302
    assert is_in(client)
    assert client.post("/account/2fa/totp/deactivate/")["Location"] == "/account/security/"
    assert second_factor.has_second_factor(owner)


def test_a_superuser_is_held_to_the_rules_of_roles_they_have(client, owner, settings):
    settings.REQUIRE_SECOND_FACTOR = ["owner"]
    Operator.objects.filter(pk=owner.pk).update(is_superuser=True)
    come_in(client)
    assert client.get("/admin/")["Location"] == "/account/2fa/totp/activate/"


def test_the_rules_hold_below_a_servers_prefix(client, owner, settings):
    settings.REQUIRE_SECOND_FACTOR = ["owner"]
    come_in(client)
    answer = client.get("/admin/", SCRIPT_NAME="/signal")
    assert answer.status_code == 302
    assert answer["Location"].endswith("/account/2fa/totp/activate/")
    settings.CONSOLE_NETWORKS = ["10.0.0.0/8"]
    assert client.get("/admin/", SCRIPT_NAME="/signal").status_code == 403


def test_who_has_been_here_for_long_shows_again_that_it_is_them(client, owner, settings):
    come_in(client)
    settings.ACCOUNT_REAUTHENTICATION_TIMEOUT = 0
    answer = client.get("/account/2fa/totp/activate/")
    assert answer["Location"].startswith("/account/reauthenticate/")
    assert "wrong" in client.post(answer["Location"], {"password": "no"}).content.decode()
    settings.ACCOUNT_REAUTHENTICATION_TIMEOUT = 600
    assert client.post(answer["Location"], {"password": PASSWORD})["Location"] == "/account/2fa/totp/activate/"


# --- Sessions ------------------------------------------------------------------------------------------------------


def test_a_session_ends_when_nobody_is_there_and_in_any_case(client, owner, settings):
    come_in(client)
    assert is_in(client)
    session = client.session
    session["console_seen"] -= settings.CONSOLE_IDLE_MINUTES * 60 + 1
    session.save()
    assert client.get("/admin/")["Location"] == f"{LOGIN}?next=/admin/"
    come_in(client)
    assert is_in(client)
    session = client.session
    session["console_began"] -= settings.CONSOLE_SESSION_HOURS * 3_600 + 1
    session.save()
    assert not is_in(client)
    assert [event.details for event in told("sign_out.expired")] == [{"idle": False}, {"idle": True}]


def test_a_page_that_asks_by_itself_keeps_no_session_alive(client, owner, settings):
    come_in(client)
    assert is_in(client)
    session = client.session
    session["console_seen"] = seen = session["console_seen"] - 120
    session.save()
    client.get("/admin/", headers={"hx-request": "true"})
    assert client.session["console_seen"] == seen
    client.get("/admin/")
    assert client.session["console_seen"] > seen
    session = client.session
    session["console_seen"] -= settings.CONSOLE_IDLE_MINUTES * 60 + 1
    session.save()
    assert client.get("/admin/", headers={"hx-request": "true"})["HX-Redirect"] == LOGIN


def test_one_session_is_ended_from_another(owner):
    first, second = Client(), Client(HTTP_USER_AGENT="Mozilla/5.0 (iPhone) Safari/600", REMOTE_ADDR="203.0.113.5")
    come_in(first)
    come_in(second)
    page = first.get("/account/sessions/").content.decode()
    assert "Safari on iOS" in page
    assert "203.0.113.5" in page
    row = UserSession.objects.get(ip="203.0.113.5")
    first.post("/account/sessions/", {"end": str(row.pk)})
    assert is_in(first)
    assert not is_in(second)
    stranger = operator_create(email="other@example.com", password=PASSWORD)
    third = Client()
    come_in(third, stranger.email)
    mine = UserSession.objects.get(user=owner)
    third.post("/account/sessions/", {"end": str(mine.pk)})
    assert is_in(first)


def test_signing_out_everywhere_takes_the_tokens_too(owner):
    first, second = Client(), Client()
    come_in(first)
    come_in(second)
    api = ApiClient("")
    refresh = api.post("auth/login", {"email": owner.email, "password": PASSWORD}).json()["data"]["refresh"]
    assert first.post("/account/sessions/", {"end": "all"})["Location"] == LOGIN
    assert not is_in(first)
    assert not is_in(second)
    assert api.post("auth/refresh", {"refresh": refresh}).status_code == 401


def test_a_change_of_password_ends_all_other_sessions(owner):
    first, second = Client(), Client()
    come_in(first)
    come_in(second)
    new = "another quite long pass phrase"
    wrong = {"password": "no", "password1": new, "password2": new}
    assert first.post("/account/password/change/", wrong).status_code == 200
    assert first.post("/account/password/change/", wrong | {"password": PASSWORD}).status_code == 302
    assert is_in(first)
    assert not is_in(second)
    assert UserSession.objects.filter(user=owner).count() == 1
    assert len(told("password.change")) == 1


def test_a_session_that_has_changed_the_password_can_be_ended_at_once(owner):
    first, second = Client(), Client()
    come_in(first)
    new = "another quite long pass phrase"
    given = {"password": PASSWORD, "password1": new, "password2": new}
    assert first.post("/account/password/change/", given).status_code == 302
    come_in(second, password=new)
    second.post("/account/sessions/", {"end": "others"})
    assert is_in(second)
    assert not is_in(first)


def test_who_is_deactivated_is_out_at_once(client, owner):
    come_in(client)
    Operator.objects.filter(pk=owner.pk).update(is_active=False)
    assert not is_in(client)


# --- Networks ------------------------------------------------------------------------------------------------------


def test_the_console_is_closed_to_other_networks(client, owner, settings):
    console = sign_in(owner.email)
    settings.CONSOLE_NETWORKS = ["203.0.113.0/24"]
    answer = client.get(LOGIN)
    assert answer.status_code == 403
    assert "127.0.0.1" in answer.content.decode()
    inside = Client(REMOTE_ADDR="203.0.113.9")
    assert come_in(inside).status_code == 302
    assert code_in(console.get("me")) == "ADDRESS_NOT_ALLOWED"


def test_an_application_is_not_there_from_outside_of_its_networks(client, owner, application, other_application):
    membership_set(operator=owner, application=other_application, role=Role.OWNER)
    console = sign_in(owner.email, **{"x-application-id": str(application.pk)})
    application_update(application=application, settings={"console_networks": ["203.0.113.0/24"]})
    come_in(client)
    listed = client.get("/admin/tenants/application/").content.decode()
    assert "Not to be managed from your address, 127.0.0.1: Shop" in listed
    assert str(other_application.pk) in listed
    assert str(application.pk) not in listed
    assert client.get(f"/admin/tenants/application/{application.pk}/change/").status_code in (302, 404)
    assert "Not from your address" in client.get("/account/").content.decode()
    inside = Client(REMOTE_ADDR="203.0.113.9")
    come_in(inside)
    assert inside.get(f"/admin/tenants/application/{application.pk}/change/").status_code == 200
    assert code_in(console.get("application")) == "ADDRESS_NOT_ALLOWED"


def test_nobody_shuts_themselves_out(application, console):
    with pytest.raises(ValidationFailed, match="shut you out"):
        application_update(
            application=application, settings={"console_networks": ["203.0.113.0/24"]}, from_address="198.51.100.1"
        )
    answer = console.patch("application", {"settings": {"console_networks": ["203.0.113.0/24"]}})
    assert answer.status_code == 400
    assert console.patch("application", {"settings": {"console_networks": ["127.0.0.0/8"]}}).status_code == 200
    with pytest.raises(ValidationFailed) as refused:
        application_update(application=application, settings={"console_networks": ["nonsense"]})
    assert [problem.field for problem in refused.value.details] == ["settings.console_networks.0"]


# --- One's own account ---------------------------------------------------------------------------------------------


def test_language_and_clock_are_ones_own(client, owner):
    come_in(client)
    given = {"name": "Olga", "language": "ko", "time_zone": "Asia/Seoul"}
    assert client.post("/account/", given).status_code == 302
    page = client.get("/account/sessions/")
    assert 'lang="ko"' in page.content.decode()
    session = UserSession.objects.get(user=owner)
    assert f"{session.created_at.isoformat()}" in page.content.decode().replace("&#x2B;", "+")
    client.cookies["django_language"] = "en"
    assert 'lang="en"' in client.get("/account/").content.decode()
    assert client.post("/account/", given | {"time_zone": "Moon/Sea"}).status_code == 200
    changes = told("account.change")[0].changes
    assert changes == {"language": ["", "ko"], "time_zone": ["", "Asia/Seoul"]}


# --- Passwords by e-mail -------------------------------------------------------------------------------------------


def test_asking_for_a_password_link_tells_nothing(client, owner):
    answers = [client.post("/account/password/reset/", {"email": who}) for who in (owner.email, "no@example.com")]
    assert {answer.status_code for answer in answers} == {200}
    texts = [re.sub(r'value="\w{64}"', "", answer.content.decode()) for answer in answers]
    assert texts[0] == texts[1]


def test_one_place_asks_for_so_many_links_with_whatever_addresses(client, owner, settings):
    settings.API_RATE_PER_MINUTE = settings.API_RATE_PER_MINUTE | {"anonymous": 2}
    for number in range(4):
        page = client.post("/account/password/reset/", {"email": f"{number}@example.com"}).content.decode()
    assert "Too many attempts" in page
    assert len(told("password.link_asked")) == 2


def test_one_network_tries_so_many_addresses(client, owner, settings):
    settings.API_RATE_PER_MINUTE = settings.API_RATE_PER_MINUTE | {"anonymous": 2}
    for number in range(4):
        page = come_in(client, f"{number}@example.com", REMOTE_ADDR=f"2001:db8::{number}").content.decode()
    assert "Too many attempts" in page


def test_the_password_page_has_no_script_in_itself(client, db):
    page = client.get("/account/password").content.decode()
    assert "account/password.js" in page
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>\s*\S", page)


# --- Invitations ---------------------------------------------------------------------------------------------------


def invited_link(application, by, email="new@example.com", role="marketer") -> str:
    row = invitation_create(application=application, email=email, role=role, by=by, name="New")
    assert invitation_send(invitation_id=row.pk)
    return re.search(r"/account/invitation/[\w-]+/", mail.outbox[-1].body).group()


ACCEPT = {"name": "New One", "password1": PASSWORD, "password2": PASSWORD, "time_zone": ""}


def test_an_invitation_is_accepted_once(client, owner, application):
    link = invited_link(application, owner)
    assert "http://localhost:8000/account/" in mail.outbox[-1].body  # PUBLIC_URL, and no request's host
    assert client.get(link)["Location"] == "/account/invitation/"
    weak = ACCEPT | {"password1": "12345678", "password2": "12345678"}
    assert client.post("/account/invitation/", weak).status_code == 200
    assert client.post("/account/invitation/", ACCEPT)["Location"] == "/admin/"
    assert is_in(client)
    member = Membership.objects.get(operator__email="new@example.com")
    assert (member.application_id, member.role, member.operator.is_superuser) == (application.pk, "marketer", False)
    assert Client().get(link).status_code == 404
    assert client.post("/account/invitation/", ACCEPT).status_code == 404
    assert [event.application_id for event in told("invitation.accept")] == [application.pk]


def test_links_of_old_revoked_and_sent_again_invitations_open_nothing(client, owner, application, settings):
    from datetime import timedelta

    from apps.tenants.accounts.invitations import invitation_resend, invitation_revoke

    first = invited_link(application, owner)
    row = Invitation.objects.get()
    with pytest.raises(SignalError, match="Wait a minute"):
        invitation_resend(invitation=row, by=owner)
    Invitation.objects.update(asked_at=row.asked_at - timedelta(minutes=2))
    invitation_resend(invitation=row, by=owner)
    invitation_send(invitation_id=row.pk)
    second = re.search(r"/account/invitation/[\w-]+/", mail.outbox[-1].body).group()
    assert client.get(first).status_code == 404
    assert client.get(second).status_code == 302
    Invitation.objects.update(expires_at=row.asked_at)
    assert client.get("/account/invitation/").status_code == 404
    Invitation.objects.update(expires_at=row.asked_at + timedelta(days=7))
    invitation_revoke(invitation=row)
    assert client.get(second).status_code == 404
    assert client.get("/account/invitation/nonsense/").status_code == 404


@pytest.mark.parametrize("how", ["removed", "no owner any more"])
def test_an_owner_who_is_let_go_comes_back_by_no_link(client, owner, application, how):
    other = operator_create(email="other@example.com", password=PASSWORD)
    row = membership_set(operator=other, application=application, role=Role.OWNER)
    theirs = invited_link(application, other, email="private@example.com", role="owner")
    kept = invited_link(application, owner)
    if how == "removed":
        membership_remove(membership=row)
    else:
        membership_set(operator=other, application=application, role=Role.ANALYST)
    assert client.get(theirs).status_code == 404
    assert client.get(kept).status_code == 302


def test_who_is_an_operator_already_accepts_as_themselves(client, owner, application, other_application):
    boss = operator_create(email="boss@example.com", password=PASSWORD)
    membership_set(operator=boss, application=other_application, role=Role.OWNER)
    link = invited_link(other_application, boss, email="Owner@example.com", role="support")
    shown = Client()
    come_in(shown, boss.email)
    row = Invitation.objects.get()
    page = shown.get(f"/admin/tenants/invitation/{row.pk}/change/").content.decode()
    assert "Olga" not in page  # who invites learns nothing of the address
    client.get(link)
    assert "Sign in" in client.get("/account/invitation/").content.decode()
    assert client.post("/account/invitation/", ACCEPT).status_code == 200
    owner.refresh_from_db()
    assert owner.check_password(PASSWORD)
    stranger = Client()
    stranger.get(link)
    come_in(stranger, boss.email)
    assert "somebody else" in stranger.get("/account/invitation/").content.decode()
    stranger.post("/account/invitation/")
    assert not Membership.objects.filter(operator=owner, application=other_application).exists()
    client.post(LOGIN, {"login": owner.email, "password": PASSWORD, "next": "/account/invitation/"})
    assert client.post("/account/invitation/")["Location"] == "/admin/"
    assert Membership.objects.get(operator=owner, application=other_application).role == "support"


def test_an_owner_invites_into_their_own_application_only(client, owner, application, other_application):
    come_in(client)
    given = {"email": "a@example.com", "name": "", "role": "owner", "application": str(other_application.pk)}
    assert client.post("/admin/tenants/invitation/add/", given).status_code == 200
    assert not Invitation.objects.exists()
    given["application"] = str(application.pk)
    assert client.post("/admin/tenants/invitation/add/", given | {"is_superuser": "on"}).status_code == 302
    assert Invitation.objects.get().email == "a@example.com"
    again = client.post("/admin/tenants/invitation/add/", given | {"email": owner.email})
    assert "is a member of this application already" in again.content.decode()


# --- Rights over others --------------------------------------------------------------------------------------------


def test_an_owner_resets_a_second_factor_only_of_who_is_theirs_alone(client, owner, application, other_application):
    member = operator_create(email="member@example.com", password=PASSWORD)
    row = membership_set(operator=member, application=application, role=Role.ANALYST)
    with_second_factor(member)
    come_in(client)
    place = f"/admin/tenants/membership/{row.pk}/do/reset_second_factor/"
    elsewhere = membership_set(operator=member, application=other_application, role=Role.ANALYST)
    client.post(place)
    assert second_factor.has_second_factor(member)
    elsewhere.delete()
    Operator.objects.filter(pk=member.pk).update(is_superuser=True)
    client.post(place)
    assert second_factor.has_second_factor(member)
    Operator.objects.filter(pk=member.pk).update(is_superuser=False)
    client.post(place)
    assert not second_factor.has_second_factor(member)
    assert [event.actor for event in told("membership.reset_second_factor")] == [owner.email]


def test_nobody_is_rid_of_their_own_second_factor_by_a_button(client, owner, application):
    secret = with_second_factor(owner)
    come_in(client)
    client.post("/account/2fa/authenticate/", {"code": code_of(secret)})
    row = Membership.objects.get(operator=owner)
    answer = client.post(f"/admin/tenants/membership/{row.pk}/do/reset_second_factor/", follow=True)
    assert "on the page of your account" in answer.content.decode()
    Operator.objects.filter(pk=owner.pk).update(is_superuser=True)
    client.post(f"/admin/tenants/operator/{owner.pk}/do/reset_second_factor/")
    assert second_factor.has_second_factor(owner)


@pytest.mark.parametrize("button", ["end_sign_ins", "unlink_single_sign_on"])
def test_who_ends_their_own_sign_ins_is_led_to_the_door(client, db, button):
    root = Operator.objects.create_superuser("root@example.com", PASSWORD)
    come_in(client, root.email)
    answer = client.post(f"/admin/tenants/operator/{root.pk}/do/{button}/", follow=True)
    assert answer.status_code == 200
    assert answer.redirect_chain[-1][0].startswith(LOGIN)
    assert [event.actor for event in told(f"operator.{button}")] == [root.email]


def test_nobody_sets_their_own_password_without_the_old_one(client, db):
    root = Operator.objects.create_superuser("root@example.com", PASSWORD)
    come_in(client, root.email)
    given = {"password1": "another quite long pass phrase", "password2": "another quite long pass phrase"}
    answer = client.post(f"/admin/tenants/operator/{root.pk}/do/set_password/", given)
    assert "on the page of your account" in answer.content.decode()
    root.refresh_from_db()
    assert root.check_password(PASSWORD)


def test_an_owner_cannot_make_himself_a_superuser(client, owner):
    come_in(client)
    client.post(f"/admin/tenants/operator/{owner.pk}/change/", {"is_superuser": "on", "name": "x"})
    client.post("/account/", {"name": "x", "language": "", "time_zone": "", "is_superuser": "on", "is_staff": "on"})
    owner.refresh_from_db()
    assert not owner.is_superuser
