"""The console's pages of operators, members, invitations and locked sign-ins."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from allauth.account.models import EmailAddress, EmailConfirmation
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from axes.models import AccessAttempt
from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.i18n import set_language
from unfold import widgets

from apps.tenants import services
from apps.tenants.accounts.forms import password_widget, text_widget
from apps.tenants.accounts.invitations import invitation_create, invitation_resend, invitation_revoke
from apps.tenants.accounts.models import Invitation, InvitationState
from apps.tenants.accounts.second_factor import (
    failures_forget,
    has_second_factor,
    must_have_second_factor,
    second_factor_remove,
)
from apps.tenants.accounts.sessions import browser_name, sessions_of
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import PlatformAdmin, ReadOnlyAdmin, ScopedAdmin, ScopedHistoryAdmin, search_by_name
from apps.tenants.console.formats import moment
from apps.tenants.console.list_links import ListLink, list_link_for
from apps.tenants.console.lists import ApplicationFilter
from apps.tenants.console.panels import Panel, admin_link, badge, list_address, table_panel
from apps.tenants.models import Membership, Operator, Role
from apps.tenants.scopes import ROLE_SCOPES, SCOPES
from apps.tenants.sign_in import end_all_sign_ins, operator_password_set
from automata_signal.errors import Forbidden, ValidationFailed

SETTINGS_READ, SETTINGS_WRITE = "settings:read", "settings:write"


def _operator_at(request: HttpRequest) -> Operator:
    assert isinstance(request.user, Operator)
    return request.user


# --- Operators -----------------------------------------------------------------------------------------------------


class PasswordsForm(forms.Form):
    password1 = forms.CharField(label=gettext_lazy("Password"), strip=False, widget=password_widget("new-password"))
    password2 = forms.CharField(
        label=gettext_lazy("Password, again"), strip=False, widget=password_widget("new-password")
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("password1") != cleaned.get("password2"):
            self.add_error("password2", _("The two passwords are not the same."))
        return cleaned


class NewOperatorForm(PasswordsForm, forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Operator
        fields = ("email", "name", "is_superuser")


@admin.register(Operator)
class OperatorAdmin(ScopedHistoryAdmin, PlatformAdmin):
    list_display = ("email", "name", "is_active", "is_superuser", "last_login", "created_at")
    list_filter = ("is_active", "is_superuser")
    may_delete = False
    readonly_fields = ("id", "email", "last_login", "created_at")
    fields = ("email", "name", "is_active", "is_staff", "is_superuser", "last_login", "created_at", "id")
    refusal_aliases = {"password": "password1"}
    row_actions = ("set_password", "end_sign_ins", "reset_second_factor", "unlink_single_sign_on", "unlock")

    def get_urls(self) -> list[Any]:
        # The sidebar's switch of language needs an address of the console; it is not about operators.
        return [path("language/", set_language, name="console_language"), *super().get_urls()]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewOperatorForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ("email", "name", "password1", "password2", "is_superuser")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ()

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "email", "name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Operator:
        return services.operator_create(
            email=cleaned["email"],
            password=cleaned["password1"],
            name=cleaned["name"],
            is_superuser=cleaned["is_superuser"],
            by=str(request.user),
        )

    def update(self, request: HttpRequest, row: Operator, changes: dict[str, Any]) -> Operator:
        """Not a lock-out by one's own hand; who is no longer active has no sign-in left."""
        for name in ("is_active", "is_staff", "is_superuser"):
            if row.pk == _operator_at(request).pk and changes.get(name) is False:
                raise ValidationFailed.of(name, _("You cannot take this from yourself."))
        row.save(update_fields=list(changes))
        if changes.get("is_active") is False or changes.get("is_staff") is False:
            end_all_sign_ins(row)
        return row

    @row_action(gettext_lazy("Set password"), scope="platform", icon="password", form=PasswordsForm)
    def set_password(self, request: HttpRequest, row: Operator, cleaned: dict[str, Any]) -> str:
        if row.pk == _operator_at(request).pk:  # there, the old one is asked for
            raise Forbidden(_("Your own password is changed on the page of your account."))
        operator_password_set(operator=row, password=cleaned["password1"], by=str(request.user))
        return _("The password is set; all sign-ins have ended.")

    @row_action(
        gettext_lazy("End sign-ins"),
        scope="platform",
        icon="logout",
        explain=gettext_lazy(
            "Every session at the console ends, and every refresh token; an access token lives 15 minutes at most."
        ),
    )
    def end_sign_ins(self, request: HttpRequest, row: Operator, cleaned: dict[str, Any]) -> str:
        end_all_sign_ins(row)
        _leave_if_oneself(request, row)
        return _("All sign-ins have ended.")

    @row_action(
        gettext_lazy("Reset second factor"),
        scope="platform",
        icon="phonelink_erase",
        variant="danger",
        explain=gettext_lazy("For who has lost the phone and the recovery codes. Be sure that it is them who ask."),
    )
    def reset_second_factor(self, request: HttpRequest, row: Operator, cleaned: dict[str, Any]) -> str:
        return _reset_second_factor(request, row)

    @row_action(
        gettext_lazy("Unlink single sign-on"),
        scope="platform",
        icon="link_off",
        explain=gettext_lazy("The account there is no longer theirs here; the next one with their address is linked."),
    )
    def unlink_single_sign_on(self, request: HttpRequest, row: Operator, cleaned: dict[str, Any]) -> str:
        SocialAccount.objects.filter(user=row).delete()
        end_all_sign_ins(row)
        _leave_if_oneself(request, row)
        return _("Nothing is linked any more.")

    @row_action(
        gettext_lazy("Unlock sign-in"),
        scope="platform",
        icon="lock_open",
        explain=gettext_lazy("What was counted of wrong passwords and codes is forgotten, wherever they came from."),
    )
    def unlock(self, request: HttpRequest, row: Operator, cleaned: dict[str, Any]) -> str:
        return _unlock(row)

    def panels(self, request: HttpRequest, row: Operator) -> list[Panel]:
        members = list(row.memberships.select_related("application").order_by("application__name")[:50])
        rows = [(admin_link("tenants.Membership", m.pk, m.application), m.get_role_display()) for m in members]
        must = _("must have one") if must_have_second_factor(row, members) else _("need not have one")
        factor = badge("success", _("on")) if has_second_factor(row) else badge("default", _("off"))
        linked = SocialAccount.objects.filter(user=row).exists()
        sessions = [(s.browser, s.address, moment(s.seen_at), moment(s.began_at)) for s in sessions_of(row, None)[:20]]
        return [
            table_panel(_("Roles"), (_("application"), _("role")), rows),
            table_panel(
                _("Sign-in"),
                (_("second factor"), _("by the rules"), _("single sign-on")),
                [(factor, must, _("linked") if linked else _("not linked"))],
                more=list_address("tenants.AuditEvent", q=row.email),
                more_label=_("What they did"),
            ),
            table_panel(_("Sessions"), (_("browser"), _("address"), _("last seen"), _("since")), sessions),
        ]


