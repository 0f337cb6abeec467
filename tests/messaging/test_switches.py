"""A switch is turned in the middle of a campaign; workers and beat say that they are alive, and stop saying so."""

from __future__ import annotations

import pytest

from apps.messaging import sweeps
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import BatchState, DispatchBatch, Message
from apps.tenants.operations import switches
from apps.tenants.operations.models import PlatformSwitch
from automata_signal import heartbeats
from tests.factories import make_dispatch, make_subscriptions
from tests.fleet import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def forgotten():
    switches.forget()
    yield
    switches.forget()


def state_of(batch) -> str:
    return DispatchBatch.objects.values_list("state", flat=True).get(pk=batch.pk)


def test_a_worker_stops_in_the_middle_of_a_batch_loses_nothing_and_goes_on(fleet, apns, application, settings):
    """A real worker with a real provider: off within seconds, nothing failed, and everything is sent in the end."""
    settings.BATCH_SIZE = 4_000
    make_subscriptions(application, [f"{n:064x}" for n in range(4_000)])
    (batch_id,) = dispatch_slice(
        dispatch=make_dispatch(application, audience={}), after_id=None, limit=10_000
    ).batch_ids
    batch = DispatchBatch.objects.get(pk=batch_id)
    apns.settings(latency_ms=400)
    fleet.environment |= {"BATCH_LEASE_S": "120", "PROVIDER_STREAMS": "20", "PROVIDER_CONNECTIONS": "2"}
    fleet.start_worker("push.medium")
    sweeps.queue_due()
    wait_until(lambda: apns.stats()["accepted"] >= 100)
    assert any(beat.is_alive() and beat.facts["queues"] == ["push.medium"] for beat in heartbeats.read() or ())
    PlatformSwitch.objects.create(name="sending.push", is_off=True, reason="an incident")
    wait_until(lambda: state_of(batch) == BatchState.WAITING)
    sent = Message.objects.filter(status="successful").count()
    assert 100 <= sent < 4_000
    assert not Message.objects.exclude(status__in=["successful", "pending"]).exists()
    switches.forget()
    assert sweeps.queue_due() == 0
    apns.settings(latency_ms=0)
    PlatformSwitch.objects.update(is_off=False)
    switches.forget()
    wait_until(lambda: (sweeps.queue_due(), state_of(batch) == BatchState.DONE)[1], timeout_s=60)
    assert Message.objects.filter(status="successful").count() == 4_000
    assert apns.stats()["accepted"] == 4_000


def test_a_worker_and_beat_say_that_they_are_alive_and_take_it_back(fleet):
    worker, beat = fleet.start_worker("control"), fleet.start_beat()

    def seen() -> dict[str, heartbeats.Heartbeat]:
        return {found.name: found for found in heartbeats.read() or ()}

    wait_until(lambda: heartbeats.BEAT in seen() and any(found.facts.get("queues") for found in seen().values()))
    (name,) = [found.name for found in seen().values() if found.facts.get("queues") == ["control"]]
    assert seen()[name].facts["concurrency"] >= 1
    worker.terminate()
    worker.wait(timeout=60)
    assert name not in seen()
    beat.terminate()
    beat.wait(timeout=30)
    heartbeats.remove(heartbeats.BEAT)
