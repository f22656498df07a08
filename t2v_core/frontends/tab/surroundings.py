"""What the tab needs of the page around it: a WebUI's, or one of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from t2v_core.host import Host
from t2v_core.media.naming import Placement
from t2v_core.run import ClipSaved
from t2v_core.video import Video

TAB_ID = "txt2video"
"""The id of the tab; the ids of everything in it begin with it."""

Results = Sequence[Any]
"""The values of the components that show a run's results, the last one HTML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """The row above the fields: the prompts, the buttons that start and stop, and the small ones beside them.

    `restore` shows the results of a run that the page lost sight of, `styles` is the dropdown of prompt styles, and
    `counters` has a hidden button and the text beside the prompt, by the prompt's field name. What the page hasn't got
    is None.
    """

    prompt: Any
    negative_prompt: Any
    generate: Any
    paste: Any
    restore: Any | None = None
    styles: Any | None = None
    counters: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """What a finished tab offers to the rest of the page.

    `fields` are the components by field name; `fill` turns a recipe's text into an update of each, in that order, and
    `recipe_in` reads the text out of a file. `frame` is the hidden picture that the hidden `send` buttons hand to the
    tabs that they are named after. `inspected` takes a file whose recipe is wanted elsewhere on the page.
    """

    fields: Mapping[str, Any]
    fill: Callable[[str], list[Any]]
    recipe_in: Callable[[str], str]
    frame: Any
    send: Mapping[str, Any]
    inspected: Any


class Surroundings(Protocol):
    """A WebUI, or a page of our own."""

    @property
    def host(self) -> Host:
        """The place that the program runs in."""
        ...

    @property
    def description(self) -> str:
        """Name and version of what is around us, for reports of errors."""
        ...

    @property
    def at_start(self) -> Mapping[str, Any]:
        """The values of fields, by name, that the user has set for a page that opens."""
        ...

    @property
    def presets_folder(self) -> Path | None:
        """Where presets lie; None where there are none, as on a page for several people."""
        ...

    @property
    def most_shown(self) -> int:
        """How many clips of a run are shown; all are saved."""
        ...

    def prompt_row(self) -> PromptRow:
        """Make the row with the prompts and the buttons, inside the tab that is being made."""
        ...

    def tool_button(self, symbol: str, *, elem_id: str, tooltip: str, visible: bool = True) -> Any:
        """Make a small button with one symbol on it."""
        ...

    def explain(self, component: Any, tooltip: str) -> None:
        """Let the page show a text where the pointer rests on a component."""
        ...

    def body(self) -> AbstractContextManager[Any]:
        """Open the row with the fields' and the results' columns."""
        ...

    def row(self) -> AbstractContextManager[Any]:
        """Open a row of fields."""
        ...

    def job(self, make: Callable[..., Results], *, failed: Results) -> Callable[..., Results]:
        """A handler with the device to itself, whose first value is the task's id that the page drew.

        `make(run, *values)` is called with the other values and a run whose progress the page shows and whose stop
        buttons work. `failed` are the results, but for the last one, of a run that couldn't begin.
        """
        ...

    def restored(self, task: str) -> Results | None:
        """The results of a task that is running or has ended, once it has; None if they are gone."""
        ...

    def styled(self, prompts: tuple[str, str], styles: Sequence[str]) -> tuple[str, str]:
        """Prompt and negative prompt with the chosen styles in them."""
        ...

    def place(self, video: Video) -> Placement:
        """Where a video is saved, as the user has set it."""
        ...

    def announce(self, saved: ClipSaved) -> None:
        """Tell the page's other extensions that a file was saved."""
        ...

    def url(self, path: Path) -> str:
        """Let the page show this file, and say where it finds it."""
        ...

    def open_folder(self, folder: Path) -> None:
        """Show a folder in this machine's file browser, where there is one and the user may."""
        ...

    def connect(self, tab: Tab) -> None:
        """Join the finished tab with the rest of the page."""
        ...
