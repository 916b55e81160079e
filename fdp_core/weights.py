"""Where a backbone's weights come from: the shipped file, OpenAI's hash-checked files, or a seed."""

from __future__ import annotations

import hashlib
import math
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import open_clip
import safetensors
import torch
from open_clip.model import CLIP
from open_clip.pretrained import download_pretrained_from_url, get_pretrained_url
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import TypedDict

from fdp_core.config import parse

# The character-level tokenizer of the compact CLIP.


def _plain(text: str) -> str:
    """Return a text in lower case, without accents, with single spaces."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.lower()).lower())
    return " ".join("".join(c for c in text if not unicodedata.combining(c)).split())


def _composed(text: str) -> str:
    """Return a text in lower case with its accents in their letters (NFC)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


class CharTokenizer:
    """Spells a text letter by letter, so that words never seen in training have a code of their own.

    Ids: 0 padding, 1 start, 32..126 the printable ASCII characters, then the letters of ``alphabet``, last the end (the
    largest, so that CLIP's argmax finds it).

    Args:
        context_length: tokens of a text, start and end included, at least 3.
        alphabet: letters beyond ASCII that get an id of their own, in lower case and composed (NFC), each once.
    """

    pad, start, end, vocab_size = 0, 1, 127, 128  # without an alphabet

    def __init__(self, context_length: int, alphabet: str = "") -> None:
        if context_length < 3:
            raise ValueError(f"context_length is {context_length}; expected at least 3 (start, one letter, end).")
        if len(set(alphabet)) < len(alphabet) or any(ord(c) < 127 or _composed(c) != c for c in alphabet):
            raise ValueError(f"alphabet is {alphabet!r}; expected letters beyond ASCII, small, composed, each once.")
        self.context_length, self.alphabet = context_length, alphabet
        self.end, self.vocab_size = 127 + len(alphabet), 128 + len(alphabet)
        self._ids = {chr(code): code for code in range(32, 127)} | {c: 127 + n for n, c in enumerate(alphabet)}

    def _spelt(self, text: str) -> str:
        """Keep the letters of the alphabet, make the rest plain."""
        if not self.alphabet:
            return _plain(text)
        kept = (c if c in self._ids else _plain(c) or " " * c.isspace() for c in _composed(text))
        return " ".join("".join(kept).split())

    def fold(self, text: str) -> str:
        """Return ``text`` in lower case: the alphabet's letters, else ASCII without accents, '?' for the rest."""
        return "".join(c if c in self._ids else "?" for c in self._spelt(text))

    def unknown(self, text: str) -> str:
        """Return the letters of a text that :meth:`fold` has no code for, each once, sorted."""
        return "".join(sorted({c for c in self._spelt(text) if c not in self._ids}))

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Encode one text or N: int64 [N, context_length]; what does not fit is cut, the end token stays."""
        texts = [texts] if isinstance(texts, str) else texts
        length = context_length or self.context_length
        ids = np.zeros((len(texts), length), dtype=np.int64)
        for row, text in zip(ids, texts, strict=True):
            codes = [self._ids[c] for c in self.fold(text)[: length - 2]]
            row[: len(codes) + 2] = [self.start, *codes, self.end]
        return torch.from_numpy(ids)


MINI_WEIGHTS = Path(__file__).parent / "assets" / "mini.safetensors"


class WeightsMissing(FileNotFoundError):
    """A backbone's weights are not on this machine and could not be fetched."""


def build_mini(config: dict) -> CLIP:
    """Build the untrained compact CLIP (attention-pool ResNet + causal character-level text tower).

    Args:
        config: ``{"embed_dim": int, "vision_cfg": {"layers": 4 ints, "width", "image_size", ...}, "text_cfg":
            {"context_length", "width", "heads", "layers", ...}}``, as open_clip spells them; other keys are ignored.

    Returns:
        An ``open_clip.model.CLIP`` in float32 with random weights from torch's global generator.

    Raises:
        ValueError: the vision tower is not a ResNet with an attention pool, or the vocabulary is not the tokenizer's.
    """
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    if not isinstance(vision.get("layers"), list | tuple) or len(vision["layers"]) != 4:
        raise ValueError(f"vision_cfg.layers is {vision.get('layers')!r}; expected four block counts, of a ResNet.")
    vision["layers"] = tuple(vision["layers"])
    if text.setdefault("vocab_size", CharTokenizer.vocab_size) != CharTokenizer.vocab_size:
        told = f"{text['vocab_size']}; expected {CharTokenizer.vocab_size}, the character tokenizer's"
        raise ValueError(f"text_cfg.vocab_size is {told}.")
    return CLIP(embed_dim=config["embed_dim"], vision_cfg=vision, text_cfg=text, quick_gelu=False)


