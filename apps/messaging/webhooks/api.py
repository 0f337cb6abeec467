"""`/api/v1/webhooks`: who is told of events, what was delivered, and sending it again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging.webhooks import selectors, services
from apps.messaging.webhooks.models import DeliveryState, WebhookDelivery, WebhookEndpoint
from apps.messaging.webhooks.payloads import EVENT_TYPES, KINDS
from apps.tenants.channels import ChannelType
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, SignalResponse, StrictSerializer, represented, validated
from automata_signal.openapi import PAGE_PARAMETERS
from automata_signal.outgoing import URL_LENGTH_MAX

READ, WRITE = "webhooks:read", "webhooks:write"
DAY_S = 86_400
DELIVERY_STATES = DeliveryState.choices
CHOICES = (*KINDS, *EVENT_TYPES)
NOTHING = OpenApiResponse(description="Done.")


class WebhookFields(StrictSerializer):
    description = serializers.CharField(max_length=services.DESCRIPTION_MAX, required=False, allow_blank=True)
    event_types = serializers.ListField(
        child=serializers.CharField(max_length=40),
        max_length=len(CHOICES),
        required=False,
        help_text="Such as `message.failed`, or all of a kind: `message.*`, `subscription.*`. Empty: all.",
    )
    channels = serializers.ListField(
        child=serializers.ChoiceField(ChannelType.choices),
        max_length=len(ChannelType.values),
        required=False,
        help_text="Empty: all.",
    )


class WebhookInput(WebhookFields):
    url = serializers.CharField(max_length=URL_LENGTH_MAX, help_text="https, of the public internet.")


class WebhookPatch(WebhookFields):
    url = serializers.CharField(max_length=URL_LENGTH_MAX, required=False)
    is_active = serializers.BooleanField(
        required=False, help_text="What happens meanwhile waits, and is delivered when it is active again."
    )


class WebhookOutput(serializers.ModelSerializer[WebhookEndpoint]):
    channels = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = WebhookEndpoint
        fields: tuple[str, ...] = (
            *("id", "url", "description", "event_types", "channels", "is_active", "disabled_at", "disabled_reason"),
            *("consecutive_failures", "last_success_at", "last_error", "last_error_at", "lost_events", "lost_at"),
            *("previous_until", "created_at", "updated_at"),
        )
        extra_kwargs = {
            "disabled_at": {"help_text": "When it was disabled because it failed; null if it was not."},
            "last_success_at": {"help_text": "To ten seconds."},
            "lost_events": {"help_text": "That could not be delivered for as long as deliveries are kept."},
            "previous_until": {"help_text": "Until then deliveries are also signed with the secret before."},
        }


class WebhookDetailOutput(WebhookOutput):
    waiting_deliveries = serializers.IntegerField(help_text=f"{selectors.COUNT_MAX} at most.")
    oldest_waiting_at = serializers.DateTimeField(allow_null=True)

    class Meta(WebhookOutput.Meta):
        fields = (*WebhookOutput.Meta.fields, "waiting_deliveries", "oldest_waiting_at")


class NewWebhookOutput(WebhookOutput):
    secret = serializers.CharField(help_text="By which the receiver knows us. It is not shown again.")

    class Meta(WebhookOutput.Meta):
        fields = (*WebhookOutput.Meta.fields, "secret")


class WebhookSecretInput(StrictSerializer):
    overlap_s = serializers.IntegerField(
        min_value=0,
        max_value=int(services.OVERLAP_MAX.total_seconds()),
        default=DAY_S,
        help_text="Seconds for which deliveries are signed with both secrets.",
    )


class WebhookReplayInput(StrictSerializer):
    since = serializers.DateTimeField(help_text="Deliveries that were made from then on …")
    until = serializers.DateTimeField(help_text="… and before then.")


class WebhookReplayOutput(serializers.Serializer[Any]):
    deliveries = serializers.IntegerField(help_text="That will be sent again.")


class WebhookDeliveryOutput(serializers.ModelSerializer[WebhookDelivery]):
    event_ids = serializers.ListField(child=serializers.UUIDField())
    kind = serializers.CharField(source="source", help_text="Of its events: `message`, `subscription` or `test`.")
    state = serializers.ChoiceField(DELIVERY_STATES)

    class Meta:
        model = WebhookDelivery
        fields: tuple[str, ...] = (
            *("id", "kind", "event_ids", "state", "attempts", "first_attempt_at", "attempted_at", "status"),
            *("duration_ms", "error", "replay_of", "requested_by", "created_at"),
        )
        extra_kwargs = {
            "status": {"help_text": "Of the last answer; null if there was none."},
            "duration_ms": {"help_text": "Of the last attempt."},
            "error": {"help_text": "Why the last attempt failed; empty if it did not."},
        }


class WebhookDeliveryQuery(StrictSerializer):
    from_text = True
    state = serializers.ChoiceField(DELIVERY_STATES, required=False)


def represent(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return represented(WebhookOutput, endpoint)


def represent_new(new: services.NewEndpoint) -> dict[str, Any]:
    return represent(new.endpoint) | {"secret": new.secret}


def represent_detail(endpoint: WebhookEndpoint) -> dict[str, Any]:
    backlog = selectors.backlog_of(endpoint)
    oldest = serializers.DateTimeField().to_representation(backlog.oldest_at) if backlog.oldest_at else None
    return represent(endpoint) | {"waiting_deliveries": backlog.deliveries, "oldest_waiting_at": oldest}


def represent_delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    return represented(WebhookDeliveryOutput, delivery)


# --- Endpoints -----------------------------------------------------------------------------------------------------


class WebhooksView(SignalView):
    scopes: ClassVar = {"GET": READ, "POST": WRITE}

    @extend_schema(
        operation_id="webhooks_list", tags=["webhooks"], parameters=PAGE_PARAMETERS, responses=WebhookOutput(many=True)
    )
    def get(self, request: Request) -> SignalResponse:
        """The application's webhooks, newest first."""
        self.query()
        return self.page(selectors.endpoints_of(self.application), represent)

    @extend_schema(
        operation_id="webhooks_create", tags=["webhooks"], request=WebhookInput, responses={201: NewWebhookOutput}
    )
    def post(self, request: Request) -> Response:
        """Tell an address what happens from now on. This answer is the only one that holds the secret by which the
        receiver knows us. 409 `TOO_MANY_WEBHOOKS`."""
        given = validated(WebhookInput, request.data)
        new = services.endpoint_create(application=self.application, **given, by=self.caller.label)
        return Response(represent_new(new), status=status.HTTP_201_CREATED)


