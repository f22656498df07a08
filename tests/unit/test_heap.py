"""Memory that stays with the process while a network works, and goes back afterwards."""

import json
import subprocess
import sys

import pytest

from t2v_core.rendering import heap
from t2v_core.rendering.heap import keeping_memory

resource = pytest.importorskip("resource")
needs_glibc = pytest.mark.skipif(heap._glibc() is None, reason="another C library")

BLOCK = 40 * 2**20
PAGES = BLOCK // resource.getpagesize()
ROUNDS = 10

# In a process of its own: where a free block of this size lies about from earlier work, the library uses it anyway.
MEASURE = f"""
import concurrent.futures, json, resource
import psutil, torch
from t2v_core.rendering.heap import keeping_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({ROUNDS}):
        block = torch.zeros({BLOCK}, dtype=torch.uint8)
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def kept():
    with keeping_memory(wanted=True):
        return page_faults()

def in_another_thread(call):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()

resident = psutil.Process().memory_info
found = dict(usual=[page_faults(), in_another_thread(page_faults)], kept=[kept(), in_another_thread(kept)])
before = resident().rss
with keeping_memory(wanted=True):
    blocks = [torch.ones({BLOCK}, dtype=torch.uint8) for _ in range(4)]
    del blocks
    found["while working"] = resident().rss - before
found["afterwards"] = resident().rss - before
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def measured():
    done = subprocess.run([sys.executable, "-c", MEASURE], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


@needs_glibc
@pytest.mark.parametrize("thread", [0, 1], ids=["main thread", "another thread"])
def test_the_same_pages_serve_block_after_block(measured, thread):
    assert measured["usual"][thread] > 0.7 * ROUNDS * PAGES
    assert measured["kept"][thread] < 3.2 * PAGES


@needs_glibc
def test_afterwards_the_memory_goes_back(measured):
    assert measured["while working"] > 3 * BLOCK
    assert measured["afterwards"] < BLOCK


def test_without_glibc_or_when_it_is_not_wanted_nothing_is_set(monkeypatch):
    monkeypatch.setattr(heap, "_set", lambda library, settings: pytest.fail("set"))
    with keeping_memory(wanted=False):
        pass
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with keeping_memory(wanted=True):
        pass
