"""Routes for operators (`auth/…`, `me`) and for the application itself: its settings, keys and credentials."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Model
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.tenants import selectors, services, sign_in
from apps.tenants.access import HasScope, client_address
from apps.tenants.application_settings import SCHEMA as SETTINGS_SCHEMA
from apps.tenants.audit.services import audit, changes_of
from apps.tenants.models import ApiKey, ChannelCredential, KeyKind, Membership, Provider, Role
from apps.tenants.scopes import ROLE_SCOPES, SCOPES
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, SignalResponse, StrictSerializer, validated
from automata_signal.openapi import PAGE_PARAMETERS

DAY_S = 86_400
NOTHING = OpenApiResponse(description="Done.")


# --- Signing in --------------------------------------------------------------------------------------------------


class LoginInput(StrictSerializer):
    email = serializers.CharField(max_length=254)
    password = serializers.CharField(max_length=1_000, trim_whitespace=False)
    code = serializers.CharField(
        max_length=32, required=False, help_text="Of the second factor, or a recovery code, for who has one."
    )


class RefreshInput(StrictSerializer):
    refresh = serializers.CharField(max_length=4_000)


class PasswordResetInput(StrictSerializer):
    email = serializers.CharField(max_length=254)


class PasswordResetConfirmInput(StrictSerializer):
    uid = serializers.CharField(max_length=100)
    token = serializers.CharField(max_length=200)
    password = serializers.CharField(max_length=1_000, trim_whitespace=False)


class TokensOutput(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="For `Authorization: Bearer …`.")
    refresh = serializers.CharField(help_text="For `auth/refresh`; it works once.")
    expires_in_s = serializers.IntegerField(help_text="Seconds until the access token ends.")


class PublicView(SignalView):
    """For who has not signed in: whatever stands in `Authorization` is not looked at."""

    authentication_classes = ()
    scopes: ClassVar = {"POST": HasScope.PUBLIC}


class LoginView(PublicView):
    @extend_schema(operation_id="auth_login", tags=["auth"], request=LoginInput, responses=TokensOutput)
    def post(self, request: Request) -> Response:
        """Sign in with e-mail and password."""
        given = validated(LoginInput, request.data)
        return Response(sign_in.sign_in(**given, request=request._request)._asdict())


class RefreshView(PublicView):
    @extend_schema(operation_id="auth_refresh", tags=["auth"], request=RefreshInput, responses=TokensOutput)
    def post(self, request: Request) -> Response:
        """New tokens for a refresh token, which ends with it."""
        return Response(sign_in.tokens_refresh(**validated(RefreshInput, request.data))._asdict())


class LogoutView(PublicView):
    @extend_schema(operation_id="auth_logout", tags=["auth"], request=RefreshInput, responses={204: NOTHING})
    def post(self, request: Request) -> Response:
        """End a refresh token."""
        sign_in.sign_out(**validated(RefreshInput, request.data))
        return Response(status=status.HTTP_204_NO_CONTENT)


class PasswordResetView(PublicView):
    @extend_schema(
        operation_id="auth_password_reset", tags=["auth"], request=PasswordResetInput, responses={202: NOTHING}
    )
    def post(self, request: Request) -> Response:
        """Ask for an e-mail with a link to choose a password. The answer is the same for unknown addresses."""
        given = validated(PasswordResetInput, request.data)
        sign_in.password_reset_request(**given)
        audit("password.link_asked", request=request._request, actor=given["email"].lower())
        return Response(None, status=status.HTTP_202_ACCEPTED)


class PasswordResetConfirmView(PublicView):
    @extend_schema(
        operation_id="auth_password_reset_confirm",
        tags=["auth"],
        request=PasswordResetConfirmInput,
        responses={204: NOTHING},
    )
    def post(self, request: Request) -> Response:
        """Choose a password with the link's `uid` and `token`. All sign-ins end."""
        given = validated(PasswordResetConfirmInput, request.data)
        sign_in.password_reset_confirm(**given, request=request._request)
        return Response(status=status.HTTP_204_NO_CONTENT)


# --- The operator ------------------------------------------------------------------------------------------------


class MemberApplicationOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    is_active = serializers.BooleanField()


