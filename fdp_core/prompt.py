"""Prompt: learnable contexts before a query word, a longer one for content than for function words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core.backbones import Backbone
from fdp_core.config import Prompts, check
from fdp_core.distinguish import CONTENT, FUNCTION

INIT_STD = 0.02
CHUNK = 128  # prompts of like length that are encoded together: less padding, bounded memory


class PromptLearner(nn.Module):
    """Semantic-aware prompts ``[SOS] ctx_1 ... ctx_n word . [EOS]`` for a frozen text encoder.

    Args:
        embed_width: width W of the text encoder's token embedding.
        n_function: context vectors before a function word.
        n_content: context vectors before a content word.
        mode: "two" contexts by kind; "one" shared context (the content one) for all; "none" encodes the bare word.
        seed: seed of the initial contexts.

    Source: FDP section 3.4 and the released code (2 and 4 vectors, standard deviation 0.02).
    """

    def __init__(self, embed_width: int, n_function: int = 2, n_content: int = 4, mode: str = "two", seed: int = 0):
        super().__init__()
        check("prompts", mode, Prompts)
        if min(n_function, n_content) < 0 or embed_width < 1:
            raise ValueError(
                f"The contexts have {n_function} and {n_content} vectors of {embed_width} numbers; expected 0 or more "
                "vectors of 1 or more."
            )
        generator = torch.Generator().manual_seed(seed)
        self.mode = mode
        self.context_function = nn.Parameter(INIT_STD * torch.randn(n_function, embed_width, generator=generator))
        self.context_content = nn.Parameter(INIT_STD * torch.randn(n_content, embed_width, generator=generator))

    def forward(self, backbone: Backbone, texts: list[str], kinds: Tensor | None = None) -> Tensor:
        """Encode N prompted words or phrases: un-normalised ``[N, D]``; equal prompts are encoded once (C3).

        Args:
            backbone: supplies ``tokenize``, ``token_embedding``, ``encode_embedded``, ``encode_text``,
                ``context_length``.
            kinds: LongTensor ``[N]``, 0 function, 1 content; only mode "two" needs it, one for each text.

        Source: FDP section 3.4.
        """
        device = self.context_content.device
        if self.mode != "two":
            kinds_list = [CONTENT] * len(texts)
        elif kinds is None or len(kinds) != len(texts):
            raise ValueError(f"{len(texts)} texts need {len(texts)} kinds (0 function, 1 content).")
        else:
            kinds_list = [int(kind) for kind in kinds.tolist()]
        if not texts:
            return self.context_content.new_zeros((0, backbone.embed_dim))
        keys = list(zip(texts, kinds_list, strict=True))
        unique = sorted(set(keys), key=lambda key: (len(key[0]), key))
        parts = [unique[start : start + CHUNK] for start in range(0, len(unique), CHUNK)]
        features = torch.cat([self._encode(backbone, part) for part in parts])
        row = {key: index for index, key in enumerate(unique)}
        return features[torch.tensor([row[key] for key in keys], device=device)]

    def _encode(self, backbone: Backbone, prompts: list[tuple[str, int]]) -> Tensor:
        texts = [text for text, _ in prompts]
        if self.mode == "none":
            return backbone.encode_text(texts)
        device = self.context_content.device
        contexts = {FUNCTION: self.context_function, CONTENT: self.context_content}
        tokens, eot = layout(backbone, texts, [len(contexts[kind]) for _, kind in prompts])
        with torch.no_grad():
            embedded = backbone.token_embedding(tokens.to(device))
        # Contexts go over their placeholder slots: positions 1 .. n, where n depends on the word's kind.
        kind = torch.tensor([kind for _, kind in prompts], device=device)
        for value, context in contexts.items():
            if len(context) and bool((kind == value).any()):
                span = slice(1, 1 + len(context))
                chosen = (kind == value)[:, None, None]
                filled = torch.where(chosen, context.to(embedded.dtype), embedded[:, span])
                embedded = torch.cat([embedded[:, :1], filled, embedded[:, span.stop :]], dim=1)
        return backbone.encode_embedded(embedded, eot.to(device))


def layout(backbone: Backbone, texts: list[str], n_context: list[int]) -> tuple[Tensor, Tensor]:
    """Lay out token ids ``[SOS] 0*n word . [EOS]`` with room for n context vectors, cut to the longest.

    The word and the full stop are tokenised apart and joined. So a byte-pair and a character tokenizer get
    the same prompt, there is no space to spell before the stop, and "st." does not merge with it.

    Args:
        backbone: supplies ``tokenize`` (``[N, context_length]``, the end token has the largest id) and
            ``context_length``.
        texts: N words or phrases; too long ones lose their end, never their end token.
        n_context: N context lengths.

    Returns:
        Token ids ``[N, L]`` and the positions of the end tokens ``[N]``, both int64.

    Raises:
        ValueError: a context leaves no room for a word.
    """
    ids = backbone.tokenize([*texts, "."]).cpu().long()
    ends = ids.argmax(dim=1).tolist()
    rows = ids.tolist()
    start, stop_sign, end = rows[-1][0], rows[-1][1 : ends[-1]], rows[-1][ends[-1]]
    prompts = []
    for row, last, n in zip(rows[:-1], ends[:-1], n_context, strict=True):
        room = backbone.context_length - 2 - n - len(stop_sign)
        if room < 1:
            raise ValueError(f"{n} context vectors leave no room for a word in {backbone.context_length} tokens.")
        prompts.append([start, *[0] * n, *row[1:last][:room], *stop_sign, end])
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in prompts])
    return tokens, torch.tensor([len(prompt) - 1 for prompt in prompts])


def start_neutral(
    learner: PromptLearner, backbone: Backbone, words: Sequence[str], steps: int = 60, batch: int = 48, seed: int = 0
) -> list[float]:
    """Move the contexts to where a prompted word means what the bare word means, so that training starts from CLIP.

    A text tower that never read sentences, such as mini's, takes random vectors before a word for a part of it: the
    prompts then begin far below the bare words, and a short training does not win that back.

    Args:
        learner: its contexts are changed in place.
        backbone: as in :meth:`PromptLearner.forward`.
        words: words to learn on; each step draws ``batch`` of them.
        steps: steps of Adam, learning rate 0.01.
        batch: words a step, each behind every context.
        seed: seed of the draws.

    Returns:
        The mean cosine between prompted and bare features at each step.

    Source: none, an initialisation of this project; the released code's is random.
    """
    kinds = (FUNCTION, CONTENT) if learner.mode == "two" else (CONTENT,)
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(seed)
    choice, cosines = sorted(set(words)), []
    with torch.enable_grad():
        for _ in range(steps if choice and learner.mode != "none" else 0):
            drawn = [choice[i] for i in torch.randint(len(choice), (batch,), generator=generator).tolist()]
            asked = torch.tensor([kind for kind in kinds for _ in drawn])
            target = F.normalize(backbone.encode_text(drawn), dim=-1).repeat(len(kinds), 1)
            cosine = (F.normalize(learner(backbone, drawn * len(kinds), asked), dim=-1) * target).sum(-1).mean()
            optimiser.zero_grad()
            (-cosine).backward()
            optimiser.step()
            cosines.append(float(cosine.detach()))
    optimiser.zero_grad()
    return cosines
