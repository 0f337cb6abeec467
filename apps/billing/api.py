"""Routes for plan, quotas, ledger, statements and alerts. Money is moved by the platform's operators only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from djmoney.money import Money
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.billing import selectors, shapes
from apps.billing.models import BillingAlert, LedgerTransaction, Plan, TransactionKind
from apps.billing.services import ledger, plans
from apps.billing.services.quota import billing_of
from apps.billing.services.settings import alert_settings, alert_settings_set
from apps.billing.statements import csv_rows, statement_of
from apps.tenants.access import HasScope
from apps.tenants.idempotency import IDEMPOTENCY_PARAMETER, idempotent
from apps.tenants.models import Application
from apps.tenants.views import SignalView
from automata_signal.api import SignalResponse, represented, validated
from automata_signal.csv_safety import csv_lines
from automata_signal.envelope import EnvelopeRenderer
from automata_signal.errors import NotFound, ValidationFailed
from automata_signal.openapi import PAGE_PARAMETERS

READ, WRITE = "billing:read", "billing:write"


# --- Plan and quotas -----------------------------------------------------------------------------------------------


class PlanView(SignalView):
    scopes: ClassVar = {"GET": READ, "PUT": HasScope.PLATFORM}

    @extend_schema(operation_id="billing_plan_read", tags=["billing"], responses=shapes.PlanStateOutput)
    def get(self, request: Request) -> Response:
        """What the application's plan includes, what is left to spend, and its quotas with what is used of them."""
        return self._state()

    @extend_schema(
        operation_id="billing_plan_set",
        tags=["billing"],
        request=shapes.PlanInput,
        responses=shapes.PlanStateOutput,
    )
    def put(self, request: Request) -> Response:
        """Put it on another plan, at once. 409 `PLAN_DOES_NOT_FIT`, `PLAN_INACTIVE`, `CURRENCY_DIFFERS` or
        `CREDIT_LIMIT`, or 403 `PLAN_LIMIT`, for one that cannot be. For the platform's operators."""
        code = validated(shapes.PlanInput, request.data)["plan"]
        plan = Plan.objects.filter(code=code).first()
        if plan is None:
            raise NotFound("There is no such plan.")
        plans.plan_set(application=self.application, plan=plan, by=self.caller.label)
        return self._state()

    def _state(self) -> Response:
        return Response(represented(shapes.PlanStateOutput, selectors.plan_state(application=self.application)))


def _quotas(application: Application) -> list[dict[str, Any]]:
    return [represented(shapes.QuotaOutput, state) for state in selectors.quota_states(application=application)]


class QuotasView(SignalView):
    scopes: ClassVar = {"GET": READ}

    @extend_schema(operation_id="billing_quotas_list", tags=["billing"], responses={200: shapes.QuotaOutput(many=True)})
    def get(self, request: Request) -> Response:
        """The quotas of every channel, and what is used of them now."""
        return Response(_quotas(self.application))


class QuotaView(SignalView):
    scopes: ClassVar = {"PUT": HasScope.PLATFORM, "DELETE": HasScope.PLATFORM}

    @extend_schema(
        operation_id="billing_quota_set", tags=["billing"], request=shapes.QuotaInput, responses=shapes.QuotaOutput
    )
    def put(self, request: Request, channel_type: str) -> Response:
        """Agree quotas and a price for this application; they stay when its plan changes. For the platform's
        operators."""
        given = validated(shapes.QuotaInput, request.data)
        price = Money(given.pop("unit_price"), billing_of(self.application).currency)
        plans.quota_set(
            application=self.application, channel_type=channel_type, unit_price=price, by=self.caller.label, **given
        )
        return self._quota(channel_type)

    @extend_schema(operation_id="billing_quota_reset", tags=["billing"], responses={200: shapes.QuotaOutput})
    def delete(self, request: Request, channel_type: str) -> Response:
        """Give up what was agreed: the plan's quotas and price hold again. For the platform's operators."""
        plans.quota_reset(application=self.application, channel_type=channel_type, by=self.caller.label)
        return self._quota(channel_type)

    def _quota(self, channel_type: str) -> Response:
        return Response(next(q for q in _quotas(self.application) if q["channel_type"] == channel_type))


# --- Ledger --------------------------------------------------------------------------------------------------------


def represent_transaction(row: LedgerTransaction) -> dict[str, Any]:
    return represented(shapes.TransactionOutput, row)


class LedgerView(SignalView):
    scopes: ClassVar = {"GET": READ}

    @extend_schema(
        operation_id="billing_ledger_list",
        tags=["billing"],
        parameters=[*PAGE_PARAMETERS, OpenApiParameter("kind", OpenApiTypes.STR, enum=TransactionKind.values)],
        responses=shapes.TransactionOutput(many=True),
    )
    def get(self, request: Request) -> SignalResponse:
        """The application's ledger, newest first: what was used, paid in, corrected and given back."""
        given = self.query(shapes.LedgerQuery)
        return self.page(selectors.ledger_of(application=self.application).filter(**given), represent_transaction)


