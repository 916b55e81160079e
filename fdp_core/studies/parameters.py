"""Checks the parameters that papermill injected into a notebook: papermill itself lets a misspelt name pass.

A notebook calls ``parameters.check(In)`` in the first cell after its parameters. A name that the notebook does not
have, a value of another type than declared or a number out of range, injected by papermill or written into the cell by
hand, stops the run with one clear sentence instead of training for hours with something else.
"""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from fdp_core import config

Count, Real, Size = config.Count, config.Real, config.Size
_INJECTED = "# Parameters"  # first line of the cell that papermill inserts
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "list": (list, tuple),
    "dict": (dict,),
    "None": (type(None),),
}


class BadParameter(ValueError):
    """A parameter is unknown, has the wrong type or is out of range."""


def declared(source: str) -> dict[str, str]:
    """Return the names that a parameters cell assigns, with their annotations.

    Args:
        source: the code of the cell.

    Returns:
        name -> annotation as written ("" where there is none), in the order of the cell.
    """
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            found.update({t.id: "" for t in node.targets if isinstance(t, ast.Name)})
    return found


def _allowed(annotation: str) -> tuple[type, ...] | None:
    """Return the types that an annotation such as ``"str | None"`` admits, None when it names none of ours."""
    names = [part.strip().split("[")[0] for part in annotation.split("|")]
    if not annotation or any(name not in _TYPES for name in names):
        return None
    return tuple(kind for name in names for kind in _TYPES[name])


def validate(values: dict[str, Any], known: dict[str, str], kinds: dict[str, Any] | None = None) -> dict[str, str]:
    """Compare given parameters with the declared ones.

    Args:
        values: name -> value, as given by the user.
        known: name -> annotation, see :func:`declared`.
        kinds: name -> type of :mod:`fdp_core.config` of a number, where it is not "0 or more".

    Returns:
        name -> text of each number that was given where only a text is declared: of ``-p folder 2024`` papermill makes
        an int.

    Raises:
        BadParameter: a name is not declared (the nearest one is proposed), or a value has another type or range.
    """
    texts: dict[str, str] = {}
    for name, value in values.items():
        if name not in known:
            raise BadParameter(
                f"Unknown parameter {name!r}.{config.nearest(name, known)} This notebook has: {', '.join(known)}."
            )
        allowed = _allowed(known[name])
        # bool is an int to Python, but `-p epochs true` is a mistake
        wrong_bool = isinstance(value, bool) and allowed is not None and bool not in allowed
        if allowed is not None and (wrong_bool or not isinstance(value, allowed)):
            if str in allowed and isinstance(value, (int, float)) and not isinstance(value, bool):
                texts[name] = str(value)
                continue
            hint = f" papermill's -r passes a text as it is: -r {name} {value}" if str in allowed else ""
            raise BadParameter(f"Parameter {name!r} is {value!r}; expected {known[name]}.{hint}")
        if allowed is not None and isinstance(value, (int, float)) and not isinstance(value, bool):
            kind = (kinds or {}).get(name, config.Number if float in allowed else config.Whole)
            try:
                config.check(f"Parameter {name!r}", value, kind)
            except ValueError as error:
                raise BadParameter(str(error)) from None
    return texts


def check(history: Sequence[str], namespace: dict[str, Any] | None = None, **kinds: Any) -> None:
    """Check the parameters of the running notebook; a number given for a text becomes that text.

    Args:
        history: the notebook's list of executed cells: pass ``In``.
        namespace: the notebook's variables; None takes the caller's.
        kinds: ``name=parameters.Count`` for 1 or more, ``Size`` for a multiple of 32, ``Real`` for any; else 0 or more.

    Raises:
        BadParameter: see :func:`validate`.
    """
    namespace = sys._getframe(1).f_globals if namespace is None else namespace
    given = []
    for before, cell in zip(history, history[1:]):
        if cell.lstrip().startswith(_INJECTED):
            assigned = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
            values = {name.id: _literal(node.value) for node in assigned for name in node.targets}
            given.append(({name: namespace.get(name, value) for name, value in values.items()}, declared(before)))
    with contextlib.suppress(SyntaxError):  # a line for IPython
        known = declared("".join(history[-2:-1]))  # the cell before this one, edited by hand; nbval keeps none
        if not given and all(known.values()):
            given = [({name: namespace[name] for name in known.keys() & namespace.keys()}, known)]
    for values, known in given:
        for name, text in validate(values, known, kinds).items():
            namespace[name] = text
            print(f"{name} = {text!r} (papermill's -r keeps the zeros of a text such as 007: -r {name} 007)")


def typed() -> bool:
    """Tell whether someone sits before this notebook: papermill, nbval and a plain Python run it without a keyboard."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and bool(kernel.get_parent().get("content", {}).get("allow_stdin"))


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal as papermill writes it; ``float('nan')`` and its like are floats."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return float("nan")