def _leave_if_oneself(request: HttpRequest, operator: Operator) -> None:
    """This session has ended too: nothing more is written to it, which would be a 400."""
    if operator.pk == _operator_at(request).pk:
        request.session.flush()


def _reset_second_factor(request: HttpRequest, operator: Operator) -> str:
    """Never one's own: an unattended screen would do to be rid of it, without the password or a code."""
    if operator.pk == _operator_at(request).pk:
        raise Forbidden(_("Your own second factor is changed on the page of your account."))
    if not second_factor_remove(operator=operator):
        return _("There was no second factor.")
    end_all_sign_ins(operator)
    return _("The second factor is gone, and all sign-ins have ended.")


def _unlock(operator: Operator) -> str:
    attempts_forget(operator.email)
    failures_forget(operator=operator)
    return _("They can sign in again.")


def attempts_forget(email: str) -> int:
    """Forget what was counted of an e-mail, wherever it came from."""
    return int(AccessAttempt.objects.filter(username=email.lower()).delete()[0])


# --- Members -------------------------------------------------------------------------------------------------------


@admin.register(Membership)
class MembershipAdmin(ScopedHistoryAdmin):
    """Members come by invitation. An owner helps who has lost a phone, if they are nobody's but this owner's."""

    read_scope, write_scope = SETTINGS_READ, SETTINGS_WRITE
    may_add = False
    list_display = ("operator", "application", "role", "created_at")
    list_select_related = ("operator", "application")
    list_filter = (ApplicationFilter, "role")
    readonly_fields = ("operator", "application", "may", "created_at")
    fields = ("operator", "application", "role", "may", "created_at")
    row_actions = ("reset_second_factor", "unlock")

    @admin.display(description=gettext_lazy("may"))
    def may(self, row: Membership) -> SafeString:
        return format_html_join("", "{}<br>", ((_(SCOPES[s]),) for s in SCOPES if s in ROLE_SCOPES[row.role]))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "operator__email", "operator__name", "application__name")

    def update(self, request: HttpRequest, row: Membership, changes: dict[str, Any]) -> Membership:
        role = changes.get("role", row.role)
        return services.membership_set(
            operator=row.operator, application=row.application, role=role, by=str(request.user)
        )

    def remove(self, request: HttpRequest, row: Membership) -> None:
        services.membership_remove(membership=row, by=str(request.user))

    @row_action(
        gettext_lazy("Reset second factor"),
        scope=SETTINGS_WRITE,
        icon="phonelink_erase",
        variant="danger",
        explain=gettext_lazy("For who has lost the phone and the recovery codes. Be sure that it is them who ask."),
    )
    def reset_second_factor(self, request: HttpRequest, row: Membership, cleaned: dict[str, Any]) -> str:
        _refuse_not_ones_own(request, row.operator)
        return _reset_second_factor(request, row.operator)

    @row_action(
        gettext_lazy("Unlock sign-in"),
        scope=SETTINGS_WRITE,
        icon="lock_open",
        explain=gettext_lazy("What was counted of wrong passwords and codes is forgotten, wherever they came from."),
    )
    def unlock(self, request: HttpRequest, row: Membership, cleaned: dict[str, Any]) -> str:
        _refuse_not_ones_own(request, row.operator)
        return _unlock(row.operator)


