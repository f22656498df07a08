"""What a request's files become: size and rate, a clip, pictures at some frames, a mask; and where paths may lead."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from odd_files import looped, picture, video
from PIL import Image

from t2v_core.errors import Cancelled, RequestError, UnreadableFileError
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.media import Encoding, film
from t2v_core.media.source import SourceFacts
from t2v_core.models.catalogue import DEMO
from t2v_core.rendering.given import Anchor, Given, StillFrames, gather
from t2v_core.rendering.input_notes import changed_inputs, input_notes
from t2v_core.rendering.inputs import anchors_in, check_inputs, path_of
from t2v_core.rendering.joining import JoinedFrames, completed
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.seams import match_colors
from t2v_core.rendering.source_size import check_given, fill_from_source
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import Notice, Run
from t2v_core.video import ModelIdentity, Video

OWN = ModelDefaults(width=64, height=64, frames=16, fps=8)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twelve frames of 64x48, each of another grey, at 8 frames per second."""
    path = tmp_path / "clip.mp4"
    frames = np.zeros((12, 48, 64, 3), np.uint8) + np.arange(20, 260, 20, dtype=np.uint8)[:, None, None, None]
    film.write(path, [frames], Encoding(width=64, height=48, fps=8, crf=1))
    return path


def greys(frames: np.ndarray) -> list[int]:
    return [round(float(frame.mean()) / 20) - 1 for frame in frames]


def resolved(**values) -> GenerationRequest:
    request = fill_from_source(GenerationRequest(**values), OWN, multiple=8)
    request = request.resolve(OWN)
    check_given(request)
    return request


def problems_of(**values) -> dict[str, str]:
    with pytest.raises(RequestError) as caught:
        resolved(**values)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_without_files_nothing_is_filled_or_read():
    request = GenerationRequest(prompt="a")
    assert fill_from_source(request, OWN, multiple=8) is request
    given = gather(request.resolve(OWN), Run())
    assert not given
    assert given == Given()


def test_size_rate_and_length_come_from_the_source(clip: Path):
    request = resolved(source=str(clip))
    assert (request.width, request.height, request.frames, request.fps) == (64, 48, 12, 8)
    trimmed = resolved(source=str(clip), source_start=0.5, source_end=1.25)
    assert trimmed.frames == 6
    assert resolved(source=str(clip), fps=24.0).frames == 36
    assert resolved(source=str(clip), frames=5, width=32).height == 24
    assert resolved(source=str(clip), height=96).width == 128


def test_a_picture_gives_its_shape_alone(tmp_path: Path):
    picture(size=(1920, 1080))(tmp_path / "a.jpg")
    request = resolved(first_frame=str(tmp_path / "a.jpg"))
    assert (request.width, request.height, request.frames, request.fps) == (64, 40, 16, 8)


def test_a_clip_that_is_carried_on_keeps_its_size(tmp_path: Path):
    for size, wanted in (("96x80", (96, 80)), ("1280x720", (64, 40))):
        video("-c:v", "ffv1", size=size)(tmp_path / f"{size}.mkv")
        request = resolved(continue_from=str(tmp_path / f"{size}.mkv"))
        assert (request.width, request.height, request.frames) == (*wanted, 16)


def test_a_source_that_stays_as_it_is_keeps_its_size_and_is_refined_to_a_larger_one(tmp_path: Path):
    video("-c:v", "ffv1", size="128x96")(tmp_path / "refined.mkv")
    for changes, wanted in (({"strength": 0.0}, (128, 96)), ({"strength": 0.1}, (64, 48))):
        request = resolved(source=str(tmp_path / "refined.mkv"), refine=2.0, **changes)
        assert (request.width, request.height) == wanted


def test_a_film_that_is_too_long_is_one_sentence_with_what_to_do(clip: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "t2v_core.rendering.source_size.source_facts", lambda path: SourceFacts(64, 48, 345_600, 24.0, 14_400.0)
    )
    message = problems_of(source=str(clip))["frames"]
    assert "345,600" in message
    assert "4:00:00" in message
    assert "Source end" in message


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"source_start": 5.0}, "source_start"),
        ({"source_start": 1.0, "source_end": 0.5}, "source_end"),
    ],
)
def test_a_cut_that_leaves_nothing_is_named(clip: Path, values, field):
    assert field in problems_of(source=str(clip), **values)


