"""The frame around the pages: the site itself; for `UNFOLD` the sidebar by area, the environment's name and the
switch of language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.core.paginator import InvalidPage
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy as _

from apps.tenants.console import home
from apps.tenants.console.access import grants_of
from apps.tenants.console.pages import pages

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite as _Site
else:
    from unfold.sites import UnfoldAdminSite as _Site


class OfferedAutocomplete(AutocompleteJsonView):
    """Choices of the fields that a form of the console offers by autocomplete; Django's would take any field's name."""

    def process_request(self, request: HttpRequest) -> Any:
        label = (request.GET.get("app_label", ""), request.GET.get("model_name", ""))
        field_name = request.GET.get("field_name", "")
        assert self.admin_site is not None
        for model, model_admin in self.admin_site._registry.items():
            names = (model._meta.app_label, model._meta.model_name)
            if names == label and field_name in model_admin.get_autocomplete_fields(request):
                return super().process_request(request)
        raise PermissionDenied


class ConsoleSite(_Site):
    """unfold's site, where an address that somebody made up is a 4xx."""

    def get_urls(self) -> list[URLResolver | URLPattern]:
        """With the pages that are about no model, and without the redirects to a row's own page elsewhere (`r/…`): no
        row has one."""
        own = [path(page.path, self.admin_view(page), name=page.name) for page in pages()]
        own.append(path("home/<slug:name>/", self.admin_view(home.home_section_page), name="home_section"))
        return [*own, *(entry for entry in super().get_urls() if getattr(entry, "name", "") != "view_on_site")]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> Any:
        """Made when it is looked at: each page is given this list, and hardly one shows it (a sixth of its time)."""
        return SimpleLazyObject(lambda: super(ConsoleSite, self).get_app_list(request, app_label))

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return home.home_page(request)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The console has one door (`accounts`). 403 for who is signed in and may not use it."""
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            raise PermissionDenied
        wanted = request.GET.get("next", "")
        return redirect_to_login(wanted) if wanted else redirect("account_login")

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        from apps.tenants.accounts.entrance import logout_view

        return logout_view(request)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return redirect("account_change_password")

    def autocomplete_view(self, request: HttpRequest) -> Any:
        return OfferedAutocomplete.as_view(admin_site=self)(request)

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
        """The quick search for an area by its name. 404 for a page that there is not."""
        try:
            return super().search(request, extra_context)  # type: ignore[misc, no-any-return]
        except InvalidPage:
            raise Http404 from None


class _Item(NamedTuple):
    model: str
    title: Any
    icon: str


class _Area(NamedTuple):
    title: Any
    items: list[_Item]
    is_folded: bool = False
    """What is not needed every day: it opens with a click, and by itself where one of its pages is shown."""


_AREAS = [
    _Area(
        _("Campaigns"),
        [
            _Item("campaigns.MessageCampaign", _("Campaigns"), "campaign"),
            _Item("campaigns.Segment", _("Segments"), "group_work"),
            _Item("messaging.MessageTemplate", _("Templates"), "draft"),
            _Item("messaging.MediaFile", _("Media"), "image"),
        ],
    ),
    _Area(
        _("People"),
        [
            _Item("subscriptions.AppUser", _("Users"), "person"),
            _Item("subscriptions.Subscription", _("Subscriptions"), "devices"),
            _Item("subscriptions.Import", _("Imports"), "upload_file"),
            _Item("subscriptions.DataRequest", _("Data requests"), "privacy_tip"),
        ],
    ),
    _Area(
        _("Messages"),
        [
            _Item("messaging.Message", _("Messages"), "chat"),
            _Item("messaging.InboxItem", _("Inboxes"), "inbox"),
        ],
    ),
    _Area(
        _("Statistics"),
        [
            _Item("analytics.ReportSchedule", _("Scheduled reports"), "schedule_send"),
            _Item("analytics.Export", _("Exports"), "download"),
        ],
    ),
    _Area(
        _("Applications"),
        [
            _Item("tenants.Application", _("Applications"), "apps"),
            _Item("tenants.ApiKey", _("API keys"), "key"),
            _Item("tenants.ChannelCredential", _("Channel credentials"), "vpn_key"),
            _Item("messaging.WebhookEndpoint", _("Webhooks"), "webhook"),
            _Item("tenants.Membership", _("Members"), "groups"),
            _Item("tenants.Invitation", _("Invitations"), "person_add"),
            _Item("tenants.AuditEvent", _("Audit log"), "policy"),
        ],
    ),
    _Area(
        _("Consent & courtesy"),
        [
            _Item("subscriptions.MessageCategory", _("Categories"), "category"),
            _Item("subscriptions.MarketingConsent", _("Consents"), "verified_user"),
            _Item("subscriptions.Preference", _("Preferences"), "tune"),
            _Item("subscriptions.Suppression", _("Suppression list"), "block"),
            _Item("subscriptions.ConsentNotice", _("Consent notices"), "mark_email_unread"),
            _Item("subscriptions.OptIn", _("Opt-ins"), "how_to_reg"),
            _Item("subscriptions.ActiveHours", _("Active hours"), "schedule"),
        ],
        is_folded=True,
    ),
    _Area(
        _("Kakao"),
        [
            _Item("messaging.KakaoTemplate", _("Alimtalk templates"), "fact_check"),
            _Item("messaging.KakaoChannel", _("Kakao channels"), "forum"),
        ],
        is_folded=True,
    ),
    _Area(
        _("Billing"),
        [
            _Item("billing.BillingProfile", _("Billing"), "account_balance_wallet"),
            _Item("billing.MessageQuota", _("Quotas"), "speed"),
            _Item("billing.LedgerTransaction", _("Ledger"), "receipt_long"),
            _Item("billing.LedgerAccount", _("Accounts"), "account_balance"),
            _Item("billing.BillingAlert", _("Alerts"), "notification_important"),
            _Item("billing.Plan", _("Plans"), "sell"),
        ],
        is_folded=True,
    ),
    _Area(
        _("Logs"),
        [
            _Item("messaging.MessageEvent", _("Message events"), "timeline"),
            _Item("subscriptions.SubscriptionEvent", _("Subscription events"), "history"),
            _Item("subscriptions.ConsentEvent", _("Consent events"), "history"),
            _Item("subscriptions.SuppressionEvent", _("Suppression events"), "history"),
            _Item("messaging.WebhookDelivery", _("Webhook deliveries"), "outbox"),
            _Item("analytics.ReportRun", _("Reports sent"), "mark_email_read"),
            _Item("campaigns.CampaignFailure", _("Failure reasons"), "report"),
            _Item("tenants.IdempotencyRecord", _("Idempotency keys"), "repeat_one"),
        ],
        is_folded=True,
    ),
    _Area(
        _("Operations"),
        [
            _Item("messaging.Dispatch", _("Dispatches"), "outbox"),
            _Item("messaging.DispatchBatch", _("Batches"), "stacks"),
            _Item("messaging.MessageRequeue", _("Requeues"), "replay"),
            _Item("messaging.FollowUp", _("Follow-ups of chains"), "alt_route"),
            _Item("messaging.GatewayRequest", _("Gateway requests"), "cell_tower"),
            _Item("django_celery_beat.PeriodicTask", _("Schedules"), "schedule"),
            _Item("tenants.Operator", _("Operators"), "badge"),
            _Item("axes.AccessAttempt", _("Locked sign-ins"), "lock_person"),
            _Item("token_blacklist.OutstandingToken", _("Sign-ins by token"), "login"),
        ],
        is_folded=True,
    ),
]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: the areas of work, and of each what the operator may see."""
    registry = {model._meta.label: model_admin for model, model_admin in admin.site._registry.items()}
    first = {"title": _("Home"), "icon": "home", "link": reverse("admin:index")}
    return [
        {"title": None, "items": [first]},
        *_areas(request, registry),
    ]


