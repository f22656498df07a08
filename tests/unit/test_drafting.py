"""Drafts for a page: previews that move, and picks that begin with the same noise."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from t2v_core import service
from t2v_core.drafting import make_drafts, picks
from t2v_core.errors import RequestError
from t2v_core.rendering.fake import FakeRenderer
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import ClipSaved, Progress, Run, Stage


@pytest.fixture
def renderer():
    return FakeRenderer(ModelDefaults(steps=20, width=64, height=48, frames=5))


def test_each_draft_has_its_number_its_seed_and_a_picture_that_moves(host, renderer):
    made = make_drafts(GenerationRequest(prompt="p", count=4), count=3, renderer=renderer, host=host, run=Run())
    assert [draft.number for draft in made.drafts] == [1, 2, 3]
    assert [draft.seed for draft in made.drafts] == [request.seed for request in renderer.rendered]
    for draft in made.drafts:
        with Image.open(io.BytesIO(draft.preview)) as picture:
            assert picture.format == "WEBP"
            assert getattr(picture, "n_frames", 1) == 5
    assert made.sheet.path.is_file()


def test_picks_are_made_in_full_from_the_drafts_noise(host, renderer):
    made = make_drafts(GenerationRequest(prompt="p"), count=4, renderer=renderer, host=host, run=Run())
    seeds = [draft.seed for draft in made.drafts]
    del renderer.rendered[:]
    service.generate([picks(made.request, [4, 2])], renderer=renderer, host=host, run=Run())
    assert [(request.seed, request.steps) for request in renderer.rendered] == [(seeds[3], 20), (seeds[1], 20)]
    with pytest.raises(RequestError):
        service.generate([picks(made.request, [5])], renderer=renderer, host=host, run=Run())


def test_a_stop_keeps_the_drafts_that_are_there(host, renderer):
    def stop(event):
        if isinstance(event, Progress) and event.stage is Stage.SAMPLING and event.done == 8:
            run.interrupt()

    run = Run(stop)
    made = make_drafts(GenerationRequest(prompt="p", seed=1), count=4, renderer=renderer, host=host, run=run)
    assert [draft.number for draft in made.drafts] == [1]
    assert made.sheet.partial


def test_the_demo_models_draft_is_the_clip_in_fewer_steps_and_its_pick_the_plain_clip(host):
    host.models_folders = ()
    renderer, events = LocalRenderer(host), []
    request = GenerationRequest(prompt="a red ball moving left on a black background", model="demo", steps=6, seed=4)
    few = make_drafts(
        GenerationRequest(**{**request.to_dict(), "draft_steps": 3}), count=2, renderer=renderer, host=host, run=Run()
    )
    assert few.drafts[1].seed == 5
    rendered = []
    plain = LocalRenderer.render

    class Watching(LocalRenderer):
        def render(self, request, run):
            rendered.append(plain(self, request, run))
            return rendered[-1]

    watching = Watching(host)
    service.generate([picks(few.request, [2])], renderer=watching, host=host, run=Run(events.append))
    service.generate([GenerationRequest(**{**request.to_dict(), "seed": 5})], renderer=watching, host=host, run=Run())
    assert np.array_equal(rendered[0].frames[:], rendered[1].frames[:])
    assert len([event for event in events if isinstance(event, ClipSaved)]) == 1
