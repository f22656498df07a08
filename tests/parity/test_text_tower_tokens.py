"""Prompts become the token ids that OpenCLIP gives them, and long ones the chunks that the WebUI makes of them."""

from __future__ import annotations

import itertools
import random
from typing import Any

import open_clip_oracle
import pytest

from t2v_core.models.modelscope.tokenizer import END, PAD, START, count_tokens, tokenize

COMMA = 267
SHORT = (
    "",
    "   ",
    "a photo of a cat",
    "A RED ball, moving LEFT!! on a black background...",
    "un chien à la plage & 3.14 café",
    "熊猫在吃竹子",
    "🦊 fox_trot's 'quoted' <tag> (parenthesised) [bracketed]",
    "newline\nand\ttab",
    "&lt;html&gt; entities &amp; such",
    "cat " * 75,
)


@pytest.fixture(scope="module")
def open_clips() -> Any:
    return open_clip_oracle.load("tokenizer")


@pytest.mark.parametrize("prompt", SHORT)
def test_short_prompts_are_open_clips(open_clips: Any, prompt: str) -> None:
    assert tokenize(prompt) == open_clips.tokenize([prompt], 77).tolist()


def test_known_ids_of_a_known_prompt() -> None:
    assert tokenize("a photo of a cat") == [[START, 320, 1125, 539, 320, 2368, END] + [PAD] * 70]


def test_open_clip_would_have_cut_the_long_prompt(open_clips: Any) -> None:
    prompt = "cat " * 76
    assert open_clips.tokenize([prompt], 77).tolist()[0] == tokenize(prompt)[0]
    assert content(tokenize(prompt)) == open_clips._tokenizer.encode(prompt)


def content(chunks: list[list[int]]) -> list[int]:
    """The prompt's tokens again; each chunk is start, tokens, end, padding, 77 in all."""
    tokens = []
    for chunk in chunks:
        end = chunk.index(END)
        assert chunk[0] == START
        assert chunk[end + 1 :] == [PAD] * (76 - end)
        assert len(chunk) == 77
        tokens += chunk[1:end]
    return tokens


def words(random_state: random.Random, *, commas: float) -> str:
    """A long prompt in which about this share of the tokens are commas."""
    drawn = random_state.choices(("cat", ",", "unbelievable", "xylophonist"), [1 - commas, commas, 0.1, 0.1], k=200)
    # Two commas in a row would be one token of another kind.
    return " ".join(word for word, before in itertools.pairwise([*drawn, ""]) if not word == before == ",")


@pytest.mark.parametrize("commas", [0.0, 0.01, 0.03, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(10))
def test_nothing_of_a_long_prompt_is_lost(open_clips: Any, commas: float, seed: int) -> None:
    prompt = words(random.Random(seed), commas=commas)
    chunks = tokenize(prompt)
    assert content(chunks) == open_clips._tokenizer.encode(prompt)
    assert len(content(chunks)) == count_tokens(prompt)
    assert len(chunks) > 1


def webui_lengths(tokens: list[int]) -> list[int]:
    """How many tokens the WebUI puts into each chunk, token by token as they arrive: `comma_padding_backtrack` is 20.

    When a token finds its chunk full, and a comma stands among that chunk's last 20, what follows the comma moves on to
    the next chunk with it. A token that is a comma itself moves nothing.
    """
    lengths, filled, comma = [], 0, None
    for token in tokens:
        if token == COMMA:
            comma = filled
        if filled == 75:
            moved = 0
            if token != COMMA and comma is not None and filled - comma <= 20:
                moved = filled - (comma + 1)
            lengths.append(filled - moved)
            filled, comma = moved, None
        filled += 1
    return [*lengths, filled]


@pytest.mark.parametrize("commas", [0.0, 0.01, 0.03, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(10))
def test_long_prompts_are_split_where_the_webui_splits_them(commas: float, seed: int) -> None:
    chunks = tokenize(words(random.Random(seed), commas=commas))
    assert [chunk.index(END) - 1 for chunk in chunks] == webui_lengths(content(chunks))


@pytest.mark.parametrize(("place", "length"), [(75, 75), (74, 75), (73, 74), (60, 61), (55, 56), (54, 75), (10, 75)])
def test_a_chunk_ends_after_a_comma_among_its_last_twenty_tokens(place: int, length: int) -> None:
    """`place` counts tokens from 0: at 75 the comma is the first one of the next chunk."""
    chunks = tokenize(" ".join(["cat"] * place + [","] + ["cat"] * (99 - place)))
    assert [chunk.index(END) - 1 for chunk in chunks] == [length, 100 - length]


def test_a_comma_where_a_chunk_is_full_moves_nothing() -> None:
    chunks = tokenize(" ".join(["cat"] * 70 + [","] + ["cat"] * 4 + [","] + ["cat"] * 4))
    assert [chunk.index(END) - 1 for chunk in chunks] == [75, 5]
