"""What Prometheus is told of the fills: looked up when it asks (`automata_signal.figures`)."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils import timezone

from apps.analytics.models.rollups import FillState
from automata_signal.figures import Figure, Sample, Source, register

_AGE = Figure("automata_statistics_age_seconds", "How long ago all there was had been counted", ("source",))
_RESTORED = Figure("automata_statistics_restored", "1 while a restored database waits for a rebuild", ("source",))


def _read() -> Iterator[Sample]:
    """Two rows, by primary key."""
    now = timezone.now()
    for state in FillState.objects.all():
        if state.caught_up_at is not None:
            yield Sample(_AGE, (now - state.caught_up_at).total_seconds(), (state.name,))
        yield Sample(_RESTORED, int(state.is_ahead), (state.name,))


def register_figures() -> None:
    register(Source("statistics", (_AGE, _RESTORED), _read))
