"""Any CLIP with an attention pool as trunk + pool weights + text tower + tokenizer, always frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from fdp_core import attention, files, weights
from fdp_core.config import nearest
from fdp_core.weights import MINI_WEIGHTS, CharTokenizer, build_mini, state_hash

OPENAI_NAMES = ("RN50", "RN101", "RN50x4", "RN50x16")
COMPACT_NAMES = ("mini", "mini_clip")  # they come with the package
NAMES = (*COMPACT_NAMES, *OPENAI_NAMES)
STRIDE = 32  # pixels per cell of the trunk's last feature map
_CHUNK = 256  # texts encoded at once


def run_trunk(clip: CLIP, images: Tensor) -> Tensor:
    """Run the stem and layers 1-4 of any CLIP ResNet: [B, C, G, G] of [B, 3, S, S]; gradients flow."""
    return run_levels(clip, images)[-1]


def run_levels(clip: CLIP | nn.Module, images: Tensor, count: int = 4) -> list[Tensor]:
    """Run the same trunk and keep the first layers: [B, C_i, H / s, W / s] at strides s of 4, 8, 16 and 32 pixels."""
    visual, x, levels = clip.visual, clip.visual.stem(images), []
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4)[:count]:
        x = layer(x)
        levels.append(x)
    return levels


def run_pool(clip: CLIP, features: Tensor) -> Tensor:
    """Run CLIP's own attention pool at any grid: float [B, C, rows, columns] -> [B, D], un-normalised; gradients flow.

    Positions are resized in 2-D to the features' grid (B3).
    """
    pool = clip.visual.attnpool
    positions = attention.resize_positions(pool.positional_embedding, tuple(features.shape[2:]))
    return attention.attention_pool(attention.tokens(features, positions), pool)[0]


def run_text_tower(clip: CLIP, x: Tensor, eot: Tensor) -> Tensor:
    """Run the causal text tower on embedded tokens, cut to the last end token (the tower is causal: the same result).

    Args:
        x: float [N, L, W] without position embedding.
        eot: int64 [N], place of each end token.

    Returns:
        float [N, D], un-normalised; gradients flow.
    """
    length = int(eot.max()) + 1 if len(eot) else 1
    x = x[:, :length] + clip.positional_embedding[:length]
    x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
    return clip.ln_final(x[torch.arange(len(x), device=x.device), eot]) @ clip.text_projection


class Backbone(nn.Module):
    """A frozen CLIP, taken apart: trunk, attention pool, text tower, tokenizer.

    Attributes: ``name``, ``weights_hash`` (sha256 hex), ``native_grid`` (cells), ``width`` C, ``heads`` H,
    ``embed_dim`` D, ``text_width`` W, ``context_length`` (tokens), ``logit_scale`` (temperature, about 100),
    ``mean`` and ``std`` (RGB, of 0..1).

    Source: FDP section 3 (all CLIP weights are frozen); defect A1 (any CLIP ResNet, any grid, any device).
    """

    def __init__(
        self,
        clip: CLIP,
        name: str,
        tokenizer: Callable[..., Tensor],
        weights_hash: str,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        if not hasattr(clip.visual, "attnpool"):
            raise ValueError(f"Backbone {name} has no attention pool; expected a CLIP ResNet.")
        self.clip = clip.float().requires_grad_(False)
        self.name, self.weights_hash, self.tokenizer = name, weights_hash, tokenizer
        self.mean, self.std = tuple(mean), tuple(std)
        self.native_grid = round((self.pool.positional_embedding.shape[0] - 1) ** 0.5)
        self.width, self.embed_dim = self.pool.c_proj.in_features, self.pool.c_proj.out_features
        self.heads, self.text_width = self.pool.num_heads, clip.token_embedding.embedding_dim
        self.context_length = clip.positional_embedding.shape[0]
        self.logit_scale = float(clip.logit_scale.detach().exp())
        self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode whatever is asked: the backbone is frozen."""
        return super().train(False)

    @property
    def pool(self) -> nn.Module:
        """CLIP's attention pool: q_proj, k_proj, v_proj, c_proj, positional_embedding, num_heads."""
        return self.clip.visual.attnpool

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.clip.positional_embedding.device

    def normalise(self, images: np.ndarray | Tensor) -> Tensor:
        """Turn uint8 [B, S, S, 3] RGB into CLIP's float32 input [B, 3, S, S] on the backbone's device."""
        images = torch.as_tensor(images)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"Expected uint8 images [B, S, S, 3], got {images.dtype} {list(images.shape)}.")
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (images.to(self.device).permute(0, 3, 1, 2).float() / 255 - mean) / std

    @torch.no_grad()
    def trunk(self, images: Tensor) -> Tensor:
        """Run the stem and layers 1-4 on normalised images, float [B, 3, S, S] with S a multiple of 32.

        Returns:
            F, float [B, C, G, G] with G = S / 32.
        """
        shape = list(images.shape)
        if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or shape[2] % STRIDE:
            raise ValueError(f"Expected images [B, 3, S, S] with S a multiple of {STRIDE}, got {shape}.")
        return run_trunk(self.clip, images.to(self.device))

    @torch.no_grad()
    def zero_shot(self, images_or_features: Tensor) -> Tensor:
        """Encode images by CLIP's own attention pool, positions resized in 2-D to the input's grid (B3).

        Normalised images [B, 3, S, S] or trunk features [B, C, G, G] become float [B, D], un-normalised.
        """
        x = images_or_features.to(self.device)
        features = self.trunk(x) if x.shape[1] == 3 else x.float()
        return run_pool(self.clip, features)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return token ids int64 [N, context_length] on the backbone's device."""
        return self.tokenizer(list(texts), context_length=self.context_length).to(self.device)

    def unknown_letters(self, text: str) -> str:
        """Return the letters that the tokenizer cannot tell apart, each once; CLIP's own knows all: ""."""
        unknown = getattr(self.tokenizer, "unknown", None)
        return unknown(text) if unknown else ""

    def token_embedding(self, tokens: Tensor) -> Tensor:
        """Look up token ids [N, L]: float [N, L, W]."""
        return self.clip.token_embedding(tokens)

    def encode_embedded(self, x: Tensor, eot: Tensor) -> Tensor:
        """Run the causal text tower on embedded tokens; gradients flow to ``x``.

        Args:
            x: float [N, L, W] without position embedding; L up to context_length.
            eot: int64 [N], place of each end token, below L. What follows it cannot reach the result.

        Returns:
            float [N, D], un-normalised.

        Raises:
            ValueError: the input is longer than the text tower's context.
        """
        length = int(eot.max()) + 1 if len(eot) else 1
        if length > min(self.context_length, x.shape[1]):
            raise ValueError(
                f"A text of {length} tokens does not fit: {self.name} reads {self.context_length}, the input "
                f"holds {x.shape[1]}. Shorten the text or the learnable context."
            )
        return run_text_tower(self.clip, x, eot)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Encode bare texts: float [N, D], un-normalised, each distinct text once."""
        # alike lengths together: less padding to compute
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        if not unique:
            return torch.zeros(0, self.embed_dim, device=self.device)
        tokens = self.tokenize(unique)
        parts = [self.encode_embedded(self.token_embedding(p), p.argmax(dim=-1)) for p in tokens.split(_CHUNK)]
        encoded = torch.cat(parts)
        row = {text: i for i, text in enumerate(unique)}
        return encoded[torch.tensor([row[text] for text in texts], device=self.device)]


def wrap(clip: CLIP, mean: Sequence[float], std: Sequence[float], name: str = "mini") -> Backbone:
    """Make a backbone of a compact CLIP that is in memory; its hash is that of its weights."""
    return Backbone(clip, name, CharTokenizer(clip.context_length), state_hash(clip.state_dict()), mean, std)


def extended(backbone: Backbone, alphabet: str, seed: int = 0) -> Backbone:
    """Return a copy of a compact backbone that knows more letters; their embeddings are random until they are trained.

    Args:
        alphabet: the letters, see :class:`fdp_core.weights.CharTokenizer`. What has none of them is encoded as before.
        seed: of the new embeddings, which spread as the old ones do.

    Raises:
        ValueError: the backbone does not spell its texts, or has an alphabet already.
    """
    if not isinstance(backbone.tokenizer, CharTokenizer) or backbone.tokenizer.alphabet:
        raise ValueError(f"{backbone.name} cannot learn letters; expected mini or mini_clip as they ship.")
    wider = copy.deepcopy(backbone)
    wider.tokenizer = CharTokenizer(backbone.context_length, alphabet)
    old = backbone.clip.token_embedding.weight
    new = torch.randn(len(alphabet), old.shape[1], generator=torch.Generator().manual_seed(seed))
    rows = torch.cat([old[:-1], new.to(old) * old[32:127].std(dim=0), old[-1:]])  # the end token stays the last
    wider.clip.token_embedding = nn.Embedding.from_pretrained(rows)
    wider.clip.vocab_size = len(rows)
    wider.weights_hash = state_hash(wider.clip.state_dict())
    return wider


def find_device(name: str | torch.device) -> torch.device:
    """Return a device that this machine has; a ``ValueError`` says what there is and what to write."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    known = ["cpu", *(["cuda", *gpus] if gpus else []), *["mps"] * torch.backends.mps.is_available()]
    if str(name) not in (*known, "meta"):
        blind = "" if known[1:] else "; PyTorch sees no GPU here"
        raise ValueError(f"There is no device {str(name)!r}{blind}. Write one of: {', '.join(known)}.")
    return torch.device(name)


