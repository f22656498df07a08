"""The folded parts of the tab: which fields each has in sight, and which it keeps for the few who want them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from t2v_core.frontends.tab.surroundings import TAB_ID
from t2v_core.request import FIELDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`groups` are those of the fields' table whose other fields come here too, under `more` unless that's empty."""

    name: str
    label: str
    fields: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


SOURCE = Section(
    name="source",
    label="Source",
    more=("source_start", "source_end", "fit", "mask_grow", "mask_feather", "anchors", "anchor_fade", "match_colors"),
    groups=("Source",),
)
REST = (
    Section(
        name="length",
        label="Length",
        fields=("loop", "ping_pong", "fill_in"),
        more=("window", "window_overlap"),
        groups=("Length",),
    ),
    Section(
        name="refine",
        label="Refine",
        fields=("refine", "refine_strength", "upscale", "upscaler"),
        more=("refine_model", "refine_steps", "tile"),
        groups=("Refine",),
    ),
    Section(
        name="compare",
        label="Drafts and grids",
        fields=("drafts", "draft_steps", "pick"),
        groups=("Compare",),
    ),
    Section(
        name="advanced",
        label="Advanced",
        fields=("guidance_rescale", "eta", "prompt_blend"),
        groups=("Video", "Prompt"),
    ),
    Section(name="shortcuts", label="Shortcuts", groups=("Shortcuts",)),
    Section(
        name="output",
        label="Output",
        fields=("output_fps", "interpolation", "format", "crf", "preset"),
        more=("sound", "sound_fit", "loop_count"),
        groups=("Output", "Finish"),
    ),
    Section(name="machine", label="Machine", groups=("Machine",)),
)


def opened(section: Section) -> AbstractContextManager[Any]:
    """The section itself, folded, around the block."""
    return gr.Accordion(section.label, open=False, elem_id=f"{TAB_ID}_section_{section.name}")


def put_fields(
    section: Section,
    put: Callable[[str], None],
    *,
    row: Callable[[], AbstractContextManager[Any]],
    placed: Container[str],
) -> None:
    """Put the section's fields that aren't `placed` yet, and the rest of its groups."""
    named = {*section.fields, *section.more}
    others = [name for name, field in FIELDS.items() if field.spec.group in section.groups and name not in named]
    in_sight = [*section.fields, *(() if section.more else others)]
    more = [*section.more, *(others if section.more else ())]
    put_rows((name for name in in_sight if name not in placed), put, row=row)
    if more := [name for name in more if name not in placed]:
        with gr.Accordion("More", open=False, elem_id=f"{TAB_ID}_more_{section.name}"):
            put_rows(more, put, row=row)


def put_rows(
    names: Iterable[str], put: Callable[[str], None], *, row: Callable[[], AbstractContextManager[Any]]
) -> None:
    """Put fields in rows of two or three."""
    for together in _rows(list(names)):
        with row():
            for name in together:
                put(name)


def _rows(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Three fields a row, or two where three would leave one alone."""
    width = 2 if len(names) % 3 == 1 else 3
    for start in range(0, len(names), width):
        yield names[start : start + width]
