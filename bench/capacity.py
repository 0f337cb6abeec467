"""From measured costs to a plan: `python -m bench.capacity FILE` with the FILE of `./run bench pipeline --json FILE`.

A plan is arithmetic: CPU, WAL and table bytes of a message times the load, over a share of what a machine has. It says
how many nodes, what PostgreSQL, Redis and storage, and which of them gives first. `./run bench capacity` measures the
plain campaign before, unless another part has done so in the same run. Costs are of the machine they were measured on:
`--speed` says how much faster a core of the planned machines is. That costs stay the same on many cores is assumed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from apps.campaigns.management.commands.citus_schema import DISTRIBUTED
from bench.report import Report

if TYPE_CHECKING:
    from bench.harness import Bench

PART = "capacity"
CASE = "plain"
PEAKS = (10_000, 100_000, 1_000_000)
MONTH_DAYS = 30
MONTHS_AHEAD = 3
"""`PARTITION_MONTHS_AHEAD`."""
CONNECTIONS_PER_PROCESS = 2
"""A sending process sends on one and records on the other (docs/operations.md, Connections and time-outs)."""
CONNECTIONS_BESIDE = 14
"""Of a node's web processes (8), HIGH worker (4), control worker and beat."""
NODES_LEAST = 2
"""So that one may fail."""
FCM_QUOTA_PER_S = 10_000
"""600,000 a minute for a project, unless Google raises it."""
TABLE_MAX_BYTES = 32 * 2**40
"""Of a PostgreSQL table, which a partition is."""
DISTRIBUTE = "distribute by application"


class CapacityError(Exception):
    """The figures do not allow a plan; the message is one line."""


@dataclass(frozen=True)
class Costs:
    """Of one message of a plain campaign, launch until recorded."""

    nodes_us: float
    """CPU of workers, control worker and beat."""
    postgres_us: float
    redis_us: float
    wal_bytes: float
    table_bytes: float
    """Of the message and its events on the disk, indexes and free space of their pages with them."""
    commits: float
    """Transactions that write, a fraction of one: each carries many messages."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0 and field.name != "redis_us":
                raise CapacityError(
                    f"{field.name} was measured as {getattr(self, field.name)}: nothing follows from it"
                )

    @classmethod
    def read(cls, figures: Iterable[Mapping[str, Any]]) -> Self:
        """From the figures of a run: of `pipeline`, or what another part made of it beside its own; the last of them.

        Raises `CapacityError` for what is missing.
        """
        found: dict[str, float] = {}
        for figure in figures:
            if figure["case"] == CASE and figure["part"].split(": ")[-1] == "pipeline":
                found[figure["metric"]] = figure["value"]
        try:
            return cls(
                nodes_us=found["workers"] + found["control"],
                postgres_us=found["PostgreSQL"],
                redis_us=found["Redis"],
                wal_bytes=found["WAL"],
                table_bytes=found["tables"],
                commits=found["commits"] / 1_000,
            )
        except KeyError as missing:
            raise CapacityError(f"there is no figure {missing} of the case {CASE!r} of pipeline") from missing

    def faster(self, speed: float) -> Costs:
        """On cores that are `speed` times as fast."""
        cpu = {name: getattr(self, name) / speed for name in ("nodes_us", "postgres_us", "redis_us")}
        return Costs(**cpu, wal_bytes=self.wal_bytes, table_bytes=self.table_bytes, commits=self.commits)


class Load(NamedTuple):
    peak_per_s: float
    per_day: float
    retention_days: int


@dataclass(frozen=True)
class Means:
    """What there is to build with. The defaults are a choice, not a measurement."""

    node_cores: int = 8
    primary_cores: int = 32
    """Of the largest PostgreSQL server."""
    use: float = 0.6
    """Share of CPU that is planned with: the rest is for bursts, vacuum, replicas and a node that is away."""
    wal_mb_s: float = 400.0
    """That a primary's disk and its replicas take for hours."""
    flushes_per_s: float = 2_000.0
    """WAL flushes of a primary's disk, if each commit had one of its own."""
    connections: int = 500
    """`max_connections` of a primary, less what administration needs."""
    storage_tb: float = 64.0
    """Of a primary: the largest volume that is easily had."""
    fcm_share: float = 0.5
    """Of the messages; in one project."""


class Limit(NamedTuple):
    """The most messages a second that something carries before a second one of it is needed."""

    name: str
    per_s: float
    remedy: str


