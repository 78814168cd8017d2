"""A store of its own for a measurement: in the temporary folder, with ports that the system chooses."""

import json
import shutil
import signal
import subprocess

from . import http
from .bench import ROOT, Failure, run, wait_until

NODES = ("frontend-1", "catalog-1", "catalog-2", "order-1", "order-2")
# Enough copies of each book for any number of buys.
COPIES = 1_000_000_000
CONFIG = """\
[cluster]
data_dir = "data"
[[frontend]]
id = "frontend-1"
public = "127.0.0.1:0"
internal = "127.0.0.1:0"
heartbeat = "127.0.0.1:0"
[[catalog]]
id = "catalog-1"
listen = "127.0.0.1:0"
[[catalog]]
id = "catalog-2"
listen = "127.0.0.1:0"
[[order]]
id = "order-1"
listen = "127.0.0.1:0"
[[order]]
id = "order-2"
listen = "127.0.0.1:0"
"""


class Store:
    """One front end, two catalog nodes, two order nodes. Everything that is not said here is the default.

    `books` are that many made-up books; None is the catalogue.csv of the repository.
    """

    def __init__(self, bench, books=1000):
        self.bench = bench
        self.folder = bench.folder("store")
        self.config = self.folder / "config.toml"
        self.config.write_text(CONFIG)
        catalogue = ROOT / "catalogue.csv"
        if books is None:
            shutil.copy(catalogue, self.folder)
        else:
            lines = [catalogue.read_text().splitlines()[0]]
            lines += [f"{id},Book number {id},topic {id % 20},,,,,{500 + id},{COPIES}" for id in range(1, books + 1)]
            (self.folder / "catalogue.csv").write_text("\n".join(lines) + "\n")
        self.port = None

    def __enter__(self):
        try:
            self.sentinel("up")
            self.find()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(self.command("down"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def command(self, *verb):
        return [self.bench.program("sentinel"), "--config", str(self.config), *verb]

    def sentinel(self, *verb):
        return run(self.command(*verb))

    def find(self):
        """Looks up where the front end listens."""
        addresses = json.loads((self.folder / "data/run/frontend-1.addr").read_text())
        self.port = int(addresses["public"].rsplit(":", 1)[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def pid(self, node):
        return int((self.folder / f"data/run/{node}.pid").read_text())

    def pids(self):
        """The processes that answer: without the sentinel, which only watches."""
        return [self.pid(node) for node in NODES]

    def status(self):
        return http.get_json(self.port, "/status")

    def members(self):
        return self.status()["shards"][0]["members"]

    def when_member(self, node, patience_s=60.0):
        wait_until(f"{node} to be a member", lambda: node in self.members(), patience_s)

    def lookups_served(self):
        """How many lookups the front end has answered so far: shows whether a cache before it really is one."""
        text = http.get(self.port, "/metrics")[2].decode()
        lines = [line for line in text.splitlines() if line.startswith("bookends_requests_total{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'route="lookup"' in line)

    def client(self, *arguments):
        """The `bookends` command line, as an administrator."""
        token = self.folder / "data/admin.token"
        return [self.bench.program("bookends"), "--url", self.url, "--token-file", str(token), *arguments]

    def load(self, mix, connections, *arguments):
        """`bookends load` to its end; gives its report. Failed requests are in it and no failure here."""
        return self.begin_load(mix, connections, *arguments).report()

    def begin_load(self, mix, connections, *arguments):
        return Load(self.client("load", "--json", "--mix", mix, "--connections", str(connections), *arguments))


class Load:
    """A load that goes on while other things happen. In a `with` block it ends with it."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """Ends it early; gives the report of what was measured until then."""
        self.process.send_signal(signal.SIGINT)
        return self.report()

    def report(self):
        out, err = self.process.communicate()
        try:
            return json.loads(out)
        except ValueError:
            raise Failure(f"`bookends load` ended with {self.process.returncode}: {err.strip()[-2000:]}") from None


def numbers(report, call):
    """What most parts want of a report of one kind of call."""
    latency = report["calls"][call]["latency"]
    return {
        "per_second": report["per_second"],
        "p50_us": latency["p50_us"],
        "p99_us": latency["p99_us"],
        "seconds": report["seconds"],
        "errors": sum(report["errors"].values()) + report["unsent"],
    }
