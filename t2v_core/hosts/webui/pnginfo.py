"""Recipes between our tab and the rest of the WebUI: PNG Info, and extensions that send to a tab by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modules import infotext_utils

from t2v_core.errors import Txt2VideoError
from t2v_core.fields import parse
from t2v_core.frontends.tab import pages
from t2v_core.frontends.tab.gradio_versions import script, send_button
from t2v_core.frontends.tab.surroundings import TAB_ID, Tab
from t2v_core.request import FIELDS

_TEXT_ID = "pnginfo_generation_info"
_LAST_BUTTON_ID = "extras_tab"


@dataclass(slots=True)
class PngInfo:
    """The parts of PNG Info that we use, found as the WebUI makes them, before our own tab is made."""

    above: Any = None
    text: Any = None
    below: Any = None
    button: Any = None

    def see(self, component: Any, **properties: Any) -> None:
        """For the WebUI's `on_after_component`: remember what belongs to PNG Info, and add our button to its row."""
        elem_id = properties.get("elem_id")
        if elem_id == _TEXT_ID:
            self.text = component
        elif elem_id == _LAST_BUTTON_ID and self.text is not None and self.button is None:
            self.button = send_button(f"Send to {TAB_ID}", elem_id=f"{TAB_ID}_tab")
        elif component.get_block_name() == "html":
            if self.text is None:
                self.above = component
            elif self.below is None:
                self.below = component

    def connect(self, tab: Tab) -> None:
        """Let its button fill our fields, and let it read videos that are dropped on it."""
        if self.text is None or self.button is None:
            return
        self.button.click(fn=tab.fill, inputs=[self.text], outputs=list(tab.fields.values()), show_progress=False).then(
            fn=None, **script(f"switch_to_{TAB_ID}"), inputs=[], outputs=[]
        )
        tab.inspected.upload(
            fn=lambda upload: _shown(tab, upload),
            inputs=[tab.inspected],
            outputs=[self.above, self.text, self.below],
            show_progress=False,
        )


def _shown(tab: Tab, upload: Any) -> tuple[str, str, str]:
    """What PNG Info shows of a file: nothing above, its recipe, and that once more for people."""
    try:
        text = tab.recipe_in(getattr(upload, "name", upload))
    except Txt2VideoError as error:
        return "", "", pages.problem(error)
    return "", text, f"<p><b>parameters</b></p>{pages.recipe(text)}"


def register_paste_fields(tab: Tab) -> None:
    """Our fields for other extensions' buttons that send a recipe to a tab."""
    fields = [infotext_utils.PasteField(component, _reader(name)) for name, component in tab.fields.items()]
    infotext_utils.add_paste_fields(TAB_ID, None, fields)


def _reader(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """How a field's value is found in what the WebUI has parsed; None leaves the field as it is."""
    field = FIELDS[name]
    keys = {"prompt": "Prompt", "negative_prompt": "Negative prompt", "width": "Size-1", "height": "Size-2"}
    key = keys.get(name, "Model" if name == "model" else field.spec.infotext)

    def read(parameters: Mapping[str, Any]) -> Any:
        text = parameters.get(key) if key else None
        return None if text is None else parse(field, str(text))

    return read
