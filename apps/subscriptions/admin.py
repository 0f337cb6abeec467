"""The console's pages of users, their subscriptions, and what changed about them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import BinaryField, ExpressionWrapper, F, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.subscriptions import services
from apps.subscriptions.imports import admin as imports_admin  # noqa: F401  # registers their pages
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent, SubscriptionEventType, SubscriptionType
from apps.subscriptions.preferences import admin as preferences_admin  # noqa: F401  # registers their pages
from apps.subscriptions.services.subscriptions import token_digest
from apps.subscriptions.services.users import is_erased
from apps.subscriptions.status import Setter, SubscriptionStatus
from apps.subscriptions.validation import normal_token
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin, ScopedAdmin
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, link_filter, rare_filter
from apps.tenants.console.panels import Panel, admin_link, badge, json_text, list_address, short_id, table_panel
from automata_signal.encryption import DecryptionError, keyring
from automata_signal.errors import SignalError, ValidationFailed

SOURCE = "operator"
"""What events and `status_source` say of a change made here."""


def user_ids(applications: list[UUID], external_id: str) -> list[UUID]:
    """Users with this external id, by the unique index on (application, external_id)."""
    rows = AppUser.with_archived.filter(application_id__in=applications, external_id=external_id)
    return list(rows.values_list("pk", flat=True))


def subscription_ids_by_token(applications: list[UUID], token: str) -> list[UUID]:
    """Subscriptions with this token, by the unique index on (application, type, token_digest)."""
    found: list[UUID] = []
    for type_ in SubscriptionType.values:
        try:
            digest = token_digest(type_, normal_token(type_, token))
        except SignalError:
            continue
        rows = Subscription.with_archived.filter(application_id__in=applications, type=type_, token_digest=digest)
        found += rows.values_list("pk", flat=True)
    return found


def masked(sealed: Any) -> str:
    """A token's first and last characters, from its ciphertext; `…` if it is short, gone or cannot be read."""
    try:
        token = keyring().decrypt(bytes(sealed)).decode() if sealed else ""
    except (DecryptionError, UnicodeDecodeError):
        return "…"
    return Subscription(token=token).masked_token


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=200,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Kept with the event, for whoever asks later."),
    )


class EraseForm(forms.Form):
    external_id = forms.CharField(
        label=gettext_lazy("External id, typed once more"),
        max_length=255,
        widget=widgets.UnfoldAdminTextInputWidget({"autocomplete": "off"}),
    )


# --- Users ---------------------------------------------------------------------------------------------------------


@admin.register(AppUser)
class AppUserAdmin(ScopedAdmin):
    read_scope, write_scope = "users:read", "users:write"
    manager_name = "with_archived"
    may_delete = False
    search_help_text = gettext_lazy("External id, or id; whole, not a part of it")
    list_display = ("external_id", "application", "state", "last_active_at", "created_at")
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        AddedFilter,
        rare_filter(
            gettext_lazy("archived"),
            "archived",
            (("1", gettext_lazy("Yes")), ("0", gettext_lazy("No"))),
            lambda rows, value: rows.filter(is_archived=value == "1"),
        ),
    )
    fields = (
        "application",
        "external_id",
        "properties",
        "state",
        "last_active_at",
        "created_at",
        "updated_at",
        "archived_at",
        "id",
    )
    row_actions = ("archive", "erase")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ("application", "external_id", "properties")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [name for name in self.fields if name != "properties"] if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not getattr(obj, "is_archived", False)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: AppUser) -> SafeString:
        if is_erased(row):
            return badge("danger", _("erased"))
        return badge("warning", _("archived")) if row.is_archived else badge("success", _("live"))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        keys = user_ids(grants_of(request).applications(self.read_scope), term)
        if key := as_uuid(term):
            keys.append(key)
        return queryset.filter(pk__in=keys)

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> AppUser:
        return services.user_create(
            application=cleaned["application"],
            external_id=cleaned["external_id"],
            properties=cleaned["properties"],
        )

    def update(self, request: HttpRequest, row: AppUser, changes: dict[str, Any]) -> AppUser:
        if "properties" not in changes:
            return row
        return services.user_update(user=row, properties=changes["properties"], replace=True)

    @row_action(
        gettext_lazy("Archive"),
        scope="users:write",
        icon="archive",
        explain=gettext_lazy(
            "Nothing reaches this user any more: all subscriptions end. The user comes back with the next log-in."
        ),
        is_offered=lambda user: not user.is_archived,
    )
    def archive(self, request: HttpRequest, row: AppUser, cleaned: dict[str, Any]) -> str:
        services.user_archive(user=row, setter=Setter.PERSON, source=SOURCE)
        return _("The user is archived.")

    @row_action(
        gettext_lazy("Erase"),
        scope="users:write",
        icon="person_remove",
        variant="danger",
        form=EraseForm,
        explain=gettext_lazy("Every personal datum of this user goes, for ever. What was sent stays counted."),
        is_offered=lambda user: not is_erased(user),
    )
    def erase(self, request: HttpRequest, row: AppUser, cleaned: dict[str, Any]) -> str:
        if cleaned["external_id"] != row.external_id:
            raise ValidationFailed.of("external_id", _("That is not the external id of this user."))
        services.user_erase(user=row, setter=Setter.PERSON, source=SOURCE)
        return _("All personal data of the user are erased.")

    def panels(self, request: HttpRequest, row: AppUser) -> list[Panel]:
        if not grants_of(request).has("subscriptions:read", row.application_id):
            return []
        newest = with_sealed_token(Subscription.with_archived.filter(user=row)).order_by("-pk")[:20]
        rows = [
            (
                admin_link("subscriptions.Subscription", s.pk, s.get_type_display()),
                masked(s.sealed),
                s.get_subscription_status_display(),
                " ".join(part for part in (s.device_model, s.device_os) if part),
                s.last_active_at,
            )
            for s in newest
        ]
        headers = (_("subscription"), _("token"), _("status"), _("device"), _("last active"))
        more = list_address("subscriptions.Subscription", user=row.pk)
        return [table_panel(_("Subscriptions"), headers, rows, more=more)]


