"""Stored outputs are compared to one unit of the last printed digit; each chapter sees the committed records only."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from printed import Printed

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mAP 7.3 %", "mAP 7.4 %"),
        ("a  9.9  b", "a 10.0  b"),
        ("-0.00", "0.01"),
        ("loss 1.2e-05", "loss 1.3e-05"),
        ("<td>0.5</td>", "<td>0.6</td>"),
        ("40 of 40", "40 of 40"),
    ],
)
def test_rounding_is_forgiven(one, other):
    assert Printed(one) == Printed(other) and Printed(other) == Printed(one)
    assert not Printed(one) != other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mAP 7.3 %", "mAP 7.5 %"),
        ("40 of 40 records", "41 of 41 records"),
        ("0.30 more", "0.30 less"),
        ("0.3 and 0.4", "0.3"),
        ("1.2e-05", "1.2e-04"),
        ("1.20", "1.22"),
        ("a", "b"),
    ],
)
def test_all_else_is_a_difference(one, other):
    assert Printed(one) != Printed(other) and Printed(other) != Printed(one)


def notebook(path, source, stored):
    output = nbformat.v4.new_output("stream", name="stdout", text=stored)
    cell = nbformat.v4.new_code_cell(source, outputs=[output], execution_count=1)
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), path)


def test_nbval_uses_it_and_gives_each_chapter_the_committed_records(tmp_path):
    records = len(list((ROOT / "book" / "results").glob("*.json")))
    count = "import os, pathlib; here = pathlib.Path(os.environ['FDP_RESULTS'])\n"
    count += "print(len(list(here.glob('*.json'))))\n"
    notebook(tmp_path / "1.ipynb", count + "(here / 'own.json').write_text('{}'); print(0.3)", f"{records}\n0.4\n")
    notebook(tmp_path / "2.ipynb", count + "print(0.3)", f"{records}\n0.5\n")
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "-c", str(ROOT / "pyproject.toml")]
    command += ["-p", "conftest", "--noconftest", str(tmp_path)]
    environment = {key: value for key, value in os.environ.items() if key != "FDP_RESULTS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "2.ipynb::Cell 0" in done.stdout and "- 0.3" in done.stdout, done.stdout
