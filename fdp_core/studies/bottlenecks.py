"""Where a text retriever fails: how tall the searched word stands in its input, and what that does to its rank.

Scores [Q, N] are all that is asked of a system, so that any system, backbone and set can be asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fdp_core import datasets
from fdp_core.backbones import Backbone
from fdp_core.datasets import Gallery, Queries
from fdp_core.datasets.protocol import WORD_PROTOCOL, normalise, tokens
from fdp_core.distinguish import KINDS, Clusters
from fdp_core.evaluation import metrics
from fdp_core.evaluation.metrics import above_rate
from fdp_core.evaluation.report import Report
from fdp_core.studies.data_study import word_heights
from fdp_core.studies.parameters import BadParameter
from fdp_core.words import frequent_words

_ZERO_SHOT = re.compile(r"zero-shot CLIP(, native size|, \d+ pixels)?")  # whole photographs, no word crops


def numbers(text: str, name: str, multiple: int = 1) -> list[int]:
    """Read a parameter such as ``"224, 320"``: rising whole numbers above zero, each a multiple of ``multiple``.

    Raises:
        BadParameter: it is something else; the message names the parameter.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    values = [int(part) for part in parts if part.isdecimal()]
    rising = all(one < other for one, other in zip(values, values[1:]))
    if not parts or len(values) < len(parts) or not rising or any(v < 1 or v % multiple for v in values):
        of = f", multiples of {multiple}," if multiple > 1 else ""
        raise BadParameter(f"{name} is {text!r}; expected rising whole numbers{of} such as {name}='224, 640'.")
    return values


def recorded_sizes(table: pd.DataFrame, weights_hash: str, template: str = "{}") -> dict[str, pd.DataFrame]:
    """Collect what zero-shot runs of one backbone have left on record.

    Args:
        table: from :func:`fdp_core.evaluation.results.load_all`. weights_hash: of the backbone.
        template: of the queries, likewise.

    Returns:
        Set -> DataFrame, index the side of the input in pixels, column ``mAP`` in %.
    """
    found: dict[str, dict[int, float]] = {}
    for row in table.to_dict("records"):
        given = row["parameters"]
        same = row["weights_hash"] == weights_hash and given.get("template") == template and row["metric"] == "mAP"
        if same and _ZERO_SHOT.fullmatch(row["system"]) and given.get("fit") == "letterbox":
            found.setdefault(row["set"], {})[int(given["image_size"])] = row["value"]
    return {name: pd.DataFrame({"mAP": pd.Series(sizes).sort_index()}) for name, sizes in sorted(found.items())}


def word_protocol(gallery: Gallery) -> dict[str, Any]:
    """Return how an annotated word becomes a query in a gallery: by its manifest, else case-folded as it stands."""
    known = gallery.name in datasets.names()
    protocol = datasets.find(gallery.name).split(gallery.split)[1]["protocol"] if known else WORD_PROTOCOL
    # A set whose files list the right photographs says nothing of single words.
    return WORD_PROTOCOL if protocol.get("queries", {}).get("rule") == "listed" else protocol


def searched_heights(gallery: Gallery, queries: Queries, size: int, fit: str = "letterbox") -> np.ndarray:
    """Measure the tallest word of each right photograph that is the query.

    Args:
        gallery: N photographs with words and polygons. queries: Q queries over them.
        size: side of the square input, pixels.
        fit: see :func:`fdp_core.retrieval.geometry.plan_fit`.

    Returns:
        float64 [Q, N], pixels of the input: the shorter side of the smallest rectangle around the word. NaN where the
        photograph is not right, cannot be read, or holds no single word that is the query (phrases).
    """
    protocol, texts = word_protocol(gallery), {}
    for row, text in enumerate(queries.texts):
        texts.setdefault(normalise(text, protocol), []).append(row)
    heights = np.full(queries.relevant.shape, np.nan)
    for column in np.flatnonzero(queries.relevant.any(axis=0)):
        photo = gallery.photos[column]
        tall = word_heights(photo, size, fit) if photo.words else None
        for word, height in zip(photo.words, [] if tall is None else tall):
            for row in (row for token in tokens(word, protocol) for row in texts.get(token, ())):
                heights[row, column] = np.fmax(heights[row, column], height)
    heights[~queries.relevant] = np.nan
    return heights


