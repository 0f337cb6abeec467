"""The faults, each a function that breaks something and lets the outside world (not an operator) mend it.

What is killed comes back after a second (`Stack.keep_up`), a service that is stopped comes back after a while, a
provider gets well. `FAULTS` has them by name, for the tests (small) and for `./run bench faults` (50,000 recipients).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery

from tests.faults.ordeal import Ordeal, Strike
from tests.faults.stack import NEVER_S, Failed, Provider
from tests.faults.verify import scheduled_or_final
from tools.supervisor import Child

SLOWEST_POST_S = 5.0
"""While Redis is gone: a request that waited for the broker's ordinary time-out would take half a minute."""

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
        os.kill(int(child), signal.SIGKILL)
    ordeal.lost_workers(1)


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
        ordeal.singles_go_on(at_least=10)


def has_ended(child: Child) -> bool:
    return not child.is_running()


def workers_are_restarted_one_after_the_other(ordeal: Ordeal) -> None:
    """A deploy: SIGTERM, wait until it has drained, start the new one, next."""
    stack = ordeal.stack
    slowest = 0.0
    for name in (*stack.senders, "control", "beat", "web"):
        child = stack.process(name)
        began = time.monotonic()
        child.process.send_signal(signal.SIGTERM)
        stack.wait_until(partial(has_ended, child), NEVER_S, f"{name} drains")
        slowest = max(slowest, time.monotonic() - began)
        stack.wait_until(partial(stack.find, name), NEVER_S, f"{name} is back")
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
    ordeal.singles_go_on(at_least=10)
    ordeal.wait(max(0.0, for_s - (time.monotonic() - began)))
    ordeal.notes["accepted meanwhile"] = str(len(ordeal.singles.accepted) - before)
    ordeal.notes["slowest POST meanwhile"] = f"{ordeal.singles.slowest_s:.2f} s"
    if ordeal.singles.slowest_s > SLOWEST_POST_S:
        raise Failed(f"a POST took {ordeal.singles.slowest_s:.1f} s for want of Redis")
    ordeal.stack.start_again(spec)


