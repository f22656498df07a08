"""The tab: prompts above, fields on the left, results on the right, and what happens when something is pressed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import gradio as gr

from t2v_core.frontends.tab import events, first_run, presets, sections, source_section
from t2v_core.frontends.tab.about import OF_THE_MODEL, line_about, lora_choices, native_choices
from t2v_core.frontends.tab.clip_actions import WHICH_FRAME
from t2v_core.frontends.tab.components import component_of
from t2v_core.frontends.tab.gradio_versions import HIDDEN, LOSSLESS, keep_out_of_api, keep_out_of_ui_config
from t2v_core.frontends.tab.making import Maker
from t2v_core.frontends.tab.surroundings import TAB_ID, Surroundings
from t2v_core.models.catalogue import find_all
from t2v_core.models.layouts import ModelFolder
from t2v_core.postprocess.upscale import names as upscaler_names
from t2v_core.request import FIELDS, GenerationRequest
from t2v_core.speed import SHORTCUTS

SWAP, REFRESH, DICE, RECYCLE = "\u21c5", "\U0001f504", "\U0001f3b2\ufe0f", "\u267b\ufe0f"
FOLDER, SAVE, ZIP, FRAMES, DELETE = (
    "\U0001f4c2",
    "\U0001f4be",
    "\U0001f5c3\ufe0f",
    "\U0001f39e\ufe0f",
    "\U0001f5d1\ufe0f",
)
SENDS = {"img2img": "\U0001f5bc\ufe0f", "inpaint": "\U0001f3a8\ufe0f", "extras": "\U0001f4d0"}
"""The tabs that a frame can be sent to, and the symbols that the WebUI itself has for them."""

DRAFTS_TIP = (
    "A sheet of nine seeds in few steps, or as many as Drafts says: click those that you like, then render them"
)
PROMPTS = ("prompt", "negative_prompt")
"""The fields that stand above all others."""

NEXT = (
    ("use_as_source", "Use as source", "Begin the next clip from the chosen one"),
    ("continue", "Continue", "Make the chosen clip longer, by the prompt above"),
    ("refine_clip", "Refine", "Make the chosen clip again, larger and with more detail, as the section Refine says"),
)
"""What can be made of a finished clip."""

LEFT_OPEN = (*SHORTCUTS, "window", "window_overlap")
"""What the speed or the clip's length says where nobody else does."""


def build(surroundings: Surroundings, maker: Maker) -> gr.Blocks:
    """Make the whole tab as a page that can stand alone or become one of a WebUI's tabs."""
    models = find_all(surroundings.host.models_folders)
    with gr.Blocks(analytics_enabled=False) as page:
        first = first_run.panel(surroundings)
        prompts = surroundings.prompt_row()
        with surroundings.body():
            with gr.Column(variant="compact", elem_id=f"{TAB_ID}_settings"):
                parts = _fields(surroundings, models)
            with gr.Column(elem_id=f"{TAB_ID}_results"):
                parts |= _results(surroundings)
        fields = {name: parts[name] for name in FIELDS if name in parts}
        fields |= {"prompt": prompts.prompt, "negative_prompt": prompts.negative_prompt}
        fields = {name: fields[name] for name in FIELDS}
        surroundings.connect(events.connect(surroundings, maker, prompts=prompts, fields=fields, parts=parts))
        events.keep_forecast(page, maker, fields=fields, keys=parts["keys"], line=parts["forecast"])
        events.keep_duration(page, fields=fields, line=parts["duration"])
        first_run.connect(page, surroundings, parts=first, model=fields["model"])
    keep_out_of_api(page)
    return page


def _fields(surroundings: Surroundings, models: tuple[ModelFolder, ...]) -> dict[str, Any]:
    """The fields on the left, in the WebUI's order; what depends on the model shows the first model's own values."""
    start = GenerationRequest(model=models[0].name, **surroundings.at_start).resolve(models[0].config.defaults)
    start = dataclasses.replace(start, **dict.fromkeys(LEFT_OPEN))
    made: dict[str, Any] = {}

    free: dict[str, list[str]] = {
        "upscaler": list(upscaler_names(surroundings.host.upscalers())),
        "refine_model": ["", *(model.name for model in models)],
    }

    def put(name: str, **options: Any) -> None:
        if name in free:
            options |= {"choices": free[name], "is_free": True}
        made[name] = component_of(name, getattr(start, name), **options)
        surroundings.explain(made[name], FIELDS[name].spec.help)
        if name == "model" or name in free or name in OF_THE_MODEL or name in surroundings.at_start:
            keep_out_of_ui_config(made[name])

    def tool(name: str, symbol: str, tooltip: str) -> None:
        made[name] = surroundings.tool_button(symbol, elem_id=f"{TAB_ID}_{name}", tooltip=tooltip)

    with surroundings.row():
        put("model", choices=[model.name for model in models], scale=4)
        put("lora", choices=lora_choices(surroundings.host.models_folders), is_free=True, scale=3)
        tool("refresh", REFRESH, "Look for models and LoRAs again")
    made["about"] = gr.HTML(line_about(models[0]), elem_id=f"{TAB_ID}_about")
    with surroundings.row():
        put("sampler")
        put("schedule")
        put("speed")
    with surroundings.row():
        put("steps", scale=4)
        put("cfg_scale", scale=4)
    with surroundings.row():
        with gr.Column(scale=4):
            put("width")
            put("height")
        with gr.Column(scale=1, min_width=120, elem_id=f"{TAB_ID}_sizes"):
            tool("swap", SWAP, "Swap width and height")
            made["native"] = gr.Dropdown(
                native_choices(models), label="Native size", value=None, elem_id=f"{TAB_ID}_native"
            )
    keep_out_of_ui_config(made["native"])
    with surroundings.row():
        put("frames", scale=4)
        put("fps", scale=4)
    made["duration"] = gr.HTML("", elem_id=f"{TAB_ID}_duration")
    with surroundings.row():
        put("seed", scale=4)
        tool("dice", DICE, "A random seed: -1")
        tool("recycle", RECYCLE, "The seed of the chosen clip")
        put("count", scale=4)
    source_section.panel(surroundings, put, made)
    _sections(surroundings, put, made)
    if surroundings.presets_folder is not None:
        more = presets.panel(surroundings, surroundings.presets_folder)
        assert not made.keys() & more.keys()
        made |= more
    return made


