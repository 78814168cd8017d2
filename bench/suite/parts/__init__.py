"""The parts, in the order in which they run and stand in the document.

A part has: ABOUT (a line for --help), TITLE and HOW (for the document), PACKAGES (of Debian that it needs),
`measure(bench)` (gives what it saw, as JSON holds it), `figures(raw)` and `table(raw)` (what the document says of it).
"""

from . import buys, build, connections, failover, large, memory, reads, resync, rush, start

ALL = {
    "reads": reads,
    "buys": buys,
    "rush": rush,
    "failover": failover,
    "resync": resync,
    "large": large,
    "start": start,
    "memory": memory,
    "connections": connections,
    "build": build,
}
# Takes minutes, so it runs only when it is named.
ON_DEMAND = ("build",)
# Neither seconds nor rounds change them.
ONCE = ("memory", "connections", "build")