def load(
    name: str = "mini",
    device: str | torch.device = "cpu",
    pretrained: bool = True,
    *,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    weights_file: str | Path | None = None,
) -> Backbone:
    """Load a backbone by name; it takes any square input whose side is a multiple of 32.

    Args:
        name: "mini" or "mini_clip" (shipped), or OpenAI's "RN50", "RN101", "RN50x4", "RN50x16" through open_clip.
        device: where to put it.
        pretrained: False gives seeded random weights (BatchNorm too), for tests and timings.
        seed: seed of the random weights.
        cache_dir: folder of OpenAI's files, by default open_clip's (~/.cache/clip).
        weights_file: another file of their format, in place of the shipped one.

    Returns:
        The frozen backbone in float32 and eval mode.

    Raises:
        ValueError: unknown name or device, or a damaged file.
        WeightsMissing: the weights are not here and cannot be fetched.
    """
    if name not in NAMES:
        raise ValueError(f"Unknown backbone {name!r}; expected one of {', '.join(NAMES)}.{nearest(name, NAMES)}")
    device = find_device(device)
    if name in COMPACT_NAMES:
        path = Path(weights_file) if weights_file else MINI_WEIGHTS.with_name(f"{name}.safetensors")
        clip, config = weights.read_mini(path)
        tokenizer: Callable[..., Tensor] = CharTokenizer(clip.context_length)
        mean, std = config["mean"], config["std"]
        digest = files.sha256_file(path)
        if not pretrained:
            clip = weights.seeded(lambda: build_mini(config), seed)
    else:
        tokenizer = open_clip.get_tokenizer(name)
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        if pretrained:
            clip, digest = weights.read_openai(name, cache_dir)
        else:
            clip = weights.seeded(lambda: CLIP(**open_clip.get_model_config(f"{name}-quickgelu")), seed)
    if not pretrained:
        digest = state_hash(clip.state_dict())
    return Backbone(clip, name, tokenizer, digest, mean, std).to(device)
