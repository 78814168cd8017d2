"""Cached lookups: the store's front end against other HTTP servers and caches."""

from ..bench import Failure, middle
from ..caches import contest, versions
from ..figure import Figure, at_least
from ..wrk import THREADS, wrk

ABOUT = "cached lookups against hyper, axum, nginx, HAProxy and Varnish"
TITLE = "Cached lookups"
PACKAGES = {"wrk": "wrk", "nginx": "nginx", "haproxy": "haproxy", "varnishd": "varnish"}
HOW = f"""\
`wrk -t{THREADS} -c64` (and `-c1000`) asks for `/lookup/1` over and over. *bookends* is the front end of a store with
1,000 books. *hyper* and *axum* (a handler with a moka look-up) are `bench/peers`, answer with the same bytes, and
have the front end's allocator. *nginx*
(`proxy_cache`), *haproxy* (`cache`) and *varnish* stand before the store's front end and answer from their caches: the
front end's count of lookups shows that they do. All take turns, and the medians of all rounds are given. CPU per request
is that of all processes of the server, from `/proc/PID/stat`: the load generator shares the cores.

Four threads or more share two cores, and one that waits for its core waits for the end of another's time slice, some ms,
unless that one has nothing left to do. So the front end has connections whose packets come in on one core share a lane:
a lane and the client's thread that feeds it then wait for each other only. Dealt out evenly instead, whoever sent them, a
client's thread went on with the other lane's connections while a lane waited: in eight turns with it the median p99 was
6.9 ms for 1.9, and there were an eighth fewer lookups. An event loop that yields its core before it sleeps did as much
on a quiet machine; beside two processes that work without a pause it fell from 40,000 lookups a second on 8
connections to 5,000, so the store does not yield."""

CONNECTIONS = (64, 1000)
PROXIES = ("nginx", "haproxy", "varnish")
# Of its lookups a cache may pass on this part: what comes at once while it is still empty.
PASSED_ON_MAX = 0.001
HYPER_TARGET = 0.9


def measure(bench):
    found = {}
    with contest(bench) as (store, contestants):
        for contestant in contestants.values():
            wrk(contestant.url, CONNECTIONS[0], 1, contestant.pids)
        for connections in CONNECTIONS:
            bench.say(f"{connections} connections")
            before = store.lookups_served()
            results = bench.rotate(contestants, lambda one: wrk(one.url, connections, bench.seconds, one.pids))
            check(results, store.lookups_served() - before)
            found[str(connections)] = results
    return {"by_connections": found, "versions": versions()}


def check(results, served):
    """Whether the answers were good ones, and those of the proxies their own."""
    for name, rounds in results.items():
        for result in rounds:
            allowed = result["requests"] * PASSED_ON_MAX if name in PROXIES else 0
            if result["errors"] > allowed:
                raise Failure(f"{name} failed {result['errors']} of {result['requests']} requests")
    own = sum(result["requests"] for result in results["bookends"])
    proxied = sum(result["requests"] for name in PROXIES for result in results[name])
    # wrk does not count the last request of each connection.
    slack = CONNECTIONS[-1] * len(results["bookends"])
    if served - own - slack > proxied * PASSED_ON_MAX:
        raise Failure(f"the caches passed {served - own:.0f} of {proxied} lookups on: they are no caches")


def figures(raw):
    found = []
    for connections in CONNECTIONS:
        results = raw["by_connections"][str(connections)]
        rate = {name: middle(rounds, "per_second") for name, rounds in results.items()}
        if connections == CONNECTIONS[0]:
            found.append(compare(rate, "hyper", connections, HYPER_TARGET))
            found.append(compare(rate, "axum", connections, None))
        found += [compare(rate, name, connections, 1) for name in PROXIES]
        if connections == CONNECTIONS[0]:
            found.append(latency(results, connections))
            found.append(cost(results, connections))
    return found


def compare(rate, name, connections, target):
    ratio = rate["bookends"] / rate[name]
    title = f"lookups a second with {connections} connections: bookends / {name}"
    measured = f"{rate['bookends']:,.0f} / {rate[name]:,.0f}"
    if target is None:
        return Figure(title, "", measured, f"{ratio:.2f}", None)
    return at_least(title, ratio, target, measured)


def latency(results, connections):
    p99 = {name: middle(rounds, "p99_us") for name, rounds in results.items()}
    best = min(PROXIES, key=p99.get)
    ratio = p99["bookends"] / p99[best]
    title = f"p99 with {connections} connections: bookends / the best of the proxies ({best})"
    return Figure(title, "≤ 1", f"{p99['bookends']:,.0f} µs / {p99[best]:,.0f} µs", f"{ratio:.2f}", ratio <= 1)


def cost(results, connections):
    cpu = {name: middle(rounds, "cpu_us") for name, rounds in results.items()}
    title = f"server CPU for a lookup with {connections} connections: bookends / hyper"
    measured = f"{cpu['bookends']:.2f} µs / {cpu['hyper']:.2f} µs"
    return Figure(title, "", measured, f"{cpu['bookends'] / cpu['hyper']:.2f}", None)


def table(raw):
    lines = ["| server | connections | per second | to hyper | p50 µs | p99 µs | CPU µs per request | to hyper |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for connections, results in raw["by_connections"].items():
        base_rate, base_cpu = middle(results["hyper"], "per_second"), middle(results["hyper"], "cpu_us")
        for name, rounds in results.items():
            per_second, cpu = middle(rounds, "per_second"), middle(rounds, "cpu_us")
            lines.append(
                f"| {name} | {connections} | {per_second:,.0f} | {per_second / base_rate:.2f} "
                f"| {middle(rounds, 'p50_us'):,.0f} | {middle(rounds, 'p99_us'):,.0f} "
                f"| {cpu:.2f} | {cpu / base_cpu:.2f} |"
            )
    lines += ["", "Versions: " + "; ".join(raw["versions"].values()) + "."]
    return "\n".join(lines)
