"""Odd and broken files as a clip's source, picture or mask: handled, or one clear sentence; nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from odd_files import (
    animation,
    bomb,
    concat_script,
    content,
    cut,
    named,
    picture,
    playlist,
    scrambled,
    sound_only,
    turned,
    video,
    with_sound,
)

from t2v_core import service
from t2v_core.errors import RequestError, Txt2VideoError, UnreadableFileError
from t2v_core.frontends.cli import main
from t2v_core.media.reading import probe
from t2v_core.models.catalogue import DEMO
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import ClipSaved, Run

H264 = ("-c:v", "libx264", "-preset", "ultrafast")
FINE, WRONG = True, False

FILES: dict[str, tuple[str, Any, bool]] = {
    # pictures of every mode, size and turn
    **{
        f"picture {mode}": ("a.png", picture(mode), FINE) for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16")
    },
    "picture CMYK": ("a.jpg", picture("CMYK"), FINE),
    "picture YCbCr": ("a.jpg", picture("YCbCr"), FINE),
    "picture LAB": ("a.tif", picture("LAB"), FINE),
    "picture float": ("a.tif", picture("F"), FINE),
    "picture 32 bits": ("a.tif", picture("I"), FINE),
    "picture bmp": ("a.bmp", picture(), FINE),
    "picture webp": ("a.webp", picture(), FINE),
    "picture jp2": ("a.jp2", picture(), FINE),
    "picture ico": ("a.ico", picture(), FINE),
    "picture turned 6": ("a.jpg", turned(6), FINE),
    "picture turned 9": ("a.jpg", turned(9), FINE),
    "picture 1x1": ("a.png", picture(size=(1, 1)), FINE),
    "picture odd": ("a.png", picture(size=(33, 17)), FINE),
    "picture strip": ("a.png", picture(size=(5000, 1)), FINE),
    "picture tower": ("a.png", picture(size=(1, 5000)), FINE),
    "picture large": ("a.jpg", picture(size=(4000, 3000)), FINE),
    "picture without suffix": ("picture", picture(format="PNG"), FINE),
    "picture named mp4": ("a.mp4", picture(format="PNG"), FINE),
    "picture with an odd name": ("a 'b\" %d ü;@#.png", picture(), FINE),
    "gif": ("a.gif", animation(duration=100), FINE),
    "gif without times": ("a.gif", animation(duration=0), FINE),
    "gif of one frame": ("a.gif", picture("P"), FINE),
    "webp animation": ("a.webp", animation(duration=100), FINE),
    "png animation": ("a.png", animation(duration=100), FINE),
    "tiff of pages": ("a.tif", animation(), FINE),
    "picture cut": ("a.png", cut(picture(), keep=0.6), WRONG),
    "jpeg cut": ("a.jpg", cut(picture(), keep=0.4), WRONG),
    "picture scrambled": ("a.png", scrambled(picture(), begin=0.3), WRONG),
    "picture bomb": ("a.png", bomb, WRONG),
    "gif cut": ("a.gif", cut(animation(20, duration=100), keep=0.5), None),
    # videos
    "video h264": ("a.mp4", video(*H264), FINE),
    "video 10 bit": ("a.mp4", video(*H264, "-pix_fmt", "yuv420p10le"), FINE),
    "video 12 bit": ("a.mkv", video("-c:v", "ffv1", "-pix_fmt", "gbrp12le"), FINE),
    "video grey": ("a.mkv", video("-c:v", "ffv1", "-pix_fmt", "gray16le"), FINE),
    "video with alpha": ("a.mov", video("-c:v", "qtrle", "-pix_fmt", "argb"), FINE),
    "video odd": ("a.mkv", video("-c:v", "ffv1", size="33x17"), FINE),
    "video strip": ("a.mkv", video("-c:v", "ffv1", size="1000x2"), FINE),
    "video full range": ("a.mp4", video(*H264, "-pix_fmt", "yuvj420p"), FINE),
    "video wide pixels": ("a.mp4", video(*H264, "-vf", "setsar=3"), FINE),
    "video interlaced": ("a.mpg", video("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-r", "25"), FINE),
    "video uneven": ("a.mkv", video("-c:v", "ffv1", "-vf", "setpts=N*N/8/TB", "-fps_mode", "vfr"), FINE),
    "video one frame": ("a.mp4", video(*H264, "-frames:v", "1"), FINE),
    "video slow": ("a.mkv", video("-c:v", "ffv1", seconds=20, rate="1/5"), FINE),
    "video fast": ("a.mkv", video("-c:v", "ffv1", seconds=0.1, rate=240), FINE),
    "video starts late": ("a.mkv", video("-c:v", "ffv1", "-output_ts_offset", "30"), FINE),
    "video with sound": ("a.mp4", with_sound(*H264, "-c:a", "aac"), FINE),
    "video ts": ("a.ts", video(*H264, "-r", "25"), FINE),
    "video named png": ("a.png", named(video(*H264), ".mp4"), FINE),
    "video named txt": ("a.txt", named(video(*H264), ".mp4"), FINE),
    "video without suffix": ("film", named(video(*H264), ".mp4"), FINE),
    "mkv cut": ("a.mkv", cut(video("-c:v", "ffv1", seconds=2), keep=0.6), FINE),
    "ts cut": ("a.ts", cut(video(*H264, "-r", "25"), keep=0.7), FINE),
    "webm cut to its head": ("a.webm", cut(video("-c:v", "libvpx"), keep=0.02), WRONG),
    "mp4 cut": ("a.mp4", cut(video(*H264), keep=0.5), WRONG),
    "mp4 scrambled": ("a.mp4", scrambled(video(*H264), begin=0.1), WRONG),
    "mkv scrambled": ("a.mkv", scrambled(video("-c:v", "ffv1", seconds=2), begin=0.5), FINE),
    "video without frames": ("a.mp4", video(*H264, "-frames:v", "0"), WRONG),
    "sound": ("a.m4a", sound_only(), WRONG),
    "sound named mp4": ("a.mp4", named(sound_only(), ".m4a"), WRONG),
    "wav": ("a.wav", sound_only(), WRONG),
    # no videos at all
    "nothing": ("a.mp4", content(b""), WRONG),
    "text named mp4": ("a.mp4", content(b"just some text\n" * 90), WRONG),
    "html named png": ("a.png", content(b"<!doctype html><html>Sign in</html>" * 20), WRONG),
    "zeros": ("a.mp4", content(bytes(4096)), WRONG),
    "noise": ("a.mkv", content(bytes(range(256)) * 64), WRONG),
    "zip": ("a.zip", content(b"PK\3\4" + bytes(200)), WRONG),
    "pickle": ("a.png", content(b"\x80\x04cos\nsystem\n."), WRONG),
    "lfs pointer": ("a.mp4", content(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), WRONG),
    "playlist": ("a.m3u8", playlist, WRONG),
    "playlist named mp4": ("a.mp4", playlist, WRONG),
    "concat script": ("a.mp4", concat_script, WRONG),
    "svg": ("a.svg", content(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>'), WRONG),
    "eps": ("a.eps", content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"), WRONG),
    "pdf": ("a.pdf", content(b"%PDF-1.4\n1 0 obj\n"), WRONG),
    "heic": ("a.heic", content(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)), WRONG),
    "folder": ("folder.mp4", lambda path: path.mkdir(), WRONG),
    "pipe": ("pipe.mp4", os.mkfifo, WRONG),
    "socket": ("s", lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)), WRONG),
    "device": ("zero", lambda path: path.symlink_to("/dev/zero"), WRONG),
    "dangling link": ("link.mp4", lambda path: path.symlink_to("nowhere"), WRONG),
    "loop of links": ("loop.mp4", lambda path: path.symlink_to(path), WRONG),
    "unreadable": ("locked.mp4", lambda path: (path.write_bytes(b"x"), path.chmod(0)), WRONG),
    "missing": ("missing.mp4", lambda path: None, WRONG),
    "name too long": ("x" * 300, lambda path: None, WRONG),
}
"""Each a name, what makes the file, and whether a clip comes of it; None where either will do."""

SMALL = {"prompt": "a red ball", "model": DEMO, "steps": 1, "cfg_scale": 1.0, "seed": 1, "preset": "ultrafast"}


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory):
    """The demo model, loaded once."""
    folder = tmp_path_factory.mktemp("host")

    class Host:
        models_folders = (folder / "models",)
        output_folder = folder / "outputs"
        input_folders = None
        wildcard_folders = ()

        def device(self) -> str:
            return "cpu"

        def upscalers(self) -> dict:
            return {}

        def borrow_device(self):
            return contextlib.nullcontext()

    host = Host()
    made = LocalRenderer(host)  # type: ignore[arg-type]
    made.host = host  # type: ignore[attr-defined]
    return made


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def made_or_said(requests: list[GenerationRequest], renderer: Any, folder: Path) -> tuple[list[Path], str]:
    """The files that were saved, and what was said instead."""
    saved: list[Path] = []
    run = Run(lambda event: saved.append(event.path) if isinstance(event, ClipSaved) else None)
    try:
        service.generate(requests, renderer=renderer, host=renderer.host, run=run, folder=folder)
    except Txt2VideoError as error:
        return saved, error.problem if not isinstance(error, RequestError) else str(error)
    return saved, ""


def check(name: str, path: Path, outcome: tuple[list[Path], str], *, is_fine: bool | None, before: set[str]) -> None:
    saved, said = outcome
    made = everything_in(path.parent.parent) - before
    if is_fine is None:
        is_fine = not said
    if is_fine:
        assert said == "", name
        assert len(saved) == 1
        assert probe(saved[0]).frames == 2
        assert made - {"out"} == {f"out/{saved[0].name}"}
    else:
        assert saved == []
        assert said
        assert "\n" not in said
        assert said.count(". ") <= 1
        assert "Traceback" not in said
        assert made - {"out"} == set()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about metadata
def test_an_odd_source_is_handled_or_named(name: str, tmp_path: Path, renderer: Any, monkeypatch: pytest.MonkeyPatch):
    if name == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    folder = tmp_path / "in"
    folder.mkdir()
    monkeypatch.chdir(folder)
    file, make, is_fine = FILES[name]
    path = folder / file
    make(path)
    before = everything_in(tmp_path)
    request = GenerationRequest(**SMALL, source=str(path), frames=2, strength=0.5)
    check(name, path, made_or_said([request], renderer, tmp_path / "out"), is_fine=is_fine, before=before)


def test_there_are_as_many_as_promised():
    assert len(FILES) >= 60


ELSEWHERE = (
    "picture RGBA",
    "picture turned 6",
    "gif",
    "video h264",
    "video odd",
    "picture cut",
    "text named mp4",
    "sound",
)


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("field", ["mask", "first_frame", "last_frame", "anchors", "continue_from"])
def test_so_it_is_in_every_other_field(field: str, name: str, tmp_path: Path, renderer: Any):
    folder = tmp_path / "in"
    folder.mkdir()
    file, make, is_fine = FILES[name]
    path = folder / file
    make(path)
    values = {field: f"1: {path} @ 0.5" if field == "anchors" else str(path)}
    if field == "mask":
        picture()(folder / "source.png")
        values["source"] = str(folder / "source.png")
    if field == "continue_from":
        values |= {"continue_frames": 1}
    before = everything_in(tmp_path)
    request = GenerationRequest(**SMALL, **values, frames=2, width=64, height=64)
    check(name, path, made_or_said([request], renderer, tmp_path / "out"), is_fine=is_fine, before=before)


@pytest.mark.parametrize(
    "values",
    [
        {"source": "https://example.com/a.mp4"},
        {"source": "file:///etc/passwd"},
        {"source": "a\0b"},
        {"source": "."},
        {"source": "~nobody-at-all/a.png"},
        {"source": "{file}", "source_start": 50},
        {"source": "{file}", "source_start": 0.5, "source_end": 0.2},
        {"source": "{file}", "source_end": -1},
        {"source": "{file}", "strength": 1.5},
        {"source": "{file}", "fit": "bent"},
        {"mask": "{file}"},
        {"join": True},
        {"continue_from": "{file}", "continue_frames": 16, "frames": 16},
        {"first_frame": "{file}", "continue_from": "{file}"},
        {"anchors": "8"},
        {"anchors": "8: {file}; 8: {file}"},
        {"anchors": "800: {file}"},
        {"anchors": "200%: {file}"},
        {"anchors": "8: {file} @ -1"},
        {"anchors": ";;;: ;"},
        {"source": None},
        {"source": ["a.mp4"]},
        {"mask_grow": 9999},
    ],
    ids=str,
)
def test_odd_values_are_one_sentence_on_the_command_line_and_in_a_file(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    video(*H264)(tmp_path / "a.mp4")
    filled = {
        key: value.replace("{file}", "a.mp4") if isinstance(value, str) else value for key, value in values.items()
    }
    (tmp_path / "wishes.json").write_text(json.dumps([{**SMALL, **filled}]))
    before = everything_in(tmp_path)
    code = main(["generate", "--prompts", "wishes.json"])
    said = capsys.readouterr().err
    assert code in (RequestError.exit_code, UnreadableFileError.exit_code)
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert "should not" not in said
    assert everything_in(tmp_path) - before <= {"outputs"}
    if all(isinstance(value, (str, int, float)) and "\0" not in str(value) for value in filled.values()):
        typed = [f"--{key.replace('_', '-')}" if value is True else f"--{key.replace('_', '-')}={value}"
                 for key, value in {**SMALL, **filled}.items() if key != "prompt"]  # fmt: skip
        assert main(["generate", "a red ball", *typed]) == code
        assert capsys.readouterr().err == said.replace("wishes.json, request 1: ", "").replace("Request 1: ", "")


def test_a_file_on_the_command_line_becomes_a_clip_and_a_broken_one_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    video(*H264)(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text("no video")
    flags = ["--model", DEMO, "--steps", "1", "--cfg-scale", "1", "--output", "out", "--frames", "2"]
    assert main(["generate", "a red ball", "--source", "a.mp4", *flags]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert probe(path).frames == 2
    assert main(["generate", "a red ball", "--source", "b.mp4", *flags]) == UnreadableFileError.exit_code
    said = capsys.readouterr().err
    assert "b.mp4 isn't a video" in said
    assert everything_in(tmp_path / "out") == {path.name}
