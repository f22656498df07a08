"""The shortcuts through the network: exact where they are off, cheaper and near where they are on, gone afterwards."""

from __future__ import annotations

import contextlib
import itertools
import unittest.mock

import pytest
import torch

from t2v_core.models.modelscope.attention import SpatialTransformer, TemporalTransformer, attend
from t2v_core.models.modelscope.config import UNetConfig
from t2v_core.models.modelscope.frame_windows import attend_in_windows, blend_weights, window_starts
from t2v_core.models.modelscope.shortcuts import NO_SHORTCUTS, Shortcuts, shortened
from t2v_core.models.modelscope.token_merging import attend_merged, find_merger, merged_places
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.sampling.guidance import Half
from t2v_core.sampling.reuse import DeepFeatures
from t2v_core.sampling.schedule import NoiseSchedule, trailing_spacing

BOTH = (Half.UNCOND, Half.COND)
LEVELS = trailing_spacing(8, NoiseSchedule.linear_sd())
ALL = {"memo": {}, "merge_tokens": {"merge_tokens": 0.5}, "attention_window": {"attention_window": 4}}


@pytest.fixture(scope="module")
def network():
    """Small, with attention on both of its levels, and with weights of which none is zero."""
    config = UNetConfig(
        dim=16, dim_mult=(1, 2), num_heads=2, head_dim=8, res_blocks=1, attn_scales=(1.0, 0.5), context_dim=12,
        norm_groups=4,
    )  # fmt: skip
    network = UNet3D(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for name, weight in network.state_dict().items():
        values = torch.randn(weight.shape, generator=generator)
        gain = name.endswith("weight") and weight.ndim == 1
        weight.copy_(1 + 0.1 * values if gain else values / max(1, weight[0].numel()) ** 0.5)
    return network


def inputs(*, batch=2, frames=9, height=8, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, 4, frames, height, width, generator=generator)
    return latents, torch.full((batch,), 500.0), torch.randn(batch, 5, 12, generator=generator)


def shortcut(name):
    """One of the shortcuts that need no memory of earlier steps, or one that finds nothing in it."""
    if name == "memo":
        return Shortcuts(memo=lambda compute: compute())
    return Shortcuts(**ALL[name])


@contextlib.contextmanager
def counted(*modules):
    """A list of the shapes that these modules are called with."""
    shapes = []
    handles = [module.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape)) for module in modules]
    yield shapes
    for handle in handles:
        handle.remove()


def attentions(network, kind, *names):
    blocks = [block for module in network.modules() if isinstance(module, kind) for block in module.transformer_blocks]
    return [getattr(block, name) for block in blocks for name in names]


def test_without_shortcuts_and_after_them_the_network_is_the_exact_one(network):
    exact = network(*inputs())
    with shortened(network, NO_SHORTCUTS):
        assert torch.equal(network(*inputs()), exact)
    for name in ALL:
        with contextlib.suppress(KeyError), shortened(network, shortcut(name)):
            network(*inputs())
            raise KeyError
        assert torch.equal(network(*inputs()), exact)
        assert not network._forward_pre_hooks
        assert not [module for module in network.modules() if "forward" in vars(module)]
        assert all(core is attend for module in network.modules() if (core := getattr(module, "core", attend)))


@pytest.mark.parametrize("name", ["merge_tokens", "attention_window"])
def test_a_shortcut_changes_a_little_and_the_same_each_time(network, name):
    exact = network(*inputs())
    with shortened(network, shortcut(name)):
        near, again = network(*inputs()), network(*inputs())
    assert torch.equal(near, again)
    error = (near - exact).norm() / exact.norm()
    assert 1e-6 < error < 0.3


# Deep features


def deep_calls(network, calls, *, every):
    """How many of a run's calls ran the deep blocks; a call is the index of its level and its halves."""
    features = DeepFeatures(LEVELS, every=every)
    outputs = []
    with shortened(network, Shortcuts(memo=features)), counted(network.middle_block[0]) as ran:
        for index, halves in calls:
            features.announce(LEVELS[index], halves)
            outputs.append(network(*inputs(batch=len(halves), seed=index)))
    return len(ran), outputs


@pytest.mark.parametrize(("every", "ran"), [(1, 8), (2, 4), (3, 3), (8, 1), (10, 1)])
def test_the_deep_blocks_run_in_every_so_many_th_step(network, every, ran):
    assert deep_calls(network, [(index, BOTH) for index in range(8)], every=every)[0] == ran


def test_a_step_that_runs_them_is_exact_and_one_that_does_not_is_near(network):
    _, outputs = deep_calls(network, [(index, BOTH) for index in range(4)], every=2)
    for index, output in enumerate(outputs):
        exact = network(*inputs(seed=index))
        assert torch.equal(output, exact) == (index % 2 == 0)


