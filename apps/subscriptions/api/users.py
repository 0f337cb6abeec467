"""`/users`: for app servers and operators; a publishable key has no scope here.

A user has two addresses: `/users/<our id>` and `/users/by-external-id?external_id=…`. The external id is a parameter
and no part of the path since it may hold anything, slashes and `..` included, and may look like one of our ids.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from apps.subscriptions import selectors, services
from apps.subscriptions.api.serializers import (
    ExternalIdInput,
    UserAnswer,
    UserCreateInput,
    UserExportAnswer,
    UserFilters,
    UserUpdateInput,
)
from apps.subscriptions.api.subscriptions import setter_of, source_of
from apps.subscriptions.models import AppUser
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, validated
from automata_signal.openapi import PAGE_PARAMETERS

TAG = ["users"]


class UsersView(SignalView):
    scopes = {"GET": "users:read", "POST": "users:write"}

    @extend_schema(
        operation_id="users_list",
        summary="List users",
        tags=TAG,
        parameters=[UserFilters, *PAGE_PARAMETERS],
        responses=UserAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = selectors.users_list(application=self.application, **self.query(UserFilters))
        return self.page(rows, lambda row: UserAnswer(row).data)

    @extend_schema(
        operation_id="users_create",
        summary="Create a user",
        description="409 USER_EXISTS if there is one with this `external_id`. An archived one comes back, as if new.",
        tags=TAG,
        request=UserCreateInput,
        responses={201: UserAnswer},
    )
    def post(self, request: Request) -> Response:
        user = services.user_create(application=self.application, **validated(UserCreateInput, request.data))
        return Response(UserAnswer(user).data, status=201)


class OneUserView(SignalView):
    """What the views of one user share: finding it by either of its addresses."""

    def find(self, user_id: UUID | None, *, archived_too: bool = False) -> AppUser:
        key: dict[str, Any] = {"user_id": user_id}
        if user_id is None:
            key = validated(ExternalIdInput, self.request.query_params.dict())
        return selectors.user_get(application=self.application, archived_too=archived_too, **key)

    @property
    def who(self) -> dict[str, Any]:
        """What services want to know of the caller."""
        return {"setter": setter_of(self.caller), "source": source_of(self.caller)}


@extend_schema_view(
    get=extend_schema(operation_id="users_read"),
    patch=extend_schema(operation_id="users_update"),
    delete=extend_schema(operation_id="users_archive"),
)
class UserView(OneUserView):
    scopes = {"GET": "users:read", "PATCH": "users:write", "DELETE": "users:write"}

    @extend_schema(summary="Read a user", tags=TAG, responses=UserAnswer)
    def get(self, request: Request, user_id: UUID | None = None) -> Response:
        return Response(UserAnswer(self.find(user_id)).data)

    @extend_schema(
        summary="Change a user's properties",
        description="Each property given takes the place of the one of that name; null removes it; others stay.",
        tags=TAG,
        request=UserUpdateInput,
        responses=UserAnswer,
    )
    def patch(self, request: Request, user_id: UUID | None = None) -> Response:
        user = self.find(user_id)
        user = services.user_update(user=user, **validated(UserUpdateInput, request.data))
        return Response(UserAnswer(user).data)

    @extend_schema(
        summary="Archive a user",
        description="The user's subscriptions end and are archived; nothing is erased.",
        tags=TAG,
        request=None,
        responses={204: None},
    )
    def delete(self, request: Request, user_id: UUID | None = None) -> Response:
        services.user_archive(user=self.find(user_id), **self.who)
        return Response(status=204)


@extend_schema_view(post=extend_schema(operation_id="users_erase"))
class UserEraseView(OneUserView):
    scopes = {"POST": "users:write"}

    @extend_schema(
        summary="Erase a user's personal data",
        description="For ever: external id, properties, tokens, tags, device data, contents of messages. Counts stay.",
        tags=TAG,
        request=None,
        responses={204: None},
    )
    def post(self, request: Request, user_id: UUID | None = None) -> Response:
        user = self.find(user_id, archived_too=True)
        validated(NoInput, request.data)
        services.user_erase(user=user, **self.who)
        return Response(status=204)


@extend_schema_view(get=extend_schema(operation_id="users_export"))
class UserExportView(OneUserView):
    scopes = {"GET": "users:read"}

    @extend_schema(summary="Export all that is held about a user", tags=TAG, responses=UserExportAnswer)
    def get(self, request: Request, user_id: UUID | None = None) -> Response:
        return Response(services.user_export(user=self.find(user_id, archived_too=True)))


@extend_schema_view(
    get=extend_schema(operation_id="users_read_by_external_id", parameters=[ExternalIdInput]),
    patch=extend_schema(operation_id="users_update_by_external_id", parameters=[ExternalIdInput]),
    delete=extend_schema(operation_id="users_archive_by_external_id", parameters=[ExternalIdInput]),
)
class UserByExternalIdView(UserView):
    pass


@extend_schema_view(post=extend_schema(operation_id="users_erase_by_external_id", parameters=[ExternalIdInput]))
class UserEraseByExternalIdView(UserEraseView):
    pass


@extend_schema_view(get=extend_schema(operation_id="users_export_by_external_id", parameters=[ExternalIdInput]))
class UserExportByExternalIdView(UserExportView):
    pass