class _OneWebhookView(SignalView):
    def endpoint(self, webhook_id: UUID) -> WebhookEndpoint:
        return selectors.endpoint_get(application=self.application, webhook_id=webhook_id)


class WebhookView(_OneWebhookView):
    scopes: ClassVar = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    @extend_schema(operation_id="webhooks_read", tags=["webhooks"], responses=WebhookDetailOutput)
    def get(self, request: Request, webhook_id: UUID) -> Response:
        """One webhook, and what waits for it."""
        return Response(represent_detail(self.endpoint(webhook_id)))

    @extend_schema(
        operation_id="webhooks_update", tags=["webhooks"], request=WebhookPatch, responses=WebhookDetailOutput
    )
    def patch(self, request: Request, webhook_id: UUID) -> Response:
        """Change what is given. `is_active: true` goes on where it was, with what waits."""
        given = validated(WebhookPatch, request.data)
        row = services.endpoint_update(endpoint=self.endpoint(webhook_id), **given, by=self.caller.label)
        return Response(represent_detail(row))

    @extend_schema(operation_id="webhooks_delete", tags=["webhooks"], responses={204: NOTHING})
    def delete(self, request: Request, webhook_id: UUID) -> Response:
        """Forget it, with its log and what waits for it."""
        services.endpoint_delete(endpoint=self.endpoint(webhook_id), by=self.caller.label)
        return Response(status=status.HTTP_204_NO_CONTENT)


class RotateSecretView(_OneWebhookView):
    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(
        operation_id="webhooks_rotate_secret",
        tags=["webhooks"],
        request=WebhookSecretInput,
        responses={201: NewWebhookOutput},
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Make a new secret, shown in this answer only. For `overlap_s` deliveries are signed with both."""
        given = validated(WebhookSecretInput, request.data)
        overlap = timedelta(seconds=given["overlap_s"])
        new = services.secret_rotate(endpoint=self.endpoint(webhook_id), overlap=overlap, by=self.caller.label)
        return Response(represent_new(new), status=status.HTTP_201_CREATED)


# --- Deliveries ----------------------------------------------------------------------------------------------------


class TestView(_OneWebhookView):
    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(
        operation_id="webhooks_test", tags=["webhooks"], request=None, responses={202: WebhookDeliveryOutput}
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send a `webhook.test` event. What became of it is in the list of deliveries. 409 `WEBHOOK_INACTIVE`,
        `TOO_MANY_WAITING`."""
        validated(NoInput, request.data)
        delivery = services.endpoint_test(endpoint=self.endpoint(webhook_id), by=self.caller.label)
        return Response(represent_delivery(delivery), status=status.HTTP_202_ACCEPTED)


class DeliveriesView(_OneWebhookView):
    scopes: ClassVar = {"GET": READ}

    @extend_schema(
        operation_id="webhooks_deliveries_list",
        tags=["webhooks"],
        parameters=[*PAGE_PARAMETERS, OpenApiParameter("state", OpenApiTypes.STR, enum=DeliveryState.values)],
        responses=WebhookDeliveryOutput(many=True),
    )
    def get(self, request: Request, webhook_id: UUID) -> SignalResponse:
        """What was delivered, and what waits, newest first; the attempt that is described is the last one."""
        given = self.query(WebhookDeliveryQuery)
        return self.page(selectors.deliveries_of(self.endpoint(webhook_id), **given), represent_delivery)


class DeliveryReplayView(_OneWebhookView):
    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(
        operation_id="webhooks_delivery_replay", tags=["webhooks"], request=None, responses={202: WebhookDeliveryOutput}
    )
    def post(self, request: Request, webhook_id: UUID, delivery_id: UUID) -> Response:
        """Send the events of a delivery again. 409 `DELIVERY_WAITS`, `WEBHOOK_INACTIVE`, `TOO_MANY_WAITING`."""
        validated(NoInput, request.data)
        old = selectors.delivery_get(endpoint=self.endpoint(webhook_id), delivery_id=delivery_id)
        delivery = services.delivery_replay(delivery=old, by=self.caller.label)
        return Response(represent_delivery(delivery), status=status.HTTP_202_ACCEPTED)


class ReplayView(_OneWebhookView):
    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(
        operation_id="webhooks_replay",
        tags=["webhooks"],
        request=WebhookReplayInput,
        responses={202: WebhookReplayOutput},
    )
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send all deliveries of a time again, in their order. 409 `WEBHOOK_INACTIVE`, `TOO_MANY_WAITING`."""
        given = validated(WebhookReplayInput, request.data)
        made = services.deliveries_replay(endpoint=self.endpoint(webhook_id), **given, by=self.caller.label)
        return Response({"deliveries": made}, status=status.HTTP_202_ACCEPTED)
