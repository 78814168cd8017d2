"""Buys that are durable on both replicas, against PostgreSQL with a synchronous standby and against etcd."""

from ..bench import Failure, middle
from ..etcd import Etcd
from ..figure import Figure, at_least, ms
from ..postgres import Postgres
from ..store import Store
from ..wrk import any_buy, wrk

ABOUT = "buys against PostgreSQL with a synchronous standby, and puts of etcd"
TITLE = "Buys"
PACKAGES = {"/usr/lib/postgresql/15/bin/postgres": "postgresql", "etcd": "etcd-server", "wrk": "wrk"}
HOW = """\
64 connections, each with one buy at a time (closed loop), of 1,000 books. *bookends* is driven over HTTP by `wrk
-t1` with JSON bodies, each buy with an idempotency key of its own (32 random digits, the dearest kind: they are found in
no order), fsynced by both replicas before it is acknowledged; *bookends, no keys* leaves the keys to the store, so that a
caller could not safely repeat a buy, as none of the others' can. PostgreSQL has
one synchronous standby (`synchronous_commit = on`: flushed on both), `shared_buffers = 256MB`, `max_wal_size = 4GB`, and
is driven over TCP by `pgbench -M prepared -c 64 -j 1`: *transaction* is BEGIN, UPDATE, INSERT, COMMIT; *statement* is the
same as one statement (`with … update … returning … insert`). *etcd* has three nodes and gets puts of 19 bytes of key and
100 of value over gRPC at its leader, by `bench/peers` with one connection for each put under way. All take turns, and
the medians of all rounds are given."""

BOOKS = 1000
MANY = 64
TARGETS = {"transaction": 3.0, "statement": 1.5, "etcd": 2.0}
NAMES = {
    "no-keys": "bookends, no keys",
    "transaction": "PostgreSQL, transaction",
    "statement": "PostgreSQL, one statement",
    "etcd": "etcd puts",
}


def measure(bench):
    # Named beforehand: what is missing is told before anything is started.
    with Store(bench, BOOKS) as store, Postgres(bench, BOOKS) as postgres, Etcd(bench) as etcd:
        seconds = bench.seconds

        def buys(connections, keys):
            return wrk(store.url, connections, seconds, store.pids, requests=any_buy(BOOKS, keys), threads=1)

        def contestants(connections):
            return {
                "bookends": lambda: buys(connections, keys=True),
                "no-keys": lambda: buys(connections, keys=False),
                "transaction": lambda: postgres.buys("transaction", connections, seconds),
                "statement": lambda: postgres.buys("statement", connections, seconds),
                "etcd": lambda: etcd.puts(connections, seconds),
            }

        found = {}
        for connections in (MANY, 1):
            bench.say(f"{connections} connections")
            found[str(connections)] = bench.rotate(contestants(connections), lambda measure_one: measure_one())
        check(found)
        versions = {"PostgreSQL": postgres.version(), "etcd": etcd.version()}
    return {"by_connections": found, "versions": versions}


def check(found):
    for results in found.values():
        for name, rounds in results.items():
            errors = sum(result["errors"] for result in rounds)
            if errors:
                raise Failure(f"{errors} buys of {name} failed")


def figures(raw):
    many, one = raw["by_connections"][str(MANY)], raw["by_connections"]["1"]
    own = middle(many["bookends"], "per_second")
    found = []
    for name, target in TARGETS.items():
        other = middle(many[name], "per_second")
        title = f"buys a second with {MANY} connections: bookends / {NAMES[name]}"
        found.append(at_least(title, own / other, target, f"{own:,.0f} / {other:,.0f}"))
    for name in ("transaction", "statement"):
        own, other = middle(one["bookends"], "p50_us"), middle(one[name], "p50_us")
        title = f"p50 of a buy with 1 connection: bookends / {NAMES[name]}"
        judged = name == "transaction"
        reached = own <= other if judged else None
        found.append(Figure(title, "≤ 1" if judged else "", f"{ms(own)} / {ms(other)}", f"{own / other:.2f}", reached))
    return found


def table(raw):
    lines = ["| store | connections | per second | p50 | p99 |", "| --- | ---: | ---: | ---: | ---: |"]
    for connections, results in raw["by_connections"].items():
        for name, rounds in results.items():
            lines.append(
                f"| {NAMES.get(name, name)} | {connections} | {middle(rounds, 'per_second'):,.0f} "
                f"| {ms(middle(rounds, 'p50_us'))} | {ms(middle(rounds, 'p99_us'))} |"
            )
    lines += ["", "Versions: " + ", ".join(f"{name} {version}" for name, version in raw["versions"].items()) + "."]
    return "\n".join(lines)
