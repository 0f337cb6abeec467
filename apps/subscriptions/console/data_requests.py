"""The console's pages of what people ask about their own data: what is open, how far it is, and the proof of it."""

from __future__ import annotations

import csv
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold import widgets

from apps.subscriptions.data_requests import services
from apps.subscriptions.data_requests.models import WORKING, DataRequest, DataRequestKind, DataRequestState
from apps.subscriptions.erasure import readers
from apps.subscriptions.models import AppUser
from apps.subscriptions.services.users import is_erased
from apps.tenants.access import client_address
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.forms import add_refusal
from apps.tenants.console.list_links import ListLink, list_link_for
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, link_filter, rare_filter
from apps.tenants.console.panels import badge, short_id
from apps.tenants.models import Application
from automata_signal.errors import SignalError

READ, WRITE, PERSONAL = "users:read", "users:write", "personal_data:read"
COLOURS = {
    DataRequestState.WAITING.value: "info",
    DataRequestState.RUNNING.value: "info",
    DataRequestState.DONE.value: "success",
    DataRequestState.FAILED.value: "danger",
    DataRequestState.CANCELED.value: "default",
}
NAMES = {
    "personal_fields": gettext_lazy("Personal fields (external id, properties, device data)"),
    "addresses": gettext_lazy("Addresses and tokens"),
    "choices": gettext_lazy("Consents and preferences"),
    "messages": gettext_lazy("Messages with the person's name on them"),
    "inbox": gettext_lazy("Inbox"),
    "profile": gettext_lazy("Profile"),
    "subscriptions": gettext_lazy("Subscriptions"),
    "subscription_events": gettext_lazy("What changed about subscriptions"),
    "suppressions": gettext_lazy("Suppression list"),
    "audit_log": gettext_lazy("What operators did"),
}
"""Of the sections of a copy, and of what an erasure counts."""
IN_COPY = {"messages": gettext_lazy("Messages")}
"""Sections whose name says something else in a proof."""
LIST_MAX_BYTES = 1024 * 1024


