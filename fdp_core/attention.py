"""CLIP's attention pool, taken apart: positions at any grid, tokens, the one query (FDP section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core.config import Resize, check


def resize_positions(table: Tensor, grid: int | tuple[int, int], how: str = "2d") -> Tensor:
    """Fit the attention pool's position table to another grid.

    Args:
        table: float [n*n + 1, C]; row 0 belongs to the mean token.
        grid: wanted cells per side, G, or (rows, columns) of an oblong grid.
        how: "2d" keeps the mean row and resizes the n x n grid (bicubic); "flat_nearest" is the released code's nearest
            neighbour along the flattened index, which also smears the mean row over cells (B3).

    Returns:
        float [G*G + 1, C], or [rows*columns + 1, C].

    Raises:
        ValueError: the table is no square grid plus one row, or ``how`` is unknown.
    """
    side = round((table.shape[0] - 1) ** 0.5)
    if side * side + 1 != table.shape[0]:
        raise ValueError(f"The position table has {table.shape[0]} rows; expected n*n + 1: a square grid and its mean.")
    check("position_resize", how, Resize)
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    if rows == columns == side:
        return table
    if how == "flat_nearest":
        return F.interpolate(table.T[None], size=rows * columns + 1, mode="nearest")[0].T
    cells = table[1:].T.reshape(1, -1, side, side)
    cells = F.interpolate(cells, size=(rows, columns), mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([table[:1], cells[0].flatten(1).T])


def tokens(features: Tensor, positions: Tensor) -> Tensor:
    """Build the pool's input [mean(F); flatten(F)] + P, float [B, L, C] with L = G*G + 1.

    F are trunk features [B, C, G, G], P the positions [L, C].
    """
    cells = features.flatten(2).transpose(1, 2)
    return torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1) + positions


def one_query(
    query: Tensor, x: Tensor, w_k: Tensor, w_v: Tensor, bias: Tensor | None = None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Multi-head attention of one query over L tokens without projecting the tokens.

    With one query, (W_k x_j)·q = x_j·(W_k' q) and sum_j a_j W_v x_j = W_v sum_j a_j x_j: the projections act
    on H vectors an image instead of on L tokens. A key bias would add one number to all logits of a head, so
    softmax drops it; a value bias is the caller's to add.

    Args:
        query: projected query, float [B, H, d].
        x: tokens, float [B, L, C].
        w_k: float [H*d, C].
        w_v: float [H*d', C].
        bias: added to the attention logits, broadcastable to [B, H, L], or None.
        dropout: rate on the attention weights, 0..1.

    Returns:
        (the heads' outputs side by side, float [B, H*d']; attention weights before dropout, float [B, H, L]).
    """
    heads = query.shape[1]
    logits = _logits(query, x, w_k)
    weights = (logits if bias is None else logits + bias).softmax(dim=-1)
    mixed = F.dropout(weights, dropout) @ x
    return torch.einsum("bhc,hdc->bhd", mixed, w_v.unflatten(0, (heads, -1))).flatten(1), weights


def _logits(query: Tensor, x: Tensor, w_k: Tensor) -> Tensor:
    """Return q·k_j / sqrt(d), float [B, H, L], of a query [B, H, d] and tokens [B, L, C]; no key bias, see above."""
    heads, width = query.shape[1:]
    reach = torch.einsum("bhd,hdc->bhc", query * width**-0.5, w_k.unflatten(0, (heads, -1)))
    return reach @ x.transpose(1, 2)


def pool_logits(x: Tensor, pool: nn.Module) -> Tensor:
    """Return what the softmax of CLIP's attention pool sees before any shift, up to one number for each head.

    Of tokens with positions, float [B, L, C], these are the logits of the mean token's attention, nats, [B, H, L].
    """
    query = pool.q_proj(x[:, 0]).unflatten(-1, (pool.num_heads, -1))
    return _logits(query, x, pool.k_proj.weight)


def attention_pool(x: Tensor, pool: nn.Module, bias: Tensor | None = None, own: float = 1.0) -> tuple[Tensor, Tensor]:
    """CLIP's attention pool for its one query, the mean token, with an optional shift of the logits.

    Args:
        x: tokens with positions, float [B, L, C].
        pool: an open_clip ``AttentionPool2d``: q_proj, k_proj, v_proj, c_proj, num_heads.
        bias: M, broadcastable to [B, H, L]; None is CLIP's own pool.
        own: what CLIP's own logits are multiplied by, 0..1; 0 leaves the attention to M alone.

    Returns:
        (pooled, float [B, D]; attention weights of the mean token, float [B, H, L]).

    Source: FDP section 3.2, released code (x' = sum_j softmax_j(q·k_j / sqrt(d_h) + M_j) v_j, then c_proj).
    """
    query = own * pool.q_proj(x[:, 0]).unflatten(-1, (pool.num_heads, -1))
    out, weights = one_query(query, x, pool.k_proj.weight, pool.v_proj.weight, bias)
    pooled = pool.c_proj(out + pool.v_proj.bias)  # the weights sum to one: the value bias passes unchanged
    return pooled, weights
