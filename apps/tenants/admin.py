"""The console's pages of operators, applications, keys, credentials and roles; and of what Django's parts bring along.

Secrets go in and never come out: a key is shown once, in the answer to the request that made it; a credential's
secret is only replaced.
"""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from typing import Any, ClassVar
from zoneinfo import available_timezones

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.i18n import set_language
from django_celery_beat import admin as beat_admin
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from unfold import widgets

from apps.tenants import services
from apps.tenants.access import KEY_PREFIXES, key_digest
from apps.tenants.application_settings import SCHEMA
from apps.tenants.console import secret_forms
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import OWN, PlatformAdmin, ReadOnlyAdmin, ScopedAdmin, ScopedHistoryAdmin, search_by_name
from apps.tenants.console.lists import ApplicationFilter
from apps.tenants.console.panels import Panel, admin_link, badge, list_address, table_panel
from apps.tenants.console.secret_forms import SecretForm
from apps.tenants.models import (
    ApiKey,
    Application,
    ChannelCredential,
    IdempotencyRecord,
    Membership,
    Operator,
    Provider,
)
from apps.tenants.providers import secret_fields
from apps.tenants.scopes import ROLE_SCOPES, SCOPES
from apps.tenants.sign_in import end_all_sign_ins, operator_password_set
from automata_signal.encryption import DecryptionError
from automata_signal.errors import ValidationFailed

SETTINGS_READ, SETTINGS_WRITE = "settings:read", "settings:write"


def label_of(request: HttpRequest) -> str:
    """For history and audit: who did it."""
    return str(request.user)


def _text(**attrs: Any) -> Any:
    return widgets.UnfoldAdminTextInputWidget(attrs)


# --- Operators -----------------------------------------------------------------------------------------------------


class PasswordsForm(forms.Form):
    password1 = forms.CharField(label=gettext_lazy("Password"), strip=False, widget=widgets.UnfoldAdminPasswordWidget)
    password2 = forms.CharField(
        label=gettext_lazy("Password, again"), strip=False, widget=widgets.UnfoldAdminPasswordWidget
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
    row_actions = ("set_password", "end_sign_ins")

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
            by=label_of(request),
        )

    def update(self, request: HttpRequest, row: Operator, changes: dict[str, Any]) -> Operator:
        """Not a lock-out by one's own hand; who is no longer active has no sign-in left."""
        for name in ("is_active", "is_staff", "is_superuser"):
            if row.pk == request.user.pk and changes.get(name) is False:
                raise ValidationFailed.of(name, _("You cannot take this from yourself."))
        row.save(update_fields=list(changes))
        if changes.get("is_active") is False:
            end_all_sign_ins(row)
        return row

    @row_action(gettext_lazy("Set password"), scope="platform", icon="password", form=PasswordsForm)
    def set_password(self, request: HttpRequest, row: Operator, cleaned: dict[str, Any]) -> str:
        operator_password_set(operator=row, password=cleaned["password1"], by=label_of(request))
        return _("The password is set; all sign-ins by token have ended.")

    @row_action(
        gettext_lazy("End sign-ins"),
        scope="platform",
        icon="logout",
        explain=gettext_lazy("Every refresh token of this operator ends; an access token lives 15 minutes at most."),
    )
    def end_sign_ins(self, request: HttpRequest, row: Operator, cleaned: dict[str, Any]) -> str:
        end_all_sign_ins(row)
        return _("All sign-ins by token have ended.")

    def panels(self, request: HttpRequest, row: Operator) -> list[Panel]:
        members = row.memberships.select_related("application").order_by("application__name")[:50]
        rows = [(admin_link("tenants.Membership", m.pk, m.application), m.get_role_display()) for m in members]
        return [table_panel(_("Roles"), (_("application"), _("role")), rows)]


# --- Applications --------------------------------------------------------------------------------------------------


def settings_help() -> SafeString:
    """What may stand in the settings, from their schema."""
    entries = []
    for name, rule in SCHEMA["properties"].items():
        notes = [rule.get("description", "")]
        if "minimum" in rule:
            notes.append(f"{rule['minimum']:,}–{rule['maximum']:,}")
        if "default" in rule:
            notes.append(_("default %(value)s") % {"value": rule["default"]})
        notes += [f"{key} ({sub.get('type', 'one of several')})" for key, sub in rule.get("properties", {}).items()]
        entries.append((name, " · ".join(note for note in notes if note)))
    return format_html(
        "{}<ul>{}</ul>",
        _("A JSON object; what is left out has its default."),
        format_html_join("", '<li style="margin-top: 4px"><code>{}</code> {}</li>', entries),
    )