def _refuse_not_ones_own(request: HttpRequest, operator: Operator) -> None:
    """An owner may do so with a member of none but their own applications; where else they are is not said."""
    grants = grants_of(request)
    if grants.is_platform:
        return
    theirs = operator.memberships.values_list("application_id", flat=True)
    if operator.is_superuser or not all(grants.has(SETTINGS_WRITE, application_id) for application_id in theirs):
        raise Forbidden(_("Only who runs the platform can do this for this person."))


@list_link_for(Membership)
def _invite_link(request: HttpRequest) -> ListLink | None:
    if not grants_of(request).has(SETTINGS_WRITE, None):
        return None
    return ListLink(_("Invite somebody"), "person_add", reverse("admin:tenants_invitation_add"))


# --- Invitations ---------------------------------------------------------------------------------------------------


class InvitationForm(forms.ModelForm):  # type: ignore[type-arg]
    role = forms.ChoiceField(
        label=gettext_lazy("Role"),
        choices=Role.choices,
        widget=widgets.UnfoldAdminSelectWidget,
        initial=Role.MARKETER,
        help_text=gettext_lazy(
            "Owner: everything. Manager: everything but settings and keys. Marketer: campaigns, segments, templates. "
            "Analyst: reads and exports. Support: people and their messages."
        ),
    )

    class Meta:
        model = Invitation
        fields = ("application", "email", "name", "role")

    def _get_validation_exclusions(self) -> set[str]:
        return {*super()._get_validation_exclusions(), "application", "email"}  # type: ignore[misc]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "email" in self.fields:
            self.fields["email"].help_text = _("A link is sent there that works once, for %(days)s days.") % {
                "days": settings.INVITATION_DAYS
            }
        if "name" in self.fields:
            self.fields["name"].widget = text_widget()


_STATE_COLOURS = {"open": "info", "accepted": "success", "revoked": "default", "expired": "warning"}


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        return [(str(value), str(label)) for value, label in InvitationState.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        waiting = queryset.filter(accepted_at=None, revoked_at=None)
        now = timezone.now()
        found: dict[str, QuerySet[Any]] = {
            "open": waiting.filter(expires_at__gt=now),
            "expired": waiting.filter(expires_at__lte=now),
            "accepted": queryset.exclude(accepted_at=None),
            "revoked": queryset.exclude(revoked_at=None),
        }
        return found.get(self.value() or "")


def _is_waiting(row: Invitation) -> bool:
    return row.accepted_at is None and row.revoked_at is None


@admin.register(Invitation)
class InvitationAdmin(ScopedAdmin):
    read_scope, write_scope = SETTINGS_READ, SETTINGS_WRITE
    may_change = may_delete = False
    form = InvitationForm
    list_display = ("email", "application", "role_name", "state", "sent", "until", "invited_by")
    list_select_related = ("application", "invited_by")
    list_filter = (ApplicationFilter, StateFilter)
    row_actions = ("resend", "revoke")
    _shown = (
        "application",
        "email",
        "name",
        "role_name",
        "state",
        "invited_by",
        "created_at",
        "sent",
        "until",
        "accepted",
    )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self._shown if obj else InvitationForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self._shown if obj else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application", "invited_by").defer("digest")

    @admin.display(description=gettext_lazy("role"))
    def role_name(self, row: Invitation) -> str:
        return str(Role(row.role).label)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: Invitation) -> SafeString:
        return badge(_STATE_COLOURS[row.state], row.state.label)

    @admin.display(description=gettext_lazy("e-mail sent"))
    def sent(self, row: Invitation) -> SafeString | str:
        return moment(row.sent_at) if row.sent_at else _("not yet")

    @admin.display(description=gettext_lazy("works until"))
    def until(self, row: Invitation) -> SafeString | str:
        return moment(row.expires_at)

    @admin.display(description=gettext_lazy("accepted"))
    def accepted(self, row: Invitation) -> SafeString | str:
        return moment(row.accepted_at)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "email", "name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Invitation:
        return invitation_create(
            application=cleaned["application"],
            email=cleaned["email"],
            role=cleaned["role"],
            name=cleaned["name"],
            by=_operator_at(request),
            request=request,
        )

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """The service tells of it."""

    @row_action(
        gettext_lazy("Send again"),
        scope=SETTINGS_WRITE,
        icon="forward_to_inbox",
        explain=gettext_lazy("A new link is sent, and the one that was sent before ends."),
        is_offered=_is_waiting,
    )
    def resend(self, request: HttpRequest, row: Invitation, cleaned: dict[str, Any]) -> str:
        invitation_resend(invitation=row, by=_operator_at(request))
        return _("A new link is on its way.")

    @row_action(
        gettext_lazy("Revoke"),
        scope=SETTINGS_WRITE,
        icon="block",
        variant="danger",
        explain=gettext_lazy("The link that was sent opens nothing any more."),
        is_offered=_is_waiting,
    )
    def revoke(self, request: HttpRequest, row: Invitation, cleaned: dict[str, Any]) -> str:
        invitation_revoke(invitation=row)
        return _("The invitation is taken back.")