class Plan(NamedTuple):
    """Units stand in `UNITS`."""

    nodes: int
    node_cores: int
    connections: int
    primaries: int
    primary_cores: int
    wal: float
    commits: float
    redis: int
    stored_a_day: float
    stored: float
    partitions: int
    month_rows: float
    month_bytes: float


UNITS = {
    "node_cores": "each",
    "connections": "in all",
    "primary_cores": "each",
    "wal": "MB/s",
    "commits": "/s",
    "stored_a_day": "GB",
    "stored": "TB",
    "partitions": "a table",
    "month_rows": "millions",
    "month_bytes": "GB",
}


# --- The arithmetic ------------------------------------------------------------------------------------------------


def carried(cores: float, cost_us: float, use: float) -> float:
    """Messages a second that so many cores carry at this use."""
    return cores * use * 1e6 / cost_us if cost_us else inf


def limits(costs: Costs, load: Load, means: Means) -> list[Limit]:
    """What gives, the first one first."""
    return sorted([*_of_primary(costs, load, means), *_others(costs, load, means)], key=lambda limit: limit.per_s)


def _of_primary(costs: Costs, load: Load, means: Means) -> list[Limit]:
    cpu = carried(means.primary_cores, costs.postgres_us, means.use)
    storage = means.storage_tb * 1e12 / kept_days(load) / _bytes_a_day_each(costs, load)
    node = carried(means.node_cores, costs.nodes_us, means.use)
    nodes = means.connections // node_connections(means)
    return [
        Limit(f"CPU of a PostgreSQL primary, {means.primary_cores} cores", cpu, DISTRIBUTE),
        Limit(f"WAL of a primary, {means.wal_mb_s:,.0f} MB/s", means.wal_mb_s * 1e6 / costs.wal_bytes, DISTRIBUTE),
        Limit(
            f"WAL flushes of a primary, {means.flushes_per_s:,.0f}/s", means.flushes_per_s / costs.commits, DISTRIBUTE
        ),
        Limit(f"storage of a primary, {means.storage_tb:,.0f} TB", storage, f"keep less, or {DISTRIBUTE}"),
        Limit(
            f"connections of a primary, {means.connections:,}", node * nodes, f"{DISTRIBUTE}, or pool them (not tried)"
        ),
    ]


def _others(costs: Costs, load: Load, means: Means) -> list[Limit]:
    fcm = FCM_QUOTA_PER_S / means.fcm_share if means.fcm_share else inf
    month = TABLE_MAX_BYTES / MONTH_DAYS / _bytes_a_day_each(costs, load)  # somewhat more: indexes are counted in it
    return [
        Limit("FCM's default quota of a project", fcm, "ask Google for more, or use several projects"),
        Limit("a Redis, which uses one core", carried(1, costs.redis_us, means.use), "one for each group of nodes"),
        Limit("a month in one table, 32 TiB", month, "Citus' shards, or shorter partitions"),
    ]


def _bytes_a_day_each(costs: Costs, load: Load) -> float:
    """Stored in a day for each message a second at the peak."""
    return costs.table_bytes * load.per_day / load.peak_per_s


def kept_days(load: Load) -> int:
    """Days that are on the disk at most: a month is dropped when its last day is no longer kept."""
    return (ceil(load.retention_days / MONTH_DAYS) + 1) * MONTH_DAYS


def node_connections(means: Means) -> int:
    """Connections to PostgreSQL of a node with one sending process for each core."""
    return means.node_cores * CONNECTIONS_PER_PROCESS + CONNECTIONS_BESIDE


def primary_carries(costs: Costs, load: Load, means: Means) -> float:
    """Messages a second of one primary; and of one application at most, as its rows lie on one."""
    return min(limit.per_s for limit in _of_primary(costs, load, means))


def plan(costs: Costs, load: Load, means: Means) -> Plan:
    nodes = max(NODES_LEAST, ceil(load.peak_per_s / carried(means.node_cores, costs.nodes_us, means.use)))
    primaries = ceil(load.peak_per_s / primary_carries(costs, load, means))
    cores = load.peak_per_s * costs.postgres_us / 1e6 / means.use
    a_day = load.per_day * costs.table_bytes
    return Plan(
        nodes=nodes,
        node_cores=means.node_cores,
        connections=nodes * node_connections(means),
        primaries=primaries,
        primary_cores=ceil(cores / primaries),
        wal=load.peak_per_s * costs.wal_bytes / 1e6,
        commits=load.peak_per_s * costs.commits,
        redis=max(1, ceil(load.peak_per_s / carried(1, costs.redis_us, means.use))),
        stored_a_day=a_day / 1e9,
        stored=a_day * kept_days(load) / 1e12,
        partitions=kept_days(load) // MONTH_DAYS + MONTHS_AHEAD,
        month_rows=load.per_day * MONTH_DAYS / 1e6,
        month_bytes=a_day * MONTH_DAYS / 1e9,
    )