def test_what_contradicts_itself_is_named_all_at_once(clip: Path):
    found = problems_of(mask=str(clip), join=True, anchors=f"99: {clip}")
    assert set(found) == {"mask", "join", "anchors"}
    found = problems_of(continue_from=str(clip), first_frame=str(clip), continue_frames=16)
    assert set(found) == {"first_frame", "continue_frames"}
    assert "last_frame" in problems_of(first_frame=str(clip), last_frame=str(clip), frames=1)
    assert "anchors" in problems_of(first_frame=str(clip), anchors=f"0: {clip}")


def test_a_file_that_is_gone_says_which_field_and_what_to_do(tmp_path: Path):
    with pytest.raises(UnreadableFileError) as caught:
        resolved(last_frame=str(tmp_path / "gone.png"))
    assert caught.value.problem.startswith("Last frame: ")
    assert "gone.png" in caught.value.problem
    assert "Choose the file again" in caught.value.remedy


def test_the_clip_is_exactly_as_long_as_the_request(clip: Path):
    for frames in (1, 5, 12):
        given = gather(resolved(source=str(clip), frames=frames), Run())
        assert given.clip is not None
        assert given.clip.shape == (frames, 48, 64, 3)
        assert greys(given.clip[:]) == list(range(frames))


def test_what_is_too_short_holds_its_last_frame_and_says_so(clip: Path):
    told: list[object] = []
    given = gather(resolved(source=str(clip), frames=20), Run(told.append))
    assert given.clip is not None
    assert greys(given.clip[:]) == [*range(12), *[11] * 8]
    assert [event.message for event in told if isinstance(event, Notice)] == [
        "clip.mp4 has 12 of the 20 frames: its last one is held."
    ]


def test_nothing_from_after_the_wanted_end_is_in_the_clip(clip: Path):
    given = gather(resolved(source=str(clip), source_start=0.5, source_end=1.0, frames=8), Run())
    assert given.clip is not None
    assert greys(given.clip[:]) == [4, 5, 6, 7, 7, 7, 7, 7]