def test_the_same_step_again_is_answered_with_its_own_features(network):
    (ran, outputs) = deep_calls(network, [(2, BOTH), (2, BOTH)], every=2)
    assert ran == 1
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6)


def test_the_halves_of_guidance_are_kept_apart_however_they_come(network):
    """In one batch, one after the other, and the conditional alone once guidance is over."""
    split = [(index, (half,)) for index in range(4) for half in BOTH]
    alone = [(0, BOTH), (1, (Half.COND,)), (2, (Half.COND,)), (3, (Half.COND,))]
    assert deep_calls(network, split, every=2)[0] == 4
    assert deep_calls(network, alone, every=2)[0] == 2
    assert deep_calls(network, [(0, (Half.UNCOND,)), (0, (Half.COND,)), (1, BOTH)], every=2)[0] == 2

    features = DeepFeatures(LEVELS, every=2)
    features.announce(LEVELS[0], BOTH)
    whole = torch.arange(12.0).reshape(4, 3)
    assert torch.equal(features(lambda: whole), whole)
    for halves, expected in (((Half.COND,), whole[2:]), ((Half.UNCOND,), whole[:2]), (BOTH, whole)):
        features.announce(LEVELS[1], halves)
        assert torch.equal(features(lambda: pytest.fail("the deep blocks were run")), expected)


def test_what_is_kept_is_a_copy():
    features = DeepFeatures(LEVELS, every=2)
    buffer = torch.ones(2, 3)
    features.announce(LEVELS[0], BOTH)
    features(lambda: buffer)
    buffer.zero_()
    features.announce(LEVELS[1], BOTH)
    assert torch.equal(features(lambda: buffer), torch.ones(2, 3))


def test_a_step_between_two_levels_or_before_what_is_kept_runs_what_it_must():
    """A sampler of second order looks at the next level within a step; a run may be taken up from an earlier step."""
    features, ran = DeepFeatures(LEVELS, every=2), []

    def call(index):
        features.announce(LEVELS[index], BOTH)
        features(lambda: ran.append(index) or torch.zeros(2, 1))

    for index in (0, 1, 1, 2, 2, 3, 0, 1):
        call(index)
    assert ran == [0, 2, 0]


def test_two_runs_share_nothing(network):
    calls = [(index, BOTH) for index in range(3)]
    alone = deep_calls(network, calls, every=3)[1]
    deep_calls(network, [(5, BOTH)], every=3)
    assert all(torch.equal(*pair) for pair in zip(alone, deep_calls(network, calls, every=3)[1], strict=True))


def test_a_call_that_was_not_announced_is_refused():
    features = DeepFeatures(LEVELS, every=2)
    features.announce(LEVELS[0], BOTH)
    features(lambda: torch.zeros(2, 1))
    with pytest.raises(RuntimeError, match="announced"):
        features(lambda: torch.zeros(2, 1))


# Merged tokens


def spatial(network):
    return attentions(network, SpatialTransformer, "attn1")[0]


def tokens_of(height, width, *, batch=2, frames=3, channels=16, seed=0):
    return torch.randn(batch, frames, height * width, channels, generator=torch.Generator().manual_seed(seed))


def test_no_share_merges_nothing(network):
    tokens = tokens_of(6, 8)
    assert torch.equal(attend_merged(spatial(network), tokens, size=(6, 8), share=0.0), spatial(network)(tokens))


def test_tokens_that_are_the_same_are_merged_without_a_difference(network):
    """Each 2×2 cell is one token four times: attention over cells is attention over places."""
    cells = tokens_of(3, 4).reshape(2, 3, 3, 4, 16)
    tokens = cells.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).reshape(2, 3, 48, 16)
    with counted(spatial(network)) as shapes:
        merged = attend_merged(spatial(network), tokens, size=(6, 8), share=0.75)
    assert shapes == [(2, 3, 12, 16)]
    assert torch.allclose(merged, spatial(network)(tokens), atol=1e-5)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (1, 33), (33, 1), (9, 16)])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.75])
def test_every_place_of_any_map_gets_a_token_back(size, share):
    """Merging keeps the mean of what it joins, and every place is the target's or its own."""
    height, width = size
    tokens = tokens_of(height, width)
    flat = tokens.flatten(0, 1)
    merger = find_merger(flat, size=size, share=share)
    merged = merger.merge(flat)
    assert merged.shape == (6, height * width - merged_places(size, share), 16)
    places = torch.cat([merger.targets.expand(6, -1), merger.alone, merger.joined], dim=1)
    assert torch.equal(places.sort(dim=1).values, torch.arange(height * width).expand(6, -1))
    spread = merger.spread(merged, height * width)
    counts = merger.spread(merger.merge(torch.ones_like(flat)), height * width)
    assert torch.allclose(counts, torch.ones_like(counts))
    assert torch.equal(spread.gather(1, merger.alone[..., None].expand(-1, -1, 16)), flat.gather(1, merger.alone[..., None].expand(-1, -1, 16)))  # fmt: skip  # noqa: E501
    assert torch.allclose(attend_merged(lambda part: part, tokens, size=size, share=share).flatten(0, 1), spread)


