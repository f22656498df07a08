"""Attention on a processor: in which form, in parts of what size, and with how many digits."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from t2v_core.models import cpu_kernels
from t2v_core.models.modelscope import attention
from t2v_core.models.modelscope.attention import attend


@pytest.fixture(autouse=True)
def same_numbers_each_time():
    torch.manual_seed(0)


@pytest.mark.parametrize("has_tiles", [False, True])
@pytest.mark.parametrize("has_vectors", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 16, 40])
def test_attention_of_few_and_many_tokens(dtype, tokens, has_tiles, has_vectors, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "multiplies_tiles", lambda: has_tiles)
    monkeypatch.setattr(cpu_kernels, "has_avx512", lambda: has_vectors)
    query, key, value = torch.randn(3, 6, 2, tokens, 8).to(dtype)
    exact = F.scaled_dot_product_attention(*(part.double() for part in (query, key, value)))
    tolerance = 2e-2 if dtype is torch.bfloat16 else 1e-5
    assert torch.allclose(attend(query, key, value).double(), exact, atol=tolerance)


@pytest.mark.parametrize("at_once", [1, 100, 1000, 3000, 10**6])
def test_attention_by_products_in_parts_of_any_size_is_the_same(at_once, monkeypatch):
    query, key, value = torch.randn(3, 6, 24, 2, 8).bfloat16().transpose(2, 3)
    expected = attention._mixed(query, key, value)
    monkeypatch.setattr(attention, "_NUMBERS_AT_ONCE", at_once)
    seen: list[tuple[Tensor, ...]] = []
    mixed = attention._mixed
    monkeypatch.setattr(attention, "_mixed", lambda *parts: seen.append(parts) or mixed(*parts))
    found = attention._by_products(query, key, value)
    assert found.shape == expected.shape
    assert torch.allclose(found.float(), expected.float(), atol=1e-2)
    of_row = key.shape[2] + query.shape[3] + value.shape[3]
    assert max(_scores(*parts) // key.shape[2] * of_row for parts in seen) <= max(at_once, of_row)
    assert sum(_scores(*parts) for parts in seen) == _scores(query, key, value)


@pytest.mark.parametrize("loud", [1, 8, 64, 512])
@pytest.mark.parametrize("tokens", [16, 256])
def test_large_scores_keep_their_digits_in_16_bits(tokens, loud):
    query, key, value = torch.randn(3, 4, 2, tokens, 64).bfloat16()
    query = query * loud
    exact = F.scaled_dot_product_attention(*(part.double() for part in (query, key, value)))
    found = attention._by_products(query, key, value)
    assert torch.linalg.norm(found - exact) / torch.linalg.norm(exact) < 5e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("around", [-20, 0, 20])
def test_the_largest_score_is_found_by_its_bits(dtype, around):
    scores = (torch.randn(3, 50, 7) * 4 + around).to(dtype)
    scores[0, :10, 3], scores[0, 5:20, 4] = -0.0, torch.inf
    scores[0, 20, :], scores[0, 21, 1:] = -torch.inf, -torch.inf
    found = attention._largest(scores)
    assert torch.equal(found, scores.amax(-1, keepdim=True))
    assert attention._largest(torch.full((1, 2), torch.nan, dtype=dtype)).isnan().all()


def _scores(query: Tensor, key: Tensor, value: Tensor) -> int:
    return query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