class ApplicationForm(forms.ModelForm):  # type: ignore[type-arg]
    time_zone = forms.ChoiceField(
        label=gettext_lazy("Time zone"),
        choices=lambda: [(name, name) for name in sorted(available_timezones())],
        widget=widgets.UnfoldAdminSelectWidget,
        initial="UTC",
    )

    class Meta:
        model = Application
        fields = ("name", "time_zone", "default_language", "is_active", "settings")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "settings" in self.fields:
            self.fields["settings"].help_text = settings_help()


@admin.register(Application)
class ApplicationAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = SETTINGS_READ, SETTINGS_WRITE
    application_path = OWN
    may_delete = False
    form = ApplicationForm
    list_display = ("name", "is_active", "time_zone", "default_language", "created_at")
    list_filter = ("is_active",)
    fields = ("name", "time_zone", "default_language", "is_active", "settings", "id", "created_at", "updated_at")
    readonly_fields = ("id", "created_at", "updated_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return grants_of(request).is_platform

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ("name", "time_zone", "default_language", "settings")

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Application:
        names = ("name", "time_zone", "default_language", "settings")
        return services.application_create(**{name: cleaned[name] for name in names}, by=label_of(request))

    def update(self, request: HttpRequest, row: Application, changes: dict[str, Any]) -> Application:
        return services.application_update(application=row, **changes, by=label_of(request))

    def panels(self, request: HttpRequest, row: Application) -> list[Panel]:
        members = row.memberships.select_related("operator").order_by("operator__email")[:50]
        keys = row.api_keys.order_by("-pk")[:20]
        credentials = ChannelCredential.objects.for_application(row).defer("secret")[:20]
        return [
            table_panel(
                _("Members"),
                (_("operator"), _("role"), _("since")),
                [
                    (admin_link("tenants.Membership", m.pk, m.operator), m.get_role_display(), m.created_at.date())
                    for m in members
                ],
                more=list_address("tenants.Membership", application=row.pk),
                note=None if members else _("Nobody yet: superusers only."),
            ),
            table_panel(
                _("API keys"),
                (_("key"), _("kind"), _("state"), _("last used")),
                [
                    (admin_link("tenants.ApiKey", k.pk, k), k.get_kind_display(), badge(*key_state(k)), k.last_used_at)
                    for k in keys
                ],
                more=list_address("tenants.ApiKey", application=row.pk),
            ),
            table_panel(
                _("Channel credentials"),
                (_("credential"), _("identity"), _("state")),
                [
                    (admin_link("tenants.ChannelCredential", c.pk, c), summary_text(c), badge(*credential_state(c)))
                    for c in credentials
                ],
                more=list_address("tenants.ChannelCredential", application=row.pk),
            ),
        ]


# --- Members -------------------------------------------------------------------------------------------------------


class InvitationForm(forms.ModelForm):  # type: ignore[type-arg]
    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        widget=widgets.UnfoldAdminEmailInputWidget,
        help_text=gettext_lazy("Who is new here gets a link to choose a password."),
    )
    name = forms.CharField(label=gettext_lazy("Name"), required=False, max_length=200, widget=_text())

    class Meta:
        model = Membership
        fields = ("application", "role")