def redis_is_full(ordeal: Ordeal, *, for_s: float) -> None:
    connection = ordeal.stack.redis()
    connection.config_set("maxmemory", "1")
    try:
        ordeal.singles_go_on(at_least=10)
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
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            held.append(psycopg.connect(url, connect_timeout=5))
    try:
        # The next connection of each would fail: new ones are asked for by cutting the old.
        with held[0].cursor() as cursor:
            cursor.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name LIKE 'automata-%' AND application_name <> 'automata-beat'
                """
            )
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                held.append(psycopg.connect(url, connect_timeout=5))
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


def _later(ordeal: Ordeal) -> None:
    """The provider is well again after a second. What failed for now has a time, and then that time comes."""
    stack = ordeal.stack
    ordeal.wait(1.0)
    _each(ordeal, lambda p: p.control.clear_behaviours())
    waits = stack.rows(
        """
        SELECT count(*) AS n, extract(epoch FROM min(retry_at) - now())::float AS first,
               extract(epoch FROM max(retry_at) - now())::float AS last
        FROM messaging_message WHERE status = 'errored'
        """
    )[0]
    if waits["n"]:
        ordeal.notes["to be tried again"] = f"{waits['n']}, in {waits['first']:.0f} to {waits['last']:.0f} s"
    scheduled_or_final(stack)
    ordeal.hours_pass = True


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


def providers_refuse_a_fifth_for_as_long_as_it_lasts(ordeal: Ordeal, *, apns: str, fcm: str) -> None:
    """A refused message waits for its own next attempt; what that does to the others is what is looked at here."""
    stack = ordeal.stack
    attempts_but_one = 5  # RETRY_MAX_ATTEMPTS - 1: the last attempt gets through, so that nobody fails by chance
    stack.apns.control.behave(apns, share=0.2, times=attempts_but_one)
    stack.fcm.control.behave(fcm, share=0.2, times=attempts_but_one)
    began = time.monotonic()
    enough_s = 45 + stack.size.recipients / 400  # without a rate that recovers it is several times as much
    stack.wait_until(partial(everybody_was_tried, ordeal), enough_s, "everybody is tried once")
    ordeal.notes["everybody tried after"] = f"{time.monotonic() - began:.1f} s"
    scheduled_or_final(stack)
    ordeal.hours_pass = True


def everybody_was_tried(ordeal: Ordeal) -> bool:
    sql = "SELECT count(*) AS n FROM messaging_message WHERE campaign_id = %s AND attempts > 0"
    return bool(ordeal.stack.value(sql, ordeal.campaign_id) == ordeal.stack.size.recipients)


def providers_do_not_answer_in_time(ordeal: Ordeal) -> None:
    """Some requests are never answered, and half of those were taken all the same."""
    _answers(ordeal, "hang", "hang-accepted", share=0.05)
    ordeal.duplicates_max += int(ordeal.stack.size.recipients * 0.05)
    _later(ordeal)


def connections_are_reset_in_mid_stream(ordeal: Ordeal) -> None:
    _answers(ordeal, "reset", "reset", share=0.1)
    ordeal.stack.apns.control.behave("abort", next=1)
    for _ in range(3):
        _each(ordeal, lambda p: p.control.disconnect())
        ordeal.wait(0.3)
    ordeal.connections_are_cut(4)
    _later(ordeal)


def providers_say_goaway(ordeal: Ordeal, *, last_stream: str) -> None:
    _each(ordeal, lambda p: p.control.settings(goaway_every=40, goaway_last_stream=last_stream))
    _later(ordeal)


def answers_come_out_of_order(ordeal: Ordeal) -> None:
    _each(ordeal, lambda p: p.control.settings(answer_order="reversed"))


def answers_take_long(ordeal: Ordeal, *, for_s: float) -> None:
    """Just below the time-out: a batch takes longer than its lease, and no other worker takes it meanwhile."""
    timeout_ms = int(float(ordeal.stack.size.settings["PROVIDER_TIMEOUT_S"]) * 1_000)
    _each(ordeal, lambda p: p.control.settings(latency_ms=int(timeout_ms * 0.75), jitter_ms=0))
    ordeal.wait(for_s)
    _each(ordeal, lambda p: p.control.settings(latency_ms=ordeal.stack.size.latency_ms))


def providers_are_down(ordeal: Ordeal, *, how: str, for_s: float) -> None:
    _each(ordeal, lambda p: p.control.settings(down=how))
    if how != "unavailable":
        ordeal.connections_are_cut(2)
    ordeal.wait(for_s)
    _each(ordeal, lambda p: p.control.settings(down=""))
    _later(ordeal)


def the_providers_name_is_not_found(ordeal: Ordeal, *, for_s: float) -> None:
    """The name server is away, and connections that are cut cannot be opened again."""
    stack = ordeal.stack
    no_dns = stack.signs / "no-dns"
    no_dns.touch()
    try:
        _each(ordeal, lambda p: p.control.disconnect())
        ordeal.connections_are_cut()
        ordeal.wait(for_s)
        sql = """
            SELECT count(*) FROM messaging_messageevent
            WHERE occurred_at >= to_timestamp(%s) AND metadata->>'reason' = 'couldnt_resolve_host'
        """
        ordeal.notes["attempts without a name"] = str(stack.value(sql, ordeal.struck_at))
    finally:
        no_dns.unlink()
    _later(ordeal)


def the_provider_is_killed(ordeal: Ordeal, *, for_s: float) -> None:
    stack = ordeal.stack
    for provider in stack.providers:
        stack.stop_provider(provider)
    ordeal.connections_are_cut()
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
    ordeal.connections_are_cut()
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


def the_credential_is_refused(ordeal: Ordeal, *, reason: str, for_s: float) -> None:
    """Revoked or expired, until somebody at the provider's end puts it right: the breaker holds what has not left."""
    control = ordeal.stack.apns.control
    ordeal.failed_reasons.add(reason)
    control.behave(reason, share=1.0)
    ordeal.wait(for_s)
    refused = control.stats()["reasons"].get(reason, 0)
    control.clear_behaviours()
    _later(ordeal)
    ordeal.notes["refused"] = str(refused)
    ended = ordeal.stack.value("SELECT count(*) FROM subscriptions_subscription WHERE subscription_status < 1")
    if ended:
        raise Failed(f"{ended} subscriptions were ended for a fault of our credential")
    if refused > ordeal.stack.size.recipients // 4:
        raise Failed(f"{refused} messages were refused before the breaker opened")


# --- Time --------------------------------------------------------------------------------------------------------


def two_beats_run(ordeal: Ordeal) -> None:
    ordeal.stack.keep(ordeal.stack.beat("beat2"))
    ordeal.wait(4.0)
    ordeal.stack.give_up("beat2")


def every_task_comes_twice_and_an_hour_late(ordeal: Ordeal) -> None:
    """All batches of the campaign, open and done, are handed to workers again and again."""
    stack = ordeal.stack
    rows = stack.rows(
        """
        SELECT b.id::text, b.application_id::text AS owner FROM messaging_dispatchbatch b
        JOIN campaigns_messagecampaign c ON c.dispatch_id = b.dispatch_id WHERE c.id = %s ORDER BY b.id
        """,
        ordeal.campaign_id,
    )
    for _ in range(2):
        send_tasks(ordeal, "messaging.send_batch", [[row["id"], row["owner"]] for row in rows], "push.low")
        send_tasks(ordeal, "campaigns.fan_out", [[ordeal.campaign_id]], "control")


