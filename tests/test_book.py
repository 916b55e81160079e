"""The book's own machinery: chapters run once, pages filled from files, strict and offline HTML."""

import html
import importlib
import json
import pkgutil
import re
import shutil
import sys
from pathlib import Path

import hypothesis
import nbformat
import pandas as pd
import pytest
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_role import myst_role_plugin

from fdp_core.studies import paper

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def book():
    """Return the modules of ``book/`` by name."""
    sys.path.insert(0, str(ROOT / "book"))
    names = ("build", "check", "pages", "runner")
    yield type("Book", (), {name: importlib.import_module(name) for name in names})
    sys.path.remove(str(ROOT / "book"))


def write_notebook(path, *sources, figure=False):
    cells = [nbformat.v4.new_markdown_cell("# A chapter\n\n$x^2$")]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    cells[1].metadata["tags"] = ["parameters"]
    if figure:
        cells[-1].metadata["mystnb"] = {
            "figure": {"caption": "A line.", "name": "fig-line"},
            "image": {"alt": "a line", "classes": "dark-light"},
        }
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)
    return path


@pytest.fixture
def project(tmp_path):
    """Return a project of one page and no chapter, with the real configuration and static files."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    shutil.copytree(ROOT / "book" / "_ext", root / "book" / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copy(ROOT / "book" / "references.bib", root / "book")
    (root / "fdp_core").mkdir()
    (root / "fdp_core" / "some.py").write_text("V = 1\n")
    (root / "book" / "index.md").write_text("# Front\n\n$$ a^2 $$ (eq-a)\n\nSee {eq}`eq-a`, {numref}`fig-line`.\n")
    chapters = "chapters: [{file: notebooks/01_one}]\n"
    (root / "book" / "_toc.yml").write_text("format: jb-book\nroot: book/index\n" + chapters)
    return root


LINE = "import matplotlib.pyplot as plt\n\nplt.plot([0, 1]);"


# chapters


def test_a_chapter_runs_once_and_again_when_the_library_changes(book, project):
    source = write_notebook(project / "notebooks" / "01_one.ipynb", "seed: int = 3  # seed", "print(seed)")
    target = project / "_build" / "stage" / "notebooks" / source.name
    assert book.runner.run(project, source, target) is True
    executed = nbformat.read(target, as_version=4)
    assert executed.cells[-1].outputs[0].text == "3\n"
    assert str(project) not in target.read_text() and str(Path.home()) not in target.read_text()
    assert executed.metadata.fdp.date and executed.metadata.fdp.device and executed.metadata.papermill.duration > 0
    assert book.runner.run(project, source, target) is False
    (project / "fdp_core" / "some.py").write_text("V = 2\n")
    assert book.runner.run(project, source, target) is True


def test_a_misspelt_parameter_is_rejected_before_anything_runs(book, project):
    source = write_notebook(project / "notebooks" / "01_one.ipynb", "seed: int = 3  # seed", "raise SystemExit")
    for values, message in (({"sede": 1}, "Did you mean 'seed'"), ({"seed": "x"}, "expected int")):
        with pytest.raises(book.runner.ChapterFailed, match=message):
            book.runner.run(project, source, project / "out.ipynb", values)
    assert not (project / "out.ipynb").exists()


def test_profiles_are_read_and_checked(book, project):
    source = write_notebook(project / "notebooks" / "01_one.ipynb", "seed: int = 3  # seed")
    folder = project / "notebooks" / "params"
    folder.mkdir()
    (folder / "01_one.quick.yaml").write_text("seed: 5\n")
    (folder / "01_one.odd.yaml").write_text("- 5\n")
    assert book.runner.profile_parameters(source, "quick") == {"seed": 5}
    assert book.runner.profile_parameters(source, "other") == {} == book.runner.profile_parameters(source, None)
    with pytest.raises(book.runner.ChapterFailed, match="expected `name: value`"):
        book.runner.profile_parameters(source, "odd")


def test_a_failing_chapter_keeps_the_last_good_copy(book, project):
    source = write_notebook(project / "notebooks" / "01_one.ipynb", "seed: int = 3  # seed", "1 / seed")
    target = project / "_build" / "stage" / "notebooks" / source.name
    target.parent.mkdir(parents=True)
    target.write_text(source.read_text())
    before = target.read_bytes()
    with pytest.raises(book.runner.ChapterFailed, match="01_one.ipynb, cell .*ZeroDivisionError"):
        book.runner.run(project, source, target, {"seed": 0})
    assert target.read_bytes() == before
    assert (project / "_build" / "stage" / "failed" / source.name).is_file()


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_others_run_where_chapters_fail(book, project, capsys, jobs):
    names = ["01_one", "02_two", "03_three"]
    for name, cell in zip(names, ("1 / 0", "print(seed)", "[][0]")):
        write_notebook(project / "notebooks" / f"{name}.ipynb", "seed: int = 3  # seed", cell)
    listed = ", ".join(f"{{file: notebooks/{name}}}" for name in names)
    (project / "book" / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters: [{listed}]\n")
    stage = project / "_build" / "stage"
    failures = book.build.run_chapters(project, stage, jobs=jobs)
    assert [line.split(",")[0] for line in failures] == ["01_one.ipynb", "03_three.ipynb"]
    assert "ZeroDivisionError" in failures[0] and "IndexError" in failures[1]
    assert [path.stem for path in (stage / "notebooks").glob("[0-9]*.ipynb")] == ["02_two"]
    assert "02_two.ipynb: ran in" in capsys.readouterr().out


def test_outputs_that_name_this_machine_are_refused(book, project):
    cells = ("seed: int = 3  # seed", "import os\n\nprint(os.getcwd())")
    source = write_notebook(project / "notebooks" / "01_one.ipynb", *cells)
    with pytest.raises(book.runner.ChapterFailed, match="folders of this machine"):
        book.runner.run(project, source, project / "_build" / "stage" / "notebooks" / source.name)


def test_publishable_copies_hold_outputs_and_no_times(book, project):
    source = write_notebook(project / "notebooks" / "01_one.ipynb", "seed: int = 3  # seed", "print(seed)")
    target = project / "_build" / "stage" / "notebooks" / source.name
    book.runner.run(project, source, target, {"seed": 4})
    executed = nbformat.read(target, as_version=4)
    clean = book.runner.publishable(executed)
    assert len(clean.cells) == len(executed.cells) - 1
    assert clean.cells[-1].outputs[0].text == "4\n"
    assert "papermill" not in json.dumps(clean) and "fdp" not in clean.metadata
    assert "papermill" in executed.metadata, "the executed copy is left alone"


def test_the_table_of_contents_and_the_notebooks_must_agree(book, project):
    with pytest.raises(book.runner.ChapterFailed, match="do not exist: 01_one"):
        book.build.chapters(project)
    write_notebook(project / "notebooks" / "01_one.ipynb", "seed: int = 3  # seed")
    write_notebook(project / "notebooks" / "02_two.ipynb", "seed: int = 3  # seed")
    with pytest.raises(book.runner.ChapterFailed, match="does not name: 02_two"):
        book.build.chapters(project)


# pages


@pytest.fixture
def records(tmp_path):
    from fdp_core.evaluation import results

    base = dict(
        set="svt", split="test", protocol="p", metric="mAP", queries=427, images=249, unreadable=0, groups={},
        parameters={}, weights_hash=None, model_hash=None, manifest_hash=None, commit="a" * 40, dirty=True,
        device="cpu", libraries={}, seconds=12.3, speed=None, date="2026-11-23T10:00:00+00:00",
    )  # fmt: skip
    for system, backbone, value, given in (
        ("FDP", "mini", 25.54, {"k": 1}), ("FDP", "mini", 24.0, {"k": 2}), ("zero-shot", "mini", 6.0, {}),
    ):  # fmt: skip
        values = {"mAP": value, "mAP/content": value + 1}
        entry = dict(base, system=system, backbone=backbone, value=value, values=values, parameters=given)
        results.save(entry, tmp_path)
    return results.load_all(tmp_path)


def test_numbers_come_from_records(book, records):
    assert book.pages.result(records, "svt/zero-shot@mini:mAP") == "6.0"
    assert book.pages.result(records, "SVT/Zero-Shot:map/content") == "7.0"
    assert book.pages.result(records, "svt/zero-shot:queries") == "427"
    assert book.pages.result(records, "svt/zero-shot:commit") == "aaaaaaaaaa (with changes)"
    run = records[records["value"] > 25]["file"].iloc[0][-13:-5]
    assert book.pages.result(records, f"svt/FDP@mini#{run}:mAP") == "25.5"


@pytest.mark.parametrize("argument, message", [
    ("svt/FDP@mini:mAP", "exactly one record.*found: svt"),
    ("svt/ocr:mAP", "found: none"),
    ("ic15/zero-shot:mAP", "found: none"),
    ("svt/zero-shot:recall@7", "has no 'recall@7'"),
    ("svt", "expected result:SET"),
])  # fmt: skip
def test_a_missing_or_ambiguous_number_stops_the_build(book, records, argument, message):
    with pytest.raises(book.pages.PageError, match=message):
        book.pages.result(records, argument)


def test_the_plan_multiplies_what_was_measured(book, records):
    from fdp_core.evaluation import results

    with pytest.raises(book.pages.PageError, match="needs a record of 'index scale'"):
        book.pages.scale_table(records)
    table = results.load_all(ROOT / "book" / "results")
    text = book.pages.scale_table(table)
    largest = table[table["system"] == "index scale"].sort_values("images").iloc[-1]
    bytes_ = largest["values"]["disk, bytes"] / largest["images"]
    assert f"| {bytes_:,.0f} |" in text and f"| index on disk | {bytes_ * 1e7 / 1e9:,.0f} GB |" in text
    assert largest["file"] in text and "**Assumed:**" in text and "{" not in text


def test_errors_name_page_and_line(book, records):
    resolvers = {"result": lambda argument: book.pages.result(records, argument)}
    text = "a\n\n{{ result:svt/zero-shot:mAP }} {{result:svt/zero-shot:images}}\n{{ odd:x }}"
    with pytest.raises(book.pages.PageError, match="book/x.md, line 4: unknown field"):
        book.pages.fill(text, resolvers, "book/x.md")
    assert book.pages.fill(text.rsplit("\n", 1)[0], resolvers, "x") == "a\n\n6.0 249"
    with pytest.raises(book.pages.PageError, match="line 1: .*svt/ocr"):
        book.pages.fill("{{ result:svt/ocr:mAP }}", resolvers, "x")


def test_results_stand_beside_the_published_numbers(book, records):
    text = book.pages.results_table(records, ROOT / "data_manifests" / "paper_results.csv")
    assert "## Street View Text (SVT)" in text and "**25.5**" in text and "89.63" in text
    assert "minus" not in text, "no difference between mini and a paper's backbone"
    with pytest.raises(book.pages.PageError, match="no records"):
        book.pages.results_table(records.iloc[:0], ROOT / "data_manifests" / "paper_results.csv")


def test_oracles_stand_in_a_table_of_their_own(book, records):
    named = {"system": ["FDP + regions", "FDP + regions, word crops"], "backbone": "mini", "value": [67.6, 93.1]}
    table = pd.concat([records, records.iloc[:2].assign(**named)], ignore_index=True)
    text = book.pages.results_table(table, ROOT / "data_manifests" / "paper_results.csv")
    found, published, given = (text.index(part) for part in ("**67.6**", "89.63", "**93.1**"))
    assert found < published < text.index("Oracle:") < given, "below, and not ranked with what finds for itself"
    assert "regions, FDP query |" in text and "FDP + regions" not in text
    assert "word crops" not in set(paper.compare_with_paper(table)["system"].str.split(", ").str[-1])


def test_the_range_of_the_grid_over_rows_and_seeds(book):
    measured = (("a", "learned", 10.14), ("a", "learned", 10.7), ("b", "learned", 9.0), ("a", "even", 1.0))
    on = {"set": "svt", "split": "test", "backbone": "mini"}
    rows = [{**on, "row": row, "map": how, "mAP": value} for row, how, value in measured]
    rows.append({**rows[0], "backbone": "mini_clip", "mAP": 30.0})
    assert book.pages.ablation(rows, "svt@mini:a") == "10.1–10.7"
    assert book.pages.ablation(rows, "svt@mini:a, b") == "9.0–10.7" and book.pages.ablation(rows, "svt@mini:b") == "9.0"
    assert book.pages.ablation(rows, "svt@mini_clip:a") == "30.0", "each backbone by itself"
    with pytest.raises(book.pages.PageError, match="no row 'c' on svt/test of 'mini'"):
        book.pages.ablation(rows, "svt@mini:a, c")


def test_published_numbers(book):
    path = ROOT / "data_manifests" / "paper_results.csv"
    assert book.pages.published("FDP-RN50x16:svt", path) == "89.63"
    with pytest.raises(book.pages.PageError, match="0 such numbers"):
        book.pages.published("nobody:svt", path)


def test_the_pretraining_table_shows_what_each_step_learnt(book, tmp_path):
    log = tmp_path / "log.jsonl"
    with pytest.raises(book.pages.PageError, match="log.jsonl is missing or empty"):
        book.pages.pretraining_table(log)
    told = [{"step": 20 * i, "words_seen": 0, "seconds": 60.0 * i, "words": 1.5} for i in range(30)]
    told[-1] |= {"words_seen": 5400, "scenes": 2.25, "accuracy": 0.5}
    log.write_text("".join(json.dumps(line) + "\n" for line in told))
    lines = book.pages.pretraining_table(log).splitlines()
    assert len(lines) == 2 + 13
    assert lines[2] == "| 0 | 0 | 0 | 1.50 | – | – |"
    assert lines[-1] == "| 580 | 5,400 | 29 | 1.50 | 2.25 | 50 |"


def test_a_torn_line_ends_the_log(tmp_path):
    from fdp_core.training import state as history

    path = tmp_path / "log.jsonl"
    told = [{"step": 20 * i, "words": 5.0} for i in range(10)]
    path.write_text("".join(json.dumps(line) + "\n" for line in told) + '{"step": 4')
    assert history.read_log(path) == told
    path.write_text("")
    with pytest.raises(ValueError, match="holds no record"):
        history.read_log(path)


def test_the_later_record_of_a_run_counts(book, tmp_path):
    folder = tmp_path / "_build"
    committed = tmp_path / "book" / "results"
    for place, date in ((committed, "2026-01-01"), (folder, "2026-02-01")):
        place.mkdir(parents=True)
        (place / "a.json").write_text(json.dumps({"date": date}))
    (committed / "b.json").write_text(json.dumps({"date": "2026-01-01"}))
    book.pages.gather_records(tmp_path, folder)
    assert "02-01" in (folder / "a.json").read_text() and (folder / "b.json").is_file()
    (committed / "a.json").write_text(json.dumps({"date": "2026-03-01"}))
    book.pages.gather_records(tmp_path, folder)
    assert "03-01" in (folder / "a.json").read_text()
    (committed / "grid.jsonl").write_text("{}\n")
    book.pages.gather_records(tmp_path, folder)
    assert (folder / "grid.jsonl").read_text() == "{}\n"


def test_the_data_page_has_every_set(book):
    from fdp_core.datasets.manifest import all_manifests

    text = book.pages.render_readme(whole=False)
    for entry in all_manifests():
        assert entry.data["title"] in text and entry.data["licence"]["name"] in text


def test_every_page_is_in_the_table_of_contents(book):
    pages = {page for page in book.build.contents(ROOT) if page.startswith("book/")}
    assert pages == {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}


def test_the_method_page_names_things_that_exist():
    text = (ROOT / "book" / "method.md").read_text(encoding="utf-8")
    from fdp_core.config import Config

    steps = re.findall(r"^\| [^|]+ \| (`[^|]+) \|$", text, re.MULTILINE)  # the tables "step, lives in"
    names = [name for line in steps for name in re.findall(r"`(\w+)((?:\.\w+)*)`", line)]
    assert len(names) > 20
    for module, rest in names:
        pkgutil.resolve_name(f"fdp_core.{module}{rest}")
    switches = set(Config.__dataclass_fields__)
    for name in re.findall(r"`((?:shift|probe|fit|target|loc|drop|mask|position|polygon|distract)\w*)`", text):
        assert name in switches or (ROOT / "fdp_core" / f"{name}.py").is_file(), name


# HTML


@pytest.mark.parametrize("text, found", [
    ('<script src="https://a.b/c.js"></script>', 1), ('<img src="//a.b/c.png">', 1),
    ('<link rel="stylesheet" href="http://a.b/c.css">', 1), ('<link rel="canonical" href="http://a.b/">', 0),
    ('<a href="https://a.b">x</a>', 0), ('<img src="../a.png">', 0),
    ("<style>a{background:url(https://x.y/z)}</style>", 1),
    ('<script>const U = "https://unpkg.com/x"</script>', 1), ('<script>s = "http://www.w3.org/2000/svg"</script>', 0),
])  # fmt: skip
def test_what_a_page_would_load(book, text, found):
    assert len(book.check.external_in_html(text)) == found


def test_a_small_book_builds_strict_and_offline(book, project, monkeypatch):
    monkeypatch.setenv("FDP_RESULTS", str(project / "unused"))
    cells = ("seed: int = 3  # seed", LINE)
    write_notebook(project / "notebooks" / "01_one.ipynb", *cells, figure=True)
    assert book.build.main([], root=project) == 0
    html = project / "_build" / "html"
    page = (html / "notebooks" / "01_one.html").read_text(encoding="utf-8")
    assert 'alt="a line"' in page and "dark-light" in page and "Fig. 1" in page
    assert "mathjax/tex-svg.js" in page and "THEBE_JS_URL" not in page
    assert (html / "_static" / "mathjax" / "tex-svg.js").stat().st_size > 1e6
    assert not (project / "book" / "results").exists(), "a build leaves the checkout as it was"
    (project / "book" / "index.md").write_text("# Front\n\n{ref}`nowhere`\n")
    assert book.build.main([], root=project) == 1, "a broken reference stops the build"
    assert (html / "index.html").is_file(), "and keeps the last good book"


def test_the_built_book_is_whole(book):
    html = ROOT / "_build" / "html"
    if not html.is_dir():
        pytest.skip("the book has not been built here: make book")
    assert book.check.problems(html, book.build.contents(ROOT), [str(ROOT)]) == []
    assert len(list(html.rglob("*.html"))) >= len(book.build.contents(ROOT))


@hypothesis.settings(deadline=None)
@hypothesis.given(st.text(st.sampled_from(list("$\\{}^_%#&~<>|`*[]()!'\"- a1\n")), max_size=20))
@hypothesis.example("$ale $$$")
@hypothesis.example("$5 or $10")
@hypothesis.example("a|b `c` <b>d</b> **e** [f](g) {h}`i` {{ j:k }}")
def test_foreign_text_in_a_table_is_read_as_it_is_written(book, text):
    """What is read back from Markdown, with the extensions that the book switches on."""
    markdown = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin).use(myst_role_plugin)
    page = markdown.render(f"| a | b |\n|:--|:--|\n| x{book.pages._literal(text)}x | y |")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)
    assert [html.unescape(cell) for cell in cells] == [f"x{' '.join(text.split())}x", "y"]
    assert not book.pages._FIELD.search(book.pages._literal(text))
