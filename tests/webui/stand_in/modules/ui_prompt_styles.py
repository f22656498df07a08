"""The dropdown of prompt styles."""

import gradio as gr

from modules import shared
from modules.gradio_extensions import script


class UiPromptStyles:
    def __init__(self, tabname, main_ui_prompt, main_ui_negative_prompt):
        self.tabname = tabname
        self.prompts = [main_ui_prompt, main_ui_negative_prompt]
        with gr.Row(elem_id=f"{tabname}_styles_row"):
            self.dropdown = gr.Dropdown(
                label="Styles", show_label=False, elem_id=f"{tabname}_styles",
                choices=list(shared.prompt_styles.styles), value=[], multiselect=True,
            )  # fmt: skip

    def setup_apply_button(self, button):
        components = [*self.prompts, self.dropdown]
        then = button.click(fn=_materialized, inputs=components, outputs=components, show_progress=False)
        then.then(fn=None, **script(f"() => {{ update_{self.tabname}_tokens(); }}"))


def _materialized(prompt, negative_prompt, styles):
    known = shared.prompt_styles
    return (
        known.apply_styles_to_prompt(prompt, styles),
        known.apply_negative_styles_to_prompt(negative_prompt, styles),
        [],
    )
