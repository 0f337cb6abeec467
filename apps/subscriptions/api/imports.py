"""`/imports`: users and subscriptions from CSV files (docs/imports.md)."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import QueryDict
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.subscriptions.api.fields import JSONObject
from apps.subscriptions.imports import services
from apps.subscriptions.imports.models import Import, ImportKind, ImportMode, ImportState, OnConflict
from apps.subscriptions.imports.reading import COLUMN_NAME_MAX, COLUMNS_MAX, DELIMITERS, ENCODINGS
from apps.subscriptions.imports.rejects import first_rejects
from apps.subscriptions.models import SubscriptionType
from apps.tenants.access import client_address
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, StrictSerializer, represented, validated
from automata_signal.envelope import StrictJSONParser
from automata_signal.openapi import PAGE_PARAMETERS
from automata_signal.uploads import UploadParser

SCOPE = "imports:write"
TAG = ["imports"]
MAPPING_TEXT_MAX = 100_000


class ImportFields(StrictSerializer):
    kind = serializers.ChoiceField(ImportKind.choices)
    mode = serializers.ChoiceField(
        ImportMode.choices,
        required=False,
        help_text="dry_run, unless told: the file is checked and waits for `apply`. apply: both, one after the other",
    )
    encoding = serializers.ChoiceField(ENCODINGS, required=False, help_text="Found in the file unless told")
    delimiter = serializers.ChoiceField(
        list(DELIMITERS), required=False, help_text="Comma, semicolon or tab; found in the file unless told"
    )
    type = serializers.ChoiceField(
        SubscriptionType.choices, required=False, help_text="Of all subscriptions in a file without this column"
    )
    on_conflict = serializers.ChoiceField(
        OnConflict.choices, required=False, help_text="What happens to what is there already; update, unless told"
    )
    clear_empty = serializers.BooleanField(required=False, help_text="An empty cell clears; else it says nothing")
    resubscribe = serializers.BooleanField(
        required=False, help_text="Subscribes even those who had ended. Only with their consent; it is recorded"
    )


def _checked_mapping(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(field, str) for field in value.values()):
        raise serializers.ValidationError("Must be an object: column of the file → field, or an empty text.")
    if len(value) > COLUMNS_MAX or any(len(text) > COLUMN_NAME_MAX for pair in value.items() for text in pair):
        raise serializers.ValidationError(f"Has more than {COLUMNS_MAX} columns, or names that are too long.")
    return value


class ImportInput(ImportFields):
    """A small file in the body itself."""

    content = serializers.CharField(
        trim_whitespace=False, help_text="The lines of the file, at most as large as a body can be"
    )
    file_name = serializers.CharField(max_length=200, required=False)
    mapping = JSONObject(required=False, help_text="Column of the file → field; an empty text leaves it out")

    def validate_mapping(self, value: Any) -> dict[str, str]:
        return _checked_mapping(value)


class UploadInput(ImportFields):
    """A file as browsers and curl send it. What stands beside it is text."""

    from_text = True

    file = serializers.FileField(help_text="CSV with a header")
    mapping = serializers.CharField(
        max_length=MAPPING_TEXT_MAX, required=False, help_text="JSON: column of the file → field, or an empty text"
    )

    def validate_mapping(self, value: str) -> dict[str, str]:
        try:
            return _checked_mapping(json.loads(value))
        except (ValueError, RecursionError):
            raise serializers.ValidationError("Must be a JSON object.") from None


class CountsAnswer(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="Lines read, but for the header and empty ones")
    created = serializers.IntegerField()
    updated = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    skipped = serializers.IntegerField(help_text="Were there, and were to be left alone")
    rejected = serializers.IntegerField()
    kept = serializers.IntegerField(help_text="Asked to be subscribed and had ended before; counted above as well")


class ImportAnswer(serializers.Serializer[Import]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(ImportKind.choices)
    mode = serializers.ChoiceField(ImportMode.choices)
    state = serializers.ChoiceField(ImportState.choices)
    percent = serializers.IntegerField(help_text="Of the file, by the present pass")
    counts = CountsAnswer(help_text="By the present pass: of the check, or of what is applied")
    check_counts = CountsAnswer(allow_null=True, help_text="What the check said would happen")
    has_rejects = serializers.BooleanField(help_text="Whether there is a rejects file")
    last_error = serializers.CharField()
    file_name = serializers.CharField()
    file_bytes = serializers.IntegerField()
    sha256 = serializers.CharField()
    encoding = serializers.CharField()
    delimiter = serializers.CharField()
    header = serializers.ListField(child=serializers.CharField())
    mapping = JSONObject()
    type = serializers.CharField(source="default_type")
    on_conflict = serializers.ChoiceField(OnConflict.choices)
    clear_empty = serializers.BooleanField()
    resubscribe = serializers.BooleanField()
    requested_by = serializers.CharField()
    applied_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    checked_at = serializers.DateTimeField(allow_null=True)
    applied_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    deleted_at = serializers.DateTimeField(allow_null=True, help_text="When the file and its rejects were deleted")


class RejectedLineAnswer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    error = serializers.CharField(help_text="column: what is wrong; …")


class OneImportAnswer(ImportAnswer):
    first_rejects = RejectedLineAnswer(many=True, help_text="The first lines that were refused")

    def to_representation(self, instance: Import) -> dict[str, Any]:
        lines = [{"line": rejected.line, "error": rejected.error} for rejected in first_rejects(instance)]
        return represented(ImportAnswer, instance) | {"first_rejects": lines}


class RejectsAnswer(serializers.Serializer[Any]):
    url = serializers.CharField(help_text="Opens the file without a key: for whoever may see it")
    expires_at = serializers.DateTimeField()


class ImportsView(SignalView):
    scopes = {"GET": SCOPE, "POST": SCOPE}
    parser_classes = [StrictJSONParser, UploadParser]

    @extend_schema(
        operation_id="imports_list",
        summary="List imports",
        tags=TAG,
        parameters=PAGE_PARAMETERS,
        responses=ImportAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        self.query()
        rows = services.imports_list(application=self.application)
        return self.page(rows, lambda row: represented(ImportAnswer, row))

    @extend_schema(
        operation_id="imports_create",
        summary="Upload a file of users or subscriptions",
        description=(
            "The file is kept encrypted and checked in the background; nothing is imported before it is checked. "
            "400 `UNREADABLE_FILE` and `COLUMNS_DO_NOT_FIT` name the line and the columns; then nothing is kept. "
            "409 `TOO_MANY_IMPORTS` if ten are not over."
        ),
        tags=TAG,
        request={"multipart/form-data": UploadInput, "application/json": ImportInput},
        responses={202: OneImportAnswer},
    )
    def post(self, request: Request) -> Response:
        if str(request.content_type).startswith("multipart/"):
            assert isinstance(request.data, QueryDict)
            given = validated(UploadInput, request.data.dict())
            file = given.pop("file")
            source = {"file_name": file.name, "chunks": file.chunks()}
        else:
            given = validated(ImportInput, request.data)
            content = given.pop("content").encode("utf-8", "replace")
            source = {"file_name": given.pop("file_name", "import.csv"), "chunks": [content]}
        run = services.import_create(
            application=self.application,
            kind=given.pop("kind"),
            **source,
            options=services.ImportOptions(**given),
            by=self.caller.label,
            ip=client_address(request),
        )
        return Response(represented(OneImportAnswer, run), status=202)


class ImportView(SignalView):
    scopes = {"GET": SCOPE}

    @extend_schema(operation_id="imports_read", summary="How far an import is", tags=TAG, responses=OneImportAnswer)
    def get(self, request: Request, import_id: UUID) -> Response:
        run = services.import_get(application=self.application, import_id=import_id)
        return Response(represented(OneImportAnswer, run))


class ImportApplyView(SignalView):
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="imports_apply",
        summary="Apply a checked file",
        description="In the background. 409 `IMPORT_NOT_CHECKED` in any other state.",
        tags=TAG,
        request=None,
        responses={202: OneImportAnswer},
    )
    def post(self, request: Request, import_id: UUID) -> Response:
        validated(NoInput, request.data)
        run = services.import_apply(application=self.application, import_id=import_id, by=self.caller.label)
        return Response(represented(OneImportAnswer, run), status=202)


class ImportCancelView(SignalView):
    scopes = {"POST": SCOPE}

    @extend_schema(
        operation_id="imports_cancel",
        summary="Stop an import",
        description="What it has applied stays. 409 `IMPORT_IS_OVER` if there is nothing to stop.",
        tags=TAG,
        request=None,
        responses=OneImportAnswer,
    )
    def post(self, request: Request, import_id: UUID) -> Response:
        validated(NoInput, request.data)
        run = services.import_cancel(application=self.application, import_id=import_id, by=self.caller.label)
        return Response(represented(OneImportAnswer, run))


class ImportRejectsView(SignalView):
    scopes = {"GET": SCOPE}

    @extend_schema(
        operation_id="imports_rejects",
        summary="A link to the lines that were refused",
        description="CSV with the line, what is wrong with it, and its cells. 409 `NO_REJECTS` if there is none.",
        tags=TAG,
        responses=RejectsAnswer,
    )
    def get(self, request: Request, import_id: UUID) -> Response:
        link = services.import_rejects_link(application=self.application, import_id=import_id)
        return Response({"url": link.url, "expires_at": link.expires_at})
