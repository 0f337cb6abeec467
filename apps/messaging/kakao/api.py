"""`/api/v1/kakao`: sender profiles and Alimtalk templates, in step with the provider."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging.adapters.kakao_content import TEXT_MAX
from apps.messaging.kakao import services
from apps.messaging.kakao.models import KakaoChannel, KakaoTemplate, TemplateState
from apps.messaging.kakao.preparing import names_of
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, SignalResponse, StrictSerializer, represented, validated
from automata_signal.openapi import PAGE_PARAMETERS

READ, WRITE = "templates:read", "templates:write"
NOTHING = OpenApiResponse(description="Done.")


class KakaoChannelOutput(serializers.ModelSerializer[KakaoChannel]):
    class Meta:
        model = KakaoChannel
        fields = ("id", "provider", "sender_key", "search_id", "state", "synced_at")


class KakaoTemplateOutput(serializers.ModelSerializer[KakaoTemplate]):
    channel_id = serializers.UUIDField()
    items = serializers.DictField()
    buttons = serializers.ListField(child=serializers.DictField())
    quick_replies = serializers.ListField(child=serializers.DictField())
    comments = serializers.ListField(
        child=serializers.DictField(), help_text="`{text, by: kakao or us, at}`, of the inspection."
    )
    variables = serializers.SerializerMethodField(help_text="The names that `data` must have.")
    is_usable = serializers.BooleanField(help_text="Whether messages can be sent with it.")

    class Meta:
        model = KakaoTemplate
        fields = (
            *("id", "channel_id", "code", "name", "content", "message_type", "emphasis", "title", "subtitle", "header"),
            *("extra", "items", "buttons", "quick_replies", "variables", "state", "provider_state", "is_usable"),
            *("is_dormant", "comments", "synced_at", "created_at"),
        )

    def get_variables(self, template: KakaoTemplate) -> list[str]:
        return names_of(template)


class KakaoSyncOutput(serializers.Serializer[Any]):
    channels = serializers.IntegerField()
    templates = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Credentials whose provider did not answer.")


class KakaoTemplateQuery(StrictSerializer):
    from_text = True
    state = serializers.ChoiceField(TemplateState.choices, required=False)
    code = serializers.CharField(max_length=64, required=False)


class KakaoTemplateInput(StrictSerializer):
    channel_id = serializers.UUIDField()
    code = serializers.CharField(
        max_length=20, required=False, allow_blank=True, help_text="Of NHN Cloud's; Solapi gives its own."
    )
    name = serializers.CharField(max_length=150)
    content = serializers.CharField(max_length=TEXT_MAX, trim_whitespace=False, help_text="`#{name}` for a variable.")
    category = serializers.CharField(max_length=20, required=False, allow_blank=True)
    title = serializers.CharField(max_length=50, required=False, allow_blank=True)
    subtitle = serializers.CharField(max_length=50, required=False, allow_blank=True)
    extra = serializers.CharField(max_length=500, required=False, allow_blank=True, trim_whitespace=False)
    buttons = serializers.ListField(
        child=serializers.DictField(child=serializers.CharField(max_length=500)),
        max_length=services.BUTTONS_MAX,
        required=False,
        help_text="`{type, name, link_mobile, link_pc, scheme_android, scheme_ios}`; type WL for a web link.",
    )


class KakaoInspectionInput(StrictSerializer):
    comment = serializers.CharField(max_length=500, required=False, allow_blank=True)


def represent(template: KakaoTemplate) -> dict[str, Any]:
    return represented(KakaoTemplateOutput, template)


class KakaoChannelsView(SignalView):
    scopes: ClassVar = {"GET": READ}

    @extend_schema(
        operation_id="kakao_channels_list",
        tags=["kakao"],
        parameters=PAGE_PARAMETERS,
        responses=KakaoChannelOutput(many=True),
    )
    def get(self, request: Request) -> SignalResponse:
        """The sender profiles of the application's Kakao credentials, as they were at the last sync."""
        self.query()
        rows = KakaoChannel.objects.for_application(self.application)
        return self.page(rows, lambda row: represented(KakaoChannelOutput, row))