def read(path: str | Path, entry: str, kind: Any) -> tuple[Any, dict[str, Tensor]]:
    """Read a safetensors file: the JSON text under ``entry`` of its metadata as a type, and its tensors by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, is damaged, or a fact is not as expected; the message names the place.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(entry)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise ValueError(f"it is no safetensors file, or is cut off: {error}") from error
    if text is None:
        raise ValueError(f"its metadata have no {entry!r}")
    return parse(text, kind), tensors


_Width = Annotated[int, Field(ge=1, le=1024)]
_Sizes = dict[str, _Width | list[_Width]]
_Colour = Annotated[list[float], Field(min_length=3, max_length=3)]


class _Mini(TypedDict):
    embed_dim: _Width
    vision_cfg: _Sizes
    text_cfg: _Sizes
    mean: _Colour
    std: _Colour


def read_mini(path: str | Path) -> tuple[CLIP, dict]:
    """Read a compact CLIP with its configuration from a safetensors file.

    Raises:
        WeightsMissing: there is no such file.
        ValueError: the file is damaged or is not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsMissing(
            f"The weights of a compact CLIP are missing: looked for {path}. They come with the package: "
            "reinstall it, or make them with `python -m fdp_core.mini.pretrain` or `.pretrain_clip`."
        )
    try:
        config, state = read(path, "config", _Mini)
        clip = build_mini(config)
        clip.load_state_dict({name: value.float() for name, value in unpack(state).items()})
    except (ValueError, RuntimeError, TypeError, ArithmeticError, AssertionError) as error:  # torch asserts its sizes
        raise ValueError(
            f"{path} does not hold the weights of a compact CLIP, or is damaged ({error}). Reinstall the package."
        ) from error
    return clip, config


def read_openai(name: str, cache_dir: str | Path | None) -> tuple[CLIP, str]:
    """Read OpenAI's weights through open_clip, fetching them first where they are missing.

    Args:
        name: an OpenAI ResNet, e.g. "RN50".
        cache_dir: folder of the files; None is open_clip's own, ~/.cache/clip.

    Returns:
        (the CLIP in float32, the sha256 of its file, which is checked at each call).

    Raises:
        WeightsMissing: the file is not there, or damaged, and cannot be fetched.
    """
    url = get_pretrained_url(name, "openai")
    folder = Path(cache_dir) if cache_dir else Path("~/.cache/clip").expanduser()
    file, expected = folder / url.rsplit("/", 1)[-1], url.split("/")[-2]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # checks the sha256 of what is there, fetches when it has to, checks again
            download_pretrained_from_url(url, cache_dir=str(folder))
    except (OSError, RuntimeError) as error:
        damaged = any("SHA256" in str(warning.message) for warning in caught)
        state = "is damaged (its sha256 differs)" if damaged else "is not there"
        raise WeightsMissing(
            f"The OpenAI weights of backbone {name} are not available: {file} {state}, and fetching them "
            f"failed ({error}). Either go on line and run this again, or put the file from {url} "
            f"(sha256 {expected}) there. The backbone 'mini' needs no download."
        ) from error
    return open_clip.load_openai_model(str(file), precision="fp32", device="cpu"), expected


def state_hash(state: dict[str, Tensor]) -> str:
    """Return the sha256 (hex) of tensors: names, types, shapes, values; order and device do not matter."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_SMALL = 4096  # numbers: smaller tensors are kept as they are


def pack(state: dict[str, Tensor], bits: int) -> dict[str, Tensor]:
    """Round large tensors to ``bits`` bits a number with one scale a row (of the first axis), and deflate the codes.

    Args:
        state: tensors by name; small ones are kept as they are.
        bits: 2 to 8.

    Returns:
        Tensors by name, three for each large one: ``NAME/codes``, ``NAME/scale`` and ``NAME/shape``.
    """
    packed = {}
    for name, value in state.items():
        value = packed[name] = value.detach().cpu().contiguous()
        if value.ndim > 1 and value.numel() >= _SMALL:
            rows = packed.pop(name).float().flatten(1)
            scale = (rows.abs().amax(1) / (2 ** (bits - 1) - 1)).clamp(min=1e-12)
            codes = zlib.compress((rows / scale[:, None]).round().to(torch.int8).numpy().tobytes(), 9)
            packed[f"{name}/codes"] = torch.frombuffer(bytearray(codes), dtype=torch.uint8)
            packed |= {f"{name}/scale": scale, f"{name}/shape": torch.tensor(value.shape)}
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that :func:`pack` wrote, large ones in float32; raises ValueError on damage."""
    state = {name: value for name, value in packed.items() if not name.endswith(("/codes", "/scale", "/shape"))}
    for name in [key.removesuffix("/codes") for key in packed if key.endswith("/codes")]:
        try:
            shape, scale = packed[f"{name}/shape"].tolist(), packed[f"{name}/scale"]
            codes = zlib.decompressobj().decompress(packed[f"{name}/codes"].numpy().tobytes(), math.prod(shape) + 1)
            rows = torch.from_numpy(np.frombuffer(codes, np.int8).astype(np.float32)).reshape(len(scale), -1)
            state[name] = (rows * scale[:, None]).reshape(shape)
        except (ArithmeticError, IndexError, KeyError, RuntimeError, TypeError, ValueError, zlib.error) as error:
            raise ValueError(f"the packed weight {name} cannot be unpacked: {error}") from error
    return state


def seeded(build: Callable[[], CLIP], seed: int) -> CLIP:
    """Build a CLIP with random weights that depend on ``seed`` alone, not on torch's global generator.

    BatchNorm gets random values too: a fresh CLIP ResNet has dead residual branches (bn3.weight = 0).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = build()
    generator = torch.Generator().manual_seed(seed)
    ranges = {"weight": (0.5, 1.5), "bias": (-0.2, 0.2), "running_mean": (-0.1, 0.1), "running_var": (0.5, 1.5)}
    for layer in clip.visual.modules():
        for name, (low, high) in ranges.items() if isinstance(layer, nn.BatchNorm2d) else ():
            tensor = getattr(layer, name).data
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return clip