# --- Subscriptions -------------------------------------------------------------------------------------------------


def with_sealed_token(rows: QuerySet[Any]) -> QuerySet[Any]:
    """The token as ciphertext in `sealed`: one that cannot be decrypted must not take the page with it."""
    ciphertext = ExpressionWrapper(F("token"), output_field=BinaryField())
    sealed: QuerySet[Any] = rows.defer("token").annotate(sealed=ciphertext)
    return sealed


def _by_status(rows: QuerySet[Any], value: str) -> QuerySet[Any]:
    if value == "reachable":
        return rows.filter(subscription_status__gt=0, is_archived=False)
    if value == "ended":
        return rows.filter(subscription_status__in=(0, -2, -22, -31, -98, -99))
    if value == "archived":
        return rows.filter(is_archived=True)
    return rows.filter(subscription_status__lt=-2).exclude(subscription_status__in=(-22, -31, -98, -99))


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin):
    read_scope = "subscriptions:read"
    manager_name = "with_archived"
    search_help_text = gettext_lazy("Subscription id, user's external id, or a whole token; not a part of it")
    list_display = (
        "key",
        "application",
        "type",
        "token_text",
        "user",
        "state",
        "device_model",
        "country_code",
        "last_active_at",
    )
    list_select_related = ("application", "user")
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("user"), "user", lambda rows, key: rows.filter(user_id=key)),
        AddedFilter,
        rare_filter(
            gettext_lazy("type"), "type", SubscriptionType.choices, lambda rows, value: rows.filter(type=value)
        ),
        rare_filter(
            gettext_lazy("status"),
            "status",
            (
                ("reachable", gettext_lazy("Reachable")),
                ("ended", gettext_lazy("Ended or never begun")),
                ("error", gettext_lazy("Ended by an error")),
                ("archived", gettext_lazy("Archived")),
            ),
            _by_status,
        ),
    )
    fieldsets = (
        (None, {"fields": ("application", "user", "type", "token_text", "state", "status_source")}),
        (
            gettext_lazy("Device"),
            {
                "fields": (
                    "device_model",
                    "device_os",
                    "device_language",
                    "country_code",
                    "app_version",
                    "sdk_version",
                    "test_type",
                    "tags_text",
                )
            },
        ),
        (
            gettext_lazy("Life"),
            {
                "fields": (
                    "subscribed_at",
                    "unsubscribed_at",
                    "last_active_at",
                    "token_registered_at",
                    "archived_at",
                    "total_messages_received",
                    "total_messages_converted",
                    "created_at",
                    "updated_at",
                    "id",
                )
            },
        ),
    )
    row_actions = ("end", "restore", "subscribe", "unsubscribe")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return with_sealed_token(super().get_queryset(request).select_related("application", "user"))

    @admin.display(description=gettext_lazy("token"))
    def token_text(self, row: Any) -> SafeString:
        return format_html('<span style="white-space: nowrap">{}</span>', masked(row.sealed))

    @admin.display(description=gettext_lazy("tags"))
    def tags_text(self, row: Subscription) -> Any:
        return json_text(row.tags)

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: Subscription) -> SafeString:
        text = f"{row.get_subscription_status_display()} ({row.subscription_status})"
        if row.is_archived:
            return badge("default", _("archived · %(status)s") % {"status": text})
        if row.is_subscribed:
            return badge("success", text)
        return badge("danger" if row.has_error else "warning", text)

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: Subscription) -> Any:
        return short_id(row.pk)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        if key := as_uuid(term):
            if queryset.filter(pk=key).exists():
                return queryset.filter(pk=key)
            return queryset.filter(user_id=key)
        applications = grants_of(request).applications(self.read_scope)
        users = user_ids(applications, term)
        if users:
            return queryset.filter(user_id__in=users)
        return queryset.filter(pk__in=subscription_ids_by_token(applications, term))

    @row_action(
        gettext_lazy("End"),
        scope="subscriptions:write",
        icon="notifications_off",
        variant="danger",
        form=ReasonForm,
        explain=gettext_lazy(
            "Unsubscribes and archives. The history stays; registering the token again brings it back."
        ),
        is_offered=lambda subscription: not subscription.is_archived,
    )
    def end(self, request: HttpRequest, row: Subscription, cleaned: dict[str, Any]) -> str:
        services.subscription_end(
            subscription=row, setter=Setter.PERSON, source=SOURCE, reason=_reason(request, cleaned)
        )
        return _("The subscription has ended.")

    @row_action(
        gettext_lazy("Restore"),
        scope="subscriptions:write",
        icon="unarchive",
        variant="primary",
        form=ReasonForm,
        explain=gettext_lazy("Brings the subscription back as it was when it ended; it is not subscribed by this."),
        is_offered=lambda subscription: subscription.is_archived,
    )
    def restore(self, request: HttpRequest, row: Subscription, cleaned: dict[str, Any]) -> str:
        services.subscription_restore(
            subscription=row, setter=Setter.PERSON, source=SOURCE, reason=_reason(request, cleaned)
        )
        return _("The subscription is back.")

    @row_action(
        gettext_lazy("Subscribe"),
        scope="subscriptions:write",
        icon="notifications_active",
        form=ReasonForm,
        explain=gettext_lazy("Messages go to this address again. Do it only if its owner wants it."),
        is_offered=lambda subscription: not subscription.is_archived and not subscription.is_subscribed,
    )
    def subscribe(self, request: HttpRequest, row: Subscription, cleaned: dict[str, Any]) -> str:
        services.subscription_update(
            subscription=row, setter=Setter.PERSON, source=SOURCE, enabled=True, reason=_reason(request, cleaned)
        )
        return _("The subscription is subscribed.")

    @row_action(
        gettext_lazy("Unsubscribe"),
        scope="subscriptions:write",
        icon="do_not_disturb_on",
        form=ReasonForm,
        explain=gettext_lazy("Nothing is sent here any more, whatever the device says later (code -31)."),
        is_offered=lambda subscription: subscription.is_subscribed and not subscription.is_archived,
    )
    def unsubscribe(self, request: HttpRequest, row: Subscription, cleaned: dict[str, Any]) -> str:
        services.subscription_update(
            subscription=row,
            setter=Setter.PERSON,
            source=SOURCE,
            subscription_status=SubscriptionStatus.DISABLED_BY_API,
            reason=_reason(request, cleaned),
        )
        return _("The subscription is unsubscribed.")

    def panels(self, request: HttpRequest, row: Subscription) -> list[Panel]:
        events = SubscriptionEvent.objects.filter(subscription_id=row.pk).order_by("-pk")[:20]
        rows = [
            (
                admin_link("subscriptions.SubscriptionEvent", event.pk, f"{event.occurred_at:%Y-%m-%d %H:%M:%S}"),
                event.get_event_type_display(),
                status_change(event),
                event.source,
                event.reason,
            )
            for event in events
        ]
        headers = (_("time (UTC)"), _("event"), _("status"), _("by"), _("reason"))
        more = list_address("subscriptions.SubscriptionEvent", subscription=row.pk)
        return [table_panel(_("What happened"), headers, rows, more=more)]


