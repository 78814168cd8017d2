"""Requests from wrk: how many, how fast, and what they cost the server."""

import json
import tempfile

from .bench import ROOT, run
from .processes import cpu_seconds, cpu_used

THREADS = 2
# Each of wrk's threads would draw the same numbers in each run.
SEEDED = """\
local random = io.open("/dev/urandom", "rb")
local function seed()
    local a, b, c = random:read(3):byte(1, 3)
    return a * 65536 + b * 256 + c
end
math.randomseed(seed())
"""
# A request for any of so many books, made by wrk before it sends it.
ANY_BOOK = SEEDED + """\
request = function()
    return wrk.format("GET", "/lookup/" .. math.random(1, {books}))
end
"""
# A request for the book that is a thread's own: 1 for the first thread, 2 for the second.
OWN_BOOK = """\
local threads = 0
setup = function(thread)
    threads = threads + 1
    thread:set("number", threads)
end
request = function()
    return wrk.format("GET", "/lookup/" .. number)
end
"""
# A buy of one copy of any book. `key` gives it an idempotency key that no other has, of 32 random hex digits.
ANY_BUY = SEEDED + """\
local function key()
    return string.format("%08x%08x%08x%08x", math.random(0, 4294967295), math.random(0, 4294967295),
        math.random(0, 4294967295), seed())
end
local headers = {{["Content-Type"] = "application/json"}}
request = function()
    headers["Idempotency-Key"] = {key}
    return wrk.format("POST", "/buy", headers, '{{"id":' .. math.random(1, {books}) .. '}}')
end
"""


def any_book(books):
    """Lookups of any of so many books."""
    return ANY_BOOK.format(books=books)


def any_buy(books, keys):
    """Buys of any of so many books, with keys of the caller's or without."""
    return ANY_BUY.format(books=books, key="key()" if keys else "nil")


def wrk(url, connections, seconds, pids, requests="", headers=(), threads=THREADS):
    """One run: of the URL itself, or of the requests that a script makes.

    `pids` gives all processes that serve; the CPU time that they take is divided by the requests.
    """
    with tempfile.NamedTemporaryFile("w", prefix="bookends-bench-", suffix=".lua") as script:
        script.write((ROOT / "bench/wrk.lua").read_text())
        script.write(requests)
        script.flush()
        command = ["wrk", f"-t{min(threads, connections)}", f"-c{connections}", f"-d{seconds}s", "-s", script.name]
        for header in headers:
            command += ["-H", header]
        before = cpu_seconds(pids())
        out = run([*command, url])
        used = cpu_used(before, cpu_seconds(pids()))
    found = json.loads(out.strip().splitlines()[-1])
    found["per_second"] = found["requests"] / found["seconds"]
    found["cpu_us"] = used * 1e6 / max(found["requests"], 1)
    return found
