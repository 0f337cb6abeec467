from django.urls import path

from apps.tenants import api

urlpatterns = [
    path("auth/login", api.LoginView.as_view()),
    path("auth/refresh", api.RefreshView.as_view()),
    path("auth/logout", api.LogoutView.as_view()),
    path("auth/password-reset", api.PasswordResetView.as_view()),
    path("auth/password-reset/confirm", api.PasswordResetConfirmView.as_view()),
    path("me", api.MeView.as_view()),
    path("application", api.ApplicationView.as_view()),
    path("keys", api.KeysView.as_view()),
    path("keys/<uuid:key_id>", api.KeyView.as_view()),
    path("keys/<uuid:key_id>/revoke", api.KeyRevokeView.as_view()),
    path("keys/<uuid:key_id>/rotate", api.KeyRotateView.as_view()),
    path("credentials", api.CredentialsView.as_view()),
    path("credentials/<uuid:credential_id>", api.CredentialView.as_view()),
]
