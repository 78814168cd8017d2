"""Ten thousand reads and ten thousand buys on a store that has just started."""

from ..bench import Failure, middle
from ..figure import at_most
from ..store import Store, numbers

ABOUT = "10,000 reads and 10,000 buys from 64 connections"
TITLE = "10,000 reads and 10,000 buys"
PACKAGES = {}
HOW = """\
`bookends load --requests 10000 --connections 64` with lookups, then with buys, on a store with 1,000 books that has just
started: its cache is empty. A new store for each round; the medians are given."""

REQUESTS = 10_000
CONNECTIONS = 64
SECONDS_MAX = 2


def measure(bench):
    found = {"lookup": [], "buy": []}
    for number in range(bench.rounds):
        with Store(bench) as store:
            for call, rounds in found.items():
                report = store.load(f"{call}=1", CONNECTIONS, "--requests", str(REQUESTS))
                result = numbers(report, call)
                if result["errors"]:
                    raise Failure(f"{result['errors']} of {REQUESTS} requests failed: {report['errors']}")
                rounds.append(result)
                bench.say(f"round {number + 1} of {bench.rounds}, {call}: {result['seconds']:.3f} s")
    return found


def figures(raw):
    names = {"lookup": "reads", "buy": "buys"}
    return [
        at_most(f"{REQUESTS:,} {name} from {CONNECTIONS} connections", middle(raw[call], "seconds"), SECONDS_MAX, "s")
        for call, name in names.items()
    ]


def table(raw):
    lines = ["| call | seconds | p50 µs | p99 µs |", "| --- | ---: | ---: | ---: |"]
    for call, rounds in raw.items():
        p50, p99 = middle(rounds, "p50_us"), middle(rounds, "p99_us")
        lines.append(f"| {call} | {middle(rounds, 'seconds'):.3f} | {p50:,.0f} | {p99:,.0f} |")
    return "\n".join(lines)
