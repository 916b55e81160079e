"""Pre-trains ``mini``, the compact CLIP, from scratch on rendered scenes: words, pictures and their names.

    python -m fdp_core.pretrain --out runs/mini --steps 3600

Contrastive image-text learning at two levels, over the same texts: a whole scene against every word and picture
name in it (CLIP's attention pool, multi-positive), and each drawn word against its own spelling (the pool's value
and output projections averaged over the word's cells, as RegionCLIP pools regions). Hard negatives are misspellings
of the batch's words. One linear head on the joint space, shared by both towers and thrown away afterwards, predicts
which letter stands where (PHOC); sheets of word crops come before whole scenes. Interrupt at any time: the same
command goes on where it stopped, to the same result.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core import backbones, losses, spelling
from fdp_core.files import atomic_write_bytes, atomic_write_text
from fdp_core.pretrain_batches import Recipe, Scenes

MEAN, STD = (0.45, 0.45, 0.45), (0.27, 0.27, 0.27)
MINI = {
    "embed_dim": 256,
    "vision_cfg": {"layers": [1, 2, 4, 2], "width": 20, "image_size": 224},
    "text_cfg": {"context_length": 64, "vocab_size": 128, "width": 192, "heads": 6, "layers": 4},
    "mean": MEAN,
    "std": STD,
}  # fmt: skip


def forward(clip: nn.Module, head: nn.Module, batch: dict, tokenizer, device: str) -> dict[str, Tensor]:
    """Return the named loss terms of one batch and the share of words whose own spelling scores best."""
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    x = ((batch["images"].to(device).float() / 255 - mean) / std).permute(0, 3, 1, 2)
    pool = clip.visual.attnpool
    feats = backbones.run_trunk(clip, x.contiguous(memory_format=torch.channels_last))  # [B, C, G, G]
    flat = feats.flatten(2).transpose(1, 2)  # [B, L, C]
    owners, labels = batch["owners"].to(device), batch["labels"].to(device)
    regions = torch.einsum("nl,nlc->nc", batch["cells"].to(device), flat[owners])  # v and c are linear: pool first
    regions = F.normalize(pool.c_proj(pool.v_proj(regions)), dim=-1)
    bare, prefix = batch["bare"], batch["prefix"].to(device)
    parts = [(batch["vocabulary"][:bare], prefix[:bare]), (batch["vocabulary"][bare:], prefix[bare:])]
    # words and captions apart: each part is cut to its own length
    texts = torch.cat([encode_text(clip, tokenizer(part).to(device), unknown) for part, unknown in parts if part])
    texts = F.normalize(texts, dim=-1)
    scale = clip.logit_scale.exp().clamp(max=100)
    own = batch["positive"].to(device)
    scene_has = F.one_hot(owners, len(x)).float().T @ own.float() > 0
    scenes = F.normalize(pool(feats), dim=-1)
    with torch.no_grad():
        best = (regions @ texts.T).argmax(1, keepdim=True)
        hit = own.gather(1, best).float().mean()
    bits = batch["spelling"].to(device)
    words = batch["is_word"].to(device)
    return {
        "spelling_text": letters(head(10 * texts[:bare]), bits),
        "spelling_image": letters(head(10 * regions[words]), bits[labels[words]]),
        "words": losses.contrastive(regions, texts, own, scale),
        "scenes": losses.contrastive(scenes, texts, scene_has, scale),
        "accuracy": hit,
    }


def letters(logits: Tensor, bits: Tensor) -> Tensor:
    """Binary cross-entropy summed over the [N, 360] places, per letter that is there: a scalar around 1 at first."""
    return F.binary_cross_entropy_with_logits(logits, bits, reduction="sum") / bits.sum().clamp(min=1)


def encode_text(clip: nn.Module, tokens: Tensor, prefix: Tensor) -> Tensor:
    """Encode texts behind unknown tokens; without any the same as CLIP's ``encode_text``.

    Args:
        tokens: int64 [N, L].
        prefix: embeddings of unknown tokens between start and text, float [N, k, W]; k may be 0.

    Returns:
        float [N, D]. With random prefixes the tower learns that a text may stand behind tokens it does not know,
        as CLIP learns from its captions; FDP's learned contexts are such tokens.
    """
    x = clip.token_embedding(tokens)
    x = torch.cat([x[:, :1], prefix, x[:, 1:]], dim=1)
    return backbones.run_text_tower(clip, x, tokens.argmax(1) + prefix.shape[1])


def train(
    out: Path, recipe: Recipe, backgrounds: str | None, device: str, workers: int, stop_at: int | None = None
) -> None:
    """Run or resume; writes ``state.safetensors``, ``log.jsonl`` and ``mini.safetensors`` (EMA, fp16) to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    clip = backbones.build_mini(MINI).to(device).to(memory_format=torch.channels_last)
    head = nn.Linear(MINI["embed_dim"], spelling.SIZE).to(device)
    nn.init.constant_(head.bias, -3.0)  # few places hold a given letter
    ema = {k: v.detach().clone().float() for k, v in clip.state_dict().items()}
    both = [*clip.parameters(), *head.parameters()]
    matrices, rest = [p for p in both if p.ndim >= 2], [p for p in both if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98))
    first = _resume(out, recipe, clip, head, ema, optimiser)
    tokenizer = backbones.CharTokenizer(MINI["text_cfg"]["context_length"])
    data = torch.utils.data.Subset(Scenes(recipe, backgrounds), range(first, recipe.steps))
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=workers, prefetch_factor=8 if workers else None
    )
    clip.train()
    seen, spent = _so_far(out / "log.jsonl", first)
    began = time.time() - spent
    step = first
    try:
        for step, batch in enumerate(loader, start=first):
            lr = recipe.lr * min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
            for group in optimiser.param_groups:
                group["lr"] = lr
            terms = forward(clip, head, batch, tokenizer, device)
            loss = terms["words"] + recipe.global_weight * terms["scenes"]
            loss = loss + recipe.spelling_weight * 0.5 * (terms["spelling_text"] + terms["spelling_image"])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(both, 1.0)
            optimiser.step()
            _average(ema, clip, min(recipe.ema, (step + 1) / (step + 10)))
            seen += len(batch["labels"])
            if step % 25 == 0:
                line = {"step": step, "lr": lr, "words_seen": seen, "seconds": round(time.time() - began, 1)}
                line |= {k: round(float(v.detach()), 4) for k, v in terms.items()}
                with open(out / "log.jsonl", "a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
                print(line, flush=True)
            if (step + 1) % 250 == 0:
                _save(out, recipe, clip, head, ema, optimiser, step + 1)
            if stop_at and step + 1 >= stop_at:
                break
        step += 1
    except KeyboardInterrupt:
        print("Interrupted: the last saved step is kept; run the same command to go on.")
        return
    _save(out, recipe, clip, head, ema, optimiser, step)


def _so_far(log: Path, first: int) -> tuple[int, float]:
    """Return (words seen, seconds) at step ``first`` of a resumed run; later lines, of lost steps, are dropped."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] < first]
    if len(kept) < len(lines):
        atomic_write_text(log, "".join(line + "\n" for line in kept))
    last = json.loads(kept[-1]) if kept else {"words_seen": 0, "seconds": 0.0}
    return last["words_seen"], last["seconds"]


@torch.no_grad()
def _average(ema: dict[str, Tensor], clip: nn.Module, decay: float) -> None:
    for key, value in clip.state_dict().items():
        if value.dtype.is_floating_point:
            ema[key].lerp_(value.float(), 1 - decay)
        else:
            ema[key].copy_(value)


def _save(
    out: Path, recipe: Recipe, clip: nn.Module, head: nn.Module, ema: dict[str, Tensor], optimiser, step: int
) -> None:
    """Write the training state and the shippable weights, each in one piece or not at all."""
    state = {f"model.{k}": v for k, v in clip.state_dict().items()} | {f"ema.{k}": v for k, v in ema.items()}
    state |= {f"head.{k}": v for k, v in head.state_dict().items()}
    for i, slots in optimiser.state_dict()["state"].items():
        state |= {f"adam.{i}.{k}": v for k, v in slots.items()}
    state = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    meta = {"recipe": json.dumps(asdict(recipe)), "step": str(step)}
    atomic_write_bytes(out / "state.safetensors", safetensors.torch.save(state, meta))
    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in ema.items()}
    half = {k: v.cpu().contiguous() for k, v in half.items() if k != "attn_mask"}
    meta = {"config": json.dumps(MINI), "recipe": json.dumps(asdict(recipe)), "step": str(step)}
    atomic_write_bytes(out / "mini.safetensors", safetensors.torch.save(half, meta))


def _resume(out: Path, recipe: Recipe, clip: nn.Module, head: nn.Module, ema: dict[str, Tensor], optimiser) -> int:
    path = out / "state.safetensors"
    if not path.exists():
        return 0
    with safetensors.safe_open(path, "pt") as file:
        meta = file.metadata()
        if json.loads(meta["recipe"]) != asdict(recipe):
            raise ValueError(
                f"{path} was made with another recipe: {meta['recipe']}. Use another --out or the same options."
            )
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    clip.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    head.load_state_dict({k[5:]: v for k, v in tensors.items() if k.startswith("head.")})
    for key in ema:
        ema[key].copy_(tensors[f"ema.{key}"])
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, i, name = key.split(".", 2)
            slots.setdefault(int(i), {})[name] = value
    full = optimiser.state_dict()
    full["state"] = slots
    optimiser.load_state_dict(full)
    return int(meta["step"])


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing run is resumed")
    parser.add_argument("--backgrounds", help="folder of photographs without text; default: $FDP_DATA/bsds500 if there")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1, help="rendering processes")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's default")
    parser.add_argument("--stop-at", type=int, help="stop and save after this step; the learning rate follows --steps")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    bsds = Path(os.environ.get("FDP_DATA", "data")) / "bsds500"
    folder = args.backgrounds or (str(bsds) if bsds.is_dir() else None)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    train(args.out, recipe, folder, args.device, args.workers, args.stop_at)


if __name__ == "__main__":
    main()
