"""The console's pages of provider credentials. A secret goes in and never comes out; it is only replaced."""

from __future__ import annotations

from copy import copy
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.tenants import services
from apps.tenants.console import secret_forms
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ScopedHistoryAdmin, search_by_name
from apps.tenants.console.lists import ApplicationFilter
from apps.tenants.console.panels import Panel, badge
from apps.tenants.console.secret_forms import SecretForm
from apps.tenants.console_pages.guides import guide_of, guides
from apps.tenants.console_pages.hub import hub_of, hub_of_add
from apps.tenants.console_pages.words import (
    SETTINGS_READ,
    SETTINGS_WRITE,
    check_of,
    credential_state,
    expiry_of,
    label_of,
    summary_text,
)
from apps.tenants.credentials.checking import check_begin
from apps.tenants.models import ChannelCredential, Provider
from apps.tenants.providers import secret_fields
from automata_signal.encryption import DecryptionError
from automata_signal.errors import ValidationFailed

RATE_FIELDS = ("rate_per_minute", "device_rate_per_minute", "device_rate_per_hour")
PLAIN = ("name", "position", "is_active", "expires_at", *RATE_FIELDS)


class CredentialForm(SecretForm):
    class Meta:
        model = ChannelCredential
        fields = ("application", "provider", "name", "position", "is_active", "expires_at", *RATE_FIELDS)
        help_texts = {
            "name": gettext_lazy("For yourselves, such as “production key 2026”."),
            "position": gettext_lazy("0 is used first; the next takes over when it is refused or does not answer."),
            "expires_at": gettext_lazy(
                "If the provider ends it on a date: owners are told 30, 7 and 1 days before. A certificate's own end "
                "is read from it."
            ),
        }


