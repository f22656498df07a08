"""A model of this machine's disk as the story needs it: each part is loaded when it is first used."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from t2v_core.errors import Cancelled, NonFiniteError
from t2v_core.models.hashing import model_hash
from t2v_core.models.layouts import ModelFolder
from t2v_core.models.lora.applied import AppliedLoras
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.shortcuts import NO_SHORTCUTS, Shortcuts, shortened
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.rendering.conditioning import chunks_said, weighed
from t2v_core.rendering.devices import free_memory, kind_of, to_device
from t2v_core.rendering.distilled import Distillation
from t2v_core.rendering.footprint import ClipShape, footprint_of
from t2v_core.rendering.heap import keeping_memory
from t2v_core.rendering.interruptible import Stopped, interruptible
from t2v_core.rendering.ladder import Ladder
from t2v_core.rendering.launching import Launching, launched
from t2v_core.rendering.loras import Loras
from t2v_core.rendering.measures import RUNGS, Measures, rungs_for, words
from t2v_core.rendering.memory_plan import MemoryPlan, plan_memory
from t2v_core.rendering.number_formats import number_format, wider
from t2v_core.rendering.packing import pack_each
from t2v_core.rendering.part_loading import loaded
from t2v_core.rendering.plan import AUTO, Plan
from t2v_core.rendering.prompt_cache import PromptCache, TextKey
from t2v_core.rendering.remembered_texts import RememberedTexts
from t2v_core.rendering.residence import Residence
from t2v_core.rendering.slicing import sliced
from t2v_core.rendering.text_in_passing import encoded_in_passing, is_read_in_passing
from t2v_core.rendering.upcast import stays_narrow
from t2v_core.request import GenerationRequest
from t2v_core.run import Notice, Progress, Run, Stage
from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.schedule import NoiseSchedule
from t2v_core.video import Frames, ModelIdentity

Result = TypeVar("Result")


class LocalModel:
    """The text tower, the UNet and the autoencoder of one model, on one device and in one number format."""

    def __init__(self, folder: ModelFolder, plan: Plan, run: Run, *, prompts: PromptCache | None = None) -> None:
        self._folder = folder
        self._config = folder.config
        self._plan = plan
        self._residence = Residence(plan.device)
        self._ladder = Ladder(rungs_for(plan.device), RUNGS[0], device=plan.device)
        self._working: Part | None = None
        self._decode_chunk = 1
        self._clip: ClipShape | None = None
        self._prompts = prompts or PromptCache()
        self._formats = {part: number_format(plan.precision_of(part), device=plan.device) for part in Part}
        self.identity = ModelIdentity(folder.name, model_hash(folder, progress=_loading(run)))
        self.prediction = Prediction.named(folder.config.noise.prediction)
        self.noise_schedule = NoiseSchedule.from_config(dataclasses.asdict(folder.config.noise))
        self.distillation: Distillation | None = None
        self._loras = AppliedLoras(folder)
        self._embedded_guidance = 1.0
        self.launching = Launching()
        """How the UNet is to be run from the next clip on."""
        self._compiled = False

    def serves(self, folder: ModelFolder, plan: Plan) -> bool:
        """Whether this model is the one wanted."""
        return (self._folder, self._plan) == (folder, plan)

    @property
    def weights(self) -> int:
        """Bytes of the weights that are loaded."""
        return self._residence.bytes_loaded

    @property
    def loaded(self) -> tuple[Part, ...]:
        """The parts that are loaded."""
        return tuple(part for part in Part if part in self._residence)

    def wear(self, loras: Loras, *, cfg_scale: float) -> None:
        """Have these LoRAs from now on; a part is changed when it's next used, and only if others are in it."""
        self._loras.wanted = loras.doses
        self.distillation = loras.distillation
        self._embedded_guidance = cfg_scale

    def prepare(self, request: GenerationRequest, clip: ClipShape) -> MemoryPlan:
        """Decide, by what is free now, how a clip of this shape saves memory; holds until the next call."""
        free = free_memory(self._plan.device)
        footprint = footprint_of(self._config, tuple(self._formats.items()), device=self._plan.device)
        plan = plan_memory(
            footprint,
            clip,
            device=self._plan.device,
            asked=request.memory,
            free=None if free is None else free + self._residence.bytes_on_device,
            loaded=self.loaded,
        )
        self._decode_chunk = plan.decode_chunk
        self._clip = clip
        self._ladder.begin(plan.rung)
        self._residence.follow(plan.rung)
        return plan

    def rest(self, *, keep: bool) -> None:
        """Leave the device; the parts wait in main memory if `keep` says so and there is room, else they go."""
        self._working = None
        self._residence.rest(keep=keep)

    def memory_notes(self) -> dict[str, str]:
        """What saved memory in the last clip, for the infotext."""
        measures = words(self._ladder.rung)
        why = ("after memory ran out",) if self._ladder.stepped else ()
        return {"Memory": "; ".join((*measures, *why))} if measures else {}

    def launch_notes(self) -> dict[str, str]:
        """How the last clip's network was run, where it wasn't as it is, for the infotext."""
        return {"Compiled": "blocks"} if self._compiled else {}

    @property
    def splits_guidance(self) -> bool:
        """Whether guidance's halves have to run one after the other."""
        return self._ladder.rung.halves

    def within_memory(self, work: Callable[[], Result], run: Run) -> Result:
        """What the work gives; where memory runs out, it's done once more with less."""
        return self._ladder.attempt(work, run, lowered=self._lower)

    def _lower(self, rung: Measures) -> None:
        self._residence.follow(rung, working=self._working)

    def used(self, request: GenerationRequest) -> GenerationRequest:
        """The request with the number formats that its clip is made in, which may have had to be wider than asked."""
        vae = self._formats[Part.AUTOENCODER].name
        own = self._plan.with_precision(self._formats[Part.UNET].name).precision_of(Part.AUTOENCODER)
        if request.vae_precision != AUTO or vae != own:
            request = dataclasses.replace(request, vae_precision=vae)
        return dataclasses.replace(request, precision=self._formats[Part.UNET].name)

    def widen(self, part: Part, error: NonFiniteError, run: Run) -> None:
        """Let a part that gave NaN compute in a wider number format from now on; a `Notice` says so.

        The text tower has the UNet's format, as it has in a run that is asked for that format.

        Raises:
            NonFiniteError: there is none.
        """
        name = wider(self._formats[part].name, error, device=self._plan.device)
        run.report(Notice(f"{error.problem} Doing it once more in {name}."))
        for changed in (part, Part.TEXT) if part is Part.UNET else (part,):
            self._formats[changed] = number_format(name, device=self._plan.device)
            self._residence.drop(changed)

    def latent_shape(self, request: GenerationRequest) -> tuple[int, int, int, int]:
        """(c, f, h, w) of the request's clip."""
        cell = self._config.vae.downsampling
        assert request.width is not None
        assert request.height is not None
        assert request.frames is not None
        return self._config.unet.in_dim, request.frames, request.height // cell, request.width // cell

    def decode_chunk(self, request: GenerationRequest) -> int:
        """How many frames to decode at once."""
        return self._frames_at_once

    @property
    def _frames_at_once(self) -> int:
        return 1 if self._ladder.rung.halves else self._decode_chunk

    def encode(self, prompts: tuple[str, ...], run: Run) -> Tensor:
        """The prompts' features (b, n, d), float32; the shorter ones are filled up with chunks of the empty prompt.

        Each is one text, whose words may have weights.

        Raises:
            Cancelled: the user stopped.
        """
        chunks = [chunks_said(prompt) for prompt in prompts]
        longest = max(map(len, chunks))
        padded = [prompt + chunks_said("") * (longest - len(prompt)) for prompt in chunks]
        try:
            features = self._features([[chunk.tokens for chunk in prompt] for prompt in padded], run)
        except Stopped:
            raise Cancelled from None
        run.report(Progress(Stage.TEXT, len(padded), len(padded), "prompt"))
        return to_device(torch.stack(list(map(weighed, features, padded))), self._plan.device)

    def _text_key(self, tokens: list[list[int]]) -> TextKey:
        tower = (self._formats[Part.TEXT], self._plan.device, self._loras.key(Part.TEXT))
        return TextKey.of(self._folder.files[Part.TEXT], tower=tower, tokens=tokens)

    def _features(self, prompts: list[list[list[int]]], run: Run) -> list[Tensor]:
        """The features (n, d) of each prompt's chunks in main memory, from an earlier run where they are known.

        Where some aren't finite, they are computed once more in a wider number format.
        """
        while True:
            keys = [self._text_key(tokens) for tokens in prompts]
            found = self._prompts.complete(
                keys, lambda missing: self.within_memory(lambda: self._encoded(missing, run), run)
            )
            if all(torch.isfinite(features).all() for features in found):
                return found
            self.widen(Part.TEXT, NonFiniteError("The text tower gave values that are no text (NaN)."), run)

    def _encoded(self, keys: Sequence[TextKey], run: Run) -> list[Tensor]:
        prompts = [torch.tensor(key.tokens, device=self._plan.device) for key in keys]
        if Part.TEXT not in self._residence and is_read_in_passing(self._ladder.rung, device=self._plan.device):
            self._working = Part.TEXT
            self._residence.make_room(Part.TEXT)
            found = encoded_in_passing(
                self._folder,
                prompts,
                numbers=self._formats[Part.TEXT],
                changed=self._loras.adder(Part.TEXT),
                progress=_loading(run),
            )
        else:
            tower = self._part(Part.TEXT, run)
            with interruptible(tower, lambda: run.stop is not None):
                tracked = run.track(prompts, stage=Stage.TEXT, total=len(prompts), unit="prompt")
                found = [tower(each) for each in tracked]
        return [features.flatten(0, 1).float().cpu() for features in found]

    @contextlib.contextmanager
    def predictor(
        self, run: Run, *, stopped: Callable[[], bool], shortcuts: Shortcuts = NO_SHORTCUTS
    ) -> Iterator[Callable[[Tensor, Tensor, Tensor], Tensor]]:
        """The UNet in its own number format, from and to float32 latents."""
        unet, dtype = self._part(Part.UNET, run), self._formats[Part.UNET].computes
        assert isinstance(unet, UNet3D)
        embedding = self._loras.guidance_embedding(self._embedded_guidance)
        unet.guidance = None if embedding is None else embedding.to(self._plan.device)  # type: ignore[assignment]

        remembered = RememberedTexts(dtype)

        def predict(latents: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
            replay = may_replay and text.ndim == 3 and self._launches_freely
            if not self._launches_freely:
                call.forget()
            likes = (Part.UNET, dtype, latents.shape, text.shape)
            with sliced(unet) if self._ladder.rung.slices else contextlib.nullcontext(), keeping_memory(likes):
                return call(latents.to(dtype), timesteps, remembered(text), replay=replay).float()

        # What the shortcuts leave out differs from step to step.
        may_replay = shortcuts == NO_SHORTCUTS
        launch = launched(
            unet,
            self.launching,
            device=self._plan.device,
            stopped=stopped,
            report=lambda text: run.report(Notice(text)),
        )
        with launch as call, shortened(unet, shortcuts):
            try:
                yield predict
            finally:
                self._compiled = call.compiles

    def _packs(self, name: Part) -> bool:
        """Whether a part's weights are packed for the processor that it runs on."""
        kind, numbers = kind_of(self._plan.device), self._formats[name]
        return kind == "cpu" and (not numbers.is_widened or stays_narrow(numbers, kind=kind))

    def _arrange(self, part: nn.Module) -> None:
        """Announce what the clip's latents will be like, so that no layer has to change its form in a step."""
        if isinstance(part, UNet3D) and self._clip is not None:
            self._clip.announce_to(part, self._ladder.rung, dtype=self._formats[Part.UNET].computes)

    @property
    def _launches_freely(self) -> bool:
        """Whether a step does the same on the same memory as the one before, as a recording of it would."""
        return not self._ladder.rung.slices and not self._ladder.rung.blocks

    @contextlib.contextmanager
    def encoder(self, run: Run) -> Iterator[Callable[[Tensor], Tensor]]:
        """The autoencoder's first half: pictures (f, 3, H, W) in 0..1 to the mean of their latents (f, c, h, w).

        Pictures whose latents aren't finite are encoded once more in a wider number format, and so are those that
        follow.

        Raises:
            Cancelled: in the midst of it, once the user stopped.
        """

        def encode(pictures: Tensor) -> Tensor:
            autoencoder = self._part(Part.AUTOENCODER, run)
            dtype = self._formats[Part.AUTOENCODER].computes
            with (
                interruptible(autoencoder, lambda: run.stop is not None),
                keeping_memory(("encoding", dtype, pictures.shape)),
            ):
                mean, _ = autoencoder.encode(pictures.mul(2).sub(1).to(dtype))  # type: ignore[operator]
            return mean.float() * self._config.vae.scale_factor

        def encode_some(pictures: Tensor) -> Tensor:
            return torch.cat([encode(some) for some in pictures.split(min(len(pictures), self._frames_at_once))])

        def to_latents(pictures: Tensor) -> Tensor:
            while not torch.isfinite(latents := self.within_memory(lambda: encode_some(pictures), run)).all():
                error = NonFiniteError("The autoencoder gave values that are no latents (NaN).")
                self.widen(Part.AUTOENCODER, error, run)
            return latents

        self._part(Part.AUTOENCODER, run)
        try:
            yield to_latents
        except Stopped:
            raise Cancelled from None

    @contextlib.contextmanager
    def decoder(self, run: Run, *, stopped: Callable[[], bool]) -> Iterator[Callable[[Tensor], Tensor]]:
        """The autoencoder's second half: latents (f, c, h, w) to pictures (f, 3, H, W) in 0..1.

        Frames that are no pictures are decoded once more in a wider number format, and so are those that follow.
        """

        def decode(latents: Tensor) -> Tensor:
            # After a stop this part is still needed, to keep what was sampled.
            autoencoder = self._part(Part.AUTOENCODER, run, stoppable=False)
            scaled = latents / self._config.vae.scale_factor
            dtype = self._formats[Part.AUTOENCODER].computes
            with interruptible(autoencoder, stopped), keeping_memory((Part.AUTOENCODER, dtype, latents.shape)):
                return autoencoder.decode(scaled.to(dtype)).float()  # type: ignore[operator]

        def decode_some(latents: Tensor) -> Tensor:
            # Fewer at once than asked where memory has run out since.
            return torch.cat([decode(some) for some in latents.split(min(len(latents), self._frames_at_once))])

        def to_pictures(latents: Tensor) -> Tensor:
            while not torch.isfinite(pictures := self.within_memory(lambda: decode_some(latents), run)).all():
                error = NonFiniteError("The autoencoder gave values that are no picture (NaN).")
                self.widen(Part.AUTOENCODER, error, run)
            return (pictures / 2 + 0.5).clamp(0, 1)

        self._part(Part.AUTOENCODER, run, stoppable=False)
        yield to_pictures

    @torch.no_grad()
    def preview(self, latents: Tensor) -> Frames:
        """Latents (c, f, h, w) to (f, h, w, 3) by the linear map that is nearest to the decoder."""
        *channels, offset = torch.tensor(self._config.vae.preview_map)
        pictures = torch.einsum("cfhw,cr->fhwr", latents.float().cpu(), torch.stack(channels)) + offset
        return pictures.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).numpy()

    def _part(self, name: Part, run: Run, *, stoppable: bool = True) -> nn.Module:
        """A part, ready to work; the others leave where memory is short."""
        self._working = name

        def load(device: str) -> nn.Module:
            # Weights that LoRAs will change are packed when they have.
            packs = self._packs(name) and not self._loras.key(name)
            return loaded(
                self._folder,
                name,
                device=device,
                for_kind=kind_of(self._plan.device),
                numbers=self._formats[name],
                arrange=self._arrange if packs else None,
                progress=_loading(run, stoppable=stoppable),
            )

        def ready() -> nn.Module:
            part = self._residence.part(name, load)
            if self._loras.differ(name, part):
                with self._residence.changing(name):
                    self._loras.update(name, part, progress=_loading(run, stoppable=stoppable, unit="layer"))
            if self._packs(name):
                self._arrange(part)
                pack_each(part)
            return part

        return self.within_memory(ready, run)


def _loading(run: Run, *, stoppable: bool = True, unit: str = "B") -> Callable[[int, int], None]:
    def on_bytes(done: int, total: int) -> None:
        run.report(Progress(Stage.LOADING, done, total, unit))
        if stoppable:
            run.raise_if_stopped()

    return on_bytes
