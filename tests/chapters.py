"""Runs a chapter in the test's own process, with parameters as papermill injects them."""

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import torch

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run(number: str, **values: Any) -> dict[str, Any]:
    """Run all cells of chapter ``number`` and draw its figures, which stay open; return the chapter's names."""
    (chapter,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    defaults, *cells = (cell.source for cell in nbformat.read(chapter, 4).cells if cell.cell_type == "code")
    injected = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in values.items())
    names = {"In": ["", defaults, injected], "display": print}
    grad = torch.is_grad_enabled()
    try:
        with matplotlib.rc_context({"backend": "agg"}):
            for source in (defaults, injected, *cells):
                exec(compile(source, chapter.name, "exec"), names)
            for figure in plt.get_fignums():
                plt.figure(figure).canvas.draw()
    finally:
        torch.set_grad_enabled(grad)  # chapters may switch it off for good
    return names
