"""What the tab shows until the 1.7B model is there: the demo at once, what to download, and what is wrong so far."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gradio as gr

from t2v_core.errors import Cancelled, Txt2VideoError
from t2v_core.frontends.tab import pages
from t2v_core.frontends.tab.about import model_names
from t2v_core.frontends.tab.gradio_versions import HIDDEN, keep_out_of_ui_config, script, unchanged, update
from t2v_core.frontends.tab.surroundings import TAB_ID, Surroundings
from t2v_core.frontends.words import duration, how_far
from t2v_core.models.catalogue import DEMO, DEMO_KNOWS, find_all
from t2v_core.models.doctor import Report, Severity, examine
from t2v_core.models.downloadable import DOWNLOADS, find_download
from t2v_core.run import Event, Notice, Progress, Run

EXAMPLE = "a red ball moving left on a black background"
LOOK_EVERY = 0.5
"""Seconds between two looks at a running download."""

Row = Callable[[], AbstractContextManager[Any]]


class Downloader:
    """One download at a time for all pages; it goes on when the page that began it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._run = Run()
        self._name = ""
        self._progress: Progress | None = None
        self._started = 0.0
        self._outcome = ""

    @property
    def is_running(self) -> bool:
        """Whether a download goes on."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, name: str, folder: Path) -> None:
        """Begin to download a checkpoint into the models folder; nothing, if one is running already."""
        checkpoint = find_download(name)
        with self._lock:
            if self.is_running:
                return
            self._name, self._progress, self._outcome = name, None, ""
            self._started = time.monotonic()
            self._run = Run(self._see)
            self._thread = threading.Thread(target=self._work, args=(checkpoint, folder), name="txt2video download")
            self._thread.daemon = True
            self._thread.start()

    def stop(self) -> None:
        """Stop; what has come stays on the disk, and the next try goes on there."""
        self._run.interrupt()

    def status(self) -> str:
        """How far it is, or how it ended, as HTML; empty if there was none."""
        progress = self._progress
        if not self.is_running:
            return self._outcome
        if progress is None:
            return pages.notices([f"{self._name}: asking the hub for the files …"])
        share = progress.done / max(1, progress.total)
        speed = progress.done / max(1e-6, time.monotonic() - self._started)
        left = (progress.total - progress.done) / max(1.0, speed)
        words = f"{self._name}: {how_far(progress)}, {duration(left)} left"
        return (
            f'<div class="txt2video-bar" role="progressbar" aria-valuenow="{share:.0%}">'
            f'<div style="width: {share:.1%}"></div><span>{html.escape(words)}</span></div>'
        )

    def _work(self, checkpoint: Any, folder: Path) -> None:
        from t2v_core.models.download import download

        try:
            target = download(checkpoint, folder, run=self._run)
            self._outcome = pages.notices([f"{checkpoint.name} lies in {target}. Choose it under Model."])
        except Cancelled:
            self._outcome = pages.notices(["Stopped. What has come is kept: the next try goes on there."])
        except Exception as error:
            self._outcome = pages.problem(error)

    def _see(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._progress = event
        elif isinstance(event, Notice):
            self._outcome = pages.notices([event.message])


def panel(surroundings: Surroundings) -> dict[str, Any]:
    """The components, hidden once a model other than the demo can be used."""
    made: dict[str, Any] = {}
    with gr.Column(visible=needed(surroundings.host.models_folders), elem_id=f"{TAB_ID}_first_run") as made[
        "first_run"
    ]:
        with gr.Row():
            gr.HTML(_introduction(), elem_id=f"{TAB_ID}_introduction")
            made["try_demo"] = gr.Button(
                "Try the demo model", variant="primary", scale=0, min_width=200, elem_id=f"{TAB_ID}_try_demo"
            )
        made["findings"] = gr.HTML("", elem_id=f"{TAB_ID}_findings")
        with gr.Accordion("Download the weights", open=False, elem_id=f"{TAB_ID}_downloads"):
            gr.HTML(_table())
            with gr.Row():
                made["wanted"] = gr.Dropdown(
                    [checkpoint.name for checkpoint in DOWNLOADS], value=DOWNLOADS[0].name, label="Model to download",
                    elem_id=f"{TAB_ID}_wanted",
                )  # fmt: skip
                made["begin_download"] = gr.Button("Download", elem_id=f"{TAB_ID}_begin_download")
                made["stop_download"] = gr.Button("Stop download", elem_id=f"{TAB_ID}_stop_download")
        made["follow_download"] = gr.Button(visible=HIDDEN, elem_id=f"{TAB_ID}_follow_download")
        made["download_status"] = gr.HTML("", elem_id=f"{TAB_ID}_download_status")
    keep_out_of_ui_config(made["wanted"])
    return made


def connect(page: Any, surroundings: Surroundings, *, parts: dict[str, Any], model: Any) -> None:
    """Give the panel's buttons their functions, and show what is true whenever the page is opened."""
    folders = surroundings.host.models_folders
    downloader = Downloader()
    outputs = [parts["first_run"], parts["findings"], parts["download_status"], model]

    def state(status: str) -> list[Any]:
        choices = update(choices=model_names(folders))
        return [update(visible=needed(folders)), findings(folders), status, choices]

    def now() -> list[Any]:
        return state(downloader.status())

    def follow() -> Iterator[list[Any]]:
        while downloader.is_running:
            time.sleep(LOOK_EVERY)
            yield [unchanged(), unchanged(), downloader.status(), unchanged()]
        # The panel stays until the page is opened again: its last line says where the model lies.
        yield [unchanged(), findings(folders), downloader.status(), update(choices=model_names(folders))]

    def begin(name: str) -> Iterator[list[Any]]:
        try:
            downloader.begin(name, folders[0])
        except Txt2VideoError as error:
            yield [unchanged(), unchanged(), pages.problem(error), unchanged()]
            return
        yield from follow()

    # A page that opens while a download runs finds its bar, and its script presses the hidden button.
    page.load(fn=now, inputs=[], outputs=outputs, show_progress=False, queue=False)
    parts["follow_download"].click(fn=follow, inputs=[], outputs=outputs, show_progress=False)
    parts["begin_download"].click(
        fn=begin,
        **script("txt2video_downloading", inputs=1),
        inputs=[parts["wanted"]],
        outputs=outputs,
        show_progress=False,
    )
    parts["stop_download"].click(fn=downloader.stop, inputs=[], outputs=[], show_progress=False)
    parts["try_demo"].click(fn=None, **script(f"() => txt2video_try({EXAMPLE!r})"), inputs=[], outputs=[])


