"""`/api/v1/messages`: send to named recipients, follow and cancel."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging import requeue, retry, selectors, services
from apps.messaging.chains.steps import REACHED, STEPS_MAX, WAIT_S_MAX, WAIT_S_MIN, chain_of
from apps.messaging.content import VARIABLES_MAX_BYTES, content_source
from apps.messaging.models import FollowOn, Message, MessageEvent, MessageRequeue, MessageStatus, Priority, Purpose
from apps.messaging.named import RECIPIENTS_MAX, Recipients
from apps.tenants.channels import ChannelType
from apps.tenants.idempotency import IDEMPOTENCY_PARAMETER, idempotent
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, StrictSerializer, at_most_bytes, validated
from automata_signal.openapi import PAGE_PARAMETERS

TEXT_MAX = 65_536
FAILURES_DAYS = 7


class RecipientsInput(StrictSerializer):
    external_ids = serializers.ListField(
        child=serializers.CharField(max_length=255), max_length=RECIPIENTS_MAX, required=False
    )
    subscription_ids = serializers.ListField(child=serializers.UUIDField(), max_length=RECIPIENTS_MAX, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("external_ids") and not attrs.get("subscription_ids"):
            raise serializers.ValidationError("Name at least one external id or subscription id.")
        return attrs


class ContentFields(StrictSerializer):
    """The content of a send: a template with variables, or literal text. Not both."""

    template_id = serializers.UUIDField(required=False)
    variables = serializers.DictField(required=False, validators=[at_most_bytes(VARIABLES_MAX_BYTES)])
    title = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    body = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    data = serializers.DictField(required=False)  # type: ignore[assignment]
    options = serializers.DictField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        literal = [name for name in ("title", "body", "data") if name in attrs]
        if "template_id" in attrs and literal:
            raise serializers.ValidationError({literal[0]: ["The content comes from the template."]})
        if "template_id" not in attrs and "variables" in attrs:
            raise serializers.ValidationError(
                {"variables": ["Variables need a template_id; literal text is sent as it is."]}
            )
        return attrs


class ChainStepInput(StrictSerializer):
    channel_type = serializers.ChoiceField(choices=ChannelType.choices)
    wait_s = serializers.IntegerField(
        min_value=WAIT_S_MIN, max_value=WAIT_S_MAX, required=False, help_text="Needed unless it is the last step."
    )
    title = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    body = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False, required=False)
    data = serializers.DictField(required=False)  # type: ignore[assignment]
    options = serializers.DictField(required=False)


class ChainInput(StrictSerializer):
    """What follows for whom the message does not reach. Users only: a device has one channel."""

    wait_s = serializers.IntegerField(
        min_value=WAIT_S_MIN, max_value=WAIT_S_MAX, help_text="How long the first channel waits for a receipt."
    )
    on = serializers.ChoiceField(
        choices=FollowOn.choices,
        default=FollowOn.NO_RECEIPT,
        help_text="`no_receipt`: also without a receipt in time; `failure`: only if the message fails.",
    )
    until = serializers.ChoiceField(
        choices=list(REACHED), default=MessageStatus.RECEIVED.value, help_text="What ends the chain."
    )
    steps = serializers.ListField(child=ChainStepInput(), min_length=1, max_length=STEPS_MAX - 1)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Whole also in a PATCH: a part of a chain means nothing."""
        if not getattr(self.root, "partial", False) or data is serializers.empty or data is None:
            return super().run_validation(data)
        whole = type(self)(data=data)
        whole.is_valid(raise_exception=True)
        return whole.validated_data


class MessagesInput(ContentFields):
    recipients = RecipientsInput()
    channel_type = serializers.ChoiceField(choices=ChannelType.choices, default=ChannelType.PUSH)
    priority = serializers.ChoiceField(choices=Priority.choices, default=Priority.MEDIUM)
    purpose = serializers.ChoiceField(choices=Purpose.choices, default=Purpose.TRANSACTIONAL)
    category = serializers.SlugField(max_length=50, required=False)
    chain = ChainInput(required=False)
    ttl_s = serializers.IntegerField(min_value=0, max_value=settings.MESSAGE_TTL_MAX_S, required=False)
    send_at = serializers.DateTimeField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        has_content = any(attrs.get(name) for name in ("template_id", "title", "body", "data"))
        options = attrs.get("options", {})
        if not has_content and not options.get("silent") and "template_code" not in options:
            raise serializers.ValidationError({"body": ["Give a template_id, or a title, body or data."]})
        return attrs


class SentMessageOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    subscription_id = serializers.UUIDField()
    external_id = serializers.CharField(allow_null=True)


class SkippedOutput(serializers.Serializer[Any]):
    field = serializers.CharField()
    value = serializers.CharField()
    reason = serializers.CharField()


