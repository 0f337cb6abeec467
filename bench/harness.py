"""What every part uses: applications with their audiences, fleets, and a campaign that is launched and measured."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import django

django.setup()

import psycopg  # noqa: E402
import redis  # noqa: E402

from apps.campaigns.models import MessageCampaign  # noqa: E402
from apps.campaigns.services import campaign_create, campaign_launch  # noqa: E402
from apps.messaging.models import MessageTemplate  # noqa: E402
from apps.sandbox.credentials import make_apns_key, make_fcm_account  # noqa: E402
from apps.tenants.models import Application  # noqa: E402
from bench import machine, seeding  # noqa: E402
from bench.accounting import Meter, Usage, Written, name_of, parent_of, written  # noqa: E402
from bench.fleet import Behaviour, Fleet, Providers  # noqa: E402
from bench.report import Report  # noqa: E402
from bench.stage import Stores  # noqa: E402
from bench.standin import StandIn  # noqa: E402
from tools.supervisor import StackError, Supervisor  # noqa: E402

POLL_S = 0.025
SLOWEST_PER_S = 300.0
"""A campaign that is slower than this has stopped, and so has the benchmark."""
WARM_UP_RECIPIENTS = 8_000
MESSAGE_TABLES = (
    "messaging_message, messaging_messageevent, messaging_inboxitem, messaging_dispatchbatch, messaging_dispatch,"
    " campaigns_messagecampaign, campaigns_campaignfailure, campaigns_historicalmessagecampaign"
)
PLAIN = {"title": "The sale begins", "body": "Twenty per cent off everything until midnight.", "data": {"sale": "42"}}


@dataclass(frozen=True)
class Run:
    """One measured send, from launch until every result and event was committed."""

    recipients: int
    seconds: float
    usage: Usage
    written: Written
    peak_rss_mb: float
    load: float
    """Of the last minute, when it began."""
    others_before: float
    """Cores that others used just before it began."""

    @property
    def rate(self) -> float:
        return self.recipients / self.seconds

    @property
    def others(self) -> float:
        """Cores used by none of our processes while it ran."""
        return self.usage.others_cpu_s / self.seconds

    def cpu_us(self, group: str) -> float:
        return self.usage.cpu_s.get(group, 0.0) / self.recipients * 1e6

    @property
    def cpu_s_each(self) -> float:
        """CPU seconds of all groups for one message: what cores in full use, and nobody else's, would be divided by."""
        return sum(self.usage.cpu_s.values()) / self.recipients

    @property
    def cores_used(self) -> float:
        return sum(self.usage.cpu_s.values()) / self.seconds