@admin.register(Membership)
class MembershipAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = SETTINGS_READ, SETTINGS_WRITE
    list_display = ("operator", "application", "role", "created_at")
    list_select_related = ("operator", "application")
    list_filter = (ApplicationFilter, "role")
    readonly_fields = ("operator", "application", "may", "created_at")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = InvitationForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (
            ("operator", "application", "role", "may", "created_at")
            if obj
            else ("application", "email", "name", "role")
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ()

    @admin.display(description=gettext_lazy("may"))
    def may(self, row: Membership) -> SafeString:
        return format_html_join("", "{}<br>", ((SCOPES[s],) for s in SCOPES if s in ROLE_SCOPES[row.role]))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "operator__email", "operator__name", "application__name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Membership:
        return services.operator_invite(
            email=cleaned["email"],
            application=cleaned["application"],
            role=cleaned["role"],
            name=cleaned["name"],
            by=label_of(request),
        )

    def update(self, request: HttpRequest, row: Membership, changes: dict[str, Any]) -> Membership:
        role = changes.get("role", row.role)
        return services.membership_set(
            operator=row.operator, application=row.application, role=role, by=label_of(request)
        )

    def remove(self, request: HttpRequest, row: Membership) -> None:
        services.membership_remove(membership=row, by=label_of(request))


# --- Keys ----------------------------------------------------------------------------------------------------------


def key_state(key: ApiKey) -> tuple[str, Any]:
    if key.revoked_at:
        return "danger", _("revoked")
    if not key.is_usable:
        return "default", _("expired")
    if key.replaced_by_id:
        return "warning", _("rotated, works until %(when)s") % {"when": f"{key.expires_at:%Y-%m-%d %H:%M} UTC"}
    return "success", _("usable")


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("Scopes"),
        required=False,
        choices=[(scope, f"{scope} — {meaning}") for scope, meaning in SCOPES.items()],
        widget=widgets.UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=gettext_lazy("Of a secret key: none chosen means all that you have. A publishable key has none."),
    )

    class Meta:
        model = ApiKey
        fields = ("application", "name", "kind", "scopes", "expires_at", "rate_per_minute")


class RotateForm(forms.Form):
    overlap_h = forms.IntegerField(
        label=gettext_lazy("Overlap (hours)"),
        initial=24,
        min_value=0,
        max_value=services.KEY_OVERLAP_MAX.days * 24,
        widget=widgets.UnfoldAdminIntegerFieldWidget,
        help_text=gettext_lazy("The old key works on for so long."),
    )


@admin.register(ApiKey)
class ApiKeyAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = SETTINGS_READ, SETTINGS_WRITE
    may_change = may_delete = False
    form = KeyForm
    list_display = ("key", "name", "application", "kind", "state", "last_used_at", "created_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "kind")
    fields = (
        "key",
        "name",
        "application",
        "kind",
        "state",
        "scopes_text",
        "rate_per_minute",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
        "replaced_by",
        "id",
    )
    refusal_aliases = {"overlap_s": "overlap_h"}
    row_actions = ("rotate", "revoke")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else KeyForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application").defer("digest")

    @admin.display(description=gettext_lazy("key"))
    def key(self, row: ApiKey) -> str:
        return f"{row.prefix}…"

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: ApiKey) -> SafeString:
        return badge(*key_state(row))

    @admin.display(description=gettext_lazy("scopes"))
    def scopes_text(self, row: ApiKey) -> str:
        return ", ".join(row.scopes) or _("registers devices and reports receipts (SDK)")

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Also a whole key that somebody has found somewhere: whose is it?"""
        if term.startswith(tuple(KEY_PREFIXES.values())) and len(term) > services.KEY_PREFIX_SHOWN:
            return queryset.filter(digest=key_digest(term))
        return search_by_name(queryset, term, "name", "prefix", "application__name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> ApiKey:
        application = cleaned["application"]
        new = services.key_create(
            application=application,
            name=cleaned["name"],
            kind=cleaned["kind"],
            scopes=cleaned["scopes"] or None,
            expires_at=cleaned["expires_at"],
            rate_per_minute=cleaned["rate_per_minute"],
            granted_by=grants_of(request).of(application.pk),
            by=label_of(request),
        )
        request._console_new_key = new.plaintext  # type: ignore[attr-defined]
        return new.key

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        return self.show_once(request, obj, request._console_new_key)  # type: ignore[attr-defined]

    def show_once(self, request: HttpRequest, key: ApiKey, plaintext: str) -> HttpResponse:
        """The key in clear, in this answer only: no cookie, no session and no cache ever has it."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _("The new key"),
            "subtitle": str(key),
            "key": key,
            "plaintext": plaintext,
            "back": self.address_of(key.pk),
        }
        answer = TemplateResponse(request, "admin/console/new_key.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    @row_action(
        gettext_lazy("Rotate"),
        scope=SETTINGS_WRITE,
        icon="autorenew",
        form=RotateForm,
        explain=gettext_lazy("A successor with the same name, scopes and rate. It is shown once."),
        is_offered=lambda key: key.is_usable and key.replaced_by_id is None,
    )
    def rotate(self, request: HttpRequest, row: ApiKey, cleaned: dict[str, Any]) -> HttpResponse:
        new = services.key_rotate(
            key=row,
            overlap=timedelta(hours=cleaned["overlap_h"]),
            granted_by=grants_of(request).of(row.application_id),
            by=label_of(request),
        )
        return self.show_once(request, new.key, new.plaintext)

    @row_action(
        gettext_lazy("Revoke"),
        scope=SETTINGS_WRITE,
        icon="block",
        variant="danger",
        explain=gettext_lazy("The key ends at once and for good. Whoever uses it is refused from now on."),
        is_offered=lambda key: key.revoked_at is None,
    )
    def revoke(self, request: HttpRequest, row: ApiKey, cleaned: dict[str, Any]) -> str:
        services.key_revoke(key=row, by=label_of(request))
        return _("The key is revoked.")


