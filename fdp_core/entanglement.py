"""Does a query find the thing or the word? Kinds of words, and photographs that show the thing without the word."""

from __future__ import annotations

from typing import Any

import numpy as np

from fdp_core import metrics
from fdp_core.bottlenecks import outranked, word_protocol
from fdp_core.datasets.protocol import normalise
from fdp_core.distinguish import KINDS, Clusters
from fdp_core.metrics import above_rate
from fdp_core.words import frequent_words


def query_kinds(queries: Any, backbone: Any) -> tuple[dict[str, np.ndarray], str]:
    """Part content from function words: by the set's own groups, else by two clusters of the backbone's texts.

    Args:
        queries: Q queries. backbone: a :class:`fdp_core.backbones.Backbone`; nothing is trained.

    Returns:
        ``{"content": [Q] bool, "function": [Q] bool}`` and where they are from, "set" or "clusters". A query of another
        group of the set is in neither.

    Source: FDP section 3.3, on the general words of :mod:`fdp_core.words`; defect C1 (seeded).
    """
    if all(kind in queries.groups for kind in KINDS):
        return {kind: np.asarray(queries.groups[kind]) for kind in reversed(KINDS)}, "set"
    words = frequent_words({})
    clusters = Clusters.fit(backbone.encode_text(words), words)
    kinds = clusters.assign(backbone.encode_text(list(queries.texts))).cpu().numpy()
    return {kind: kinds == KINDS.index(kind) for kind in reversed(KINDS)}, "clusters"


def kinds_table(report: Any, kinds: dict[str, np.ndarray], seed: int = 0) -> Any:
    """Set the kinds of words side by side, with what else differs between them.

    Args:
        report: an :class:`fdp_core.evaluation.Report`. kinds: from :func:`query_kinds`. seed: of the intervals.

    Returns:
        DataFrame, one line a kind that has queries: ``queries``, ``letters`` and ``right photographs`` (means), ``mAP``
        with its 95 % interval ``from``, ``to``, ``chance`` (of a random order) and ``outranked``; the last five in %.
    """
    import pandas as pd

    right = report.relevant.sum(axis=1)
    chance = metrics.random_average_precision(right, report.relevant.shape[1])
    share, rows = np.array([np.nanmean(row) for row in outranked(report.relevant, report.scores)]), {}
    for kind, member in kinds.items():
        if member.any():
            low, high = metrics.bootstrap_interval(report.ap[member], seed=seed)
            rows[kind] = {
                "queries": int(member.sum()),
                "letters": np.mean([len(report.texts[row]) for row in np.flatnonzero(member)]),
                "right photographs": right[member].mean(),
                "mAP": 100 * report.ap[member].mean(),
                "from": 100 * low,
                "to": 100 * high,
                "chance": 100 * chance[member].mean(),
                "outranked": 100 * share[member].mean(),
            }
    return pd.DataFrame(rows).T


def kinds_gap(report: Any, kinds: dict[str, np.ndarray], rounds: int = 2000, seed: int = 0) -> tuple[float, ...]:
    """Compare content with function words by how far their average precision stands above chance.

    Returns:
        (difference of the means, low, high): points (%), content minus function, with a 95 % interval from drawing the
        queries of either kind again.

    Raises:
        ValueError: a kind has no queries.
    """
    chance = metrics.random_average_precision(report.relevant.sum(axis=1), report.relevant.shape[1])
    content, function = ((report.ap - chance)[kinds[kind]] for kind in ("content", "function"))
    if not (len(content) and len(function)):
        raise ValueError(f"{len(content)} content and {len(function)} function words: nothing to compare.")
    rng = np.random.default_rng(seed)
    drawn = [group[rng.integers(0, len(group), (rounds, len(group)))].mean(axis=1) for group in (content, function)]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    return tuple(100 * float(value) for value in (content.mean() - function.mean(), low, high))


def equal_length(texts: tuple[str, ...], kinds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keep of each kind only the words as long as some word of the other: function words are short."""
    lengths = np.array([len(text) for text in texts])
    shared = set.intersection(*(set(lengths[member]) for member in kinds.values()))
    return {kind: member & np.isin(lengths, list(shared)) for kind, member in kinds.items()}


def picture_masks(gallery: Any, queries: Any) -> dict[str, np.ndarray]:
    """Sort the photographs of each query that names a picture of the set.

    Args:
        gallery: N photographs; ``photo.pictures`` names what a rendered set shows without words.
        queries: Q queries over them.

    Returns:
        ``sign``: right, and no such picture in it; ``picture``: it shows the thing, and the word stands nowhere, not
        even too small to count; ``neither``; each [Q, N] bool, all False for a query that names no picture.
    """
    protocol = word_protocol(gallery)
    said = [{normalise(word.text, protocol) for word in photo.words} for photo in gallery.photos]
    shown = [{normalise(name, protocol) for name in photo.pictures} for photo in gallery.photos]
    asked = [normalise(text, protocol) for text in queries.texts]
    has_word = np.array([[text in words for words in said] for text in asked], bool) | queries.relevant
    has_picture = np.array([[text in names for names in shown] for text in asked], bool)
    named = has_picture.any(axis=1, keepdims=True)
    masks = {"sign": queries.relevant & ~has_picture, "picture": has_picture & ~has_word}
    return {name: mask & named for name, mask in masks.items()} | {"neither": ~has_word & ~has_picture & named}


def picture_rates(scores: np.ndarray, masks: dict[str, np.ndarray]) -> Any:
    """Let each query choose between sign, picture and photographs with neither.

    The last column asks the same pairs of sign and picture with the other queries' scores: what the photographs alone,
    whatever is searched for, make of them.

    Args:
        scores: [Q, N] float. masks: from :func:`picture_masks`.

    Returns:
        DataFrame, index the row numbers of the queries that have a sign and a picture; columns ``picture over sign``,
        ``picture over neither``, ``sign over neither`` and ``picture over sign, other words``, float 0 to 1.
    """
    import pandas as pd

    sign, picture, neither = (masks[name] for name in ("sign", "picture", "neither"))
    rows = np.flatnonzero(sign.any(axis=1) & picture.any(axis=1))
    others = [above_rate(np.delete(scores[rows], i, 0), *(np.tile(m[row], (len(rows) - 1, 1)) for m in (picture, sign)))
              for i, row in enumerate(rows)]  # fmt: skip
    columns = {
        "picture over sign": above_rate(scores, picture, sign)[rows],
        "picture over neither": above_rate(scores, picture, neither)[rows],
        "sign over neither": above_rate(scores, sign, neither)[rows],
        "picture over sign, other words": [rates.mean() if len(rates) else np.nan for rates in others],
    }
    return pd.DataFrame(columns, index=rows, dtype=float)
