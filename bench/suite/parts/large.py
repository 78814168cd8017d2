"""A million books: loading them, and what look-ups and searches cost then."""

import http.client
import statistics
import time
import urllib.parse

from .. import http as requests
from ..bench import Failure, middle, run, wait_until
from ..figure import Figure, at_most
from ..store import Store
from ..wrk import OWN_BOOK, THREADS, any_book, wrk

ABOUT = "1,000,000 books: bulk load, look-ups that miss the cache, first pages of searches"
TITLE = "1,000,000 books"
PACKAGES = {"wrk": "wrk"}
HOW = f"""\
`bookends generate --books 1000000`, then `bookends import` of that file: the time is that of the import, at whose end both
replicas hold all books. Look-ups ask with `Cache-Control: no-cache`, which goes past the cache to a replica; the store
with a million books takes turns with one that has seven of the same generator. What a look-up costs is the CPU time of
all processes of the store, divided by the look-ups. The figure is that of seven connections (`wrk -t7 -c7`): at the small
store each asks for a book of its own, at the large one for any, so that each look-up is a miss by itself. What the
machine is busy with changes the cost by a third from one moment to the next: there are twelve times as many rounds,
each a quarter as long, and the ratio is the median of those within each round, of two measurements that follow each
other. With 64 connections (`wrk -t{THREADS} -c64`, any books) misses of one book at one time share a request, which with
seven books spares the small store most of its reads: the cost of one of these is no miss's, and has no target. What a
miss of a million costs more is for the most part two pages of the file, the book's and its stock's, that SQLite reads
from the system's cache where those of seven books lie in its own. To map the file would spare them, but a mapped file
that is cut off ends the process instead of being found damaged. Searches: the first page of a topic, of a word, and of
both, of 20 books from all over the catalogue, asked for past the cache, one after the other. The import and the
searches are measured once."""

BOOKS = 1_000_000
SMALL = 7
CONNECTIONS = 64
LOAD_SECONDS_MAX = 60
COST_RATIO_MAX = 1.2
SEARCH_MS_MAX = 20
SAMPLES = 20
# A measurement of misses is cut into so many: what disturbs the machine changes within seconds.
TURNS = 4
PAST_THE_CACHE = {"Cache-Control": "no-cache"}


def measure(bench):
    file, few = bench.scratch / "books.csv", bench.scratch / "few-books.csv"
    started = time.monotonic()
    generate(bench, BOOKS, file)
    generated = time.monotonic() - started
    bench.say(f"generated in {generated:.1f} s")
    generate(bench, SMALL, few)
    with Store(bench, books=None) as large, Store(bench, books=None) as small:
        started = time.monotonic()
        run(large.client("import", str(file)))
        imported = time.monotonic() - started
        bench.say(f"imported in {imported:.1f} s")
        check(large)
        run(small.client("import", str(few)))
        found = {
            "generate_s": generated,
            "import_s": imported,
            "file_bytes": file.stat().st_size,
            "misses": misses(bench, large, small),
            "lookups": lookups(bench, {"large": (large, BOOKS), "small": (small, SMALL)}),
            "searches": searches(large),
        }
        bench.say(f"searches: {found['searches']}")
    file.unlink()
    few.unlink()
    return found


def generate(bench, books, file):
    run([bench.program("bookends"), "generate", "--books", str(books), "--output", str(file)])


def check(store):
    """Whether both replicas are members that hold the same, the last book included."""
    wait_until("both replicas to be level", lambda: is_level(store))
    if requests.get(store.port, f"/lookup/{BOOKS}")[0] != 200:
        raise Failure(f"book {BOOKS} is not there after the import")


def is_level(store):
    replicas = store.status()["shards"][0]["replicas"]
    states = {(replica["state"], replica["last_index"], replica["digest"]) for replica in replicas}
    return len(states) == 1 and len(replicas) == 2 and states.pop()[0] == "member"


