"""A misspelt or mistyped parameter stops a notebook; papermill alone would only warn."""

import nbformat
import papermill
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdp_core.studies import parameters

CELL = """seed: int = 0  # random seed
rate: float = 1e-3  # learning rate
dataset: str = "mini"  # name of the set
folder: str | None = None  # photographs
fast: bool = False  # fewer steps
words: list = ["a"]  # queries
plain = 3
"""
KNOWN = parameters.declared(CELL)


def test_declared_names_and_annotations():
    assert list(KNOWN) == ["seed", "rate", "dataset", "folder", "fast", "words", "plain"]
    assert KNOWN["folder"] == "str | None" and KNOWN["plain"] == ""


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"seed": 3},
        {"rate": 1},
        {"rate": 0.5},
        {"folder": None},
        {"folder": "x"},
        {"fast": True},
        {"words": []},
        {"plain": "anything"},
    ],
)
def test_good_values_pass(values):
    parameters.validate(values, KNOWN)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"datset": "svt"}, "Unknown parameter 'datset'. Did you mean 'dataset'"),
        ({"qqqq": 1}, "Unknown parameter 'qqqq'. This notebook has: seed"),
        ({"seed": "three"}, "'seed' is 'three'; expected int"),
        ({"seed": True}, "expected int"),
        ({"seed": 1.5}, "expected int"),
        ({"fast": 1}, "expected bool"),
        ({"folder": True}, r"expected str \| None\. papermill's -r passes a text as it is: -r folder True"),
        ({"dataset": None}, "expected str"),
    ],
)
def test_bad_values_say_what_is_wrong(values, message):
    with pytest.raises(parameters.BadParameter, match=message):
        parameters.validate(values, KNOWN)


@given(st.dictionaries(st.sampled_from(sorted(KNOWN)), st.none() | st.booleans() | st.integers() | st.text(max_size=3)))
def test_never_another_error(values):
    try:
        parameters.validate(values, KNOWN)
    except parameters.BadParameter as error:
        assert "expected" in str(error)


@pytest.mark.parametrize("value, text", [(2024, "2024"), (1.5, "1.5"), (-3, "-3"), ("2024", None)])
@pytest.mark.parametrize("name", ["folder", "dataset"])
def test_a_number_given_for_a_text_becomes_the_text(capsys, name, value, text):
    variables = {name: value}
    parameters.check(["", CELL, f"# Parameters\n{name} = {value!r}\n"], variables)
    assert variables == {name: text or value}
    assert ("-r" in capsys.readouterr().out) == (text is not None)


def test_history_without_papermill_passes():
    parameters.check(["", CELL, "datset = 'svt'", "import os"])
    parameters.check(["", CELL, "%matplotlib inline", "import os"])
    for kept in ([], [""], ["", "parameters.check(In)"]):  # nbval keeps no history
        parameters.check(kept)


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("seed = -1", "'seed' is -1; expected a whole number, 0 or more"),
        ("rate = -0.5", "'rate' is -0.5; expected a finite number, 0 or more"),
        ("rate = float('nan')", "'rate' is nan; expected a finite number"),
        ("rate = 1e999", "'rate' is inf; expected a finite number"),
        ("photographs = 0", "'photographs' is 0; expected a whole number, 1 or more"),
        ("side = 100", "'side' is 100; expected a positive multiple of 32"),
    ],
)
def test_a_number_out_of_range_is_refused_injected_and_by_hand(cell, told):
    declared = 'seed: int = 0\nrate: float = 1e-3\nphotographs: int = 3\nside: int = 640\nname: str = "a"'
    kinds = {"photographs": parameters.Count, "side": parameters.Size}
    with pytest.raises(parameters.BadParameter, match=told):
        parameters.check(["", declared, f"# Parameters\n{cell}", "parameters.check(In)"], {}, **kinds)
    variables = {}
    exec(declared, variables)
    parameters.check(["", declared, "parameters.check(In)"], variables, **kinds)
    exec(cell, variables)
    with pytest.raises(parameters.BadParameter, match=told):
        parameters.check(["", declared, "parameters.check(In)"], variables, **kinds)


def test_a_dict_that_papermill_injects_is_no_number():
    """``float('nan')`` inside it is no literal; the notebook's own value counts."""
    cells = ["", "switches: dict = {}", "# Parameters\nswitches = {'lr_new': float('nan')}", "parameters.check(In)"]
    parameters.check(cells, {"switches": {"lr_new": float("nan")}})


def test_history_of_papermill_is_checked():
    good = "# Parameters\nseed = 4\nrate = 1e-2\n"
    parameters.check(["", CELL, good, "from fdp_core.studies import parameters"])
    with pytest.raises(parameters.BadParameter, match="datset"):
        parameters.check(["", CELL, '# Parameters\ndatset = "svt"\n', "parameters.check(In)"])


@pytest.fixture
def notebook(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("seed: int = 0  # seed", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "from fdp_core.studies import parameters\n\nparameters.check(In)\nprint('seed', seed)"
        ),
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "in.ipynb")
    return tmp_path / "in.ipynb"


def test_plain_papermill_stops_at_a_misspelt_parameter(notebook, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="Did you mean 'seed'"):
        papermill.execute_notebook(notebook, tmp_path / "out.ipynb", parameters={"sed": 1}, progress_bar=False)


def test_plain_papermill_runs_with_a_right_one(notebook, tmp_path):
    done = papermill.execute_notebook(notebook, tmp_path / "out.ipynb", parameters={"seed": 1}, progress_bar=False)
    assert done.cells[-1].outputs[0].text == "seed 1\n"
