"""The console's pages of users: the list, and one page of all that is known about a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _
from unfold import widgets

from apps.subscriptions import services
from apps.subscriptions.console import choices, values
from apps.subscriptions.console.looking import user_ids, user_ids_by_address, user_ids_by_prefix
from apps.subscriptions.console.person import person_context
from apps.subscriptions.data_requests.models import DataRequestKind
from apps.subscriptions.data_requests.services import data_request_create
from apps.subscriptions.models import AppUser
from apps.subscriptions.services.users import is_erased
from apps.subscriptions.status import Setter
from apps.tenants.access import client_address
from apps.tenants.audit.services import audit, changes_of
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ScopedAdmin
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, rare_filter
from apps.tenants.console.panels import badge, registered_panels
from automata_signal.errors import SignalError, ValidationFailed

SOURCE = "operator"
"""What events say of a change made here."""
WRITE = "users:write"
SELECTED_MAX = 500


class EraseForm(forms.Form):
    external_id = forms.CharField(
        label=gettext_lazy("External id, typed once more"),
        max_length=255,
        widget=widgets.UnfoldAdminTextInputWidget({"autocomplete": "off"}),
    )
    reference = forms.CharField(
        label=gettext_lazy("Reference"),
        max_length=100,
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget({"autocomplete": "off"}),
        help_text=gettext_lazy("Of the letter or ticket by which it was asked. Write no name: it stays."),
    )


class CopyForm(forms.Form):
    reference = EraseForm.base_fields["reference"]


class TestGroupFilter(admin.SimpleListFilter):
    """By a partial index: whoever is in the group is found at once."""

    title = gettext_lazy("test group")
    parameter_name = "test"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        return [("1", _("In the test group"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        return queryset.filter(is_test=True) if self.value() == "1" else None


def nameless(user: AppUser) -> AppUser:
    """As the audit log tells of a user: by our id alone, since nobody can take an external id out of it again."""
    return AppUser(pk=user.pk, application_id=user.application_id, external_id=f"user {user.pk}")


@admin.register(AppUser)
class AppUserAdmin(ScopedAdmin):
    read_scope, write_scope = "users:read", WRITE
    manager_name = "with_archived"
    may_delete = False
    search_help_text = gettext_lazy(
        "How an external id begins; a whole e-mail address, phone number or token; or an id"
    )
    list_display = ("external_id", "application", "state", "group", "last_active_at", "created_at")
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        TestGroupFilter,
        AddedFilter,
        rare_filter(
            gettext_lazy("archived"),
            "archived",
            (("1", gettext_lazy("Yes")), ("0", gettext_lazy("No"))),
            lambda rows, value: rows.filter(is_archived=value == "1"),
        ),
    )
    fields = (
        *("application", "external_id", "properties", "is_test", "state", "last_active_at", "created_at"),
        *("updated_at", "archived_at", "id"),
    )
    row_actions = ("add_to_test_group", "leave_test_group", "copy", "archive", "erase")
    actions = ("join_test_group", "quit_test_group", "copy_all", "erase_all")

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

    @admin.display(description=gettext_lazy("test group"))
    def group(self, row: AppUser) -> Any:
        return badge("info", _("test")) if row.is_test else ""

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """One question after the other, each by an index of its own."""
        if key := as_uuid(term):
            return queryset.filter(pk__in=[key, *user_ids(grants_of(request).applications(self.read_scope), term)])
        applications = grants_of(request).applications(self.read_scope)
        keys = user_ids_by_prefix(applications, term)
        with_addresses = grants_of(request).applications("subscriptions:read")
        if not keys and (reads := [one for one in applications if one in set(with_addresses)]):
            keys = user_ids_by_address(reads, term)
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

    # --- Buttons -------------------------------------------------------------------------------------------------

    @row_action(
        gettext_lazy("Add to the test group"),
        scope=WRITE,
        icon="science",
        is_direct=True,
        is_offered=lambda user: not user.is_test and not user.is_archived,
    )
    def add_to_test_group(self, request: HttpRequest, row: AppUser, cleaned: dict[str, Any]) -> str:
        services.user_update(user=row, is_test=True)
        return _("Test sends can go to this user now.")

    @row_action(
        gettext_lazy("Take out of the test group"),
        scope=WRITE,
        icon="science_off",
        is_direct=True,
        is_offered=lambda user: user.is_test,
    )
    def leave_test_group(self, request: HttpRequest, row: AppUser, cleaned: dict[str, Any]) -> str:
        services.users_set_test(application=row.application, user_ids=[row.pk], is_test=False)
        return _("The user is not in the test group any more.")

    @row_action(
        gettext_lazy("Copy of all data"),
        scope=WRITE,
        icon="folder_zip",
        form=CopyForm,
        explain=gettext_lazy(
            "Puts together everything that is held about this person, to answer their request. Who may see personal "
            "data loads the file when it is ready."
        ),
        is_offered=lambda user: not is_erased(user),
    )
    def copy(self, request: HttpRequest, row: AppUser, cleaned: dict[str, Any]) -> HttpResponseBase:
        return self._ask(request, row, DataRequestKind.EXPORT, cleaned["reference"])

    @row_action(
        gettext_lazy("Archive"),
        scope=WRITE,
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
        scope=WRITE,
        icon="person_remove",
        variant="danger",
        form=EraseForm,
        explain=gettext_lazy("Every personal datum of this user goes, for ever. What was sent stays counted."),
        is_offered=lambda user: not is_erased(user),
    )
    def erase(self, request: HttpRequest, row: AppUser, cleaned: dict[str, Any]) -> HttpResponseBase:
        if cleaned["external_id"] != row.external_id:
            raise ValidationFailed.of("external_id", _("That is not the external id of this user."))
        return self._ask(request, row, DataRequestKind.ERASE, cleaned["reference"])

    def _ask(self, request: HttpRequest, row: AppUser, kind: str, reference: str) -> HttpResponseBase:
        made = data_request_create(
            application=row.application,
            user=row,
            kind=kind,
            by=request.user,  # type: ignore[arg-type]
            ip=client_address(request),
            reference=reference,
        )
        messages.success(request, _("It is being done in the background. You can leave this page."))
        return HttpResponseRedirect(reverse("admin:subscriptions_datarequest_change", args=[made.pk]))

    def tell(
        self,
        request: HttpRequest,
        verb: str,
        row: Any,
        *,
        before: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """By our id, and which fields, without their values: nobody can take them out of the audit log again."""
        if changes is None:
            changes = changes_of(before, self._told_values(row, anew=True)) if before is not None else {}
        told = {name: value for name, value in (details or {}).items() if name != "external_id"}
        if changes:
            told["changed"] = sorted(changes)
        super().tell(request, verb, nameless(row), changes={}, details=told)

    # --- Selections ----------------------------------------------------------------------------------------------

    def get_actions(self, request: HttpRequest) -> Any:
        return super().get_actions(request) if self.is_allowed(request, WRITE) else {}

    @admin.action(description=gettext_lazy("Add to the test group"))
    def join_test_group(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._set_test(request, queryset, is_test=True)

    @admin.action(description=gettext_lazy("Take out of the test group"))
    def quit_test_group(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._set_test(request, queryset, is_test=False)

    def _set_test(self, request: HttpRequest, queryset: QuerySet[Any], *, is_test: bool) -> None:
        changed, selected = 0, self._selected(request, queryset)
        if selected is None:
            return
        for application, keys in selected.items():
            found = services.users_set_test(application=application, user_ids=keys, is_test=is_test)
            changed += found
            action = "user.join_test_group" if is_test else "user.leave_test_group"
            audit(action, request=request, application_id=application.pk, details={"users": [str(k) for k in keys]})
        text = ngettext("%(count)d user was changed.", "%(count)d users were changed.", changed)
        messages.success(request, text % {"count": changed})

    @admin.action(description=gettext_lazy("Copy of all data …"))
    def copy_all(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase | None:
        return self._order(request, queryset, DataRequestKind.EXPORT)

    @admin.action(description=gettext_lazy("Erase …"))
    def erase_all(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase | None:
        return self._order(request, queryset, DataRequestKind.ERASE)

    def _order(self, request: HttpRequest, queryset: QuerySet[Any], kind: str) -> HttpResponseBase | None:
        """To the page that asks once more, with the users of the selection."""
        selected = self._selected(request, queryset)
        if selected is None:
            return None
        if len(selected) != 1:
            messages.error(request, _("Choose users of one application."))
            return None
        ((application, keys),) = selected.items()
        query = urlencode(
            {"application": str(application.pk), "kind": kind, "user": [str(k) for k in keys]}, doseq=True
        )
        return HttpResponseRedirect(f"{reverse('admin:subscriptions_datarequest_order')}?{query}")

    def _selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> dict[Any, list[UUID]] | None:
        """Those that may be changed, by application; 403 if there is one among them that may not. None, and a word to
        the operator, if they are too many: to take some of them would not be what was asked."""
        found: dict[Any, list[UUID]] = {}
        rows = list(queryset.select_related("application")[: SELECTED_MAX + 1])
        if len(rows) > SELECTED_MAX:
            messages.error(request, _("Choose %(count)d users at most.") % {"count": SELECTED_MAX})
            return None
        for row in rows:
            if not self.is_allowed(request, WRITE, row):
                raise PermissionDenied
            found.setdefault(row.application, []).append(row.pk)
        return found

    # --- The page ------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    def get_urls(self) -> list[Any]:
        own = (("properties", self.properties_view), ("preferences", self.preferences_view))
        return [
            *(
                path(
                    f"<uuid:object_id>/{name}/", self.admin_site.admin_view(view), name=f"subscriptions_appuser_{name}"
                )
                for name, view in own
            ),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """One page of all that is known; a POST changes the properties, as a form of Django's would."""
        user = self.get_object(request, object_id) if request.method == "GET" and as_uuid(object_id) else None
        if user is None:
            return super().change_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request, user):
            raise PermissionDenied
        panels = registered_panels(request, user)
        context = {
            **self._base(request, user),
            **person_context(request, user),
            "state_badge": self.state(user),
            "panels_main": [panel for panel in panels if not panel.is_aside],
            "panels_aside": [panel for panel in panels if panel.is_aside],
            "row_actions": [
                {"action": action, "address": self.action_address(user, action.name)}
                for action in self._declared_actions()
                if action.is_offered(user) and self.is_allowed(request, action.scope, user)
            ],
        }
        return TemplateResponse(request, "admin/subscriptions/person.html", context)

    def _base(self, request: HttpRequest, user: AppUser) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": user.external_id,
            "subtitle": None,
            "original": user,
            "user_row": user,
            "back": self.address_of(user.pk),
            "has_view_permission": True,
        }

    def _found(self, request: HttpRequest, object_id: UUID, scope: str) -> AppUser:
        user: AppUser | None = self.get_object(request, str(object_id))
        if user is None:
            raise Http404
        if not self.is_allowed(request, scope, user):
            raise PermissionDenied
        return user

    def properties_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The properties as rows of a form."""
        user = self._found(request, object_id, WRITE)
        found, problem = values.shown(user.properties), ""
        if request.method == "POST":
            found = values.read(request.POST, user.properties, kinds=[kind for kind, _label in values.KINDS])
            if found.is_valid:
                try:
                    services.user_update(user=user, properties=found.changes)
                    audit(
                        "user.properties",
                        request=request,
                        application_id=user.application_id,
                        row=nameless(user),
                        details={"changed": sorted(found.changes)},
                    )
                    messages.success(request, _("The properties are saved."))
                    return HttpResponseRedirect(self.address_of(user.pk))
                except SignalError as error:
                    problem = values.add_refusal(found, error)
        context = {**self._base(request, user), "values": found, "kinds": values.KINDS, "problem": problem}
        return TemplateResponse(
            request, "admin/subscriptions/values.html", {**context, "title": _("Properties"), "noun": user.external_id}
        )

    def preferences_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """What the person wants, as they told somebody; the history says that an operator wrote it down."""
        user = self._found(request, object_id, "preferences:write")
        problem = ""
        if is_erased(user):
            raise Http404
        if request.method == "POST":
            try:
                changed = choices.choices_save(user, request.POST)
                audit(
                    "user.preferences",
                    request=request,
                    application_id=user.application_id,
                    row=nameless(user),
                    details={"changed": changed},
                )
                messages.success(request, _("What the person wants is written down."))
                return HttpResponseRedirect(self.address_of(user.pk))
            except SignalError as error:
                problem = "; ".join(f"{one.field}: {one.message}" for one in error.details) or error.message
        context = {
            **self._base(request, user),
            **choices.choices_context(user, language=get_language() or "en"),
            "problem": problem,
            "title": _("Consent and preferences"),
        }
        return TemplateResponse(request, "admin/subscriptions/choices.html", context)
