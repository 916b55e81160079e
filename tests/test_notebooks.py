"""The chapters keep their form: parameters, figures with captions and alternative text, nothing exempt as a whole."""

import ast
import re
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

from fdp_core.studies import parameters

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
chapter = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
ESCAPES = {"nbval-skip", "nbval-ignore-output", "raises-exception"}


def cells(path, kind="code"):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def parameter_cells(path):
    return [cell for cell in cells(path) if "parameters" in tags(cell)]


def has_figure(cell):
    return any(
        "image/png" in out.get("data", {}) or "image/svg+xml" in out.get("data", {}) for out in cell.get("outputs", [])
    )


def test_there_are_notebooks():
    assert NOTEBOOKS, "notebooks/ is empty"


@chapter
def test_valid_and_of_the_usual_kernel(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    titles = re.findall(r"^# .+", "\n".join(c.source for c in cells(path, "markdown")), re.MULTILINE)
    assert len(titles) == 1, "one title"


@chapter
def test_one_parameter_cell_typed_and_commented(path):
    found = parameter_cells(path)
    assert len(found) == 1
    tree = ast.parse(found[0].source)
    assert tree.body, "an empty parameter cell"
    lines = found[0].source.splitlines()
    for node in tree.body:
        assert isinstance(node, ast.AnnAssign), f"not annotated: {ast.unparse(node)}"
        assert re.search(r"#\s*\S+", lines[node.end_lineno - 1]), f"no comment: {ast.unparse(node)}"


@chapter
def test_defaults_have_their_declared_types(path):
    tree = ast.parse(parameter_cells(path)[0].source)
    values = {node.target.id: ast.literal_eval(node.value) for node in tree.body}
    parameters.validate(values, parameters.declared(parameter_cells(path)[0].source))


@chapter
def test_papermill_sees_every_parameter_with_type_and_help(path):
    seen = papermill.inspect_notebook(str(path))
    assert set(seen) == set(parameters.declared(parameter_cells(path)[0].source))
    for name, entry in seen.items():
        assert entry["inferred_type_name"] != "None" and entry["help"], name


@chapter
def test_misspelt_parameters_are_caught_at_once(path):
    code = cells(path)
    first = code.index(parameter_cells(path)[0])
    assert any("parameters.check(In" in cell.source for cell in code[first + 1 : first + 3])


@chapter
def test_figures_have_caption_name_and_alternative_text(path):
    names = []
    for number, cell in enumerate(cells(path)):
        myst = cell.metadata.get("mystnb", {})
        if not has_figure(cell):
            assert "figure" not in myst, f"code cell {number}: a caption, but no figure was drawn"
            continue
        figure, image = myst.get("figure", {}), myst.get("image", {})
        assert figure.get("caption") and figure.get("name"), f"code cell {number}: no mystnb.figure caption and name"
        assert image.get("alt"), f"code cell {number}: no mystnb.image alt"
        assert "dark-light" in str(image.get("classes", "")), f"code cell {number}: dark mode would alter the figure"
        names.append(figure["name"])
    assert len(names) == len(set(names))


@chapter
def test_outputs_are_stored_and_clean(path):
    code = cells(path)
    assert any(cell.outputs for cell in code), "committed with its outputs"
    counts = [cell.execution_count for cell in code if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1)), "run from top to bottom in a fresh kernel"
    for cell in code:
        assert not any(out.output_type == "error" for out in cell.outputs)
        text = str(cell.outputs)
        assert not re.search(r"/(?:home|Users|root|work|tmp)/", text), "an output names a folder of the machine"


@chapter
def test_nothing_escapes_the_comparison_but_figures(path):
    code = [cell for cell in cells(path) if cell.source.strip()]
    assert not any("nbval-skip" in tags(cell) for cell in code)
    exempt = [cell for cell in code if tags(cell) & ESCAPES or "NBVAL_" in cell.source]
    for cell in exempt:
        assert has_figure(cell) or "assert " in cell.source, (
            f"exempt without a figure or an assert: {cell.source[:60]!r}"
        )
    compared = [cell for cell in code if cell.outputs and cell not in exempt]
    assert len(compared) >= 3, "too little is compared"
    assert sum("assert " in cell.source for cell in code) >= 1, "a chapter asserts what it claims"


@chapter
def test_the_library_defines_the_notebook_calls(path):
    for cell in cells(path):
        source = "\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!")))
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.ClassDef), "no class in a notebook"
            if isinstance(node, ast.FunctionDef):
                # drawing and the heart of an experiment stand in cells; what takes more than a screen does not
                assert node.end_lineno - node.lineno < 24, f"{node.name} belongs into the library"


@chapter
def test_what_comes_next_is_what_the_table_of_contents_says(path):
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    pages = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    for link in re.findall(r"\*\*Next:\*\*\s*\[[^\]]*\]\(([^)]*)\)", text):
        following = pages[pages.index(f"notebooks/{path.stem}") + 1]
        assert (path.parent / link).resolve().with_suffix("") == ROOT / following


@pytest.mark.parametrize("file", sorted((ROOT / "notebooks").glob("params/*.yaml")), ids=lambda path: path.stem)
def test_parameter_files_fit_their_chapter(file):
    notebook = ROOT / "notebooks" / f"{file.stem.split('.')[0]}.ipynb"
    assert notebook.is_file(), "named <chapter>.<profile>.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert set(values) <= set(papermill.inspect_notebook(str(notebook)))
    parameters.validate(values, parameters.declared(parameter_cells(notebook)[0].source))


def test_the_sanitiser_hides_times_and_keeps_numbers():
    from nbval.plugin import get_sanitize_patterns

    text = (ROOT / "tests" / "nbval_sanitize.cfg").read_text(encoding="utf-8")
    patterns = get_sanitize_patterns(text)

    def clean(line):
        for pattern, replacement in patterns:
            line = re.sub(pattern, replacement, line)
        return line

    assert len(patterns) == 7
    for one, other in (
        ("trained in 93.2 s", "trained in 101 s"),
        ("2026-11-23T10:00:00+00:00", "2027-01-02"),
        ("<Axes at 0x7f8a12345678>", "<Axes at 0x55d0aabbccdd>"),
        ("12.5 photographs/s", "8 photographs/s"),
        ("commit 0123456789 (dirty)", "commit abcdefabcd"),
    ):
        assert clean(one) == clean(other)
    for line in (
        "mAP 25.5 %",
        "427 queries, 249 photographs",
        "loss 0.731 at step 120",
        "shape (1, 401, 2048)",
    ):
        assert clean(line) == line
