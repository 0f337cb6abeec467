"""How the API's description says who may call a route: keys, operators' tokens, and the scope each needs."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from apps.tenants.access import HasScope
from apps.tenants.scopes import SDK_SCOPE

SECRET, PUBLISHABLE, OPERATOR, APPLICATION = "secretKey", "publishableKey", "operatorToken", "applicationId"


class CallerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.tenants.access.CallerAuthentication"
    name = [SECRET, PUBLISHABLE, OPERATOR, APPLICATION]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "An app server's key, `as_sk_…`."},
            {"type": "http", "scheme": "bearer", "description": "An SDK's key, `as_pk_…`."},
            {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "An operator's access token, from `auth/login`.",
            },
            {
                "type": "apiKey",
                "in": "header",
                "name": "X-Application-Id",
                "description": "The application that an operator acts for; their role there gives the scopes.",
            },
        ]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[str]]]:
        """One entry for each way in; the lists name the scope."""
        requirements: list[dict[str, list[str]]] = []
        for scope in HasScope.needed(auto_schema.view, auto_schema.method):
            if scope == HasScope.PUBLIC:
                requirements.append({})
            elif scope == HasScope.OPERATOR:
                requirements.append({OPERATOR: []})
            elif scope == HasScope.PLATFORM:
                requirements.append({OPERATOR: [], APPLICATION: []})
            elif scope == SDK_SCOPE:
                requirements.append({PUBLISHABLE: []})
            else:
                requirements += [{SECRET: [scope]}, {OPERATOR: [scope], APPLICATION: []}]
        return requirements
