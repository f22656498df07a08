"""Classifier-free guidance: how many passes it takes, what they are given, and what comes of them."""

from __future__ import annotations

import pytest
import torch

from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.guidance import Half, Texts, guided
from t2v_core.sampling.schedule import NoiseSchedule

LEVEL = NoiseSchedule.linear_sd().at(300)
LATENTS = torch.randn(1, 4, 2, 3, 5, generator=torch.Generator().manual_seed(0))
COND, UNCOND = torch.randn(2, 1, 7, 6, generator=torch.Generator().manual_seed(1))


class Network:
    """Follows its text, and remembers what it was called with."""

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype
        self.calls = []

    def __call__(self, latents, timesteps, text):
        self.calls.append((latents, timesteps, text))
        mean, spread = (getattr(text, kind)(dim=(1, 2)).reshape(-1, 1, 1, 1, 1) for kind in ("mean", "std"))
        return (torch.sin(latents) * spread + mean + timesteps.reshape(-1, 1, 1, 1, 1) / 1000).to(self.dtype)


def alone(text):
    return Network()(LATENTS, torch.tensor([300.0]), text)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("scale", [0.0, 2.5, 9.0])
def test_it_goes_from_the_unconditional_towards_and_past_the_conditional(scale, split):
    denoise = guided(Network(), Prediction.SAMPLE, Texts.of(COND, UNCOND), scale=scale, split=split)
    expected = alone(UNCOND) + scale * (alone(COND) - alone(UNCOND))
    assert torch.allclose(denoise(LATENTS, LEVEL), expected, atol=1e-5)


def test_it_is_one_call_of_two_by_default_and_two_of_one_when_split():
    batched, split = Network(), Network()
    guided(batched, Prediction.EPS, Texts.of(COND, UNCOND), scale=5)(LATENTS, LEVEL)
    guided(split, Prediction.EPS, Texts.of(COND, UNCOND), scale=5, split=True)(LATENTS, LEVEL)
    ((latents, timesteps, text),) = batched.calls
    assert latents.shape == (1, 4, 2, 3, 5)
    assert timesteps.tolist() == [300.0]
    assert torch.equal(text, torch.cat([UNCOND, COND]))
    assert [call[2].shape[0] for call in split.calls] == [1, 1]


@pytest.mark.parametrize("uncond", [None, UNCOND, UNCOND[:, :3]])
def test_scale_1_runs_the_conditional_only(uncond):
    network = Network()
    out = guided(network, Prediction.SAMPLE, Texts.of(COND, uncond), scale=1.0, rescale=0.7)(LATENTS, LEVEL)
    assert torch.equal(out, alone(COND))
    assert [call[2].shape[0] for call in network.calls] == [1]


@pytest.mark.parametrize("uncond", [None, UNCOND[:, :3], UNCOND[..., :2]])
def test_texts_that_do_not_match_are_refused_before_anything_runs(uncond):
    with pytest.raises(ValueError, match="two texts of one shape"):
        guided(Network(), Prediction.EPS, Texts.of(COND, uncond), scale=9)


@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_network_output_is_turned_into_clean_latents(prediction):
    raw = guided(Network(), Prediction.SAMPLE, Texts.of(COND, UNCOND), scale=4)(LATENTS, LEVEL)
    out = guided(Network(), prediction, Texts.of(COND, UNCOND), scale=4)(LATENTS, LEVEL)
    assert torch.allclose(out, prediction.to_clean(raw, LATENTS, LEVEL))


@pytest.mark.parametrize("split", [False, True])
def test_full_rescale_gives_the_conditional_outputs_contrast(split):
    out = guided(Network(), Prediction.SAMPLE, Texts.of(COND, UNCOND), scale=9, rescale=1.0, split=split)(
        LATENTS, LEVEL
    )
    plain = guided(Network(), Prediction.SAMPLE, Texts.of(COND, UNCOND), scale=9)(LATENTS, LEVEL)
    assert out.std() == pytest.approx(alone(COND).std().item(), rel=1e-5)
    assert plain.std() != pytest.approx(alone(COND).std().item(), rel=0.05)
    assert torch.allclose(out / out.std(), plain / plain.std(), atol=1e-5)


def test_a_share_of_the_rescale_lies_between_none_and_all():
    none, half, full = (
        guided(Network(), Prediction.SAMPLE, Texts.of(COND, UNCOND), scale=9, rescale=share)(LATENTS, LEVEL)
        for share in (0.0, 0.5, 1.0)
    )
    assert torch.allclose(half, (none + full) / 2, atol=1e-5)


def test_rescale_acts_on_the_raw_output_before_it_is_turned_into_clean_latents():
    raw = guided(Network(), Prediction.SAMPLE, Texts.of(COND, UNCOND), scale=9, rescale=0.7)(LATENTS, LEVEL)
    out = guided(Network(), Prediction.EPS, Texts.of(COND, UNCOND), scale=9, rescale=0.7)(LATENTS, LEVEL)
    assert torch.allclose(out, Prediction.EPS.to_clean(raw, LATENTS, LEVEL), atol=1e-5)


