"""`/media`: images and attachments that messages show or carry (docs/media.md)."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from uuid import UUID

from django.http import QueryDict
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging.media import selectors, services
from apps.messaging.media.images import CHANNEL_IMAGES
from apps.messaging.media.models import MediaFile, MediaKind, MediaVariant
from apps.tenants.views import SignalView
from automata_signal.api import StrictSerializer, represented, validated
from automata_signal.envelope import StrictJSONParser
from automata_signal.openapi import PAGE_PARAMETERS
from automata_signal.uploads import UploadParser

READ, WRITE = "media:read", "media:write"
TAG = ["media"]
LINK_MAX_S = 366 * 24 * 3_600


class MediaQuery(StrictSerializer):
    from_text = True

    kind = serializers.ChoiceField(MediaKind.choices, required=False)


class DeleteQuery(StrictSerializer):
    from_text = True

    even_if_used = serializers.BooleanField(
        required=False, help_text="Delete it although messages, templates or campaigns name it: they then show a gap"
    )


class ContentInput(StrictSerializer):
    """A small file in the body itself."""

    file_name = serializers.CharField(max_length=200, help_text="It ends as the content does afterwards")
    content = serializers.CharField(
        trim_whitespace=False, help_text="Base64; with it the body is at most as large as a body can be"
    )

    def validate_content(self, value: str) -> bytes:
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise serializers.ValidationError("Must be base64.") from None


class FileInput(StrictSerializer):
    """A file as browsers and curl send it."""

    from_text = True

    file = serializers.FileField(help_text="An image or an attachment")


class VariantInput(StrictSerializer):
    channel = serializers.ChoiceField(list(CHANNEL_IMAGES), help_text="What it is for")


class LinkInput(StrictSerializer):
    valid_s = serializers.IntegerField(min_value=60, max_value=LINK_MAX_S, help_text="How long the address is good")
    channel = serializers.ChoiceField(list(CHANNEL_IMAGES), required=False, help_text="Its variant; else the file")


class VariantAnswer(serializers.Serializer[MediaVariant]):
    channel = serializers.CharField(source="name")
    url = serializers.SerializerMethodField()
    content_type = serializers.CharField()
    file_bytes = serializers.IntegerField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()

    def get_url(self, row: MediaVariant) -> str:
        return selectors.variant_address(row)


class MediaAnswer(serializers.Serializer[MediaFile]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(MediaKind.choices)
    file_name = serializers.CharField()
    content_type = serializers.CharField(help_text="Found in the content")
    file_bytes = serializers.IntegerField(help_text="As stored: images are encoded anew")
    sha256 = serializers.CharField(help_text="Of what is stored")
    width = serializers.IntegerField(allow_null=True)
    height = serializers.IntegerField(allow_null=True)
    is_animated = serializers.BooleanField()
    url = serializers.SerializerMethodField(help_text="Its public address, good for as long as the file is there")
    uploaded_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(
        allow_null=True, help_text="When content that names it was last accepted; files that nothing uses are deleted"
    )

    def get_url(self, row: MediaFile) -> str:
        return selectors.media_address(row)


class OneMediaAnswer(MediaAnswer):
    variants = VariantAnswer(many=True, help_text="Those that were made")

    def to_representation(self, instance: MediaFile) -> dict[str, Any]:
        rows = instance.variants.select_related("media").order_by("name")
        return represented(MediaAnswer, instance) | {"variants": [represented(VariantAnswer, row) for row in rows]}


class LinkAnswer(serializers.Serializer[Any]):
    url = serializers.CharField(help_text="Opens the file without a key")


class MediaView(SignalView):
    scopes = {"GET": READ, "POST": WRITE}
    parser_classes = [StrictJSONParser, UploadParser]

    @extend_schema(
        operation_id="media_list",
        summary="List media files",
        tags=TAG,
        parameters=[MediaQuery, *PAGE_PARAMETERS],
        responses=MediaAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = selectors.media_list(application=self.application, kind=self.query(MediaQuery).get("kind", ""))
        return self.page(rows, lambda row: represented(MediaAnswer, row))

    @extend_schema(
        operation_id="media_create",
        summary="Upload an image or an attachment",
        description=(
            "What it is, is found in its content. Images are encoded anew, without position, camera and profile. "
            "400 names `file` for a kind that is not taken, a damaged or an oversized image; 413 `PAYLOAD_TOO_LARGE`; "
            "409 `MEDIA_QUOTA_FULL` if the application's files take too much already."
        ),
        tags=TAG,
        request={"multipart/form-data": FileInput, "application/json": ContentInput},
        responses={201: OneMediaAnswer},
    )
    def post(self, request: Request) -> Response:
        if str(request.content_type).startswith("multipart/"):
            assert isinstance(request.data, QueryDict)
            file = validated(FileInput, request.data.dict())["file"]
            source = {"file_name": file.name, "chunks": file.chunks()}
        else:
            given = validated(ContentInput, request.data)
            source = {"file_name": given["file_name"], "chunks": [given["content"]]}
        media = services.media_create(application=self.application, **source, by=self.caller.label)
        return Response(represented(OneMediaAnswer, media), status=201)


class MediaFileView(SignalView):
    scopes = {"GET": READ, "DELETE": WRITE}

    @extend_schema(operation_id="media_read", summary="Read a media file", tags=TAG, responses=OneMediaAnswer)
    def get(self, request: Request, media_id: UUID) -> Response:
        media = selectors.media_get(application=self.application, media_id=media_id)
        return Response(represented(OneMediaAnswer, media))

    @extend_schema(
        operation_id="media_delete",
        summary="Delete a media file",
        description="With its variants, and all its addresses. 409 `MEDIA_IN_USE` unless `even_if_used` is given.",
        tags=TAG,
        parameters=[DeleteQuery],
        responses={204: None},
    )
    def delete(self, request: Request, media_id: UUID) -> Response:
        even_if_used = self.query(DeleteQuery).get("even_if_used", False)
        services.media_delete(application=self.application, media_id=media_id, even_if_used=even_if_used)
        return Response(status=204)


class MediaVariantsView(SignalView):
    scopes = {"POST": WRITE}

    @extend_schema(
        operation_id="media_variants_create",
        summary="Make an image as a channel takes it",
        description="Once; asked again it gives what was made. 400 names `channel` if it cannot be made so.",
        tags=TAG,
        request=VariantInput,
        responses=VariantAnswer,
    )
    def post(self, request: Request, media_id: UUID) -> Response:
        channel = validated(VariantInput, request.data)["channel"]
        made = services.media_variant(application=self.application, media_id=media_id, channel=channel)
        return Response(represented(VariantAnswer, made))


class MediaLinksView(SignalView):
    scopes = {"POST": READ}

    @extend_schema(
        operation_id="media_links_create",
        summary="An address that is good for a while",
        tags=TAG,
        request=LinkInput,
        responses=LinkAnswer,
    )
    def post(self, request: Request, media_id: UUID) -> Response:
        given = validated(LinkInput, request.data)
        media = selectors.media_get(application=self.application, media_id=media_id)
        url = selectors.media_address(media, variant=given.get("channel", ""), valid_s=given["valid_s"])
        return Response({"url": url})