def send_tasks(ordeal: Ordeal, task: str, arguments: list[list[str]], queue: str) -> None:
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


def a_workers_clock_is_wrong(ordeal: Ordeal, *, hours: float, for_s: float) -> None:
    """Of one worker, against those of all others and of the provider; then it is put right."""
    stack = ordeal.stack
    sign = stack.signs / "clock-automata-push0"
    sign.write_text(str(hours * 3_600))
    ordeal.wait(for_s)
    sign.unlink()


@dataclass(frozen=True)
class Fault:
    """A fault by name, as the tests strike and as the bench does; `for_s` is how long it lasts, where it lasts."""

    strike: Callable[..., None]
    quick_s: float | None = None
    full_s: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def quick(self) -> Strike:
        return self._with(self.quick_s)

    def full(self) -> Strike:
        return self._with(self.full_s)

    def _with(self, for_s: float | None) -> Strike:
        lasting = {} if for_s is None else {"for_s": for_s}
        return partial(self.strike, **self.options, **lasting)


FAULTS: dict[str, Fault] = {
    "nothing": Fault(nothing),
    "worker killed": Fault(a_worker_is_killed),
    "pool process killed": Fault(a_pool_process_is_killed),
    "all workers killed": Fault(all_workers_are_killed),
    "beat killed": Fault(beat_is_killed),
    "web killed": Fault(the_web_is_killed_in_the_middle_of_posts),
    "rolling restart": Fault(workers_are_restarted_one_after_the_other),
    "Redis restarted": Fault(redis_is_restarted),
    "Redis emptied": Fault(redis_is_emptied),
    "Redis gone": Fault(redis_is_gone, 8, 60),
    "Redis full": Fault(redis_is_full, 3, 10),
    "PostgreSQL restarted": Fault(postgres_is_restarted),
    "PostgreSQL gone": Fault(postgres_is_gone, 8, 40),
    "connections cut": Fault(connections_are_cut),
    "pool exhausted": Fault(the_pool_is_exhausted, 2, 10),
    "deadlocks injected": Fault(deadlocks_are_injected),
    "real deadlocks": Fault(a_deadlock_happens),
    "serialisation failures": Fault(serialisation_failures_are_injected),
    "disk full": Fault(the_disk_is_full),
    "503": Fault(providers_answer_503),
    "503, Retry-After": Fault(providers_answer_503_with_retry_after),
    "429": Fault(providers_answer_429),
    "503 to a fifth, lasting": Fault(
        providers_refuse_a_fifth_for_as_long_as_it_lasts,
        options={"apns": "ServiceUnavailable", "fcm": "UNAVAILABLE-plain"},
    ),
    "429 to a fifth, lasting": Fault(
        providers_refuse_a_fifth_for_as_long_as_it_lasts,
        options={"apns": "TooManyProviderTokenUpdates", "fcm": "QUOTA_EXCEEDED"},
    ),
    "time-outs": Fault(providers_do_not_answer_in_time),
    "resets": Fault(connections_are_reset_in_mid_stream),
    "GOAWAY, previous": Fault(providers_say_goaway, options={"last_stream": "previous"}),
    "GOAWAY, zero": Fault(providers_say_goaway, options={"last_stream": "zero"}),
    "out of order": Fault(answers_come_out_of_order),
    "slow answers": Fault(answers_take_long, 12, 60),
    "provider unavailable": Fault(providers_are_down, 3, 20, {"how": "unavailable"}),
    "provider refuses": Fault(providers_are_down, 3, 20, {"how": "refuse"}),
    "provider silent": Fault(providers_are_down, 3, 20, {"how": "hang"}),
    "provider killed": Fault(the_provider_is_killed, 3, 20),
    "DNS failure": Fault(the_providers_name_is_not_found, 3, 20),
    "wrong certificate": Fault(the_provider_shows_a_wrong_certificate, 3, 20),
    "token endpoint down": Fault(the_token_endpoint_is_down, 3, 20),
    "credential revoked": Fault(the_credential_is_refused, 2, 10, {"reason": "InvalidProviderToken"}),
    "credential expired": Fault(the_credential_is_refused, 2, 10, {"reason": "ExpiredProviderToken"}),
    "two beats": Fault(two_beats_run),
    "tasks twice and late": Fault(every_task_comes_twice_and_an_hour_late),
    "clock forward": Fault(the_clock_jumps, options={"hours": 1}),
    "clock back": Fault(the_clock_jumps, options={"hours": -1}),
    "a worker's clock ahead": Fault(a_workers_clock_is_wrong, 5, 20, {"hours": 1}),
    "a worker's clock behind": Fault(a_workers_clock_is_wrong, 5, 20, {"hours": -1}),
}
