"""The command line: what it reads, prints and answers with, over a renderer that needs no weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from t2v_core.errors import (
    DownloadError,
    ModelNotFoundError,
    NonFiniteError,
    OutputError,
    RequestError,
    UnreadableFileError,
)
from t2v_core.finish_fields import COMPARE
from t2v_core.frontends.cli import UNEXPECTED, main
from t2v_core.frontends.cli.parser import build_parser
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.media.reading import read_frames, read_metadata
from t2v_core.rendering.fake import IDENTITY, FakeRenderer
from t2v_core.request import FIELDS


@pytest.fixture(autouse=True)
def weights(monkeypatch):
    """The model of a recipe is asked for its hash; the fake's has no files."""
    monkeypatch.setattr("t2v_core.models.catalogue.find_model", lambda name, folders: name)
    monkeypatch.setattr("t2v_core.models.hashing.model_hash", lambda model: IDENTITY.hash)


@pytest.fixture
def renderers(monkeypatch, tmp_path):
    """Every renderer that the command line makes, each a fake; files go to a folder of the test's."""
    made = []

    def make(host):
        made.append(FakeRenderer())
        return made[-1]

    monkeypatch.setattr("t2v_core.rendering.local.LocalRenderer", make)
    monkeypatch.chdir(tmp_path)
    return made


def rendered(renderers):
    return [request for renderer in renderers for request in renderer.rendered]


def run(*arguments, expect=0):
    assert main([str(argument) for argument in arguments]) == expect


def test_a_prompt_becomes_a_file_whose_path_is_printed(renderers, capsys, tmp_path):
    run("generate", "a red ball", "--seed", 7, "--output", tmp_path / "here")
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "here" / "00000-7.mp4"
    assert (read_metadata(path) or "").startswith("a red ball\n")


def test_a_prompt_may_have_its_name_before_it(renderers):
    run("generate", "--prompt", "a red ball", "--seed", 7)
    assert [request.prompt for request in rendered(renderers)] == ["a red ball"]


