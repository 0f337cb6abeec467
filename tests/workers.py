"""The tests in several processes (`./run test`, or `-n`): each has a PostgreSQL and a Redis of its own.

Databases of one server would not do: the figures wait for the oldest transaction of the whole server, tests look at its
locks and sessions, empty Redis and count its keys, and start processes that read `DATABASE_URL` and `REDIS_URL`.
"""

from __future__ import annotations

import json
import os

import pytest
from xdist.scheduler import LoadScopeScheduling

HEAVY = ("tests/faults/", "tests/bench/")
"""What shares a whole platform or wants the machine: one process runs all of it, and begins with it."""
TOGETHER = ("tests/admin/", "tests/browser/")
"""Files whose tests share what takes seconds to make: an application with everything in it, or a browser, whose event
loop no other test may meet besides. One process runs a file."""
LONG = "tests/admin/test_every_url.py"
"""But for this one: its tests take longer than their world."""


class OneByOne(LoadScopeScheduling):
    """Each test goes to the next process that is free, and what is heavy to one.

    By path: xdist's `xdist_group` does nothing under pytest 9.2, which has other names for tests than it sets.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(HEAVY):
            return "heavy"
        if nodeid.startswith(TOGETHER) and not nodeid.startswith(LONG):
            return nodeid.partition("::")[0]
        return nodeid


def pytest_xdist_make_scheduler(config, log):
    return OneByOne(config, log)


def pytest_xdist_setupnodes(config, specs) -> None:
    """Each worker finds its servers where every process finds them, before it reads a setting."""
    servers = json.loads(os.environ.pop("TEST_SERVERS", "[]"))
    if len(servers) < len(specs):
        raise pytest.UsageError("-n needs servers for each process: ./run test -n 3")
    for spec, addresses in zip(specs, servers, strict=False):
        spec.env.update(addresses)
