"""The readable table of all data sets, written from the manifests (``data_manifests/README.md``)."""

from __future__ import annotations

from fdp_core.datasets.manifest import Manifest, all_manifests

_HEAD = """# Data sets

Written from the manifests in this folder by `python -m fdp_core.datasets readme`; change those, not this.

Sets are looked for in the folder that the environment variable `FDP_DATA` names, by default `data/`. The
commands are `python -m fdp_core.datasets list | show NAME | fetch NAME | verify NAME | where NAME`,
and `leakage TRAIN TEST`, which looks for photographs that stand in two sets. The manifests are found beside
the package (a checkout, `pip install -e .`) or where `FDP_MANIFESTS` points.
`paper_results.csv` holds the published numbers with their sources, `reproduction.csv` the command for each that can be
made here, `tolerances.csv` how far such a number may be off, `coverage.csv` which chapter treats what.

To add a data set, write `NAME.yaml` here (`schema.json` says how) and name its format under `parser`. A new format is
one line in the table of `fdp_core/datasets/formats/parse.py` and one function `parse_FORMAT(root, layout)` in the
module that it names. Test the function on a small file in `tests/datasets/`, then write this page anew.

"""


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


def overview() -> str:
    """Return a Markdown table with one row for each split of each set."""
    rows = [
        "| set | split | photographs | queries | licence | may be shown | how to get it |",
        "|---|---|---:|---:|---|---|---|",
    ]
    for source in all_manifests():
        label = f"[{source.data['title']}](#{_anchor(source)})"
        last = (source.data["licence"]["name"], "yes" if source.may_show else "no", _way(source))
        for part in source.parts:
            facts = source.data["splits"].get(part, {})
            counts = (_number(facts.get(key)) for key in ("photographs", "queries"))
            rows.append(f"| {' | '.join((label, part, *counts, *last))} |")
    return "\n".join(rows) + "\n"


def _anchor(source: Manifest) -> str:
    return source.name.replace("_", "-")


def _way(source: Manifest) -> str:
    if source.shipped:
        return "comes with the package"
    return "by hand (a form)" if source.data.get("by_hand_only") else f"`fetch {source.name}`"


def section(source: Manifest) -> str:
    """Return one set's description in Markdown, headed by its name."""
    data = source.data
    licence = data["licence"]
    lines = [f"## {_anchor(source)}", "", f"**{data['title']}.** {data['description'].strip()}", ""]
    lines.append(f"* Names: `{source.name}`" + "".join(f", `{alias}`" for alias in data["aliases"]))
    shown = "; its photographs may be shown" if licence["may_show"] else "; its photographs are not shown"
    lines.append(f"* Licence: {licence['name']}{'' if source.is_weights else shown}. {licence['source'].strip()}")
    if licence.get("attribution"):
        lines.append(f"* Attribution: {licence['attribution']}")
    if data.get("homepage"):
        lines.append(f"* Page: <{data['homepage']}>")
    if data.get("citation"):
        lines.append(f"* Cite: {data['citation'].strip()}")
    for split, facts in data["splits"].items():
        kinds = (key for key in ("photographs", "words", "legible", "queries") if key in facts)
        counts = ", ".join(f"{facts[key]:,} {key}" for key in kinds)
        queries = f"Queries: {facts['protocol']['summary']}. {facts['protocol']['source'].strip()}"
        lines.append(f"* {split.capitalize()}: {counts or 'counts not pinned'}. {queries}")
    lines += ["", "```text", data["tree"].rstrip(), "```", ""]
    if data.get("files"):
        lines += ["| file | size | checksum |", "|---|---:|---|"]
        for entry in data["files"]:
            size = f"about {entry['about_mb']} MB" if "about_mb" in entry else "not known"
            size = f"{entry['bytes'] / 1e6:.0f} MB" if "bytes" in entry else size
            kinds = [f"{kind} `{entry[kind]}`" for kind in ("md5", "sha256") if kind in entry]
            address = entry.get("urls", [None])[0]
            label = f"[{entry['file']}]({address})" if address else entry["file"]
            lines.append(f"| {label} | {size} | {', '.join(kinds) or 'none known: trust on first use'} |")
        lines.append("")
    if data.get("by_hand"):
        lines += ["By hand:", ""]
        lines += [f"{number}. {step}" for number, step in enumerate(data["by_hand"], start=1)] + [""]
    if data.get("notes"):
        lines += [data["notes"].strip(), ""]
    return "\n".join(lines)


def render_readme() -> str:
    """Return the whole page in Markdown: how to use it, the overview, one section a set."""
    return _HEAD + overview() + "\n" + "\n".join(section(source) for source in all_manifests())