def test_the_nearest_join_first():
    flat = torch.eye(4)[[0, 0, 1, 2]].repeat(4, 1)[None]  # places 0 and 1 of each row of a 4×4 map are the same
    merger = find_merger(flat, size=(4, 4), share=0.25)
    assert all(torch.equal(flat[0, place], flat[0, merger.targets[into]]) for place, into in zip(merger.joined[0], merger.into[0], strict=True))  # fmt: skip  # noqa: E501


def test_tiny_maps_are_left_alone():
    tokens = tokens_of(3, 5)
    assert attend_merged(lambda part: part, tokens, size=(3, 5), share=0.75) is tokens


def test_only_the_largest_maps_are_merged(network):
    with counted(*attentions(network, SpatialTransformer, "attn1")) as shapes:
        network(*inputs(height=9, width=10))
        plain = [shape[2] for shape in shapes]
    # The hooks see what comes in; what an attention computes is less.
    linears = [attention.to_out[0] for attention in attentions(network, SpatialTransformer, "attn1")]
    with shortened(network, Shortcuts(merge_tokens=0.5)), counted(*linears) as shapes:
        network(*inputs(height=9, width=10))
    assert set(plain) == {90, 25}
    assert [shape[2] for shape in shapes] == [45 if places == 90 else places for places in plain]


# Windows over frames


def clip_of(frames, *, seed=0):
    """Query, key and value (p, heads, f, d)."""
    return torch.randn(3, 6, 2, frames, 8, generator=torch.Generator().manual_seed(seed)).unbind()


def first(query, key, value):
    """A core that gives back what it is asked with."""
    return query


@pytest.mark.parametrize("window", [5, 6, 100])
def test_a_window_over_all_frames_is_the_plain_attention(window):
    assert torch.equal(attend_in_windows(attend, *clip_of(5), window=window), attend(*clip_of(5)))


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 16, 24])
@pytest.mark.parametrize("frames", [2, 5, 17, 63, 128])
def test_windows_cover_all_frames_overlap_and_blend_to_one(frames, window):
    starts = window_starts(frames, window)
    assert starts[0] == 0
    assert starts[-1] + window >= frames
    if frames > window:
        assert starts[-1] + window == frames
        assert max(later - earlier for earlier, later in itertools.pairwise(starts)) <= max(1, window - window // 4)
        assert torch.allclose(blend_weights(frames, window).sum(0), torch.ones(frames))
    query, key, value = clip_of(frames)
    assert torch.allclose(attend_in_windows(first, query, key, value, window=window), query, atol=1e-6)


def test_a_windows_share_rises_and_falls_without_a_jump():
    weights = blend_weights(40, 16)
    inner = weights[1][weights[1] > 0]
    assert inner[0] < 0.5
    assert inner[-1] < 0.5
    assert (weights[:, 1:] - weights[:, :-1]).abs().max() < 0.35


def test_the_cost_grows_with_the_frames_and_far_frames_are_not_seen():
    def attended(frames):
        lengths = []

        def core(query, key, value):
            lengths.append(query.shape[2] * key.shape[2])
            return attend(query, key, value)

        query, key, value = clip_of(frames)
        result = attend_in_windows(core, query, key, value, window=8)
        key, value = key.clone(), value.clone()
        key[:, :, -1], value[:, :, -1] = 3.0, 5.0
        changed = attend_in_windows(attend, query, key, value, window=8)
        assert torch.equal(changed[:, :, :-8], result[:, :, :-8])
        assert not torch.equal(changed[:, :, -8:], result[:, :, -8:])
        return sum(lengths)

    assert [attended(frames) for frames in (32, 64, 128)] == [5 * 64, 11 * 64, 21 * 64]


def test_the_network_attends_in_windows_in_both_attentions_of_every_temporal_transformer(network):
    lengths = []
    temporal = attentions(network, TemporalTransformer, "attn1", "attn2")
    with contextlib.ExitStack() as stack:
        for attention in temporal:
            watched = unittest.mock.patch.object(attention, "core", side_effect=attention.core)
            lengths.append(stack.enter_context(watched))
        with shortened(network, Shortcuts(attention_window=4)):
            network(*inputs(frames=9, batch=1))
    calls = [[call.args[0].shape[2] for call in core.call_args_list] for core in lengths]
    assert calls == [[4] * len(window_starts(9, 4))] * len(temporal)
