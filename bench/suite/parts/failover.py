"""What clients notice when a replica is killed, or hangs, under load."""

import signal
import time

from ..bench import wait_until
from ..figure import at_most, is_zero
from ..processes import kill
from ..store import Store

ABOUT = "kill -9 and SIGSTOP of a replica under load"
TITLE = "A replica is killed, or hangs, under load"
PACKAGES = {}
HOW = """\
Two loads at once, closed loop, on a store with 1,000 books and default timeouts (`write_ms = 1000`): 16 connections that
buy, 16 that read (nine lookups to one search; the buys keep dropping what is cached, so the replicas are asked all the
time). *kill*: SIGKILL for catalog-2, which the sentinel starts again; once it is a member again, SIGKILL for catalog-1.
*stop*: SIGSTOP for catalog-2, SIGCONT three seconds later. The gap is the longest time without a successful buy on any
connection, to a millisecond. The worst round counts."""

CONNECTIONS = 16
READS = "lookup=9,search=1"
GAP_KILL_MS = 250
# The write timeout, one second, and as much again as a kill may take.
GAP_STOP_MS = 1250
BEFORE_S = 1.0
STOPPED_S = 3.0
# The load runs until it is stopped, which is well before this.
LONG = ("--duration", "600")


def measure(bench):
    return {
        "kill": [once(bench, "kill", number) for number in range(bench.rounds)],
        "stop": [once(bench, "stop", number) for number in range(bench.rounds)],
    }


def once(bench, what, number):
    with Store(bench) as store, store.begin_load("buy=1", CONNECTIONS, *LONG) as buys:
        with store.begin_load(READS, CONNECTIONS, *LONG) as reads:
            # What a load does before anything happens is the ground that it is compared with.
            time.sleep(BEFORE_S)
            started = time.monotonic()
            {"kill": kill_both, "stop": stop_and_go_on}[what](store)
            took = time.monotonic() - started
            time.sleep(BEFORE_S)
            buys, reads = buys.stop(), reads.stop()
    result = {
        "failed_reads": sum(reads["errors"].values()),
        "failed_buys": sum(buys["errors"].values()),
        "gap_ms": buys["calls"]["buy"]["longest_gap_ms"],
        "read_gap_ms": reads["calls"]["lookup"]["longest_gap_ms"],
        "reads_per_second": reads["per_second"],
        "buys_per_second": buys["per_second"],
        "healed_s": took,
        "errors": {"reads": reads["errors"], "buys": buys["errors"]},
    }
    bench.say(f"{what}, round {number + 1} of {bench.rounds}: {result}")
    return result


def kill_both(store):
    for node in ("catalog-2", "catalog-1"):
        before = store.status()["shards"][0]["epoch"]
        kill(store.pid(node), signal.SIGKILL)
        # Not merely a member still, because nobody has noticed yet.
        when_again_member(store, node, before)


def stop_and_go_on(store):
    before = store.status()["shards"][0]["epoch"]
    pid = store.pid("catalog-2")
    kill(pid, signal.SIGSTOP)
    try:
        time.sleep(STOPPED_S)
    finally:
        kill(pid, signal.SIGCONT)
    when_again_member(store, "catalog-2", before)


def when_again_member(store, node, before):
    def is_again():
        shard = store.status()["shards"][0]
        return shard["epoch"] > before and node in shard["members"]

    wait_until(f"{node} to be a member again", is_again, 60.0)


def figures(raw):
    found = []
    for what, name, gap_max in (("kill", "kill -9", GAP_KILL_MS), ("stop", "SIGSTOP", GAP_STOP_MS)):
        found.append(is_zero(f"{name} of a replica: failed reads", worst(raw[what], "failed_reads")))
        title = f"{name} of a replica: longest gap between two buys"
        found.append(at_most(title, worst(raw[what], "gap_ms"), gap_max, "ms"))
    return found


def worst(rounds, key):
    return max(result[key] for result in rounds)


def table(raw):
    lines = ["| what | round | reads a second | failed | longest gap | buys a second | failed | longest gap | healed after |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for what, rounds in raw.items():
        for number, one in enumerate(rounds, 1):
            lines.append(
                f"| {what} | {number} | {one['reads_per_second']:,.0f} | {one['failed_reads']} | {one['read_gap_ms']} ms "
                f"| {one['buys_per_second']:,.0f} | {one['failed_buys']} | {one['gap_ms']} ms | {one['healed_s']:.2f} s |"
            )
    return "\n".join(lines)