def outranked(relevant: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute which share of the wrong photographs each right one stands above; equal scores count half.

    Args:
        relevant: [Q, N] bool. scores: [Q, N] float, finite.

    Returns:
        float64 [Q, N] in [0, 1], NaN where a photograph is not right or none is wrong; 0.5 on average for a random
        order.
    """
    share = np.full(np.shape(scores), np.nan)
    for row, (right, score) in enumerate(zip(np.asarray(relevant, bool), np.asarray(scores))):
        if right.any() and not right.all():
            share[row, right] = metrics.share_below(score[right], score[~right])
    return share


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is known, NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def by_height(
    relevant: np.ndarray, scores: np.ndarray, heights: np.ndarray, edges: Sequence[float], seed: int = 0
) -> pd.DataFrame:
    """Measure mAP for short and tall words apart.

    In each bin of heights a query keeps as right only the photographs whose word is of that height; its other right
    photographs leave the ranking, where they would be neither right nor wrong. What is averaged is the average
    precision over the queries that keep any.

    Args:
        relevant: [Q, N] bool. scores: [Q, N] float. heights: [Q, N] float, NaN where unknown.
        edges: E rising bounds between the bins, pixels; the first and the last of the E + 1 bins are open.
        seed: of the intervals.

    Returns:
        DataFrame, one row a bin that holds pairs: ``height`` (its name), ``low``, ``high`` (pixels), ``queries``,
        ``pairs`` (query, right photograph), ``mAP``, ``from``, ``to`` (95 % interval over queries), ``chance`` (of a
        random order) and ``outranked`` (mean over pairs, NaN where no photograph is wrong); the last five in %.

    Raises:
        ValueError: the edges do not rise.
    """
    if np.any(np.diff(edges) <= 0):
        raise ValueError(f"Height edges {list(edges)} must rise.")
    share, rows = outranked(relevant, scores), []
    for low, high in zip([0.0, *edges], [*edges, np.inf]):
        inside = relevant & (heights >= low) & (heights < high)
        ap, chance = [], []
        for right, all_right, score in zip(inside, relevant, scores):
            if right.any():
                kept = right | ~all_right
                ap.append(metrics.average_precision(right[kept], score[kept]))
                chance.append(metrics.random_average_precision(int(right.sum()), int(kept.sum())))
        if ap:
            interval = metrics.bootstrap_interval(np.array(ap), seed=seed)
            row = {"mAP": np.mean(ap), "from": interval[0], "to": interval[1], "chance": np.mean(chance)}
            row["outranked"] = _mean(share[inside])
            name = f"below {high:g}" if not low else f"from {low:g}" if high == np.inf else f"{low:g}-{high:g}"
            counts = {"height": name, "low": low, "high": high, "queries": len(ap), "pairs": int(inside.sum())}
            rows.append(counts | {name: 100 * float(value) for name, value in row.items()})
    columns = ["height", "low", "high", "queries", "pairs", "mAP", "from", "to", "chance", "outranked"]
    return pd.DataFrame(rows, columns=columns)


def gain_by_share(
    shares: Mapping[int, np.ndarray],
    heights: Mapping[int, np.ndarray],
    small: int,
    large: int,
    parts: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Tell which words a larger input helps: the pairs, sorted by the height that the word has in its photograph.

    Args:
        shares: input size -> [Q, N] of :func:`outranked`. heights: input size -> [Q, N], pixels of that input.
        small: side of the one input, pixels. large: of the other.
        parts: equally full groups. seed: of the intervals.

    Returns:
        DataFrame, one line a group, shortest words first: ``low`` and ``high`` (height, % of the large input's side),
        ``pairs``, ``queries``, the two sizes with *outranked* in %, and ``gain`` (points, large minus small) with its
        95 % interval ``from``, ``to``. What is averaged is the mean over a query's pairs, then over the queries.

    Raises:
        ValueError: fewer pairs than groups.
    """
    known = np.isfinite(shares[small]) & np.isfinite(shares[large]) & (heights[large] > 0)
    if known.sum() < parts:
        raise ValueError(f"{known.sum()} pairs of a query and a photograph with its word do not fill {parts} groups.")
    part, rows = 100 * heights[large] / large, []
    bounds = np.quantile(part[known], np.linspace(0, 1, parts + 1))
    place = np.searchsorted(bounds[1:-1], part, "right")
    for number in range(parts):
        inside = known & (place == number)
        means = {}
        for size in (small, large):
            means[size] = np.array([s[m].mean() for s, m in zip(shares[size], inside) if m.any()])
        gain = means[large] - means[small]
        low, high = metrics.bootstrap_interval(gain, seed=seed)
        values = {small: means[small].mean(), large: means[large].mean(), "gain": gain.mean(), "from": low, "to": high}
        facts = {"low": bounds[number], "high": bounds[number + 1], "pairs": int(inside.sum()), "queries": len(gain)}
        rows.append(facts | {name: 100 * float(value) for name, value in values.items()})
    return pd.DataFrame(rows)


# Does a query find the thing or the word? Kinds of words, and photographs that show the thing without the word.


def query_kinds(queries: Queries, backbone: Backbone) -> tuple[dict[str, np.ndarray], str]:
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


def kinds_table(report: Report, kinds: dict[str, np.ndarray], seed: int = 0) -> pd.DataFrame:
    """Set the kinds of words side by side, with what else differs between them.

    Args:
        report: an :class:`fdp_core.evaluation.report.Report`. kinds: from :func:`query_kinds`. seed: of the intervals.

    Returns:
        DataFrame, one line a kind that has queries: ``queries``, ``letters`` and ``right photographs`` (means), ``mAP``
        with its 95 % interval ``from``, ``to``, ``chance`` (of a random order) and ``outranked``; the last five in %.
    """
    right = report.relevant.sum(axis=1)
    chance = metrics.random_average_precision(right, report.relevant.shape[1])
    share, rows = outranked(report.relevant, report.scores), {}
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
                "outranked": 100 * _mean(np.array([_mean(row) for row in share[member]])),
            }
    return pd.DataFrame(rows).T


