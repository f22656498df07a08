"""Recipes and pictures that go from one tab to another."""

import re

import gradio as gr

from modules import errors
from modules.gradio_extensions import script

paste_fields = {}
registered_param_bindings = []
_PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


class ParamBinding:
    def __init__(
        self,
        paste_button,
        tabname,
        source_text_component=None,
        source_image_component=None,
        source_tabname=None,
        override_settings_component=None,
        paste_field_names=None,
    ):
        self.paste_button = paste_button
        self.tabname = tabname
        self.source_text_component = source_text_component
        self.source_image_component = source_image_component


class PasteField(tuple):
    def __new__(cls, component, target, *, api=None):
        return super().__new__(cls, (component, target))

    def __init__(self, component, target, *, api=None):
        super().__init__()


def add_paste_fields(tabname, init_img, fields, override_settings_component=None):
    paste_fields[tabname] = {"init_img": init_img, "fields": fields}


def register_paste_params_button(binding):
    registered_param_bindings.append(binding)


def reset():
    paste_fields.clear()
    registered_param_bindings.clear()


def parse_generation_parameters(x, skip_fields=None):
    *lines, last = x.strip().split("\n")
    if len(_PARAMETER.findall(last)) < 3:
        lines, last = [*lines, last], ""
    prompt, _, negative = "\n".join(lines).partition("Negative prompt:")
    values = {"Prompt": prompt.strip(), "Negative prompt": negative.strip()}
    for key, value in _PARAMETER.findall(last):
        size = re.fullmatch(r"(\d+)x(\d+)", value)
        if size:
            values |= {f"{key}-1": size[1], f"{key}-2": size[2]}
        else:
            values[key] = value.strip('"')
    return {"Schedule type": "Automatic", **values}


def connect_paste_params_buttons():
    """Join the buttons with the tabs that they send to; called when all tabs are made."""
    for binding in registered_param_bindings:
        there = paste_fields[binding.tabname]
        by_name = {target: component for component, target in there["fields"] or () if isinstance(target, str)}
        size = [by_name[name] for name in ("Size-1", "Size-2") if name in by_name]
        if binding.source_image_component and there["init_img"]:
            with_size = len(size) == 2 and binding.tabname != "inpaint"
            binding.paste_button.click(
                fn=_image_and_size if with_size else _same,
                inputs=[binding.source_image_component],
                outputs=[there["init_img"], *(size if with_size else ())],
                show_progress=False,
            )
        if binding.source_text_component is not None and there["fields"]:
            binding.paste_button.click(
                fn=_paster(there["fields"]),
                inputs=[binding.source_text_component],
                outputs=[component for component, _ in there["fields"]],
                show_progress=False,
            )
        binding.paste_button.click(fn=None, **script(f"switch_to_{binding.tabname}"), inputs=None, outputs=None)


def _same(image):
    return image


def _image_and_size(image):
    size = image.size if image is not None else (gr.update(), gr.update())
    return image, *size


def _paster(fields):
    def paste(text):
        values = parse_generation_parameters(text or "")
        return [_update(target, values) for _, target in fields]

    return paste


def _update(target, values):
    try:
        value = target(values) if callable(target) else values.get(target)
    except Exception:
        errors.report(f"Error executing {target}", exc_info=True)
        value = None
    return gr.update() if value is None else gr.update(value=value)
