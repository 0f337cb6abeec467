"""`/api/v1/templates`: reusable contents, their versions and previews."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging import selectors, services
from apps.messaging.content import VARIABLES_MAX_BYTES, ContentSource, check_template, recipient_variables
from apps.messaging.models import MessageTemplate, MessageTemplateVersion
from apps.messaging.rendering import RenderError, compile_template
from apps.messaging.variants import VARIANTS_MAX
from apps.subscriptions.models import AppUser
from apps.tenants.models import Application
from apps.tenants.views import SignalView
from automata_signal.api import StrictSerializer, at_most_bytes, validated
from automata_signal.caches import PREVIEWS, cached
from automata_signal.errors import NotFound, ValidationFailed
from automata_signal.openapi import PAGE_PARAMETERS

TEXT_MAX = 65_536
LOGIC = "{%"
"""Begins a loop or a condition of a template."""


class TemplateInput(StrictSerializer):
    name = serializers.CharField(max_length=200)
    description = serializers.CharField(max_length=500, allow_blank=True, required=False)
    title_template = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    body_template = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    data_template = serializers.DictField(required=False)
    options = serializers.DictField(required=False)
    variants = serializers.ListField(
        child=serializers.DictField(),
        max_length=VARIANTS_MAX,
        required=False,
        help_text="What it says on one channel or in one language: channel, language, title, body, data, options.",
    )
    is_active = serializers.BooleanField(required=False)


class TemplateOutput(serializers.ModelSerializer[MessageTemplate]):
    class Meta:
        model = MessageTemplate
        fields = (
            *("id", "name", "description", "title_template", "body_template", "data_template", "options", "variants"),
            *("is_active", "version", "created_at", "updated_at"),
        )


class TemplateVersionOutput(serializers.ModelSerializer[MessageTemplateVersion]):
    class Meta:
        model = MessageTemplateVersion
        fields = (
            *("id", "version", "title_template", "body_template", "data_template", "options", "variants"),
            *("created_at", "created_by"),
        )


class PreviewInput(StrictSerializer):
    variables = serializers.DictField(
        required=False,
        validators=[at_most_bytes(VARIABLES_MAX_BYTES)],
        help_text="Come before the user's own properties.",
    )
    external_id = serializers.CharField(max_length=255, required=False, help_text="Preview as this user would see it.")
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, required=False)


class DraftPreviewInput(StrictSerializer):
    title_template = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    body_template = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    data_template = serializers.DictField(required=False)
    variables = serializers.DictField(required=False, validators=[at_most_bytes(VARIABLES_MAX_BYTES)])


class PreviewOutput(serializers.Serializer[Any]):
    title = serializers.CharField()
    body = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]
    variables = serializers.ListField(child=serializers.CharField(), help_text="The names that the template uses.")


class TemplatesView(SignalView):
    scopes = {"GET": "templates:read", "POST": "templates:write"}

    @extend_schema(
        operation_id="templates_list",
        tags=["templates"],
        parameters=PAGE_PARAMETERS,
        responses=TemplateOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        self.query()
        templates = MessageTemplate.objects.for_application(self.application)
        return self.page(templates, lambda template: TemplateOutput(template).data)

    @extend_schema(
        operation_id="templates_create", tags=["templates"], request=TemplateInput, responses={201: TemplateOutput}
    )
    def post(self, request: Request) -> Response:
        fields = validated(TemplateInput, request.data)
        template = services.template_create(application=self.application, created_by=self.caller.label, **fields)
        return Response(TemplateOutput(template).data, status=201)


class TemplateView(SignalView):
    scopes = {"GET": "templates:read", "PATCH": "templates:write", "DELETE": "templates:write"}

    @extend_schema(operation_id="templates_read", tags=["templates"], responses=TemplateOutput)
    def get(self, request: Request, template_id: UUID) -> Response:
        return Response(TemplateOutput(selectors.template_get(self.application, template_id)).data)

    @extend_schema(
        operation_id="templates_update",
        tags=["templates"],
        request=TemplateInput(partial=True),
        responses=TemplateOutput,
    )
    def patch(self, request: Request, template_id: UUID) -> Response:
        template = selectors.template_get(self.application, template_id)
        changes = validated(TemplateInput, request.data, partial=True)
        template = services.template_update(template=template, changed_by=self.caller.label, changes=changes)
        return Response(TemplateOutput(template).data)

    @extend_schema(operation_id="templates_delete", tags=["templates"], responses={204: None})
    def delete(self, request: Request, template_id: UUID) -> Response:
        services.template_delete(template=selectors.template_get(self.application, template_id))
        return Response(status=204)


class TemplateVersionsView(SignalView):
    scopes = {"GET": "templates:read"}

    @extend_schema(
        operation_id="templates_versions",
        tags=["templates"],
        parameters=PAGE_PARAMETERS,
        responses=TemplateVersionOutput(many=True),
    )
    def get(self, request: Request, template_id: UUID) -> Response:
        self.query()
        template = selectors.template_get(self.application, template_id)
        return self.page(template.versions.all(), lambda version: TemplateVersionOutput(version).data)


class TemplatePreviewView(SignalView):
    scopes = {"POST": "templates:read"}

    @extend_schema(
        operation_id="templates_preview", tags=["templates"], request=PreviewInput, responses={200: PreviewOutput}
    )
    def post(self, request: Request, template_id: UUID) -> Response:
        template = selectors.template_get(self.application, template_id)
        wanted = validated(PreviewInput, request.data)
        version = template.versions.filter(version=wanted.get("version", template.version)).first()
        if version is None:
            raise ValidationFailed.of("version", "the template has no such version")
        variables = _user_variables(self.application, wanted.get("external_id")) | wanted.get("variables", {})
        texts = version.title_template, version.body_template, version.data_template
        return Response(_preview(self.application, *texts, variables))


class DraftPreviewView(SignalView):
    """A preview of what is not saved yet: for editors."""

    scopes = {"POST": "templates:read"}

    @extend_schema(
        operation_id="templates_preview_draft",
        tags=["templates"],
        request=DraftPreviewInput,
        responses={200: PreviewOutput},
    )
    def post(self, request: Request) -> Response:
        draft = validated(DraftPreviewInput, request.data)
        texts = draft.get("title_template", ""), draft.get("body_template", ""), draft.get("data_template", {})
        return Response(_preview(self.application, *texts, draft.get("variables", {})))


def _user_variables(application: Application, external_id: str | None) -> dict[str, Any]:
    if external_id is None:
        return {}
    user = AppUser.objects.for_application(application).filter(external_id=external_id).first()
    if user is None:
        raise NotFound("There is no such user.")
    subscription = user.subscriptions.order_by("-last_active_at").first()
    return recipient_variables(
        external_id=user.external_id,
        properties=user.properties,
        tags=subscription.tags if subscription else {},
        language=(subscription and subscription.device_language) or application.default_language,
        country=subscription.country_code if subscription else "",
    )


def _preview(
    application: Application, title: str, body: str, data: dict[str, Any], variables: dict[str, Any]
) -> dict[str, Any]:
    """What the recipient would see. Loops may run for long, so their results are kept; the rest is made sooner than
    Redis answers."""

    def render() -> dict[str, Any]:
        return _rendered(title, body, data, variables)

    if LOGIC not in f"{title}{body}{data}":
        return render()
    return cached(PREVIEWS, application.pk, [title, body, data, variables], render)


def _rendered(title: str, body: str, data: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    check_template(title, body, data)
    source = ContentSource(title, body, data, is_personalised=True)
    try:
        content = source.render(variables)
    except RenderError as error:
        raise ValidationFailed.of(error.field, error.message) from None
    names = compile_template(title=title, body=body, data=data).variables
    return {"title": content.title, "body": content.body, "data": content.data, "variables": sorted(names)}