def _sections(surroundings: Surroundings, put: Callable[..., None], made: dict[str, Any]) -> None:
    """What is folded below the source; `put` makes a field's component."""
    for section in sections.REST:
        with sections.opened(section):
            if section.name == "compare":
                made["make_drafts"] = gr.Button("Make drafts", elem_id=f"{TAB_ID}_make_drafts")
                surroundings.explain(made["make_drafts"], DRAFTS_TIP)
            sections.put_fields(section, put, row=surroundings.row, placed={*made, *PROMPTS, "over"})
            if section.name == "compare":
                put("over", hint="steps=10,25; seed=1-3")


def _results(surroundings: Surroundings) -> dict[str, Any]:
    made: dict[str, Any] = {"forecast": gr.HTML("", elem_id=f"{TAB_ID}_forecast")}
    with gr.Column(variant="panel", elem_id=f"{TAB_ID}_results_panel"):
        with gr.Group(elem_id=f"{TAB_ID}_gallery_container"):
            made["player"] = gr.HTML("", elem_id=f"{TAB_ID}_gallery")
        with gr.Row(elem_id=f"{TAB_ID}_result_buttons", elem_classes=["image-buttons"]):
            for name, symbol, tooltip in (
                ("open_folder", FOLDER, "Open the folder that the clips lie in"),
                ("save_copy", SAVE, "Save a copy of the chosen clip"),
                ("zip", ZIP, "Download all these clips in one zip"),
                ("show_frames", FRAMES, "Show the frames of the chosen clip, or hide them"),
                ("delete", DELETE, "Delete the chosen clip from the disk"),
            ):
                made[name] = surroundings.tool_button(symbol, elem_id=f"{TAB_ID}_{name}", tooltip=tooltip)
            made["which"] = gr.Dropdown(
                list(WHICH_FRAME), value=WHICH_FRAME[0], show_label=False, container=False, label="Frame to send",
                elem_id=f"{TAB_ID}_which", min_width=120,
            )  # fmt: skip
            for name, symbol in SENDS.items():
                tooltip = f"Send this frame and its size to {name}"
                made[f"send_{name}"] = surroundings.tool_button(
                    symbol, elem_id=f"{TAB_ID}_send_to_{name}", tooltip=tooltip
                )
        with gr.Row(elem_id=f"{TAB_ID}_next_buttons"):
            for name, label, tooltip in NEXT:
                made[name] = gr.Button(label, size="sm", elem_id=f"{TAB_ID}_{name}")
                surroundings.explain(made[name], tooltip)
        made["download"] = gr.File(visible=False, interactive=False, show_label=False, elem_id=f"{TAB_ID}_download")
        made["frame_gallery"] = gr.Gallery(
            label="Frames", visible=False, columns=6, object_fit="contain", elem_id=f"{TAB_ID}_frames_gallery"
        )
        made["recipe"] = gr.HTML("", elem_id=f"{TAB_ID}_html_info", elem_classes=["infotext"])
        made["messages"] = gr.HTML("", elem_id=f"{TAB_ID}_html_log", elem_classes=["html-log"])
        made["keys"] = gr.Textbox("[]", visible=HIDDEN, elem_id=f"{TAB_ID}_keys")
        made["ask"] = gr.Textbox("", visible=HIDDEN, elem_id=f"{TAB_ID}_ask")
        made["render_picked"] = gr.Button(visible=HIDDEN, elem_id=f"{TAB_ID}_render_picked")
        made["chosen"] = gr.Textbox("", visible=HIDDEN, elem_id=f"{TAB_ID}_chosen")
        made["task"] = gr.Textbox("", visible=HIDDEN, elem_id=f"{TAB_ID}_task")
        for name in ("drop", "inspected"):
            made[name] = gr.File(visible=HIDDEN, file_count="single", elem_id=f"{TAB_ID}_{name}")
        made["frame"] = gr.Image(visible=HIDDEN, type="pil", interactive=True, elem_id=f"{TAB_ID}_frame", **LOSSLESS)
        for name in SENDS:
            made[f"pass_{name}"] = gr.Button(visible=HIDDEN, elem_id=f"{TAB_ID}_pass_to_{name}")
    for part in ("which", "ask", "chosen", "keys", "task"):
        keep_out_of_ui_config(made[part])
    return made
