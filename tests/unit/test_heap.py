"""Memory that stays with the process while a network works, and goes back afterwards."""

import threading

import psutil
import pytest
import torch

from t2v_core.rendering import heap
from t2v_core.rendering.heap import keeping_memory

resource = pytest.importorskip("resource")
needs_glibc = pytest.mark.skipif(heap._glibc() is None, reason="another C library")

BLOCK = 40 * 2**20
PAGES = BLOCK // resource.getpagesize()
ROUNDS = 10


def page_faults() -> int:
    """How many pages the system had to give while blocks came and went."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        block = torch.zeros(BLOCK, dtype=torch.uint8)
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def in_thread(call):
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


@needs_glibc
@pytest.mark.parametrize("where", [lambda call: call(), in_thread], ids=["main thread", "another thread"])
def test_the_same_pages_serve_block_after_block(where):
    def kept() -> int:
        with keeping_memory(wanted=True):
            return page_faults()

    assert where(page_faults) > 0.7 * ROUNDS * PAGES
    assert where(kept) < 3.2 * PAGES


@needs_glibc
def test_afterwards_the_memory_goes_back():
    process = psutil.Process()
    before = process.memory_info().rss
    with keeping_memory(wanted=True):
        blocks = [torch.ones(BLOCK, dtype=torch.uint8) for _ in range(4)]
        del blocks
        assert process.memory_info().rss > before + 3 * BLOCK
    assert process.memory_info().rss < before + BLOCK


def test_without_glibc_or_when_it_is_not_wanted_nothing_is_set(monkeypatch):
    monkeypatch.setattr(heap, "_set", lambda library, settings: pytest.fail("set"))
    with keeping_memory(wanted=False):
        pass
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with keeping_memory(wanted=True):
        pass
