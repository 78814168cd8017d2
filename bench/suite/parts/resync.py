"""A replica that missed many writes comes back while buys go on."""

import time

from ..figure import Figure, at_most, ms
from ..store import Store, numbers

ABOUT = "a replica that missed 100,000 writes comes back while buys go on"
TITLE = "A replica that missed 100,000 writes"
PACKAGES = {}
HOW = """\
First what the store can do: buys from 64 connections in a closed loop. All that follows is an open loop of buys at half
of that rate, also 64 connections: latencies count from when a buy was due, so a stall is charged for all who waited.
*usual* is with both replicas. Then catalog-2 is stopped, 100,000 buys are made without it, and it is started again while
the open loop runs. The time counts from the command that starts the process until `/status` shows it as a member; the
load ends then, so *resync* is the latency of the buys during that time."""

MISSED = 100_000
CONNECTIONS = 64
SECONDS_MAX = 5
P99_RATIO_MAX = 2.0
NODE = "catalog-2"


def measure(bench):
    duration = ("--duration", str(bench.seconds))
    with Store(bench) as store:
        most = numbers(store.load("buy=1", CONNECTIONS, *duration), "buy")
        rate = ("--rate", str(int(most["per_second"] / 2)))
        bench.say(f"{most['per_second']:.0f} buys a second at most")
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
    bench.say(f"a member after {took:.2f} s; usual {usual}; during {during}")
    return {"most": most, "usual": usual, "missed": missed["answered"], "during": during, "seconds": took}


def figures(raw):
    usual, during = raw["usual"]["p99_us"], raw["during"]["p99_us"]
    ratio = during / usual
    return [
        at_most(f"a replica that missed {MISSED:,} writes: a member after", raw["seconds"], SECONDS_MAX, "s"),
        Figure(
            "p99 of buys during its resync / usually",
            f"≤ {P99_RATIO_MAX:g}",
            f"{ms(during)} / {ms(usual)}",
            f"{ratio:.2f}",
            ratio <= P99_RATIO_MAX,
        ),
    ]


def table(raw):
    lines = ["| when | buys a second | p50 | p99 | failed |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, key in (("closed loop", "most"), ("usual", "usual"), ("resync", "during")):
        one = raw[key]
        lines.append(
            f"| {name} | {one['per_second']:,.0f} | {ms(one['p50_us'])} | {ms(one['p99_us'])} | {one['errors']} |"
        )
    lines += ["", f"Longest gap between two buys during the resync: {raw['during']['longest_gap_ms']} ms."]
    return "\n".join(lines)
