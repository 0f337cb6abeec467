"""One's own account at the console: profile, password, second factor, sessions, and what one may do where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from apps.tenants.access import client_address
from apps.tenants.accounts.forms import ChangePasswordForm, ProfileForm
from apps.tenants.accounts.second_factor import has_second_factor, must_have_second_factor, recovery_codes_left
from apps.tenants.accounts.sessions import session_end, session_moved, sessions_end, sessions_of
from apps.tenants.audit.services import audit, changes_of
from apps.tenants.console.access import is_open_here, memberships_of
from apps.tenants.console.forms import add_refusal
from apps.tenants.models import Operator
from apps.tenants.sign_in import end_all_sign_ins, operator_password_set
from automata_signal.errors import SignalError

Page = Callable[..., HttpResponse]


def account_links(request: HttpRequest) -> list[dict[str, Any]]:
    """The menu behind one's name, for `UNFOLD`."""
    return [
        {"title": _("My account"), "link": reverse("account_profile")},
        {"title": _("Password and second factor"), "link": reverse("account_security")},
        {"title": _("My sessions"), "link": reverse("usersessions_list")},
    ]


def account_page(view: Page) -> Page:
    """Only for who may use the console; nothing of it is kept by a browser."""

    @login_required
    @never_cache
    @require_http_methods(["GET", "HEAD", "POST"])
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not isinstance(request.user, Operator) or not request.user.is_staff:
            raise PermissionDenied
        return view(request, request.user, *args, **kwargs)

    return page


def _render(request: HttpRequest, template: str, tab: str, title: str, **context: Any) -> HttpResponse:
    tabs = [
        ("profile", _("Profile"), reverse("account_profile")),
        ("security", _("Password and second factor"), reverse("account_security")),
        ("sessions", _("Sessions"), reverse("usersessions_list")),
    ]
    return render(request, template, {"title": title, "account_tab": tab, "account_tabs": tabs, **context})


@account_page
def profile(request: HttpRequest, operator: Operator) -> HttpResponse:
    before = {name: getattr(operator, name) for name in ProfileForm.Meta.fields}
    form = ProfileForm(request.POST or None, instance=operator)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            form.save()
            audit("account.change", request=request, row=operator, changes=changes_of(before, form.cleaned_data))
        answer = redirect("account_profile")
        if "language" in form.changed_data:  # what was chosen here counts from now on
            answer.delete_cookie(settings.LANGUAGE_COOKIE_NAME)
        messages.success(request, _("Saved."))
        return answer
    operator.refresh_from_db(fields=list(before))
    rows = [
        {
            "application": row.application,
            "role": row.get_role_display(),
            "is_open": is_open_here(request, row.application),
        }
        for row in memberships_of(request)
    ]
    return _render(
        request,
        "account/profile.html",
        "profile",
        _("My account"),
        form=form,
        operator=operator,
        rows=sorted(rows, key=lambda row: str(row["application"].name).lower()),
        address=client_address(request),
        now=timezone.now(),
    )


@account_page
def security(request: HttpRequest, operator: Operator) -> HttpResponse:
    has = has_second_factor(operator)
    return _render(
        request,
        "account/security.html",
        "security",
        _("Password and second factor"),
        operator=operator,
        has_second_factor=has,
        must_have=must_have_second_factor(operator, memberships_of(request)),
        codes_left=recovery_codes_left(operator) if has else None,
        has_password=operator.has_usable_password(),
    )


@account_page
def second_factor(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Where allauth leads after a change."""
    return redirect("account_security")


@sensitive_post_parameters()
@account_page
def password_change(request: HttpRequest, operator: Operator) -> HttpResponse:
    """With the password until now; everything that is signed in elsewhere ends."""
    if not operator.has_usable_password():
        raise Http404
    form = ChangePasswordForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if not _knows_password(request, operator, form.cleaned_data["password"]):
            form.add_error("password", _("The password is wrong."))
        else:
            try:
                operator_password_set(
                    operator=operator,
                    password=form.cleaned_data["password1"],
                    by=operator.email,
                    but=request.session.session_key,
                )
            except SignalError as refusal:
                add_refusal(form, refusal, {"password": "password1"})
            else:
                before = request.session.session_key
                update_session_auth_hash(request, operator)
                session_moved(before, request.session.session_key)
                audit("password.change", request=request)
                messages.success(request, _("The password is changed; you are signed out everywhere else."))
                return redirect("account_security")
    return _render(request, "account/password_change.html", "security", _("Change password"), form=form)


def _knows_password(request: HttpRequest, operator: Operator, password: str) -> bool:
    """By the same door as sign-in, so that guesses are counted."""
    from allauth.account.adapter import get_adapter
    from django.core.exceptions import ValidationError

    try:
        return bool(get_adapter(request).reauthenticate(operator, password))
    except ValidationError:
        return False


@account_page
def session_list(request: HttpRequest, operator: Operator) -> HttpResponse:
    current = request.session.session_key
    if request.method == "POST":
        return _end_sessions(request, operator, current)
    rows = sessions_of(operator, current)
    return _render(
        request,
        "usersessions/list.html",
        "sessions",
        _("My sessions"),
        rows=rows,
        others=sum(not row.is_this for row in rows),
        idle_minutes=settings.CONSOLE_IDLE_MINUTES,
        hours=settings.CONSOLE_SESSION_HOURS,
    )


def _end_sessions(request: HttpRequest, operator: Operator, current: str | None) -> HttpResponse:
    what = request.POST.get("end", "")
    if what == "others":
        end_all_sign_ins(operator, but=current)
        audit("session.end_all", request=request)
        messages.success(request, _("You are signed out everywhere else."))
    elif what == "all":
        audit("session.end_all", request=request)
        end_all_sign_ins(operator)
        sessions_end(operator=operator)
        request.session.flush()
        messages.success(request, _("You are signed out everywhere."))
        return redirect("account_login")
    elif what.isdecimal() and len(what) < 18 and session_end(operator=operator, session_id=int(what)):
        audit("session.end", request=request, details={"session": int(what)})
        messages.success(request, _("The session has ended."))
    else:
        messages.error(request, _("There is no such session any more."))
    return redirect("usersessions_list")
