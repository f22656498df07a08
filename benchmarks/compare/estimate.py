"""How long and how much memory something will take, before it is begun: rough, and rather too much than too little."""

from __future__ import annotations

import math

from benchmarks.compare import flops
from benchmarks.compare.cases import DECODE, END_TO_END, GUIDED, STEP, Case
from benchmarks.compare.weights import build
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig

ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
SLOWER_THAN_PEAK = 2.3
"""How many times the time at the matrix peak the slowest contender takes."""

# Measured above the weights at 1.7B: a forward pass of all but ModelScope's, and a decoded frame of 256×256.
_NUMBERS_PER_CELL = 13_000
_NUMBERS_PER_PIXEL = 1_500
_OVERHEAD = 0.6e9


def arithmetic(case: Case, config: ModelConfig) -> float:
    """FLOP of one go; 0 for what does no arithmetic worth the name."""
    if case.what == STEP:
        return flops.unet(config.unet, case.size)
    if case.what == GUIDED:
        return 2 * flops.unet(config.unet, case.size)
    if case.what == DECODE:
        return flops.decoder(config.vae, case.size)
    return flops.end_to_end(config, case.size, steps=case.steps) if case.what == END_TO_END else 0.0


def weight_bytes(config: ModelConfig, precision: str) -> int:
    """All three networks in a number format."""
    count = sum(value.numel() for part in Part for value in build(part, config).state_dict().values())
    return count * ITEM_BYTES[precision]


def memory_needed(case: Case, config: ModelConfig, *, contender: str, precision: str) -> float:
    """Bytes beside the weights."""
    size, item = case.size, ITEM_BYTES[precision]
    batch, _, frames, height, width = size.latents
    guided = 2 if case.what in {GUIDED, END_TO_END} and contender != "ModelScope" else 1
    places, share = height * width, config.unet.dim / 320
    step = _NUMBERS_PER_CELL * share * guided * batch * frames * places * item
    decode = _NUMBERS_PER_PIXEL * config.vae.dim / 128 * size.width * size.height * item
    if contender == "ModelScope":
        # It keeps the scores of all frames and heads at once, and decodes all frames at once.
        heads = config.unet.dim // config.unet.head_dim
        step += 2.5 * batch * frames * heads * places**2 * item
        decode *= frames
    needed = {STEP: step, GUIDED: step, DECODE: decode, END_TO_END: max(step, decode)}
    return needed.get(case.what, 0.0) + _OVERHEAD


def seconds_of_round(case: Case, config: ModelConfig, *, contenders: int, peak: float) -> float:
    """One go of each contender."""
    return contenders * SLOWER_THAN_PEAK * arithmetic(case, config) / peak


def fitted_exponent(amounts: list[float], costs: list[float]) -> float:
    """The exponent e of the power law cost = constant × amount^e that is nearest to the points, by their logarithms."""
    xs, ys = [math.log(value) for value in amounts], [math.log(value) for value in costs]
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    along = sum((x - middle_x) ** 2 for x in xs)
    return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / along
