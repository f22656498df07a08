"""What the WebUIs change in gradio: tooltips, the classes of components, and the callback after each."""

import functools
import inspect

import gradio as gr

if gr.__version__ >= "4":
    import gradio.component_meta

from modules import script_callbacks

MAJOR = int(gr.__version__.split(".")[0])


def script(code):
    return {"_js" if MAJOR < 4 else "js": code}


def _observed(original):
    @functools.wraps(original)
    def init(self, *args, **kwargs):
        self.webui_tooltip = kwargs.pop("tooltip", None)
        original(self, *args, **kwargs)
        classes = getattr(self, "elem_classes", None) or []
        self.elem_classes = [f"gradio-{self.get_block_name()}", *classes]
        script_callbacks.after_component_callback(self, **kwargs)

    return init


def _with_tooltip(original):
    @functools.wraps(original)
    def get_config(self, *args, **kwargs):
        tooltip = getattr(self, "webui_tooltip", None)
        return original(self, *args, **kwargs) | ({"webui_tooltip": tooltip} if tooltip else {})

    return get_config


def _tolerant(original):
    """gradio 4 refuses arguments that it doesn't know; Forge drops them."""
    known = inspect.signature(original).parameters

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        original(self, *args, **{name: value for name, value in kwargs.items() if name in known})

    return init


def install():
    base = gr.components.IOComponent if MAJOR < 4 else gr.components.Component
    for kind in (base, gr.blocks.BlockContext):
        kind.__init__ = _observed(kind.__init__)
    gr.blocks.Block.get_config = _with_tooltip(gr.blocks.Block.get_config)
    if MAJOR >= 4:
        # gradio writes a file beside every module that has a component of its own.
        gradio.component_meta.create_or_modify_pyi = lambda *_: None
        for name in {*gr.components.__all__, *gr.layouts.__all__}:
            kind = getattr(gr, name, None)
            if getattr(kind, "EVENTS", None):
                kind.__init__ = _tolerant(kind.__init__)


install()
