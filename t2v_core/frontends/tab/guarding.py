"""What every small handler of the tab has around it: an error becomes a message, and the page stays as it is."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from t2v_core.errors import Txt2VideoError
from t2v_core.frontends.tab import pages
from t2v_core.frontends.tab.gradio_versions import unchanged

logger = logging.getLogger(__name__)


def guarded(function: Callable[..., Sequence[Any]], *, outputs: int) -> Callable[..., list[Any]]:
    """The function with one more result, messages: what went wrong, in which case the others stay as they are."""

    @functools.wraps(function)
    def run(*values: Any) -> list[Any]:
        try:
            return [*function(*values), ""]
        except Txt2VideoError as error:
            return [*(unchanged() for _ in range(outputs)), pages.problem(error)]
        except Exception as error:
            logger.exception("A button of the tab failed")
            return [*(unchanged() for _ in range(outputs)), pages.problem(error, request=values)]

    return run
