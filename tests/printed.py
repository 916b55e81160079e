"""How two printed outputs of a chapter are compared: words exactly, decimal numbers to one unit of their last digit."""

import re

_DECIMAL = re.compile(r"[-+]?\d+\.\d+(?:e[-+]?\d+)?")


def _unit(number: str) -> float:
    """Return what one step of a printed number's last digit is worth."""
    digits, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


def _close(one: str, other: str) -> bool:
    return abs(float(one) - float(other)) <= 1.001 * max(_unit(one), _unit(other))


class Printed(str):
    """A printed output that equals another whose decimal numbers differ by rounding only.

    Another number of threads, another processor or another library of linear algebra moves a sum in its last bits. A
    number near the edge of rounding is then printed one unit higher or lower. Whole numbers are counts and stay exact.
    Columns move with the width of a number, so that runs of spaces are one space.
    """

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        here, there = (" ".join(str(text).split()) for text in (self, other))
        if here == there:
            return True
        if _DECIMAL.split(here) != _DECIMAL.split(there):
            return False
        return all(map(_close, _DECIMAL.findall(here), _DECIMAL.findall(there)))

    def __ne__(self, other: object) -> bool:
        same = self.__eq__(other)
        return same if same is NotImplemented else not same
