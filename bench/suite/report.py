"""The document made from the results."""

from . import parts
from .bench import ROOT

MARKS = {True: "yes", False: "**no**", None: "–"}


def document(results):
    """docs/BENCHMARKS.md."""
    template = (ROOT / "bench/benchmarks.template.md").read_text()
    measured = [(name, part, results[name]) for name, part in parts.ALL.items() if name in results]
    sections = [section(name, part, result) for name, part, result in measured]
    missing = [name for name in parts.ALL if name not in results]
    if missing:
        sections.append(f"Not measured yet: {', '.join(f'`{name}`' for name in missing)}.\n")
    return (
        template.replace("@MACHINE@", machines(measured))
        .replace("@FIGURES@", overview(measured))
        .replace("@PARTS@", "\n".join(sections))
    )


def machines(measured):
    """What was measured on and when: one line for each machine and commit, with its parts."""
    groups = {}
    for name, _, result in measured:
        machine, state = result["machine"], " with uncommitted changes" if result["dirty"] else ""
        key = (
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mib']:,} MiB, {machine['system']}, "
            f"Linux {machine['kernel']}, {machine['filesystem']}; commit `{result['commit']}`{state}"
        )
        groups.setdefault(key, []).append((name, result))
    lines = []
    for key, members in groups.items():
        dates = sorted(result["date"] for _, result in members)
        when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        syncs = [result["machine"]["fsync_us"] for _, result in members]
        spread = f"{min(syncs):,.0f}" if min(syncs) == max(syncs) else f"{min(syncs):,.0f} to {max(syncs):,.0f}"
        names = ", ".join(name for name, _ in members)
        lines.append(f"- {key}; {when}; fdatasync of 4 KiB {spread} µs. Parts: {names}.")
    return "\n".join(lines) or "Nothing has been measured yet."


def overview(measured):
    lines = ["| figure | target | measured | ratio | reached |", "| --- | ---: | ---: | ---: | --- |"]
    for _, part, result in measured:
        for figure in part.figures(result["raw"]):
            lines.append(
                f"| {figure.name} | {figure.target} | {figure.measured} | {figure.ratio} | {MARKS[figure.reached]} |"
            )
    return "\n".join(lines)


def section(name, part, result):
    length = f"{result['seconds']} s for each measurement, {result['rounds']} rounds"
    if name in parts.ONCE:
        length = "measured once"
    return f"### {part.TITLE}\n\n{part.HOW}\n\n`bench/run.sh {name}`; {length}.\n\n{part.table(result['raw'])}\n"


def summary(results):
    """What is not reached, for the terminal."""
    lines = []
    for name, part in parts.ALL.items():
        for figure in part.figures(results[name]["raw"]) if name in results else []:
            if figure.reached is False:
                lines.append(f"not reached: {figure.name}: {figure.measured} (target {figure.target})")
    return "\n".join(lines) or "every figure that was measured is reached"