def test_a_constant_output_stays_finite_under_rescale():
    denoise = guided(
        lambda latents, timesteps, text: torch.zeros_like(latents).repeat(len(text), 1, 1, 1, 1),
        Prediction.EPS, Texts.of(COND, UNCOND), scale=9, rescale=0.7,
    )  # fmt: skip
    assert denoise(LATENTS, LEVEL).isfinite().all()


@pytest.mark.parametrize("scale", [1, 7])
@pytest.mark.parametrize("split", [False, True])
def test_a_half_precision_network_still_gives_float32(scale, split):
    network = Network(torch.bfloat16)
    out = guided(network, Prediction.EPS, Texts.of(COND, UNCOND), scale=scale, split=split)(LATENTS, LEVEL)
    assert out.dtype == torch.float32
    assert network.calls[0][1].dtype == torch.float32


SECOND, THIRD = torch.randn(2, 1, 7, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("split", [False, True])
def test_several_texts_are_each_followed_by_their_weight(split):
    network = Network()
    texts = Texts(UNCOND, ((COND, 1.0), (SECOND, 0.5), (THIRD, -0.25)))
    found = guided(network, Prediction.SAMPLE, texts, scale=4.0, split=split)(LATENTS, LEVEL)
    away = [weight * (alone(text) - alone(UNCOND)) for text, weight in texts.conds]
    assert torch.allclose(found, alone(UNCOND) + 4 * sum(away), atol=1e-5)
    assert [len(call[2]) for call in network.calls] == ([1] * 4 if split else [4])


def test_weights_that_are_whole_at_scale_1_need_no_unconditional_text():
    network = Network()
    texts = Texts(None, ((COND, 0.75), (SECOND, 0.25)))
    found = guided(network, Prediction.SAMPLE, texts, scale=1.0)(LATENTS, LEVEL)
    assert torch.allclose(found, 0.75 * alone(COND) + 0.25 * alone(SECOND), atol=1e-6)
    assert [len(call[2]) for call in network.calls] == [2]


def test_late_steps_follow_several_texts_in_their_proportion():
    network = Network()
    texts = Texts(UNCOND, ((COND, 3.0), (SECOND, 1.0)))
    found = guided(network, Prediction.SAMPLE, texts, scale=9.0, until=LEVEL)(LATENTS, LEVEL)
    assert torch.allclose(found, 0.75 * alone(COND) + 0.25 * alone(SECOND), atol=1e-6)
    assert [len(call[2]) for call in network.calls] == [2]


def test_a_single_text_without_its_whole_weight_is_drawn_back_to_the_unconditional():
    texts = Texts(UNCOND, ((COND, 0.5),))
    found = guided(Network(), Prediction.SAMPLE, texts, scale=1.0)(LATENTS, LEVEL)
    assert torch.allclose(found, (alone(COND) + alone(UNCOND)) / 2, atol=1e-6)


def test_each_frame_has_its_own_weight():
    weights = torch.tensor([1.0, 0.0])[:, None, None]
    found = guided(Network(), Prediction.SAMPLE, Texts(UNCOND, ((COND, weights),)), scale=3.0)(LATENTS, LEVEL)
    whole = guided(Network(), Prediction.SAMPLE, Texts.of(COND, UNCOND), scale=3.0)(LATENTS, LEVEL)
    assert torch.allclose(found[:, :, 0], whole[:, :, 0], atol=1e-6)
    assert torch.allclose(found[:, :, 1], alone(UNCOND)[:, :, 1], atol=1e-6)


def test_texts_that_change_are_asked_for_at_each_level():
    levels = [NoiseSchedule.linear_sd().at(timestep) for timestep in (900, 100)]
    texts = {levels[0]: Texts.of(COND, UNCOND), levels[1]: Texts.of(SECOND, UNCOND)}
    network = Network()
    denoise = guided(network, Prediction.SAMPLE, texts.__getitem__, scale=3.0)
    for level in levels:
        denoise(LATENTS, level)
    assert torch.equal(network.calls[0][2][1:], COND)
    assert torch.equal(network.calls[1][2][1:], SECOND)


def test_the_same_texts_come_as_the_same_tensor():
    texts, network = Texts.of(COND, UNCOND), Network()
    denoise = guided(network, Prediction.SAMPLE, lambda level: texts, scale=3.0)
    denoise(LATENTS, LEVEL)
    denoise(LATENTS, LEVEL)
    assert network.calls[0][2] is network.calls[1][2]


def test_a_text_for_each_frame_goes_with_one_for_all():
    by_frame = torch.stack([COND, SECOND], dim=1)
    ((halves, batch),) = Texts.of(by_frame, UNCOND).calls(with_uncond=True, split=False)
    assert halves == (Half.UNCOND, Half.COND)
    assert batch.shape == (2, 2, 7, 6)
    assert torch.equal(batch[0, 0], batch[0, 1])
    assert torch.equal(batch[1:], by_frame)


def test_the_announced_texts_are_told_apart():
    heard = []
    texts = Texts(UNCOND, ((COND, 1.0), (SECOND, 1.0)))
    for split in (False, True):
        guided(
            Network(), Prediction.SAMPLE, texts, scale=3.0, split=split,
            announce=lambda level, halves: heard.append(halves),
        )(LATENTS, LEVEL)  # fmt: skip
    assert heard == [(Half.UNCOND, Half.COND, (Half.COND, 1)), (Half.UNCOND,), (Half.COND,), ((Half.COND, 1),)]