class MessagesAccepted(serializers.Serializer[Any]):
    messages = SentMessageOutput(many=True)
    skipped = SkippedOutput(many=True)


class TemplateReference(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="template_id")
    version = serializers.IntegerField()


class MessageOutput(serializers.ModelSerializer[Message]):
    external_id = serializers.CharField(source="user.external_id", allow_null=True, default=None)
    template = TemplateReference(source="dispatch.template_version", allow_null=True)
    priority = serializers.CharField(source="dispatch.priority")
    content = serializers.SerializerMethodField()
    error_details = serializers.JSONField(read_only=True)

    class Meta:
        model = Message
        fields = (
            *("id", "status", "channel_type", "priority", "subscription_id", "external_id", "campaign_id", "template"),
            *("content", "attempts", "created_at", "sent_at", "received_at", "converted_at", "failed_at", "retry_at"),
            *("error_reason", "error_details", "requeued_from", "requeued_as"),
        )

    def get_content(self, message: Message) -> dict[str, Any]:
        return selectors.message_content(message)

    def to_representation(self, instance: Message) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if instance.status == MessageStatus.PENDING:
            shown["retry_at"] = None  # it was handed over, and there is no answer yet
        return shown


class MessageEventOutput(serializers.ModelSerializer[MessageEvent]):
    metadata = serializers.JSONField(read_only=True)

    class Meta:
        model = MessageEvent
        fields = ("id", "event_type", "occurred_at", "metadata")


class MessageFilters(StrictSerializer):
    campaign_id = serializers.UUIDField(required=False)
    subscription_id = serializers.UUIDField(required=False)
    external_id = serializers.CharField(max_length=255, required=False)
    status = serializers.ChoiceField(choices=MessageStatus.choices, required=False)


FILTERS = [
    OpenApiParameter("campaign_id", {"type": "string", "format": "uuid"}),
    OpenApiParameter("subscription_id", {"type": "string", "format": "uuid"}),
    OpenApiParameter("external_id", {"type": "string"}),
    OpenApiParameter("status", {"type": "string", "enum": MessageStatus.values}),
]


