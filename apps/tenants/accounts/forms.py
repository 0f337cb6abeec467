"""The forms of sign-in and of one's own account, as unfold shows fields."""

from __future__ import annotations

from typing import Any, cast
from zoneinfo import available_timezones

from allauth.account.forms import LoginForm as AllauthLoginForm
from allauth.account.forms import ReauthenticateForm as AllauthReauthenticateForm
from allauth.core import context
from allauth.mfa.adapter import get_adapter as get_mfa_adapter
from allauth.mfa.base.forms import AuthenticateForm as AllauthAuthenticateForm
from allauth.mfa.base.forms import ReauthenticateForm as AllauthReauthenticateByCode
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm as AllauthActivateForm
from django import forms
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.tenants.accounts.backends import count_failure, is_locked
from apps.tenants.accounts.second_factor import Check, verify_code
from apps.tenants.audit.services import audit
from apps.tenants.models import Operator

_INPUT = " ".join(widgets.INPUT_CLASSES)


def text_widget(**attrs: Any) -> Any:
    return widgets.UnfoldAdminTextInputWidget(attrs)


def password_widget(autocomplete: str) -> forms.PasswordInput:
    return forms.PasswordInput({"class": _INPUT, "autocomplete": autocomplete}, render_value=False)


def time_zones() -> list[tuple[str, Any]]:
    zones = sorted(name for name in available_timezones() if "/" in name or name == "UTC")
    return [("", gettext_lazy("As the platform (UTC)")), *((name, name.replace("_", " ")) for name in zones)]


def languages() -> list[tuple[str, Any]]:
    return [("", gettext_lazy("As the browser asks")), *settings.LANGUAGES]


def zone_field() -> forms.ChoiceField:
    widget = widgets.UnfoldAdminSelectWidget({"data-guess-zone": ""})
    return forms.ChoiceField(label=gettext_lazy("Time zone"), required=False, choices=time_zones, widget=widget)


class LoginForm(AllauthLoginForm):  # type: ignore[misc]
    """E-mail and password. What is wrong stands above the form, in the same words whatever it was."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"] = forms.EmailField(
            label=gettext_lazy("E-mail"),
            max_length=254,
            widget=widgets.UnfoldAdminEmailInputWidget({"autocomplete": "username", "autofocus": ""}),
        )
        self.fields["password"] = forms.CharField(
            label=gettext_lazy("Password"),
            max_length=1_000,
            strip=False,
            widget=password_widget("current-password"),
        )
        self.order_fields(["login", "password"])


class ReauthenticateForm(AllauthReauthenticateForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password"] = forms.CharField(
            label=gettext_lazy("Password"), max_length=1_000, strip=False, widget=password_widget("current-password")
        )


def _code_field() -> forms.CharField:
    return forms.CharField(
        label=gettext_lazy("Code"),
        max_length=32,
        widget=text_widget(autocomplete="one-time-code", inputmode="numeric", autofocus=""),
    )


class _ByCode:
    """Checks a code by `second_factor`, which the API asks too."""

    user: Operator
    again = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields: dict[str, forms.Field]
        self.fields["code"] = _code_field()

    def clean_code(self) -> str:
        code = str(cast(Any, self).cleaned_data["code"])
        request = context.request
        locked = is_locked(request, self.user.email)
        found = Check.LOCKED if locked else verify_code(operator=self.user, code=code)
        if not found:
            if found is Check.WRONG:
                count_failure(request, self.user, "second factor")
            raise get_mfa_adapter().validation_error("incorrect_code")
        self.authenticator = Authenticator.objects.get(user_id=self.user.pk, type=found.value)
        self.authenticator.user = self.user
        if found is Check.RECOVERY:
            audit("second_factor.recovery_code", request=request, actor=self.user)
        return code


class CodeForm(_ByCode, AllauthAuthenticateForm):  # type: ignore[misc]
    pass


class ReauthenticateByCodeForm(_ByCode, AllauthReauthenticateByCode):  # type: ignore[misc]
    pass


class ActivateForm(AllauthActivateForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"] = _code_field()


class PasswordsForm(forms.Form):
    """A new password, twice."""

    password1 = forms.CharField(
        label=gettext_lazy("New password"), max_length=1_000, strip=False, widget=password_widget("new-password")
    )
    password2 = forms.CharField(
        label=gettext_lazy("New password, again"), max_length=1_000, strip=False, widget=password_widget("new-password")
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("password1") != cleaned.get("password2"):
            self.add_error("password2", _("The two passwords are not the same."))
        return cleaned


class ChangePasswordForm(PasswordsForm):
    password = forms.CharField(
        label=gettext_lazy("Password until now"),
        max_length=1_000,
        strip=False,
        widget=password_widget("current-password"),
    )
    field_order = ("password", "password1", "password2")


class AcceptForm(PasswordsForm):
    name = forms.CharField(
        label=gettext_lazy("Your name"), max_length=200, widget=text_widget(autocomplete="name", autofocus="")
    )
    time_zone = zone_field()
    field_order = ("name", "password1", "password2", "time_zone")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].label = _("Password")
        self.fields["password2"].label = _("Password, again")


class ResetForm(forms.Form):
    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        max_length=254,
        widget=widgets.UnfoldAdminEmailInputWidget({"autocomplete": "username", "autofocus": ""}),
    )


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]
    language = forms.ChoiceField(
        label=gettext_lazy("Language"), required=False, choices=languages, widget=widgets.UnfoldAdminSelectWidget
    )
    time_zone = forms.ChoiceField(
        label=gettext_lazy("Time zone"),
        required=False,
        choices=time_zones,
        widget=widgets.UnfoldAdminSelectWidget,
        help_text=gettext_lazy("Every time in the console is shown by this clock."),
    )

    class Meta:
        model = Operator
        fields = ("name", "language", "time_zone")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].widget = text_widget(autocomplete="name")
