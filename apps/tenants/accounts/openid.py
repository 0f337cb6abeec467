"""OpenID Connect by django-allauth, with the signature of each ID token checked, and addresses made of `PUBLIC_URL`."""

from __future__ import annotations

from typing import Any

from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


class IssuerAdapter(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]
    def get_provider(self) -> Any:
        """allauth's, which makes its own addresses by this class."""
        provider = super().get_provider()
        provider.oauth2_adapter_class = IssuerAdapter
        return provider

    def _decode_id_token(self, app: SocialApp, id_token: str) -> dict[str, Any]:
        """allauth would trust the connection to the issuer."""
        try:
            decoded: dict[str, Any] = jwtkit.verify_and_decode(
                credential=id_token,
                keys_url=self.openid_config["jwks_uri"],
                issuer=self.openid_config["issuer"],
                audience=app.client_id,
                lookup_kid=jwtkit.lookup_kid_jwk,
                verify_signature=True,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OAuth2Error("The ID token cannot be read.") from error
        return decoded

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        place = reverse("openid_connect_callback", kwargs={"provider_id": self.provider_id})
        return f"{settings.PUBLIC_URL.rstrip('/')}{place}"


@never_cache
@require_safe
def login(request: HttpRequest, provider_id: str) -> HttpResponse:
    return _answer(request, OAuth2LoginView, provider_id)


@never_cache
@require_safe
def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    return _answer(request, OAuth2CallbackView, provider_id)


def _answer(request: HttpRequest, view: Any, provider_id: str) -> HttpResponse:
    """404 unless there is an issuer."""
    try:
        answer: HttpResponse = view.adapter_view(IssuerAdapter(request, provider_id))(request)
    except SocialApp.DoesNotExist:
        raise Http404 from None
    return answer
