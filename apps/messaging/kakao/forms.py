"""The form of a new Alimtalk template, with fields for each of its buttons."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.messaging.kakao.models import KakaoTemplate
from apps.messaging.kakao.services import BUTTON_LINKS, BUTTON_NAME_MAX, BUTTON_TYPES, BUTTONS_MAX

_TYPES = {
    "WL": gettext_lazy("Opens a web page"),
    "AL": gettext_lazy("Opens a place in an app"),
    "DS": gettext_lazy("Follows a delivery"),
    "AC": gettext_lazy("Adds the channel"),
    "BK": gettext_lazy("Says its name to the chat bot"),
    "MD": gettext_lazy("Says its name and the message to the chat bot"),
    "BT": gettext_lazy("Begins a chat with the bot"),
    "BC": gettext_lazy("Begins a chat with a person"),
}
_LINKS = {
    "link_mobile": gettext_lazy("Address on phones"),
    "link_pc": gettext_lazy("Address on computers"),
    "scheme_android": gettext_lazy("Place in the Android app"),
    "scheme_ios": gettext_lazy("Place in the iOS app"),
}
_LINKS_OF = {"WL": ("link_mobile", "link_pc"), "AL": BUTTON_LINKS}
"""Which addresses a type has; of the others, none."""
_KEYS = ("type", "name", *BUTTON_LINKS)
_NUMBERS = range(1, BUTTONS_MAX + 1)


class TemplateForm(forms.ModelForm):  # type: ignore[type-arg]
    category = forms.CharField(
        label=gettext_lazy("Category code"),
        required=False,
        max_length=20,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Of Kakao's list of categories."),
    )

    class Meta:
        model = KakaoTemplate
        fields = ("application", "channel", "code", "name", "content", "title", "subtitle", "extra")
        help_texts = {
            "code": gettext_lazy("Of NHN Cloud's templates; Solapi gives its own."),
            "content": gettext_lazy("#{name} stands for a variable."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "code" in self.fields:
            self.fields["code"].required = False

    def _get_validation_exclusions(self) -> set[str]:
        """The model's columns are the service's matter."""
        return {field.name for field in KakaoTemplate._meta.fields} - {"application", "channel"}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        kinds = [cleaned.get(f"button{number}_type", "") for number in _NUMBERS]
        if "" in kinds and any(kinds[kinds.index("") :]):
            self.add_error(f"button{kinds.index('') + 1}_type", _("A later button is filled in: begin with this one."))
        return cleaned


def _button_fields(number: int) -> dict[str, forms.Field]:
    """Of one button, which is counted from 1."""

    def text(label: Any, length: int, **more: Any) -> forms.Field:
        widget = widgets.UnfoldAdminTextInputWidget
        return forms.CharField(label=label, max_length=length, required=False, widget=widget, **more)

    kind = forms.ChoiceField(
        label=format_lazy(gettext_lazy("Button {number}"), number=number),
        choices=[("", gettext_lazy("None")), *((kind, _TYPES[kind]) for kind in BUTTON_TYPES)],
        required=False,
        widget=widgets.UnfoldAdminSelectWidget,
    )
    variables = gettext_lazy("#{name} stands for a variable.")
    links = {key: text(_LINKS[key], 500, help_text=variables) for key in BUTTON_LINKS}
    fields = {"type": kind, "name": text(gettext_lazy("Its name"), BUTTON_NAME_MAX), **links}
    return {f"button{number}_{key}": field for key, field in fields.items()}


BUTTON_FIELDS = {name: field for number in _NUMBERS for name, field in _button_fields(number).items()}
BUTTON_ALIASES = {f"buttons.{number - 1}.{key}": f"button{number}_{key}" for number in _NUMBERS for key in _KEYS}
"""The service's name of a button's value → the form's."""
KakaoTemplateForm: type[TemplateForm] = type("KakaoTemplateForm", (TemplateForm,), dict(BUTTON_FIELDS))


def button_conditions() -> dict[str, str]:
    """unfold's `conditional_fields`: a button that is none has no name, and each type its own addresses."""
    conditions = {}
    for number in _NUMBERS:
        kind = f"button{number}_type"
        conditions[f"button{number}_name"] = f"{kind} != ''"
        for key in BUTTON_LINKS:
            types = [name for name, keys in _LINKS_OF.items() if key in keys]
            conditions[f"button{number}_{key}"] = " || ".join(f"{kind} == '{name}'" for name in types)
    return conditions


def buttons_of(cleaned: dict[str, Any]) -> list[dict[str, str]]:
    """The buttons as the service takes them: of each its type, its name, and those of its type's addresses it has."""
    buttons = []
    for number in _NUMBERS:
        values = {key: cleaned.get(f"button{number}_{key}") or "" for key in _KEYS}
        if values["type"]:
            links = {key: values[key] for key in _LINKS_OF.get(values["type"], ()) if values[key]}
            buttons.append({"type": values["type"], "name": values["name"], **links})
    return buttons
