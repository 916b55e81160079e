"""Runs a chapter in the test's own process, with parameters as papermill injects them."""

import ast
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch

from fdp_core.datasets import Gallery, Queries

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


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Let records and caches go to a folder of the test's own; autouse wherever a module imports it."""
    monkeypatch.setenv("FDP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("FDP_CACHE", str(tmp_path / "cache"))
    yield
    torch.set_grad_enabled(True)
    plt.close("all")


def first_photographs(gallery: Gallery, queries: Queries, count: int) -> tuple[Gallery, Queries]:
    """Cut a gallery to its first photographs, with the queries that these answer."""
    kept = queries.relevant[:, :count].any(axis=1)
    cut = dataclasses.replace(
        queries,
        texts=tuple(text for text, keep in zip(queries.texts, kept) if keep),
        relevant=queries.relevant[kept, :count],
        groups={name: np.asarray(member)[kept] for name, member in queries.groups.items()},
    )
    return dataclasses.replace(gallery, photos=gallery.photos[:count]), cut
