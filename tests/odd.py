"""Spoils JSON values and texts in many ways, for tests of files that are not as they should be."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        ["", "false", "x", [], {}, [[]], {"a": 1}, 1e300, float("nan"), 10**30, "[" * 5000, "../x", "\x00"]
    ),
)


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """Return the path to each part of a JSON value, the whole first."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in parts for place in places(part, (*at, key)))]


def put(value: Any, at: tuple, new: Any, drop: bool = False) -> Any:
    """Return a JSON value with one part changed or left out."""
    if not at:
        return new
    value = value.copy()
    if drop and len(at) == 1:
        value.pop(at[0])
    else:
        value[at[0]] = put(value[at[0]], at[1:], new, drop)
    return value


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """Draw a JSON value with one part changed or left out."""
    return put(value, draw(st.sampled_from(places(value))), draw(ODD), draw(st.booleans()))


@st.composite
def spoilt_text(draw: st.DrawFn, value: Any) -> str:
    """Draw the text of a spoilt value, or a text that is no JSON at all."""
    text = json.dumps(draw(spoilt(value)))
    cut = text[: draw(st.integers(0, len(text)))]
    return draw(st.sampled_from([text, text, text, cut, "[" * 100_000, '{"a":' * 100_000, "null", "\ufeff" + text]))
