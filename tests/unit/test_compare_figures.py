"""The side-by-side benchmark's figures: how they are kept, shown and drawn."""

from __future__ import annotations

import dataclasses
import re
import shlex
import xml.etree.ElementTree as ET

import pytest

from benchmarks import memory
from benchmarks.compare import document, options, picture, results, scaling, table
from benchmarks.compare.cases import STEP
from benchmarks.compare.results import WAYS, Results, Row, Session

SESSION = Session(
    id="2026-01-02T03:04:05+00:00",
    command="python -m benchmarks compare",
    commit="abc",
    machine={"processor": "A processor", "cores": 2, "threads": 2, "memory": 8e9, "torch": "2.9"},
    limits={"fp32": {"flops": 1e12, "by": "torch.mm", "copy": 1e10}},
)


def row(contender: str, *taken: float, session: str = SESSION.id, what: str = STEP, **rest) -> Row:
    title = "UNet step, 16 frames of 256×256"
    return Row(what, title, "256x256x16", "fp32", contender, session, tuple(taken), limit=1.0, **rest)


def test_newer_figures_take_the_place_of_the_whole_case(tmp_path):
    kept = Results()
    kept.add(SESSION, [row("ours", 2.0, 4.0, 3.0), row("Diffusers", 6.0), row("ours", 9.0, what="decode")])
    newer = dataclasses.replace(SESSION, id="2026-02-02T03:04:05+00:00")
    kept.add(newer, [row("ours", 1.0, session=newer.id)])
    kept.add(newer, [row("ours", session=newer.id, what="decode", skipped="no time")])
    kept.write(tmp_path / "kept.json")
    again = results.read(tmp_path / "kept.json")
    assert again.rows == kept.rows
    assert [(each.what, each.contender, each.median) for each in again.rows] == [
        ("decode", "ours", 9.0),
        ("step", "ours", 1.0),
    ]
    assert set(again.sessions) == {SESSION.id, newer.id}


def test_what_was_measured_on_another_machine_stays(tmp_path):
    kept = Results()
    kept.add(SESSION, [row("ours", 3.0)])
    processor = {**SESSION.machine, "processor": "Intel(R) Xeon(R) Processor", "tiles": True}
    elsewhere = dataclasses.replace(SESSION, id="2026-02-02T03:04:05+00:00", machine=processor)
    kept.add(elsewhere, [row("ours", 1.0, session=elsewhere.id)])
    kept.add(elsewhere, [row("ours", 2.0, session=elsewhere.id)])
    assert kept.devices() == ["A processor", "Intel Xeon with AMX"]
    assert [[each.median for each in kept.on(device).rows] for device in kept.devices()] == [[3.0], [2.0]]
    assert "2.00" in table.console(kept, elsewhere)
    assert "3.00" not in table.console(kept, elsewhere)


@pytest.mark.parametrize(
    ("kernels", "name"),
    [
        ({}, "AMD EPYC"),  # of figures that are older than this distinction
        ({"tiles": False, "vectors": "AVX512"}, "AMD EPYC"),
        ({"tiles": False, "vectors": "AVX2"}, "AMD EPYC with AVX2"),
        ({"tiles": True, "vectors": "AVX512"}, "AMD EPYC with AMX"),
        ({"tiles": False, "vectors": "AVX512", "family": "25"}, "AMD EPYC"),
        ({"tiles": False, "vectors": "AVX512", "family": "26"}, "AMD EPYC (Zen 5)"),
    ],
)
def test_processors_of_one_name_and_other_kernels_are_told_apart(kernels, name):
    machine = {**SESSION.machine, "processor": "AMD EPYC Processor", **kernels}
    assert dataclasses.replace(SESSION, machine=machine).device == name


def test_the_table_says_the_share_and_the_limit():
    rows = [row("ours", 2.0, 4.0, 3.0, peak=5_000_000_000, error=1e-6, against="Diffusers"), row("Diffusers", 6.0)]
    lines = table.markdown([rows]).splitlines()
    assert "| **ours** | 3.00 |  | 3.00 | 5.00 GB |" in lines[2]
    assert "| Diffusers | 6.00 | 0.50 × | 6.00 |" in lines[3]


