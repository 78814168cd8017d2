"""How much memory each process takes when it has nothing to do."""

from ..figure import at_most
from ..processes import resident_bytes
from ..store import NODES, Store

ABOUT = "memory of each process, after its start and after a load"
TITLE = "Memory"
PACKAGES = {}
HOW = """\
Resident memory (`VmRSS`) of each process of a store with 1,000 books that has just started, and again when it is idle after
a load of lookups, searches and buys from 64 connections."""

MB_MAX = 60


def measure(bench):
    with Store(bench) as store:
        found = {"started": memory(store)}
        store.load("lookup=90,search=5,buy=5", 64, "--duration", str(bench.seconds))
        found["after"] = memory(store)
    bench.say(f"MB: {found}")
    return found


def memory(store):
    """In MB."""
    return {node: round(resident_bytes(store.pid(node)) / 1e6, 1) for node in (*NODES, "sentinel")}


def figures(raw):
    found = []
    for what, name in (("started", "just started"), ("after", "idle after a load")):
        largest = max(raw[what], key=raw[what].get)
        size = raw[what][largest]
        found.append(at_most(f"largest process, {name}", size, MB_MAX, "MB", f"{size:.1f} MB ({largest})"))
    return found


def table(raw):
    lines = ["| process | just started, MB | after a load, MB |", "| --- | ---: | ---: |"]
    lines += [f"| {node} | {size:.1f} | {raw['after'][node]:.1f} |" for node, size in raw["started"].items()]
    return "\n".join(lines)
