"""Command line: ``python -m fdp_core.datasets list | show | fetch | verify | where | leakage | readme``."""

from __future__ import annotations

import argparse
import sys
import warnings

import yaml

from fdp_core.datasets import (
    DatasetMissing,
    FetchError,
    Gallery,
    ManifestError,
    all_manifests,
    as_folder,
    data_root,
    fetch,
    load,
    verify,
    where,
)
from fdp_core.datasets.describe import render_readme
from fdp_core.datasets.manifest import manifest, manifests_folder
from fdp_core.files import atomic_write_text


def _list() -> int:
    print(f"data folder: {data_root()} (set FDP_DATA to change it)\n")
    print(f"{'set':<13} {'split':<10} {'status':<9} {'photographs':>11} {'queries':>8}  may be shown  licence")
    for source in all_manifests():
        for check in verify(source.name, quick=True):
            facts = source.data["splits"].get(check.split, dict.fromkeys(("photographs", "queries"), "-"))
            photographs = check.counts.get("photographs", facts.get("photographs", "?"))
            queries = check.counts.get("queries", facts.get("queries", "?"))
            shown, licence = "yes" if source.may_show else "no", source.data["licence"]["name"]
            print(
                f"{check.name:<13} {check.split:<10} {check.status:<9} {photographs:>11} {queries:>8}  "
                f"{shown:<12}  {licence}"
            )
    return 0


def _verify(name: str, split: str | None, quick: bool) -> int:
    checks = verify(name, split, quick=quick, progress=sys.stderr.isatty())
    for check in checks:
        counts = ", ".join(f"{value:,} {key}" for key, value in check.counts.items())
        print(f"{check.name}/{check.split}: {check.status}{f' ({counts})' if counts else ''} in {check.folder}")
        for problem in check.problems[:20]:
            print(f"  {problem}")
        if len(check.problems) > 20:
            print(f"  ... and {len(check.problems) - 20} more")
    # A set of which only the first split was fetched is in order; a damaged one never is.
    return int(checks[0].status != "present" or any(check.status == "damaged" for check in checks))


def _show(name: str) -> int:
    source = manifest(name)
    print(yaml.safe_dump(source.data, sort_keys=False, allow_unicode=True, width=100).rstrip())
    print(f"\nmanifest: {source.path}\nsha256: {source.hash}\nfolder: {source.folder()}")
    for check in verify(name, quick=True):
        print(f"{check.split}: {check.status}")
    return 0


def _readme(check: bool) -> int:
    path = manifests_folder() / "README.md"
    if check:
        fresh = path.is_file() and path.read_text(encoding="utf-8") == render_readme()
        print(f"{path} is {'up to date' if fresh else 'old: run `python -m fdp_core.datasets readme`'}")
        return int(not fresh)
    atomic_write_text(path, render_readme())
    print(f"wrote {path}")
    return 0


def _galleries(name: str, split: str) -> list[Gallery]:
    """Load this split of a set, or all that it has where they are called otherwise; a folder is one whole."""
    parts = [] if as_folder(name) is not None else list(manifest(name).data["splits"])
    return [load(name, part)[0] for part in (parts if parts and split not in parts else [split])]


def _leakage(options: argparse.Namespace) -> int:
    from fdp_core.datasets import leakage  # SciPy and PyWavelets behind it are slow to load

    progress = sys.stderr.isatty()
    sides = [_galleries(options.train, "train"), _galleries(options.test, "test")]
    hashed = [[leakage.fingerprints(gallery.photos, progress) for gallery in side] for side in sides]
    for gallery, made in zip(sum(sides, []), sum(hashed, []), strict=True):
        print(f"{gallery.name}/{gallery.split}: {len(made.ids):,} photographs")
        if made.unreadable:
            print(f"  {leakage.unreadable_line(made)}")
    bits = leakage.DISTANCE if options.distance is None else options.distance
    pairs = [pair for a in hashed[0] for b in hashed[1] for pair in leakage.compare(a, b, bits, progress)]
    for pair in pairs:
        print(f"{pair.a}\t{pair.b}\t{pair.bits} of {leakage.BITS} bits differ")
    print(f"{len(pairs)} pairs look alike" if pairs else "no photograph of one looks like one of the other")
    return int(bool(pairs))


def _print(thing: object) -> int:
    print(thing)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status, 1 with a message on stderr for what the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m fdp_core.datasets", description="Data sets: find, fetch, check.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text, run in (
        ("list", "what is present, missing or damaged", lambda _: _list()),
        ("show", "print a manifest", lambda o: _show(o.name)),
        ("fetch", "download, check and unpack what is missing", lambda o: _print(fetch(o.name, o.split))),
        ("verify", "check counts, hashes and every image", lambda o: _verify(o.name, o.split, o.quick)),
        ("where", "print the folder of a set", lambda o: _print(where(o.name))),
        ("leakage", "look for test photographs in a training set; exit status 1 if there are", _leakage),
        ("readme", "write data_manifests/README.md from the manifests", lambda o: _readme(o.check)),
    ):
        sub = commands.add_parser(command, help=text)
        sub.set_defaults(run=run)
        if command in ("show", "fetch", "verify", "where"):
            sub.add_argument("name", help="name or alias of a set")
        if command in ("fetch", "verify"):
            sub.add_argument("--split", help="only this split, or this file of weights (default: all)")
        if command == "verify":
            sub.add_argument("--quick", action="store_true", help="do not read the images")
        if command == "leakage":
            sub.add_argument("train", help="name, alias or folder")
            sub.add_argument("test", help="name, alias or folder")
            sub.add_argument("--distance", type=int, metavar="BITS", help="how many of 256 may differ (default: 48)")
        if command == "readme":
            sub.add_argument("--check", action="store_true", help="only say whether it is up to date")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # what they say is in the tables
    try:
        return options.run(options)
    except (DatasetMissing, FetchError, ManifestError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, FetchError) and options.command == "fetch":
            print("By hand:", *manifest(options.name).data.get("by_hand", []), sep="\n  - ", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what came so far is kept, the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
