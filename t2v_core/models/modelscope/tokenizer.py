"""A prompt of any length as chunks of 77 token ids, split the way the WebUI splits it."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

from t2v_core.errors import WeightsError

START, END, PAD = 49406, 49407, 0
CHUNK_TOKENS = 75
COMMA_BACKTRACK = 20
"""A chunk ends after a comma instead of in the middle of a phrase, if one is among so many of its last tokens.

Where the next token is a comma, no phrase is cut."""


def tokenize(prompt: str) -> list[list[int]]:
    """Split a prompt into chunks of start, at most 75 tokens, end, and padding: 77 ids each, at least one chunk."""
    bpe = _bpe()
    comma = bpe.encoder[",</w>"]
    chunks = _split(bpe.encode(prompt), comma=comma) or [[]]
    return [[START, *chunk, END] + [PAD] * (CHUNK_TOKENS - len(chunk)) for chunk in chunks]


def count_tokens(prompt: str) -> int:
    """How many tokens a prompt has, without start, end and padding."""
    return len(_bpe().encode(prompt))


def _split(tokens: list[int], *, comma: int) -> list[list[int]]:
    chunks = []
    while len(tokens) > CHUNK_TOKENS:
        end = CHUNK_TOKENS
        if tokens[CHUNK_TOKENS] != comma:
            after_commas = (
                end for end in range(CHUNK_TOKENS, CHUNK_TOKENS - COMMA_BACKTRACK, -1) if tokens[end - 1] == comma
            )
            end = next(after_commas, CHUNK_TOKENS)
        chunks.append(tokens[:end])
        tokens = tokens[end:]
    return [*chunks, tokens] if tokens else chunks


@functools.lru_cache(maxsize=1)
def _bpe() -> Any:
    """OpenCLIP's byte-pair encoder.

    Only the package's tokenizer module is run: the package itself imports torchvision and timm, which takes seconds
    and fails where torchvision was built for another torch, and nothing of them is needed here.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise WeightsError(
            "The package open_clip_torch isn't installed, and prompts can't be read without its tokenizer.",
            remedy="pip install open_clip_torch",
        )
    path = Path(package.submodule_search_locations[0]) / "tokenizer.py"
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()
