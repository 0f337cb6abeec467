"""The admin classes that every page of the console is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import (
    BadRequest,
    FieldDoesNotExist,
    ObjectDoesNotExist,
    PermissionDenied,
    ValidationError,
)
from django.db import models, transaction
from django.db.models import ForeignKey, Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from simple_history.template_utils import HistoricalRecordContextHelper
from unfold import widgets

from apps.tenants.audit.selectors import events_of
from apps.tenants.audit.services import MASKED, audit, changes_of, is_secret
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import RowAction
from apps.tenants.console.choosing import applications_with, chosen_application
from apps.tenants.console.forms import JSONObjectField, RefusedForm, SafeAutocompleteSelect, add_refusal
from apps.tenants.console.list_links import registered_links
from apps.tenants.console.lists import BoundedPaginator, ScopedChangeList, as_uuid
from apps.tenants.console.panels import Panel, registered_panels
from apps.tenants.models import Application
from automata_signal.encryption import DecryptionError
from automata_signal.errors import Conflict, SignalError

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    class _Admin(ModelAdmin[Any]):
        pass

    class _HistoryAdmin(ModelAdmin[Any]):
        object_history_list_template: str

    from django.urls import URLPattern
else:
    from simple_history.admin import SimpleHistoryAdmin as _HistoryAdmin
    from unfold.admin import ModelAdmin as _Admin

HISTORY_SHOWN = 100
"""Events of a row that its page of history shows; the audit log has all of them."""
OWN = "self"
"""The `application_path` of Application."""


class FastAdmin(_Admin):
    """Lists that are quick on millions of rows: by key, no full count, nothing sorted or searched without an index."""

    show_full_result_count = False
    paginator = BoundedPaginator
    list_per_page = 50
    list_max_show_all = 0
    ordering: ClassVar[Any] = ("-pk",)
    sortable_by: ClassVar[Any] = ()
    search_fields: ClassVar[Any] = ("pk",)
    actions: Any = None
    list_display: Any
    list_filter: ClassVar[Any]
    list_select_related: ClassVar[Any]
    fields: ClassVar[Any]
    readonly_fields: ClassVar[Any]
    list_filter_sheet = True
    warn_unsaved_form = True
    change_form_outer_before_template = "admin/console/panels_before.html"
    change_form_outer_after_template = "admin/console/panels_after.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ScopedChangeList]:
        return ScopedChangeList

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Django's, but no "database error" for look-ups that cannot be: the second time they are a 400."""
        try:
            return super().get_changelist_instance(request)
        except IncorrectLookupParameters:
            if ERROR_FLAG in request.GET:
                raise BadRequest("These filters cannot be read.") from None
            raise

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        links = registered_links(request, self.model)
        return super().changelist_view(request, {"list_links": links, **(extra_context or {})})

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """The bulk action that was chosen; 400 for a row that cannot be one."""
        for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
            try:
                self.model._meta.pk.to_python(key)
            except ValidationError:
                raise BadRequest("There is no such row.") from None
        return super().response_action(request, queryset, *args, **kwargs)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only what a filter of the list offers: every other column may lack an index, or be nobody's to probe."""
        if "\0" in value:
            return False  # PostgreSQL has no such text
        offered = {getattr(item, "parameter_name", item) for item in self.list_filter}
        if lookup in offered:
            return True
        if any(lookup.startswith(f"{name}__") for name in offered if isinstance(name, str)):
            return bool(super().lookup_allowed(lookup, value, request))  # type: ignore[arg-type]
        columns = {"pk", *(name for f in self.model._meta.get_fields() for name in (f.name, getattr(f, "attname", "")))}
        return lookup.split("__")[0] not in columns  # what is no look-up at all is Django's to answer

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """No row has a NUL in its key: PostgreSQL has no such text."""
        return None if "\0" in str(object_id) else super().get_object(request, object_id, from_field)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.replace("\0", "").strip()
        return (self.search(request, queryset, term) if term else self.unsearched(request, queryset)), False

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """The rows that `term` finds, by an index. By id unless told."""
        key = as_uuid(term)
        return queryset.filter(pk=key) if key else queryset.none()

    def unsearched(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the list when nothing is searched."""
        return queryset

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """From the address, but no date and, for a relation, only an id: what a widget cannot show, it raises."""
        given = super().get_changeform_initial_data(request)
        return {name: value for name, value in given.items() if self._can_be_shown(name, value)}

    def _can_be_shown(self, name: str, value: Any) -> bool:
        try:
            field = self.model._meta.get_field(name)
        except FieldDoesNotExist:
            return True
        if isinstance(field, models.DateField | models.TimeField):
            return False
        return not field.is_relation or as_uuid(value) is not None

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if isinstance(db_field, models.JSONField):
            label = capfirst(db_field.verbose_name)
            return JSONObjectField(required=not db_field.blank, label=label, help_text=db_field.help_text)
        if isinstance(db_field, models.TextField):
            kwargs.setdefault("widget", widgets.UnfoldAdminTextareaWidget({"rows": 3}))
        return super().formfield_for_dbfield(db_field, request, **kwargs)


class ScopedAdmin(FastAdmin):
    """Rows of applications: an operator sees and changes those of the applications where the role allows it.

    Changes go through services (`create`, `update`, `remove`); what a service refuses is shown on the field it names,
    and nothing of the request is kept. A row of another application answers as one that does not exist.
    """

    read_scope: ClassVar[str]
    write_scope: ClassVar[str] = ""
    """Empty: nobody adds, changes or deletes by a form, superusers neither."""
    application_path: ClassVar[str] = "application"
    """Look-up from the model to its application."""
    manager_name: ClassVar[str] = ""
    """The manager that has archived rows too, if it is not the default one."""
    may_add = may_change = may_delete = True
    row_actions: Sequence[str] = ()
    refusal_aliases: Mapping[str, str] = {}
    """Service's names of inputs → names of form fields, where they differ."""
    audit_area: ClassVar[str] = ""
    """What stands before the point in the audit log; the model's name unless told."""

    # --- Who -----------------------------------------------------------------------------------------------------

    def application_id_of(self, row: Any) -> UUID:
        if self.application_path == OWN:
            return row.pk  # type: ignore[no-any-return]
        *relations, last = self.application_path.split("__")
        for relation in relations:
            row = getattr(row, relation)
        return getattr(row, f"{last}_id")  # type: ignore[no-any-return]

    def is_allowed(self, request: HttpRequest, scope: str, row: Any = None) -> bool:
        """Whether the scope is there, in the row's application; without one, in any. A row given by its id is read."""
        if not scope:
            return False
        if row is not None and not isinstance(row, Model):
            row = self.get_object(request, str(row))
            if row is None:
                return False
        return grants_of(request).has(scope, None if row is None else self.application_id_of(row))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.is_allowed(request, self.read_scope)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.is_allowed(request, self.read_scope, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may_add and self.is_allowed(request, self.write_scope)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may_change and self.is_allowed(request, self.write_scope, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may_delete and self.is_allowed(request, self.write_scope, obj)

    # --- What ----------------------------------------------------------------------------------------------------

    def within(self, request: HttpRequest, queryset: QuerySet[Any], scope: str) -> QuerySet[Any]:
        """Those rows that are in an application where the operator has `scope`."""
        grants = grants_of(request)
        if grants.is_platform:
            return queryset
        ids = grants.applications(scope)
        column = "pk" if self.application_path == OWN else f"{self.application_path}_id"
        # One application is an equality, so that an index on (application, id) also gives the order.
        return queryset.filter(**{column: ids[0]} if len(ids) == 1 else {f"{column}__in": ids})

    def all_rows(self) -> QuerySet[Any]:
        manager = getattr(self.model, self.manager_name) if self.manager_name else self.model._default_manager
        return manager.get_queryset().order_by(*self.ordering)  # type: ignore[no-any-return]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return self.within(request, self.all_rows(), self.read_scope)

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: Any, **kwargs: Any) -> Any:
        """Choices are of the operator's applications; the application itself, where something may be written."""
        target = db_field.remote_field.model
        if target is Application:
            ids = grants_of(request).applications(self.write_scope)
            kwargs["queryset"] = Application.objects.filter(pk__in=ids).order_by("name")
        else:
            admin = self.admin_site._registry.get(target)
            kwargs["queryset"] = admin.get_queryset(request) if admin else target._default_manager.none()
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = SafeAutocompleteSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        for offer in ("can_add_related", "can_change_related", "can_delete_related", "can_view_related"):
            if field is not None and hasattr(field.widget, offer):
                setattr(field.widget, offer, False)
        return field

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """What the address says, and the application that was looked at last."""
        given = super().get_changeform_initial_data(request)
        if self.application_path != "application" or "application" in request.GET:
            return given
        chosen = chosen_application(request, applications_with(request, self.write_scope))
        return {"application": chosen.pk if chosen else "", **given}

    # --- Changes, by services ------------------------------------------------------------------------------------

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Model:
        """Call the service that makes a row."""
        raise PermissionDenied

    def update(self, request: HttpRequest, row: Any, changes: dict[str, Any]) -> Model:
        """Call the service that changes a row. `changes` is what the form has changed."""
        raise PermissionDenied

    def remove(self, request: HttpRequest, row: Any) -> None:
        """Call the service that deletes a row."""
        raise PermissionDenied

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            changes = {name: form.cleaned_data[name] for name in form.changed_data if name in form.cleaned_data}
            saved = self.update(request, obj, changes)
        else:
            saved = self.create(request, form.cleaned_data)
        obj.__dict__.update(saved.__dict__)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.remove(request, obj)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        refusal = getattr(request, "_console_refusal", None)
        if refusal is None:
            return form
        return type(form)(  # type: ignore[misc]
            form.__name__, (RefusedForm, form), {"refusal": refusal, "aliases": self.refusal_aliases}
        )

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Django's, but a refusal of the service undoes everything and shows the form again, with the refusal on it."""
        if request.method != "POST":
            return super().changeform_view(request, object_id, form_url, extra_context)
        try:
            with transaction.atomic():
                return super().changeform_view(request, object_id, form_url, extra_context)
        except (SignalError, DecryptionError) as error:
            request._console_refusal = _refusal(error)  # type: ignore[attr-defined]
        for name in request.FILES:
            for file in request.FILES.getlist(name):
                file.seek(0)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        try:
            return super().delete_view(request, object_id, extra_context)
        except SignalError as error:
            self.show_refusal(request, error)
            return HttpResponseRedirect(self.address_of(object_id))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """The rows themselves: what hangs on them is the service's matter, and may be millions."""
        return [str(row) for row in objs], {str(self.model._meta.verbose_name_plural): len(objs)}, set(), []

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(self.address_of(obj.pk))

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(self.address_of(obj.pk))

    def address_of(self, key: Any) -> str:
        """The page of a row."""
        return reverse(f"admin:{self._route}_change", args=[key])

    @property
    def _route(self) -> str:
        return f"{self.model._meta.app_label}_{self.model._meta.model_name}"

    def show_refusal(self, request: HttpRequest, error: SignalError) -> None:
        named = "; ".join(f"{problem.field}: {problem.message}" for problem in error.details)
        text = f"{error.message} ({named})" if named and named not in error.message else error.message
        messages.error(request, text)

    # --- The audit log, which forms and buttons write to, instead of Django's list of recent actions ---------------

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
        """Tell of what was done with a row. What has changed is `changes`, or what differs from `before`."""
        if changes is None:
            changes = changes_of(before, self._told_values(row, anew=True)) if before is not None else {}
        shown = {name: MASKED if is_secret(name) and value else value for name, value in (details or {}).items()}
        area = self.audit_area or self.opts.model_name
        application_id = self._audit_application_id(row)
        audit(f"{area}.{verb}", request=request, application_id=application_id, row=row, changes=changes, details=shown)

    def _audit_application_id(self, row: Any) -> UUID | None:
        """None for what is the whole platform's."""
        try:
            return self.application_id_of(row)
        except (AttributeError, ObjectDoesNotExist):
            return None

    def _told_values(self, row: Any, *, anew: bool = False) -> dict[str, Any]:
        """A row's own columns that are at hand and no secret of ours; `anew` as they are in the database now."""
        names = [
            field.attname
            for field in self.opts.concrete_fields
            if field.attname in row.__dict__ and not isinstance(field, models.BinaryField) and not field.generated
        ]
        if not anew:
            return {name: row.__dict__[name] for name in names}
        found = self.all_rows().filter(pk=row.pk).order_by().values(*names).first()
        return found or {}

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """Not a text, but [before, after] of what the form has changed; `log_addition` and `log_change` get it."""
        before = {} if add else form.initial
        given = {name: form.cleaned_data.get(name) for name in form.changed_data if name in form.cleaned_data}
        return {"changes": changes_of({name: _given(before.get(name)) for name in given}, _as_given(given))}

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """What the audit log tells of a row, newest first; for who may read it in the row's application."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row) or not self._may_read_audit(request, row):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("What was done"),
            "subtitle": str(row),
            "row": row,
            "events": events_of(row, all_of_it=grants_of(request).is_platform)[:HISTORY_SHOWN],
            "audit_address": audit_address(row),
            "back": self.address_of(row.pk),
        }
        return TemplateResponse(request, "admin/console/told.html", context)

    def _may_read_audit(self, request: HttpRequest, row: Any) -> bool:
        application_id = self._audit_application_id(row)
        if application_id is None:
            return grants_of(request).is_platform
        return grants_of(request).has("audit:read", application_id)

    def _shows_history(self, request: HttpRequest, row: Any) -> bool:
        return self._may_read_audit(request, row)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self.tell(request, "add", obj, changes=_changes_in(message))

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        changes = _changes_in(message)
        verb = "change" if isinstance(message, dict) else str(message)
        if changes or not isinstance(message, dict):
            self.tell(request, verb, obj, changes=changes)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for row in queryset:
            self.tell(request, "delete", row, changes={})

    # --- The page ------------------------------------------------------------------------------------------------

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        """What stands above and below the form of this row."""
        return []

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        context["show_save_and_add_another"] = False
        context["show_save_and_continue"] = False
        if row is not None and not context.get("is_popup"):
            context["show_history"] = self._shows_history(request, row)
            panels = [*self.panels(request, row), *registered_panels(request, row)]
            context["panels_before"] = [panel for panel in panels if panel.before]
            context["panels_after"] = [panel for panel in panels if not panel.before]
            context["row_actions"] = [
                {"action": action, "address": self.action_address(row, action.name)}
                for action in self._declared_actions()
                if action.is_offered(row) and self.is_allowed(request, action.scope, row)
            ]
        return super().render_change_form(request, context, *args, **kwargs)

    # --- Buttons -------------------------------------------------------------------------------------------------

    def _declared_actions(self) -> list[RowAction]:
        return [getattr(self, name).row_action for name in self.row_actions]

    def action_address(self, row: Any, name: str) -> str:
        return reverse(f"admin:{self._route}_do", args=[row.pk, name])

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.action_view)
        return [path("<uuid:object_id>/do/<slug:name>/", view, name=f"{self._route}_do"), *super().get_urls()]

    def action_view(self, request: HttpRequest, object_id: UUID, name: str) -> HttpResponseBase:
        """Ask, and on POST do it. 404 for what is not there or not theirs, 403 for what the role has not."""
        action = next((action for action in self._declared_actions() if action.name == name), None)
        row = self.get_object(request, str(object_id)) if action else None
        if action is None or row is None:
            raise Http404
        if not self.is_allowed(request, action.scope, row):
            raise PermissionDenied
        is_post = request.method == "POST"
        form = action.form(request.POST, request.FILES) if is_post else action.form()
        if is_post and form.is_valid():
            answer = self._run(request, action, row, form)
            if answer is not None:
                return answer
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": action.label,
            "subtitle": str(row),
            "row": row,
            "action": action,
            "form": form,
            "media": self.media + form.media,
            "facts": getattr(self, action.facts)(request, row) if action.facts else [],
            "back": self.address_of(row.pk),
        }
        return TemplateResponse(request, "admin/console/action.html", context)

    def _run(self, request: HttpRequest, action: RowAction, row: Any, form: forms.Form) -> HttpResponseBase | None:
        """The answer to a POST, or None to show the form again."""
        before = self._told_values(row)
        try:
            answer = getattr(self, action.name)(request, row, form.cleaned_data)
        except (SignalError, DecryptionError) as error:
            refusal = _refusal(error)
            if form.fields:
                add_refusal(form, refusal, self.refusal_aliases)
                return None
            self.show_refusal(request, refusal)
            return HttpResponseRedirect(self.address_of(row.pk))
        self.tell(request, action.name, row, before=before, details=form.cleaned_data)
        if isinstance(answer, HttpResponseBase):
            return answer
        messages.success(request, answer)
        return HttpResponseRedirect(self.address_of(row.pk))


def _changes_in(message: Any) -> dict[str, Any]:
    return message.get("changes", {}) if isinstance(message, dict) else {}


def _given(value: Any) -> Any:
    return getattr(value, "pk", value)


def _as_given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _given(value) for name, value in values.items()}


def _refusal(error: Exception) -> SignalError:
    if isinstance(error, SignalError):
        return error
    return Conflict(_("What is stored cannot be decrypted: its encryption key is missing."), code="CANNOT_DECRYPT")


class PlatformAdmin(ScopedAdmin):
    """What belongs to the whole platform and not to an application: superusers only."""

    read_scope = write_scope = "platform"

    def is_allowed(self, request: HttpRequest, scope: str, row: Any = None) -> bool:
        return grants_of(request).is_platform

    def _audit_application_id(self, row: Any) -> UUID | None:
        return None

    def within(self, request: HttpRequest, queryset: QuerySet[Any], scope: str) -> QuerySet[Any]:
        return queryset if grants_of(request).is_platform else queryset.none()


class ReadOnlyAdmin(ScopedAdmin):
    """What the system writes and nobody edits: events, messages, batches."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [name for _title, options in self.get_fieldsets(request, obj) for name in options["fields"]]


class _InWords(HistoricalRecordContextHelper):  # type: ignore[misc]
    """Says a choice by its label: Draft → Running."""

    def prepare_delta_change_value(self, change: Any, value: Any) -> Any:
        labels = dict(getattr(self.model._meta.get_field(change.field), "flatchoices", None) or ())
        if isinstance(value, str) and value in labels:
            return labels[value]
        return super().prepare_delta_change_value(change, value)


class ScopedHistoryAdmin(_HistoryAdmin, ScopedAdmin):
    """With the history of what people have changed: who, when, and what from what. No reverting past the services."""

    object_history_list_template = "admin/console/history_list.html"

    def get_historical_record_context_helper(self, request: HttpRequest, historical_record: Any) -> _InWords:
        return _InWords(self.model, historical_record)

    def _shows_history(self, request: HttpRequest, row: Any) -> bool:
        return True

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if as_uuid(object_id) is None:
            raise Http404
        row = self.get_object(request, object_id)
        address = audit_address(row) if row is not None and self._may_read_audit(request, row) else ""
        extra_context = {**(extra_context or {}), "audit_address": address}
        try:
            answer: HttpResponse = super().history_view(request, object_id, extra_context)
        except PermissionDenied:  # also of what was deleted: whose it was is not told
            raise Http404 from None
        return answer

    def history_form_view(
        self, request: HttpRequest, object_id: str, version_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """simple-history's form would save the old row as it was; the list says what had changed."""
        return HttpResponseRedirect(reverse(f"admin:{self._route}_history", args=[object_id]))

    def revert_disabled(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


def audit_address(row: Model) -> str:
    """Where the audit log tells of a row."""
    return f"{reverse('admin:tenants_auditevent_changelist')}?{urlencode({'q': str(row.pk)})}"


def search_by_name(queryset: QuerySet[Any], term: str, *columns: str) -> QuerySet[Any]:
    """For tables of hundreds of rows, not of millions: any part of a name, or the id."""
    found = Q()
    for column in columns:
        found |= Q(**{f"{column}__icontains": term})
    key = as_uuid(term)
    return queryset.filter(found | Q(pk=key) if key else found)
