"""The callbacks that the extension registers or calls; a callback's own error is reported and goes no further."""

from modules import errors

_NAMES = ("ui_tabs", "ui_settings", "after_component", "image_saved")
callback_map = {f"callbacks_{name}": [] for name in _NAMES}


class ImageSaveParams:
    def __init__(self, image, p, filename, pnginfo):
        self.image = image
        self.p = p
        self.filename = filename
        self.pnginfo = pnginfo


def _call(name, *args, **kwargs):
    results = []
    for callback in callback_map[f"callbacks_{name}"]:
        try:
            results.append(callback(*args, **kwargs))
        except Exception:
            errors.report(f"Error executing callback {name} for {callback.__module__}", exc_info=True)
    return results


def clear_callbacks():
    for callbacks in callback_map.values():
        callbacks.clear()


def add_callback(callbacks, fun, *, name=None, category="unknown", filename=None):
    callbacks.append(fun)


def on_ui_tabs(callback, *, name=None):
    add_callback(callback_map["callbacks_ui_tabs"], callback, name=name, category="ui_tabs")


def on_ui_settings(callback, *, name=None):
    add_callback(callback_map["callbacks_ui_settings"], callback, name=name, category="ui_settings")


def on_after_component(callback, *, name=None):
    add_callback(callback_map["callbacks_after_component"], callback, name=name, category="after_component")


def on_image_saved(callback, *, name=None):
    add_callback(callback_map["callbacks_image_saved"], callback, name=name, category="image_saved")


def ui_tabs_callback():
    return [tab for tabs in _call("ui_tabs") for tab in tabs or ()]


def ui_settings_callback():
    _call("ui_settings")


def after_component_callback(component, **kwargs):
    _call("after_component", component, **kwargs)


def image_saved_callback(params: ImageSaveParams):
    _call("image_saved", params)
