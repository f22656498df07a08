"""A page in Chromium, and what a person does with it."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException

PATIENCE = float(os.environ.get("TXT2VIDEO_PATIENCE", "60"))
"""Seconds until what should happen has not happened; a shared machine with two cores is slow."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
DESKTOP, PHONE = (1400, 1100), (390, 844)


def start(profile: Path) -> webdriver.Chrome:
    """A browser with a profile of its own.

    Raises:
        RuntimeError: Chromium or its driver isn't installed.
    """
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
    if not browser or not driver:
        raise RuntimeError("The browser tests need Chromium and its driver: apt install chromium chromium-driver.")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--window-size={DESKTOP[0]},{DESKTOP[1]}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.set_script_timeout(PATIENCE)
    return chrome


_TOOLS = """
window.t = {
  find: (name) => document.getElementById('txt2video_' + name),
  set(element, value) {
    const kind = element.tagName === 'TEXTAREA' ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(element, value);
    for (const name of ['input', 'change', 'blur']) element.dispatchEvent(new Event(name, {bubbles: true}));
  },
  input: (name) => t.find(name).querySelector('input[type=number], textarea, input[type=checkbox], input'),
  option: (name, label) => [...t.find(name).querySelectorAll('ul.options li')]
    .find((item) => (item.ariaLabel || item.textContent).trim().replace(/^✓\\s*/, '') === label),
  isIdle: () => t.find('interrupt').style.display === 'none' && !document.querySelector('#tab_txt2video .progressDiv'),
  captions: () => [...document.querySelectorAll('#txt2video_gallery figcaption')].map((e) => e.textContent),
  sources: () => JSON.stringify(t.clips().map((video) => video.src)),
  clips: () => [...document.querySelectorAll('#txt2video_gallery video')],
  drop(selector, file) {
    const transfer = new DataTransfer();
    transfer.items.add(file);
    for (const name of ['dragover', 'drop']) {
      const event = new DragEvent(name, {bubbles: true, composed: true, cancelable: true, dataTransfer: transfer});
      document.querySelector(selector).dispatchEvent(event);
    }
  },
};
window.seen = {bar: [], previews: 0};
new MutationObserver(() => {
  const bar = document.querySelector('#tab_txt2video .progressDiv');
  if (bar && seen.bar.at(-1) !== bar.textContent) seen.bar.push(bar.textContent);
  if (document.querySelector('#tab_txt2video .livePreview img')) seen.previews += 1;
}).observe(document.body, {childList: true, subtree: true});
"""


