"""The form's fields of a credential's secret, made from what its provider's adapter declares.

A field is named `<provider>_<key>`, since several providers have a key of the same name. What is secret is only
written: empty leaves what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.tenants.console.forms import JSONObjectField, WriteOnlyTextarea
from apps.tenants.providers import secret_fields
from automata_signal.errors import FieldProblem, ValidationFailed
from automata_signal.secret_fields import FieldKind, SecretField

UPLOAD_MAX_BYTES = 32_768
_UPLOADED = (FieldKind.LONG, FieldKind.JSON)
_STORED_ENCRYPTED = gettext_lazy("It is stored encrypted and never shown again.")
_PASTE = gettext_lazy("Paste it, or choose the file below. It is stored encrypted and never shown again.")


def field_name(provider: str, key: str) -> str:
    """The form's name of a key."""
    return f"{provider}_{key}"


def form_fields_of(provider: str) -> list[str]:
    """The names of the provider's fields, in their order."""
    names = []
    for field in secret_fields().get(provider, ()):
        names.append(field_name(provider, field.name))
        if field.kind in _UPLOADED:
            names.append(f"{names[-1]}_file")
    return names


def conditions(*, of: str | None = None) -> dict[str, str]:
    """Form field → when it is shown, in the console's own expression; `of` one provider, where it cannot be chosen."""
    found: dict[str, str] = {}
    for provider, fields in secret_fields().items():
        for field in fields:
            clauses = [] if of else [f"provider == '{provider}'"]
            if field.only_for is not None:
                other, values = field.only_for
                name = field_name(provider, other)
                clauses.append(f"[{', '.join(repr(value) for value in values)}].includes({name})")
            if clauses and of in (None, provider):
                found[field_name(provider, field.name)] = " && ".join(clauses)
                if field.kind in _UPLOADED:
                    found[f"{field_name(provider, field.name)}_file"] = " && ".join(clauses)
    return found


def aliases() -> dict[str, str]:
    """The place of a key, with its provider as `named_by` puts it, → the form's field."""
    return {
        f"secret.{provider}.{field.name}": field_name(provider, field.name)
        for provider, fields in secret_fields().items()
        for field in fields
    }


def named_by(provider: str, refusal: ValidationFailed) -> ValidationFailed:
    """The refusal, whose places say which provider's secret it is about."""
    for index, problem in enumerate(refusal.details):
        if problem.field.startswith("secret."):
            refusal.details[index] = FieldProblem(f"secret.{provider}.{problem.field[7:]}", problem.message)
    return refusal


# --- The fields ----------------------------------------------------------------------------------------------------


class SecretForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that has the fields of every provider's secret. Get the class from `with_secret_fields`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in self.instance.summary.items():
            shown = field_name(self.instance.provider, name)
            if shown in self.fields:
                self.initial.setdefault(shown, value)


def with_secret_fields(form: type[SecretForm]) -> type[SecretForm]:
    """`form` with the fields of each provider that is known by now."""
    fields: dict[str, forms.Field] = {}
    for provider, of_provider in secret_fields().items():
        for field in of_provider:
            name = field_name(provider, field.name)
            fields[name] = _form_field(field)
            if field.kind in _UPLOADED:
                fields[f"{name}_file"] = _FileField(is_json=field.kind is FieldKind.JSON)
    return cast(type[SecretForm], type(form.__name__, (form,), fields))


def _form_field(field: SecretField) -> forms.Field:
    common: dict[str, Any] = {"label": field.label, "required": False, "help_text": _help(field)}
    attrs: dict[str, Any] = {"placeholder": field.placeholder} if field.placeholder else {}
    if field.choices:
        return forms.ChoiceField(choices=field.choices, widget=widgets.UnfoldAdminSelectWidget, **common)
    if field.kind is FieldKind.YES_NO:
        return forms.TypedChoiceField(
            choices=(("true", gettext_lazy("Yes")), ("false", gettext_lazy("No"))),
            coerce=lambda value: value == "true",
            empty_value=None,
            widget=widgets.UnfoldAdminSelectWidget,
            **common,
        )
    if field.kind is FieldKind.NUMBER:
        return forms.IntegerField(widget=widgets.UnfoldAdminIntegerFieldWidget(attrs), **common)
    if field.kind is FieldKind.JSON:
        return JSONObjectField(widget=WriteOnlyTextarea({"rows": 8, "autocomplete": "off", **attrs}), **common)
    common["max_length"] = UPLOAD_MAX_BYTES if field.kind is FieldKind.LONG else 1_000
    if field.kind is FieldKind.LONG:
        widget = WriteOnlyTextarea if field.is_secret else widgets.UnfoldAdminTextareaWidget
        return forms.CharField(widget=widget({"rows": 5, "autocomplete": "off", **attrs}), **common)
    if field.is_secret:
        hidden = forms.PasswordInput(
            {"class": " ".join(widgets.INPUT_CLASSES), "autocomplete": "new-password", **attrs}, render_value=False
        )
        return forms.CharField(widget=hidden, **common)
    return forms.CharField(widget=widgets.UnfoldAdminTextInputWidget(attrs), **common)


