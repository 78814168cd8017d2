"""What all parts are given: where programs and data are, how long to measure, how to say what goes on."""

import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Failure(Exception):
    """Something that a person has to know, without a trace of calls."""


class Bench:
    def __init__(self, programs, scratch, seconds, rounds):
        self.programs = programs
        self.scratch = scratch
        self.seconds = seconds
        self.rounds = rounds
        self.part = ""

    def say(self, text):
        """Progress, on standard error."""
        print(f"bench {time.strftime('%H:%M:%S')} {self.part}: {text}", file=sys.stderr, flush=True)

    def folder(self, name):
        """A new folder in the temporary one."""
        number = 0
        while (path := self.scratch / f"{name}-{number}").exists():
            number += 1
        path.mkdir()
        return path

    def program(self, name):
        path = self.programs / name
        if not os.access(path, os.X_OK):
            raise Failure(f"{path} is missing; build it: cargo build --release --locked --workspace --bins")
        return str(path)

    def rotate(self, contestants, measure, times=1):
        """Measures A B C A B C …: what disturbs the machine for a while then disturbs them all alike.

        `times` as many rounds as usual. Gives a list of results for each name; `contestants` is a dict of name and
        whatever `measure` takes.
        """
        found = {name: [] for name in contestants}
        rounds = self.rounds * times
        for number in range(rounds):
            for name, contestant in contestants.items():
                result = measure(contestant)
                found[name].append(result)
                self.say(f"round {number + 1} of {rounds}, {name}: {brief(result)}")
        return found


def brief(result):
    return ", ".join(f"{key} {value:.5g}" for key, value in result.items() if isinstance(value, (int, float)))


def middle(results, key):
    """The median of one value over all rounds."""
    return statistics.median(result[key] for result in results)


def run(command, **options):
    """Runs a command to its end and gives its standard output; its failure is a `Failure`."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        words = " ".join(str(word) for word in command)
        raise Failure(f"`{words}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def wait_until(what, condition, patience_s=30.0):
    """Polls until the condition holds (and gives what it gave), or fails."""
    end = time.monotonic() + patience_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Failure(f"waited {patience_s:.0f} s in vain for {what}")
        time.sleep(0.01)
