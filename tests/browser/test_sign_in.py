"""How somebody comes to the console: invited, with a password and a second factor; and how they are shown the door."""

from __future__ import annotations

import re
import time

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core import mail

from apps.tenants.accounts.models import Invitation
from apps.tenants.models import Operator
from apps.tenants.tasks import send_invitation
from tests.browser.conftest import PHONE, operator_of

PASSWORD = "correct horse battery staple"


def code_of(secret: str, ahead: int = 0) -> str:
    """What an authenticator app shows, `ahead` steps of 30 s from now."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + ahead))


def sign_in(console, email: str, password: str = PASSWORD) -> None:
    console.open("/account/login/")
    console.page.fill("#id_login", email)
    console.page.fill("#id_password", password)
    console.page.click("#login-form button[type=submit]")
    console.settle()


def test_from_an_invitation_to_a_second_factor_and_ones_sessions(browse, application):
    owner = browse("owner")
    page = owner.open("/admin/tenants/invitation/add/")
    page.select_option("#id_application", label=application.name)
    page.fill("#id_email", "Mina@Example.com")
    page.fill("#id_name", "Mina")
    page.select_option("#id_role", "marketer")
    owner.shot("sign-in-invite")
    page.click("[name=_save]")
    owner.settle()
    assert "/change/" in page.url, page.url
    owner.axe()
    owner.shot("sign-in-invitation")
    send_invitation(str(Invitation.objects.get().pk))  # as a worker does
    link = re.search(r"/account/invitation/[\w-]+/", mail.outbox[-1].body).group()

    mina = browse("")
    page = mina.open(link)
    assert page.url.endswith("/account/invitation/")  # the token is in no address any more
    assert page.input_value("#id_name") == "Mina"
    assert page.input_value("#id_time_zone") == "Asia/Seoul"
    page.fill("#id_password1", PASSWORD)
    page.fill("#id_password2", PASSWORD)
    mina.shot("sign-in-accept")
    mina.axe()
    page.click("button[type=submit]:has-text('Accept')")
    mina.settle()
    assert page.url.endswith("/admin/")
    assert Operator.objects.get(email="mina@example.com").time_zone == "Asia/Seoul"
    mina.open(link, status=404)

    page = mina.open("/account/2fa/totp/activate/")
    secret = page.text_content("#totp-secret").strip()
    mina.axe()
    mina.shot("sign-in-second-factor")
    page.fill("#id_code", code_of(secret))
    page.click("text=Turn it on")
    mina.settle()
    recovery = page.locator("#recovery-codes li").all_text_contents()
    assert len(recovery) == 10
    mina.shot("sign-in-recovery-codes")
    mina.axe()
    mina.open("/account/2fa/recovery-codes/")
    assert page.locator("#recovery-codes").count() == 0  # once

    mina.open("/account/")
    mina.axe()
    mina.shot("account-profile")
    mina.open("/account/security/")
    mina.axe()
    mina.shot("account-security")
    with page.expect_navigation():
        page.evaluate("document.querySelector('#logout-form').requestSubmit()")
    mina.settle()
    assert page.url.split("?")[0].endswith("/account/login/")

    sign_in(mina, "mina@example.com")
    assert page.url.endswith("/account/2fa/authenticate/")
    mina.axe()
    mina.shot("sign-in-code")
    page.fill("#id_code", "000000")
    page.click("text=Go on")
    assert page.locator("text=The code is wrong").count() == 1
    page.fill("#id_code", code_of(secret, 1))
    page.click("text=Go on")
    mina.settle()
    assert page.url.endswith("/admin/")

    phone = browse("", viewport=PHONE, color_scheme="dark")
    sign_in(phone, "mina@example.com")
    phone.fits()
    phone.page.fill("#id_code", recovery[0])
    phone.page.click("text=Go on")
    phone.settle()
    assert phone.page.url.endswith("/admin/")
    phone.open("/account/sessions/")
    phone.fits()
    phone.axe()
    phone.shot("account-sessions-phone-dark")

    page = mina.open("/account/sessions/")
    assert page.locator(".as-session").count() == 2
    mina.axe()
    mina.shot("account-sessions")
    page.click("button:has-text('End')")
    mina.settle()
    assert page.locator(".as-session").count() == 1
    phone.page.goto(f"{phone.base}/admin/")
    assert "/account/login/" in phone.page.url


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_door_in_both_languages_and_schemes(browse, language):
    for scheme, viewport in (("light", {"width": 1280, "height": 900}), ("dark", PHONE)):
        console = browse("", viewport=viewport, color_scheme=scheme)
        console.choose_language(language)
        console.open("/admin/")
        assert "/account/login/?next=/admin/" in console.page.url
        console.fits()
        console.axe()
        console.shot(f"sign-in-{language}-{scheme}")
        console.open("/account/password/reset/")
        console.axe()


def test_too_many_wrong_passwords_lock_and_an_operator_unlocks(browse, application, settings):
    settings.AXES_FAILURE_LIMIT = 3
    owner = operator_of("owner", application)
    owner.set_password(PASSWORD)
    owner.save()
    console = browse("")
    for _ in range(3):
        sign_in(console, owner.email, "wrong")
    words = console.page.text_content("[role=alert]")
    sign_in(console, owner.email)
    assert console.page.text_content("[role=alert]") == words  # the right password, and the same answer
    root = browse("root")
    page = root.open("/admin/axes/accessattempt/")
    root.axe()
    root.shot("locked-sign-ins")
    page.click("a:has-text('owner@example.com')")
    root.settle()
    page.click("text=Unlock")
    root.settle()
    page.click("button:has-text('Unlock')")
    root.settle()
    sign_in(console, owner.email)
    assert console.page.url.endswith("/admin/")
