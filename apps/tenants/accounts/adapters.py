"""What django-allauth may do here: nobody signs up, nobody changes an address, and messages are ours."""

from __future__ import annotations

import base64
from typing import Any, NoReturn

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialLogin
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import Throttled

from apps.tenants.access import client_address
from apps.tenants.accounts.backends import as_ip
from apps.tenants.audit.services import audit
from apps.tenants.models import Operator
from apps.tenants.sign_in import limit_by_address, limit_by_email
from automata_signal.encryption import keyring
from automata_signal.errors import SignalError

CONSOLE_CLOSED = gettext_lazy("This account may not use the console.")


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": gettext_lazy("The e-mail address or the password is wrong."),
        "too_many_login_attempts": gettext_lazy("Too many attempts. Wait a moment and try again."),
        "incorrect_password": gettext_lazy("The password is wrong."),
        "incorrect_code": gettext_lazy("The code is wrong, or was used before."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        return as_ip(client_address(request)) or "0.0.0.0"  # noqa: S104, no address that is listened at

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """By e-mail as the API does, and by address; a Redis that is gone holds nobody up."""
        try:
            limit_by_address("sign_in", request)
            limit_by_email("sign_in", str(credentials.get("email", "")))
        except Throttled:
            raise self.validation_error("too_many_login_attempts") from None

    def reauthenticate(self, user: Operator, password: str) -> bool:
        found = self.authenticate(self.request, email=user.email, password=password)
        return found is not None and found.pk == user.pk

    def pre_login(self, request: HttpRequest, user: Operator, **kwargs: Any) -> HttpResponse | None:
        """Before a code is asked for. The password was right, so that more can be said."""
        if user.is_active and user.is_staff:
            return None
        audit("sign_in.refused", request=request, actor=user, details={"reason": "may not use the console"})
        messages.error(request, str(CONSOLE_CLOSED))
        return redirect("account_login")

    def respond_user_inactive(self, request: HttpRequest, user: Operator) -> HttpResponse:
        return redirect("account_login")

    def is_safe_url(self, url: str | None) -> bool:
        """Only what is on this host: `next` leads nowhere else."""
        return bool(url) and url_has_allowed_host_and_scheme(url, allowed_hosts=None)

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Who has just signed in need not do so again; who came by OpenID Connect has nothing to be asked for."""
        records = get_authentication_records(self.request, self.request.user)
        latest = max((record.get("at", 0) for record in records), default=0)
        if timezone.now().timestamp() - latest < settings.ACCOUNT_REAUTHENTICATION_TIMEOUT:
            return False
        return bool(self.get_reauthentication_methods(self.request.user))

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """allauth's own words are not shown; our pages say what there is to say."""

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        """No e-mail leaves by allauth: its links would be made of the request's host."""


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Secrets under the keys of `ENCRYPTION_KEYS`, as all that is secret at rest."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": gettext_lazy("The code is wrong, or was used before."),
    }

    def encrypt(self, text: str) -> str:
        return base64.b64encode(keyring().encrypt(text.encode())).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return keyring().decrypt(base64.b64decode(encrypted_text)).decode()


class OpenIdAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """OpenID Connect: in comes who is an operator already, or invited, by an e-mail that the issuer has verified."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Find the operator, or refuse. From then on the issuer's `sub` decides, whatever becomes of the address."""
        if sociallogin.state.get("process") != "login":
            self._refuse(request, "", "another process than sign-in")
        facts = sociallogin.account.extra_data or {}
        subjects = {str(part.get("sub")) for part in (facts.get("userinfo"), facts.get("id_token")) if part}
        if len(subjects) != 1:  # OpenID Connect Core 5.3.2: the two must be of one person
            self._refuse(request, "", "userinfo is of another subject")
        email = next((found.email.lower() for found in sociallogin.email_addresses if found.verified), "")
        sociallogin.account.extra_data = {}  # nothing is kept of what the issuer says of people
        sociallogin.email_addresses = []
        if sociallogin.is_existing:
            sociallogin.account.save(update_fields=["extra_data"])
            return
        if not email:
            self._refuse(request, "", "no verified e-mail address")
        operator = Operator.objects.filter(email=email).first() or self._invited(request, email)
        if operator is None:
            self._refuse(request, email, "no operator")
        if SocialAccount.objects.filter(user=operator, provider=sociallogin.account.provider).exists():
            self._refuse(request, email, "the operator is linked to another account there")
        sociallogin.connect(request, operator)
        audit("sign_in.linked", request=request, actor=operator, details={"by": settings.OIDC_NAME})

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, extra_context: Any = None
    ) -> None:
        reason = str(error or exception or "")[:200]
        self._refuse(request, "", reason)

    def _invited(self, request: HttpRequest, email: str) -> Operator | None:
        from apps.tenants.accounts.invitations import accept_by_verified_email

        try:
            return accept_by_verified_email(email=email, request=request)
        except SignalError as refusal:
            self._refuse(request, email, refusal.message)

    def _refuse(self, request: HttpRequest, email: str, reason: str) -> NoReturn:
        audit("sign_in.refused", request=request, actor=email or settings.OIDC_NAME, details={"reason": reason})
        messages.error(request, _("You could not be signed in with %(name)s.") % {"name": settings.OIDC_NAME})
        raise ImmediateHttpResponse(redirect("account_login"))