def misses(bench, large, small):
    """Look-ups of which none shares a request with another."""
    contestants = {"large": (large, any_book(BOOKS)), "small": (small, OWN_BOOK)}
    seconds = max(1, bench.seconds // TURNS)
    return bench.rotate(
        contestants, lambda it: ask(it[0], SMALL, seconds, requests=it[1], threads=SMALL), times=3 * TURNS
    )


def lookups(bench, stores):
    return bench.rotate(
        stores, lambda it: ask(it[0], CONNECTIONS, bench.seconds, requests=any_book(it[1]), threads=THREADS)
    )


def ask(store, connections, seconds, **options):
    headers = [f"{name}: {value}" for name, value in PAST_THE_CACHE.items()]
    result = wrk(store.url, connections, seconds, store.pids, headers=headers, **options)
    if result["errors"]:
        raise Failure(f"{result['errors']} of {result['requests']} look-ups failed")
    return result


def searches(store):
    """Milliseconds of each first page."""
    found = {"topic": [], "word": [], "both": []}
    connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=30)
    for number in range(SAMPLES):
        book = requests.get_json(store.port, f"/lookup/{1 + number * (BOOKS - 1) // (SAMPLES - 1)}")
        topic, word = book["topic"], max(book["title"].split(), key=len)
        asked = {"topic": {"topic": topic}, "word": {"q": word}, "both": {"topic": topic, "q": word}}
        for kind, query in asked.items():
            started = time.perf_counter()
            connection.request("GET", "/search?" + urllib.parse.urlencode(query), headers=PAST_THE_CACHE)
            response = connection.getresponse()
            body = response.read()
            found[kind].append((time.perf_counter() - started) * 1000)
            if response.status != 200 or str(book["topic"]).encode() not in body and kind != "word":
                raise Failure(f"the search {query} was answered with {response.status}: {body[:200]!r}")
    connection.close()
    return found


def figures(raw):
    cost = {name: middle(rounds, "cpu_us") for name, rounds in raw["misses"].items()}
    turns = zip(raw["misses"]["large"], raw["misses"]["small"], strict=True)
    ratio = statistics.median(large["cpu_us"] / small["cpu_us"] for large, small in turns)
    slowest = {kind: max(times) for kind, times in raw["searches"].items()}
    return [
        at_most(f"bulk load of {BOOKS:,} books onto both replicas", raw["import_s"], LOAD_SECONDS_MAX, "s"),
        Figure(
            f"CPU of a look-up that misses the cache: {BOOKS:,} books / {SMALL}",
            f"≤ {COST_RATIO_MAX:g}",
            f"{cost['large']:.1f} µs / {cost['small']:.1f} µs",
            f"{ratio:.2f}",
            ratio <= COST_RATIO_MAX,
        ),
        *(
            at_most(f"first page of a search by {kind}, the slowest of {SAMPLES}", time_ms, SEARCH_MS_MAX, "ms")
            for kind, time_ms in slowest.items()
        ),
    ]


def table(raw):
    lines = ["| look-ups past the cache | connections | per second | p50 µs | p99 µs | CPU µs per look-up |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for kind, connections in {"misses": SMALL, "lookups": CONNECTIONS}.items():
        for name, rounds in raw[kind].items():
            books = BOOKS if name == "large" else SMALL
            lines.append(
                f"| {books:,} books | {connections} | {middle(rounds, 'per_second'):,.0f} "
                f"| {middle(rounds, 'p50_us'):,.0f} | {middle(rounds, 'p99_us'):,.0f} | {middle(rounds, 'cpu_us'):.1f} |"
            )
    lines += ["", "| first page of a search by | median ms | slowest ms |", "| --- | ---: | ---: |"]
    for kind, times in raw["searches"].items():
        lines.append(f"| {kind} | {statistics.median(times):.2f} | {max(times):.2f} |")
    lines += ["", f"The file has {raw['file_bytes'] / 1e6:.0f} MB and was generated in {raw['generate_s']:.1f} s."]
    return "\n".join(lines)
