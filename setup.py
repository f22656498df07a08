"""What pyproject.toml can't say: an installed package holds the script and the style that the WebUI wants elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHARED = ("style.css", "javascript/txt2video.js")


class BuildWithSharedFiles(build_py):
    """Puts them beside the page's own; an editable installation reads them where they lie."""

    def run(self) -> None:
        """Build as always, then copy them."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "t2v_core" / "frontends" / "page" / "shared"
            target.mkdir(parents=True, exist_ok=True)
            for name in SHARED:
                shutil.copyfile(Path(__file__).parent / name, target / Path(name).name)


setup(cmdclass={"build_py": BuildWithSharedFiles})