def _reason(request: HttpRequest, cleaned: dict[str, Any]) -> str:
    return f"{cleaned['reason']} · {request.user}"


# --- Events --------------------------------------------------------------------------------------------------------


def status_change(event: SubscriptionEvent) -> str:
    if event.old_status == event.new_status:
        return "" if event.new_status is None else str(event.new_status)
    return f"{'–' if event.old_status is None else event.old_status} → {event.new_status}"


@admin.register(SubscriptionEvent)
class SubscriptionEventAdmin(ReadOnlyAdmin):
    read_scope = "subscriptions:read"
    search_help_text = gettext_lazy("Id of a subscription or of an event")
    list_display = (
        "occurred_at",
        "application",
        "event_type",
        "channel",
        "status_text",
        "source",
        "reason",
        "subscription_link",
    )
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("subscription"), "subscription", lambda rows, key: rows.filter(subscription_id=key)),
        AddedFilter,
        rare_filter(
            gettext_lazy("event"),
            "event",
            SubscriptionEventType.choices,
            lambda rows, value: rows.filter(event_type=value),
        ),
    )
    fields = (
        "occurred_at",
        "application",
        "event_type",
        "channel",
        "status_text",
        "source",
        "reason",
        "subscription_link",
        "user_link",
        "id",
    )

    @admin.display(description=gettext_lazy("status"))
    def status_text(self, row: SubscriptionEvent) -> str:
        return status_change(row)

    @admin.display(description=gettext_lazy("subscription"))
    def subscription_link(self, row: SubscriptionEvent) -> Any:
        return admin_link("subscriptions.Subscription", row.subscription_id, short_id(row.subscription_id))

    @admin.display(description=gettext_lazy("user"))
    def user_link(self, row: SubscriptionEvent) -> Any:
        return admin_link("subscriptions.AppUser", row.user_id, row.user_id) if row.user_id else "–"

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        if key is None:
            return queryset.none()
        if queryset.filter(pk=key).exists():
            return queryset.filter(pk=key)
        return queryset.filter(subscription_id=key)
