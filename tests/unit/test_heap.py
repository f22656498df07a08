"""Memory that stays with the process while a network works, and goes back afterwards."""

import contextlib
import json
import subprocess
import sys

import pytest

from t2v_core.rendering import heap
from t2v_core.rendering.heap import keeping_memory, working_memory

resource = pytest.importorskip("resource")
needs_glibc = pytest.mark.skipif(heap._glibc() is None, reason="another C library")

BLOCK = 40 * 2**20
PAGES = BLOCK // resource.getpagesize()
ROUNDS = 10

COMMON = f"""
import json
import psutil, torch
from t2v_core.rendering.heap import keeping_memory, working_memory

resident = psutil.Process().memory_info
torch.ones({BLOCK}, dtype=torch.uint8)  # starts the threads, which take some memory for good
"""
PAGE_FAULTS = f"""
import concurrent.futures, resource

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({ROUNDS}):
        block = torch.zeros({BLOCK}, dtype=torch.uint8)
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def kept(like):
    with working_memory(wanted=True):
        found = []
        for _ in range(2):
            with keeping_memory(like):
                found.append(page_faults())
        return found

def in_another_thread(call):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()

usual = [page_faults(), in_another_thread(page_faults)]
print(json.dumps([usual, [kept(1), in_another_thread(lambda: kept(2))]]))
"""
TORN = f"""
def torn():
    # What stays resident of blocks that are freed, each larger than the ones before, with a small one after each.
    before, small = resident().rss, []
    with keeping_memory("like"):
        for number in range(2, 6):
            block = torch.ones(number * {BLOCK}, dtype=torch.uint8)
            small.append(torch.ones(2**18, dtype=torch.uint8))
            del block
    return resident().rss - before

with working_memory(wanted=True):
    print(json.dumps([torn(), torn()]))
"""
AFTERWARDS = f"""
before = resident().rss
with working_memory(wanted=True):
    for _ in range(2):
        with keeping_memory(1):
            blocks = [torch.ones({BLOCK}, dtype=torch.uint8) for _ in range(4)]
            del blocks
    meanwhile = resident().rss - before
print(json.dumps([meanwhile, resident().rss - before]))
"""


def measured(what):
    """What a process of its own finds: where a free block lies about from earlier work, the library uses it anyway."""
    done = subprocess.run([sys.executable, "-c", COMMON + what], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def faults():
    return measured(PAGE_FAULTS)


@needs_glibc
@pytest.mark.parametrize("thread", [0, 1], ids=["main thread", "another thread"])
def test_the_same_pages_serve_block_after_block(faults, thread):
    usual, kept = faults
    assert usual[thread] > 0.7 * ROUNDS * PAGES
    first, second = kept[thread]
    assert first > 0.7 * ROUNDS * PAGES
    assert second < 3.2 * PAGES


@needs_glibc
def test_in_the_first_pass_of_its_kind_nothing_that_stays_lies_among_the_blocks():
    first, again = measured(TORN)  # what importing left free serves none of these blocks: they are larger
    assert first < BLOCK // 4
    assert again > 4 * BLOCK


@needs_glibc
def test_afterwards_the_memory_goes_back():
    meanwhile, afterwards = measured(AFTERWARDS)
    assert meanwhile > 3 * BLOCK
    assert afterwards < BLOCK


def test_without_glibc_or_when_it_is_not_wanted_nothing_is_set(monkeypatch):
    monkeypatch.setattr(heap, "_set", lambda library, settings: pytest.fail("set"))
    with working_memory(wanted=False), keeping_memory("like"):
        pass
    with keeping_memory("like"):
        pass
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with working_memory(wanted=True), keeping_memory("like"):
        pass


@needs_glibc
def test_a_pass_that_fails_was_none_and_leaves_the_settings_as_they_were(monkeypatch):
    heard = []
    monkeypatch.setattr(heap, "_set", lambda library, settings: heard.append(settings))
    monkeypatch.setattr(heap, "_seen", set())
    with working_memory(wanted=True):
        for error in (RuntimeError, None, None):
            with pytest.raises(error) if error else contextlib.nullcontext(), keeping_memory("like"):
                if error:
                    raise error
    between = heap.BETWEEN_PASSES
    assert heard == [heap.WHILE_WORKING, between, between, heap.IN_A_PASS, between, heap.USUAL]