# --- What is said about it -----------------------------------------------------------------------------------------


def add_plans(report: Report, costs: Costs, loads: Sequence[Load], means: Means) -> list[str]:
    """The plans as figures of the report; and what they mean, a line each."""
    lines = []
    for load in loads:
        case = f"{load.peak_per_s:,.0f}/s"
        found = plan(costs, load, means)
        for metric, value in found._asdict().items():
            report.add(PART, case, metric.replace("_", " "), value, UNITS.get(metric, ""))
        given = [limit for limit in limits(costs, load, means) if limit.per_s < load.peak_per_s]
        lines.append(f"{case}, {load.per_day:,.0f} a day kept for {load.retention_days} days: {_first(given)}")
        lines += [f"  at {limit.per_s:,.0f}/s gives {limit.name}: {limit.remedy}" for limit in given]
        if found.primaries > 1:
            each = primary_carries(costs, load, means)
            lines += [
                f"  {found.primaries} primaries: one application stays on one, so {each:,.0f}/s is the most for one"
            ]
    return [*lines, *CITUS]


def _first(given: Sequence[Limit]) -> str:
    return f"{given[0].name} gives first" if given else "one of each is enough"


CITUS = (
    "more than one primary is Citus, with a coordinator before the nodes:",
    f"  distributed by application_id: {', '.join(DISTRIBUTED)}",
    "  copied to each node: the other tables (applications, keys, credentials, templates)",
    "  manage.py citus_schema puts application_id into their primary, unique and foreign keys, and prints the calls",
    "  hot queries name it already (tests/messaging/test_hot_queries.py); sweeps ask every node",
)


def default_load(peak_per_s: float, *, per_day: float | None = None, retention_days: int = 90) -> Load:
    """A day has a tenth of what it would have at its peak throughout, unless told."""
    return Load(peak_per_s, peak_per_s * 8_640 if per_day is None else per_day, retention_days)


def run(bench: Bench) -> None:
    def costs() -> Costs:
        return Costs.read([figure._asdict() for figure in bench.report.figures])

    try:
        known = costs()
    except CapacityError:  # no part before this one has measured them
        _measure(bench)
        known = costs()
    for line in add_plans(bench.report, known, [default_load(peak) for peak in PEAKS], Means()):
        bench.say(line)


def _measure(bench: Bench) -> None:
    from bench.pipeline import add_runs, told

    application = bench.application(bench.options.recipients)
    runs = []
    with bench.fleet() as fleet:
        bench.warm_up(fleet)
        for _ in range(bench.options.runs):
            runs.append(bench.send(fleet, [application]))
            bench.say(f"{CASE}: {told(runs[-1])}")
    add_runs(bench, f"{PART}: pipeline", CASE, runs)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("file", type=Path, help="of ./run bench pipeline --json; bench/measured.json is one")
    parser.add_argument("--peak", type=float, nargs="+", default=PEAKS, metavar="N", help="messages a second")
    parser.add_argument("--per-day", type=float, metavar="N", help="messages a day (a tenth of a day at the peak)")
    parser.add_argument("--retention-days", type=int, default=90, metavar="N", help="messages are kept (90)")
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="of a core, against the measured one (1)")
    for field in fields(Means):
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=type(field.default), default=field.default, metavar="X", help=f"{field.default}")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        figures = json.loads(options.file.read_text())
        costs = Costs.read(figures).faster(options.speed)
    except (OSError, ValueError, TypeError, KeyError, CapacityError) as error:
        print(f"capacity: {options.file} cannot be used: {error}", file=sys.stderr)
        return 1
    machine = {figure["metric"]: figure["value"] for figure in figures if figure["part"] == "machine"}
    print(f"measured on {machine.get('cpu', 'a machine')}, {machine.get('cores', '?')} cores: {costs}\n")
    means = Means(**{field.name: getattr(options, field.name) for field in fields(Means)})
    loads = [
        default_load(peak, per_day=options.per_day, retention_days=options.retention_days) for peak in options.peak
    ]
    report = Report()
    lines = add_plans(report, costs, loads, means)
    print("\n".join([report.table(PART), "", *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
