"""All that a user can ask, as one frozen value; this dataclass is the one table of fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from t2v_core.errors import FieldProblem, RequestError
from t2v_core.fields import Choices, closest, fields_of, problems_in, spec
from t2v_core.finish_fields import CompareFields, FinishFields
from t2v_core.length_fields import LengthFields, RefineFields, is_in_pieces, window_fills
from t2v_core.machine_fields import MachineFields
from t2v_core.output_fields import OutputFields
from t2v_core.source_fields import SourceFields
from t2v_core.speed import EXACT, SPEEDS

Value = TypeVar("Value")

RANDOM_SEED = -1
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """A model's own values for the request fields that are left open (None)."""

    steps: int = 25
    sampler: str = "DPM++ 2M"
    schedule: str = "Model"
    cfg_scale: float = 9.0
    width: int = 256
    height: int = 256
    frames: int = 16
    fps: float = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest(
    SourceFields, LengthFields, RefineFields, FinishFields, CompareFields, OutputFields, MachineFields
):
    """What to make. None stands for the chosen model's own value; `resolve` fills it in.

    Every field's label, limits, help and infotext key are written here, or in the base for its group, and nowhere else.
    """

    prompt: str = spec("", "Prompt", "What the video shows. May be empty.")
    negative_prompt: str = spec("", "Negative prompt", "What the video should not show.")
    prompt_blend: str = spec(
        "linear",
        "Prompt blend",
        "How a clip gets from one key frame of its prompt to the next: linear, spherical, or cut, which keeps to one "
        "until the next begins.",
        infotext="Prompt blend",
        chosen=True,
    )
    model: str = spec(
        "", "Model", "A folder in models/ModelScope, or any folder with a model. Default: the first found."
    )
    lora: str = spec(
        "",
        "LoRA",
        'Names from models/ModelScope/lora, each with a weight if it isn\'t 1, as in "mcm, style:0.8".',
        infotext="LoRA",
    )
    steps: int | None = spec(
        None,
        "Steps",
        "Sampling steps: more are slower and finer.",
        infotext="Steps",
        minimum=1,
        maximum=1000,
        usual=100,
        step=1,
    )
    sampler: str | None = spec(
        None, "Sampler", "The algorithm that turns noise into a video.", infotext="Sampler", chosen=True
    )
    schedule: str | None = spec(
        None, "Schedule", "How the steps are spread over the noise levels.", infotext="Schedule type", chosen=True
    )
    cfg_scale: float | None = spec(
        None,
        "CFG scale",
        "How strictly the video follows the prompt. 1 switches guidance off and halves the time.",
        infotext="CFG scale",
        minimum=1,
        maximum=30,
        step=0.5,
    )
    guidance_rescale: float = spec(
        0.0,
        "Guidance rescale",
        "Takes back the contrast that a high CFG scale adds (arXiv 2305.08891); 0 is off, 0.7 usual.",
        infotext="Guidance rescale",
        minimum=0,
        maximum=1,
        step=0.05,
    )
    eta: float | None = spec(
        None,
        "Eta",
        "Fresh noise at each step, for samplers that take it: 0 none, 1 as in training. Default: the sampler's own.",
        infotext="Eta",
        minimum=0,
        maximum=1,
        step=0.05,
        otherwise="the sampler's own",
    )
    seed: int = spec(
        RANDOM_SEED,
        "Seed",
        "The same seed makes the same video; -1 draws one.",
        infotext="Seed",
        minimum=RANDOM_SEED,
        maximum=LARGEST_SEED,
        step=1,
    )
    width: int | None = spec(
        None, "Width", "In pixels.", infotext="Width", minimum=8, maximum=4096, usual=1024, step=8, multiple=8
    )
    height: int | None = spec(
        None, "Height", "In pixels.", infotext="Height", minimum=8, maximum=4096, usual=1024, step=8, multiple=8
    )
    frames: int | None = spec(
        None, "Frames", "How many pictures the clip has.", infotext="Frames", minimum=1, maximum=4096, usual=128, step=1
    )
    fps: float | None = spec(
        None, "Frames per second", "How fast they are shown.", infotext="FPS", minimum=1, maximum=120, usual=60, step=1
    )
    speed: str = spec(
        EXACT,
        "Speed",
        "Exact leaves nothing out. Balanced and Draft fill the shortcuts that are left open: faster, and a little "
        "another picture.",
        chosen=True,
        group="Shortcuts",
    )
    reuse_features: int | None = spec(
        None,
        "Reuse features",
        "Runs the deep part of the network in every so-many-th step only (arXiv 2312.00858); 1 is off.",
        infotext="Reuse features",
        minimum=1,
        maximum=10,
        step=1,
        group="Shortcuts",
        off=1,
        otherwise="the speed's",
    )
    guidance_until: float | None = spec(
        None,
        "Guidance until",
        "The share of the steps, from the first on, that is guided; the others take half the time. 1 is all of them.",
        infotext="Guidance until",
        minimum=0,
        maximum=1,
        step=0.05,
        group="Shortcuts",
        off=1,
        otherwise="the speed's",
    )
    merge_tokens: float | None = spec(
        None,
        "Merge tokens",
        "The share of a frame's places that attend as one with their like (arXiv 2303.17604). Gains on large "
        "pictures only; 0 is off.",
        infotext="Merge tokens",
        minimum=0,
        maximum=0.75,
        step=0.05,
        group="Shortcuts",
        off=0,
        otherwise="the speed's",
    )
    attention_window: int | None = spec(
        None,
        "Attention window",
        "In clips of more frames than this, each frame attends to its neighbours only; 0 is off.",
        infotext="Attention window",
        minimum=0,
        maximum=4096,
        usual=64,
        step=1,
        group="Shortcuts",
        off=0,
        otherwise="the speed's",
    )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, choices: Choices) -> GenerationRequest:
        """Build a request from a mapping of field names to values.

        Raises:
            RequestError: with every problem at once: unknown names, wrong types, values out of range.
        """
        values = {name: _as_text(name, value) for name, value in values.items()}
        problems = tuple(problems_in(values, FIELDS, choices))
        if problems:
            raise RequestError(problems)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, in their order, without those left open."""
        return {name: getattr(self, name) for name in FIELDS if getattr(self, name) is not None}

    def check(self, choices: Choices) -> None:
        """Raise `RequestError` with everything that is wrong."""
        self.from_dict({name: getattr(self, name) for name in FIELDS}, choices=choices)

    def resolve(self, defaults: ModelDefaults) -> GenerationRequest:
        """Fill the fields left open with the model's own values, and the shortcuts with the speed's.

        Raises:
            RequestError: there is no speed of that name, or windows that don't reach each other.
        """
        if self.speed not in SPEEDS:
            raise problem("speed", f"There is no speed {self.speed!r}. {closest(self.speed, list(SPEEDS))}")
        fills = dataclasses.asdict(defaults)
        steps = fills["steps"] if self.steps is None else self.steps
        fills |= SPEEDS[self.speed].fills(steps=steps)
        fills |= window_fills(
            self.window, self.window_overlap, frames=self.frames or defaults.frames, own=defaults.frames
        )
        resolved = dataclasses.replace(
            self, **{name: value for name, value in fills.items() if getattr(self, name) is None}
        )
        whole = resolved.with_what_pieces_allow()
        if self.reuse_features and whole != resolved:
            raise problem(
                "reuse_features",
                "Reuse features needs a clip that is made in one piece. Set it to 1, or Window and Tile to 0, "
                "and no seamless loop.",
            )
        return whole

    def with_what_pieces_allow(self) -> GenerationRequest:
        """A resolved request without the shortcut that a clip made in pieces can't take."""
        in_pieces = is_in_pieces(self, frames=decided(self.frames), sides=(decided(self.width), decided(self.height)))
        return self.with_field("reuse_features", 1) if in_pieces else self

    def with_field(self, name: str, value: Any) -> GenerationRequest:
        """The same request with one field changed."""
        return dataclasses.replace(self, **{name: value})


FIELDS = fields_of(GenerationRequest)
"""Every field by name, in the order of the class body; those of its bases come last."""


def _as_text(name: str, value: Any) -> Any:
    """A list of names, as JSON has it, as the field's text; everything else as it is."""
    takes_several = name in FIELDS and FIELDS[name].spec.several
    if takes_several and isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return value


def problem(field: str, message: str) -> RequestError:
    """A `RequestError` about one field."""
    return RequestError([FieldProblem(field, message)])


def decided(value: Value | None) -> Value:
    """A field of a resolved request, which is never open."""
    assert value is not None
    return value
