"""Runs a chapter in the test's own process, with parameters as papermill injects them."""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import torch

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def _code(number: str) -> list[str]:
    (chapter,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    return [cell.source for cell in nbformat.read(chapter, 4).cells if cell.cell_type == "code"]


def functions(number: str, **values: Any) -> SimpleNamespace:
    """Return what the cells of chapter ``number`` define: functions, classes, constants in capitals.

    ``values`` are what the functions read of the chapter's other names; nothing else of it is run.
    """
    names = dict(values)
    for node in ast.parse("\n".join(_code(number))).body:
        named = isinstance(node, ast.Assign) and all(
            isinstance(name, ast.Name) and name.id.isupper()
            for target in node.targets
            for name in (target.elts if isinstance(target, ast.Tuple) else [target])
        )
        if getattr(node, "name", None) in values:
            continue
        if named or isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
            exec(compile(ast.Module([node], []), f"chapter {number}", "exec"), names)
    return SimpleNamespace(**names)


def run(number: str, **values: Any) -> dict[str, Any]:
    """Run all cells of chapter ``number`` and draw its figures, which stay open; return the chapter's names."""
    defaults, *cells = _code(number)
    injected = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in values.items())
    names = {"In": ["", defaults, injected], "display": print}
    grad = torch.is_grad_enabled()
    try:
        with matplotlib.rc_context({"backend": "agg"}):
            for source in (defaults, injected, *cells):
                exec(compile(source, f"chapter {number}", "exec"), names)
            for figure in plt.get_fignums():
                plt.figure(figure).canvas.draw()
    finally:
        torch.set_grad_enabled(grad)  # chapters may switch it off for good
    return names
