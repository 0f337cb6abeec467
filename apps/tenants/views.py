"""What API views share: the caller's application, its scope, and rate-limit headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import status
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.tenants.access import Caller, RateState, count_refused_caller, refuse_excess
from apps.tenants.models import Application
from automata_signal.api import CursorPagination, NoInput, SignalResponse, StrictSerializer, validated
from automata_signal.errors import Unauthenticated


class SignalView(APIView):
    """An API view. `scopes` names, for each method, the scope it needs (or several, of which one is enough)."""

    scopes: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}
    http_method_names = ["get", "post", "patch", "put", "delete", "head"]

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

    def query(self, serializer: type[StrictSerializer] = NoInput) -> dict[str, Any]:
        """The query's parameters, but those of pages, checked: unknown ones are refused."""
        own = {name: value for name, value in self.request.query_params.items() if name not in ("cursor", "limit")}
        return validated(serializer, own)

    def page(self, queryset: QuerySet[Any], represent: Callable[[Any], Any]) -> SignalResponse:
        """One page of rows, newest first; `represent` makes the answer's form of a row."""
        paginator = CursorPagination()
        rows = paginator.paginate_queryset(queryset, self.request, self)
        return paginator.get_paginated_response([represent(row) for row in rows])

    def handle_exception(self, exc: Exception) -> Response:
        """Who guesses keys is counted too, and gets 429 in the end."""
        if isinstance(exc, Unauthenticated) and getattr(self.request, "rate", None) is None:
            rate = count_refused_caller(self.request)
            self.request.rate = rate  # type: ignore[attr-defined]
            try:
                refuse_excess(rate)
            except Throttled as throttled:
                exc = throttled
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final: Response = super().finalize_response(request, response, *args, **kwargs)
        if final.status_code == status.HTTP_401_UNAUTHORIZED:
            final["WWW-Authenticate"] = 'Bearer realm="api"'
        rate: RateState | None = getattr(request, "rate", None)
        if rate is not None:
            final["RateLimit-Limit"] = str(rate.limit)
            final["RateLimit-Remaining"] = str(max(0, rate.remaining))
            final["RateLimit-Reset"] = str(rate.reset_s)
        return final
