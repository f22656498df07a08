"""The documentation says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from t2v_core import errors
from t2v_core.frontends.cli import UNEXPECTED
from t2v_core.frontends.cli.reference import flags_table, formats_table
from t2v_core.models.known import KNOWN, TO_RECOMMEND

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_flags_in_the_documentation_are_those_of_the_program():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert flags_table() in page, "run python -m t2v_core.frontends.cli.reference and put its table into the page"


def test_the_formats_in_the_documentation_are_those_of_the_program():
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert formats_table() in page, "run python -m t2v_core.frontends.cli.reference and put its table into the page"


def test_every_exit_code_is_documented():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {kind.exit_code for kind in kinds if kind is not errors.Txt2VideoError} | {0, UNEXPECTED}
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)}
    assert documented == codes


def test_the_models_page_lists_no_model_that_the_program_does_not_know():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    known = {TO_RECOMMEND, *(row.source for row in KNOWN)}
    linked = {link.removeprefix("https://") for link in re.findall(r"https://huggingface\.co/[\w./-]+", page)}
    assert linked <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_documentation_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target