class Bench:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, stores: Stores, supervisor: Supervisor, folder: Path) -> None:
        self.options, self.stores, self.supervisor, self.folder = options, stores, supervisor, folder
        self.machine = machine.describe(stores.database_url, stores.redis_url)
        self.report = Report(quotable=self.machine.durable)
        self._applications: dict[tuple[str, int], Application] = {}
        if self.machine.load_at_start > machine.LOAD_AT_REST:
            self.say(f"WARNING: the load is {self.machine.load_at_start:.2f}: something else runs, figures will be low")

    @staticmethod
    def say(text: str) -> None:
        print(f"  {text}", flush=True)

    def wants(self, case: str) -> bool:
        return self.options.cases in case

    # --- The database --------------------------------------------------------------------------------------------

    def sql(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own, without a time-out; its rows, if it gives any."""
        with psycopg.connect(self.stores.database_url, autocommit=True, application_name="bench") as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def clear_messages(self) -> None:
        """No message, no campaign, and everybody reachable again; then a checkpoint, so that each run starts alike."""
        self.sql(f"TRUNCATE {MESSAGE_TABLES} CASCADE")
        self.sql("UPDATE billing_messagequota SET reserved = 0, forgotten_total = sent_total")
        self.restore_subscriptions()

    def restore_subscriptions(self) -> None:
        changed = self.sql(
            "WITH changed AS (UPDATE subscriptions_subscription SET subscription_status = 1, unsubscribed_at = NULL"
            " WHERE subscription_status <= 0 RETURNING 1) SELECT count(*) FROM changed"
        )
        if changed[0][0]:
            seeding.vacuum(self.stores.database_url, "subscriptions_subscription")
        self.sql("CHECKPOINT")

    @cached_property
    def postmaster(self) -> int:
        """PostgreSQL's first process, parent of every backend. Raises when the server is on another machine."""
        with psycopg.connect(self.stores.database_url, application_name="bench") as connection:
            backend = connection.info.backend_pid
            if name_of(backend) != "postgres":
                raise StackError("PostgreSQL runs where its processes cannot be seen: its CPU cannot be counted")
            return parent_of(backend)

    def redis_cpu_s(self) -> float:
        with closing(redis.Redis.from_url(self.stores.redis_url)) as client:
            info = client.info("cpu")
            return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    # --- Audiences and fleets ------------------------------------------------------------------------------------

    @cached_property
    def providers(self) -> Providers:
        providers = Providers(self.supervisor, self.folder / "ca")
        providers.start_token_endpoint(self._fcm_account)
        return providers

    @cached_property
    def _fcm_account(self) -> Any:
        return make_fcm_account("bench", "https://oauth2.googleapis.com/token")

    @cached_property
    def _apns_key(self) -> Any:
        return make_apns_key([seeding.BUNDLE_ID])

    def application(self, recipients: int, name: str = "one") -> Application:
        """The application `name` whose whole audience is `recipients`; made on first use."""
        key = (name, recipients)
        if key not in self._applications:
            began = time.monotonic()
            made = seeding.make_application(f"{name} {recipients}", self._apns_key, self._fcm_account)
            seeding.add_subscriptions(self.stores.database_url, made, recipients)
            self._applications[key] = made
            self.say(f"{recipients:,} subscriptions made in {time.monotonic() - began:.1f} s")
        return self._applications[key]

    def fleet(
        self,
        behaviour: Behaviour | None = None,
        *,
        workers: int | None = None,
        env: Mapping[str, str] | None = None,
        providers: Providers | StandIn | None = None,
    ) -> Fleet:
        """Workers, and push's providers unless others are given."""
        self.flush_redis()
        count = self.options.workers if workers is None else workers
        providers = providers or self.providers
        return Fleet(self.supervisor, providers, self.stores.redis_url, behaviour=behaviour, workers=count, env=env)

    def flush_redis(self) -> None:
        """Forget queues and workers of the case before; the mark that this Redis is ours stays."""
        with closing(redis.Redis.from_url(self.stores.redis_url)) as client:
            for key in client.scan_iter(count=1_000):
                if key != b"automata:bench":
                    client.delete(key)

    def forget_queued(self) -> None:
        """Batches that wait in the broker for workers that are not there."""
        with closing(redis.Redis.from_url(self.stores.redis_url)) as client:
            client.delete("push.low", "push.medium")

    # --- A send --------------------------------------------------------------------------------------------------

    def warm_up(self, fleet: Fleet) -> None:
        """A small campaign, so that every worker has its imports, database and provider connections: as in service."""
        self.send(fleet, [self.application(min(WARM_UP_RECIPIENTS, self.options.recipients), "warm-up")])

    def send(
        self,
        fleet: Fleet,
        applications: Sequence[Application],
        *,
        personalised: bool = False,
        keep: bool = False,
        channel: str = "push",
        content: Mapping[str, Any] | None = None,
    ) -> Run:
        """A campaign to everybody of each application, launched one after the other at once; checked and measured.

        On a channel that is not push no provider is asked how many it has answered. `keep` leaves the messages that
        are there. Raises `StackError` when anything is missing at the end.
        """
        if keep:
            self.restore_subscriptions()
        else:
            self.clear_messages()
        campaigns = [
            make_campaign(application, personalised=personalised, channel=channel, content=content)
            for application in applications
        ]
        others = machine.wait_for_rest(self.options.wait)
        load, answered = machine.load(), fleet.providers.answered()
        before = written(self.stores.database_url)
        meter = Meter(
            {**fleet.groups(), "PostgreSQL": [self.postmaster]},
            more={"Redis": self.redis_cpu_s},
            database=self.stores.database_url,
        )
        with meter:
            began = time.monotonic()
            for campaign in campaigns:
                campaign_launch(campaign=campaign)
            self._wait_until_committed(campaigns)
            seconds = time.monotonic() - began
        wrote = written(self.stores.database_url).since(before)
        recipients = self._check(campaigns, fleet.providers.answered() - answered if channel == "push" else None)
        return Run(recipients, seconds, meter.usage, wrote, fleet.peak_rss_mb(), load, others)

    def _wait_until_committed(self, campaigns: Sequence[MessageCampaign]) -> None:
        """Ask the campaigns' own counters, which each slice moves in the transaction of its results and events."""
        ids = [campaign.pk for campaign in campaigns]
        give_up_at = time.monotonic() + 120 + self.options.subscriptions / SLOWEST_PER_S
        with psycopg.connect(self.stores.database_url, autocommit=True, application_name="bench") as connection:
            while True:
                row = connection.execute(_ALL_COUNTED, [ids]).fetchone()
                if row and row[0] and not connection.execute(_OPEN_BATCH, [ids]).fetchone():
                    return
                for child in self.supervisor.ended():
                    raise StackError(f"{child.spec.name} ended in the middle (see {child.log})")
                if time.monotonic() > give_up_at:
                    raise StackError(f"the campaign does not end (see {self.supervisor.logs})")
                time.sleep(POLL_S)

    def _check(self, campaigns: Sequence[MessageCampaign], answered: int | None) -> int:
        """How many messages have their result. Raises `StackError` unless rows, events and answers agree."""
        ids = [campaign.pk for campaign in campaigns]
        ((total, settled),) = self.sql(
            "SELECT sum(total_recipients), sum(successful_count + failed_count)"
            " FROM campaigns_messagecampaign WHERE id = ANY(%s)",
            [ids],
        )
        ((messages, events),) = self.sql(_ROWS, [ids])
        if not total == settled == messages <= min(events, messages if answered is None else answered):
            raise StackError(
                f"rows do not agree: {total} recipients, {settled} counted, {messages} final messages, {events} events,"
                f" {answered} answers of the providers"
            )
        return int(messages)


_ALL_COUNTED = """
    SELECT bool_and(fanout_done_at IS NOT NULL AND successful_count + failed_count >= total_recipients)
    FROM campaigns_messagecampaign WHERE id = ANY(%s)
"""
_OPEN_BATCH = """
    SELECT 1 FROM messaging_dispatchbatch b JOIN campaigns_messagecampaign c ON c.dispatch_id = b.dispatch_id
    WHERE c.id = ANY(%s) AND b.state <> 'done' LIMIT 1
"""
# All messages of a batch lie in a range of the key: the base, and 24 bits. So do their events.
_ROWS = """
    SELECT coalesce(sum(m.n), 0), coalesce(sum(e.n), 0)
    FROM messaging_dispatchbatch b JOIN campaigns_messagecampaign c ON c.dispatch_id = b.dispatch_id
    CROSS JOIN LATERAL (SELECT overlay(b.first_id::text PLACING 'ffffff' FROM 31)::uuid AS last_id) r
    CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM messaging_message
        WHERE id BETWEEN b.first_id AND r.last_id AND status IN ('successful', 'failed')
    ) m
    CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM messaging_messageevent WHERE id BETWEEN b.first_id AND r.last_id
    ) e
    WHERE c.id = ANY(%s)
"""


def make_campaign(
    application: Application,
    *,
    personalised: bool = False,
    criteria: dict[str, Any] | None = None,
    channel: str = "push",
    content: Mapping[str, Any] | None = None,
) -> MessageCampaign:
    """A draft to `criteria`, everybody unless told: the same text for all (`PLAIN` unless told), or the template
    `personal`."""
    fields: dict[str, Any] = dict(PLAIN if content is None else content)
    if personalised:
        template = MessageTemplate.objects.for_application(application).get(name="personal")
        fields = {"template_id": template.pk}
    return campaign_create(
        application=application, name="bench", targeting_criteria=criteria or {}, channel_type=channel, **fields
    )