def _help(field: SecretField) -> Any:
    if not field.is_secret:
        return field.help
    stored = _PASTE if field.kind in _UPLOADED else _STORED_ENCRYPTED
    return _Joined(field.help, stored) if field.help else stored


class _Joined:
    """Two lazy texts, one after the other."""

    def __init__(self, *texts: Any) -> None:
        self._texts = texts

    def __str__(self) -> str:
        return " ".join(str(text) for text in self._texts)


class _FileField(forms.FileField):
    """A key's file, read: text, or an object."""

    def __init__(self, *, is_json: bool) -> None:
        label = gettext_lazy("… or the JSON file") if is_json else gettext_lazy("… or its file")
        super().__init__(label=label, required=False, widget=widgets.UnfoldAdminFileFieldWidget)
        self._is_json = is_json

    def clean(self, data: Any, initial: Any = None) -> Any:
        text = _uploaded_text(super().clean(data, initial))
        return JSONObjectField(required=False).to_python(text) if self._is_json else text


def _uploaded_text(upload: UploadedFile[Any] | None) -> str:
    if not upload:
        return ""
    if (upload.size or 0) > UPLOAD_MAX_BYTES:
        raise forms.ValidationError(_("The file is larger than a key can be."))
    try:
        return str(upload.read().decode())
    except UnicodeDecodeError:
        raise forms.ValidationError(_("The file is not text.")) from None


# --- The secret ----------------------------------------------------------------------------------------------------


def new_secret(provider: str, cleaned: Mapping[str, Any]) -> dict[str, Any]:
    """The secret that the form gives. Raises `ValidationFailed` if there is nothing in it."""
    secret = _merged(provider, cleaned, {})
    if not secret and (fields := secret_fields().get(provider)):
        raise ValidationFailed.of(f"secret.{fields[0].name}", _("is missing"))
    return secret


def changed_secret(
    provider: str, changes: Mapping[str, Any], stored: Mapping[str, Any] | None, summary: Mapping[str, str]
) -> dict[str, Any] | None:
    """The secret with the form's changes; None if there are none. `stored` is None if it cannot be decrypted any more:
    then what is secret has to be given again, and `summary` has the rest."""
    if not any(name in changes for name in form_fields_of(provider)):
        return None
    if stored is not None:
        return _merged(provider, changes, stored)
    fields = secret_fields()[provider]
    secrets = [field for field in fields if field.is_secret]
    if secrets and not any(_given(provider, field, changes) for field in secrets):
        raise ValidationFailed.of(
            f"secret.{secrets[0].name}", _("What is stored cannot be decrypted any more: give the key again.")
        )
    plain = {f.name: _typed(f, summary[f.name]) for f in fields if not f.is_secret and f.name in summary}
    return _merged(provider, changes, plain)


def _merged(provider: str, given: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, over what is stored; what is not secret and was emptied is taken away."""
    secret = dict(stored)
    for field in secret_fields().get(provider, ()):
        value = _given(provider, field, given)
        if value is not None:
            secret[field.name] = value
        elif not field.is_secret and field_name(provider, field.name) in given:
            secret.pop(field.name, None)
    for field in secret_fields().get(provider, ()):
        if field.only_for is not None and secret.get(field.only_for[0]) not in field.only_for[1]:
            secret.pop(field.name, None)
    return secret


def _given(provider: str, field: SecretField, given: Mapping[str, Any]) -> Any:
    """The value that the form has for it; None for none."""
    name = field_name(provider, field.name)
    value = given.get(f"{name}_file") or given.get(name)
    return None if value in ("", None, {}) else value


def _typed(field: SecretField, shown: str) -> Any:
    """A value of the summary, as it stands in a secret."""
    if field.kind is FieldKind.YES_NO:
        return shown == "true"
    return int(shown) if field.kind is FieldKind.NUMBER and shown.isdecimal() else shown
