"""Which packages the renderer's fonts come from, and under which licences: ``assets/fonts.yaml``.

    python -m fdp_core.mini.font_packages             faces found, packages missing, how to install them
    python -m fdp_core.mini.font_packages --install   install the missing ones (Debian and its kin)
    python -m fdp_core.mini.font_packages --write     write the list anew from this machine (Debian and its kin)

The same scenes need the same faces. The project ships none of them.
"""

from __future__ import annotations

import argparse
import fnmatch
import glob
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import yaml

from fdp_core.files import atomic_write_text
from fdp_core.mini import fonts

TABLE = Path(__file__).parent.parent / "assets" / "fonts.yaml"
UNKNOWN = "see copyright"  # an unknown licence is said to be so, never guessed
BUNDLED = "matplotlib"  # brings faces of its own; a requirement of this library, not a package of the system
_DOC = Path("/usr/share/doc")
_FACES = (".ttf", ".otf", ".otb", ".ttc", ".pfb")
_HEAD = """\
# Fonts of the renderer: packages of the system (Debian 12) and, last, matplotlib's wheel; none is part of the project.
# Written by `python -m fdp_core.mini.font_packages --write`. licence: of faces, for /usr/share/doc/PACKAGE/copyright.
# faces: how many usable faces fdp_core.mini.fonts.find_fonts() takes from it; 0 for fonts of pictures (Font Awesome,
# Noto Color Emoji), no writing on signs, no letters of English, or only shapes that another package has as well.
"""

# Read by a person: these copyright files have no License field for the fonts, or not one that says all.
_READ = {
    "fonts-dustin": "GPL (version not stated)",
    "fonts-ecolier-court": "OFL-1.1",
    "fonts-evertype-conakry": "OFL-1.1",
    "fonts-inconsolata": "OFL-1.0",
    "fonts-jura": "OFL-1.1",  # only its Kayah Li letters are GPL-3+ or OFL-1.1
    "fonts-levien-museum": "OFL-1.0",
    "fonts-levien-typoscript": "OFL-1.0",
    "fonts-liberation": "GPL-2 with font exception",
    "fonts-ocr-b": "public-domain and permissive",  # the rest of the source, and its msk-ocrb*.mp
    "fonts-oldstandard": "OFL-1.0",
    "fonts-rufscript": "GPL-3 with font exception",  # its field says GPL-3+, its text no later version
    "fonts-smc-manjari": "OFL-1.1",  # sources/*, of which the faces are built
    "fonts-symbola": "permissive",  # "free for any use"
    "fonts-terminus-otb": "OFL-1.1",
    "fonts-tomsontalks": "OFL-1.1",
    BUNDLED: "OFL-1.1 (STIX), BaKoMa (Computer Modern), Bitstream-Vera (DejaVu)",
}
# One spelling a licence: (pattern, replacement), applied in this order.
_SPELLINGS = (
    (r"\b(SIL-)?(OFL|sil)[ -]1\.1\b", "OFL-1.1"),
    (r"\b(A?L?GPL-\d)\.0", r"\1"),
    (r"\+(FE|FontException)\b", "+ with font exception"),
    (r" (with|\+) (special )?font exception\b", " with font exception"),
    (r"\bBitstream-?Vera\b", "Bitstream-Vera"),
    (r"\bApache-2$", "Apache-2.0"),
    (r"\bCC-BY-SA-3$", "CC-BY-SA-3.0"),
    (r"\bExpat\b", "MIT"),
)


@dataclass(frozen=True)
class FontPackage:
    """One package of fonts.

    Attributes:
        package: its name.
        version: the version that was used.
        licence: of the faces, a short name as SPDX has them, or "see copyright".
        faces: how many usable faces it contributes.
    """

    package: str
    version: str
    licence: str
    faces: int


