"""The console's pages of an application: overview, settings, keys and credentials at a glance, code to begin with."""

from __future__ import annotations

from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.tenants import selectors, services
from apps.tenants.access import KEY_PREFIXES, client_address
from apps.tenants.audit.services import audit
from apps.tenants.console.access import grants_of
from apps.tenants.console.base import OWN, ReadOnlyAdmin, ScopedHistoryAdmin, search_by_name
from apps.tenants.console.formats import moment
from apps.tenants.console.lists import ApplicationFilter
from apps.tenants.console.panels import Panel, badge, list_address, registered_panels
from apps.tenants.console_pages import settings_forms, snippets
from apps.tenants.console_pages.hub import application_or_404, hub_of, hub_tab
from apps.tenants.console_pages.settings_forms import SettingsForm, with_settings
from apps.tenants.console_pages.words import (
    REACHES,
    SETTINGS_READ,
    SETTINGS_WRITE,
    check_of,
    credential_state,
    expiry_of,
    key_notices,
    key_state,
    label_of,
    shown_once,
    summary_text,
)
from apps.tenants.models import ApiKey, Application, ChannelCredential, IdempotencyRecord, KeyKind, Provider
from apps.tenants.plan_rules import plan_choices, put_on_plan
from apps.tenants.providers import secret_fields, secret_rules
from automata_signal.errors import Conflict

KEYS_SHOWN = 100
CREDENTIALS_SHOWN = 100
MEMBERS_SHOWN = 8
GENERAL = ("name", "time_zone", "default_language", "is_active")


def _page(name: str) -> Any:
    return lambda application_id: reverse(f"admin:{name}", args=[application_id])


hub_tab(
    "overview",
    gettext_lazy("Overview"),
    icon="dashboard",
    scope=SETTINGS_READ,
    address=_page("tenants_application_change"),
    place=10,
)
hub_tab(
    "settings",
    gettext_lazy("Settings"),
    icon="tune",
    scope=SETTINGS_READ,
    address=lambda key: f"{reverse('admin:tenants_application_change', args=[key])}?tab=settings",
    place=20,
)
hub_tab(
    "keys",
    gettext_lazy("API keys"),
    icon="key",
    scope=SETTINGS_READ,
    address=_page("tenants_application_keys"),
    place=30,
)
hub_tab(
    "credentials",
    gettext_lazy("Credentials"),
    icon="vpn_key",
    scope=SETTINGS_READ,
    address=_page("tenants_application_credentials"),
    place=40,
)
hub_tab(
    "members",
    gettext_lazy("Members"),
    icon="groups",
    scope=SETTINGS_READ,
    address=lambda key: list_address("tenants.Membership", application=key),
    place=70,
)
hub_tab(
    "code",
    gettext_lazy("Code"),
    icon="code",
    scope=SETTINGS_READ,
    address=_page("tenants_application_code"),
    place=80,
)


SEEN_AT = "seen_at"
"""When what the form shows was saved: who sends it later would undo what others have changed meanwhile."""


def _zones() -> list[tuple[str, str]]:
    return [(name, name) for name in sorted(available_timezones())]


def _zone_field() -> forms.ChoiceField:
    return forms.ChoiceField(
        label=gettext_lazy("Time zone"),
        choices=_zones,
        widget=widgets.UnfoldAdminSelectWidget,
        initial="UTC",
        help_text=gettext_lazy("Days of statistics, quiet hours without a known zone, and schedules are in it."),
    )


_LANGUAGE_HELP = gettext_lazy("Of people whose own language is unknown, such as en or ko.")


class ApplicationForm(SettingsForm):
    time_zone = _zone_field()

    class Meta:
        model = Application
        fields = GENERAL
        help_texts = {
            "default_language": _LANGUAGE_HELP,
            "is_active": gettext_lazy("An application that is not active refuses every call and sends nothing."),
        }


class NewApplicationForm(forms.ModelForm):  # type: ignore[type-arg]
    time_zone = _zone_field()
    plan = forms.ChoiceField(
        label=gettext_lazy("Plan"),
        required=False,
        choices=plan_choices,
        widget=widgets.UnfoldAdminSelectWidget,
        help_text=gettext_lazy("What it may send and what that costs; it can be changed later."),
    )
    make_keys = forms.BooleanField(
        label=gettext_lazy("Make the first keys"),
        required=False,
        initial=True,
        widget=widgets.UnfoldBooleanSwitchWidget(),
        help_text=gettext_lazy("One for your server and one for your apps. They are shown once, on the next page."),
    )

    class Meta:
        model = Application
        fields = ("name", "time_zone", "default_language")
        help_texts = {"default_language": _LANGUAGE_HELP, "name": gettext_lazy("Operators know it by this name.")}


