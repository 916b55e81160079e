"""Focus: text localiser, dynamic attention shift, knowledge probing (FDP section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core.attention import one_query
from fdp_core.config import Head, Order, Shift, check

_LAYER_NORM_EPS = 1e-6  # of the official probe: the public "attention is all you need" module's value


def _conv1x1(linear: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1)
    conv.weight.data = linear.weight.detach().clone()[:, :, None, None]
    conv.bias.data = linear.bias.detach().clone()
    return conv


class Localiser(nn.Module):
    """Says for each cell whether text is written there, starting from the pool's v and c projections.

    ``linear`` is the released head: three 1x1 convolutions in a row, in effect one linear probe (B5).
    ``conv`` reads the same dense joint-space features through a non-linearity and a 3x3 neighbourhood.

    Source: FDP section 3.2 (text localisation network); MaskCLIP for the dense features.
    """

    def __init__(self, pool: nn.Module, head: str = "conv", hidden: int = 64, seed: int = 0) -> None:
        super().__init__()
        check("localiser", head, Head)
        self.head = head
        # of the linear maps, while no weight changes
        self._product: tuple[list[tuple[int, int, torch.device]], Tensor, Tensor] | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.new_v, self.new_c = _conv1x1(pool.v_proj), _conv1x1(pool.c_proj)
            if head == "linear":
                self.binarize = nn.Conv2d(pool.c_proj.out_features, 1, 1)
            else:
                self.reduce = nn.Conv2d(pool.c_proj.out_features, hidden, 1)
                self.norm = nn.LayerNorm(hidden)
                self.context = nn.Conv2d(hidden, hidden, 3, padding=1)
                self.binarize = nn.Conv2d(hidden, 1, 1)

    def dense(self, features: Tensor) -> Tensor:
        """Return new_c(new_v(F)), dense joint-space features: float [B, D, G, G] from [B, C, G, G]."""
        return self.new_c(self.new_v(features))

    def forward(self, features: Tensor) -> Tensor:
        """Return the text logits S, float [B, G, G], of trunk features [B, C, G, G]."""
        if self.head == "linear":
            return self._through(self.binarize, features)[:, 0]
        x = self._through(self.reduce, features).permute(0, 2, 3, 1)
        x = F.gelu(self.norm(x)).permute(0, 3, 1, 2)
        return self.binarize(F.gelu(self.context(x)))[:, 0]

    def _through(self, last: nn.Conv2d, features: Tensor) -> Tensor:
        """Equal ``last(dense(features))``; multiplying the three linear maps first saves most of the work."""
        weights = [p for layer in (self.new_v, self.new_c, last) for p in (layer.weight, layer.bias)]
        if torch.is_grad_enabled() or any(p.is_inference() for p in weights):
            return F.conv2d(features, *self._multiply(last))
        state = [(p.data_ptr(), p._version, p.device) for p in weights]
        if self._product is None or self._product[0] != state:
            self._product = (state, *self._multiply(last))
        return F.conv2d(features, *self._product[1:])

    def _multiply(self, last: nn.Conv2d) -> tuple[Tensor, Tensor]:
        w_v, w_c, w = (layer.weight.flatten(1) for layer in (self.new_v, self.new_c, last))
        joint = w @ w_c
        bias = last.bias + w @ self.new_c.bias + joint @ self.new_v.bias
        return (joint @ w_v)[:, :, None, None], bias


class AttentionShift(nn.Module):
    """Turns the localiser's map into the shift M of the attention logits (B4), with a scale s.

    * ``additive``: s·σ(S), the released code; it can raise a cell's weight by e^s at most.
    * ``log``: s·log σ(S), a gate: a cell without text loses its weight.
    * ``multiply``: weights times (1 - s) + s·σ(S), renormalised; s = 1 is the plain product.
    * ``replace``: as ``log``, but CLIP's own logits are left out (``own`` is 0): the text map alone decides, for a
      pool whose heads look at single cells so firmly that no gate moves them. The map learns by its own loss alone.
    * ``off``: no shift.

    The mean token gets the shift of a sure text cell (σ = 1) if ``mean_token``, else none; under ``log``, ``replace``
    and ``multiply`` both are 0.

    Source: FDP section 3.2 (dynamic attention shift).
    """

    def __init__(self, how: str = "log", scale: float = 1.0, learnable: bool = True, mean_token: bool = False) -> None:
        super().__init__()
        check("shift", how, Shift)
        self.how, self.mean_token = how, mean_token
        self.own = 0.0 if how == "replace" else 1.0
        if learnable and how != "off":
            self.scale = nn.Parameter(torch.tensor(float(scale)))
        else:
            self.register_buffer("scale", torch.tensor(float(scale)), persistent=False)

    def forward(self, local_logits: Tensor) -> Tensor | None:
        """Return M, float [B, L] (mean token first), of text logits [B, G, G]; None when the shift is off."""
        logits = local_logits.flatten(1)
        first = logits.new_zeros(len(logits), 1)
        if self.how == "off":
            return None
        if self.how == "additive":
            shift = self.scale * logits.sigmoid()
            first = first + self.scale if self.mean_token else first
        elif self.how in ("log", "replace"):
            # all attention hangs on a replacing map: through the pool it would learn which cells tell the rendered
            # words of the training apart, and unlearn where text is on photographs
            shift = self.scale * F.logsigmoid(logits.detach() if self.how == "replace" else logits)
        else:
            # the floor keeps the logarithm finite where s > 1 would make a weight negative
            shift = (1 - self.scale + self.scale * logits.sigmoid()).clamp(min=1e-6).log()
        return torch.cat([first, shift], dim=1)


def over_heads(shift: Tensor, heads: int, order: str = "per_image") -> Tensor:
    """Give each (image, head) slot its shift.

    Args:
        shift: M, float [B, L].
        heads: H.
        order: "per_image" gives every head its own image's M; "released_order" repeats the batch H times while the pool
            counts its slots image by image, so that slot b·H + h gets the M of image (b·H + h) mod B (B1).

    Returns:
        float broadcastable to [B, H, L].
    """
    check("shift_heads", order, Order)
    if order == "per_image":
        return shift[:, None]
    batch = len(shift)
    return shift[torch.arange(batch * heads, device=shift.device).remainder(batch).view(batch, heads)]


class OfficialProbe(nn.Module):
    """The released knowledge probing: cross-attention from g to the one feature of "scene text" (B2).

    With one key the softmax is 1 whatever the query, so h = LN(g + c) with a constant c, and w_qs, w_ks never learn.

    Source: FDP section 3.2 (text knowledge probing); released code: 8 heads of width D each, no biases,
        residual, LayerNorm.
    """

    def __init__(
        self, text: Tensor, heads: int = 8, dropout: float = 0.1, head_width: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        dim = text.shape[-1]
        width = heads * (head_width or dim)
        self.heads, self.dropout = heads, dropout
        self.register_buffer("text", text.detach().reshape(1, dim).clone(), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.w_qs, self.w_ks, self.w_vs = (nn.Linear(dim, width, bias=False) for _ in range(3))
            self.fc = nn.Linear(width, dim, bias=False)
        self.layer_norm = nn.LayerNorm(dim, eps=_LAYER_NORM_EPS)

    def forward(self, pooled: Tensor, x: Tensor | None = None) -> Tensor:
        """Return h, float [B, D], of g [B, D], without computing the attention whose weight is always 1."""
        value = self.w_vs(self.text).view(self.heads, -1)
        weight = self.fc.weight.unflatten(1, (self.heads, -1))
        heads = torch.einsum("hd,khd->hk", value, weight)  # each head's share of c
        if self.training:  # dropout still acts on the weights: a head is there or not
            constant = F.dropout(pooled.new_ones(len(pooled), self.heads), self.dropout) @ heads
        else:
            constant = heads.sum(dim=0, keepdim=True)
        return self.layer_norm(F.dropout(constant.expand_as(pooled), self.dropout, self.training) + pooled)


class SpatialProbe(nn.Module):
    """Knowledge probing with something to look at: g and "scene text" ask, the L tokens answer (B2).

    The output projection starts at zero, so training starts from v = g, CLIP's own pooled feature.
    """

    def __init__(self, text: Tensor, width: int, heads: int = 8, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        dim = text.shape[-1]
        if dim % heads:
            raise ValueError(f"probe_heads is {heads}; expected a divisor of the joint width {dim}.")
        self.heads, self.dropout = heads, dropout
        self.register_buffer("text", F.layer_norm(text.detach().reshape(1, dim), (dim,)), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.w_q = nn.Linear(dim, dim, bias=False)
            self.w_k, self.w_v = (nn.Linear(width, dim, bias=False) for _ in range(2))
            self.fc = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.fc.weight)
        self.norm_query, self.norm_tokens = nn.LayerNorm(dim), nn.LayerNorm(width)

    def forward(self, pooled: Tensor, x: Tensor) -> Tensor:
        """Return h, float [B, D], of g [B, D] and the pool's tokens [B, L, C]."""
        query = self.w_q(self.norm_query(pooled) + self.text).unflatten(-1, (self.heads, -1))
        rate = self.dropout if self.training else 0.0
        out, _ = one_query(query, self.norm_tokens(x), self.w_k.weight, self.w_v.weight, dropout=rate)
        return F.dropout(self.fc(out), self.dropout, self.training)
