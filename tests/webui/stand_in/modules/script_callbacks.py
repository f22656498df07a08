"""The callbacks that the extension registers or calls; a callback's own error is reported and goes no further."""

from collections import defaultdict

from modules import errors

_callbacks = defaultdict(list)


class ImageSaveParams:
    def __init__(self, image, p, filename, pnginfo):
        self.image = image
        self.p = p
        self.filename = filename
        self.pnginfo = pnginfo


def _call(name, *args, **kwargs):
    results = []
    for callback in _callbacks[name]:
        try:
            results.append(callback(*args, **kwargs))
        except Exception:
            errors.report(f"Error executing callback {name} for {callback.__module__}", exc_info=True)
    return results


def clear_callbacks():
    _callbacks.clear()


def on_ui_tabs(callback, *, name=None):
    _callbacks["ui_tabs"].append(callback)


def on_ui_settings(callback, *, name=None):
    _callbacks["ui_settings"].append(callback)


def on_after_component(callback, *, name=None):
    _callbacks["after_component"].append(callback)


def on_image_saved(callback, *, name=None):
    _callbacks["image_saved"].append(callback)


def on_script_unloaded(callback, *, name=None):
    _callbacks["script_unloaded"].append(callback)


def ui_tabs_callback():
    return [tab for tabs in _call("ui_tabs") for tab in tabs or ()]


def ui_settings_callback():
    _call("ui_settings")


def after_component_callback(component, **kwargs):
    _call("after_component", component, **kwargs)


def image_saved_callback(params: ImageSaveParams):
    _call("image_saved", params)


def script_unloaded_callback():
    _call("script_unloaded")
