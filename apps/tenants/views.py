"""What API views share: the caller's application, its scope, and rate-limit headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.tenants.access import Caller, RateState
from apps.tenants.models import Application
from automata_signal.api import CursorPagination, SignalResponse


class SignalView(APIView):
    """An API view. `scopes` names, for each method, the scope it needs (or several, of which one is enough)."""

    scopes: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}

    @property
    def caller(self) -> Caller:
        caller = self.request.auth
        assert isinstance(caller, Caller)
        return caller

    @property
    def application(self) -> Application:
        """The application that the caller acts for; the only one whose data this request may touch."""
        application = self.caller.application
        assert application is not None
        return application

    def page(self, queryset: QuerySet[Any], represent: Callable[[Any], Any]) -> SignalResponse:
        """One page of rows, newest first; `represent` makes the answer's form of a row."""
        paginator = CursorPagination()
        rows = paginator.paginate_queryset(queryset, self.request, self)
        return paginator.get_paginated_response([represent(row) for row in rows])

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        final: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[assignment]
        rate: RateState | None = getattr(request, "rate", None)
        if rate is not None:
            final["RateLimit-Limit"] = str(rate.limit)
            final["RateLimit-Remaining"] = str(max(0, rate.remaining))
            final["RateLimit-Reset"] = str(rate.reset_s)
        return final
