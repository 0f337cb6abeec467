"""The API as a process of its own, with Redis gone.

In a file by itself: its rows are committed, and no other test's fixture may keep a transaction open around it.
"""

from __future__ import annotations

import time

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password

from apps.tenants.models import Operator
from tests import fleet
from tests.api.routes import ENTRIES
from tests.api.test_without_parts import GONE, call, running_api
from tests.api.world import PASSWORD, World, make_world

HASHER = PBKDF2PasswordHasher()
NEED_REDIS = {"auth/password-reset", "in-app/stream-tickets?subscription_id={subscription_id}"}
"""An e-mail has no other way than the queue, and a ticket is kept nowhere else."""


def _let_sign_in(world: World) -> None:
    """The process knows nothing of the tests' quick passwords."""
    if not Operator.objects.filter(password__startswith="pbkdf2").exists():
        Operator.objects.filter(email=world.email).update(password=make_password(PASSWORD, hasher=HASHER))


@pytest.mark.timeout(400)
def test_without_redis_every_route_works_and_the_log_tells_nothing_of_anybody(transactional_db, settings, tmp_path):
    wrong, worlds = {}, []
    with running_api(
        tmp_path / "log",
        DATABASE_URL=fleet.test_database_url(),
        REDIS_URL=f"redis://{GONE}/0",
        MEDIA_FILES_DIR=settings.STORAGES["media"]["OPTIONS"]["location"],
        LOG_LEVEL="INFO",
    ) as client:
        for number, (method, route) in enumerate(ENTRIES):
            world = make_world(f"world-{number}-of-somebody")
            worlds.append(world)
            _let_sign_in(world)
            started = time.monotonic()
            answer = call(client, world, method, route)
            expected = (503,) if route in NEED_REDIS else ENTRIES[method, route].answers
            if answer.status_code not in expected or time.monotonic() - started > 5:
                wrong[method, route] = (answer.status_code, time.monotonic() - started, answer.text[:300])
            if answer.status_code == 503:
                assert answer.headers["Retry-After"] == "5"
        stranger = worlds[0]
        missing = client.get(
            "/api/v1/users/by-external-id?external_id=%2B821012345678", headers=stranger.server._headers
        )
        assert missing.status_code == 404
        checks = client.get("/readyz").json()["checks"]
        assert (checks["postgresql"], checks["redis"]) == (True, False)
    assert not wrong, wrong
    log = (tmp_path / "log").read_text()
    for world in worlds:
        for secret in (world.server, world.sdk, world.owner, world.revoked):
            assert secret._headers["authorization"].removeprefix("Bearer ") not in log
        assert world.handle not in log
        assert world.external_id not in log
        assert world.email not in log
    assert "821012345678" not in log
