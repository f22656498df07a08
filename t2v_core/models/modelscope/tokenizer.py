"""A prompt of any length as chunks of 77 token ids, split the way the WebUI splits it."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from t2v_core.errors import WeightsError

START, END, PAD = 49406, 49407, 0
CHUNK_TOKENS = 75
COMMA_BACKTRACK = 20
"""A chunk ends after a comma instead of in the middle of a phrase, if one is among so many of its last tokens.

Where the next token is a comma, no phrase is cut."""


class Chunk(NamedTuple):
    """77 token ids, and how strongly each counts."""

    tokens: list[int]
    weights: list[float]


def chunks_of(phrases: Iterable[tuple[str, float] | None]) -> list[Chunk]:
    """Split phrases, each with its weight, into chunks of start, at most 75 tokens, end, and padding; at least one.

    None among the phrases ends a chunk, even an empty one.
    """
    bpe = _bpe()
    comma = bpe.encoder[",</w>"]
    chunks: list[Chunk] = []
    tokens: list[int] = []
    weights: list[float] = []
    for phrase in phrases:
        if phrase is None:
            chunks += _chunks(tokens, weights, comma=comma) or [_chunk([], [])]
            tokens, weights = [], []
        else:
            found = bpe.encode(phrase[0])
            tokens += found
            weights += [phrase[1]] * len(found)
    chunks += _chunks(tokens, weights, comma=comma)
    return chunks or [_chunk([], [])]


def tokenize(prompt: str) -> list[list[int]]:
    """The token ids of the chunks of a prompt that is taken as it stands."""
    return [chunk.tokens for chunk in chunks_of([(prompt, 1.0)])]


def _chunks(tokens: list[int], weights: list[float], *, comma: int) -> list[Chunk]:
    chunks, start = [], 0
    for part in _split(tokens, comma=comma):
        chunks.append(_chunk(part, weights[start : start + len(part)]))
        start += len(part)
    return chunks


def _chunk(tokens: list[int], weights: list[float]) -> Chunk:
    padding = CHUNK_TOKENS - len(tokens)
    return Chunk([START, *tokens, END] + [PAD] * padding, [1.0, *weights, 1.0] + [1.0] * padding)


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