def _areas(request: HttpRequest, registry: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "title": area.title,
            "collapsible": area.is_folded,
            "items": [
                *_page_entries(request, area.title),
                *(
                    {
                        "title": item.title,
                        "icon": item.icon,
                        "link": reverse(f"admin:{item.model.replace('.', '_').lower()}_changelist"),
                    }
                    for item in area.items
                    if item.model in registry and registry[item.model].has_view_permission(request)
                ),
            ],
        }
        for area in _AREAS
    ]


def _page_entries(request: HttpRequest, area: Any) -> list[dict[str, Any]]:
    """Those of the area's pages that are about no model."""
    grants = grants_of(request)
    return [
        {"title": page.title, "icon": page.icon, "link": reverse(f"admin:{page.name}")}
        for page in pages()
        if page.area and page.area == area and grants.has(page.scope, None)
    ]


def environment(request: HttpRequest) -> list[Any]:
    """The label beside the title, so that nobody takes one environment for another."""
    labels = {
        "production": [_("Production"), "danger"],
        "demo": [_("Demo"), "info"],
        "development": [_("Development"), "success"],
        "test": [_("Test"), "warning"],
    }
    return labels[settings.AUTOMATA_ENV]


def language_address(request: HttpRequest) -> str:
    """Where the switch of language posts to."""
    return reverse("admin:console_language")
