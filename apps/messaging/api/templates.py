"""`/api/v1/templates`: reusable contents, their versions and previews."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging import selectors, services
from apps.messaging.content import VARIABLES_MAX_BYTES, ContentSource, source_on_channel
from apps.messaging.models import MessageTemplate, MessageTemplateVersion
from apps.messaging.previews import prepared_or_as_is, preview, user_named, variables_of
from apps.messaging.variants import VARIANTS_MAX
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from apps.tenants.views import SignalView
from automata_signal.api import StrictSerializer, at_most_bytes, validated
from automata_signal.caches import PREVIEWS, cached
from automata_signal.errors import ValidationFailed
from automata_signal.openapi import PAGE_PARAMETERS

TEXT_MAX = 65_536
OPTIONS_MAX_BYTES = 192 * 1024
"""The largest is an e-mail's text alternative."""
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
    channel_type = serializers.ChoiceField(choices=ChannelType.choices, default=ChannelType.PUSH)
    language = serializers.CharField(
        max_length=35, required=False, help_text="In this language, whatever the user's own is."
    )
    variables = serializers.DictField(
        required=False,
        validators=[at_most_bytes(VARIABLES_MAX_BYTES)],
        help_text="Come before the user's own properties.",
    )
    external_id = serializers.CharField(max_length=255, required=False, help_text="Preview as this user would see it.")
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, required=False)


class DraftPreviewInput(StrictSerializer):
    channel_type = serializers.ChoiceField(choices=ChannelType.choices, default=ChannelType.PUSH)
    language = serializers.CharField(max_length=35, required=False)
    options = serializers.DictField(required=False, validators=[at_most_bytes(OPTIONS_MAX_BYTES)])
    variants = serializers.ListField(child=serializers.DictField(), max_length=VARIANTS_MAX, required=False)
    title_template = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    body_template = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    data_template = serializers.DictField(required=False)
    variables = serializers.DictField(required=False, validators=[at_most_bytes(VARIABLES_MAX_BYTES)])


class PreviewOutput(serializers.Serializer[Any]):
    title = serializers.CharField()
    body = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]
    language = serializers.CharField(help_text="Whose words these are; empty: everybody's.")
    problems = serializers.ListField(
        child=serializers.CharField(), help_text="What a provider would refuse it for, by field."
    )
    shown = serializers.DictField(help_text="How the channel shows it: an e-mail's HTML and text, an SMS's parts.")
    variables = serializers.ListField(child=serializers.CharField(), help_text="The names that the template uses.")


_WRITTEN = ("title_template", "body_template", "data_template", "options", "variants")


def _in_language(variables: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {**variables, "language": wanted["language"]} if wanted.get("language") else variables


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
        variables = wanted.get("variables", {})
        if "external_id" in wanted:
            variables = variables_of(user_named(self.application, wanted["external_id"])) | variables
        source = source_on_channel(version, wanted["channel_type"])
        source, problem = prepared_or_as_is(self.application, source)
        found = _preview(self.application, source, _in_language(variables, wanted))
        return Response({**found, "problems": [*found["problems"], *([problem] if problem else [])]})


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
        source = source_on_channel(
            MessageTemplate(**{name: draft[name] for name in _WRITTEN if name in draft}), draft["channel_type"]
        )
        return Response(_preview(self.application, source, _in_language(draft.get("variables", {}), draft)))


def _preview(application: Application, source: ContentSource, variables: dict[str, Any]) -> dict[str, Any]:
    """What the recipient would see. Loops may run for long, so their results are kept; the rest is made sooner than
    Redis answers."""

    def render() -> dict[str, Any]:
        return preview(application, source, variables)._asdict()

    texts = [source.title, source.body, source.data, source.languages, source.options]
    if LOGIC not in str(texts):
        return render()
    return cached(PREVIEWS, application.pk, [source.channel_type, *texts, variables], render)
