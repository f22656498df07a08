"""What Generate does: from the components' values to saved clips and to what the tab shows of them."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from t2v_core import service
from t2v_core.errors import Cancelled, Txt2VideoError
from t2v_core.frontends.tab import follow_ups, pages
from t2v_core.frontends.tab.components import request_of
from t2v_core.frontends.tab.gradio_versions import unchanged
from t2v_core.frontends.tab.shelf import Clip, Shelf
from t2v_core.frontends.tab.surroundings import Results, Surroundings
from t2v_core.rendering.renderer import Renderer
from t2v_core.run import ClipSaved, Event, Notice, Run

logger = logging.getLogger(__name__)

FAILED: Results = ("", "[]", "")
"""The results, but for the last one, of a run that couldn't even begin."""


class Maker:
    """Makes what a page asks for, with one renderer for all pages, and remembers the clips on the shelf.

    `renderer` is called when the first run begins: a renderer is slow to import.
    """

    def __init__(self, surroundings: Surroundings, renderer: Callable[[], Renderer]) -> None:
        self._surroundings = surroundings
        self._renderer = functools.lru_cache(maxsize=1)(renderer)
        self.shelf = Shelf()

    def generate(
        self, run: Run, values: Mapping[str, Any], *, styles: Sequence[str] = (), ask: str | None = None
    ) -> Results:
        """The player, the clips' keys as JSON, the first recipe, and messages.

        With an `ask` it isn't the values that are made but what follows from them and from a clip, see `follow_ups`.

        Raises nothing: what is wrong stands in the messages, and what was saved before is shown.
        """
        clips: list[Clip] = []
        messages: list[str] = []
        run.listen(lambda event: self._on_event(event, clips, messages))
        trouble, request = "", None
        try:
            prompt, negative_prompt = self._surroundings.styled((values["prompt"], values["negative_prompt"]), styles)
            values = {**values, "prompt": prompt, "negative_prompt": negative_prompt}
            if ask is not None:
                values = follow_ups.values_for(ask, values, self.shelf, self._surroundings.host.models_folders)
            request = request_of(values)
            service.generate(
                [request],
                renderer=self._renderer(),
                host=self._surroundings.host,
                run=run,
                place=self._surroundings.place,
            )
        except Cancelled as error:
            messages.append(error.problem)
        except Txt2VideoError as error:
            logger.info("%s", error)
            trouble = pages.problem(error)
        except Exception as error:
            logger.exception("The run failed")
            trouble = pages.problem(error, request=request or values, surroundings=self._surroundings.description)
        said = trouble + pages.notices(messages)
        if not clips:  # what the page showed before stays
            return *(unchanged() for _ in FAILED), said
        clips.sort(key=lambda clip: not clip.is_sheet)  # of many clips and their grid, the grid is what was asked for
        shown = clips[: self._surroundings.most_shown] if clips[0].is_sheet else clips[-self._surroundings.most_shown :]
        return self.show(shown), json.dumps([clip.key for clip in clips]), pages.recipe(shown[0].infotext), said

    def forecast(self, values: Mapping[str, Any]) -> str:
        """A line on what these values will take; empty for values that are wrong, which Generate will say."""
        try:
            return pages.forecast(service.forecast(request_of(values), self._renderer()))
        except Txt2VideoError:
            return ""

    def show(self, clips: Sequence[Clip]) -> str:
        """The player of some clips."""
        files = [path for clip in clips for path in clip.paths if path.is_file()]
        return pages.player(clips, urls={path: self._surroundings.url(path) for path in files})

    def _on_event(self, event: Event, clips: list[Clip], messages: list[str]) -> None:
        if isinstance(event, Notice):
            messages.append(event.message)
        elif isinstance(event, ClipSaved):
            clips.append(
                self.shelf.add(
                    event.path,
                    infotext=event.infotext,
                    partial=event.partial,
                    poster=pages.poster_of(event.first_frame),
                    also=event.also,
                )
            )
            self._surroundings.announce(event)
