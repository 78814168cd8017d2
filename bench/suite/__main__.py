"""The command line of bench/run.sh."""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

from . import machine, packages, parts, report
from .bench import ROOT, Bench, Failure

EXAMPLES = """\
examples:
  bench/run.sh                       all parts but those that must be named, then docs/BENCHMARKS.md
  bench/run.sh reads buys            these two again; the document keeps the others as they were
  bench/run.sh reads --seconds 10    ten seconds for each measurement
  bench/run.sh --document            only write the document anew from the results

BOOKENDS_PROGRAMS names a folder with built programs; without it they are built here, and CARGO_TARGET_DIR is heeded.
Exit codes: 0 measured, 1 failed, 2 wrong use. A figure that is not reached is no failure."""


def arguments():
    all_parts = "\n".join(
        f"  {name:<12} {part.ABOUT}{' (only when named)' if name in parts.ON_DEMAND else ''}"
        for name, part in parts.ALL.items()
    )
    parser = argparse.ArgumentParser(
        prog="bench/run.sh",
        description="Measures the store and its peers on this machine and writes docs/BENCHMARKS.md.",
        epilog=f"parts:\n{all_parts}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure (see below)")
    parser.add_argument("--seconds", type=count, default=5, metavar="N", help="length of each measurement (5)")
    parser.add_argument("--rounds", type=count, default=3, metavar="N", help="how often contestants take turns (3)")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "bench/results.json", metavar="FILE",
                        help="where raw results are kept (bench/results.json)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/BENCHMARKS.md", metavar="FILE",
                        help="the document (docs/BENCHMARKS.md)")
    parser.add_argument("--document", action="store_true", help="measure nothing, only write the document")
    given = parser.parse_args()
    for name in given.parts:
        if name not in parts.ALL:
            parser.error(f"there is no part `{name}`; there are: {', '.join(parts.ALL)}")
    if given.document and given.parts:
        parser.error("--document measures nothing, so it takes no parts")
    return given


def count(text):
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def build():
    """The folder with the programs to measure."""
    given = os.environ.get("BOOKENDS_PROGRAMS")
    if given:
        return pathlib.Path(given).resolve()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    command = ["cargo", "build", "--release", "--locked", "--workspace", "--bins"]
    try:
        built = subprocess.run(command, cwd=ROOT, env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=False)
    except FileNotFoundError:
        raise Failure("cargo is missing; get it: https://rustup.rs") from None
    if built.returncode != 0:
        raise Failure("the build failed")
    return target / "release"


def measure(given, results):
    names = given.parts or [name for name in parts.ALL if name not in parts.ON_DEMAND]
    chosen = [(name, part) for name, part in parts.ALL.items() if name in names]
    with tempfile.TemporaryDirectory(prefix="bookends-bench-") as scratch:
        scratch = pathlib.Path(scratch)
        # Others may pass through, for a server that must not be root keeps its data here, too.
        scratch.chmod(0o711)
        bench = Bench(None, scratch, given.seconds, given.rounds)
        packages.provide(bench, {key: value for _, part in chosen for key, value in part.PACKAGES.items()})
        bench.programs = build()
        failed = []
        for name, part in chosen:
            bench.part = name
            bench.say("begins")
            about = {"machine": machine.describe(scratch), "date": machine.now(), **machine.commit()}
            try:
                raw = part.measure(bench)
            except Failure as failure:
                bench.say(f"failed: {failure}")
                failed.append(name)
                continue
            results[name] = about | {"seconds": given.seconds, "rounds": given.rounds, "raw": raw}
            write(given.results, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return failed


def write(path, text):
    """Replaces a file as a whole."""
    new = path.with_name(path.name + ".tmp")
    new.write_text(text)
    new.replace(path)


def main():
    given = arguments()
    results = {}
    with contextlib.suppress(FileNotFoundError):
        try:
            results = json.loads(given.results.read_text())
        except ValueError as problem:
            raise Failure(f"{given.results}: {problem}") from None
    failed = [] if given.document else measure(given, results)
    write(given.output, report.document(results))
    print(report.summary(results))
    if failed:
        raise Failure(f"not measured: {', '.join(failed)}")


def ended(number, _frame):
    # As an exception, so that everything that was started is ended on the way out.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGHUP, ended)
    try:
        main()
    except Failure as failure:
        print(f"bench/run.sh: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
