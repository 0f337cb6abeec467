"""A chain in a request: what follows when a message does not arrive."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging import selectors
from apps.messaging.api.messages import MessageEventOutput, MessageOutput
from apps.messaging.chains.conversations import conversation_of
from apps.tenants.views import SignalView


class TurnOutput(serializers.Serializer[Any]):
    step = serializers.IntegerField(help_text="0 for the first step of the chain.")
    because = serializers.CharField(
        help_text="Why it followed: `no_receipt`, a reason to fail, `not_reachable`; empty for the first step."
    )
    message = MessageOutput()
    events = MessageEventOutput(many=True)


class ConversationOutput(serializers.Serializer[Any]):
    is_reached = serializers.BooleanField(help_text="Whether a message has arrived; nothing follows then.")
    is_waiting = serializers.BooleanField(help_text="Whether a further step may follow.")
    cost = serializers.DecimalField(
        max_digits=20, decimal_places=6, help_text="What the messages that were sent cost together."
    )
    currency = serializers.CharField()
    turns = TurnOutput(many=True)


class ConversationView(SignalView):
    scopes = {"GET": "messages:read"}

    @extend_schema(operation_id="messages_conversation", tags=["messages"], responses=ConversationOutput)
    def get(self, request: Request, message_id: UUID) -> Response:
        """Everything that went to the recipient of this message in its chain, as one timeline with one cost. A message
        of no chain is a conversation of its own."""
        found = conversation_of(selectors.message_get(self.application, message_id))
        return Response(ConversationOutput(found).data)
