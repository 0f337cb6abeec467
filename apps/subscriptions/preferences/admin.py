"""The console's pages of categories, choices, consents, notices and the suppression list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.subscriptions.models import AppUser
from apps.subscriptions.preferences import categories
from apps.subscriptions.preferences.lists import suppressions_import
from apps.subscriptions.preferences.models import (
    ActiveHours,
    ConsentEvent,
    ConsentEventType,
    ConsentNotice,
    ConsentSource,
    MarketingConsent,
    MessageCategory,
    NoticeKind,
    NoticeState,
    OptIn,
    Preference,
    SendTiming,
    Suppression,
    SuppressionEvent,
    SuppressionReason,
)
from apps.subscriptions.preferences.notices import notice_done
from apps.subscriptions.preferences.suppressing import TYPES, address_of, suppression_remove, suppressions_add
from apps.tenants.audit.services import audit
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin, ScopedAdmin
from apps.tenants.console.list_links import ListLink, list_link_for
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, link_filter, newest, rare_filter
from apps.tenants.console.panels import Panel, admin_link, badge, list_address, short_id, table_panel
from automata_signal.csv_safety import csv_lines
from automata_signal.errors import SignalError

READ, WRITE = "preferences:read", "preferences:write"
BYTES_MAX = 4 * 1024 * 1024


def _by_channel() -> Any:
    return rare_filter(
        gettext_lazy("channel"), "channel", ChannelType.choices, lambda rows, value: rows.filter(channel=value)
    )


def _of_user() -> Any:
    return link_filter(gettext_lazy("user"), "user", lambda rows, key: rows.filter(user_id=key))


class _ChoiceAdmin(ReadOnlyAdmin):
    """Rows about a user, or about a subscription without one."""

    read_scope = READ
    list_select_related: ClassVar[Any] = ("application", "user")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application", "user")

    @admin.display(description=gettext_lazy("whose"))
    def whose(self, row: Any) -> Any:
        if row.user_id is not None:
            return admin_link("subscriptions.AppUser", row.user_id, row.user or short_id(row.user_id))
        if row.subscription_id is None:
            return "–"
        return admin_link("subscriptions.Subscription", row.subscription_id, short_id(row.subscription_id))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """By the external id of a user, or by id."""
        applications = grants_of(request).applications(self.read_scope)
        users = AppUser.with_archived.filter(application_id__in=applications, external_id=term)
        found = queryset.filter(user_id__in=list(users.values_list("pk", flat=True)))
        key = as_uuid(term)
        return found if key is None else queryset.filter(pk=key)


# --- Categories ------------------------------------------------------------------------------------------------------


@admin.register(MessageCategory)
class MessageCategoryAdmin(ScopedAdmin):
    read_scope, write_scope = READ, WRITE
    may_delete = False
    list_display = ("slug", "application", "name_en", "name_ko", "is_marketing", "may_opt_out", "state")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter,)
    _editable = (
        *("name_en", "name_ko", "description_en", "description_ko", "is_marketing", "is_default_opted_in"),
        *("may_opt_out", "position"),
    )
    row_actions = ("archive", "bring_back")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("application", "slug", *self._editable, *(("created_at", "updated_at", "id") if obj else ()))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("application", "slug", "created_at", "updated_at", "id") if obj else ()

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: MessageCategory) -> SafeString:
        return badge("warning", _("archived")) if row.is_archived else badge("success", _("in use"))

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> MessageCategory:
        return categories.category_create(**cleaned)

    def update(self, request: HttpRequest, row: Any, changes: dict[str, Any]) -> MessageCategory:
        return categories.category_update(category=row, changes=changes)

    @row_action(
        gettext_lazy("Archive"),
        scope=WRITE,
        icon="archive",
        explain=gettext_lazy("No message can name it any more, and nobody is asked. What people chose stays."),
        is_offered=lambda category: not category.is_archived,
    )
    def archive(self, request: HttpRequest, row: MessageCategory, cleaned: dict[str, Any]) -> str:
        categories.category_archive(category=row)
        return _("The category is archived.")

    @row_action(
        gettext_lazy("Bring back"),
        scope=WRITE,
        icon="unarchive",
        explain=gettext_lazy("Messages can name it again, and people's choices count as they were."),
        is_offered=lambda category: category.is_archived,
    )
    def bring_back(self, request: HttpRequest, row: MessageCategory, cleaned: dict[str, Any]) -> str:
        categories.category_update(category=row, changes={"is_archived": False})
        return _("The category is in use again.")


# --- Choices and their history ---------------------------------------------------------------------------------------


@admin.register(Preference)
class PreferenceAdmin(_ChoiceAdmin):
    list_display = ("whose", "application", "channel", "category", "is_opted_in", "source", "updated_at")
    list_display_links = ("channel",)  # the first column is a link itself
    list_select_related = ("application", "user", "category")
    list_filter = (ApplicationFilter, _of_user(), _by_channel())
    fields = ("application", "whose", "channel", "category", "is_opted_in", "source", "updated_at", "id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("category")


@admin.register(MarketingConsent)
class MarketingConsentAdmin(_ChoiceAdmin):
    search_help_text = gettext_lazy("External id of a user, or id of a consent")
    list_display = ("whose", "application", "channel", "state", "night", "source", "given_at", "confirm_due_at")
    list_display_links = ("channel",)  # the first column is a link itself
    list_filter = (
        ApplicationFilter,
        _of_user(),
        _by_channel(),
        rare_filter(
            gettext_lazy("consent"),
            "given",
            (("1", gettext_lazy("Given")), ("0", gettext_lazy("Withdrawn"))),
            lambda rows, value: rows.filter(is_given=value == "1"),
        ),
    )
    fields = (
        *("application", "whose", "channel", "state", "given_at", "withdrawn_at", "evidence", "night"),
        *("night_given_at", "night_withdrawn_at", "night_evidence", "source", "confirmed_at", "confirm_due_at"),
        *("updated_at", "id"),
    )

    @admin.display(description=gettext_lazy("consent"))
    def state(self, row: MarketingConsent) -> SafeString:
        return badge("success", _("given")) if row.is_given else badge("warning", _("withdrawn"))

    @admin.display(description=gettext_lazy("at night"), boolean=True)
    def night(self, row: MarketingConsent) -> bool:
        return row.is_night_given


@admin.register(ConsentEvent)
class ConsentEventAdmin(_ChoiceAdmin):
    search_help_text = gettext_lazy("External id of a user, or id of an event")
    list_display = (
        *("occurred_at", "application", "whose", "event_type", "channel", "category", "source", "evidence"),
    )
    list_filter = (
        ApplicationFilter,
        _of_user(),
        AddedFilter,
        _by_channel(),
        rare_filter(
            gettext_lazy("event"),
            "event",
            ConsentEventType.choices,
            lambda rows, value: rows.filter(event_type=value),
        ),
    )
    fields = (
        *("occurred_at", "effective_at", "application", "whose", "event_type", "channel", "category", "source"),
        *("evidence", "message_id", "id"),
    )


@admin.register(OptIn)
class OptInAdmin(ReadOnlyAdmin):
    read_scope = READ
    list_display = ("requested_at", "application", "subscription_link", "state", "asked_at", "expires_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, AddedFilter)
    fields = (
        *("application", "subscription_link", "state", "requested_at", "asked_at", "asked_today", "expires_at"),
        *("confirmed_at", "expired_at", "id"),
    )

    @admin.display(description=gettext_lazy("subscription"))
    def subscription_link(self, row: OptIn) -> Any:
        return admin_link("subscriptions.Subscription", row.subscription_id, short_id(row.subscription_id))

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: OptIn) -> SafeString:
        if row.confirmed_at is not None:
            return badge("success", _("confirmed"))
        return badge("warning", _("expired")) if row.expired_at is not None else badge("info", _("waiting"))


@admin.register(ActiveHours)
class ActiveHoursAdmin(ReadOnlyAdmin):
    read_scope = READ
    list_display = ("subject", "application", "best_hour", "updated_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter,)
    fields = ("application", "subject", "best_hour", "hours_text", "updated_at", "id")

    @admin.display(description=gettext_lazy("user or subscription"))
    def subject(self, row: ActiveHours) -> Any:
        return short_id(row.subject_id)

    @admin.display(description=gettext_lazy("by hour (UTC), from 0"))
    def hours_text(self, row: ActiveHours) -> str:
        return ", ".join(map(str, row.hours))


@admin.register(SendTiming)
class SendTimingAdmin(ReadOnlyAdmin):
    read_scope = "campaigns:read"
    list_display = ("campaign_id", "application", "local_time", "at_active_hours")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter,)
    fields = ("campaign_id", "application", "local_time", "at_active_hours")


# --- Notices ---------------------------------------------------------------------------------------------------------


class NoteForm(forms.Form):
    note = forms.CharField(
        label=gettext_lazy("How"),
        max_length=200,
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Kept with the notice: by letter, in the app, …"),
    )


_NOTICE_COLOURS = {
    NoticeState.DUE: "info",
    NoticeState.SENT: "success",
    NoticeState.DONE: "success",
    NoticeState.VOID: "default",
    NoticeState.FAILED: "danger",
}
_NOTICE_COLUMNS = (
    *("application", "external_id", "subscription_id", "kind", "about", "channel", "said_at", "due_at", "state"),
    *("by_us", "message_id", "note", "finished_at"),
)


@admin.register(ConsentNotice)
class ConsentNoticeAdmin(_ChoiceAdmin):
    search_help_text = gettext_lazy("External id of a user, or id of a notice")
    list_display = ("due_at", "application", "whose", "kind", "about", "channel", "state_badge", "by_us", "finished_at")
    list_filter = (
        ApplicationFilter,
        _of_user(),
        AddedFilter,
        rare_filter(gettext_lazy("state"), "state", NoticeState.choices, lambda rows, value: rows.filter(state=value)),
        rare_filter(gettext_lazy("kind"), "kind", NoticeKind.choices, lambda rows, value: rows.filter(kind=value)),
        _by_channel(),
    )
    fields = (
        *("application", "whose", "kind", "about", "category", "channel", "said_at", "due_at", "state_badge", "by_us"),
        *("message_id", "note", "attempts", "created_at", "finished_at", "id"),
    )
    row_actions = ("done",)

    @admin.display(description=gettext_lazy("about"))
    def about(self, row: ConsentNotice) -> Any:
        return dict(ConsentEventType.choices).get(row.what, row.what) or "–"

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, row: ConsentNotice) -> SafeString:
        return badge(_NOTICE_COLOURS[NoticeState(row.state)], row.get_state_display())

    @admin.display(description=gettext_lazy("told by"))
    def by_us(self, row: ConsentNotice) -> str:
        return _("the platform") if row.is_to_be_sent else _("operators")

    @row_action(
        gettext_lazy("Done"),
        scope=WRITE,
        icon="check",
        variant="primary",
        form=NoteForm,
        explain=gettext_lazy("The person was told in another way. For a confirmation the two years begin anew."),
        is_offered=lambda notice: notice.state in (NoticeState.DUE, NoticeState.FAILED),
    )
    def done(self, request: HttpRequest, row: ConsentNotice, cleaned: dict[str, Any]) -> str:
        note = " · ".join(part for part in (cleaned["note"], str(request.user)) if part)
        notice_done(application=row.application, notice_id=row.pk, note=note)
        return _("It is on record that the person was told.")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.csv_view)
        return [path("csv/", view, name="subscriptions_consentnotice_csv"), *super().get_urls()]

    def csv_view(self, request: HttpRequest) -> HttpResponseBase:
        """What is due and what was done, of the newest, as a file; filters by state and kind."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = newest(self.get_queryset(request))
        for name, known in (("state", NoticeState.values), ("kind", NoticeKind.values)):
            if request.GET.get(name) in known:
                rows = rows.filter(**{name: request.GET[name]})
        grants = grants_of(request)
        for application_id in [None] if grants.is_platform else grants.applications(self.read_scope):
            audit("consentnotice.export", request=request, application_id=application_id, details=request.GET.dict())
        answer = StreamingHttpResponse(csv_lines(_notice_lines(rows), bom=True), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="consent-notices.csv"'
        answer["Cache-Control"] = "private, no-store"
        return answer


def _notice_lines(rows: QuerySet[ConsentNotice]) -> Iterator[tuple[object, ...]]:
    yield _NOTICE_COLUMNS
    for row in rows.iterator(chunk_size=2_000):
        yield (
            row.application.name,
            row.user.external_id if row.user else "",
            row.subscription_id,
            row.kind,
            row.what,
            row.channel,
            row.said_at.isoformat(),
            row.due_at.isoformat(),
            row.state,
            row.is_to_be_sent,
            row.message_id,
            row.note,
            row.finished_at.isoformat() if row.finished_at else "",
        )


@list_link_for(ConsentNotice)
def notices_as_csv(request: HttpRequest) -> ListLink | None:
    if not grants_of(request).has(READ, None):
        return None
    query = "&".join(f"{name}={request.GET[name]}" for name in ("state", "kind") if request.GET.get(name, "").isalnum())
    return ListLink(_("Export as CSV"), "download", f"{reverse('admin:subscriptions_consentnotice_csv')}?{query}")


# --- The suppression list --------------------------------------------------------------------------------------------


class SuppressionForm(forms.ModelForm):  # type: ignore[type-arg]
    type = forms.ChoiceField(
        label=gettext_lazy("Type"), choices=[(name, name) for name in TYPES], widget=widgets.UnfoldAdminSelectWidget
    )
    address = forms.CharField(
        label=gettext_lazy("Address"),
        required=False,
        max_length=500,
        widget=widgets.UnfoldAdminTextInputWidget({"autocomplete": "off"}),
        help_text=gettext_lazy("E-mail address, or phone number such as +821012345678."),
    )
    file = forms.FileField(
        label=gettext_lazy("Or a file"),
        required=False,
        widget=widgets.UnfoldAdminFileFieldWidget,
        help_text=gettext_lazy("CSV with the column address and, if need be, type, reason and note; UTF-8, 4 MB."),
    )
    reason = forms.ChoiceField(
        label=gettext_lazy("Reason"),
        choices=SuppressionReason.choices,
        initial=SuppressionReason.MANUAL,
        widget=widgets.UnfoldAdminSelectWidget,
    )

    class Meta:
        model = Suppression
        fields = ("application", "type", "address", "file", "reason", "note")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if bool(cleaned.get("address")) == bool(cleaned.get("file")):
            self.add_error("address", _("Give one address, or a file."))
        file = cleaned.get("file")
        if file is not None and file.size > BYTES_MAX:
            self.add_error("file", _("The file is too large."))
        return cleaned


class RemoveForm(forms.Form):
    note = forms.CharField(
        label=gettext_lazy("Why"),
        max_length=200,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Kept for whoever asks later; after a complaint at least ten characters."),
    )


@admin.register(Suppression)
class SuppressionAdmin(ScopedAdmin):
    read_scope, write_scope = "suppressions:read", "suppressions:write"
    may_change = may_delete = False
    form = SuppressionForm
    search_help_text = gettext_lazy("A whole address, or id")
    list_display = ("masked_address", "application", "type", "reason", "source", "note", "created_at")
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        AddedFilter,
        rare_filter(
            gettext_lazy("reason"),
            "reason",
            SuppressionReason.choices,
            lambda rows, value: rows.filter(reason=value),
        ),
    )
    _shown = ("application", "type", "masked_address", "reason", "source", "note", "created_at", "id")
    row_actions = ("take_off",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self._shown if obj else SuppressionForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self._shown if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:  # address and file are the form's own
            kwargs["fields"] = ("application", "note")
        return super().get_form(request, obj, change=change, **kwargs)

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Suppression:
        application, by = cleaned["application"], str(request.user)
        if cleaned.get("file"):
            content = cleaned["file"].read().decode("utf-8-sig", "replace")
            done = suppressions_import(application=application, content=content, type=cleaned["type"], by=by)
            request._console_imported = done  # type: ignore[attr-defined]
            self.message_user(
                request,
                _("%(added)s added, %(known)s known, %(refused)s refused.") % done._asdict(),
            )
            row = Suppression.objects.for_application(application).order_by("-pk").first()
            return row or Suppression(application=application)
        address = address_of(
            cleaned["type"], cleaned["address"], reason=cleaned["reason"], note=cleaned.get("note", "")
        )
        suppressions_add(application_id=application.pk, addresses=[address], source=ConsentSource.OPERATOR, by=by)
        return Suppression.objects.get(application=application, type=address.type, address_digest=address.digest)

    def tell(
        self, request: HttpRequest, verb: str, row: Any, *, changes: Mapping[str, Any] | None = None, **told: Any
    ) -> None:
        """Without the address, since nobody can take it out of the audit log again; of a file, what came of it."""
        if (done := getattr(request, "_console_imported", None)) is not None:
            counts = {"added": done.added, "known": done.known, "refused": done.refused}
            audit("suppression.import", request=request, application_id=row.application_id, details=counts)
            return
        if changes is not None:
            changes = {name: value for name, value in changes.items() if name != "address"}
        nameless = Suppression(
            pk=row.pk, application_id=row.application_id, masked_address=str(row.pk), reason=row.reason
        )
        super().tell(request, verb, nameless, changes=changes, **told)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        if key := as_uuid(term):
            return queryset.filter(pk=key)
        digests = []
        for type_ in TYPES:
            try:
                digests.append(address_of(type_, term, reason=SuppressionReason.MANUAL).digest)
            except SignalError:
                continue
        return queryset.filter(address_digest__in=digests)

    @row_action(
        gettext_lazy("Take off the list"),
        scope="suppressions:write",
        icon="remove_circle",
        variant="danger",
        form=RemoveForm,
        explain=gettext_lazy("The address can be subscribed again; it is not subscribed by this."),
    )
    def take_off(self, request: HttpRequest, row: Suppression, cleaned: dict[str, Any]) -> HttpResponseBase:
        suppression_remove(suppression=row, note=cleaned["note"], by=str(request.user), source=ConsentSource.OPERATOR)
        self.message_user(request, _("The address is off the list."))
        return HttpResponseRedirect(list_address("subscriptions.Suppression"))

    def panels(self, request: HttpRequest, row: Suppression) -> list[Panel]:
        events = SuppressionEvent.objects.filter(
            application_id=row.application_id, address_digest=bytes(row.address_digest)
        ).order_by("-pk")[:20]
        rows = [(event.occurred_at, _onto(event), event.reason, event.source, event.by, event.note) for event in events]
        headers = (_("time"), _("what"), _("reason"), _("source"), _("by"), _("note"))
        return [table_panel(_("History"), headers, rows)]


def _onto(event: SuppressionEvent) -> str:
    return _("taken off") if event.is_removal else _("added")


@admin.register(SuppressionEvent)
class SuppressionEventAdmin(ReadOnlyAdmin):
    read_scope = "suppressions:read"
    list_display = ("occurred_at", "application", "masked_address", "type", "what", "reason", "source", "by", "note")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, AddedFilter)
    fields = (
        *("occurred_at", "application", "type", "masked_address", "what", "reason", "source", "by", "note", "id"),
    )

    @admin.display(description=gettext_lazy("what"))
    def what(self, row: SuppressionEvent) -> str:
        return _onto(row)
