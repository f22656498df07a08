"""The page of its own around the tab: a header, the prompt row, a line of runs, and files for each visitor alone."""

from __future__ import annotations

import asyncio
import contextvars
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gradio as gr

from t2v_core.errors import BusyError, Cancelled, OutputError
from t2v_core.frontends.page.files import Files
from t2v_core.frontends.page.following import Follower
from t2v_core.frontends.page.gate import ANYBODY, VISITOR_HEADER
from t2v_core.frontends.tab import first_run, pages
from t2v_core.frontends.tab.gradio_versions import request_header, script, tool_button
from t2v_core.frontends.tab.surroundings import TAB_ID, PromptRow, Results, Tab
from t2v_core.host import Host
from t2v_core.jobs import Job, Jobs
from t2v_core.media.naming import Placement
from t2v_core.request import FIELDS
from t2v_core.run import ClipSaved, Run
from t2v_core.video import Video

EXAMPLES_OF_DEMO = (
    first_run.EXAMPLE,
    "a blue triangle flying to the top over a white backdrop",
    "on a pink screen, a green ring drifts from left to right",
    "a yellow box sliding down on a gray background",
)
EXAMPLES = (
    "a panda eating bamboo on a rock",
    "an astronaut riding a horse",
    "waves rolling onto a beach at sunset, aerial view",
    "a robot dancing in times square",
)
MOST_SHOWN = 12
LOOK_EVERY = 0.1  # seconds

_worked_for: contextvars.ContextVar[str] = contextvars.ContextVar("visitor", default="")


def visitor() -> str:
    """Who asks: the visitor whose run this thread works on, or the one whose request is being answered."""
    return _worked_for.get() or request_header(VISITOR_HEADER) or ANYBODY


