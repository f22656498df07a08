"""How networks that a LoRA made to sample in a few steps want to be sampled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from t2v_core.models.lora.file import Kind
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.sampling import Sampler, find_sampler

CONSISTENCY = "LCM"
"""The sampler of all of them."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """What a distilled LoRA does by itself where the request leaves it open.

    `timestep_scaling` and `spacing` are its training's, for the sampler `CONSISTENCY`; other samplers stay as they are.
    With `embeds_guidance` the network itself takes the CFG scale, and there is no unconditional pass.
    """

    cfg_scale: float
    timestep_scaling: float
    spacing: str
    embeds_guidance: bool = False
    steps: int = 4

    def over(self, own: ModelDefaults) -> ModelDefaults:
        """The model's own values with those of the LoRA in their place."""
        return dataclasses.replace(own, sampler=CONSISTENCY, steps=self.steps, cfg_scale=self.cfg_scale)


DISTILLATIONS: Mapping[Kind, Distillation] = {
    # arXiv 2406.06890 and its authors' demo.
    Kind.MCM: Distillation(cfg_scale=1.0, timestep_scaling=4.0, spacing="spacing"),
    # arXiv 2405.18750 and its authors' demo.
    Kind.T2V_TURBO: Distillation(cfg_scale=7.5, timestep_scaling=10.0, spacing="strided_spacing", embeds_guidance=True),
}
"""The published ones."""


def sampler_of(request: GenerationRequest, distillation: Distillation | None) -> Sampler:
    """The row of a resolved request's sampler, as a distilled LoRA was trained for it.

    Raises:
        RequestError: there is none of that name.
    """
    assert request.sampler is not None
    sampler = find_sampler(request.sampler)
    if distillation is None or sampler.name != CONSISTENCY:
        return sampler
    options = {**sampler.options, "timestep_scaling": distillation.timestep_scaling}
    return dataclasses.replace(sampler, spacing=distillation.spacing, options=options)


def guidance_of(request: GenerationRequest, distillation: Distillation | None) -> float:
    """How strongly the unconditional pass counts; 1 where there is none."""
    assert request.cfg_scale is not None
    return 1.0 if distillation is not None and distillation.embeds_guidance else request.cfg_scale
