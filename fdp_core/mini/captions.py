"""What captions say of a scene: what is written, what is drawn, and what the words mean.

A caption of ``mini_clip`` names a thing by its word whether the word is written or the thing is drawn, as web captions
do. Meanings (synonyms, kinds, glosses) come from WordNet 3.0 (Debian ``wordnet-base``), read when captions are made.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fdp_core.mini import concepts, lexicon
from fdp_core.mini.renderer import SceneWord
from fdp_core.words import FUNCTION_WORDS, MIN_LENGTH, english_words

LONGEST = 48  # letters of a gloss
KINDS = ("content word", "function word")  # as a dictionary says of every word


def _synset(line: str) -> tuple[list[str], list[str], str]:
    """Return a data line's words, the offsets of what it is a kind of, and the first clause of its gloss."""
    fields, _, gloss = line.partition(" | ")
    parts = fields.split()
    count = int(parts[3], 16)
    words = [parts[4 + 2 * i].split("(")[0].replace("_", " ").lower() for i in range(count)]
    pointers = parts[5 + 2 * count :]
    kinds = [pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] in ("@", "@i")]
    clause = gloss.split(";")[0].strip()
    while len(clause) > LONGEST:
        clause = clause.rpartition(" ")[0]
    return words, kinds, clause


@functools.cache
def meanings() -> dict[str, tuple[str, ...]]:
    """Return word -> texts that mean it, for every concept and frequent word of an open class.

    Returns:
        Synonyms and kinds (two levels up) of the word's first sense, and the start of its gloss; words of a closed
        class (``FUNCTION_WORDS``) and those that WordNet does not hold are absent.

    Raises:
        FileNotFoundError: WordNet is neither in ``WNSEARCHDIR`` nor where Debian puts it.
    """
    folder, found = Path(os.environ.get("WNSEARCHDIR") or "/usr/share/wordnet"), {}
    if not (folder / "data.noun").is_file():
        raise FileNotFoundError(f"No WordNet in {folder}: install Debian's wordnet-base, or set WNSEARCHDIR.")
    wanted = {*_common(), *concepts.names()} - set(FUNCTION_WORDS)
    for part in ("noun", "verb", "adj", "adv"):  # the first that holds the word decides
        data = (folder / f"data.{part}").read_text(encoding="utf-8").splitlines()
        lines = {line[:8]: line for line in data if not line.startswith(" ")}
        for line in (folder / f"index.{part}").read_text(encoding="utf-8").splitlines():
            fields = line.split()
            if line.startswith(" ") or fields[0] not in wanted or fields[0] in found:
                continue
            words, kinds, gloss = _synset(lines[fields[-int(fields[2])]])
            for _ in range(2 if kinds else 0):
                above, kinds, _gloss = _synset(lines[kinds[0]]) if kinds else ([], [], "")
                words += above[:1]
            texts = dict.fromkeys(text for text in [*words, gloss] if text and text != fields[0])
            if texts:
                found[fields[0]] = tuple(texts)
    return found


@functools.cache
def _common(count: int = 4000) -> tuple[str, ...]:
    """Return the most frequent words that are no abbreviations, the most frequent first."""
    return tuple(word for word in english_words()[:count] if len(word) >= MIN_LENGTH and word.isalpha())


def sample_word(rng: np.random.Generator) -> str:
    """Draw a word for a sign: 30 % concepts, 20 % closed class, 40 % frequent ones (half of them closed class too)."""
    kind = rng.random()
    if kind < 0.3:
        return concepts.names()[int(rng.integers(len(concepts.names())))]
    if kind < 0.5:
        return FUNCTION_WORDS[int(rng.integers(len(FUNCTION_WORDS)))]
    if kind < 0.9:
        return _common()[int(np.exp(rng.random() * np.log(len(_common()))))]
    return lexicon.sample_word(rng)


def names(thing: SceneWord) -> list[str]:
    """Return the captions that are true of one thing: its bare name first, then longer ones."""
    text = thing.text.lower()
    if not thing.is_word:
        return [text, f"a {text}", f"a picture of a {text}"]
    said = [text, f"the word {text}", f"a sign that says {text}"]
    return said if thing.board == "none" else [*said, f"a {thing.board} sign that says {text}"]


def sample(
    rng: np.random.Generator, scenes: Sequence[Sequence[SceneWord]], wrong: float
) -> tuple[list[str], np.ndarray]:
    """Draw captions of a batch, and say of which scenes each is true.

    Args:
        rng: the random generator.
        scenes: the things that can be seen in each of B scenes.
        wrong: share of the written words of which a misspelling is added, true of no scene (or of another one).

    Returns:
        M captions, the shorter first; bool [B, M].
    """
    chosen: set[str] = set()
    for thing in (thing for things in scenes for thing in things):
        said, meant = names(thing), meanings().get(thing.text.lower(), ())
        chosen.add(said[0] if rng.random() < 0.7 else said[int(rng.integers(1, len(said)))])
        if meant and rng.random() < 0.2:
            chosen.add(meant[int(rng.integers(len(meant)))])
        if thing.is_word and rng.random() < wrong:
            chosen.add(lexicon.mutate(rng, said[0]))
    texts = sorted(chosen - {""}, key=lambda text: (len(text), text))
    table = meanings()
    true = [{t for x in things for t in (*names(x), *table.get(x.text.lower(), ()))} for things in scenes]
    return texts, np.array([[text in facts for text in texts] for facts in true])


def sample_meanings(rng: np.random.Generator, count: int, closed: int) -> tuple[list[str], list[str], np.ndarray]:
    """Draw words and texts that mean them, for text against text.

    Args:
        rng: the random generator. count: words of open classes. closed: words of closed classes, which mean none of
        the texts but the last: as a dictionary does, the last two say which words name things and which do not.

    Returns:
        Words; meanings, M of them; bool [count + closed, M], "this word means that".
    """
    table = meanings()
    every, drawable = list(table), [name for name in concepts.names() if name in table]
    pools = [drawable if rng.random() < 0.3 else every for _ in range(count)]
    words = [pool[int(rng.integers(len(pool)))] for pool in pools]
    texts = sorted({table[w][int(rng.integers(len(table[w])))] for w in words}, key=lambda text: (len(text), text))
    words += [FUNCTION_WORDS[int(i)] for i in rng.integers(len(FUNCTION_WORDS), size=closed)]
    means = [[text in table.get(word, ()) for text in texts] + [i < count, i >= count] for i, word in enumerate(words)]
    return words, [*texts, *KINDS], np.array(means)
