"""`/api/v1/sdk/figures`: what SDKs say of themselves."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.analytics.models.rollups import VALUE_MAX, SdkFigure
from apps.analytics.sdk_figures import (
    CODES_MAX,
    COUNT_MAX,
    INITIALISATIONS_MAX,
    PLATFORMS,
    REPORTS_MAX,
    TOO_OLD,
    SdkReport,
    sdk_figures_record,
)
from apps.tenants.scopes import SDK_SCOPE
from apps.tenants.views import SignalView
from automata_signal.api import StrictSerializer, validated

_NAME = rf"^[A-Za-z0-9._:+-]{{1,{VALUE_MAX}}}\Z"
_LONGEST_MS = 600_000


class TallyInput(StrictSerializer):
    ok = serializers.IntegerField(min_value=0, max_value=COUNT_MAX, default=0)
    failed = serializers.IntegerField(min_value=0, max_value=COUNT_MAX, default=0)


class ClientErrorInput(StrictSerializer):
    code = serializers.RegexField(_NAME, help_text="A word of the SDK, such as `network_timeout`.")
    count = serializers.IntegerField(min_value=1, max_value=COUNT_MAX, default=1)


class SdkReportInput(StrictSerializer):
    hour = serializers.DateTimeField(help_text="The device's clock; any moment of the hour, at most 72 hours ago.")
    platform = serializers.ChoiceField(PLATFORMS)
    sdk_version = serializers.RegexField(_NAME)
    initialisation_ms = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=_LONGEST_MS),
        max_length=INITIALISATIONS_MAX,
        default=list,
        help_text="How long each initialisation took.",
    )
    registrations = TallyInput(required=False)
    identifications = TallyInput(required=False)
    client_errors = ClientErrorInput(many=True, max_length=CODES_MAX, required=False)  # type: ignore[call-arg]


class SdkFiguresInput(StrictSerializer):
    reports = SdkReportInput(many=True, min_length=1, max_length=REPORTS_MAX)  # type: ignore[call-arg]


class RefusedReportOutput(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    reason = serializers.ChoiceField([TOO_OLD])


class SdkFiguresOutput(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    refused = RefusedReportOutput(many=True)


class SdkFiguresView(SignalView):
    """Counted, not checked: whoever has the app has the key. An app server may hand on what it collected."""

    scopes: ClassVar = {"POST": (SDK_SCOPE, "receipts:write")}

    @extend_schema(
        operation_id="sdk_figures_create",
        summary="Report the SDK's own figures",
        description=(
            "What happened on a device, hour by hour: initialisations and how long they took, registrations and "
            "identifications, errors by code. A clock that is ahead is taken as now. An application has so many "
            "versions and codes a month that are told apart; the rest count as `other`."
        ),
        tags=["statistics"],
        request=SdkFiguresInput,
        responses={200: SdkFiguresOutput},
    )
    def post(self, request: Request) -> Response:
        reports = [_report(given) for given in validated(SdkFiguresInput, request.data)["reports"]]
        refused = sdk_figures_record(application=self.application, reports=reports)
        return Response(
            {
                "accepted": len(reports) - len(refused),
                "refused": [{"index": index, "reason": reason} for index, reason in refused.items()],
            }
        )


def _report(given: dict[str, Any]) -> SdkReport:
    registrations, identifications = given.get("registrations", {}), given.get("identifications", {})
    errors: dict[str, int] = {}
    for one in given.get("client_errors", ()):
        errors[one["code"]] = errors.get(one["code"], 0) + one["count"]
    return SdkReport(
        hour=given["hour"],
        platform=given["platform"],
        sdk_version=given["sdk_version"],
        initialisation_ms=given["initialisation_ms"],
        counts={
            SdkFigure.REGISTRATION_OK: registrations.get("ok", 0),
            SdkFigure.REGISTRATION_FAILED: registrations.get("failed", 0),
            SdkFigure.IDENTIFICATION_OK: identifications.get("ok", 0),
            SdkFigure.IDENTIFICATION_FAILED: identifications.get("failed", 0),
        },
        client_errors=errors,
    )
