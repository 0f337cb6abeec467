"""`/subscriptions`: for SDKs with a publishable key, and for app servers and operators.

A device gets a secret handle when it registers and sends it as `X-Subscription-Handle` with everything else. Without
it, or with another's, a subscription does not exist: the answer is the one for an id that nobody has.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.subscriptions import selectors, services
from apps.subscriptions.api.serializers import (
    RegisteredAnswer,
    RegisterInput,
    SubscriptionAnswer,
    SubscriptionFilters,
    SubscriptionLoginInput,
    TagsInput,
    UpdateInput,
)
from apps.subscriptions.handles import HANDLE_HEADER, handle_for
from apps.subscriptions.models import Subscription
from apps.subscriptions.status import Setter
from apps.tenants.access import Caller
from apps.tenants.models import KeyKind
from apps.tenants.scopes import SDK_SCOPE
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, represented, validated
from automata_signal.openapi import PAGE_PARAMETERS

READ = ("subscriptions:read", SDK_SCOPE)
WRITE = ("subscriptions:write", SDK_SCOPE)
TAG = ["subscriptions"]
HANDLE = OpenApiParameter(
    HANDLE_HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="With a publishable key: the `handle` that registration answered with.",
)


def setter_of(caller: Caller) -> Setter:
    """A publishable key speaks for a device; a secret key and an operator for a person."""
    return Setter.DEVICE if caller.kind == KeyKind.PUBLISHABLE else Setter.PERSON


def source_of(caller: Caller) -> str:
    """What events and `status_source` say: device, api or operator."""
    return {"publishable": "device", "secret": "api"}.get(caller.kind, "operator")


class SubscriptionsView(SignalView):
    scopes = {"GET": "subscriptions:read", "POST": WRITE}

    @extend_schema(
        operation_id="subscriptions_list",
        summary="List subscriptions",
        tags=TAG,
        parameters=[SubscriptionFilters, *PAGE_PARAMETERS],
        responses=SubscriptionAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        filters = self.query(SubscriptionFilters)
        rows = selectors.subscriptions_list(application=self.application, filters=filters)
        return self.page(rows, lambda row: represented(SubscriptionAnswer, row))

    @extend_schema(
        operation_id="subscriptions_register",
        summary="Register a subscription",
        description=(
            "Idempotent: the same token is the same subscription, whose given fields are updated (200 instead of 201). "
            "A publishable key registers only push and in-app subscriptions."
        ),
        tags=TAG,
        request=RegisterInput,
        responses={200: RegisteredAnswer, 201: RegisteredAnswer},
    )
    def post(self, request: Request) -> Response:
        row, created = services.subscription_register(
            application=self.application,
            setter=setter_of(self.caller),
            source=source_of(self.caller),
            **validated(RegisterInput, request.data),
        )
        answer = represented(SubscriptionAnswer, row)
        answer |= {"handle": handle_for(row.pk, row.handle_version), "created": created}
        return Response(answer, status=201 if created else 200)


class OneSubscriptionView(SignalView):
    """What the views of one subscription share: finding it, by the handle if a device asks."""

    def find(self, subscription_id: UUID) -> Subscription:
        if setter_of(self.caller) is Setter.DEVICE:
            return selectors.subscription_for_device(
                application=self.application,
                subscription_id=subscription_id,
                handle=self.request.headers.get(HANDLE_HEADER),
            )
        return selectors.subscription_get(application=self.application, subscription_id=subscription_id)

    @property
    def who(self) -> dict[str, Any]:
        """What services want to know of the caller."""
        return {"setter": setter_of(self.caller), "source": source_of(self.caller)}


class SubscriptionView(OneSubscriptionView):
    scopes = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    @extend_schema(
        operation_id="subscriptions_read",
        summary="Read a subscription",
        tags=TAG,
        parameters=[HANDLE],
        responses=SubscriptionAnswer,
    )
    def get(self, request: Request, subscription_id: UUID) -> Response:
        return Response(represented(SubscriptionAnswer, self.find(subscription_id)))

    @extend_schema(
        operation_id="subscriptions_update",
        summary="Change a subscription",
        description=(
            "Absent fields stay, null clears. `tags` are laid over those there are. A device's `enabled` or code does "
            "not change a status that a person or the API set to -22 or -31. A `token` that another subscription "
            "holds is taken over, and that subscription ends."
        ),
        tags=TAG,
        parameters=[HANDLE],
        request=UpdateInput,
        responses=SubscriptionAnswer,
    )
    def patch(self, request: Request, subscription_id: UUID) -> Response:
        row = self.find(subscription_id)
        row = services.subscription_update(subscription=row, **self.who, **validated(UpdateInput, request.data))
        return Response(represented(SubscriptionAnswer, row))

    @extend_schema(
        operation_id="subscriptions_end",
        summary="End a subscription",
        description="It is unsubscribed and archived. Registering the token again brings it back, without its user.",
        tags=TAG,
        parameters=[HANDLE],
        request=None,
        responses={204: None},
    )
    def delete(self, request: Request, subscription_id: UUID) -> Response:
        services.subscription_end(subscription=self.find(subscription_id), **self.who)
        return Response(status=204)


class LoginView(OneSubscriptionView):
    scopes = {"POST": WRITE}

    @extend_schema(
        operation_id="subscriptions_login",
        summary="Link a subscription to a user",
        description=(
            "The user with this `external_id` is made if there is none. If the application verifies identities, a "
            "device needs an `identity_token`; a 403 says IDENTITY_TOKEN_REQUIRED, _EXPIRED or _INVALID."
        ),
        tags=TAG,
        parameters=[HANDLE],
        request=SubscriptionLoginInput,
        responses=SubscriptionAnswer,
    )
    def post(self, request: Request, subscription_id: UUID) -> Response:
        row = self.find(subscription_id)
        row = services.subscription_login(
            subscription=row, **self.who, **validated(SubscriptionLoginInput, request.data)
        )
        return Response(represented(SubscriptionAnswer, row))


class LogoutView(OneSubscriptionView):
    scopes = {"POST": WRITE}

    @extend_schema(
        operation_id="subscriptions_logout",
        summary="Unlink a subscription from its user",
        description="It keeps its token, tags and status, and is anonymous from now on.",
        tags=TAG,
        parameters=[HANDLE],
        request=None,
        responses=SubscriptionAnswer,
    )
    def post(self, request: Request, subscription_id: UUID) -> Response:
        row = self.find(subscription_id)
        validated(NoInput, request.data)
        row = services.subscription_logout(subscription=row, **self.who)
        return Response(represented(SubscriptionAnswer, row))


class TagsView(OneSubscriptionView):
    scopes = {"PATCH": WRITE, "PUT": WRITE}

    @extend_schema(
        operation_id="subscriptions_merge_tags",
        summary="Add, change and remove tags",
        tags=TAG,
        parameters=[HANDLE],
        request=TagsInput,
        responses=SubscriptionAnswer,
    )
    def patch(self, request: Request, subscription_id: UUID) -> Response:
        return self._set(request, subscription_id, replace=False)

    @extend_schema(
        operation_id="subscriptions_replace_tags",
        summary="Replace all tags",
        tags=TAG,
        parameters=[HANDLE],
        request=TagsInput,
        responses=SubscriptionAnswer,
    )
    def put(self, request: Request, subscription_id: UUID) -> Response:
        return self._set(request, subscription_id, replace=True)

    def _set(self, request: Request, subscription_id: UUID, *, replace: bool) -> Response:
        row = self.find(subscription_id)
        tags = validated(TagsInput, request.data)["tags"]
        row = services.subscription_set_tags(subscription=row, tags=tags, replace=replace, **self.who)
        return Response(represented(SubscriptionAnswer, row))
