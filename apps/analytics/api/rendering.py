"""`?format=csv`: the table of an answer as a file for a spreadsheet. Refusals stay JSON."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.analytics.as_json import table
from apps.tenants.views import SignalView
from automata_signal.csv_safety import csv_lines
from automata_signal.envelope import EnvelopeRenderer

CSV_RESPONSE = {(200, "text/csv"): OpenApiTypes.STR}


class CsvRenderer(BaseRenderer):
    """`items` of the answer, one row each, UTF-8. What a spreadsheet would run as a formula is neutralised."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return b"".join(csv_lines(table(data)))


class TableView(SignalView):
    """A view whose answer can be had as JSON and, with `?format=csv` or `Accept: text/csv`, as a table."""

    renderer_classes = [EnvelopeRenderer, CsvRenderer]
    file_name: ClassVar[str]

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        renderer = getattr(final, "accepted_renderer", None)
        if isinstance(renderer, CsvRenderer):
            if final.exception:
                final.accepted_renderer = EnvelopeRenderer()
                final.accepted_media_type = EnvelopeRenderer.media_type
            else:
                final["Content-Disposition"] = f'attachment; filename="{self.file_name}.csv"'
        return final