class MembershipOutput(serializers.Serializer[Any]):
    application = MemberApplicationOutput()
    role = serializers.ChoiceField(Role.choices)
    scopes = serializers.SerializerMethodField()

    def get_scopes(self, membership: Membership) -> list[str]:
        return [scope for scope in SCOPES if scope in ROLE_SCOPES[membership.role]]


class OperatorOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    email = serializers.EmailField()
    name = serializers.CharField()
    is_superuser = serializers.BooleanField(help_text="May act in every application, with every scope.")
    memberships = MembershipOutput(many=True)


class MeView(SignalView):
    scopes: ClassVar = {"GET": HasScope.OPERATOR}

    @extend_schema(operation_id="me_read", tags=["me"], responses=OperatorOutput)
    def get(self, request: Request) -> Response:
        """The operator who is signed in, and what they may do where."""
        operator = self.caller.operator
        assert operator is not None
        return Response(OperatorOutput(selectors.with_memberships(operator)).data)


# --- The application ---------------------------------------------------------------------------------------------


@extend_schema_field(SETTINGS_SCHEMA)
class SettingsField(serializers.JSONField):
    """Described by the schema that `application_settings` checks."""


class ApplicationOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    time_zone = serializers.CharField()
    default_language = serializers.CharField()
    settings = SettingsField()
    is_active = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class ApplicationInput(StrictSerializer):
    name = serializers.CharField(max_length=200, required=False)
    time_zone = serializers.CharField(max_length=64, required=False, help_text="Such as `Asia/Seoul`.")
    default_language = serializers.CharField(max_length=16, required=False, help_text="Such as `ko`.")
    settings = SettingsField(required=False, help_text="Replaces all settings.")


class ApplicationView(SignalView):
    scopes: ClassVar = {"GET": "settings:read", "PATCH": "settings:write"}

    @extend_schema(operation_id="application_read", tags=["application"], responses=ApplicationOutput)
    def get(self, request: Request) -> Response:
        """The application that the key or `X-Application-Id` stands for."""
        return Response(ApplicationOutput(self.application).data)

    @extend_schema(
        operation_id="application_update",
        tags=["application"],
        request=ApplicationInput,
        responses=ApplicationOutput,
    )
    def patch(self, request: Request) -> Response:
        """Change what is given. `settings` replaces all settings."""
        given = validated(ApplicationInput, request.data)
        before = {name: getattr(self.application, name) for name in given}
        operator = self.caller.operator
        address = client_address(request) if operator is not None and not operator.is_superuser else ""
        application = services.application_update(
            application=self.application, **given, by=self.caller.label, from_address=address
        )
        after = {name: getattr(application, name) for name in given}
        _tell(self, "application.change", application, changes_of(before, after))
        return Response(ApplicationOutput(application).data)


# --- Keys --------------------------------------------------------------------------------------------------------


class KeyOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(KeyKind.choices)
    prefix = serializers.CharField(help_text="How the key starts; the rest is known to its holder only.")
    scopes = serializers.ListField(child=serializers.CharField())
    rate_per_minute = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    replaced_by = serializers.UUIDField(source="replaced_by_id", allow_null=True)
    is_usable = serializers.BooleanField()


class NewKeyOutput(KeyOutput):
    key = serializers.CharField(help_text="The key itself. It is not shown again.")


class KeyInput(StrictSerializer):
    name = serializers.CharField(max_length=200)
    kind = serializers.ChoiceField(KeyKind.choices)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(tuple(SCOPES)),
        max_length=len(SCOPES),
        required=False,
        help_text="For a secret key: yours, unless told.",
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    rate_per_minute = serializers.IntegerField(
        min_value=1, max_value=services.RATE_PER_MINUTE_MAX, required=False, allow_null=True
    )


class KeyRotateInput(StrictSerializer):
    overlap_s = serializers.IntegerField(
        min_value=0,
        max_value=int(services.KEY_OVERLAP_MAX.total_seconds()),
        default=DAY_S,
        help_text="Seconds for which the old key works on.",
    )


def represent_key(key: ApiKey) -> dict[str, Any]:
    return dict(KeyOutput(key).data)


def represent_new_key(new: services.NewKey) -> dict[str, Any]:
    return represent_key(new.key) | {"key": new.plaintext}


