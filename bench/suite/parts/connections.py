"""Ten thousand connections that say nothing."""

import contextlib
import resource
import select
import socket
import time

from ..bench import Failure
from ..figure import Figure, at_most
from ..processes import resident_bytes
from ..store import Store, numbers

ABOUT = "10,000 idle keep-alive connections"
TITLE = "10,000 idle connections"
PACKAGES = {}
HOW = """\
10,000 connections to the front end are opened; each asks for one book, reads the answer, and says nothing more. Memory is
the front end's resident memory with all of them open, less that before. Then it has to serve as always: `bookends load`
with lookups from 64 connections, before, and while they are open. Last, how many are still open after 25 s of silence."""

COUNT = 10_000
MB_MAX = 200
# For what this program and the front end have open besides.
SPARE = 256
SILENCE_S = 25.0
REQUEST = b"GET /lookup/1 HTTP/1.1\r\nhost: bookends\r\n\r\n"


def measure(bench):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < COUNT + SPARE:
        raise Failure(f"{COUNT} connections need more than the {limit} open files that are allowed: ulimit -Hn")
    with Store(bench) as store, contextlib.ExitStack() as stack:
        pid = store.pid("frontend-1")
        duration = ("--duration", "2")
        # What the front end takes for serving at all is not the price of the connections.
        before_load = numbers(store.load("lookup=1", 64, *duration), "lookup")
        before = resident_bytes(pid)
        started = time.monotonic()
        sockets = [stack.enter_context(ask(store.port)) for _ in range(COUNT)]
        opened = time.monotonic() - started
        with_all = resident_bytes(pid)
        open_then = still_open(sockets)
        bench.say(f"{open_then} open after {opened:.1f} s")
        during_load = numbers(store.load("lookup=1", 64, *duration), "lookup")
        open_during = still_open(sockets)
        time.sleep(max(0.0, SILENCE_S - (time.monotonic() - started - opened)))
        found = {
            "before_bytes": before,
            "with_all_bytes": with_all,
            "opened_s": opened,
            "open": open_then,
            "open_during_load": open_during,
            "open_after_silence": still_open(sockets),
            "before": before_load,
            "during": during_load,
        }
    bench.say(str(found))
    return found


def ask(port):
    """A connection that has had its answer."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(REQUEST)
    answer = connection.recv(4096)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise Failure(f"a connection was answered with {answer[:80]!r}")
    return connection


def still_open(sockets):
    """How many the other side has not closed: a closed one has something to read, its end."""
    watch = select.epoll()
    for one in sockets:
        watch.register(one, select.EPOLLIN | select.EPOLLRDHUP)
    ended = len(watch.poll(0, len(sockets)))
    watch.close()
    return len(sockets) - ended


def figures(raw):
    more = (raw["with_all_bytes"] - raw["before_bytes"]) / 1e6
    rate = raw["during"]["per_second"] / raw["before"]["per_second"]
    measured = f"{raw['during']['per_second']:,.0f} / {raw['before']['per_second']:,.0f} lookups a second"
    return [
        at_most(f"{raw['open']:,} idle connections: more memory", more, MB_MAX, "MB"),
        Figure(f"errors while {raw['open_during_load']:,} are open", "0", str(raw["during"]["errors"]), "",
               raw["during"]["errors"] == 0 and raw["open_during_load"] > 0),
        Figure("serving with / without idle connections", "", measured, f"{rate:.2f}", None),
        Figure(f"open after {SILENCE_S:.0f} s of silence", "", f"{raw['open_after_silence']:,}", "", None),
    ]


def table(raw):
    return (
        f"Opened in {raw['opened_s']:.1f} s; {raw['open']:,} were open then, {raw['open_during_load']:,} after the load, "
        f"{raw['open_after_silence']:,} after {SILENCE_S:.0f} s of silence (the front end closes silent connections). Its "
        f"memory: {raw['before_bytes'] / 1e6:.1f} MB before, {raw['with_all_bytes'] / 1e6:.1f} MB with them."
    )