def kinds_gap(report: Report, kinds: dict[str, np.ndarray], rounds: int = 2000, seed: int = 0) -> tuple[float, ...]:
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
    drawn = [np.array([group[rows].mean() for rows in metrics.resampled(len(group), rounds, rng)])
             for group in (content, function)]  # fmt: skip
    low, high = metrics.central(drawn[0] - drawn[1])
    return tuple(100 * float(value) for value in (content.mean() - function.mean(), low, high))


def picture_masks(gallery: Gallery, queries: Queries) -> dict[str, np.ndarray]:
    """Sort the photographs of each query that names a picture of the set.

    Args:
        gallery: N photographs; ``photo.pictures`` names what a rendered set shows without words. queries: Q over them.

    Returns:
        ``sign``: right, and no such picture in it; ``picture``: it shows the thing, and the word stands nowhere, not
        even too small to count; ``neither``; each [Q, N] bool, all False for a query that names no picture.
    """
    protocol = word_protocol(gallery)
    said = [{normalise(word.text, protocol) for word in photo.words} for photo in gallery.photos]
    shown = [{normalise(name, protocol) for name in photo.pictures} for photo in gallery.photos]
    texts = [normalise(text, protocol) for text in queries.texts]
    has_word = np.array([[text in words for words in said] for text in texts], bool) | queries.relevant
    has_picture = np.array([[text in names for names in shown] for text in texts], bool)
    named = has_picture.any(axis=1, keepdims=True)
    masks = {"sign": queries.relevant & ~has_picture, "picture": has_picture & ~has_word}
    return {name: mask & named for name, mask in masks.items()} | {"neither": ~has_word & ~has_picture & named}


def picture_rates(scores: np.ndarray, masks: dict[str, np.ndarray]) -> pd.DataFrame:
    """Let each query choose between sign, picture and photographs with neither.

    The last column asks the same pairs of sign and picture with the other queries' scores: what the photographs alone,
    whatever is searched for, make of them.

    Args:
        scores: [Q, N] float. masks: from :func:`picture_masks`.

    Returns:
        DataFrame, index the row numbers of the queries that have a sign and a picture; columns ``picture over sign``,
        ``picture over neither``, ``sign over neither`` and ``picture over sign, other words``, float 0 to 1.
    """
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