def test_another_way_of_ours_is_held_against_the_first_of_the_others():
    rows = [row("ours", 6.0), row("ours graphed", 3.0), row("Diffusers", 8.0), row("ModelScope", 16.0)]
    kept = Results()
    kept.add(SESSION, [*rows[2:], *rows[:2]])
    (case,) = kept.by_case()
    assert {each.contender for each in case[:2]} == {"ours", "ours graphed"}
    lines = table.markdown([rows]).splitlines()
    assert "| **ours** | 6.00 |  |" in lines[2]
    assert "| **ours graphed** | 3.00 | 0.38 × (Diffusers) |" in lines[3]
    assert "| Diffusers | 8.00 | 0.75 × |" in lines[4]
    assert "0.38 × (Diffusers)" in table.console(kept, SESSION)
    alone = table.markdown([[row("ours graphed", 3.0)]])
    assert "×" not in alone.splitlines()[2].split("|")[5]


@pytest.mark.parametrize(("taken", "shown"), [(0.02468, "0.0247"), (0.2468, "0.247"), (2.468, "2.47"), (246.8, "247")])
def test_a_time_has_three_digits(taken, shown):
    assert table.seconds(taken) == shown


def test_a_long_name_has_room_beside_its_bar():
    def drawn(*names):
        root = ET.fromstring(
            picture.draw([[row(name, 1.0 + place) for place, name in enumerate(names)]], heading="Time", note="Here")
        )
        assert all(float(each.get("x")) + float(each.get("width")) <= picture.WIDTH - 20
                   for each in root.iter() if each.get("class") in {"ours", "theirs", "track"})  # fmt: skip
        return {each.text: float(each.get("x")) for each in root.iter() if each.get("class", "").startswith("name")}

    assert drawn("ours", "ModelScope")["ours"] == picture.LEFT - 10
    assert drawn(*WAYS)[WAYS[-1]] >= picture.MARGIN + len(WAYS[-1]) * picture.LETTER


def test_figures_that_were_kept_before_make_the_page_that_is_there(tmp_path, monkeypatch):
    before = document.PAGE.read_text(encoding="utf-8")
    pictures = {path.name: path.read_bytes() for path in (document.DOCS / "images").glob("performance-*.svg")}
    monkeypatch.setattr(document, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(document, "DOCS", tmp_path)
    document.PAGE.write_text(before, encoding="utf-8")
    document.write_all()
    assert document.PAGE.read_text(encoding="utf-8") == before
    assert {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()} == pictures
    assert pictures


def test_what_was_skipped_or_said_is_shown():
    kept = Results()
    rows = [row("ours", 2.0, said="The memory ran out."), row("ModelScope", skipped="needs about 300 GB")]
    kept.add(SESSION, rows)
    shown = table.console(kept, SESSION)
    assert "skipped: ModelScope: needs about 300 GB" in shown
    assert "ours says: The memory ran out." in shown
    lines = table.markdown([rows]).splitlines()
    assert "| **ours**, which says: The memory ran out. | 2.00 |" in lines[2]
    assert "| ModelScope | needs about 300 GB |" in lines[3]


def test_the_picture_is_well_formed_and_to_scale():
    drawn = picture.draw([[row("ours", 2.0), row("Diffusers", 4.0)]], heading="<Time & more>", note="A processor")
    root = ET.fromstring(drawn)
    bars = {
        each.get("class"): float(each.get("width")) for each in root.iter() if each.get("class") in {"ours", "theirs"}
    }
    assert bars["theirs"] == pytest.approx(2 * bars["ours"], rel=1e-3)
    assert "prefers-color-scheme: dark" in drawn


def test_the_page_and_its_figures_name_commands_that_there_are(tmp_path):
    parsers = {
        "compare": lambda words: options.wish_of(options.parser().parse_args([*words, "--folder", str(tmp_path)])),
        "scaling": lambda words: scaling._parser().parse_args(words),
        "memory": memory._options,
    }
    text = document.PAGE.read_text(encoding="utf-8")
    found = re.findall(rf"`python -m benchmarks ({'|'.join(parsers)})\b([^`]*)`", text)
    assert {name for name, _ in found} == set(parsers)
    for name, rest in found:
        parsers[name](shlex.split(rest))


def test_the_page_has_a_place_for_each_part():
    text = document.PAGE.read_text(encoding="utf-8")
    for name in ("how-long", "compare", "scaling"):
        assert "a table" in document.put(text, name, "a table")
    with pytest.raises(ValueError, match="0 places"):
        document.put(text, "what", "a table")


def test_a_clip_of_more_steps_takes_longer_by_its_sampling_alone():
    clip = row("ours", 60.0, what="end-to-end", sampling=(40.0,), steps=4)
    assert document.usual_seconds(clip) == pytest.approx(20 + 40 / 4 * 25)