class KeysView(SignalView):
    scopes: ClassVar = {"GET": "settings:read", "POST": "settings:write"}

    @extend_schema(operation_id="keys_list", tags=["keys"], parameters=PAGE_PARAMETERS, responses=KeyOutput(many=True))
    def get(self, request: Request) -> SignalResponse:
        """The application's keys, newest first, with those that have ended."""
        self.query()
        return self.page(ApiKey.objects.for_application(self.application), represent_key)

    @extend_schema(operation_id="keys_create", tags=["keys"], request=KeyInput, responses={201: NewKeyOutput})
    def post(self, request: Request) -> Response:
        """Create a key. This answer is the only one that holds it."""
        given = validated(KeyInput, request.data)
        new = services.key_create(
            application=self.application, **given, granted_by=self.caller.scopes, by=self.caller.label
        )
        _tell(self, "apikey.add", new.key)
        return Response(represent_new_key(new), status=status.HTTP_201_CREATED)


class KeyView(SignalView):
    scopes: ClassVar = {"GET": "settings:read"}

    @extend_schema(operation_id="keys_read", tags=["keys"], responses=KeyOutput)
    def get(self, request: Request, key_id: UUID) -> Response:
        """One key."""
        return Response(represent_key(selectors.key_get(application=self.application, key_id=key_id)))


class KeyRevokeView(SignalView):
    scopes: ClassVar = {"POST": "settings:write"}

    @extend_schema(operation_id="keys_revoke", tags=["keys"], request=None, responses={200: KeyOutput})
    def post(self, request: Request, key_id: UUID) -> Response:
        """End a key: a second later no process takes it any more."""
        validated(NoInput, request.data)
        key = selectors.key_get(application=self.application, key_id=key_id)
        revoked = services.key_revoke(key=key, by=self.caller.label)
        _tell(self, "apikey.revoke", revoked)
        return Response(represent_key(revoked))


class KeyRotateView(SignalView):
    scopes: ClassVar = {"POST": "settings:write"}

    @extend_schema(operation_id="keys_rotate", tags=["keys"], request=KeyRotateInput, responses={201: NewKeyOutput})
    def post(self, request: Request, key_id: UUID) -> Response:
        """Make a successor, shown in this answer only; the old key works on for `overlap_s`."""
        given = validated(KeyRotateInput, request.data)
        new = services.key_rotate(
            key=selectors.key_get(application=self.application, key_id=key_id),
            overlap=timedelta(seconds=given["overlap_s"]),
            granted_by=self.caller.scopes,
            by=self.caller.label,
        )
        _tell(self, "apikey.rotate", new.key)
        return Response(represent_new_key(new), status=status.HTTP_201_CREATED)


def _tell(view: SignalView, action: str, row: Model, changes: dict[str, Any] | None = None) -> None:
    """Who gets to see a key in clear, and who changes the set-up, is told in the audit log as at the console."""
    caller = view.caller
    audit(
        action,
        request=view.request._request,
        actor=caller.operator or caller.label,
        application_id=view.application.pk,
        row=row,
        changes=changes,
    )


# --- Credentials -------------------------------------------------------------------------------------------------


class CredentialOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    provider = serializers.ChoiceField(Provider.choices)
    name = serializers.CharField()
    summary = serializers.DictField(help_text="What may be shown of the secret, such as key id and bundle id.")
    position = serializers.IntegerField(help_text="The lowest of a provider is used first.")
    is_active = serializers.BooleanField()
    breaker_opened_at = serializers.DateTimeField(allow_null=True, help_text="Since when nothing is sent by it.")
    breaker_reason = serializers.CharField()
    breaker_cause = serializers.CharField(
        help_text="`mismatch`, `refused`, `outage` or `held` by an operator; empty when it is closed."
    )
    breaker_probe_at = serializers.DateTimeField(
        allow_null=True, help_text="When a few messages will try whether it works again."
    )
    rate_per_minute = serializers.IntegerField(allow_null=True, help_text="null: the provider's own limit.")
    device_rate_per_minute = serializers.IntegerField(allow_null=True)
    device_rate_per_hour = serializers.IntegerField(allow_null=True)
    last_error = serializers.CharField()
    last_error_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