# --- Credentials ---------------------------------------------------------------------------------------------------

RATE_FIELDS = ("rate_per_minute", "device_rate_per_minute", "device_rate_per_hour")


def summary_text(credential: ChannelCredential) -> str:
    return " · ".join(str(value) for value in credential.summary.values()) or "–"


def credential_state(credential: ChannelCredential) -> tuple[str, Any]:
    if not credential.is_active:
        return "default", _("inactive")
    if credential.breaker_opened_at:
        return "danger", _("stopped")
    return ("warning", _("last answer was an error")) if credential.last_error else ("success", _("in use"))


class CredentialForm(SecretForm):
    class Meta:
        model = ChannelCredential
        fields = ("application", "provider", "name", "position", "is_active", *RATE_FIELDS)


@admin.register(ChannelCredential)
class ChannelCredentialAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = SETTINGS_READ, SETTINGS_WRITE
    may_delete = False
    form = CredentialForm
    list_display = ("name", "application", "provider", "identity", "state", "position", "last_error_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "provider", "is_active")
    conditional_fields: dict[str, str] = {}
    row_actions = ("close_breaker",)
    _shown = (
        "identity",
        "state",
        "breaker_opened_at",
        "breaker_reason",
        "breaker_probe_at",
        "last_error",
        "last_error_at",
        "updated_at",
        "id",
    )

    @property
    def refusal_aliases(self) -> dict[str, str]:  # type: ignore[override]
        return secret_forms.aliases()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application").defer("secret")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = secret_forms.with_secret_fields(CredentialForm)
        return super().get_form(request, obj, change=change, **kwargs)

    def formfield_for_choice_field(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if db_field.name == "provider":
            known = secret_fields()
            kwargs["choices"] = [("", "---------"), *((p.value, p.label) for p in Provider if p.value in known)]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        common = ("application", "provider", "name", "position", "is_active")
        rates = (_("Rates; the provider's own unless told"), {"fields": RATE_FIELDS})
        if obj is None:
            fields = [name for provider in secret_fields() for name in secret_forms.form_fields_of(provider)]
            return ((None, {"fields": common[:-1]}), (_("Secret"), {"fields": fields}), rates)
        state = (_("State"), {"fields": self._shown})
        if not self.has_change_permission(request, obj):
            return ((None, {"fields": common}), state, rates)
        secret = (_("Secret (replace)"), {"fields": secret_forms.form_fields_of(obj.provider)})
        return ((None, {"fields": common}), state, secret, rates)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("application", "provider", *self._shown) if obj else ()

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        # Which fields are whose depends on the provider only while it can be chosen.
        obj = kwargs.get("obj")
        own = copy(self)
        own.conditional_fields = secret_forms.conditions(of=obj and obj.provider)
        context["adminform"].model_admin = own
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("identity"))
    def identity(self, row: ChannelCredential) -> str:
        return summary_text(row)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: ChannelCredential) -> SafeString:
        return badge(*credential_state(row))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "name", "application__name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> ChannelCredential:
        provider = cleaned["provider"]
        try:
            return services.credential_create(
                application=cleaned["application"],
                provider=provider,
                name=cleaned["name"],
                position=cleaned["position"],
                **{name: cleaned[name] for name in RATE_FIELDS},
                secret=secret_forms.new_secret(provider, cleaned),
                by=label_of(request),
            )
        except ValidationFailed as refusal:
            raise secret_forms.named_by(provider, refusal) from None

    def update(self, request: HttpRequest, row: ChannelCredential, changes: dict[str, Any]) -> ChannelCredential:
        plain = {name: changes[name] for name in ("name", "position", "is_active", *RATE_FIELDS) if name in changes}
        try:
            secret = secret_forms.changed_secret(row.provider, changes, _stored_secret(row), row.summary)
            return services.credential_update(credential=row, **plain, secret=secret, by=label_of(request))
        except ValidationFailed as refusal:
            raise secret_forms.named_by(row.provider, refusal) from None

    @row_action(
        gettext_lazy("Close breaker"),
        scope=SETTINGS_WRITE,
        icon="electrical_services",
        variant="primary",
        explain=gettext_lazy("Sending with this credential goes on. If the cause is still there, it stops again."),
        is_offered=lambda credential: credential.breaker_opened_at is not None,
    )
    def close_breaker(self, request: HttpRequest, row: ChannelCredential, cleaned: dict[str, Any]) -> str:
        services.breaker_close(row, by=label_of(request))
        return _("The breaker is closed; sending goes on.")


