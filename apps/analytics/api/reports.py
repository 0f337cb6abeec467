"""Routes for reports by e-mail: their schedules, a look at them, and what became of each."""

from __future__ import annotations

import base64
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.analytics.models.reports import ReportKind, ReportRun, ReportSchedule, RunState
from apps.analytics.reports import preview, services
from apps.tenants.views import SignalView
from automata_signal.api import SignalResponse, StrictSerializer, validated
from automata_signal.openapi import PAGE_PARAMETERS

READ, WRITE = "analytics:read", "exports:write"
NOTHING = OpenApiResponse(description="Done.")


class ReportOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(ReportKind.choices)
    hour = serializers.IntegerField()
    weekday = serializers.IntegerField(help_text="Of a weekly one; 0 is Monday.")
    roles = serializers.ListField(child=serializers.ChoiceField(services.READERS))
    members = serializers.SerializerMethodField(help_text="Addresses of members, beside the roles.")
    language = serializers.ChoiceField(settings.LANGUAGES)
    is_active = serializers.BooleanField()
    next_at = serializers.DateTimeField()
    last_period = serializers.DateField(allow_null=True, help_text="First day of the last period that was sent.")
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_members(self, schedule: ReportSchedule) -> list[str]:
        return services.members_of(schedule)


class ReportInput(StrictSerializer):
    kind = serializers.ChoiceField(ReportKind.choices)
    hour = serializers.IntegerField(
        min_value=0, max_value=23, required=False, help_text="Of the application's time zone; 9 unless told."
    )
    weekday = serializers.IntegerField(
        min_value=0, max_value=6, required=False, help_text="Of a weekly one: 0 is Monday, as it is unless told."
    )
    roles = serializers.ListField(
        child=serializers.ChoiceField(services.READERS),
        max_length=len(services.READERS),
        required=False,
        help_text="Everybody who has one of these roles gets it.",
    )
    members = serializers.ListField(
        child=serializers.CharField(max_length=254),
        max_length=services.MEMBERS_MAX,
        required=False,
        help_text="Addresses of members who may read statistics; no other address can be given.",
    )
    language = serializers.ChoiceField(
        settings.LANGUAGES, required=False, help_text="The application's, where reports are written in it, unless told."
    )
    is_active = serializers.BooleanField(required=False)


class ReportRunOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    period_start = serializers.DateField()
    period_end = serializers.DateField(help_text="The first day that is not of it.")
    state = serializers.ChoiceField(RunState.choices)
    attempts = serializers.IntegerField()
    delivered = serializers.SerializerMethodField(help_text="Letters that the mail server took.")
    refused = serializers.SerializerMethodField(help_text="Addresses that it refused for good.")
    error = serializers.CharField()
    next_attempt_at = serializers.DateTimeField(source="due_at", allow_null=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_delivered(self, run: ReportRun) -> int:
        return len(run.delivered_to)

    def get_refused(self, run: ReportRun) -> int:
        return len(run.refused)


class ReportPreviewOutput(serializers.Serializer[Any]):
    subject = serializers.CharField()
    text = serializers.CharField()
    html = serializers.CharField(help_text="With the picture inside (`cid:picture`).")
    picture = serializers.CharField(help_text="The picture: a PNG in base64.")


class SendInput(StrictSerializer):
    member = serializers.CharField(
        max_length=254, required=False, help_text="Address of a member who may read statistics; yours unless told."
    )


def represent_report(schedule: ReportSchedule) -> dict[str, Any]:
    return dict(ReportOutput(schedule).data)


def represent_run(run: ReportRun) -> dict[str, Any]:
    return dict(ReportRunOutput(run).data)


class ReportsView(SignalView):
    scopes: ClassVar = {"GET": READ, "POST": WRITE}

    @extend_schema(
        operation_id="reports_list", tags=["reports"], parameters=PAGE_PARAMETERS, responses=ReportOutput(many=True)
    )
    def get(self, request: Request) -> SignalResponse:
        """The application's scheduled reports, newest first."""
        self.query()
        rows = ReportSchedule.objects.for_application(self.application).select_related("application")
        return self.page(rows, represent_report)

    @extend_schema(operation_id="reports_create", tags=["reports"], request=ReportInput, responses={201: ReportOutput})
    def post(self, request: Request) -> Response:
        """Have a report sent each day or week, from the next time on, to members of the application. 409
        `TOO_MANY_REPORTS` when it has 20."""
        given = validated(ReportInput, request.data)
        schedule = services.schedule_create(application=self.application, **given, by=self.caller.label)
        return Response(represent_report(schedule), status=status.HTTP_201_CREATED)


class OneReportView(SignalView):
    def _report(self, report_id: UUID) -> ReportSchedule:
        return services.schedule_get(application=self.application, schedule_id=report_id)


class ReportView(OneReportView):
    scopes: ClassVar = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    @extend_schema(operation_id="reports_read", tags=["reports"], responses=ReportOutput)
    def get(self, request: Request, report_id: UUID) -> Response:
        """One scheduled report."""
        return Response(represent_report(self._report(report_id)))

    @extend_schema(operation_id="reports_update", tags=["reports"], request=ReportInput, responses=ReportOutput)
    def patch(self, request: Request, report_id: UUID) -> Response:
        """Change what is given. `roles` and `members` replace those there were."""
        schedule = self._report(report_id)
        given = validated(ReportInput, request.data, partial=True)
        changed = services.schedule_update(schedule=schedule, **given, by=self.caller.label)
        return Response(represent_report(changed))

    @extend_schema(operation_id="reports_delete", tags=["reports"], responses={204: NOTHING})
    def delete(self, request: Request, report_id: UUID) -> Response:
        """End it, with the record of what it has sent."""
        services.schedule_delete(schedule=self._report(report_id), by=self.caller.label)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ReportRunsView(OneReportView):
    scopes: ClassVar = {"GET": READ}

    @extend_schema(
        operation_id="reports_runs",
        tags=["reports"],
        parameters=PAGE_PARAMETERS,
        responses=ReportRunOutput(many=True),
    )
    def get(self, request: Request, report_id: UUID) -> SignalResponse:
        """What was sent by it, newest first: of which period, how often it was tried, and what went wrong."""
        self.query()
        schedule = self._report(report_id)
        return self.page(ReportRun.objects.for_application(self.application).filter(schedule=schedule), represent_run)


class ReportPreviewView(OneReportView):
    scopes: ClassVar = {"GET": WRITE}

    @extend_schema(operation_id="reports_preview", tags=["reports"], responses=ReportPreviewOutput)
    def get(self, request: Request, report_id: UUID) -> Response:
        """The report of the last period as it would be sent now."""
        self.query()
        draft = preview.shown(self._report(report_id))
        data = {
            "subject": draft.subject,
            "text": draft.text(),
            "html": draft.html(),
            "picture": base64.b64encode(draft.picture).decode(),
        }
        return Response(data)


class ReportSendView(OneReportView):
    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(operation_id="reports_send", tags=["reports"], request=SendInput, responses={202: NOTHING})
    def post(self, request: Request, report_id: UUID) -> Response:
        """Send the report of the last period to one member now: to yourself, or with a key to the one you name. The
        schedule stays as it is. 429 after five in a minute."""
        schedule = self._report(report_id)
        given = validated(SendInput, request.data)
        preview.send_now(schedule=schedule, operator=self.caller.operator, **given)
        return Response(None, status=status.HTTP_202_ACCEPTED)
