"""What saves memory, as a ladder: each rung takes less than the one before, costs more time, and changes no picture."""

from __future__ import annotations

from dataclasses import dataclass

from t2v_core.models.modelscope.checkpoint import Part

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Measures:
    """One rung. `described` are the words for people, "" for what needs no word.

    Attributes:
        name: what a request calls it.
        described: what it adds to the rung before.
        text_leaves: the text tower is on the device only while it reads the prompts.
        in_turn: only the part that works (text tower, UNet, autoencoder) is on the device.
        halves: guidance runs the prompt and the negative prompt one after the other, and frames are decoded one by one.
        slices: transformers run over some frames or places at once.
        blocks: the UNet's weights come to the device block by block, the next ones while one works.
    """

    name: str
    described: str
    text_leaves: bool = False
    in_turn: bool = False
    halves: bool = False
    slices: bool = False
    blocks: bool = False

    def sends_away(self, part: Part, *, working: Part) -> bool:
        """Whether a part isn't on the device while another one works."""
        return part is not working and (self.in_turn or (self.text_leaves and part is Part.TEXT))


RUNGS = (
    Measures("all", ""),
    Measures("text", "the text tower leaves once it has read the prompts", text_leaves=True),
    Measures("parts", "one part of the model at a time", text_leaves=True, in_turn=True),
    Measures("halves", "guidance split", text_leaves=True, in_turn=True, halves=True),
    Measures("slices", "transformers in slices", text_leaves=True, in_turn=True, halves=True, slices=True),
    Measures(
        "blocks", "the UNet block by block", text_leaves=True, in_turn=True, halves=True, slices=True, blocks=True
    ),
)
"""From the fastest to the smallest."""

MEMORY = (AUTO, *(rung.name for rung in RUNGS))
"""What a request may ask for; "auto" is what `memory_plan` decides."""


def rungs_for(device: str) -> tuple[Measures, ...]:
    """The rungs that save memory on a device: on a CPU the weights have no other place to be in."""
    return RUNGS[:-1] if device.startswith("cpu") else RUNGS


def find_rung(name: str, *, device: str) -> Measures:
    """The rung of a name, or the nearest one above it that the device has."""
    rungs = {rung.name: rung for rung in rungs_for(device)}
    return rungs.get(name, rungs_for(device)[-1])


def words(rung: Measures) -> tuple[str, ...]:
    """Everything that a rung does, for people, from the first measure to its own."""
    return tuple(each.described for each in RUNGS[: RUNGS.index(rung) + 1] if each.described)