def test_two_prompts_at_once_are_refused(renderers, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("generate", "a red ball", "--prompt", "a blue one")
    assert "argument --prompt: not allowed with" in capsys.readouterr().err
    assert not renderers


def test_without_a_folder_files_go_where_the_webui_keeps_them(renderers, capsys):
    run("generate", "a", "--seed", 7)
    path = Path(capsys.readouterr().out.strip())
    assert path.relative_to(Path.cwd()).parts[:2] == ("outputs", "txt2video-videos")


def test_there_is_a_flag_for_every_field_and_it_reaches_the_request(renderers):
    texts = {
        "sampler": "Euler a",
        "schedule": "Karras",
        "format": "mp4, apng",
        "preset": "fast",
        "precision": "bf16",
        "vae_precision": "fp32",
        "attention": "plain",
        "memory": "slices",
        "speed": "Draft",
        "upscaler": "lanczos",
        "interpolation": "blend",
        "prompt_blend": "cut",
        "fit": "pad",
        "anchors": "0: text",
        "sound_fit": "loop",
    }
    wanted = {}
    flags = []
    for field in FIELDS.values():
        if field.name == "prompt" or field.spec.group == COMPARE:  # the tests of sheets have those
            continue
        if field.kind is bool:
            wanted[field.name] = True
            flags.append(field.flag)
            continue
        value = (
            texts.get(field.name, "text")
            if field.kind is str
            else field.kind(min(field.spec.multiple or 1, field.spec.maximum))
        )
        wanted[field.name] = value
        flags += [field.flag, str(value)]
    wanted |= {"count": 2, "window_overlap": 0}  # windows of one frame have none in common
    for name in ("count", "window_overlap"):
        flags[flags.index(FIELDS[name].flag) + 1] = str(wanted[name])
    run("generate", "p", *flags)
    first, second = rendered(renderers)
    assert {name: getattr(first, name) for name in wanted} == {**wanted, "count": 1}
    assert second.seed == first.seed + 1


def test_help_names_every_flag_with_its_limits(capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["generate", "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in FIELDS.values():
        if field.name != "prompt":
            assert field.flag in text
            assert field.limits in text


def test_a_text_file_gives_a_clip_a_line(renderers, tmp_path):
    (tmp_path / "prompts.txt").write_text("one\n\n  two, with a comma  \n", encoding="utf-8-sig")
    run("generate", "--prompts", "prompts.txt", "--steps", 2)
    assert [(request.prompt, request.steps) for request in rendered(renderers)] == [
        ("one", 2),
        ("two, with a comma", 2),
    ]


def test_a_json_file_gives_whole_requests_and_typed_flags_go_first(renderers, tmp_path):
    wishes = [{"prompt": "one", "seed": 5, "frames": 2}, {"prompt": "two", "frames": 9}]
    (tmp_path / "prompts.json").write_text(json.dumps(wishes), encoding="utf-8")
    run("generate", "--prompts", "prompts.json", "--frames", 4)
    assert [(request.prompt, request.frames) for request in rendered(renderers)] == [("one", 4), ("two", 4)]
    assert rendered(renderers)[0].seed == 5


def test_a_video_is_made_again_from_its_own_recipe(renderers, capsys, tmp_path):
    run("generate", "a\nb: c, d", "--negative-prompt", "e", "--seed", 7, "--eta", 0.5, "--output", "first")
    first = Path(capsys.readouterr().out.strip())
    run("generate", "--from", first, "--output", "second")
    second = Path(capsys.readouterr().out.strip())
    once, again = rendered(renderers)
    assert once == again
    assert (read_frames(first) == read_frames(second)).all()
    run("generate", "--from", first, "--seed", 8)
    assert rendered(renderers)[-1].seed == 8


def test_other_weights_than_the_recipes_are_said(renderers, capsys, monkeypatch):
    run("generate", "a", "--seed", 7, "--output", "first")
    path = capsys.readouterr().out.strip()
    run("generate", "--from", path)
    assert "will differ" not in capsys.readouterr().err
    monkeypatch.setattr("t2v_core.models.hashing.model_hash", lambda model: "abcdef0123")
    run("generate", "--from", path)
    assert "abcdef0123" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused_by_name(tmp_path):
    host = StandaloneHost(tmp_path, "quantum")
    with pytest.raises(RequestError, match="quantum"):
        host.device()


def test_info_prints_the_recipe_as_text_and_as_json(renderers, capsys, tmp_path):
    run("generate", "a cat", "--seed", 7, "--output", "here")
    path = capsys.readouterr().out.strip()
    run("info", path)
    assert capsys.readouterr().out.startswith("a cat\nSteps: 4, ")
    run("info", path, "--json")
    assert json.loads(capsys.readouterr().out)["request"]["seed"] == 7


def test_all_problems_are_printed_at_once_and_nothing_is_rendered(renderers, capsys):
    run("generate", "a", "--steps", "none", "--width", 13, "--sampler", "DPM", expect=RequestError.exit_code)
    text = capsys.readouterr().err
    assert "Steps" in text
    assert "multiple of 8" in text
    assert "Sampler" in text
    assert "Traceback" not in text
    assert not rendered(renderers)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "no prompts"),
        ("[1]", "no list of requests"),
        ("{", "is not JSON"),
        ('[{"prompt": "a"}, {"promt": "b"}]', "request 2"),
        ('[{"prompt": "a", "steps": 0}]', "request 1"),
    ],
)
def test_a_wrong_file_of_prompts_is_answered_with_the_place_and_the_remedy(renderers, capsys, tmp_path, content, said):
    path = tmp_path / "prompts.json"
    path.write_text(content, encoding="utf-8")
    assert main(["generate", "--prompts", str(path)]) in (RequestError.exit_code, UnreadableFileError.exit_code)
    assert said in capsys.readouterr().err
    assert not rendered(renderers)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", None])
def test_a_file_of_prompts_that_is_no_text_or_is_not_there(renderers, capsys, tmp_path, content):
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    run("generate", "--prompts", path, expect=UnreadableFileError.exit_code)
    assert "prompts.txt" in capsys.readouterr().err


