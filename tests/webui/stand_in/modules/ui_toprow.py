"""Prompts, the buttons that start and stop, and the small ones beside them."""

import gradio as gr

from modules import shared
from modules.gradio_extensions import script
from modules.ui_components import ToolButton
from modules.ui_prompt_styles import UiPromptStyles


class Toprow:
    prompt = None
    negative_prompt = None
    interrupt = None
    interrupting = None
    skip = None
    submit = None
    paste = None
    clear_prompt_button = None
    apply_styles = None
    restore_progress_button = None
    token_counter = None
    token_button = None
    negative_token_counter = None
    negative_token_button = None
    ui_styles = None

    def __init__(self, is_img2img, is_compact=False, id_part=None):
        self.id_part = id_part or ("img2img" if is_img2img else "txt2img")
        with gr.Row(elem_id=f"{self.id_part}_toprow", variant="compact"):
            self._prompts()
            with gr.Column(scale=1, elem_id=f"{self.id_part}_actions_column"):
                self._buttons()
                self._tools()
                self.ui_styles = UiPromptStyles(self.id_part, self.prompt, self.negative_prompt)
                self.ui_styles.setup_apply_button(self.apply_styles)

    def _prompts(self):
        with gr.Column(elem_id=f"{self.id_part}_prompt_container", scale=6):
            for name, label in (("prompt", "Prompt"), ("neg_prompt", "Negative prompt")):
                with gr.Row(elem_id=f"{self.id_part}_{name}_row", elem_classes=["prompt-row"]):
                    box = gr.Textbox(
                        label=label, elem_id=f"{self.id_part}_{name}", show_label=False, lines=3,
                        elem_classes=["prompt"], value="" if gr.__version__ >= "4" else None,
                    )  # fmt: skip
                if name == "prompt":
                    self.prompt = box
                else:
                    self.negative_prompt = box

    def _buttons(self):
        with gr.Row(elem_id=f"{self.id_part}_generate_box", elem_classes=["generate-box"]):
            for name, label in (("interrupt", "Interrupt"), ("skip", "Skip"), ("interrupting", "Interrupting...")):
                setattr(
                    self,
                    name,
                    gr.Button(label, elem_id=f"{self.id_part}_{name}", elem_classes=[f"generate-box-{name}"]),
                )
            self.submit = gr.Button("Generate", elem_id=f"{self.id_part}_generate", variant="primary")
        self.skip.click(fn=shared.state.skip)
        code = f"() => {{ showSubmitInterruptingPlaceholder('{self.id_part}'); }}"
        self.interrupt.click(fn=_interrupt, **script(code))
        self.interrupting.click(fn=_interrupt)

    def _tools(self):
        with gr.Row(elem_id=f"{self.id_part}_tools"):
            self.paste = ToolButton("↙️", elem_id="paste", tooltip="Read a recipe")
            self.clear_prompt_button = ToolButton("🗑️", elem_id=f"{self.id_part}_clear_prompt", tooltip="Clear prompt")
            self.apply_styles = ToolButton("📋", elem_id=f"{self.id_part}_style_apply", tooltip="Apply styles")
            self.restore_progress_button = ToolButton(
                "🌀", elem_id=f"{self.id_part}_restore_progress", visible=False, tooltip="Restore progress"
            )
            for sign in ("", "negative_"):
                elem_id = f"{self.id_part}_{sign}token"
                counter = gr.HTML(
                    "<span>0/75</span>", elem_id=f"{elem_id}_counter", elem_classes=["token-counter"], visible=False
                )
                setattr(self, f"{sign}token_counter", counter)
                setattr(self, f"{sign}token_button", gr.Button(visible=False, elem_id=f"{elem_id}_button"))
        self.clear_prompt_button.click(
            fn=None, **script("() => ['', '']"), inputs=[], outputs=[self.prompt, self.negative_prompt]
        )


def _interrupt():
    """The first press lets the clip be finished where the option says so, the second one stops."""
    state = shared.state
    if not state.stopping_generation and state.job_count > 1 and shared.opts.interrupt_after_current:
        state.stop_generating()
    else:
        state.interrupt()
