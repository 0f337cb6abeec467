"""The console's pages of API keys. A key is shown once, in the answer to the request that made it."""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.tenants import services
from apps.tenants.access import KEY_PREFIXES, key_digest
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ScopedHistoryAdmin, search_by_name
from apps.tenants.console.lists import ApplicationFilter
from apps.tenants.console.panels import Panel, badge
from apps.tenants.console_pages.applications import new_keys_page
from apps.tenants.console_pages.hub import hub_of, hub_of_add
from apps.tenants.console_pages.words import SETTINGS_READ, SETTINGS_WRITE, key_notices, key_state, label_of
from apps.tenants.models import ApiKey
from apps.tenants.scopes import SCOPES
from automata_signal.errors import ValidationFailed

_GROUPS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (gettext_lazy("Sending"), ("messages", "receipts")),
    (gettext_lazy("People and their devices"), ("users", "subscriptions", "imports", "personal_data")),
    (gettext_lazy("Consent and preferences"), ("preferences", "suppressions")),
    (gettext_lazy("Content"), ("templates", "media")),
    (gettext_lazy("Campaigns"), ("segments", "campaigns")),
    (gettext_lazy("Figures and exports"), ("analytics", "exports")),
    (gettext_lazy("Set-up and billing"), ("settings", "webhooks", "billing", "audit")),
)
_SENDING = {"messages:send", "messages:read"}
_SERVER = _SENDING | {
    *("users:read", "users:write", "subscriptions:read", "subscriptions:write", "receipts:write"),
    *("preferences:read", "preferences:write", "templates:read"),
}
_SENSITIVE = {"personal_data:read", "settings:read", "audit:read"}


def scope_groups() -> list[tuple[Any, list[str]]]:
    """Every scope once, by what it is about."""
    grouped = {area for _title, areas in _GROUPS for area in areas}
    found = [(title, [s for area in areas for s in SCOPES if s.split(":")[0] == area]) for title, areas in _GROUPS]
    if rest := [scope for scope in SCOPES if scope.split(":")[0] not in grouped]:
        found.append((gettext_lazy("More"), rest))
    return found


def presets() -> list[tuple[str, Any, list[str]]]:
    """Name, label and scopes of the usual choices."""
    reading = {scope for scope in SCOPES if scope.endswith(":read")} - _SENSITIVE
    return [
        ("send", gettext_lazy("Send only"), sorted(_SENDING)),
        ("server", gettext_lazy("App server: send, and keep users up to date"), sorted(_SERVER)),
        ("read", gettext_lazy("Read only"), sorted(reading)),
        ("all", gettext_lazy("Everything"), list(SCOPES)),
        ("none", gettext_lazy("None"), []),
    ]