def test_frames_beyond_the_memory_lie_on_the_disk(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("t2v_core.media.stored_frames.StoredFrames.__init__.__kwdefaults__", {"memory": 10**5})
    folder = tmp_path / "out"
    folder.mkdir()
    given = gather(resolved(source=str(clip)), Run(), folder=folder)
    assert given.clip is not None
    assert greys(given.clip[8:11]) == [8, 9, 10]
    assert list(folder.iterdir()) == []


def test_a_picture_as_source_stands_still(tmp_path: Path):
    picture(size=(64, 64))(tmp_path / "a.png")
    given = gather(resolved(source=str(tmp_path / "a.png"), frames=1000), Run())
    assert isinstance(given.clip, StillFrames)
    assert given.clip.shape == (1000, 64, 64, 3)
    assert (given.clip[998:] == np.asarray(Image.open(tmp_path / "a.png"))).all()
    given.clip[3:5][:] = 0


def test_anchors_stand_where_they_are_written(tmp_path: Path, clip: Path):
    names = [tmp_path / f"{index}; and @ more.png" for index in range(3)]
    for index, path in enumerate(names):
        Image.new("RGB", (64, 64), (index * 50, 0, 0)).save(path)
    text = f'8: "{names[0]}" @ 0.7; 75%: "{names[1]}"\n 0.5s : "{names[2]}"@1'
    request = resolved(first_frame=str(names[0]), last_frame=str(names[1]), anchors=text, frames=17)
    anchors = gather(request, Run()).anchors
    assert [(anchor.frame, anchor.strength) for anchor in anchors] == [(0, 1), (8, 0.7), (12, 1), (4, 1), (16, 1)]
    assert [int(anchor.picture[0, 0, 0]) for anchor in anchors] == [0, 0, 50, 100, 50]
    assert all(anchor.picture.shape == (64, 64, 3) for anchor in anchors)


@pytest.mark.parametrize("text", ["a.png", "x: a.png", "8:", "8: a.png @ 2", "8: a.png @ much", "8: @ 1", ": a.png"])
def test_what_is_no_anchor_is_answered_with_an_example(text: str):
    with pytest.raises(RequestError) as caught:
        anchors_in(text)
    assert caught.value.problems[0].field == "anchors"


@pytest.mark.parametrize("unit", [";", '"', " ", "@", ":", "1: a", '1: "a', "1: a @ ", "\n", "1", "%"])
def test_hostile_anchors_take_linear_time(unit: str):
    began = time.process_time()
    with contextlib.suppress(RequestError):
        anchors_in(unit * (300_000 // len(unit)))
    with contextlib.suppress(RequestError):
        anchors_in(f"1: a.png @ {unit * (300_000 // len(unit))}x")
    assert time.process_time() - began < 3


def test_an_at_sign_in_a_name_is_part_of_it():
    one, other = anchors_in('1: me@home.png; 2: "b @ 1.png" @ 0.5')
    assert (one.named.text, one.strength) == ("me@home.png", 1)
    assert (other.named.text, other.strength) == ("b @ 1.png", 0.5)


def test_windows_paths_are_paths():
    (anchor,) = anchors_in(r"8: C:\pictures\a.png @ .5")
    assert (anchor.named.text, anchor.strength) == (r"C:\pictures\a.png", 0.5)
    assert str(path_of(' "C:\\a b.png" ')) == "C:\\a b.png"


def test_a_clip_is_carried_on_from_its_last_frames(clip: Path):
    given = gather(resolved(continue_from=str(clip), continue_frames=3), Run())
    assert [anchor.frame for anchor in given.anchors] == [0, 1, 2]
    assert greys(np.stack([anchor.picture for anchor in given.anchors])) == [9, 10, 11]
    assert given.continued == 3
    assert given.before is None


def test_of_a_long_clip_only_the_end_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "film.mp4"
    seconds = video("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", size="16x16", seconds=4, rate=25)
    looped(seconds, times=150)(path)
    monkeypatch.setattr("t2v_core.media.source.COUNTED_WHOLE", 1000)
    given = gather(resolved(continue_from=str(path), continue_frames=2), Run())
    assert given.continued == 2


def test_joined_the_old_clip_comes_first_and_none_of_its_frames_twice(clip: Path):
    request = resolved(continue_from=str(clip), continue_frames=3, join=True, frames=8, match_colors=False)
    given = gather(request, Run())
    made = np.full((8, 48, 64, 3), 7, np.uint8)
    video_made = completed(Video(made, request, ModelIdentity("m", "0"), steps_done=1), given)
    assert len(video_made.frames) == 12 + 5
    assert greys(video_made.frames[:12]) == list(range(12))
    assert (video_made.frames[12:] == 7).all()
    assert video_made.frames[10:14].shape == (4, 48, 64, 3)
    assert [frame[0, 0, 0] for frame in video_made.frames[::5]] == [made_of[0, 0, 0] for made_of in
        [video_made.frames[index : index + 1][0] for index in range(0, 17, 5)]]  # fmt: skip


def test_a_smaller_old_clip_is_scaled_to_a_refined_one():
    old, new = np.full((3, 8, 8, 3), 9, np.uint8), np.full((4, 16, 16, 3), 5, np.uint8)
    joined = JoinedFrames(old, new, first=1)
    assert joined.shape == (6, 16, 16, 3)
    assert [int(frame.mean()) for frame in joined[:]] == [9, 9, 9, 5, 5, 5]


def test_a_mask_is_of_the_clips_size_and_one_for_all_frames_or_one_for_each(tmp_path: Path, clip: Path):
    picture("L", size=(128, 96))(tmp_path / "mask.png")
    given = gather(resolved(source=str(clip), mask=str(tmp_path / "mask.png")), Run())
    assert given.mask is not None
    assert given.mask.shape == (1, 48, 64)
    assert given.mask[:].dtype == np.float32
    given = gather(resolved(source=str(clip), mask=str(clip)), Run())
    assert given.mask is not None
    assert given.mask.shape == (12, 48, 64)
    means = [float(frame.mean()) for frame in given.mask[2:5]]
    assert means == pytest.approx([60 / 255, 80 / 255, 100 / 255], abs=0.02)


def test_a_stop_ends_the_reading(clip: Path):
    run = Run()
    run.interrupt()
    with pytest.raises(Cancelled):
        gather(resolved(source=str(clip)), run)


def test_a_path_outside_the_folders_is_refused_unopened(tmp_path: Path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "a.png").touch()
    (inside / "link.png").symlink_to(outside / "a.png")
    (inside / "good.png").symlink_to(inside / "a.png")
    check_inputs(GenerationRequest(source=str(inside / "good.png")), [inside])
    check_inputs(GenerationRequest(source=str(outside / "a.png")), None)
    check_inputs(GenerationRequest(source=str(outside / "a.png")), [inside, outside / "a.png"])
    for path in (
        outside / "a.png",
        inside / "link.png",
        inside / ".." / "out" / "a.png",
        "/etc/passwd",
        "relative.png",
    ):
        for name in ("source", "mask", "first_frame", "last_frame", "continue_from"):
            with pytest.raises(RequestError) as caught:
                check_inputs(GenerationRequest(**{name: str(path)}), [inside])
            assert [problem.field for problem in caught.value.problems] == [name]
        with pytest.raises(RequestError):
            check_inputs(GenerationRequest(anchors=f"3: {path}"), [inside])


@pytest.mark.parametrize("text", ["https://example.com/a.mp4", "file:///etc/passwd", "concat:/a|/b", "a\0b"])
def test_what_is_no_path_is_refused(text: str):
    def ask() -> None:
        check_inputs(GenerationRequest(source=text), None)
        resolved(source=text)

    with pytest.raises((RequestError, UnreadableFileError)):
        ask()


def test_a_recipe_knows_its_files_again(clip: Path, tmp_path: Path):
    picture()(tmp_path / "a.png")
    request = GenerationRequest(source=str(clip), anchors=f"1: {clip}; 2: {tmp_path / 'a.png'}")
    notes = input_notes(request)
    assert set(notes) == {"Source hash", "Anchors hash"}
    values = {"source": request.source, "anchors": request.anchors}
    assert changed_inputs(values, notes, None) == []
    picture(size=(8, 8))(tmp_path / "a.png")
    (told,) = changed_inputs(values, notes, None)
    assert "a.png isn't the file" in told
    clip.unlink()
    assert len(changed_inputs(values, notes, None)) == 3
    assert all("outside" in told for told in changed_inputs(values, notes, [tmp_path / "elsewhere"]))


def painted(mean: float, spread: float, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(mean, spread, (32, 32, 3))
    return values.round().clip(0, 255).astype(np.uint8)


def test_colors_at_a_seam_are_those_of_what_was_given():
    given = painted(120, 30)
    drifted = np.stack([(given * 0.9 + 15).round().astype(np.uint8)] * 6)
    matched = match_colors(drifted, [Anchor(0, given)])
    assert matched[0:1][0].mean(axis=(0, 1)) == pytest.approx(given.mean(axis=(0, 1)), abs=0.5)
    assert np.abs(matched[5:6][0].astype(int) - given).mean() < 1.5
    assert (matched[:] == np.concatenate([matched[index : index + 1] for index in range(6)])).all()


def test_between_two_given_pictures_the_correction_changes_slowly():
    first, last = painted(100, 20), painted(180, 20)
    made = np.stack([first - 10, first, last, last + 10])
    means = match_colors(made, [Anchor(0, first), Anchor(3, last)])[:].mean(axis=(1, 2, 3))
    assert means == pytest.approx([100, 103, 177, 180], abs=1)


def test_what_needs_no_correction_is_the_very_same():
    frames = np.stack([painted(100, 20)] * 3)
    assert match_colors(frames, [Anchor(0, frames[0])]) is frames
    assert match_colors(frames, [Anchor(0, painted(10, 5), strength=0.5)]) is frames
    assert match_colors(frames, []) is frames


def test_what_a_mask_keeps_is_exact_in_the_made_clip_also_after_a_second_pass(tmp_path: Path, clip: Path):
    marks = np.zeros((48, 64), np.uint8)
    marks[10:30, 20:44] = 255
    Image.fromarray(marks).save(tmp_path / "mask.png")
    host = StandaloneHost(output=tmp_path)
    renderer = LocalRenderer(host)
    asked = GenerationRequest(
        model=DEMO, steps=2, seed=1, source=str(clip), frames=3, mask=str(tmp_path / "mask.png"), mask_feather=3
    )
    request = renderer.resolve(asked)
    with renderer.session():
        made = renderer.render(request, Run()).frames[:]
        again = renderer.render(renderer.resolve(asked.with_field("refine", 2.0)), Run()).frames
    given = gather(request, Run())
    assert given.clip is not None
    kept = marks == 0
    assert (made[:, kept] == given.clip[:][:, kept]).all()
    assert (made[:, ~kept] != given.clip[:][:, ~kept]).any()
    assert again.shape == (3, 96, 128, 3)