def test_without_a_prompt_an_example_is_shown(renderers, capsys):
    run("generate", expect=RequestError.exit_code)
    assert 'generate "a red ball' in capsys.readouterr().err
    run("generate", "", "--seed", 1)
    assert rendered(renderers)[0].prompt == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelNotFoundError("no model", remedy="get one"), ModelNotFoundError.exit_code),
        (OutputError("no room", remedy="make some"), OutputError.exit_code),
        (NonFiniteError("no picture", remedy="ask the doctor"), NonFiniteError.exit_code),
        (ValueError("a bug"), UNEXPECTED),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_no_traceback(renderers, capsys, monkeypatch, error, code):
    def fail(self, request, run):
        raise error

    monkeypatch.setattr(FakeRenderer, "render", fail)
    run("generate", "a", expect=code)
    text = capsys.readouterr().err
    assert str(error) in text
    assert "Traceback" not in text


def test_ctrl_c_keeps_what_is_there_and_says_so_with_its_exit_code(renderers, capsys, monkeypatch):
    plain = FakeRenderer.render

    def pressing(self, request, run):
        os.kill(os.getpid(), signal.SIGINT)
        return plain(self, request, run)

    monkeypatch.setattr(FakeRenderer, "render", pressing)
    before = signal.getsignal(signal.SIGINT)
    run("generate", "a", "--count", 3, "--seed", 1, "--output", "here", expect=130)
    assert [path.name for path in Path("here").iterdir()] == ["00000-1-partial.mp4"]
    assert "Stopping" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_doctor_and_models_speak_of_the_demo_model_anywhere(renderers, capsys, monkeypatch):
    monkeypatch.undo()
    run("models", "--json")
    assert "demo" in [row["name"] for row in json.loads(capsys.readouterr().out)]
    code = main(["doctor", "demo", "--json"])
    report = json.loads(capsys.readouterr().out)[0]
    assert (code == 0) == all(finding["severity"] != "error" for finding in report["findings"])
    assert report["name"] == "demo"


def test_a_model_is_downloaded_by_its_name_and_its_folder_printed(capsys, monkeypatch, tmp_path):
    run("download")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.split()[:4] == ["t2v", "7.4", "GB", "CC-BY-NC-4.0"]
    run("download", "--json")
    assert json.loads(capsys.readouterr().out)[0]["source"].startswith("huggingface.co/")
    monkeypatch.setattr("t2v_core.models.download.list_files", lambda repository: {})
    run("download", "nothing", expect=ModelNotFoundError.exit_code)
    run("download", "t2v", expect=DownloadError.exit_code)
    monkeypatch.chdir(tmp_path)
    asked = []

    def fetch(checkpoint, folder, *, run):
        asked.append((checkpoint.name, folder))
        return folder / checkpoint.name

    monkeypatch.setattr("t2v_core.models.download.download", fetch)
    capsys.readouterr()
    run("download", "T2V")
    run("download", "t2v", "--models-folder", "here")
    assert asked == [("t2v", tmp_path / "models" / "ModelScope"), ("t2v", Path("here"))]
    assert capsys.readouterr().out.splitlines()[1] == str(Path("here") / "t2v")


def test_ctrl_c_ends_a_download_with_its_exit_code_and_says_that_it_goes_on(capsys, monkeypatch):
    def pressing(repository):
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    monkeypatch.setattr("t2v_core.models.download.list_files", pressing)
    monkeypatch.setattr("t2v_core.models.download.choose", lambda checkpoint, published: [])
    run("download", "t2v", expect=130)
    text = capsys.readouterr()
    assert "goes on" in text.err
    assert "frame" not in text.err
    assert text.out == ""


def test_help_is_quick_for_it_loads_no_torch():
    script = "import sys; from t2v_core.frontends.cli.parser import build_parser; build_parser().format_help();"
    script += "sys.exit(len({'torch', 'cv2', 'moviepy', 'tqdm', 'einops', 'huggingface_hub'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("said", "expected"),
    [({}, "50000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "None")],
)
def test_threads_that_wait_sleep_sooner_unless_the_user_says_otherwise(said, expected):
    script = (
        "import os, runpy, sys\n"
        "from t2v_core.frontends import cli\n"
        "cli.main = lambda: print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)\n"
        "runpy.run_module('t2v_core', run_name='__main__')"
    )
    usual = {name: value for name, value in os.environ.items() if name not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**usual, **said}, check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.split() == [expected, "False"]