class KakaoSyncView(SignalView):
    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(operation_id="kakao_sync", tags=["kakao"], request=None, responses=KakaoSyncOutput)
    def post(self, request: Request) -> Response:
        """Read sender profiles and templates from the provider now. 409 `NO_CREDENTIAL`; 503 if no provider answers."""
        validated(NoInput, request.data)
        return Response(services.kakao_sync(application=self.application)._asdict())


class KakaoTemplatesView(SignalView):
    scopes: ClassVar = {"GET": READ, "POST": WRITE}

    @extend_schema(
        operation_id="kakao_templates_list",
        tags=["kakao"],
        parameters=[KakaoTemplateQuery, *PAGE_PARAMETERS],
        responses=KakaoTemplateOutput(many=True),
    )
    def get(self, request: Request) -> SignalResponse:
        """The templates, with what inspection says of them."""
        wanted = self.query(KakaoTemplateQuery)
        rows = KakaoTemplate.objects.for_application(self.application).select_related("channel").filter(**wanted)
        return self.page(rows, represent)

    @extend_schema(
        operation_id="kakao_templates_create",
        tags=["kakao"],
        request=KakaoTemplateInput,
        responses={201: KakaoTemplateOutput},
    )
    def post(self, request: Request) -> Response:
        """Register a template with the provider. NHN Cloud has it inspected at once, Solapi when it is asked to. 409
        `PROVIDER_REFUSED` with what the provider says."""
        given = validated(KakaoTemplateInput, request.data)
        template = services.template_register(application=self.application, **given)
        return Response(represent(template), status=status.HTTP_201_CREATED)


class KakaoTemplateView(SignalView):
    scopes: ClassVar = {"GET": READ, "DELETE": WRITE}

    @extend_schema(operation_id="kakao_templates_read", tags=["kakao"], responses=KakaoTemplateOutput)
    def get(self, request: Request, kakao_template_id: UUID) -> Response:
        return Response(represent(services.template_get(application=self.application, template_id=kakao_template_id)))

    @extend_schema(operation_id="kakao_templates_delete", tags=["kakao"], responses={204: NOTHING})
    def delete(self, request: Request, kakao_template_id: UUID) -> Response:
        """Delete it at the provider and here. 409 `TEMPLATE_STATE` for an approved one."""
        template = services.template_get(application=self.application, template_id=kakao_template_id)
        services.template_delete(template=template)
        return Response(status=status.HTTP_204_NO_CONTENT)


class KakaoInspectionView(SignalView):
    scopes: ClassVar = {"POST": WRITE, "DELETE": WRITE}

    @extend_schema(
        operation_id="kakao_templates_inspect",
        tags=["kakao"],
        request=KakaoInspectionInput,
        responses=KakaoTemplateOutput,
    )
    def post(self, request: Request, kakao_template_id: UUID) -> Response:
        """Have Kakao inspect a draft, or one that was rejected. 409 `TEMPLATE_STATE`, `PROVIDER_REFUSED`."""
        given = validated(KakaoInspectionInput, request.data)
        template = services.template_get(application=self.application, template_id=kakao_template_id)
        return Response(represent(services.template_request_inspection(template=template, **given)))

    @extend_schema(operation_id="kakao_templates_inspect_cancel", tags=["kakao"], responses=KakaoTemplateOutput)
    def delete(self, request: Request, kakao_template_id: UUID) -> Response:
        """Take it back to be changed (Solapi). 409 `TEMPLATE_STATE`, `PROVIDER_REFUSED`."""
        template = services.template_get(application=self.application, template_id=kakao_template_id)
        return Response(represent(services.template_cancel_inspection(template=template)))