# --- Locked sign-ins -----------------------------------------------------------------------------------------------


class LockedSignInAdmin(ReadOnlyAdmin, PlatformAdmin):
    """E-mails that were refused, by address; of those with too many nothing is looked at for a while."""

    may_add = may_change = may_delete = False
    audit_area = "sign_in"
    ordering = ("-attempt_time",)
    list_display: Any = ("email", "address", "refusals", "state", "when", "browser")
    fields: ClassVar[Any] = ("email", "address", "refusals", "state", "when", "browser", "page")
    row_actions = ("unlock",)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.action_view)  # the key is a number
        return [path("<int:object_id>/do/<slug:name>/", view, name="axes_accessattempt_do"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("get_data", "post_data", "http_accept")

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        found = queryset.filter(username=term.lower())
        return found | queryset.filter(ip_address=term) if _is_address(term) else found

    @admin.display(description=gettext_lazy("e-mail"))
    def email(self, row: AccessAttempt) -> str:
        return row.username or "–"

    @admin.display(description=gettext_lazy("address"))
    def address(self, row: AccessAttempt) -> str:
        return row.ip_address or "–"

    @admin.display(description=gettext_lazy("at"))
    def page(self, row: AccessAttempt) -> str:
        return str(row.path_info)

    @admin.display(description=gettext_lazy("refusals"))
    def refusals(self, row: AccessAttempt) -> int:
        return int(row.failures_since_start)

    @admin.display(description=gettext_lazy("last"))
    def when(self, row: AccessAttempt) -> SafeString | str:
        return moment(row.attempt_time)

    @admin.display(description=gettext_lazy("browser"))
    def browser(self, row: AccessAttempt) -> str:
        return browser_name(row.user_agent)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: AccessAttempt) -> SafeString:
        is_old = row.attempt_time < timezone.now() - timedelta(minutes=settings.SIGN_IN_LOCK_MINUTES)
        if row.failures_since_start >= settings.AXES_FAILURE_LIMIT and not is_old:
            return badge("danger", _("locked"))
        return badge("default", _("over")) if is_old else badge("warning", _("counted"))

    @row_action(
        gettext_lazy("Unlock"),
        scope="platform",
        icon="lock_open",
        variant="primary",
        explain=gettext_lazy("What was counted of this e-mail is forgotten, wherever it came from."),
    )
    def unlock(self, request: HttpRequest, row: AccessAttempt, cleaned: dict[str, Any]) -> Any:
        from django.contrib import messages
        from django.shortcuts import redirect

        attempts_forget(row.username or "")
        messages.success(request, _("They can sign in again."))
        return redirect("admin:axes_accessattempt_changelist")


def _is_address(term: str) -> bool:
    from apps.tenants.accounts.backends import as_ip

    return as_ip(term) is not None


admin.site.register(AccessAttempt, LockedSignInAdmin)
for _model in (EmailAddress, EmailConfirmation, Authenticator, SocialAccount, SocialApp, SocialToken, UserSession):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)  # the account's own pages show what there is to see of them