class PageSurroundings:
    """The page, for any number of visitors; `is_local` if only this machine's user can be one.

    `shown_again` makes the player of clips anew, by their keys: some may have been deleted since.
    """

    def __init__(self, host: Host, *, jobs: Jobs, files: Files, is_local: bool) -> None:
        self.host = host
        self.jobs = jobs
        self._files = files
        self._is_local = is_local
        self.tips: dict[str, str] = {}
        self.shown_again: Callable[[str], tuple[str, str]] = lambda keys: ("", keys)

    @property
    def description(self) -> str:
        """For reports."""
        return f"a page of its own, gradio {gr.__version__}"

    @property
    def at_start(self) -> Mapping[str, Any]:
        """Nothing is set here but what the fields' table and the model say."""
        return {}

    @property
    def presets_folder(self) -> Path | None:
        """None: presets of one visitor would be everybody's."""
        return None

    @property
    def most_shown(self) -> int:
        """So many videos still play at once in a browser."""
        return MOST_SHOWN

    def prompt_row(self) -> PromptRow:
        """The header, the prompts, the buttons, and what only the simple view has."""
        with gr.Row(elem_id=f"{TAB_ID}_page_head"):
            gr.HTML("<h1>txt2video</h1><p>A sentence becomes a video.</p>")
            view = gr.Button("All settings", size="sm", scale=0, elem_id=f"{TAB_ID}_view")
        with gr.Row(elem_id=f"{TAB_ID}_toprow"):
            with gr.Column(scale=6, elem_id=f"{TAB_ID}_prompt_container"):
                prompt = _prompt("prompt", elem_id="prompt", hint="Describe the video")
                negative = _prompt("negative_prompt", elem_id="neg_prompt", hint="What it should not show")
            with gr.Column(scale=1, min_width=160, elem_id=f"{TAB_ID}_actions_column"):
                with gr.Row(elem_id=f"{TAB_ID}_generate_box"):
                    generate = gr.Button("Generate", variant="primary", elem_id=f"{TAB_ID}_generate")
                    for name, label in (
                        ("interrupt", "Interrupt"),
                        ("skip", "Skip"),
                        ("interrupting", "Interrupting…"),
                    ):
                        button = gr.Button(label, variant="stop", elem_id=f"{TAB_ID}_{name}")
                        code = f"() => txt2video_page_stop({'skip' if name == 'skip' else 'interrupt'!r})"
                        button.click(fn=None, **script(code), inputs=[], outputs=[])
                with gr.Row(elem_id=f"{TAB_ID}_tools"):
                    paste = self.tool_button(
                        "↙️", elem_id="paste", tooltip="Fill the fields from the recipe in the prompt"
                    )
                    clear = self.tool_button("🗑️", elem_id=f"{TAB_ID}_clear_prompt", tooltip="Clear the prompts")
                restore = gr.Button("Restore", elem_id=f"{TAB_ID}_restore_progress")
        self._simple_view()
        texts = [prompt, negative]
        clear.click(fn=None, **script("() => ['', '']"), inputs=[], outputs=texts, show_progress="hidden")
        view.click(fn=None, **script("txt2video_page_switch_view"), inputs=[], outputs=[])
        return PromptRow(
            prompt=prompt,
            negative_prompt=negative,
            generate=generate,
            paste=paste,
            restore=restore,
            counters={"prompt": _counter(""), "negative_prompt": _counter("negative_")},
        )

    def _simple_view(self) -> None:
        """Examples that one click runs, and what opens the few fields that the simple view has."""
        is_demo = first_run.needed(self.host.models_folders)
        with gr.Column(elem_classes=["txt2video-only-simple"], elem_id=f"{TAB_ID}_simple"):
            if is_demo:
                gr.HTML(
                    "<p>This is the small demo model: it knows coloured balls, boxes, triangles and rings that move. "
                    "“All settings” says how to get the large one.</p>"
                )
            with gr.Row(elem_id=f"{TAB_ID}_examples"):
                for text in EXAMPLES_OF_DEMO if is_demo else EXAMPLES:
                    example = gr.Button(text, size="sm", variant="secondary")
                    example.click(fn=None, **script(f"() => txt2video_try({text!r})"), inputs=[], outputs=[])
            advanced = gr.Button("▸ Advanced", size="sm", scale=0, elem_id=f"{TAB_ID}_simple_advanced")
            advanced.click(fn=None, **script("txt2video_page_advanced"), inputs=[], outputs=[])

    def tool_button(self, symbol: str, *, elem_id: str, tooltip: str, visible: bool = True) -> Any:
        """A small button; gradio's have no tooltips, so the page's script sets them from `tips`."""
        self.tips[elem_id] = tooltip
        return tool_button(symbol, elem_id=elem_id, visible=visible)

    def explain(self, component: Any, tooltip: str) -> None:
        """As a small button's."""
        self.tips[component.elem_id] = tooltip

    def body(self) -> AbstractContextManager[Any]:
        """A row that becomes a column where it's narrow."""
        return gr.Row(elem_id=f"{TAB_ID}_body", equal_height=False)

    def row(self) -> AbstractContextManager[Any]:
        """A row of fields."""
        return gr.Row(elem_classes=["txt2video-row"])

    def job(self, make: Callable[..., Results], *, failed: Results) -> Callable[..., Any]:
        """A handler that puts the run in line and waits for it; the run goes on without it.

        It waits without holding one of the server's threads, so that stop buttons answer however many wait.
        """

        async def generate(task: str, *values: Any) -> Results:
            owner = visitor()

            def work(run: Run) -> Results:
                _worked_for.set(owner)
                return make(run, *values)

            unbegun = [*failed, pages.notices([Cancelled().problem])]
            try:
                job = self.jobs.submit(task, owner=owner, work=work, follower=Follower(), unbegun=unbegun)
            except BusyError as error:
                return [*failed, pages.problem(error)]
            while not job.ended.is_set():
                await asyncio.sleep(LOOK_EVERY)
            return self._results(job, failed)

        return generate

    def restored(self, task: str) -> Results | None:
        """Wait until the visitor's task has ended; what another visitor has made stays hidden."""
        job = self.jobs.find(task, owner=visitor())
        if job is None:
            return None
        job.ended.wait()
        if job.result is None:
            return None
        _, keys, *rest = job.result
        return [*self.shown_again(keys), *rest] if isinstance(keys, str) else job.result

    def styled(self, prompts: tuple[str, str], styles: Sequence[str]) -> tuple[str, str]:
        """There are no styles here."""
        return prompts

    def place(self, video: Video) -> Placement:
        """The host's folder, by number and seed."""
        return Placement(self.host.output_folder)

    def announce(self, saved: ClipSaved) -> None:
        """Nobody else is here."""

    def url(self, path: Path) -> str:
        """Among the files of the visitor."""
        return self._files.publish(path, owner=visitor())

    def open_folder(self, folder: Path) -> None:
        """In the desktop's file browser, if the visitor sits in front of it."""
        if not self._is_local:
            raise OutputError("The folder is on the server.", remedy="Download clips with the 💾 or 🗃️ button.")
        folder.mkdir(parents=True, exist_ok=True)
        if sys.platform == "win32":
            os.startfile(folder)  # noqa: S606 - a folder of ours
            return
        program = shutil.which("open" if platform.system() == "Darwin" else "xdg-open")
        if program is None:
            raise OutputError(f"There is no file browser here. The clips lie in {folder}.")
        subprocess.Popen([program, str(folder)])  # noqa: S603 - a folder of ours

    def connect(self, tab: Tab) -> None:
        """There are no other tabs."""

    @staticmethod
    def _results(job: Job, failed: Results) -> Results:
        return [*failed, pages.problem(job.error)] if job.error else job.result


def _prompt(name: str, *, elem_id: str, hint: str) -> Any:
    with gr.Row(elem_id=f"{TAB_ID}_{elem_id}_row"):
        return gr.Textbox(label=FIELDS[name].spec.label, placeholder=hint, lines=3, elem_id=f"{TAB_ID}_{elem_id}")


def _counter(kind: str) -> tuple[Any, Any]:
    """The hidden button that has a prompt's tokens counted, and the text that says how many there are."""
    return (
        gr.Button(elem_id=f"{TAB_ID}_{kind}token_button"),
        gr.HTML("", elem_id=f"{TAB_ID}_{kind}token_counter"),
    )
