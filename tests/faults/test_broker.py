"""What a broker that is away may cost a request."""

import socket
import time

from kombu import Connection, pools

from automata_signal import celery


def timed(function, *arguments):
    began = time.monotonic()
    return function(*arguments), time.monotonic() - began


def test_a_broker_that_hangs_delays_one_request_by_a_second_and_the_next_ones_not(monkeypatch):
    task = celery.Task("messaging.send_batch", ["0", "0"], "push.high")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        silent_broker = pools.producers[Connection(url, transport_options=celery.HAND_OVER)]
        monkeypatch.setattr(celery, "_producers", lambda: silent_broker)
        monkeypatch.setattr(celery, "_broker", {"left_alone_until": 0.0})
        handed_over, took_s = timed(celery.send_tasks, [task])
        assert not handed_over
        assert took_s < 1.5
        handed_over, took_s = timed(celery.send_tasks, [task])
        assert not handed_over
        assert took_s < 0.05
