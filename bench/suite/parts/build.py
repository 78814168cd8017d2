"""From a fresh clone to a store that is ready."""

import os
import subprocess
import time

from ..bench import ROOT, Failure, run
from ..figure import at_most
from ..store import Store

ABOUT = "from a fresh clone to a store that is ready"
TITLE = "Build"
PACKAGES = {}
HOW = """\
`git clone` of the commit into an empty folder, and `./starter.sh up` there: all crates are compiled, none comes from an
earlier build. Crates that cargo has downloaded before are not downloaded again."""

SECONDS_MAX = 300


def measure(bench):
    folder = bench.folder("clone")
    store = Store(bench, books=None)
    environment = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    started = time.monotonic()
    try:
        run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder / "bookends")])
        command = [str(folder / "bookends/starter.sh"), "up", "--config", str(store.config)]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        took = time.monotonic() - started
        if done.returncode != 0:
            raise Failure(f"starter.sh ended with {done.returncode}")
    finally:
        store.__exit__()
    bench.say(f"{took:.0f} s")
    return {"seconds": took}


def figures(raw):
    return [at_most("fresh clone to ready", raw["seconds"], SECONDS_MAX, "s")]


def table(raw):
    return f"{raw['seconds']:.0f} s."
