"""From ./starter.sh to a store that is ready."""

import os
import statistics
import subprocess
import time

from ..bench import ROOT, Failure, run
from ..figure import Figure, at_most
from ..http import is_ok
from ..store import Store

ABOUT = "./starter.sh on built programs until the store is ready"
TITLE = "Start"
PACKAGES = {}
HOW = """\
`./starter.sh up` on built programs (cargo looks whether they are up to date, which is part of the time), from the command
until it says that the store is ready; `/readyz` is checked then. *fresh* makes a new store, with the books of
`catalogue.csv`; *again* starts the same one with its data. Medians of all rounds."""

SECONDS_MAX = 2


def measure(bench):
    found = {"fresh": [], "again": []}
    # Where the programs were given and not built here, there is nothing for cargo to look at.
    given = os.environ.get("BOOKENDS_PROGRAMS")
    for number in range(bench.rounds):
        store = Store(bench, books=None)
        try:
            for what, times in found.items():
                times.append(start(bench, store, given))
                bench.say(f"round {number + 1} of {bench.rounds}, {what}: {times[-1]:.3f} s")
                store.sentinel("down")
        finally:
            store.__exit__()
    return found | {"by_starter": not given}


def start(bench, store, given):
    environment = os.environ | {"CARGO_TARGET_DIR": str(bench.programs.parent)}
    command = [str(ROOT / "starter.sh"), "up", "--config", str(store.config)]
    if given:
        command = store.command("up")
    started = time.monotonic()
    run(command, env=environment, stdin=subprocess.DEVNULL)
    took = time.monotonic() - started
    store.find()
    if not is_ok(store.port, "/readyz"):
        raise Failure("the store was said to be ready, and is not")
    return took


def figures(raw):
    return [figure(raw, what, statistics.median(raw[what])) for what in ("fresh", "again")]


def figure(raw, what, seconds):
    if raw["by_starter"]:
        return at_most(f"./starter.sh to ready, {what}", seconds, SECONDS_MAX, "s")
    return Figure(f"sentinel up to ready, {what}", "", f"{seconds:.4g} s", "", None)


def table(raw):
    lines = ["| what | seconds, by round |", "| --- | --- |"]
    lines += [f"| {what} | {', '.join(f'{time:.3f}' for time in raw[what])} |" for what in ("fresh", "again")]
    if not raw["by_starter"]:
        lines += ["", "The programs were given by `BOOKENDS_PROGRAMS`: `sentinel up` was timed instead of `./starter.sh`."]
    return "\n".join(lines)