@admin.register(Application)
class ApplicationAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = SETTINGS_READ, SETTINGS_WRITE
    application_path = OWN
    may_delete = False
    list_display = ("name", "is_active", "time_zone", "default_language", "created_at")
    list_filter = ("is_active",)
    change_form_outer_before_template = "admin/tenants/hub_before.html"
    change_form_before_template = "admin/tenants/seen_at.html"

    class Media:
        css = {"all": ("console/applications.css",)}
        js = ("console/applications.js",)

    @property
    def refusal_aliases(self) -> dict[str, str]:  # type: ignore[override]
        return settings_forms.aliases()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return grants_of(request).is_platform

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "name")

    # --- The forms -----------------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = NewApplicationForm if obj is None else with_settings(ApplicationForm)
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ((None, {"fields": ("name", "time_zone", "default_language", "plan", "make_keys")}),)
        general = (gettext_lazy("General"), {"fields": GENERAL})
        if not self.has_change_permission(request, obj):
            return (general,)
        return (
            general,
            *(
                (title, {"fields": fields, "description": about})
                for _name, title, about, fields in settings_forms.groups()
            ),
        )

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Application:
        names = ("name", "time_zone", "default_language")
        by = label_of(request)
        application = services.application_create(**{name: cleaned[name] for name in names}, by=by)
        if cleaned.get("plan"):
            put_on_plan(application, cleaned["plan"], by)
        request._console_new_keys = []  # type: ignore[attr-defined]
        if cleaned.get("make_keys"):
            first = ((KeyKind.SECRET, _("Server")), (KeyKind.PUBLISHABLE, _("Apps")))
            made = [services.key_create(application=application, name=name, kind=kind, by=by) for kind, name in first]
            request._console_new_keys = made  # type: ignore[attr-defined]
            for new in made:
                audit("key.create", request=request, application_id=application.pk, row=new.key)
        return application

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        made = request._console_new_keys  # type: ignore[attr-defined]
        if not made:
            return HttpResponseRedirect(self.address_of(obj.pk))
        return new_keys_page(request, obj, made, is_first=True)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change and (changed := form.settings_changed()):
            request._console_settings = settings_forms.settings_of(  # type: ignore[attr-defined]
                obj.settings, form.cleaned_data, changed
            )
        super().save_model(request, obj, form, change)

    def update(self, request: HttpRequest, row: Application, changes: dict[str, Any]) -> Application:
        seen_at = request.POST.get(SEEN_AT)
        if seen_at and seen_at != row.updated_at.isoformat():
            raise Conflict(_("Somebody has changed this application meanwhile: reload the page, and change it there."))
        given = {name: value for name, value in changes.items() if name in GENERAL}
        new_settings = getattr(request, "_console_settings", None)
        if new_settings is not None:
            given["settings"] = new_settings
        address = "" if grants_of(request).is_platform else client_address(request)
        return services.application_update(application=row, **given, by=label_of(request), from_address=address)

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(f"{self.address_of(obj.pk)}?tab=settings")

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        if row is not None:
            context["hub"] = hub_of(request, row, "settings")
            context[SEEN_AT] = request.POST.get(SEEN_AT) or row.updated_at.isoformat()
        answer = super().render_change_form(request, context, *args, **kwargs)
        if row is not None:  # what other apps add stands on the overview
            context["panels_after"] = [] if self.has_change_permission(request, row) else [self._settings_panel(row)]
            context["panels_before"] = []
        return answer

    def _settings_panel(self, row: Application) -> Panel:
        """For who may look, and not change."""
        fields, shown = settings_forms.setting_fields(), settings_forms.initial_of(row.settings)
        facts = [(field.label, _plain(shown[name])) for name, field in fields.items()]
        return Panel(_("Settings"), "admin/console/facts.html", {"facts": facts})

    # --- The overview --------------------------------------------------------------------------------------------

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """The overview, unless the settings are asked for or sent."""
        if object_id is not None and request.method != "POST" and request.GET.get("tab") != "settings":
            row = self.get_object(request, object_id)
            if row is not None and self.has_view_permission(request, row):
                return self._overview(request, row)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def _context(self, request: HttpRequest, row: Application, tab: str, title: Any) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "original": row,
            "application": row,
            "hub": hub_of(request, row, tab),
            "title": title,
            "subtitle": str(row),
            "may_write": grants_of(request).has(SETTINGS_WRITE, row.pk),
        }

    def _overview(self, request: HttpRequest, row: Application) -> HttpResponse:
        readiness = selectors.application_readiness(row)
        members = row.memberships.select_related("operator").order_by("operator__email")[:MEMBERS_SHOWN]
        # What the row's page had: other apps' panels read the row's own rights.
        panels = registered_panels(request, row)
        context = self._context(request, row, "overview", _("Overview"))
        context |= {
            "state": badge("success", _("active")) if row.is_active else badge("default", _("not active")),
            "readiness": readiness,
            "steps": _first_steps(row, readiness),
            "made": moment(row.created_at),
            "members": [{"name": m.operator.name or m.operator.email, "role": m.get_role_display(), "pk": m.pk,
                         "email": m.operator.email} for m in members],
            "members_address": list_address("tenants.Membership", application=row.pk),
            "unused": readiness.keys_unused,
            "keys_address": reverse("admin:tenants_application_keys", args=[row.pk]),
            "credentials_address": reverse("admin:tenants_application_credentials", args=[row.pk]),
            "messages_address": list_address("messaging.Message", application=row.pk, added="24h"),
            "statistics_address": f"{reverse('admin:statistics')}?application={row.pk}",
            "may_messages": grants_of(request).has("messages:read", row.pk),
            "may_statistics": grants_of(request).has("analytics:read", row.pk),
            "history_address": reverse("admin:tenants_application_history", args=[row.pk]),
            "panels": panels,
        }  # fmt: skip
        return TemplateResponse(request, "admin/tenants/overview.html", context)

    # --- The other tabs ------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        views = {"keys": self.keys_view, "credentials": self.credentials_view, "code": self.code_view}
        own = [
            path(f"<uuid:object_id>/{name}/", self.admin_site.admin_view(view), name=f"tenants_application_{name}")
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def keys_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        row = application_or_404(request, object_id, SETTINGS_READ)
        keys = ApiKey.objects.for_application(row).defer("digest").order_by("-pk")[:KEYS_SHOWN]
        context = self._context(request, row, "keys", _("API keys"))
        context |= {
            "keys": [_key_row(key) for key in keys],
            "add_address": f"{reverse('admin:tenants_apikey_add')}?application={row.pk}",
            "all_address": list_address("tenants.ApiKey", application=row.pk),
        }
        return TemplateResponse(request, "admin/tenants/keys.html", context)

    def credentials_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        row = application_or_404(request, object_id, SETTINGS_READ)
        rows = selectors.credentials_shown(application=row).order_by("position", "id")[:CREDENTIALS_SHOWN]
        context = self._context(request, row, "credentials", _("Provider credentials"))
        context["groups"] = _credential_groups(row, list(rows))
        context["can_check"] = context["may_write"]
        return TemplateResponse(request, "admin/tenants/credentials.html", context)

    def code_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        row = application_or_404(request, object_id, SETTINGS_READ)
        keys = [key for key in ApiKey.objects.for_application(row).filter(revoked_at=None).order_by("-pk")[:KEYS_SHOWN]
                if key.is_usable]  # fmt: skip
        publishable = next((key for key in keys if key.kind == KeyKind.PUBLISHABLE), None)
        secret = next((key for key in keys if key.kind == KeyKind.SECRET), None)
        context = self._context(request, row, "code", _("Code"))
        context |= {
            "publishable": publishable,
            "secret": secret,
            "device": snippets.device_snippets(settings.PUBLIC_URL, _placeholder(publishable, "as_pk_")),
            "server": snippets.server_snippets(settings.PUBLIC_URL, _placeholder(secret, "as_sk_")),
            "api_address": snippets.api_address(settings.PUBLIC_URL),
            "add_address": f"{reverse('admin:tenants_apikey_add')}?application={row.pk}",
        }
        return TemplateResponse(request, "admin/tenants/code.html", context)


def _placeholder(key: ApiKey | None, prefix: str) -> str:
    """Where the key is to be put: only its digest is stored, so nobody can show it again."""
    return f"{key.prefix}…" if key else f"{prefix}YOUR_KEY"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(_("Yes") if value else _("No"))
    if value in (None, "", []):
        return str(_("not set"))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _first_steps(row: Application, readiness: selectors.Readiness) -> list[dict[str, Any]]:
    """What a new application needs; empty once all of it is done."""
    credentials = reverse("admin:tenants_application_credentials", args=[row.pk])
    keys = reverse("admin:tenants_application_keys", args=[row.pk])
    code = reverse("admin:tenants_application_code", args=[row.pk])
    steps = [
        (readiness.has_credential, _("Enter a provider's credential, so that messages can leave."), credentials),
        (readiness.has_checked_credential, _("Verify it with the provider."), credentials),
        (readiness.has_secret_key, _("Make a secret key for your server."), keys),
        (readiness.has_publishable_key, _("Make a publishable key for your apps."), keys),
        (readiness.has_used_key, _("Call the API for the first time."), code),
    ]
    if all(is_done for is_done, *_rest in steps):
        return []
    return [{"is_done": is_done, "text": text, "address": address} for is_done, text, address in steps]


def _key_row(key: ApiKey) -> dict[str, Any]:
    return {
        "key": key,
        "address": reverse("admin:tenants_apikey_change", args=[key.pk]),
        "state": badge(*key_state(key)),
        "notices": key_notices(key),
        "used": moment(key.last_used_at),
        "made": moment(key.created_at),
        "ends": moment(key.expires_at) if key.expires_at else "",
        "scopes": len(key.scopes),
    }


def _credential_groups(row: Application, credentials: list[ChannelCredential]) -> list[dict[str, Any]]:
    """The credentials by what they reach, each group in the order in which they are used."""
    known = [provider for provider in Provider if provider.value in secret_fields()]
    found = []
    for reaches, label in REACHES.items():
        of_group = [c for c in credentials if secret_rules(c.provider).reaches == reaches]
        providers = [p for p in known if secret_rules(p.value).reaches == reaches]
        if not of_group and not providers:
            continue
        active = [c.pk for c in of_group if c.is_active]
        found.append(
            {
                "label": label,
                "rows": [credential_card(c, active) for c in of_group],
                "adds": [
                    {
                        "label": provider.label,
                        "address": f"{reverse('admin:tenants_channelcredential_add')}?application={row.pk}"
                        f"&provider={provider.value}&position={len(active)}",
                    }
                    for provider in providers
                ],
            }
        )
    return found


def credential_card(credential: ChannelCredential, active: list[UUID]) -> dict[str, Any]:
    place = active.index(credential.pk) if credential.pk in active else None
    return {
        "credential": credential,
        "address": reverse("admin:tenants_channelcredential_change", args=[credential.pk]),
        "state": badge(*credential_state(credential)),
        "identity": summary_text(credential),
        "check": check_of(credential),
        "expiry": expiry_of(credential),
        "place": None if place is None else place + 1,
        "is_first": place == 0,
        "is_last": place is not None and place == len(active) - 1,
        "has_several": len(active) > 1,
        "needs_check": credential.provider != Provider.IN_APP,
        "do": {
            name: reverse("admin:tenants_channelcredential_do", args=[credential.pk, name])
            for name in ("verify", "move_up", "move_down")
        },
    }


def new_keys_page(
    request: HttpRequest, application: Application, made: list[services.NewKey], *, is_first: bool = False
) -> HttpResponse:
    """Keys in clear, once, with what can be done with them.

    Each stands in the page one time: the examples are filled in by the browser.
    """
    keys = [
        {
            "key": new.key,
            "plaintext": new.plaintext,
            "id": f"key-{new.key.pk}",
            "placeholder": (placeholder := _placeholder(None, KEY_PREFIXES[KeyKind(new.key.kind)])),
            "check": snippets.check_snippet(settings.PUBLIC_URL, placeholder)
            if new.key.kind == KeyKind.SECRET
            else snippets.device_snippets(settings.PUBLIC_URL, placeholder)[-1].code,
        }
        for new in made
    ]
    context = {
        **admin.site.each_context(request),
        "opts": ApiKey._meta,
        "application": application,
        "hub": hub_of(request, application, "keys"),
        "title": _("The new keys") if len(made) > 1 else _("The new key"),
        "subtitle": str(application),
        "keys": keys,
        "plaintext": made[0].plaintext,
        "is_first": is_first,
        "back": reverse("admin:tenants_application_keys", args=[application.pk]),
        "code": reverse("admin:tenants_application_code", args=[application.pk]),
        "next": reverse("admin:tenants_application_credentials", args=[application.pk]),
    }
    return shown_once(request, "admin/tenants/new_keys.html", context)


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