class ScopesWidget(forms.CheckboxSelectMultiple):
    """Boxes by what they are about, with buttons for the usual choices."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        chosen = set(value or [])
        groups = [
            {
                "title": title,
                "scopes": [
                    {
                        "name": scope,
                        "meaning": _(SCOPES[scope]),
                        "is_chosen": scope in chosen,
                        "id": f"id_{name}_{scope}",
                    }
                    for scope in scopes
                ],
            }
            for title, scopes in scope_groups()
        ]
        made = [{"name": key, "label": label, "scopes": " ".join(scopes)} for key, label, scopes in presets()]
        return render_to_string("admin/tenants/scopes_widget.html", {"name": name, "groups": groups, "presets": made})

    def id_for_label(self, id_: str, index: str | None = None) -> str:
        return ""


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("What it may do"),
        required=False,
        choices=[(scope, scope) for scope in SCOPES],
        widget=ScopesWidget,
        help_text=gettext_lazy(
            "Give each server only what it needs. None chosen means all that you have. A publishable key has nothing "
            "to choose: it registers devices and reports receipts."
        ),
    )

    class Meta:
        model = ApiKey
        fields = ("application", "name", "kind", "scopes", "expires_at", "rate_per_minute")
        help_texts = {
            "name": gettext_lazy("Who uses it, such as the name of the server."),
            "kind": gettext_lazy("Secret keys stay on servers. Publishable keys may stand in apps."),
            "expires_at": gettext_lazy("Empty: it does not end by itself."),
            "rate_per_minute": gettext_lazy("Requests above it are refused. Empty: the platform's own limit."),
        }


class RotateForm(forms.Form):
    overlap_h = forms.IntegerField(
        label=gettext_lazy("Overlap (hours)"),
        initial=24,
        min_value=0,
        max_value=services.KEY_OVERLAP_MAX.days * 24,
        widget=widgets.UnfoldAdminIntegerFieldWidget,
        help_text=gettext_lazy("The old key works on for so long, so that nothing fails while you exchange it."),
    )


class RevokeForm(forms.Form):
    confirm = forms.CharField(
        label=gettext_lazy("Type the name of the key to confirm"),
        max_length=200,
        widget=widgets.UnfoldAdminTextInputWidget({"autocomplete": "off"}),
    )


@admin.register(ApiKey)
class ApiKeyAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = SETTINGS_READ, SETTINGS_WRITE
    may_change = may_delete = False
    form = KeyForm
    list_display = ("key", "name", "application", "kind", "state", "last_used_at", "created_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "kind")
    change_form_outer_before_template = "admin/tenants/hub_before.html"
    conditional_fields: dict[str, str] = {}
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
        "last_used_from",
        "replaced_by",
        "id",
    )
    refusal_aliases = {"overlap_s": "overlap_h"}
    row_actions = ("rotate", "revoke")

    class Media:
        css = {"all": ("console/applications.css",)}
        js = ("console/applications.js",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else KeyForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application").defer("digest")

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        if row is not None:
            context["hub"] = hub_of(request, row.application, "keys")
        else:  # scopes are of a secret key alone
            context["hub"] = hub_of_add(request, "keys")
            own = copy(self)
            own.conditional_fields = {"scopes": "kind != 'publishable'"}
            context["adminform"].model_admin = own
        return super().render_change_form(request, context, *args, **kwargs)

    def panels(self, request: HttpRequest, row: ApiKey) -> list[Panel]:
        notices = [{"tone": tone, "text": text} for tone, text in key_notices(row)]
        note = _("Only a digest of the key is stored: nobody can show it again. If it is lost, rotate it.")
        context = {"notices": [*notices, {"tone": "info", "text": note}]}
        return [Panel(_("To know"), "admin/tenants/notices.html", context, before=True)]

    @admin.display(description=gettext_lazy("key"))
    def key(self, row: ApiKey) -> str:
        return f"{row.prefix}…"

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: ApiKey) -> SafeString:
        return badge(*key_state(row))

    @admin.display(description=gettext_lazy("scopes"))
    def scopes_text(self, row: ApiKey) -> Any:
        if not row.scopes:
            return _("registers devices and reports receipts (SDK)")
        shown = [{"name": scope, "meaning": _(SCOPES[scope])} for scope in SCOPES if scope in row.scopes]
        return render_to_string("admin/tenants/scopes_shown.html", {"scopes": shown})

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
        request._console_new_key = new  # type: ignore[attr-defined]
        return new.key

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        new: services.NewKey = request._console_new_key  # type: ignore[attr-defined]
        return new_keys_page(request, new.key.application, [new])

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
        return new_keys_page(request, row.application, [new])

    @row_action(
        gettext_lazy("Revoke"),
        scope=SETTINGS_WRITE,
        icon="block",
        variant="danger",
        form=RevokeForm,
        explain=gettext_lazy("The key ends at once and for good. Whoever uses it is refused from now on."),
        facts="use_facts",
        is_offered=lambda key: key.revoked_at is None,
    )
    def revoke(self, request: HttpRequest, row: ApiKey, cleaned: dict[str, Any]) -> str:
        if cleaned["confirm"].strip() != row.name:
            raise ValidationFailed.of("confirm", _("This is not the name of the key."))
        services.key_revoke(key=row, by=label_of(request))
        return _("The key is revoked.")

    def use_facts(self, request: HttpRequest, row: ApiKey) -> list[tuple[Any, Any]]:
        return [
            (_("name"), row.name),
            (_("key"), f"{row.prefix}…"),
            (_("last used"), row.last_used_at or _("never")),
            (_("last used from"), row.last_used_from or "–"),
        ]
