"""`/api/v1/messages/sms-parts`: how long a text message is, of how many parts, and what it costs."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging.sms_lengths import shown_lengths
from apps.tenants.views import SignalView
from automata_signal.api import StrictSerializer, validated

TEXT_MAX = 10_000


class SmsPartsInput(StrictSerializer):
    body = serializers.CharField(max_length=TEXT_MAX, allow_blank=True, trim_whitespace=False)
    title = serializers.CharField(
        max_length=200,
        allow_blank=True,
        default="",
        trim_whitespace=False,
        help_text="Of an LMS: a text with a title is sent as one.",
    )
    type = serializers.ChoiceField(choices=["auto", "sms", "lms"], default="auto")


class SmsLengthOutput(serializers.Serializer[Any]):
    provider = serializers.CharField()
    encoding = serializers.CharField(help_text="`euc_kr`, `gsm7` or `ucs2`; empty if the gateway would refuse it.")
    units = serializers.IntegerField(help_text="Bytes in EUC-KR, septets or 16-bit units.")
    limit = serializers.IntegerField(help_text="How many bytes an SMS or LMS has; how many characters Twilio takes.")
    segments = serializers.IntegerField(help_text="What the gateway sends and bills: parts of a long SMS; one LMS.")
    kind = serializers.CharField(help_text="`sms` or `lms`.")
    problem = serializers.CharField(help_text="What the gateway would refuse, and where it stands in the text.")


class SmsPriceOutput(serializers.Serializer[Any]):
    amount = serializers.CharField(help_text="What the plan charges for one message to one recipient.")
    currency = serializers.CharField()
    per = serializers.CharField(help_text="`message`: whatever its length; the gateway's own bill counts segments.")


class SmsPartsOutput(serializers.Serializer[Any]):
    gateways = SmsLengthOutput(many=True)
    price = SmsPriceOutput()


class SmsPartsView(SignalView):
    scopes = {"POST": "templates:read"}

    @extend_schema(operation_id="sms_parts", tags=["messages"], request=SmsPartsInput, responses=SmsPartsOutput)
    def post(self, request: Request) -> Response:
        """Length, parts and price of a text, at each gateway by which the application sends. Nothing is sent."""
        given = validated(SmsPartsInput, request.data)
        shown = shown_lengths(
            self.application, text=given["body"], title=given["title"], options={"type": given["type"]}
        )
        return Response(shown)