def _rate_field(what: str) -> serializers.IntegerField:
    return serializers.IntegerField(
        min_value=1,
        max_value=services.RATE_PER_MINUTE_MAX,
        allow_null=True,
        required=False,
        help_text=f"{what}, by all workers together; null is the provider's own limit.",
    )


class CredentialInput(StrictSerializer):
    provider = serializers.ChoiceField(Provider.choices)
    name = serializers.CharField(max_length=200)
    secret = serializers.DictField(help_text="What the provider gave you; it is encrypted and never shown again.")
    position = serializers.IntegerField(
        min_value=0,
        max_value=services.POSITION_MAX,
        default=0,
        help_text="The next active one is used while the provider refuses or fails the one before; it must reach the "
        "same app (bundle id, Firebase project).",
    )
    rate_per_minute = _rate_field("Messages per minute")
    device_rate_per_minute = _rate_field("Messages per minute to one device")
    device_rate_per_hour = _rate_field("Messages per hour to one device")


class CredentialPatch(StrictSerializer):
    name = serializers.CharField(max_length=200, required=False)
    secret = serializers.DictField(required=False)
    position = serializers.IntegerField(min_value=0, max_value=services.POSITION_MAX, required=False)
    is_active = serializers.BooleanField(required=False)
    rate_per_minute = _rate_field("Messages per minute")
    device_rate_per_minute = _rate_field("Messages per minute to one device")
    device_rate_per_hour = _rate_field("Messages per hour to one device")


def represent_credential(credential: ChannelCredential) -> dict[str, Any]:
    return dict(CredentialOutput(credential).data)


class CredentialsView(SignalView):
    scopes: ClassVar = {"GET": "settings:read", "POST": "settings:write"}

    @extend_schema(
        operation_id="credentials_list",
        tags=["credentials"],
        parameters=PAGE_PARAMETERS,
        responses=CredentialOutput(many=True),
    )
    def get(self, request: Request) -> SignalResponse:
        """The application's provider credentials, newest first."""
        self.query()
        return self.page(selectors.credentials_shown(application=self.application), represent_credential)

    @extend_schema(
        operation_id="credentials_create",
        tags=["credentials"],
        request=CredentialInput,
        responses={201: CredentialOutput},
    )
    def post(self, request: Request) -> Response:
        """Store what a provider knows the application by."""
        given = validated(CredentialInput, request.data)
        credential = services.credential_create(application=self.application, **given, by=self.caller.label)
        _tell(self, "channelcredential.add", credential)
        return Response(represent_credential(credential), status=status.HTTP_201_CREATED)


class CredentialView(SignalView):
    scopes: ClassVar = {"GET": "settings:read", "PATCH": "settings:write", "DELETE": "settings:write"}

    def _credential(self, credential_id: UUID) -> ChannelCredential:
        return selectors.credential_get(application=self.application, credential_id=credential_id)

    @extend_schema(operation_id="credentials_read", tags=["credentials"], responses=CredentialOutput)
    def get(self, request: Request, credential_id: UUID) -> Response:
        """One credential, without its secret."""
        return Response(represent_credential(self._credential(credential_id)))

    @extend_schema(
        operation_id="credentials_update",
        tags=["credentials"],
        request=CredentialPatch,
        responses=CredentialOutput,
    )
    def patch(self, request: Request, credential_id: UUID) -> Response:
        """Change what is given. It also closes the breaker and forgets the last error."""
        given = validated(CredentialPatch, request.data)
        row = self._credential(credential_id)
        before = {name: getattr(row, name) for name in given if name != "secret"}
        credential = services.credential_update(credential=row, **given, by=self.caller.label)
        after = {name: getattr(credential, name) if name in before else given[name] for name in given}
        _tell(self, "channelcredential.change", credential, changes_of(before, after))
        return Response(represent_credential(credential))

    @extend_schema(operation_id="credentials_deactivate", tags=["credentials"], responses={204: NOTHING})
    def delete(self, request: Request, credential_id: UUID) -> Response:
        """Stop using a credential. PATCH with `is_active` takes it back."""
        credential = self._credential(credential_id)
        services.credential_deactivate(credential=credential, by=self.caller.label)
        _tell(self, "channelcredential.deactivate", credential)
        return Response(status=status.HTTP_204_NO_CONTENT)
