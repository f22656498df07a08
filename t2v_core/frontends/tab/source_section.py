"""The section with the pictures and videos that a clip starts from: its places, the mask's window, and their events."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from t2v_core.frontends.tab import sketch, slots
from t2v_core.frontends.tab.clip_actions import ClipActions
from t2v_core.frontends.tab.gradio_versions import HIDDEN, keep_out_of_ui_config, script, unchanged, update
from t2v_core.frontends.tab.guarding import guarded
from t2v_core.frontends.tab.sections import SOURCE, opened, put_fields
from t2v_core.frontends.tab.surroundings import TAB_ID, Surroundings
from t2v_core.request import FIELDS

Parts = Mapping[str, Any]

TAKERS = tuple(name for name in slots.INVITATIONS if name != "mask")
"""The places that can have the clip or the frame that the player shows."""

_QUIET: dict[str, Any] = {"show_progress": False, "queue": False}


def panel(surroundings: Surroundings, put: Callable[..., None], made: dict[str, Any]) -> None:
    """Put the section's fields, with `put`, and add its other parts to those `made`."""

    def place(name: str) -> None:
        with gr.Column(min_width=200, elem_classes=["txt2video-place"]):
            made[f"{name}_slot"] = gr.HTML(slots.slot(name, "", surroundings.host), elem_id=f"{TAB_ID}_{name}_slot")
            put(name, hint="or type its path")
            made[f"{name}_upload"] = gr.File(
                visible=HIDDEN, file_count="single", elem_id=f"{TAB_ID}_{name}_upload", label=f"{name} upload"
            )

    with opened(SOURCE):
        with surroundings.row():
            place("source")
            place("mask")
        with surroundings.row():
            put("strength", scale=3)
            put("mask_keeps")
        with surroundings.row():
            place("first_frame")
            place("last_frame")
        with surroundings.row():
            place("continue_from")
            with gr.Column(min_width=200):
                put("continue_frames")
                put("join")
        put_fields(SOURCE, put, row=surroundings.row, placed=made)
    made["sketch"] = gr.HTML("", elem_id=f"{TAB_ID}_sketch")
    made["taken"] = gr.Textbox("", visible=HIDDEN, elem_id=f"{TAB_ID}_taken")
    keep_out_of_ui_config(made["taken"])
    for name in ("draw", "take"):
        made[name] = gr.Button(visible=HIDDEN, elem_id=f"{TAB_ID}_{name}")


def connect(surroundings: Surroundings, actions: ClipActions, *, fields: Mapping[str, Any], parts: Parts) -> None:
    """Let each place show what is in it, take what is dropped on it, and tell the clip's size of it."""
    host, messages = surroundings.host, parts["messages"]
    places = [fields[name] for name in slots.INVITATIONS]
    sized = [fields[name] for name in slots.SIZED]

    def sizes(model: str, *files: str) -> list[Any]:
        return _sized(slots.sizes_of(dict(zip(slots.INVITATIONS, files, strict=True)), model=model, host=host))

    for name, field in zip(slots.INVITATIONS, places, strict=True):

        def show(text: str, name: str = name) -> str:
            return slots.slot(name, text or "", host)

        def upload(file: Any, text: str, name: str = name) -> list[Any]:
            path = str(getattr(file, "name", file))
            shown = slots.slot(name, path, host)
            if 'data-state="wrong"' not in shown:
                return [update(value=None), path, shown]
            return [update(value=None), unchanged(), shown]

        file, shown = parts[f"{name}_upload"], parts[f"{name}_slot"]
        field.change(fn=show, inputs=[field], outputs=[shown], **_QUIET)
        put = file.upload(fn=upload, inputs=[file, field], outputs=[file, field, shown], show_progress=False)
        if name != "mask":
            asked = {"fn": sizes, "inputs": [fields["model"], *places], "outputs": sized}
            put.then(**asked, show_progress=False)
            # Only what a person types: a recipe that is pasted brings values of its own.
            field.input(**asked, **_QUIET)

    def draw(source: str, start: Any, mask: str, keeps: bool) -> list[Any]:
        return [sketch.window(source or "", float(start or 0), mask=mask or "", keeps=bool(keeps), host=host)]

    parts["draw"].click(
        fn=guarded(draw, outputs=1),
        inputs=[fields[name] for name in ("source", "source_start", "mask", "mask_keeps")],
        outputs=[parts["sketch"], messages],
        show_progress=False,
        preprocess=False,
    )
    _connect_taking(surroundings, actions, fields=fields, parts=parts)


def _connect_taking(
    surroundings: Surroundings,
    actions: ClipActions,
    *,
    fields: Mapping[str, Any],
    parts: Parts,
) -> None:
    """Let places have what the player shows; "Use as source" is one way to say it."""
    takers = [fields[name] for name in TAKERS]

    def take(chosen: str) -> list[Any]:
        wanted = str(json.loads(chosen).get("slot"))
        path = str(actions.given(chosen, as_picture=wanted.endswith("_frame")))
        return [update(value=path) if name == wanted else unchanged() for name in TAKERS]

    def sizes(model: str, *files: str) -> list[Any]:
        given = dict(zip(slots.INVITATIONS, files, strict=True))
        return _sized(slots.sizes_of_clip(given, model=model, host=surroundings.host))

    for button, code in ((parts["take"], "txt2video_take"), (parts["use_as_source"], "txt2video_take_as_source")):
        taken = button.click(
            fn=guarded(take, outputs=len(takers)),
            **script(code, inputs=1),
            inputs=[parts["taken"]],
            outputs=[*takers, parts["messages"]],
            show_progress=False,
        )
        taken.then(
            fn=sizes,
            inputs=[fields["model"], *(fields[name] for name in slots.INVITATIONS)],
            outputs=[fields[name] for name in slots.SIZED],
            show_progress=False,
        )


def _sized(found: Mapping[str, int | float]) -> list[Any]:
    """Changes of the sliders `SIZED`, which must reach as far as what they show."""
    specs = {name: FIELDS[name].spec for name in slots.SIZED}
    return [
        update(value=found[name], maximum=max(spec.usual or spec.maximum or 0, found[name]))
        if name in found
        else unchanged()
        for name, spec in specs.items()
    ]
