"""Figures of photographs (what was found, where the model looks), and those of :mod:`fdp_core.studies.charts`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fdp_core.datasets import images
from fdp_core.studies.figure_style import BLACK, BLUE, GREEN, MAP, ORANGE, RED, figure_style

_THUMB = 240  # pixels: long side of a thumbnail; keeps executed notebooks small


def _picture(source: Any, long_side: int | None = None) -> Image.Image:
    """Return an RGB image from a path, a PIL image or an array uint8 [H, W, 3]."""
    if isinstance(source, Image.Image):
        image = source.convert("RGB")
    elif isinstance(source, np.ndarray):
        image = Image.fromarray(source).convert("RGB")
    else:
        image = images.open_image(source)
    if long_side:
        image = image.copy()
        image.thumbnail((long_side, long_side))
    return image


def _blank(ax: Axes) -> None:
    ax.grid(False)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def retrieval_grid(
    hits: Sequence[Any],
    query: str,
    relevant: Sequence[bool] | None = None,
    columns: int = 5,
    show: bool = True,
    attribution: str = "",
) -> Figure:
    """Draw found photographs in rank order, each with rank, score and, where known, whether it is right.

    Args:
        hits: objects with ``path``, ``id`` and ``score`` (:class:`fdp_core.retrieval.index.Hit`), best first.
        query: the text searched for.
        relevant: one truth value a hit: green frame and ✓, or red frame and ✗; None where nobody knows.
        columns: photographs a row.
        show: False draws ids instead of photographs that may not be shown in public.
        attribution: line under the figure.

    Returns:
        The figure.

    Raises:
        ValueError: there are no hits, or ``relevant`` has another length.
    """
    if not hits:
        raise ValueError("Nothing to draw: there are no hits.")
    if relevant is not None and len(relevant) != len(hits):
        raise ValueError(f"{len(hits)} hits but {len(relevant)} truth values.")
    columns = min(columns, len(hits))
    lines = math.ceil(len(hits) / columns)
    pictures = [_picture(hit.path, _THUMB) if show else None for hit in hits]
    tall = max(picture.height / picture.width if picture else 1.0 for picture in pictures)
    with figure_style():
        size = (2.1 * columns, (2.0 * min(tall, 1.4) + 0.35) * lines + 0.5)
        fig, axs = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
        for ax in axs.flat[len(hits) :]:
            ax.set_axis_off()
        for place, (ax, hit) in enumerate(zip(axs.flat, hits)):
            _blank(ax)
            colour, mark = "#888888", ""
            if relevant is not None:
                colour, mark = (GREEN, "✓") if relevant[place] else (RED, "✗")
            if show:
                ax.imshow(pictures[place])
            else:
                ax.set(xlim=(0, 1), ylim=(0, 1), facecolor="#eeeeee")
                ax.text(
                    0.5,
                    0.5,
                    f"{hit.id}\n(not shown:\nlicence)",
                    ha="center",
                    va="center",
                    fontsize=7,
                    wrap=True,
                )
            for spine in ax.spines.values():
                spine.set(visible=True, color=colour, linewidth=4 if relevant is not None else 1)
            ax.set_title(f"{place + 1}  {mark}  {hit.score:.3f}", color=colour if mark else BLACK)
        fig.suptitle(f"query: {query!r}")
        if attribution:
            fig.supxlabel(attribution, fontsize=7)
    return fig


def token_map(attention: Any) -> np.ndarray:
    """Turn attention over tokens into a map of the grid.

    Args:
        attention: [H, L] or [L], L = G * G + 1, the mean token first; or already a map [G, G].

    Returns:
        [G, G] float, mean over heads; the mean token is left out.

    Raises:
        ValueError: L - 1 is no square.
    """
    values = np.asarray(attention.detach().cpu() if hasattr(attention, "detach") else attention, float)
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        return values
    values = values.reshape(-1, values.shape[-1]).mean(axis=0)[1:]
    side = math.isqrt(values.size)
    if side * side != values.size:
        raise ValueError(f"{values.size + 1} tokens are no square grid and a mean token.")
    return values.reshape(side, side)


def map_overlay(
    image: Any,
    values: Any,
    placed: Any,
    ax: Axes | None = None,
    title: str = "",
    label: str = "",
    limits: tuple[float, float] | None = None,
    alpha: float = 0.75,
) -> Axes:
    """Lay a map of the grid over its photograph, in the photograph's own pixels.

    Args:
        image: path, PIL image or uint8 [H, W, 3].
        values: [G, G] float.
        placed: the :class:`fdp_core.retrieval.geometry.Geometry` that took the photograph to the square.
        ax: where to draw; None makes a figure.
        title: of the panel.
        label: of the colour bar; "" for none.
        limits: values of the first and last colour; None for the map's own.
        alpha: opacity of the map where it is highest, 0-1; the lower it is the more of the photograph shows.

    Returns:
        The axes.
    """
    picture, values = _picture(image), np.asarray(values, float)
    (left, top), (right, bottom) = placed.invert(np.array([[0, 0], [placed.size, placed.size]], float))
    low, high = limits or (float(values.min()), float(values.max()))
    with figure_style():
        if ax is None:
            _, ax = plt.subplots(figsize=(4.6, 3.6), layout="constrained")
        shrink = 640 / max(640, *picture.size)  # the file stays small, the coordinates stay the photograph's
        small = picture.resize([max(1, round(side * shrink)) for side in picture.size])
        ax.imshow(small, extent=(0, picture.width, picture.height, 0))
        drawn = ax.imshow(
            values,
            extent=(left, right, bottom, top),
            cmap=MAP,
            alpha=alpha * (0.15 + 0.85 * np.clip((values - low) / max(high - low, 1e-12), 0, 1)),
            vmin=low,
            vmax=high if high > low else low + 1e-12,
            interpolation="bilinear",
        )
        ax.set(xlim=(0, picture.width), ylim=(picture.height, 0), title=title)
        _blank(ax)
        if label:
            ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.8)
    return ax


def attention_overlay(
    image: Any, attention: Any, placed: Any, ax: Axes | None = None, title: str = "attention"
) -> Axes:
    """Show where the attention pool looks.

    Args:
        image: path, PIL image or uint8 [H, W, 3].
        attention: [H, L], [L] or [G, G]; shown as a multiple of looking everywhere alike.
        placed: the photograph's :class:`fdp_core.retrieval.geometry.Geometry`.
        ax: where to draw; None makes a figure.
        title: of the panel.
    """
    values = token_map(attention)
    return map_overlay(image, values / values.mean(), placed, ax, title, "attention / uniform")


def localiser_overlay(image: Any, logits: Any, placed: Any, ax: Axes | None = None, title: str = "text map") -> Axes:
    """Show where the localiser sees text: ``logits`` [G, G] drawn as probabilities; else as above."""
    values = np.asarray(logits.detach().cpu() if hasattr(logits, "detach") else logits, float)
    return map_overlay(image, 1 / (1 + np.exp(-values)), placed, ax, title, "P(text)", (0.0, 1.0))


def regions_overlay(image: Any, quads: Any, cosines: Any, ax: Axes | None = None, title: str = "regions") -> Axes:
    """Show which regions the text map found and which of them answers the query.

    Args:
        image: path, PIL image or uint8 [H, W, 3].
        quads: corners [R, 4, 2] in the photograph's pixels.
        cosines: [R] with the query; the largest is drawn thick, with its value.
        ax: where to draw; None makes a figure.
        title: of the panel.
    """
    picture = _picture(image)
    if ax is None:
        with figure_style():
            _, ax = plt.subplots(figsize=(4, 4 * picture.height / picture.width), layout="constrained")
    _blank(ax)
    ax.imshow(picture)
    best = int(np.argmax(cosines)) if len(cosines) else -1
    for i, quad in enumerate(np.asarray(quads)):
        outline = np.vstack([quad, quad[:1]])
        ax.plot(*outline.T, color=ORANGE if i == best else BLUE, linewidth=2.5 if i == best else 1.0)
    if best >= 0:
        title = f"{title}, cosine {float(cosines[best]):.2f}"
    ax.set_title(title)
    return ax