class Page:
    """The WebUI's page with our tab in front."""

    def __init__(self, chrome: webdriver.Chrome, url: str) -> None:
        self.chrome = chrome
        self.url = url

    def open(self, *, query: str = "", forget: bool = True) -> None:
        """Load the page; `forget` what it kept in the browser before."""
        if forget and self.chrome.current_url.startswith(self.url):
            self.js("localStorage.clear()")
        self.chrome.get(self.url + query)
        self.wait("window.standIn && standIn.isLoaded && Object.keys(opts).length")
        self.js(_TOOLS)
        self.show("txt2video")
        self.wait("t.find('generate').offsetParent")

    def show(self, label: str) -> None:
        """Bring a tab to the front."""
        self.js(
            "[...document.querySelectorAll('#tabs > .tab-nav > button, #tabs > .tab-wrapper button')]"
            ".find((button) => button.textContent.trim() === arguments[0]).click()",
            label,
        )

    def js(self, code: str, *values: Any) -> Any:
        """Run statements."""
        return self.chrome.execute_script(code, *values)

    def value(self, expression: str, *values: Any) -> Any:
        """The value of an expression."""
        return self.js(f"return {expression}", *values)

    def wait(self, expression: str, *values: Any, patience: float = PATIENCE) -> Any:
        """The value of an expression once it is true."""

        def look() -> Any:
            try:
                return self.value(expression, *values)
            except (JavascriptException, StaleElementReferenceException):
                return None

        return until(look, patience=patience, what=expression)

    # ---- The tab

    def press(self, name: str) -> None:
        """Press one of the tab's buttons."""
        self.js("t.find(arguments[0]).click()", name)

    def set(self, name: str, value: Any) -> None:
        """Fill in a field, whatever kind of component it has."""
        name = "neg_prompt" if name == "negative_prompt" else name
        if isinstance(value, bool):
            if self.value("t.input(arguments[0]).checked", name) != value:
                self.js("t.input(arguments[0]).click()", name)
        elif self.value("!!t.find(arguments[0]).querySelector('.wrap-inner')", name):
            if self.read(name) != value:
                self.choose(name, value)
                until(lambda: self.read(name) == value, what=f"{name} is {value}")
        else:
            self.js(
                "t.set(t.input(arguments[0]), arguments[1])",
                name,
                f"{value:g}" if isinstance(value, float) else str(value),
            )

    def choose(self, name: str, value: str) -> None:
        """Choose from a list."""
        self.js("t.input(arguments[0]).focus(); t.input(arguments[0]).dispatchEvent(new Event('focus'))", name)
        self.wait("t.option(arguments[0], arguments[1])", name, value)
        self.js(
            "const press = new MouseEvent('mousedown', {bubbles: true, cancelable: true});"
            "t.option(arguments[0], arguments[1]).dispatchEvent(press); t.input(arguments[0]).blur()",
            name,
            value,
        )

    def read(self, name: str) -> Any:
        """What a field shows: a text, a number or whether it is checked."""
        name = "neg_prompt" if name == "negative_prompt" else name
        return self.value(
            "((input) => input.type === 'checkbox' ? input.checked"
            " : input.type === 'number' ? (input.value === '' ? null : Number(input.value)) : input.value)"
            "(t.input(arguments[0]))",
            name,
        )

    def ask(self, **fields: Any) -> None:
        """Fill in fields, and wait until the server would get them."""
        for name, value in fields.items():
            self.set(name, value)
        time.sleep(0.4)

    def generate(self, **fields: Any) -> list[str]:
        """Fill in fields, press Generate, and give the names of the clips that it made."""
        self.ask(**fields)
        before = self.value("t.sources()")
        self.press("generate")
        self.wait("t.clips().length && t.sources() !== arguments[0]", before)
        self.wait("document.querySelector('#txt2video_gallery .txt2video-player[data-ready]')")
        self.wait_until_idle()
        return self.captions()

    def wait_until_idle(self) -> None:
        """Wait until nothing runs, as the page sees it."""
        self.wait(
            "t.find('interrupt').style.display === 'none' && !document.querySelector('#tab_txt2video .progressDiv')"
        )

    def captions(self) -> list[str]:
        """The file names under the clips."""
        captions = self.value("t.captions()")

        return [caption.split(" · ")[0] for caption in captions]

    def text(self, name: str) -> str:
        """The text in a part of the tab."""
        return self.value("t.find(arguments[0]).innerText", name)

    def drop(self, path: Path, onto: str) -> None:
        """Drop a file on whatever the CSS selector finds."""
        content = base64.b64encode(path.read_bytes()).decode()
        kinds = {".mp4": "video/mp4", ".txt": "text/plain", ".png": "image/png"}
        self.js(
            "const bytes = Uint8Array.from(atob(arguments[1]), (c) => c.charCodeAt(0));"
            "t.drop(arguments[0], new File([bytes], arguments[2], {type: arguments[3]}))",
            onto,
            content,
            path.name,
            kinds.get(path.suffix, ""),
        )

    def drop_recipe(self, path: Path) -> None:
        """Drop a file on the prompt, and wait until the fields have changed."""
        self.ask(prompt="nothing yet")
        self.drop(path, "#txt2video_prompt textarea")
        self.wait_until_filled()

    def wait_until_filled(self) -> None:
        """Wait until a recipe has replaced the prompt, and the page has shown the other fields too."""
        until(lambda: self.read("prompt") != "nothing yet", what="the fields are filled")
        time.sleep(0.5)

    def errors(self) -> list[str]:
        """What the console has complained of since it was last asked, but for fonts and the like of other servers."""
        lines = [line["message"] for line in self.chrome.get_log("browser") if line["level"] == "SEVERE"]
        return [line for line in lines if "https://" not in line]


def until(look: Callable[[], Any], *, what: str, patience: float = PATIENCE) -> Any:
    """The first true value that `look` gives."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if value := look():
            return value
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {patience:.0f} s")
