"""What the WebUI gives to our tab: its prompt row, queue, file server, styles, and the other tabs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from modules import call_queue, infotext_utils, paths, progress, shared, ui_components, ui_tempdir, ui_toprow, util
from modules.launch_utils import git_tag

from t2v_core.errors import OutputError
from t2v_core.frontends.cli.progress import ConsoleProgress
from t2v_core.frontends.tab.gradio_versions import file_url
from t2v_core.frontends.tab.surroundings import TAB_ID, PromptRow, Results, Tab
from t2v_core.hosts.webui import settings
from t2v_core.hosts.webui.host import WebUIHost
from t2v_core.hosts.webui.pnginfo import PngInfo, register_paste_fields
from t2v_core.hosts.webui.progress import StateListener, obeying_buttons
from t2v_core.hosts.webui.saving import announce, place
from t2v_core.media.naming import Placement
from t2v_core.run import ClipSaved, Run
from t2v_core.video import Video


class WebUISurroundings:
    """The WebUI around the tab."""

    def __init__(self, host: WebUIHost, png_info: PngInfo) -> None:
        self.host = host
        self._png_info = png_info

    @property
    def description(self) -> str:
        """The WebUI's name and version."""
        return f"{'Forge' if hasattr(shared, 'forge') else 'the WebUI'} {git_tag()}"

    @property
    def at_start(self) -> Mapping[str, Any]:
        """As set in Settings."""
        return {name: settings.value(name) for name in settings.AT_START}

    @property
    def presets_folder(self) -> Path | None:
        """In the WebUI's data folder."""
        return Path(paths.data_path) / "txt2video" / "presets"

    @property
    def most_shown(self) -> int:
        """As set in Settings."""
        return int(settings.value("shown"))

    def prompt_row(self) -> PromptRow:
        """The WebUI's own row."""
        row = ui_toprow.Toprow(is_img2img=False, id_part=TAB_ID)
        return PromptRow(
            prompt=row.prompt,
            negative_prompt=row.negative_prompt,
            generate=row.submit,
            paste=row.paste,
            restore=row.restore_progress_button,
            styles=row.ui_styles.dropdown,
            counters={
                "prompt": (row.token_button, row.token_counter),
                "negative_prompt": (row.negative_token_button, row.negative_token_counter),
            },
        )

    def tool_button(self, symbol: str, *, elem_id: str, tooltip: str, visible: bool = True) -> Any:
        """The WebUI's small button."""
        return ui_components.ToolButton(symbol, elem_id=elem_id, tooltip=tooltip, visible=visible)

    def explain(self, component: Any, tooltip: str) -> None:
        """Where the WebUI's own `tooltip` argument ends up, which some of Forge's components don't take."""
        component.webui_tooltip = tooltip

    def body(self) -> AbstractContextManager[Any]:
        """A row whose columns can be dragged wider."""
        return ui_components.ResizeHandleRow(equal_height=False)

    def row(self) -> AbstractContextManager[Any]:
        """A row of the WebUI's forms."""
        return ui_components.FormRow()

    def job(self, make: Callable[..., Results], *, failed: Results) -> Callable[..., Results]:
        """A handler in the WebUI's queue, with its lock, its progress bar and its buttons."""

        def generate(task: str, *values: Any) -> Results:
            with ConsoleProgress() as console:
                run = Run(StateListener(), console)
                with obeying_buttons(run):
                    return make(run, *values)

        return call_queue.wrap_gradio_gpu_call(generate, extra_outputs=list(failed))

    def restored(self, task: str) -> Results | None:
        """Wait until the task has ended, then take its results from where the WebUI keeps the last ones."""
        while task and (task == progress.current_task or task in progress.pending_tasks):
            time.sleep(0.1)
        return next((results for name, results in progress.recorded_results if name == task), None)

    def styled(self, prompts: tuple[str, str], styles: Sequence[str]) -> tuple[str, str]:
        """The WebUI's prompt styles."""
        known = shared.prompt_styles
        prompt, negative_prompt = prompts
        return (
            known.apply_styles_to_prompt(prompt, styles),
            known.apply_negative_styles_to_prompt(negative_prompt, styles),
        )

    def place(self, video: Video) -> Placement:
        """By the WebUI's settings."""
        return place(video)

    def announce(self, saved: ClipSaved) -> None:
        """The WebUI's `image_saved` callback, by which image browsers learn of new files."""
        announce(saved)

    def url(self, path: Path) -> str:
        """Among the files that the WebUI serves."""
        ui_tempdir.register_tmp_file(shared.demo, str(path.absolute()))
        return file_url(path.absolute().as_posix())

    def open_folder(self, folder: Path) -> None:
        """In the desktop's file browser, where the WebUI's owner allows it."""
        if shared.cmd_opts.hide_ui_dir_config:
            raise OutputError(f"This WebUI doesn't open folders for its users. The clips lie in {folder}.")
        folder.mkdir(parents=True, exist_ok=True)
        util.open_folder(str(folder))

    def connect(self, tab: Tab) -> None:
        """Join the tab with img2img, inpaint, extras, PNG Info, and whoever sends to it."""
        for name, button in tab.send.items():
            infotext_utils.register_paste_params_button(
                infotext_utils.ParamBinding(paste_button=button, tabname=name, source_image_component=tab.frame)
            )
        register_paste_fields(tab)
        self._png_info.connect(tab)
