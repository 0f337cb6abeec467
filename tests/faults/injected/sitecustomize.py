"""On PYTHONPATH of the platform's processes, so that it runs before anything of theirs: what the operating system tells
them can be wrong. Nothing of the product is touched.

`FAULTS` names a folder of signs. While `no-dns` is there, `localhost` cannot be resolved, as when the name server is
away. What stands in `clock-<APPLICATION_NAME>` is by how many seconds that process's clock is wrong: `time.time`, and
`timezone.now` of Django. Celery's own timers and the clocks of PostgreSQL and Redis stay right.
"""

import datetime
import os
import socket
import time
from pathlib import Path

_signs = os.environ.get("FAULTS", "")
_name = os.environ.get("APPLICATION_NAME", "")
_no_dns, _wrong_clock = Path(_signs) / "no-dns", Path(_signs) / f"clock-{_name}"
_resolve, _time, _time_ns = socket.getaddrinfo, time.time, time.time_ns
_LOOK_EVERY_S = 0.2
_clock = {"wrong_by_s": 0.0, "look_at": 0.0}


def getaddrinfo(host, *arguments, **options):
    if host == "localhost" and _no_dns.exists():
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _resolve(host, *arguments, **options)


def wrong_by_s():
    if time.monotonic() >= _clock["look_at"]:
        _clock["look_at"] = time.monotonic() + _LOOK_EVERY_S
        try:
            _clock["wrong_by_s"] = float(_wrong_clock.read_text() or 0)
        except FileNotFoundError:
            _clock["wrong_by_s"] = 0.0
    return _clock["wrong_by_s"]


if _signs:
    socket.getaddrinfo = getaddrinfo
if _signs and _name.startswith("automata-"):
    time.time = lambda: _time() + wrong_by_s()
    time.time_ns = lambda: _time_ns() + int(wrong_by_s() * 1_000_000_000)
    from django.utils import timezone

    timezone.now = lambda: datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
