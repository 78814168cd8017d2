"""PostgreSQL with one synchronous standby, and the same buy as the store's."""

import contextlib
import glob
import os
import pwd
import signal
import statistics

from .bench import Failure, run, wait_until
from .processes import Server, free_port

# Above the defaults, which are for tiny machines: memory for the pages, and checkpoints that don't come every
# few seconds. What makes a commit durable is the default: fsync and full_page_writes are on.
SETTINGS = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = '256MB'
max_wal_size = '4GB'
checkpoint_timeout = '15min'
hot_standby = on
"""
# The standby has flushed the commit to its disk before the client is told.
SYNCHRONOUS = """\
synchronous_standby_names = 'ANY 1 (*)'
synchronous_commit = on
"""
TABLES = """\
create table book (id bigint primary key, title text not null, topic text not null, cost_cents bigint not null,
                   quantity bigint not null check (quantity >= 0));
create table orders (order_id bigint generated always as identity primary key, book bigint not null,
                     quantity bigint not null, unit_cost_cents bigint not null, created_at timestamptz not null);
insert into book select id, 'Book number ' || id, 'topic ' || id % 20, 500 + id, 1000000000
    from generate_series(1, {books}) id;
vacuum analyze;
"""
TRANSACTION = """\
\\set id random(1, {books})
begin;
update book set quantity = quantity - 1 where id = :id and quantity >= 1;
insert into orders (book, quantity, unit_cost_cents, created_at) values (:id, 1, 500 + :id, now());
commit;
"""
STATEMENT = """\
\\set id random(1, {books})
with sold as (update book set quantity = quantity - 1 where id = :id and quantity >= 1 returning id, cost_cents) \
insert into orders (book, quantity, unit_cost_cents, created_at) select id, 1, cost_cents, now() from sold;
"""


def programs():
    """The folder of the newest PostgreSQL up to 15: that one is named in the figure."""
    found = sorted(glob.glob("/usr/lib/postgresql/1[0-5]/bin/initdb"))
    if not found:
        raise Failure("there is no PostgreSQL 15 in /usr/lib/postgresql; get it: apt-get install postgresql-15")
    return os.path.dirname(found[-1])


def identity():
    """Postgres refuses to be root."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Postgres:
    """A primary and its synchronous standby, on loopback, until the `with` block ends."""

    def __init__(self, bench, books):
        self.bench = bench
        self.books = books
        self.folder = bench.folder("postgres")
        self.bin = programs()
        self.identity = identity()
        self.port = free_port()
        self.stack = contextlib.ExitStack()
        if self.identity:
            os.chown(self.folder, self.identity["user"], self.identity["group"])

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            primary, standby = self.folder / "primary", self.folder / "standby"
            self.run("initdb", "-D", str(primary), "-A", "trust", "-U", "postgres", "--no-sync")
            with (primary / "postgresql.conf").open("a") as conf:
                conf.write(SETTINGS)
            self.start(stack, primary, self.port)
            self.psql(TABLES.format(books=self.books))
            where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
            self.run("pg_basebackup", *where, "-D", str(standby), "-R", "-X", "stream", "-c", "fast")
            self.start(stack, standby, free_port())
            with (primary / "postgresql.conf").open("a") as conf:
                conf.write(SYNCHRONOUS)
            self.psql("select pg_reload_conf();")
            wait_until("the standby to be synchronous", self.is_synchronous)
            self.scripts = {}
            for name, text in {"transaction": TRANSACTION, "statement": STATEMENT}.items():
                self.scripts[name] = self.folder / f"{name}.sql"
                self.scripts[name].write_text(text.format(books=self.books))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def start(self, stack, data, port):
        # SIGINT is Postgres' "fast shutdown". Its log is opened here, so that it may be in a folder of root's.
        command = [f"{self.bin}/postgres", "-D", str(data), "-p", str(port)]
        server = Server(f"postgres-{data.name}", command, self.folder, stop=signal.SIGINT, cwd="/", **self.identity)
        stack.enter_context(server)
        check = [f"{self.bin}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        wait_until(f"{server.name} to take connections", lambda: succeeds(check) or server.check())

    def run(self, program, *arguments, **options):
        return run([f"{self.bin}/{program}", *arguments], cwd=self.folder, **self.identity, **options)

    def psql(self, text):
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        return self.run("psql", *where, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", input=text)

    def is_synchronous(self):
        query = "select count(*) from pg_stat_replication where state = 'streaming' and sync_state in ('sync', 'quorum');"
        return self.psql(query).strip() == "1"

    def version(self):
        return self.psql("show server_version;").strip()

    def buys(self, script, clients, seconds):
        """pgbench with prepared statements; latencies from its log of transactions."""
        folder = self.bench.folder("pgbench")
        if self.identity:
            os.chown(folder, self.identity["user"], self.identity["group"])
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        before = self.orders()
        # One in ten of many transactions is enough for percentiles, and costs less.
        log = ["-l", "--log-prefix", str(folder / "log"), "--sampling-rate", "0.1" if clients > 1 else "1"]
        how = ["-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(seconds), *log]
        out = self.run("pgbench", *where, *how, "-f", str(self.scripts[script]), "postgres")
        rate = [line for line in out.splitlines() if line.startswith("tps = ")]
        failed = [line for line in out.splitlines() if line.startswith("number of failed transactions: ")]
        times = sorted(int(line.split()[2]) for path in folder.iterdir() for line in path.read_text().splitlines())
        if not rate or not times or self.orders() == before:
            raise Failure(f"pgbench has bought nothing: {out[-2000:]}")
        return {
            "per_second": float(rate[0].split()[2]),
            "p50_us": statistics.median_low(times),
            "p99_us": times[len(times) * 99 // 100],
            "errors": int(failed[0].split()[4]) if failed else 0,
        }

    def orders(self):
        return int(self.psql("select count(*) from orders;"))


def succeeds(command):
    try:
        run(command)
    except Failure:
        return False
    return True
