"""The faults, each a function that breaks something and lets the outside world (not an operator) mend it.

What is killed comes back after a second (`Stack.keep_up`), a service that is stopped comes back after a while, a
provider gets well. `FAULTS` has them by name, for the tests (small) and for `./run bench faults` (50,000 recipients).
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.ordeal import Ordeal, Strike, bring_forward
from tests.faults.stack import Failed, Provider

# --- Processes ---------------------------------------------------------------------------------------------------


def nothing(ordeal: Ordeal) -> None:
    """For comparison."""


def a_worker_is_killed(ordeal: Ordeal) -> None:
    ordeal.stack.kill(ordeal.stack.process("push0"))
    ordeal.lost_workers(1)


def a_pool_process_is_killed(ordeal: Ordeal) -> None:
    """As the kernel does when memory ends: the child that sends dies, its parent lives."""
    stack = ordeal.stack
    parent = stack.process("push0").process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    if not children:
        raise Failed("the worker has no pool process")
    for child in children:
        _signal(int(child), signal.SIGKILL)
    ordeal.lost_workers(1)


def _signal(pid: int, signum: signal.Signals) -> None:
    import os

    os.kill(pid, signum)


def all_workers_are_killed(ordeal: Ordeal) -> None:
    stack = ordeal.stack
    for name in (*stack.senders, "control"):
        stack.process(name).kill_group()
    ordeal.lost_workers(stack.size.workers + stack.size.high_concurrency)
    stack.keep_up()


def beat_is_killed(ordeal: Ordeal) -> None:
    ordeal.stack.kill(ordeal.stack.process("beat"))


def the_web_is_killed_in_the_middle_of_posts(ordeal: Ordeal) -> None:
    for _ in range(2):
        ordeal.stack.kill(ordeal.stack.process("web"))
        ordeal.singles_go_on(at_least=10, timeout_s=40)


def workers_are_restarted_one_after_the_other(ordeal: Ordeal) -> None:
    """A deploy: SIGTERM, wait until it has drained, start the new one, next."""
    stack = ordeal.stack
    slowest = 0.0
    for name in (*stack.senders, "control", "beat", "web"):
        child = stack.process(name)
        began = time.monotonic()
        child.process.send_signal(signal.SIGTERM)
        stack.wait_until(lambda child=child: not child.is_running(), 30, f"{name} drains")
        slowest = max(slowest, time.monotonic() - began)
        stack.wait_until(lambda: not stack.restart_pending and stack.find(name) is not None, 10, f"{name} is back")
    ordeal.notes["slowest drain"] = f"{slowest:.1f} s"


# --- Redis -------------------------------------------------------------------------------------------------------


def redis_is_restarted(ordeal: Ordeal) -> None:
    ordeal.stack.start_again(ordeal.stack.stop_redis())


def redis_is_emptied(ordeal: Ordeal) -> None:
    ordeal.stack.redis().flushall()


def redis_is_gone(ordeal: Ordeal, *, for_s: float) -> None:
    spec = ordeal.stack.stop_redis()
    began = time.monotonic()
    before = len(ordeal.singles.accepted)
    ordeal.singles.slowest_s = 0.0
    ordeal.singles_go_on(at_least=10, timeout_s=for_s)
    ordeal.wait(max(0.0, for_s - (time.monotonic() - began)))
    ordeal.notes["accepted meanwhile"] = str(len(ordeal.singles.accepted) - before)
    ordeal.notes["slowest POST meanwhile"] = f"{ordeal.singles.slowest_s:.2f} s"
    if ordeal.singles.slowest_s > 2.5:
        raise Failed(f"a POST took {ordeal.singles.slowest_s:.1f} s for want of Redis")
    ordeal.stack.start_again(spec)


def redis_is_full(ordeal: Ordeal, *, for_s: float) -> None:
    connection = ordeal.stack.redis()
    connection.config_set("maxmemory", "1")
    try:
        ordeal.singles_go_on(at_least=10, timeout_s=for_s + 20)
        ordeal.wait(for_s)
    finally:
        connection.config_set("maxmemory", "0")


# --- PostgreSQL --------------------------------------------------------------------------------------------------


def postgres_is_restarted(ordeal: Ordeal) -> None:
    ordeal.stack.start_again(ordeal.stack.stop_postgres())


def postgres_is_gone(ordeal: Ordeal, *, for_s: float) -> None:
    spec = ordeal.stack.stop_postgres()
    ordeal.wait(for_s)
    ordeal.stack.start_again(spec)


def connections_are_cut(ordeal: Ordeal) -> None:
    for _ in range(3):
        ordeal.stack.rows(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND datname = current_database()
            """
        )
        ordeal.wait(0.5)