def needed(models_folders: Sequence[Path]) -> bool:
    """Whether no model but the demo has all of its files; what is in them, `findings` says."""
    return not any(
        model.name != DEMO and not model.problems and all(path.is_file() for path in model.files.values())
        for model in find_all(models_folders)
    )


def findings(models_folders: Sequence[Path]) -> str:
    """What the doctor says of the models that can't be used, as HTML; empty if there are none."""
    reports = [examine(model) for model in find_all(models_folders) if model.name != DEMO]
    return "".join(_report(report) for report in reports if not report.is_healthy)


def _report(report: Report) -> str:
    findings = [
        f"<b>{html.escape(finding.file.name)}</b> {html.escape(finding.what)} {html.escape(finding.remedy)}"
        for finding in report.findings
        if finding.severity is Severity.ERROR
    ]
    return pages.box(f"<p>{html.escape(f'{report.name} in {report.folder}:')}</p>", findings=findings)


def _introduction() -> str:
    return (
        "<p><b>The weights of the 1.7B model aren't here yet.</b> Put them into models/ModelScope/t2v, or download "
        f"them below.<br>The small demo model is here, and makes a video at once. {html.escape(DEMO_KNOWS)}</p>"
    )


def _table() -> str:
    rows = "".join(
        f'<tr><td><a href="https://{html.escape(checkpoint.known.source)}" target="_blank" rel="noopener">'
        f"{html.escape(checkpoint.known.name)}</a></td><td>{html.escape(checkpoint.size)}</td>"
        f"<td>{html.escape(checkpoint.known.licence)}</td><td>models/ModelScope/{html.escape(checkpoint.name)}</td></tr>"
        for checkpoint in DOWNLOADS
    )
    head = "".join(f"<th>{name}</th>" for name in ("Model", "Size", "Licence", "Folder"))
    return f"<table class='txt2video-downloads'><tr>{head}</tr>{rows}</table>"
