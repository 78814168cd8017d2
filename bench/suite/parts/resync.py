"""A replica that missed many writes comes back while buys go on."""

import statistics
import time

from ..figure import Figure, at_most, is_zero, ms
from ..store import Store, numbers

ABOUT = "a replica that missed 100,000 writes comes back while buys go on"
TITLE = "A replica that missed 100,000 writes"
PACKAGES = {}
HOW = """\
First what the store can do: buys from 64 connections in a closed loop. All that follows is an open loop of buys at half
of that rate, also 64 connections: latencies count from when a buy was due, so a stall is charged for all who waited.
*usual* is with both replicas, after as long a load of the same kind that is not counted. Then catalog-2 is stopped,
100,000 buys are made without it, and it is started again while the open loop runs. The time counts from the command
that starts the process until `/status` shows it as a member; the load began half a second before and ends then, so
*resync* is the latency of the buys during that time. Each round has a store of its own; the figures are the longest
time and the median of the ratios."""

MISSED = 100_000
CONNECTIONS = 64
SECONDS_MAX = 5
P99_RATIO_MAX = 2.0
NODE = "catalog-2"


def measure(bench):
    rounds = []
    for number in range(bench.rounds):
        rounds.append(one_round(bench))
        bench.say(f"round {number + 1} of {bench.rounds}: {rounds[-1]}")
    return rounds


def one_round(bench):
    duration = ("--duration", str(bench.seconds))
    with Store(bench) as store:
        most = numbers(store.load("buy=1", CONNECTIONS, *duration), "buy")
        rate = ("--rate", str(int(most["per_second"] / 2)))
        bench.say(f"{most['per_second']:.0f} buys a second at most")
        # What the closed loop has left to be done, such as a checkpoint, is not usual.
        store.load("buy=1", CONNECTIONS, *duration, *rate)
        usual = numbers(store.load("buy=1", CONNECTIONS, *duration, *rate), "buy")
        store.sentinel("stop", NODE)
        missed = store.load("buy=1", CONNECTIONS, "--requests", str(MISSED))
        bench.say(f"{NODE} has missed {missed['answered']} buys")
        with store.begin_load("buy=1", CONNECTIONS, "--duration", "120", *rate) as load:
            time.sleep(0.5)
            started = time.monotonic()
            store.sentinel("start", NODE)
            store.when_member(NODE)
            took = time.monotonic() - started
            report = load.stop()
    during = numbers(report, "buy") | {"longest_gap_ms": report["calls"]["buy"]["longest_gap_ms"]}
    return {"most": most, "usual": usual, "missed": missed["answered"], "during": during, "seconds": took}


def figures(raw):
    ratio = statistics.median(one["during"]["p99_us"] / one["usual"]["p99_us"] for one in raw)
    longest = max(one["seconds"] for one in raw)
    usual, during = (statistics.median(one[key]["p99_us"] for one in raw) for key in ("usual", "during"))
    return [
        at_most(f"a replica that missed {MISSED:,} writes: a member after", longest, SECONDS_MAX, "s"),
        Figure(
            "p99 of buys during its resync / usually",
            f"≤ {P99_RATIO_MAX:g}",
            f"{ms(during)} / {ms(usual)}",
            f"{ratio:.2f}",
            ratio <= P99_RATIO_MAX,
        ),
        is_zero("buys that failed during its resync", sum(one["during"]["errors"] for one in raw)),
    ]


def table(raw):
    lines = ["| round | when | buys a second | p50 | p99 | failed | a member after | longest gap |"]
    lines.append("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for number, one in enumerate(raw, 1):
        for name, key in (("closed loop", "most"), ("usual", "usual"), ("resync", "during")):
            these = one[key]
            end = f"{one['seconds']:.2f} s | {these['longest_gap_ms']} ms" if key == "during" else "|"
            lines.append(
                f"| {number} | {name} | {these['per_second']:,.0f} | {ms(these['p50_us'])} | {ms(these['p99_us'])} "
                f"| {these['errors']} | {end} |"
            )
    return "\n".join(lines)