def packages() -> tuple[FontPackage, ...]:
    """Return the packages of ``assets/fonts.yaml``, in its order.

    Raises:
        TypeError: an entry has other fields than those of :class:`FontPackage`.
    """
    return tuple(FontPackage(**entry) for entry in yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def missing() -> list[str] | None:
    """Return which packages of the list are not installed, in its order; None where there is no ``dpkg-query``."""
    if shutil.which("dpkg-query") is None:
        return None
    names = [entry.package for entry in packages() if entry.package != BUNDLED]
    lines = _ask("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names)
    installed = {line.split()[0] for line in lines if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def licence(package: str, paths: Iterable[str]) -> str:
    """Return the licence of an installed package's faces by its Debian copyright file, or "see copyright".

    Args:
        package: its name.
        paths: of its faces.

    Returns:
        A short name; several, where the faces differ, joined by "; ".
    """
    if package in _READ:
        return _READ[package]
    file = _DOC / package / "copyright"
    fields = _licence_fields(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else []
    found = {_of_face(fields, path) for path in paths} - {""}
    return "; ".join(sorted(found)) or UNKNOWN


def from_machine() -> list[FontPackage]:
    """Return what a new list would hold: the packages of the faces found here, and those of the list still installed.

    Raises:
        RuntimeError: there is no dpkg here to ask.
    """
    absent = missing()
    if absent is None:
        raise RuntimeError("This system has no dpkg-query: the list can be written on Debian and its kin only.")
    used, own = defaultdict(list), _owners(fonts.find_fonts())
    for path, package in own.items():
        used[package].append(path)
    pictures = [path for path in (fonts.find_icon_font(), fonts.find_emoji_font()) if path]
    names = {*used, *_owners(pictures).values(), *(p.package for p in packages() if p.package not in absent)}
    names -= {BUNDLED, ""}
    shown = _ask("dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *sorted(names))
    versions = dict(line.split() for line in shown)
    entries = []
    for name in sorted(names):
        # a package none of whose faces is taken still has a licence: that of all its faces
        paths = used[name] or [line for line in _ask("dpkg", "-L", name) if line.lower().endswith(_FACES)]
        entries.append(FontPackage(name, versions[name], licence(name, paths), len(used[name])))
    entries.append(FontPackage(BUNDLED, importlib.metadata.version(BUNDLED), _READ[BUNDLED], len(used[BUNDLED])))
    return entries


def write() -> Path:
    """Write ``assets/fonts.yaml`` anew from this machine.

    Returns:
        Its path.

    Raises:
        RuntimeError: there is no dpkg here to ask.
    """
    entries = [asdict(entry) for entry in from_machine()]
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, default_flow_style=None, width=200)
    return atomic_write_text(TABLE, _HEAD + text)


def _ask(*command: str) -> list[str]:
    """Return the lines that a query prints; what it does not know it leaves out (and says so on stderr)."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    return result.stdout.splitlines()


def _owners(paths: Sequence[str]) -> dict[str, str]:
    """Return path -> package; "" for faces that belong to none."""
    own = {}
    # dpkg takes file names for patterns: "Karla[wght].ttf" would not match itself
    for line in _ask("dpkg", "-S", *(glob.escape(path) for path in paths)) if paths else []:
        package, path = line.rsplit(": ", 1)
        own[path] = package.split(",")[0].split(":")[0]
    bundled = str(fonts.font_folders()[-1])
    return {path: own.get(path) or (BUNDLED if path.startswith(bundled) else "") for path in paths}


def _licence_fields(text: str) -> list[tuple[str, str]]:
    """Return (pattern of files, licence) of a machine-readable copyright file, in its order; [] of another file."""
    if not re.match(r"Format:", text, re.IGNORECASE):
        return []
    fields = []
    for paragraph in re.split(r"\n\s*\n", text):
        files = re.search(r"^Files:((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
        licence = re.search(r"^License:[ \t]*(\S.*)", paragraph, re.MULTILINE)
        if files and licence:
            fields += [(pattern, licence[1].strip()) for pattern in files[1].split()]
    return fields


def _of_face(fields: Sequence[tuple[str, str]], path: str) -> str:
    """Return the licence of one face, or "" where nothing names it.

    The patterns mean the source, a face is what was built of it: one that names the face, in whichever format, counts
    most, then ``fonts/*``, then ``*``; of equals the last, as the format has it.
    """
    face, best, found = PurePosixPath(path), 0, ""
    for pattern, name in fields:
        source = PurePosixPath(pattern)
        named = source.suffix in (".ttf", ".otf", ".sfd") and fnmatch.fnmatch(face.stem, source.stem)
        rank = 3 if named else {"fonts/*": 2, "*": 1}.get(pattern, 0)
        if rank and rank >= best:
            best, found = rank, name
    for spelling, replacement in _SPELLINGS:
        found = re.sub(spelling, replacement, found, flags=re.IGNORECASE)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Say which fonts there are and what is missing; install or write the list only where asked to."""
    description = __doc__.split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m fdp_core.mini.font_packages", description=description)
    parser.add_argument("--install", action="store_true", help="run the apt-get line that is printed")
    parser.add_argument("--write", action="store_true", help="write assets/fonts.yaml anew from this machine")
    options = parser.parse_args(arguments)
    if options.write:
        try:
            print(f"wrote {write()}")
        except RuntimeError as error:
            parser.error(str(error))
    listed = sum(entry.faces for entry in packages())
    print(f"{len(fonts.find_fonts())} faces found ({listed} in {TABLE.name}). Folders searched:")
    for folder in fonts.font_folders():
        print(f"  {folder}{'' if folder.is_dir() else ' (not there)'}")
    print(f"icons: {fonts.find_icon_font() or 'not found'}\nemoji: {fonts.find_emoji_font() or 'not found'}")
    absent = missing()
    if absent is None:
        print(f"Packages missing: unknown, this system has no dpkg-query; {TABLE.name} lists them.")
    elif not absent:
        print("Packages missing: none")
    else:
        line = ["apt-get", "install", "--yes", "--no-install-recommends", *absent]
        print(f"Packages missing: {len(absent)}. To install them (as root):\n{shlex.join(line)}")
        if options.install:
            subprocess.run(line, check=True)


if __name__ == "__main__":
    main()
