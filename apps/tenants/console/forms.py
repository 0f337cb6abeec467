"""Fields and widgets of the console, and how a service's refusal becomes an error on the field that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from unfold import widgets

from apps.tenants.console.lists import as_uuid
from automata_signal.errors import SignalError

if TYPE_CHECKING:
    from django.forms.forms import BaseForm

JSON_DEPTH_MAX = 30


class JSONTextarea(widgets.UnfoldAdminTextareaWidget):  # type: ignore[misc]
    """For JSON: every character as wide as the others."""

    def __init__(self, rows: int = 6) -> None:
        super().__init__({"rows": rows, "spellcheck": "false", "style": "font-family: monospace"})


class WriteOnlyTextarea(widgets.UnfoldAdminTextareaWidget):  # type: ignore[misc]
    """What was typed goes to the server and never comes back, not even when the form has an error."""

    def format_value(self, value: Any) -> str:
        return ""


class SafeAutocompleteSelect(AutocompleteSelect):
    """Django's, but a value that is no id is no choice; Django's own raises for it."""

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        return super().optgroups(name, [v for v in value if as_uuid(v)], attrs)


class JSONObjectField(forms.JSONField):
    """A JSON object that PostgreSQL can store. Empty is `{}`, unless the field is required: then it must be typed."""

    empty_values = [None, ""]
    widget = JSONTextarea
    default_error_messages = {
        "not_object": _("Enter a JSON object: {…}"),
        "too_deep": _("This is nested too deeply."),
        "unstorable": _("NaN, Infinity, NUL and half characters cannot be stored."),
    }

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values:
            return None if self.required else {}
        if isinstance(value, Mapping):
            return value
        try:
            parsed = json.loads(str(value), parse_constant=_refuse_constant)
            storable = json.dumps(parsed, ensure_ascii=False)
            storable.encode()
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}: {error.msg}"
            raise ValidationError(f"{self.error_messages['invalid']} ({place})", code="invalid") from None
        except RecursionError:
            raise ValidationError(self.error_messages["too_deep"], code="too_deep") from None
        except ValueError:
            raise ValidationError(self.error_messages["unstorable"], code="unstorable") from None
        if not isinstance(parsed, dict):
            raise ValidationError(self.error_messages["not_object"], code="not_object")
        if "\\u0000" in storable:
            raise ValidationError(self.error_messages["unstorable"], code="unstorable")
        if _depth(parsed) > JSON_DEPTH_MAX:
            raise ValidationError(self.error_messages["too_deep"], code="too_deep")
        return parsed

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What was typed, as it was typed: an error is easier to find in one's own text."""
        return initial if self.disabled else data

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) else json.dumps(value or {}, indent=2, ensure_ascii=False)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != (initial or {}))
        except ValidationError:
            return True


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _depth(value: Any, depth: int = 1) -> int:
    if depth > JSON_DEPTH_MAX:
        return depth
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((_depth(child, depth + 1) for child in children if isinstance(child, dict | list)), default=depth)


def add_refusal(form: BaseForm, refusal: SignalError, aliases: Mapping[str, str]) -> None:
    """Put a service's refusal on the fields that it names, and above the form what no field shows.

    `aliases` translate the service's paths into the form's names: `{"template_id": "template"}`.
    """
    if not refusal.details:
        form.add_error(None, refusal.message)
    for problem in refusal.details:
        name, rest = _form_field(problem.field, aliases)
        if name in form.fields:
            form.add_error(name, f"{rest}: {problem.message}" if rest else problem.message)
        else:
            form.add_error(None, f"{refusal.message} ({problem.field}: {problem.message})")


def _form_field(place: str, aliases: Mapping[str, str]) -> tuple[str, str]:
    """The form's field for a place such as `targeting_criteria.all[1].value`, and the place within it."""
    known = max(
        (alias for alias in aliases if re.match(rf"{re.escape(alias)}(?![A-Za-z0-9_])", place)), key=len, default=""
    )
    if not known:
        known = re.split(r"[.\[(]", place, maxsplit=1)[0]
    return aliases.get(known, known), place[len(known) :].lstrip(".")


class RefusedForm:
    """Mixed into a form that is shown again because the service has refused it."""

    refusal: SignalError
    aliases: Mapping[str, str]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        add_refusal(self, self.refusal, self.aliases)  # type: ignore[arg-type]
