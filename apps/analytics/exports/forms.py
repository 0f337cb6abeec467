"""The console's form for an export: the filters, columns and options of its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from rest_framework import serializers
from unfold import widgets

from apps.analytics.exports.columns import Filter, Resource
from apps.analytics.exports.filters import PERIOD
from apps.tenants.models import Application

DAYS_UNLESS_TOLD = 30
APPLICATION, UTC = "application", "UTC"


class ExportForm(forms.Form):
    """Of one kind. `applications` are those where the operator may export it; of others nothing is told."""

    def __init__(
        self, resource: Resource, applications: Sequence[UUID], *args: Any, may_unmask: bool, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.resource, self.may_unmask = resource, may_unmask
        self.fields["application"] = forms.ModelChoiceField(
            Application.objects.filter(pk__in=applications).order_by("name"),
            label=_("Application"),
            widget=widgets.UnfoldAdminSelectWidget,
            empty_label=None,
        )
        for name, label in zip(PERIOD, (pgettext_lazy("period", "from"), pgettext_lazy("period", "to")), strict=True):
            self.fields[name] = _moment(
                label,
                required=resource.needs_period and name == "since",
                help_text=_("%(period)s; in UTC, or with an offset: %(example)s")
                % {"period": resource.period_label, "example": "2026-11-20T09:00+09:00"},
            )
        for item in resource.filters:
            self.fields[item.name] = _field_of(item)
        self.fields["columns"] = forms.MultipleChoiceField(
            choices=[(name, column.label or name) for name, column in resource.columns().items()],
            initial=resource.default_columns(),
            label=_("Columns"),
            widget=widgets.UnfoldAdminCheckboxSelectMultipleWidget,
        )
        self.fields["time_zone"] = forms.ChoiceField(
            choices=[(APPLICATION, _("Of the application")), (UTC, UTC)],
            initial=APPLICATION,
            label=_("Time zone"),
            widget=widgets.UnfoldAdminSelectWidget,
        )
        flags: tuple[tuple[str, Any, Any], ...] = (
            ("bom", _("For Excel"), _("The file begins with a byte order mark, by which Excel knows UTF-8.")),
            ("gzip", _("Compressed (gzip)"), ""),
        )
        for name, label, help_text in flags:
            self.fields[name] = _flag(label, help_text)
        if may_unmask:
            self.fields["unmasked"] = _flag(
                _("With personal data"), _("External ids, properties, tags and personal content as they are.")
            )

    def order(self) -> dict[str, Any]:
        """As `services.export_create` takes it."""
        cleaned = self.cleaned_data
        filters = {name: cleaned[name] for name in (*PERIOD, *(item.name for item in self.resource.filters))}
        return {
            "application": cleaned["application"],
            "kind": self.resource.kind,
            "filters": {name: _as_json(value) for name, value in filters.items() if value not in (None, "")},
            "columns": cleaned["columns"],
            "time_zone": UTC if cleaned["time_zone"] == UTC else "",
            "bom": cleaned["bom"],
            "gzip": cleaned["gzip"],
            "masked": not cleaned.get("unmasked", False),
        }


def initial_of(resource: Resource, given: Mapping[str, str]) -> dict[str, Any]:
    """What a list's button says, and a period for kinds that need one."""
    initial: dict[str, Any] = {name: value.replace("\0", "")[:255] for name, value in given.items()}
    if resource.needs_period and "since" not in initial:
        initial["since"] = f"{timezone.now() - timedelta(days=DAYS_UNLESS_TOLD):%Y-%m-%dT%H:%M}"
    return initial


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _field_of(item: Filter) -> forms.Field:
    label = item.label or item.name
    field = item.field
    if isinstance(field, serializers.ChoiceField):
        choices = [("", "—"), *field.choices.items()]
        return forms.ChoiceField(choices=choices, required=False, label=label, widget=widgets.UnfoldAdminSelectWidget)
    if isinstance(field, serializers.BooleanField):
        return forms.TypedChoiceField(
            choices=[("", "—"), ("1", _("Yes")), ("0", _("No"))],
            coerce=lambda value: value == "1",
            empty_value=None,
            required=False,
            label=label,
            widget=widgets.UnfoldAdminSelectWidget,
        )
    if isinstance(field, serializers.DateTimeField):
        return _moment(label, required=False)
    if isinstance(field, serializers.UUIDField):
        return forms.UUIDField(required=False, label=label, widget=widgets.UnfoldAdminTextInputWidget)
    return forms.CharField(required=False, max_length=255, label=label, widget=widgets.UnfoldAdminTextInputWidget)


def _moment(label: Any, *, required: bool, help_text: Any = "") -> forms.Field:
    return forms.DateTimeField(
        required=required, label=label, help_text=help_text, widget=widgets.UnfoldAdminTextInputWidget
    )


def _flag(label: Any, help_text: Any) -> forms.Field:
    return forms.BooleanField(
        required=False, label=label, help_text=help_text, widget=widgets.UnfoldBooleanSwitchWidget
    )
