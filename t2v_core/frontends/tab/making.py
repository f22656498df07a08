"""What Generate does: from the components' values to saved clips and to what the tab shows of them."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from t2v_core import service
from t2v_core.errors import Cancelled, Txt2VideoError
from t2v_core.frontends.tab import pages
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

    def generate(self, run: Run, values: Mapping[str, Any], *, styles: Sequence[str] = ()) -> Results:
        """The player, the clips' keys as JSON, the first recipe, and messages.

        Raises nothing: what is wrong stands in the messages, and what was saved before is shown.
        """
        clips: list[Clip] = []
        messages: list[str] = []
        run.listen(lambda event: self._on_event(event, clips, messages))
        trouble, request = "", None
        try:
            prompt, negative_prompt = self._surroundings.styled((values["prompt"], values["negative_prompt"]), styles)
            request = request_of({**values, "prompt": prompt, "negative_prompt": negative_prompt})
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
            logger.warning("%s", error)
            trouble = pages.problem(error)
        except Exception as error:
            logger.exception("The run failed")
            trouble = pages.problem(error, request=request or values, surroundings=self._surroundings.description)
        said = trouble + pages.notices(messages)
        if not clips:  # what the page showed before stays
            return *(unchanged() for _ in FAILED), said
        shown = clips[-self._surroundings.most_shown :]
        return self.show(shown), json.dumps([clip.key for clip in clips]), pages.recipe(shown[0].infotext), said

    def forecast(self, values: Mapping[str, Any]) -> str:
        """A line on what these values will take; empty for values that are wrong, which Generate will say."""
        try:
            return pages.forecast(service.forecast(request_of(values), self._renderer()))
        except Txt2VideoError:
            return ""

    def show(self, clips: Sequence[Clip]) -> str:
        """The player of some clips."""
        return pages.player(clips, urls=[self._surroundings.url(clip.path) for clip in clips])

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
                )
            )
            self._surroundings.announce(event)