class MessagesView(SignalView):
    scopes = {"GET": "messages:read", "POST": "messages:send"}

    @extend_schema(
        operation_id="messages_list",
        tags=["messages"],
        parameters=[*FILTERS, *PAGE_PARAMETERS],
        responses=MessageOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        messages = selectors.message_list(self.application, **self.query(MessageFilters))
        return self.page(messages, lambda message: MessageOutput(message).data)

    @extend_schema(
        operation_id="messages_send",
        tags=["messages"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=MessagesInput,
        responses={202: MessagesAccepted},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        wanted = validated(MessagesInput, request.data)
        template_id = wanted.pop("template_id", None)
        template = selectors.template_get(self.application, template_id) if template_id else None
        if "chain" in wanted:
            wanted["chain"] = chain_of(
                wanted["chain"],
                application=self.application,
                template=template,
                variables=wanted.get("variables"),
                purpose=wanted["purpose"],
                category=wanted.get("category", ""),
            )
        content = content_source(
            application=self.application,
            channel_type=wanted["channel_type"],
            template=template,
            purpose=wanted["purpose"],
            category=wanted.get("category", ""),
            **{name: wanted.pop(name) for name in ("title", "body", "data", "options", "variables") if name in wanted},
        )
        recipients = Recipients(**wanted.pop("recipients"))
        result = services.messages_send(application=self.application, recipients=recipients, content=content, **wanted)
        answer = {
            "messages": [message._asdict() for message in result.messages],
            "skipped": [skipped._asdict() for skipped in result.skipped],
        }
        return Response(answer, status=202)


class MessageView(SignalView):
    scopes = {"GET": "messages:read"}

    @extend_schema(operation_id="messages_read", tags=["messages"], responses=MessageOutput)
    def get(self, request: Request, message_id: UUID) -> Response:
        return Response(MessageOutput(selectors.message_get(self.application, message_id)).data)


class MessageEventsView(SignalView):
    scopes = {"GET": "messages:read"}

    @extend_schema(operation_id="messages_events", tags=["messages"], responses=MessageEventOutput(many=True))
    def get(self, request: Request, message_id: UUID) -> Response:
        message = selectors.message_get(self.application, message_id)
        return Response(MessageEventOutput(selectors.message_events(message), many=True).data)


class MessageCancelView(SignalView):
    scopes = {"POST": "messages:send"}

    @extend_schema(operation_id="messages_cancel", tags=["messages"], request=None, responses={200: MessageOutput})
    def post(self, request: Request, message_id: UUID) -> Response:
        validated(NoInput, request.data)
        services.message_cancel(application=self.application, message_id=message_id)
        return Response(MessageOutput(selectors.message_get(self.application, message_id)).data)


class MessageRequeueOutput(serializers.Serializer[Any]):
    message = MessageOutput(help_text="The new message.")
    already_requeued = serializers.BooleanField(help_text="An earlier call has made it.")


class MessageRequeueView(SignalView):
    scopes = {"POST": "messages:send"}

    @extend_schema(
        operation_id="messages_requeue",
        tags=["messages"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=None,
        responses={202: MessageRequeueOutput},
    )
    @idempotent
    def post(self, request: Request, message_id: UUID) -> Response:
        """Send a failed message again, as a new one with the same content. A message is requeued once: a second call
        answers with the message of the first. 409 with `MESSAGE_NOT_FAILED`, `MESSAGE_WAS_SENT` (the provider took
        it), `DISPATCH_STOPPED`, `RECIPIENT_UNREACHABLE` or `CONTENT_UNUSABLE`."""
        validated(NoInput, request.data)
        done = requeue.message_requeue(application=self.application, message_id=message_id)
        message = selectors.message_get(self.application, done.message_id)
        return Response({"message": MessageOutput(message).data, "already_requeued": not done.is_new}, status=202)


class FailedFields(StrictSerializer):
    """Which failed messages."""

    campaign_id = serializers.UUIDField(required=False)
    error_reason = serializers.CharField(max_length=100, required=False)
    error_class = serializers.ChoiceField(choices=[fault.value for fault in retry.Fault], required=False)
    since = serializers.DateTimeField(required=False, help_text="Messages made at that time or later.")
    until = serializers.DateTimeField(required=False, help_text="Messages made before.")


class RequeueInput(FailedFields):
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("Name a campaign, a reason, a class or a time.")
        return attrs


class RequeueOutput(serializers.ModelSerializer[MessageRequeue]):
    is_finished = serializers.SerializerMethodField()
    skipped = serializers.DictField(
        child=serializers.IntegerField(), read_only=True, help_text="Messages that were left as they are, by why."
    )

    class Meta:
        model = MessageRequeue
        fields = ("id", *FailedFields._declared_fields, "is_finished", "requeued", "skipped", "created_at")
        extra_kwargs = {"requeued": {"help_text": "Messages sent again so far."}}

    def get_is_finished(self, order: MessageRequeue) -> bool:
        return order.finished_at is not None


class RequeuesView(SignalView):
    scopes = {"POST": "messages:send"}

    @extend_schema(
        operation_id="messages_requeue_many",
        tags=["messages"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=RequeueInput,
        responses={202: RequeueOutput},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Send failed messages again, as new ones: up to 2,000 at once, the rest in the background. What the provider
        took is never sent again; what was canceled or may have arrived (`unknown_outcome`) only if `error_reason` says
        so."""
        which = requeue.FailedFilter(**validated(RequeueInput, request.data))
        order = requeue.requeue_start(application=self.application, which=which, requested_by=self.caller.label)
        return Response(RequeueOutput(order).data, status=202)


class RequeueView(SignalView):
    scopes = {"GET": "messages:read"}

    @extend_schema(operation_id="messages_requeue_read", tags=["messages"], responses=RequeueOutput)
    def get(self, request: Request, requeue_id: UUID) -> Response:
        """How far a requeue is."""
        order = requeue.requeue_get(application=self.application, requeue_id=requeue_id)
        return Response(RequeueOutput(order).data)


class FailuresQuery(FailedFields):
    from_text = True


class FailuresOutput(serializers.Serializer[Any]):
    error_reason = serializers.CharField()
    error_class = serializers.CharField()
    messages = serializers.IntegerField()
    requeued = serializers.IntegerField(help_text="Of them, those that were sent again.")


class FailuresView(SignalView):
    scopes = {"GET": "messages:read"}

    @extend_schema(
        operation_id="messages_failures",
        tags=["messages"],
        parameters=[
            OpenApiParameter("campaign_id", {"type": "string", "format": "uuid"}),
            OpenApiParameter("error_reason", {"type": "string"}),
            OpenApiParameter("error_class", {"type": "string", "enum": [fault.value for fault in retry.Fault]}),
            OpenApiParameter("since", {"type": "string", "format": "date-time"}, description="7 days ago unless told."),
            OpenApiParameter("until", {"type": "string", "format": "date-time"}),
        ],
        responses=FailuresOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        """Failed messages by reason and class, the most frequent first; of the last 7 days unless a time or a
        campaign is named."""
        given = self.query(FailuresQuery)
        if "since" not in given and "campaign_id" not in given:
            given["since"] = (given.get("until") or timezone.now()) - timedelta(days=FAILURES_DAYS)
        rows = requeue.dead_letters(application=self.application, which=requeue.FailedFilter(**given))
        return Response([row._asdict() for row in rows])
