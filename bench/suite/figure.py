"""A figure: what should be reached, and what was."""

import dataclasses


@dataclasses.dataclass
class Figure:
    name: str
    target: str
    measured: str
    ratio: str
    # None: it is shown, and nothing has been promised of it.
    reached: bool | None


def at_least(name, ratio, target, measured):
    """A ratio that should be large."""
    return Figure(name, f"≥ {target:g}", measured, f"{ratio:.2f}", ratio >= target)


def at_most(name, value, target, unit, measured=None):
    """A value that should be small; its ratio is that to the target."""
    shown = measured or f"{value:,.4g} {unit}"
    return Figure(name, f"≤ {target:,g} {unit}".strip(), shown, f"{value / target:.2f}", value <= target)


def is_zero(name, count):
    """Something that should not happen at all."""
    return Figure(name, "0", f"{count:g}", "", count == 0)


def rate(number):
    return f"{number:,.0f}/s"


def ms(microseconds):
    return f"{microseconds / 1000:,.2f} ms"
