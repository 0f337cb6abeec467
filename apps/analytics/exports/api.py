"""`/api/v1/exports`: ask for a file of rows, follow it, load it."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.analytics.exports import services
from apps.analytics.models.exports import Export, ExportState
from apps.tenants.access import client_address
from apps.tenants.idempotency import IDEMPOTENCY_PARAMETER, idempotent
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, StrictSerializer, at_most_bytes, validated
from automata_signal.downloads import Download
from automata_signal.openapi import PAGE_PARAMETERS

FILTERS_MAX_BYTES = 4_096
COLUMNS_MAX = 64


class ExportInput(StrictSerializer):
    kind = serializers.CharField(
        max_length=32,
        help_text="`messages`, `message_events`, `subscriptions`, `subscription_events`, `users`, `campaigns`, "
        "`statistics` or `ledger`.",
    )
    filters = serializers.DictField(
        required=False,
        validators=[at_most_bytes(FILTERS_MAX_BYTES)],
        help_text="`since` and `until`, and what the kind offers; see the guide.",
    )
    columns = serializers.ListField(
        child=serializers.CharField(max_length=64),
        max_length=COLUMNS_MAX,
        required=False,
        help_text="In the order of the file; the kind's usual ones unless told.",
    )
    time_zone = serializers.CharField(
        max_length=64, required=False, help_text="Of the times, such as `UTC`; the application's own unless told."
    )
    bom = serializers.BooleanField(default=False, help_text="For Excel: the file begins with a byte order mark.")
    gzip = serializers.BooleanField(default=False)
    masked = serializers.BooleanField(
        required=False,
        help_text="Mask personal data. False needs the scope `personal_data:read`; who has it gets that unless told.",
    )


class ExportOutput(serializers.ModelSerializer[Export]):
    filters = serializers.DictField(read_only=True)
    progress = serializers.FloatField(help_text="0 to 1, about; 1 only when it is done.")
    bom = serializers.BooleanField(source="with_bom")
    gzip = serializers.BooleanField(source="is_gzipped")
    masked = serializers.BooleanField(source="is_masked")
    downloads = serializers.IntegerField(source="downloads_count", help_text="How often the file was loaded.")

    class Meta:
        model = Export
        fields: tuple[str, ...] = (
            *("id", "kind", "state", "progress", "filters", "columns", "time_zone", "bom", "gzip", "masked"),
            *("rows_written", "bytes_written", "sha256", "file_name", "last_error", "requested_by", "requested_from"),
            *("created_at", "started_at", "finished_at", "expires_at", "downloads"),
        )
        extra_kwargs = {
            "sha256": {"help_text": "Of the file, in hex, once it is done."},
            "expires_at": {"help_text": "When the file is deleted."},
        }


class ExportDetailOutput(ExportOutput):
    download_url = serializers.SerializerMethodField(
        help_text="For a GET with a key or token; null unless the export is done. Good for `DOWNLOAD_LINK_S` seconds."
    )

    class Meta(ExportOutput.Meta):
        fields: tuple[str, ...] = (*ExportOutput.Meta.fields, "download_url")

    def get_download_url(self, export: Export) -> str | None:
        link = services.download_link(export)
        return link.url if link else None


class ExportQuery(StrictSerializer):
    from_text = True

    state = serializers.ChoiceField(ExportState.choices, required=False)


class DownloadQuery(StrictSerializer):
    from_text = True

    token = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False, default="")


class _View(SignalView):
    def requester(self) -> services.Requester:
        return services.Requester(self.caller.label, client_address(self.request), self.caller.scopes)

    def export(self, export_id: UUID) -> Export:
        return services.export_get(application=self.application, export_id=export_id)


class ExportsView(_View):
    scopes: ClassVar = {"GET": services.WRITE, "POST": services.WRITE}

    @extend_schema(
        operation_id="exports_list",
        tags=["exports"],
        parameters=[*PAGE_PARAMETERS, OpenApiParameter("state", OpenApiTypes.STR, enum=ExportState.values)],
        responses=ExportOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        """The application's exports, newest first, also those whose file is gone: who asked for what."""
        given = self.query(ExportQuery)
        return self.page(
            Export.objects.for_application(self.application).filter(**given), lambda row: ExportOutput(row).data
        )

    @extend_schema(
        operation_id="exports_create",
        tags=["exports"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=ExportInput,
        responses={202: ExportDetailOutput},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Order a file; it is written in the background. Needs `exports:write` and the scope that reads the rows. 403
        with `PLAN_FEATURE` if the plan has no exports, 409 with `EXPORTS_BUSY` if too many are on their way."""
        given = validated(ExportInput, request.data)
        export = services.export_create(application=self.application, requester=self.requester(), **given)
        return Response(ExportDetailOutput(export).data, status=202)


class ExportView(_View):
    scopes: ClassVar = {"GET": services.WRITE}

    @extend_schema(operation_id="exports_read", tags=["exports"], responses=ExportDetailOutput)
    def get(self, request: Request, export_id: UUID) -> Response:
        """How far it is; when it is done, where the file is."""
        return Response(ExportDetailOutput(self.export(export_id)).data)


class ExportCancelView(_View):
    scopes: ClassVar = {"POST": services.WRITE}

    @extend_schema(operation_id="exports_cancel", tags=["exports"], request=None, responses=ExportDetailOutput)
    def post(self, request: Request, export_id: UUID) -> Response:
        """End it and delete what is written. 409 with `EXPORT_STATE` if it has ended."""
        validated(NoInput, request.data)
        return Response(ExportDetailOutput(services.export_cancel(export=self.export(export_id))).data)


class ExportDownloadView(_View):
    scopes: ClassVar = {"GET": services.WRITE}

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """The file is what it is, whatever `Accept` says."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        operation_id="exports_download",
        tags=["exports"],
        parameters=[OpenApiParameter("token", OpenApiTypes.STR, description="As `download_url` has it.")],
        responses={(200, "text/csv"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, export_id: UUID) -> StreamingHttpResponse:
        """The file. The address is that of `download_url`; it needs a key or token with the same rights as well, and is
        recorded. 404 for everything that does not fit."""
        download = services.export_download(
            application=self.application,
            export_id=export_id,
            token=self.query(DownloadQuery)["token"],
            requester=self.requester(),
        )
        return file_response(download)


def file_response(download: Download) -> StreamingHttpResponse:
    """The file as an attachment that nothing on the way keeps."""
    response = StreamingHttpResponse(download.chunks, content_type=download.content_type)
    response["Content-Disposition"] = content_disposition_header(True, download.file_name) or "attachment"
    response["Content-Length"] = str(download.size_bytes)
    response["Cache-Control"] = "private, no-store"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox"
    return response