class _MoneyView(SignalView):
    """Moves credit by hand, once for each reference and Idempotency-Key."""

    scopes: ClassVar = {"POST": HasScope.PLATFORM}
    service: ClassVar[Callable[..., LedgerTransaction]]

    def _move(self, request: Request) -> Response:
        given = validated(shapes.MoneyInput, request.data)
        currency = billing_of(self.application).currency
        if given.pop("currency", currency) != currency:
            raise ValidationFailed.of("currency", f"must be {currency}, which the application is billed in")
        amount = Money(given.pop("amount"), currency)
        service = type(self).service
        row = service(application=self.application, amount=amount, by=self.caller.label, **given)
        found = selectors.ledger_of(application=self.application).get(pk=row.pk)
        return Response(represent_transaction(found), status=status.HTTP_201_CREATED)


Method = TypeVar("Method", bound=Callable[..., Response])


def _described(operation_id: str) -> Callable[[Method], Method]:
    describe: Callable[[Method], Method] = extend_schema(
        operation_id=operation_id,
        tags=["billing"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=shapes.MoneyInput,
        responses={201: shapes.TransactionOutput},
    )
    return describe


class TopUpsView(_MoneyView):
    service = ledger.credit_top_up

    @_described("billing_top_ups_create")
    @idempotent
    def post(self, request: Request) -> Response:
        """Add what was paid in. 409 `REFERENCE_USED` for a reference of something else. For the platform's
        operators."""
        return self._move(request)


class AdjustmentsView(_MoneyView):
    service = ledger.credit_adjust

    @_described("billing_adjustments_create")
    @idempotent
    def post(self, request: Request) -> Response:
        """Correct the credit, up or down (a negative amount). 402 `CREDIT_EXHAUSTED` for more than there is. For the
        platform's operators."""
        return self._move(request)


class RefundsView(_MoneyView):
    service = ledger.credit_refund

    @_described("billing_refunds_create")
    @idempotent
    def post(self, request: Request) -> Response:
        """Give back what messages had cost. For the platform's operators."""
        return self._move(request)


# --- Statements ----------------------------------------------------------------------------------------------------


class CsvRenderer(BaseRenderer):
    """Rows as a file, UTF-8. What a spreadsheet would run as a formula is neutralised."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return b"".join(csv_lines(data["rows"], bom=data["bom"]))


class StatementView(SignalView):
    scopes: ClassVar = {"GET": READ}
    renderer_classes = [EnvelopeRenderer, CsvRenderer]

    @extend_schema(
        operation_id="billing_statement_read",
        tags=["billing"],
        parameters=[
            OpenApiParameter("format", OpenApiTypes.STR, enum=("json", "csv")),
            OpenApiParameter("bom", OpenApiTypes.STR, enum=("true", "false"), description="Of CSV, for Excel."),
        ],
        responses={
            (200, "application/json"): shapes.StatementOutput,
            (200, "text/csv"): OpenApiTypes.STR,
        },
    )
    def get(self, request: Request, month: str) -> Response:
        """What the application used and paid in a month (`2026-11`) of its own time zone, from the ledger."""
        given = self.query(shapes.StatementQuery)
        statement = statement_of(application=self.application, month=month)
        if request.accepted_renderer.format != "csv":
            return Response(represented(shapes.StatementOutput, statement))
        name = f'attachment; filename="statement-{statement.month}.csv"'
        rows = {"rows": csv_rows(statement), "bom": given["bom"] == "true"}
        return Response(rows, headers={"Content-Disposition": name})

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Refusals stay JSON."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if final.exception:
            final.accepted_renderer = EnvelopeRenderer()
            final.accepted_media_type = EnvelopeRenderer.media_type
        return final


# --- Alerts --------------------------------------------------------------------------------------------------------


class AlertsView(SignalView):
    scopes: ClassVar = {"GET": READ}

    @extend_schema(
        operation_id="billing_alerts_list",
        tags=["billing"],
        parameters=PAGE_PARAMETERS,
        responses=shapes.AlertOutput(many=True),
    )
    def get(self, request: Request) -> SignalResponse:
        """Which thresholds were passed, newest first, and what was delivered of it."""
        self.query()
        rows = BillingAlert.objects.for_application(self.application)
        return self.page(rows, lambda row: represented(shapes.AlertOutput, row))


class AlertSettingsView(SignalView):
    scopes: ClassVar = {"GET": READ, "PATCH": WRITE}

    @extend_schema(operation_id="billing_alert_settings_read", tags=["billing"], responses=shapes.AlertSettingsOutput)
    def get(self, request: Request) -> Response:
        """When, and where to, alerts go besides owners and managers by e-mail."""
        return Response(alert_settings(self.application))

    @extend_schema(
        operation_id="billing_alert_settings_update",
        tags=["billing"],
        request=shapes.AlertSettingsInput,
        responses=shapes.AlertSettingsOutput,
    )
    def patch(self, request: Request) -> Response:
        """Change what is given. The first webhook makes the secret by which its receiver knows us; this answer is the
        only one that holds it."""
        given = validated(shapes.AlertSettingsInput, request.data, partial=True)
        rotate = given.pop("rotate_webhook_secret", False)
        new = alert_settings_set(
            application=self.application, rotate_secret=rotate, by=self.caller.label, **given
        ).new_secret
        return Response(alert_settings(self.application) | ({"webhook_secret": new} if new else {}))
