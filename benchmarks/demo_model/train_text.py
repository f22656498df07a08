"""Trains the text tower until every token from the end of the text on knows all that the caption says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.demo_model.captions import draw_caption
from benchmarks.demo_model.clips import COLOURS, DIRECTIONS, GROUNDS, SCENES, SHAPES, Scene
from t2v_core.models.modelscope.config import TextConfig
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.tokenizer import END, PAD, tokenize

log = logging.getLogger(__name__)

VALUES: dict[str, Sequence[str]] = {
    "colour": tuple(COLOURS),
    "ground": tuple(GROUNDS),
    "shape": SHAPES,
    "direction": tuple(DIRECTIONS),
}
UNSAID = 0  # the class of an attribute that the caption leaves open; the others count from 1
UNKNOWN = 49_000  # any token that no caption uses: its embedding is held at zero, as all unknown words' are
STEPS, BATCH, PEAK_RATE = 1500, 128, 4e-3


def train_text(config: TextConfig, *, seed: int) -> TextEncoder:
    """A trained tower; words that no caption uses keep embeddings of zero, so they change little."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tower = TextEncoder(config)
    nn.init.zeros_(tower.token_embedding.weight)
    nn.init.normal_(tower.positional_embedding, std=0.3)
    heads = nn.ModuleDict({name: nn.Linear(config.width, 1 + len(values)) for name, values in VALUES.items()})
    parameters = [*tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        captions, classes = _batch(rng)
        tokens = _with_unknown_words(encode(captions), rng)
        features = tower(tokens)
        ended = (tokens == END).cumsum(dim=1) > 0  # (b, n): the end of the text and the padding after it
        losses = [
            F.cross_entropy(heads[name](features[ended]), labels[:, None].expand_as(tokens)[ended])
            for name, labels in classes.items()
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            tower.token_embedding.weight[UNKNOWN] = 0.0
        if step % 100 == 0 or step == STEPS - 1:
            log.info("text step %d: loss %s", step, " ".join(f"{loss.item():.4f}" for loss in losses))
    return tower.eval().requires_grad_(False)


def encode(captions: Iterable[str]) -> Tensor:
    """Captions, each of one chunk, to token ids (b, 77)."""
    return torch.tensor([tokenize(text)[0] for text in captions])


def _batch(rng: np.random.Generator) -> tuple[list[str], dict[str, Tensor]]:
    """Captions, one in twenty of them empty, and the class of each attribute: (b,) each."""
    scenes: list[Scene | None] = [
        None if rng.random() < 0.05 else SCENES[rng.integers(len(SCENES))] for _ in range(BATCH)
    ]
    captions = [draw_caption(scene, rng, for_training=True) if scene else "" for scene in scenes]
    classes = {
        name: torch.tensor([1 + values.index(getattr(scene, name)) if scene else UNSAID for scene in scenes])
        for name, values in VALUES.items()
    }
    return captions, classes


def _with_unknown_words(tokens: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the captions get one or two unknown words at random places; padding makes room for them."""
    rows = []
    for row in tokens.tolist():
        length = row.index(END)
        for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.5 else 0):
            row.insert(int(rng.integers(1, length + 1)), UNKNOWN)
            assert row.pop() == PAD
        rows.append(row)
    return torch.tensor(rows)
