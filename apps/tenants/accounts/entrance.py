"""The pages before the console: signing in and out, passwords by e-mail, invitations."""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.internal.flows.logout import logout
from allauth.account.views import LoginView, ReauthenticateView
from allauth.core.internal.httpkit import authenticated_user
from allauth.mfa.totp.views import DeactivateTOTPView
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login as django_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST
from rest_framework.exceptions import Throttled

from apps.tenants.access import too_many_guesses
from apps.tenants.accounts.forms import AcceptForm, ResetForm
from apps.tenants.accounts.invitations import (
    invitation_accept,
    invitation_accept_new,
    invitation_of,
    token_digest,
)
from apps.tenants.accounts.models import Invitation
from apps.tenants.accounts.second_factor import must_have_second_factor
from apps.tenants.audit.services import audit
from apps.tenants.console.forms import add_refusal
from apps.tenants.models import Operator, Role
from apps.tenants.sign_in import limit_by_address, password_reset_request
from automata_signal.errors import SignalError

INVITED = "console_invitation"
"""In the session: the digest of the link's token, in hex."""


class ConsoleLoginView(LoginView):  # type: ignore[misc]
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        query = urlencode({"next": next_url}) if (next_url := self.get_next_url()) else ""
        by_oidc = reverse("openid_connect_login", args=["oidc"]) if settings.OIDC_ISSUER else ""
        return {
            **super().get_context_data(**kwargs),
            "title": _("Sign in"),
            "oidc_address": f"{by_oidc}?{query}" if by_oidc and query else by_oidc,
            "oidc_name": settings.OIDC_NAME,
        }


login = ConsoleLoginView.as_view()
reauthenticate = ReauthenticateView.as_view()


@require_POST
def logout_view(request: HttpRequest) -> HttpResponse:
    logout(request)
    messages.success(request, _("You are signed out."))
    return redirect("account_login")


class ConsoleDeactivateView(DeactivateTOTPView):  # type: ignore[misc]
    """Not for who must have a second factor."""

    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and must_have_second_factor(authenticated_user(request)):
            text = _("Your role asks for a second factor. For a new phone, whoever runs the platform can reset it.")
            messages.error(request, text)
            return redirect("account_security")
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return answer


deactivate_totp = ConsoleDeactivateView.as_view()


# --- Passwords by e-mail -------------------------------------------------------------------------------------------


@never_cache
def password_page(request: HttpRequest) -> HttpResponse:
    """Where the link of the e-mail leads. What comes after `#` is read by the page's script, and sent to the API."""
    return render(request, "tenants/password.html", {"title": _("Choose a password")})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def password_reset(request: HttpRequest) -> HttpResponse:
    """Ask for an e-mail. The answer is the same for an address that nobody has."""
    form = ResetForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            limit_by_address("password_reset", request)
            password_reset_request(email=form.cleaned_data["email"])
        except Throttled:
            form.add_error(None, _("Too many attempts. Wait a moment and try again."))
        except SignalError as refusal:
            form.add_error(None, refusal.message)
        else:
            audit("password.link_asked", request=request, actor=form.cleaned_data["email"].lower())
            return render(request, "account/password_reset_sent.html", {"title": _("Look into your mailbox")})
    return render(request, "account/password_reset.html", {"title": _("Forgotten password"), "form": form})


# --- Invitations ---------------------------------------------------------------------------------------------------


@never_cache
def invitation_link(request: HttpRequest, token: str) -> HttpResponse:
    """The link of the e-mail. Its token moves into the session, so that no further address, log or referrer has it."""
    digest = token_digest(token)
    if invitation_of(digest) is None:
        return too_many_guesses(request) or _not_valid(request)
    request.session[INVITED] = digest.hex()
    return redirect("account_invitation")


@never_cache
@sensitive_post_parameters("password1", "password2")
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest) -> HttpResponse:
    """Accept: who is new gives name and password; who is an operator signs in first, as the one who is invited."""
    digest = bytes.fromhex(request.session.get(INVITED, ""))
    row = invitation_of(digest) if digest else None
    if row is None:
        return _not_valid(request)
    invited = Operator.objects.filter(email=row.email).first()
    if invited is None:
        return _accept_as_new(request, row, digest)
    if request.user == invited and request.method == "POST":
        return _accept_as_operator(request, digest, invited)
    context = {"title": _("Invitation"), "row": row, "role": Role(row.role).label, "is_theirs": request.user == invited}
    return render(request, "account/invitation.html", context)


def _accept_as_operator(request: HttpRequest, digest: bytes, operator: Operator) -> HttpResponse:
    try:
        membership = invitation_accept(digest=digest, operator=operator, request=request)
    except SignalError:
        return _not_valid(request)
    request.session.pop(INVITED, None)
    messages.success(request, _("You are a member of %(name)s now.") % {"name": membership.application.name})
    return redirect("admin:index")


def _accept_as_new(request: HttpRequest, row: Invitation, digest: bytes) -> HttpResponse:
    form = AcceptForm(request.POST or None, initial={"name": row.name})
    if request.method == "POST" and form.is_valid():
        cleaned = form.cleaned_data
        try:
            operator = invitation_accept_new(
                digest=digest,
                name=cleaned["name"],
                password=cleaned["password1"],
                language=(get_language() or "")[:2],
                time_zone=cleaned["time_zone"],
                request=request,
            )
        except SignalError as refusal:
            add_refusal(form, refusal, {"password": "password1"})
        else:
            request.session.flush()
            django_login(request, operator, backend=settings.AUTHENTICATION_BACKENDS[0])
            record_authentication(request, operator, method="password")
            audit("sign_in.done", request=request, actor=operator, details={"by": ["invitation"]})
            messages.success(request, _("Welcome to %(name)s.") % {"name": row.application.name})
            return redirect("admin:index")
    context = {
        "title": _("Invitation"),
        "row": row,
        "role": Role(row.role).label,
        "form": form,
        "oidc_address": reverse("openid_connect_login", args=["oidc"]) if settings.OIDC_ISSUER else "",
        "oidc_name": settings.OIDC_NAME,
    }
    return render(request, "account/invitation_new.html", context)


def _not_valid(request: HttpRequest) -> HttpResponse:
    return render(request, "account/invitation_invalid.html", {"title": _("Invitation")}, status=404)
