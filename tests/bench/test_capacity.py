"""The plan's arithmetic, by costs from which one can reckon in one's head."""

import json

import pytest

from bench.capacity import (
    CapacityError,
    Costs,
    Load,
    Means,
    default_load,
    kept_days,
    limits,
    main,
    node_connections,
    plan,
    primary_carries,
)
from tools.supervisor import ROOT

COSTS = Costs(nodes_us=48, postgres_us=30, redis_us=1, wal_bytes=1_000, table_bytes=500, commits=0.004)
ROOMY = Means(storage_tb=10_000)
MEASURED = {
    "workers": 44.0,
    "control": 4.0,
    "PostgreSQL": 30.0,
    "Redis": 1.0,
    "WAL": 1_000,
    "tables": 500,
    "commits": 4,
}


def figures(part="pipeline", **changes):
    values = {**MEASURED, "rate": 20_000.0, **changes}
    rows = [{"part": part, "case": "plain", "metric": name, "value": value} for name, value in values.items()]
    other = {"part": part, "case": "personalised", "metric": "workers", "value": 99.0}
    return [*rows, other, {"part": "machine", "case": "machine", "metric": "cpu", "value": "a processor"}]


@pytest.mark.parametrize("part", ["pipeline", "limit: pipeline", "capacity: pipeline"])
def test_costs_are_read_from_the_figures_of_the_plain_campaign(part):
    assert Costs.read(figures(part)) == COSTS


def test_a_figure_that_is_missing_is_named():
    rows = [row for row in figures() if row["metric"] != "WAL"]
    with pytest.raises(CapacityError, match="'WAL'"):
        Costs.read(rows)


def test_nothing_follows_from_a_cost_of_nothing():
    with pytest.raises(CapacityError, match="wal_bytes"):
        Costs.read(figures(WAL=0))


def test_nodes_carry_what_their_cores_allow_at_the_planned_use():
    # 8 cores x 0.6 at 48 µs: 100,000 messages/s a node.
    assert plan(COSTS, default_load(1_000_000), ROOMY).nodes == 10
    assert plan(COSTS, default_load(1_000_001), ROOMY).nodes == 11
    assert plan(COSTS, default_load(10), ROOMY).nodes == 2, "one may fail"


def test_every_node_keeps_within_fifty_connections():
    assert node_connections(Means()) == 2 * 8 + 14 <= 50
    assert plan(COSTS, default_load(1_000_000), ROOMY).connections == 300


def test_primaries_follow_from_the_first_thing_that_gives():
    # CPU: 32 x 0.6 at 30 µs, 640,000/s. WAL: 400 MB/s, 400,000/s. Flushes: 2,000/s at 0.004, 500,000/s.
    load = default_load(1_000_000)
    assert primary_carries(COSTS, load, ROOMY) == pytest.approx(400_000)
    found = plan(COSTS, load, ROOMY)
    assert (found.primaries, found.primary_cores) == (3, 17), "50 cores in all"
    assert (found.wal, found.commits) == (pytest.approx(1_000), pytest.approx(4_000))
    assert plan(COSTS, load, Means(storage_tb=10_000, wal_mb_s=10_000, flushes_per_s=10_000)).primaries == 2


def test_storage_is_what_is_kept_at_most():
    load = Load(peak_per_s=10_000, per_day=100e6, retention_days=90)
    found = plan(COSTS, load, Means())
    assert kept_days(load) == 120, "a month is dropped when its last day is no longer kept"
    assert (found.stored_a_day, found.stored) == (pytest.approx(50), pytest.approx(6))
    assert (found.month_rows, found.month_bytes) == (pytest.approx(3_000), pytest.approx(1_500))
    assert found.partitions == 4 + 3, "and three made ahead"


def test_less_storage_means_more_primaries():
    load = Load(peak_per_s=10_000, per_day=100e6, retention_days=90)
    assert [plan(COSTS, load, Means(storage_tb=tb)).primaries for tb in (6.1, 3.1, 2.1)] == [1, 2, 3]


def test_what_gives_comes_in_order_with_its_rate():
    found = limits(COSTS, default_load(1_000_000), Means())
    assert [limit.per_s for limit in found] == sorted(limit.per_s for limit in found)
    rates = {limit.name.split(",")[0]: limit.per_s for limit in found}
    assert rates["FCM's default quota of a project"] == 20_000, "half of the messages are Android's"
    assert rates["a Redis"] == pytest.approx(600_000)
    assert rates["storage of a primary"] == pytest.approx(64e12 / 120 / 500 / 8_640)
    assert rates["connections of a primary"] == pytest.approx(16 * 100_000)


def test_without_android_and_redis_neither_gives():
    costs = Costs.read(figures(Redis=0))
    names = {limit.name for limit in limits(costs, default_load(1e9), Means(fcm_share=0)) if limit.per_s < 1e9}
    assert not any("FCM" in name or "Redis" in name for name in names)
    assert plan(costs, default_load(1_000_000), Means()).redis == 1


def test_faster_cores_take_less_cpu_and_write_as_much():
    twice = COSTS.faster(2)
    assert (twice.nodes_us, twice.postgres_us, twice.redis_us) == (24, 15, 0.5)
    assert (twice.wal_bytes, twice.table_bytes, twice.commits) == (1_000, 500, 0.004)


def test_the_command_prints_a_line_for_each_load_and_what_gives(tmp_path, capsys):
    file = tmp_path / "figures.json"
    file.write_text(json.dumps(figures()))
    assert main([str(file), "--peak", "10000", "2000000", "--retention-days", "30", "--per-day", "1000000"]) == 0
    output = capsys.readouterr().out
    assert "measured on a processor" in output
    assert "10,000/s, 1,000,000 a day kept for 30 days: one of each is enough" in output
    assert "at 400,000/s gives WAL of a primary, 400 MB/s: distribute by application" in output
    assert "5 primaries: one application stays on one, so 400,000/s is the most for one" in output


def test_the_figures_in_the_repository_make_a_plan(capsys):
    assert main([str(ROOT / "bench" / "measured.json")]) == 0
    assert "1,000,000/s" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{}", "[1]", "[]"])
def test_a_file_that_is_no_list_of_figures_is_refused_in_one_line(tmp_path, capsys, content):
    file = tmp_path / "figures.json"
    file.write_text(content)
    assert main([str(file)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