class OrderForm(forms.Form):
    """Requests of many people in one go."""

    application = forms.ChoiceField(label=gettext_lazy("Application"), widget=widgets.UnfoldAdminSelectWidget)
    kind = forms.ChoiceField(
        label=gettext_lazy("What is asked"), choices=DataRequestKind.choices, widget=widgets.UnfoldAdminSelectWidget
    )
    external_ids = forms.CharField(
        label=gettext_lazy("External ids"),
        required=False,
        widget=widgets.UnfoldAdminTextareaWidget({"rows": 6, "autocomplete": "off"}),
        help_text=gettext_lazy("One a line, 1,000 at most."),
    )
    file = forms.FileField(
        label=gettext_lazy("Or a file"),
        required=False,
        widget=widgets.UnfoldAdminFileFieldWidget,
        help_text=gettext_lazy("CSV or text: the first column is the external id."),
    )
    reference = forms.CharField(
        label=gettext_lazy("Reference"),
        max_length=100,
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget({"autocomplete": "off"}),
        help_text=gettext_lazy("Of the letter or ticket by which it was asked. Write no name: it stays."),
    )
    confirmation = forms.CharField(
        label=gettext_lazy("How many people?"),
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget({"autocomplete": "off", "inputmode": "numeric"}),
        help_text=gettext_lazy("For an erasure, type their number: what is erased never comes back."),
    )

    def __init__(self, *args: Any, applications: list[Application], selected: list[AppUser], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.selected = selected
        if selected:  # of one application, and of no other than was looked at
            theirs = selected[0].application_id
            applications = [one for one in applications if one.pk == theirs]
            del self.fields["external_ids"], self.fields["file"]
        self.fields["application"].choices = [(str(one.pk), one.name) for one in applications]  # type: ignore[attr-defined]

    def clean_file(self) -> list[str]:
        file = self.cleaned_data["file"]
        if not file:
            return []
        if file.size > LIST_MAX_BYTES:
            raise forms.ValidationError(_("The file is too large."))
        try:
            text = file.read().decode("utf-8-sig")
            if "\0" in text:
                raise forms.ValidationError(_("Save the file as CSV in UTF-8."))
            return services.external_ids_of_csv(text)
        except (UnicodeDecodeError, csv.Error):
            raise forms.ValidationError(_("Save the file as CSV in UTF-8.")) from None

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        typed = services.external_ids_of_lines(cleaned.get("external_ids", ""))
        cleaned["ids"] = list(dict.fromkeys([*typed, *(cleaned.get("file") or ())]))
        count = len(self.selected) or len(cleaned["ids"])
        if not count:
            self.add_error("external_ids", _("Name at least one user."))
        elif cleaned.get("kind") == DataRequestKind.ERASE and cleaned.get("confirmation", "").strip() != str(count):
            text = ngettext("Type %(count)d: that is one person.", "Type %(count)d: so many people are named.", count)
            self.add_error("confirmation", text % {"count": count})
        return cleaned


@admin.register(DataRequest)
class DataRequestAdmin(ReadOnlyAdmin):
    """Who asked for what, by when, and what came of it. Nobody changes or deletes a row."""

    read_scope = READ
    search_help_text = gettext_lazy("Id of a request or of an order; external id of a user")
    list_display = ("key", "application", "what", "whose", "status", "due", "requested_by", "created_at", "finished_at")
    list_select_related = ("application", "user")
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("user"), "user", lambda rows, key: rows.filter(user_id=key)),
        link_filter(gettext_lazy("order"), "order", lambda rows, key: rows.filter(order_id=key)),
        AddedFilter,
        rare_filter(
            gettext_lazy("request"), "kind", DataRequestKind.choices, lambda rows, value: rows.filter(kind=value)
        ),
        rare_filter(
            gettext_lazy("state"),
            "state",
            (("open", gettext_lazy("Open")), *DataRequestState.choices),
            lambda rows, value: rows.filter(state__in=WORKING) if value == "open" else rows.filter(state=value),
        ),
    )
    fields = (
        *("application", "whose", "kind", "status", "reference", "requested_by", "requested_from", "created_at"),
        *("due_at", "started_at", "finished_at", "ended_by", "expires_at", "downloads_count", "order_id", "id"),
    )
    row_actions = ("download", "retry", "cancel")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application", "user")

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: DataRequest) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("request"))
    def what(self, row: DataRequest) -> str:
        return str(DataRequestKind(row.kind).label)

    @admin.display(description=gettext_lazy("user"))
    def whose(self, row: DataRequest) -> Any:
        return short_id(row.user_id) if is_erased(row.user) else row.user.external_id

    @admin.display(description=gettext_lazy("state"))
    def status(self, row: DataRequest) -> SafeString:
        label = DataRequestState(row.state).label
        return badge(COLOURS[row.state], f"{label} {row.percent} %" if row.is_working else label)

    @admin.display(description=gettext_lazy("due"))
    def due(self, row: DataRequest) -> Any:
        if not row.is_working:
            return "–"
        return badge("danger", _("overdue")) if row.is_overdue else row.due_at

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        if key := as_uuid(term):
            found = queryset.filter(pk=key)
            return found if found.exists() else queryset.filter(order_id=key)
        applications = grants_of(request).applications(READ)
        users = AppUser.with_archived.filter(application_id__in=applications, external_id=term)
        return queryset.filter(user_id__in=list(users.values_list("pk", flat=True)))

    # --- Buttons -------------------------------------------------------------------------------------------------

    @row_action(
        gettext_lazy("Download"),
        scope=PERSONAL,
        icon="download",
        variant="primary",
        is_direct=True,
        is_offered=lambda row: row.has_file,
    )
    def download(self, request: HttpRequest, row: DataRequest, cleaned: dict[str, Any]) -> HttpResponseBase:
        link = services.data_request_link(
            application=row.application,
            request_id=row.pk,
            by=request.user,  # type: ignore[arg-type]
            ip=client_address(request),
        )
        parts = urlsplit(link.url)
        return HttpResponseRedirect(f"{parts.path}?{parts.query}")

    @row_action(
        gettext_lazy("Try again"),
        scope=WRITE,
        icon="replay",
        is_direct=True,
        is_offered=lambda row: (
            row.state == DataRequestState.FAILED
            and (
                row.kind == DataRequestKind.ERASE
                or not is_erased(row.user)  # what is erased is still to be counted again
            )
        ),
    )
    def retry(self, request: HttpRequest, row: DataRequest, cleaned: dict[str, Any]) -> str:
        services.data_request_retry(application=row.application, request_id=row.pk, by=request.user)  # type: ignore[arg-type]
        return _("It goes on where it was.")

    @row_action(
        gettext_lazy("Cancel"),
        scope=WRITE,
        icon="cancel",
        variant="danger",
        explain=gettext_lazy("A copy that was begun is deleted. What is erased stays erased."),
        is_offered=lambda row: row.is_working,
    )
    def cancel(self, request: HttpRequest, row: DataRequest, cleaned: dict[str, Any]) -> str:
        services.data_request_cancel(application=row.application, request_id=row.pk, by=request.user)  # type: ignore[arg-type]
        return _("The request is canceled.")

    # --- The page ------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        progress = self.admin_site.admin_view(self.progress_view)
        order = self.admin_site.admin_view(self.order_view)
        return [
            path("<uuid:object_id>/progress/", progress, name="subscriptions_datarequest_progress"),
            path("order/", order, name="subscriptions_datarequest_order"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        row = self.get_object(request, object_id) if request.method == "GET" and as_uuid(object_id) else None
        if row is None:
            return super().change_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": DataRequestKind(row.kind).label,
            "subtitle": None,
            "original": row,
            **self._shown(request, row),
        }
        return TemplateResponse(request, "admin/subscriptions/data_request.html", context)

    def progress_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The progress alone, for a page that asks every few seconds."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return TemplateResponse(request, "admin/subscriptions/data_request_body.html", self._shown(request, row))

    def _shown(self, request: HttpRequest, row: DataRequest) -> dict[str, Any]:
        return {
            "row": row,
            "is_erasure": row.kind == DataRequestKind.ERASE,
            "is_person_erased": is_erased(row.user),
            "status_badge": self.status(row),
            "proof": _proof(row),
            "contents": _contents(row),
            "may_load": row.has_file and self.is_allowed(request, PERSONAL, row),
            "address": reverse("admin:subscriptions_datarequest_progress", args=[row.pk]),
            "row_actions": [
                {"action": action, "address": self.action_address(row, action.name)}
                for action in self._declared_actions()
                if action.is_offered(row) and self.is_allowed(request, action.scope, row)
            ],
        }

    def order_view(self, request: HttpRequest) -> HttpResponse:
        """Requests of many people: of a selection of the list of users, or of a list of external ids."""
        grants = grants_of(request)
        allowed = grants.applications(WRITE)
        if not allowed:
            raise PermissionDenied
        applications = list(Application.objects.filter(pk__in=allowed).order_by("name"))
        keys = [key for text in request.GET.getlist("user")[: services.ORDER_MAX] if (key := as_uuid(text))]
        named = as_uuid(request.GET.get("application", ""))
        users = AppUser.with_archived.filter(pk__in=keys, application_id=named) if named in set(allowed) else []
        selected = [user for user in users if not is_erased(user)]
        form = OrderForm(
            request.POST if request.method == "POST" else None,
            request.FILES if request.method == "POST" else None,
            applications=applications,
            selected=selected,
            initial={name: request.GET.get(name, "") for name in ("application", "kind")},
        )
        if request.method == "POST" and form.is_valid():
            answer = self._ordered(request, form)
            if answer is not None:
                return answer
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _("Requests of several people"),
            "subtitle": None,
            "form": form,
            "media": self.media + form.media,
            "selected": selected,
            "back": reverse("admin:subscriptions_datarequest_changelist"),
        }
        return TemplateResponse(request, "admin/subscriptions/data_request_order.html", context)

    def _ordered(self, request: HttpRequest, form: OrderForm) -> HttpResponse | None:
        cleaned = form.cleaned_data
        try:
            order = services.data_requests_create(
                application=Application.objects.get(pk=cleaned["application"]),
                kind=cleaned["kind"],
                by=request.user,  # type: ignore[arg-type]
                external_ids=cleaned["ids"],
                user_ids=[user.pk for user in form.selected],
                ip=client_address(request),
                reference=cleaned["reference"],
            )
        except SignalError as error:
            add_refusal(form, error, {})
            return None
        made = len(order.requests)
        text = ngettext("%(count)d request is being answered.", "%(count)d requests are being answered.", made)
        if made:
            messages.success(request, text % {"count": made})
        if order.open_already:
            text = ngettext("%(count)d is open already.", "%(count)d are open already.", order.open_already)
            messages.info(request, text % {"count": order.open_already})
        if order.unknown:
            shown = ", ".join(order.unknown[:10]) + (" …" if len(order.unknown) > 10 else "")
            messages.warning(request, _("Nobody has these external ids: %(ids)s") % {"ids": shown})
        address = reverse("admin:subscriptions_datarequest_changelist")
        return HttpResponseRedirect(f"{address}?order={order.order_id}" if made else address)


def _contents(row: DataRequest) -> list[tuple[Any, int]]:
    """The sections of a copy, in their order, and how much each has."""
    if row.kind != DataRequestKind.EXPORT:
        return []
    return [(IN_COPY.get(name, NAMES.get(name, name)), row.result[name]) for name in readers() if name in row.result]


def _proof(row: DataRequest) -> list[tuple[Any, int, int | None]]:
    """What there was, and what is left of it."""
    if row.kind != DataRequestKind.ERASE:
        return []
    found, left = row.result.get("found", {}), row.result.get("left")
    return [
        (label, found[name], None if left is None else left.get(name, 0))
        for name, label in NAMES.items()
        if name in found
    ]


@list_link_for(DataRequest)
def order_link(request: HttpRequest) -> ListLink | None:
    if not grants_of(request).has(WRITE, None):
        return None
    return ListLink(_("Requests of several people"), "group_add", reverse("admin:subscriptions_datarequest_order"))
