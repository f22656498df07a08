"""The WebUI's small components."""

import functools

import gradio as gr

from modules import gradio_extensions  # noqa: F401  (before the first component is made)


class ToolButton(gr.Button):
    @functools.wraps(gr.Button.__init__)  # gradio 4 tells the page of those properties that the signature names
    def __init__(self, value="", *, elem_classes=None, tooltip=None, **kwargs):
        super().__init__(value, elem_classes=["tool", *(elem_classes or [])], **kwargs)
        self.webui_tooltip = tooltip

    def get_block_name(self):
        return "button"


class ResizeHandleRow(gr.Row):
    @functools.wraps(gr.Row.__init__)
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.elem_classes.append("resize-handle-row")

    def get_block_name(self):
        return "row"


class FormRow(gr.Row):
    def get_expected_parent(self):
        return gr.components.Form

    def get_block_name(self):
        return "row"
