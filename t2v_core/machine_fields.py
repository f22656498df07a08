"""The fields of a request that say how the machine is used: number formats, memory, and what is compiled."""

from __future__ import annotations

from dataclasses import dataclass

from t2v_core.fields import spec

GROUP = "Machine"


@dataclass(frozen=True, kw_only=True)
class MachineFields:
    """How a clip is made on this machine; hardly any changes the picture.

    Without slots, so that a request can have several such groups as bases.
    """

    precision: str = spec(
        "auto",
        "Precision",
        "The network's number format. auto: fp16 or bf16 on a GPU, on a CPU fp32 or, where memory is short, bf16. fp8 "
        "halves the weights once more, and changes the picture a little.",
        infotext="Precision",
        chosen=True,
        group=GROUP,
    )
    vae_precision: str = spec(
        "auto",
        "VAE precision",
        "The autoencoder's number format. auto: the network's, and a wider one where its pictures would be black.",
        infotext="VAE precision",
        chosen=True,
        group=GROUP,
    )
    attention: str = spec(
        "auto",
        "Attention",
        "fused: torch's own kernel. plain: products and a softmax in float32, in slices, for devices whose kernel is "
        "missing or wrong. auto knows which those are.",
        infotext="Attention",
        chosen=True,
        group=GROUP,
    )
    compile: bool = spec(
        False,
        "Compile",
        "Compiles the network for this GPU: a first run takes minutes longer, later ones of the same size are faster.",
        group=GROUP,
    )
    cuda_graph: bool = spec(
        False,
        "CUDA graph",
        "Records a step and replays it: faster where the GPU waits for the processor, at more memory.",
        group=GROUP,
    )
    split_guidance: bool = spec(
        False,
        "Split guidance",
        "Runs the prompt and the negative prompt one after the other: less memory, a little slower.",
        infotext="Split guidance",
        group=GROUP,
    )
    memory: str = spec(
        "auto",
        "Memory",
        "What saves memory; none changes the picture, each further one is slower. all: the model stays on the device. "
        "text: its text tower leaves once it has read the prompts. parts: only what works stays. "
        "halves: guidance is split too. slices: attention works in slices too. "
        "blocks: the UNet comes block by block, for cards of 4 GB. "
        "auto: the fastest that fits; on a CPU a large text tower leaves in any case.",
        chosen=True,
        group=GROUP,
    )