def _stored_secret(row: ChannelCredential) -> dict[str, Any] | None:
    """None if it cannot be decrypted any more."""
    try:
        stored = ChannelCredential.objects.only("secret").get(pk=row.pk).secret
    except DecryptionError:
        return None
    return dict(stored) if isinstance(stored, dict) else {}


# --- Idempotency ---------------------------------------------------------------------------------------------------


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    """Without the answers: they are the caller's."""

    read_scope = SETTINGS_READ
    list_display = ("key", "application", "route", "status", "created_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter,)
    fields = ("application", "key", "route", "status", "created_at", "id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("answer", "request_digest")

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """By the key, with the application, so that the unique index serves."""
        return queryset.filter(application_id__in=grants_of(request).applications(self.read_scope), key=term)


# --- What Django's parts bring along -------------------------------------------------------------------------------


class ThirdPartyAdmin(PlatformAdmin):
    """Models without services of ours: Django saves them. Small tables, so any column may be sorted by."""

    sortable_by = None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.save()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        obj.delete()


class TaskSelect(widgets.UnfoldAdminSelectWidget, beat_admin.TaskSelectWidget):  # type: ignore[misc]
    pass


class ScheduleForm(beat_admin.PeriodicTaskForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = _text()
        self.fields["regtask"].widget = TaskSelect()


class PeriodicTaskAdmin(ThirdPartyAdmin, beat_admin.PeriodicTaskAdmin):  # type: ignore[misc]
    form = ScheduleForm
    actions = beat_admin.PeriodicTaskAdmin.actions
    date_hierarchy = None
    list_display = ("name", "enabled", "task", "scheduler", "last_run_at", "one_off")
    list_filter = ("enabled", "one_off")
    list_select_related = ("interval", "crontab", "solar", "clocked")
    ordering = ("name",)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(Q(name__icontains=term) | Q(task__icontains=term))


class ScheduleAdmin(ThirdPartyAdmin):
    """Intervals, crontabs and moments of the schedules."""

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(pk=term) if term.isdecimal() and len(term) < 10 else queryset.none()


class SignInAdmin(ThirdPartyAdmin):
    """Refresh tokens by their id; what they could be used with is not stored, and the column for it not shown."""

    may_add = may_change = may_delete = False
    list_display: Any = ("user", "short_jti", "created_at", "expires_at")
    list_select_related: ClassVar[Any] = ("user",)
    fields: ClassVar[Any] = ("user", "short_jti", "created_at", "expires_at")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("token")

    @admin.display(description=gettext_lazy("token id"))
    def short_jti(self, row: Any) -> str:
        return f"{row.jti[:8]}…"

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(user__email=term.lower())


class EndedSignInAdmin(SignInAdmin):
    list_display: Any = ("user", "blacklisted_at")
    list_select_related: ClassVar[Any] = ("token__user",)
    fields: ClassVar[Any] = ("user", "blacklisted_at")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return PlatformAdmin.get_queryset(self, request).defer("token__token")

    @admin.display(description=gettext_lazy("operator"))
    def user(self, row: Any) -> str:
        return str(row.token.user)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(token__user__email=term.lower())


_REPLACED: dict[Any, type[ScopedAdmin]] = {
    PeriodicTask: PeriodicTaskAdmin,
    ClockedSchedule: ScheduleAdmin,
    CrontabSchedule: ScheduleAdmin,
    IntervalSchedule: ScheduleAdmin,
    SolarSchedule: ScheduleAdmin,
    OutstandingToken: SignInAdmin,
    BlacklistedToken: EndedSignInAdmin,
}
for _model, _model_admin in _REPLACED.items():
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)
    admin.site.register(_model, _model_admin)
admin.site.unregister(Group)  # rights come from roles in applications
