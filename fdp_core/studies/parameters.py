"""Checks the parameters that papermill injected into a notebook: papermill itself lets a misspelt name pass.

A notebook calls ``parameters.check(In)`` in the first cell after its parameters. Nothing happens in JupyterLab or under
nbval; under papermill a name that the notebook does not have, or a value of another type than declared, stops the run
with one clear sentence instead of training for hours with the default.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Sequence
from typing import Any

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
    """A parameter is unknown or has the wrong type."""


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


def validate(values: dict[str, Any], known: dict[str, str]) -> dict[str, str]:
    """Compare given parameters with the declared ones.

    Args:
        values: name -> value, as given by the user.
        known: name -> annotation, see :func:`declared`.

    Returns:
        name -> text of each number that was given where only a text is declared: of ``-p folder 2024`` papermill makes
        an int.

    Raises:
        BadParameter: a name is not declared (the nearest one is proposed), or a value has another type.
    """
    texts: dict[str, str] = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise BadParameter(f"Unknown parameter {name!r}.{guess} This notebook has: {', '.join(known)}.")
        allowed = _allowed(known[name])
        # bool is an int to Python, but `-p epochs true` is a mistake
        wrong_bool = isinstance(value, bool) and allowed is not None and bool not in allowed
        if allowed is not None and (wrong_bool or not isinstance(value, allowed)):
            if str in allowed and isinstance(value, (int, float)) and not isinstance(value, bool):
                texts[name] = str(value)
                continue
            hint = f" papermill's -r passes a text as it is: -r {name} {value}" if str in allowed else ""
            raise BadParameter(f"Parameter {name!r} is {value!r}; expected {known[name]}.{hint}")
    return texts


def check(history: Sequence[str], namespace: dict[str, Any] | None = None) -> None:
    """Check what papermill injected into the running notebook; a number given for a text becomes that text.

    Args:
        history: the notebook's list of executed cells: pass ``In``.
        namespace: the notebook's variables; None takes the caller's.

    Raises:
        BadParameter: see :func:`validate`.
    """
    namespace = sys._getframe(1).f_globals if namespace is None else namespace
    for before, cell in zip(history, history[1:]):
        if cell.lstrip().startswith(_INJECTED):
            values = {}
            for node in ast.parse(cell).body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    values[node.targets[0].id] = _literal(node.value)
            for name, text in validate(values, declared(before)).items():
                namespace[name] = text
                print(f"{name} = {text!r} (papermill's -r keeps the zeros of a text such as 007: -r {name} 007)")


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal as papermill writes it; ``float('nan')`` and its like are floats."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return float("nan")