@admin.register(ChannelCredential)
class ChannelCredentialAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = SETTINGS_READ, SETTINGS_WRITE
    may_delete = False
    form = CredentialForm
    list_display = ("name", "application", "provider", "identity", "state", "check_state", "expires_at", "position")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "provider", "is_active")
    change_form_outer_before_template = "admin/tenants/hub_before.html"
    conditional_fields: dict[str, str] = {}
    row_actions = ("verify", "close_breaker", "move_up", "move_down")
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

    _always_shown = ("identity", "state", "updated_at", "id")

    class Media:
        css = {"all": ("console/applications.css",)}
        js = ("console/applications.js",)

    @property
    def refusal_aliases(self) -> dict[str, str]:  # type: ignore[override]
        return secret_forms.aliases()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application").defer("secret")

    # --- The form ------------------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = secret_forms.with_secret_fields(CredentialForm)
        return super().get_form(request, obj, change=change, **kwargs)

    def formfield_for_choice_field(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if db_field.name == "provider":
            known = secret_fields()
            kwargs["choices"] = [("", "---------"), *((p.value, p.label) for p in Provider if p.value in known)]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        common = ("application", "provider", "name", "position", "is_active", "expires_at")
        rates = (_("Rates; the provider's own unless told"), {"fields": RATE_FIELDS})
        if obj is None:
            fields = [name for provider in secret_fields() for name in secret_forms.form_fields_of(provider)]
            plain = tuple(name for name in common if name != "is_active")
            return ((None, {"fields": plain}), (_("Secret"), {"fields": fields}), rates)
        told = [name for name in self._shown if name in self._always_shown or getattr(obj, name)]
        state = (_("State"), {"fields": told})
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
        if obj is not None:
            context["hub"] = hub_of(request, obj.application, "credentials")
        else:
            context["hub"] = hub_of_add(request, "credentials")
            context["panels_before"] = [Panel(_("Where to find it"), "admin/tenants/guides.html", {"guides": guides()})]
        return super().render_change_form(request, context, *args, **kwargs)

    def panels(self, request: HttpRequest, row: ChannelCredential) -> list[Panel]:
        found = []
        if row.provider != Provider.IN_APP:
            context = self._check_context(request, row)
            found.append(Panel(_("Verified with the provider"), "admin/tenants/check_panel.html", context, before=True))
        if (guide := guide_of(row.provider)) is not None:
            found.append(Panel(_("Where to find it"), "admin/tenants/guides.html", {"guides": [guide]}))
        return found

    def _check_context(self, request: HttpRequest, row: ChannelCredential) -> dict[str, Any]:
        return {
            "credential": row,
            "check": check_of(row),
            "expiry": expiry_of(row),
            "may_write": self.is_allowed(request, SETTINGS_WRITE, row),
            "verify": self.action_address(row, "verify"),
            "live": reverse("admin:tenants_channelcredential_check", args=[row.pk]),
        }

    @admin.display(description=gettext_lazy("identity"))
    def identity(self, row: ChannelCredential) -> str:
        return summary_text(row)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: ChannelCredential) -> SafeString:
        return badge(*credential_state(row))

    @admin.display(description=gettext_lazy("verified"))
    def check_state(self, row: ChannelCredential) -> Any:
        if row.checked_at is None:
            return "–"
        words = {True: ("success", _("yes")), False: ("danger", _("refused")), None: ("warning", _("no answer"))}
        return badge(*words[row.check_ok])

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
                expires_at=cleaned["expires_at"],
                **{name: cleaned[name] for name in RATE_FIELDS},
                secret=secret_forms.new_secret(provider, cleaned),
                by=label_of(request),
            )
        except ValidationFailed as refusal:
            raise secret_forms.named_by(provider, refusal) from None

    def update(self, request: HttpRequest, row: ChannelCredential, changes: dict[str, Any]) -> ChannelCredential:
        plain = {name: changes[name] for name in PLAIN if name in changes}
        try:
            secret = secret_forms.changed_secret(row.provider, changes, _stored_secret(row), row.summary)
            return services.credential_update(credential=row, **plain, secret=secret, by=label_of(request))
        except ValidationFailed as refusal:
            raise secret_forms.named_by(row.provider, refusal) from None

    # --- Buttons -------------------------------------------------------------------------------------------------

    @row_action(
        gettext_lazy("Verify with the provider"),
        scope=SETTINGS_WRITE,
        icon="verified",
        variant="primary",
        is_direct=True,
        is_offered=lambda credential: credential.provider != Provider.IN_APP,
    )
    def verify(self, request: HttpRequest, row: ChannelCredential, cleaned: dict[str, Any]) -> HttpResponse | str:
        check_begin(credential=row)
        return self._back(request, row) or _("The provider is being asked; the answer appears below.")

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

    @row_action(
        gettext_lazy("Use earlier"),
        scope=SETTINGS_WRITE,
        icon="arrow_upward",
        is_direct=True,
        is_offered=lambda credential: False,  # on the application's page, where the others are
    )
    def move_up(self, request: HttpRequest, row: ChannelCredential, cleaned: dict[str, Any]) -> HttpResponse | str:
        services.credential_move(credential=row, earlier=True, by=label_of(request))
        return self._back(request, row) or _("The order is changed.")

    @row_action(
        gettext_lazy("Use later"),
        scope=SETTINGS_WRITE,
        icon="arrow_downward",
        is_direct=True,
        is_offered=lambda credential: False,
    )
    def move_down(self, request: HttpRequest, row: ChannelCredential, cleaned: dict[str, Any]) -> HttpResponse | str:
        services.credential_move(credential=row, earlier=False, by=label_of(request))
        return self._back(request, row) or _("The order is changed.")

    def _back(self, request: HttpRequest, row: ChannelCredential) -> HttpResponse | None:
        """To the page of the application's credentials, if the button stood there."""
        if request.POST.get("next") != "application":
            return None
        return HttpResponseRedirect(reverse("admin:tenants_application_credentials", args=[row.application_id]))

    # --- The check, live -----------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.check_view)
        return [path("<uuid:object_id>/check/", view, name="tenants_channelcredential_check"), *super().get_urls()]

    def check_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """What is known of the check by now: a part of the page, asked for again while it runs."""
        row = self.get_object(request, str(object_id))
        if row is None or not self.has_view_permission(request, row):
            raise Http404
        return render(request, "admin/tenants/check.html", {"panel": self._check_context(request, row)})


def _stored_secret(row: ChannelCredential) -> dict[str, Any] | None:
    """None if it cannot be decrypted any more."""
    try:
        stored = ChannelCredential.objects.only("secret").get(pk=row.pk).secret
    except DecryptionError:
        return None
    return dict(stored) if isinstance(stored, dict) else {}
