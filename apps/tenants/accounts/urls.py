"""The addresses under `/account/`. Of django-allauth only what is named here exists: nobody signs up, and nobody adds
or changes an address."""

from __future__ import annotations

from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from django.urls import path
from django.views.decorators.cache import never_cache

from apps.tenants.accounts import entrance, openid, pages

urlpatterns = [
    path("", pages.profile, name="account_profile"),
    path("security/", pages.security, name="account_security"),
    path("sessions/", pages.session_list, name="usersessions_list"),
    path("login/", entrance.login, name="account_login"),
    path("logout/", entrance.logout_view, name="account_logout"),
    path("reauthenticate/", entrance.reauthenticate, name="account_reauthenticate"),
    path("password", entrance.password_page, name="account_password_link"),
    path("password/change/", pages.password_change, name="account_change_password"),
    path("password/reset/", entrance.password_reset, name="account_reset_password"),
    path("invitation/", entrance.invitation, name="account_invitation"),
    path("invitation/<str:token>/", entrance.invitation_link, name="account_invitation_link"),
    path("2fa/", pages.second_factor, name="mfa_index"),
    path("2fa/authenticate/", mfa.authenticate, name="mfa_authenticate"),
    path("2fa/reauthenticate/", mfa.reauthenticate, name="mfa_reauthenticate"),
    path("2fa/totp/activate/", never_cache(totp.activate_totp), name="mfa_activate_totp"),
    path("2fa/totp/deactivate/", entrance.deactivate_totp, name="mfa_deactivate_totp"),
    path("2fa/recovery-codes/", recovery_codes.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("2fa/recovery-codes/generate/", recovery_codes.generate_recovery_codes, name="mfa_generate_recovery_codes"),
    # Both are 404 unless OIDC_ISSUER is set.
    path("oidc/<slug:provider_id>/login/", openid.login, name="openid_connect_login"),
    path("oidc/<slug:provider_id>/login/callback/", openid.callback, name="openid_connect_callback"),
]