def the_pool_is_exhausted(ordeal: Ordeal, *, for_s: float) -> None:
    """PostgreSQL takes no connection more: what has one goes on, what needs one waits or is refused with 503."""
    stack, held = ordeal.stack, []
    url = stack.supervisor.env["DATABASE_URL"]
    try:
        while True:
            held.append(psycopg.connect(url, connect_timeout=5))
    except psycopg.OperationalError:
        pass
    try:
        # The next connection of each would fail: new ones are asked for by cutting the old.
        with held[0].cursor() as cursor:
            cursor.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name LIKE 'automata-%' AND application_name <> 'automata-beat'
                """
            )
        while time.monotonic() < time.monotonic() + 1:
            try:
                held.append(psycopg.connect(url, connect_timeout=5))
            except psycopg.OperationalError:
                break
        ordeal.wait(for_s)
    finally:
        for connection in held:
            connection.close()
    ordeal.notes["connections"] = str(len(held))


def _every_now_and_then_postgres_raises(ordeal: Ordeal, sqlstate: str, *, table: str, share: float) -> None:
    """A trigger that refuses a share of the statements on `table`, for two seconds."""
    stack = ordeal.stack
    stack.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF random() < {share} THEN
                RAISE EXCEPTION 'injected' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    operations = "INSERT OR UPDATE"
    try:
        stack.execute(
            f"CREATE TRIGGER refuse BEFORE {operations} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        )
        ordeal.wait(2.0)
    finally:
        stack.execute("DROP FUNCTION refuse CASCADE")


def deadlocks_are_injected(ordeal: Ordeal) -> None:
    _every_now_and_then_postgres_raises(ordeal, "40P01", table="messaging_message", share=0.5)


def serialisation_failures_are_injected(ordeal: Ordeal) -> None:
    _every_now_and_then_postgres_raises(ordeal, "40001", table="messaging_message", share=0.5)


def the_disk_is_full(ordeal: Ordeal) -> None:
    _every_now_and_then_postgres_raises(ordeal, "53100", table="messaging_messageevent", share=1.0)
    # 53100 is what PostgreSQL says when a table or its log cannot grow.


def a_deadlock_happens(ordeal: Ordeal) -> None:
    """A real one: another session locks messages against the order of ids, and the campaign before them."""
    stack = ordeal.stack
    with stack.database(options="-c deadlock_timeout=10s -c lock_timeout=8s") as other:
        for _ in range(5):
            try:
                with other.transaction():
                    other.execute(
                        "SELECT 1 FROM campaigns_messagecampaign WHERE id = %s FOR UPDATE", [ordeal.campaign_id]
                    )
                    time.sleep(0.2)
                    other.execute(
                        """
                        SELECT 1 FROM messaging_message WHERE campaign_id = %s AND status = 'pending'
                        ORDER BY id DESC FOR UPDATE
                        """,
                        [ordeal.campaign_id],
                    )
            except psycopg.errors.DeadlockDetected:
                ordeal.notes["deadlocks of the other"] = str(int(ordeal.notes.get("deadlocks of the other", "0")) + 1)
    ordeal.notes["deadlocks"] = str(stack.value("SELECT deadlocks FROM pg_stat_database WHERE datname = 'app'"))


# --- Providers ---------------------------------------------------------------------------------------------------


def _each(ordeal: Ordeal, act: Callable[[Provider], Any]) -> None:
    for provider in ordeal.stack.providers:
        act(provider)


def _answers(ordeal: Ordeal, apns: str | dict[str, Any], fcm: str | dict[str, Any], *, share: float = 0.2) -> None:
    """So many requests are answered so, each message once at most; then time passes until the next attempt."""
    ordeal.stack.apns.control.behave(apns, share=share, times=1)
    ordeal.stack.fcm.control.behave(fcm, share=share, times=1)


def _later(ordeal: Ordeal, *, timeout_s: float = 60.0) -> None:
    """What failed for now has a time: it is written down, and then that time comes."""
    stack = ordeal.stack
    open_ = "SELECT count(*) FROM messaging_message WHERE status = 'pending' AND campaign_id = %s"

    def all_tried() -> bool:
        unmade = "SELECT count(*) FROM messaging_dispatchbatch WHERE first_id IS NULL"
        return stack.value(open_, ordeal.campaign_id) == 0 and stack.value(unmade) == 0

    stack.wait_until(all_tried, timeout_s, "every message was tried")
    waits = stack.rows(
        """
        SELECT count(*) AS n, extract(epoch FROM min(retry_at) - now())::float AS first,
               extract(epoch FROM max(retry_at) - now())::float AS last
        FROM messaging_message WHERE status = 'errored'
        """
    )[0]
    if waits["n"]:
        ordeal.notes["to be tried again"] = f"{waits['n']}, in {waits['first']:.0f} to {waits['last']:.0f} s"
    bring_forward(stack)


def providers_answer_503(ordeal: Ordeal) -> None:
    _answers(ordeal, "ServiceUnavailable", "UNAVAILABLE-plain")
    _later(ordeal)


def providers_answer_503_with_retry_after(ordeal: Ordeal) -> None:
    _answers(
        ordeal,
        {"name": "ServiceUnavailable-retry-after", "retry_after_s": 3},
        {"name": "UNAVAILABLE", "retry_after_s": 3},
    )
    _later(ordeal)


def providers_answer_429(ordeal: Ordeal) -> None:
    _answers(ordeal, "TooManyRequests", "QUOTA_EXCEEDED")
    _later(ordeal)


def providers_do_not_answer_in_time(ordeal: Ordeal) -> None:
    """Some requests are never answered, and half of those were taken all the same."""
    _answers(ordeal, "hang", "hang-accepted", share=0.05)
    ordeal.duplicates_max += ordeal.stack.size.recipients
    _later(ordeal)


def connections_are_reset_in_mid_stream(ordeal: Ordeal) -> None:
    _answers(ordeal, "reset", "reset", share=0.1)
    ordeal.stack.apns.control.behave("abort", next=1)
    for _ in range(3):
        _each(ordeal, lambda p: p.control.disconnect())
        ordeal.wait(0.3)
    # An answer that was on its way when the connection went is taken, and we cannot know.
    ordeal.duplicates_max += ordeal.stack.size.recipients
    _later(ordeal)


def providers_say_goaway(ordeal: Ordeal, *, last_stream: str) -> None:
    _each(ordeal, lambda p: p.control.settings(goaway_every=40, goaway_last_stream=last_stream))
    _later(ordeal)


def answers_come_out_of_order(ordeal: Ordeal) -> None:
    _each(ordeal, lambda p: p.control.settings(answer_order="reversed"))


def providers_are_down(ordeal: Ordeal, *, how: str, for_s: float) -> None:
    _each(ordeal, lambda p: p.control.settings(down=how))
    ordeal.wait(for_s)
    _each(ordeal, lambda p: p.control.settings(down=""))
    _later(ordeal)


def the_provider_is_killed(ordeal: Ordeal, *, for_s: float) -> None:
    stack = ordeal.stack
    for provider in stack.providers:
        stack.stop_provider(provider)
    ordeal.duplicates_max += stack.size.recipients  # what it had taken but not answered is not known to us
    ordeal.wait(for_s)
    for provider in stack.providers:
        stack.start_provider(provider)
        provider.control.settings(latency_ms=stack.size.latency_ms)
    _later(ordeal)


def the_provider_shows_a_wrong_certificate(ordeal: Ordeal, *, for_s: float) -> None:
    """Another authority signed it: nothing is sent to whoever that is."""
    stack = ordeal.stack
    stranger = stack.folder / "other-ca"
    stranger.mkdir(mode=0o700, exist_ok=True)
    stack.stop_provider(stack.apns)
    ordeal.duplicates_max += stack.size.recipients
    stack.start_provider(stack.apns, ca_dir=stranger)
    ordeal.wait(for_s)
    told = stack.apns.control.stats()["requests"]
    if told:
        raise Failed(f"{told} requests went to a provider with a wrong certificate")
    stack.kill(stack.apns.child) if stack.apns.child else None
    stack.start_provider(stack.apns)
    stack.apns.control.settings(latency_ms=stack.size.latency_ms)
    shutil.rmtree(stranger)
    _later(ordeal)


def the_token_endpoint_is_down(ordeal: Ordeal, *, for_s: float) -> None:
    """FCM takes no old token and gives no new one."""
    control = ordeal.stack.fcm.control
    control.reset("access_tokens")
    control.settings(down="unavailable")
    ordeal.wait(for_s)
    control.settings(down="")
    _later(ordeal)


# --- Time --------------------------------------------------------------------------------------------------------


def two_beats_run(ordeal: Ordeal) -> None:
    ordeal.stack.keep(ordeal.stack.beat("beat2"))
    ordeal.wait(3.0)


def every_task_comes_twice_and_an_hour_late(ordeal: Ordeal) -> None:
    """All batches of the campaign, open and done, are handed to workers again and again."""
    stack = ordeal.stack
    ids = [row["id"] for row in stack.rows("SELECT id::text FROM messaging_dispatchbatch ORDER BY id")]
    for _ in range(2):
        send_tasks(ordeal, "messaging.send_batch", [[i] for i in ids], "push.low")
        send_tasks(ordeal, "campaigns.fan_out", [[ordeal.campaign_id]], "control")


def send_tasks(ordeal: Ordeal, task: str, arguments: list[list[str]], queue: str) -> None:
    from celery import Celery

    app = Celery(broker=ordeal.stack.supervisor.env["REDIS_URL"])
    app.conf.task_ignore_result = True
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for args in arguments:
            app.send_task(task, args=args, queue=queue, producer=producer)
    app.close()


def the_clock_jumps(ordeal: Ordeal, *, hours: float) -> None:
    """For the database: all times that decide anything move against the clock, as when the clock moves against them."""
    stack = ordeal.stack
    shift = f"interval '{-hours} hours'"
    stack.execute(
        f"""
        UPDATE messaging_dispatchbatch
        SET due_at = due_at + {shift}, queued_at = queued_at + {shift}, lease_until = lease_until + {shift}
        WHERE state <> 'done'
        """
    )
    if hours > 0:  # leases seem to have ended long ago, though their workers are at it
        ordeal.duplicates_max += stack.size.recipients
    else:
        ordeal.wait(2.0)
        # It is put right again, as time servers do.
        the_clock_jumps(ordeal, hours=-hours)


@dataclass(frozen=True)
class Fault:
    """A fault by name. `quick` says whether it is part of the test run."""

    strike: Strike
    title: str
    timeout_s: float = 90.0


def _seconds(function: Callable[..., None], quick: float, full: float) -> Callable[[bool], Strike]:
    return lambda is_quick: partial(function, for_s=quick if is_quick else full)
