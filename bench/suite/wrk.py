"""Requests from wrk: how many, how fast, and what they cost the server."""

import json
import tempfile

from .bench import ROOT, run
from .processes import cpu_seconds, cpu_used

THREADS = 2
# A request for any of so many books, made by wrk before it sends it.
ANY_BOOK = """\
request = function()
    return wrk.format("GET", "/lookup/" .. math.random(1, {books}))
end
"""


def wrk(url, connections, seconds, pids, books=None, headers=()):
    """One run: of the URL itself, or of lookups of any of so many books.

    `pids` gives all processes that serve; the CPU time that they take is divided by the requests.
    """
    with tempfile.NamedTemporaryFile("w", prefix="bookends-bench-", suffix=".lua") as script:
        script.write((ROOT / "bench/wrk.lua").read_text())
        script.write(ANY_BOOK.format(books=books) if books else "")
        script.flush()
        command = ["wrk", f"-t{THREADS}", f"-c{connections}", f"-d{seconds}s", "-s", script.name]
        for header in headers:
            command += ["-H", header]
        before = cpu_seconds(pids())
        out = run([*command, url])
        used = cpu_used(before, cpu_seconds(pids()))
    found = json.loads(out.strip().splitlines()[-1])
    found["per_second"] = found["requests"] / found["seconds"]
    found["cpu_us"] = used * 1e6 / max(found["requests"], 1)
    return found
