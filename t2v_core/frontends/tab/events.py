"""What happens in the tab: each button's function, and which components it reads and changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from t2v_core.frontends.tab import pages, presets, recipes, source_section
from t2v_core.frontends.tab.about import (
    OF_THE_LORAS,
    OF_THE_MODEL,
    about_model,
    lora_choices,
    model_names,
    native_of,
    of_loras,
    token_count,
)
from t2v_core.frontends.tab.clip_actions import ClipActions
from t2v_core.frontends.tab.follow_ups import CONTINUE, DRAFTS, PICK, REFINE
from t2v_core.frontends.tab.gradio_versions import script, unchanged, update
from t2v_core.frontends.tab.guarding import guarded
from t2v_core.frontends.tab.making import FAILED, Maker
from t2v_core.frontends.tab.surroundings import PromptRow, Results, Surroundings, Tab
from t2v_core.speed import SHORTCUTS

RESULTS = ("player", "keys", "recipe", "messages")
"""The components of a run's results, in the order of `Maker.generate`; messages are the last of every handler."""

FOLLOW_UPS = {"make_drafts": DRAFTS, "continue": CONTINUE, "refine_clip": REFINE, "render_picked": PICK}
"""The buttons that make something other than what the fields alone say, and what it is."""

WEIGHTY = (
    *("model", "lora", "steps", "cfg_scale", "width", "height", "frames", "count"),
    *("source", "strength", "window", "fill_in", "refine", "refine_strength", "upscale", "over", "drafts"),
    *("precision", "split_guidance", "memory", "speed", *SHORTCUTS),
)
"""The fields on which a run's time and memory depend."""

Parts = Mapping[str, Any]


def connect(
    surroundings: Surroundings, maker: Maker, *, prompts: PromptRow, fields: Mapping[str, Any], parts: Parts
) -> Tab:
    """Give every button its function."""
    tab = Tab(
        fields=fields,
        fill=lambda text: list(recipes.updates(text, surroundings.host.models_folders).values()),
        recipe_in=lambda path: recipes.recipe_in(Path(path)),
        frame=parts["frame"],
        send={name.removeprefix("pass_"): button for name, button in parts.items() if name.startswith("pass_")},
        inspected=parts["inspected"],
    )
    _connect_generate(surroundings, maker, prompts=prompts, fields=fields, parts=parts)
    _connect_fields(surroundings, fields=fields, parts=parts)
    actions = ClipActions(surroundings, maker)
    _connect_clips(actions, parts=parts)
    source_section.connect(surroundings, actions, fields=fields, parts=parts)
    _connect_recipes(surroundings, tab, maker, prompts=prompts, parts=parts)
    if surroundings.presets_folder is not None:
        presets.connect(surroundings.presets_folder, fields=fields, parts=parts)
    for name, (button, counter) in prompts.counters.items():
        button.click(fn=token_count, inputs=[fields[name]], outputs=[counter], show_progress=False)
    return tab


def _connect_generate(
    surroundings: Surroundings, maker: Maker, *, prompts: PromptRow, fields: Mapping[str, Any], parts: Parts
) -> None:
    styles = [prompts.styles] if prompts.styles is not None else []

    def generate(run: Any, *values: Any) -> Results:
        named = dict(zip(fields, values, strict=False))
        return maker.generate(run, named, styles=values[len(fields)] or () if styles else ())

    def follow(run: Any, ask: str, *values: Any) -> Results:
        named = dict(zip(fields, values, strict=False))
        return maker.generate(run, named, styles=values[len(fields)] or () if styles else (), ask=ask)

    def restore(task: str) -> Results:
        results = surroundings.restored(task)
        if results is not None:
            return results
        gone = "That run's results are no longer here; its clips lie in the output folder."
        return [*(unchanged() for _ in FAILED), pages.notices([gone])]

    inputs = [parts["task"], *fields.values(), *styles]
    submission: dict[str, Any] = {
        "fn": surroundings.job(generate, failed=FAILED),
        **script("txt2video_submit", inputs=len(inputs)),
        "inputs": inputs,
        "outputs": [parts[name] for name in RESULTS],
        "show_progress": False,
        "preprocess": False,  # gradio would refuse some values with a traceback; the request's check names the field
    }
    prompts.generate.click(**submission)
    prompts.prompt.submit(**submission)
    asked = [parts["task"], parts["ask"], *inputs[1:]]
    for name, what in FOLLOW_UPS.items():
        code = script(f"(...values) => txt2video_follow('{what}', ...values)", inputs=len(asked))
        following = {**submission, "fn": surroundings.job(follow, failed=FAILED), **code, "inputs": asked}
        parts[name].click(**following)
    if prompts.restore is not None:
        prompts.restore.click(
            fn=restore,
            **script("txt2video_restore", inputs=1),
            inputs=[parts["task"]],
            outputs=submission["outputs"],
            show_progress=False,
        )


def _connect_fields(surroundings: Surroundings, *, fields: Mapping[str, Any], parts: Parts) -> None:
    folders = surroundings.host.models_folders

    def on_model(name: str) -> list[Any]:
        return about_model(name, folders)

    def on_lora(text: str, model: str, sampler: str) -> list[Any]:
        return of_loras(text, model=model, sampler=sampler, models_folders=folders)

    def on_refresh() -> list[Any]:
        models = model_names(folders)
        return [update(choices=models), update(choices=lora_choices(folders)), update(choices=["", *models])]

    def on_native(choice: str) -> list[Any]:
        return native_of(choice, folders)

    quiet: dict[str, Any] = {"show_progress": False, "queue": False}
    of_the_model = [fields[name] for name in OF_THE_MODEL]
    fields["model"].input(fn=on_model, inputs=[fields["model"]], outputs=[*of_the_model, parts["about"]], **quiet)
    asked = [fields[name] for name in ("lora", "model", "sampler")]
    # Only what a person types: a recipe that is pasted brings values of its own.
    fields["lora"].input(fn=on_lora, inputs=asked, outputs=[fields[name] for name in OF_THE_LORAS], **quiet)
    parts["refresh"].click(fn=on_refresh, outputs=[fields[name] for name in ("model", "lora", "refine_model")], **quiet)
    size = [fields["width"], fields["height"]]
    parts["native"].input(fn=on_native, inputs=[parts["native"]], outputs=[*size, fields["frames"]], **quiet)
    for button, code, inputs, outputs in (
        (parts["swap"], "(width, height) => [height, width]", size, size),
        (parts["dice"], "() => -1", [], [fields["seed"]]),
        (parts["recycle"], "txt2video_seed_of_clip", [fields["seed"]], [fields["seed"]]),
    ):
        button.click(fn=None, **script(code, inputs=len(inputs)), inputs=inputs, outputs=outputs, **quiet)


def _connect_clips(actions: ClipActions, *, parts: Parts) -> None:
    """The buttons under the player; the page tells which clip and which frame of it are meant."""
    chosen, messages = parts["chosen"], parts["messages"]

    def on(button: Any, function: Callable[..., Sequence[Any]], *, inputs: list[Any], outputs: list[Any]) -> Any:
        return button.click(
            fn=guarded(function, outputs=len(outputs)),
            **script("txt2video_with_chosen", inputs=1 + len(inputs)),
            inputs=[chosen, *inputs],
            outputs=[*outputs, messages],
            show_progress=False,
        )

    on(parts["open_folder"], actions.open_folder, inputs=[], outputs=[])
    on(parts["zip"], actions.zip, inputs=[parts["keys"]], outputs=[parts["download"]])
    on(parts["show_frames"], actions.frames, inputs=[], outputs=[parts["frame_gallery"]])
    # Other clips have other frames.
    parts["keys"].change(fn=actions.no_frames, inputs=[], outputs=[parts["frame_gallery"]], show_progress=False)
    on(parts["delete"], actions.delete, inputs=[parts["keys"]], outputs=[parts["player"], parts["keys"]])
    parts["save_copy"].click(fn=None, **script("txt2video_save_copy"), inputs=[], outputs=[])
    for name, button in parts.items():
        if name.startswith("send_"):
            code = f"() => txt2video_pass_to('{name.removeprefix('send_')}')"
            sent = on(button, actions.frame, inputs=[parts["which"]], outputs=[parts["frame"]])
            sent.then(fn=None, **script(code), inputs=[], outputs=[])


def _connect_recipes(surroundings: Surroundings, tab: Tab, maker: Maker, *, prompts: PromptRow, parts: Parts) -> None:
    """The arrow reads what stands in the prompt, or the newest clip; a file that is dropped on a prompt is read too."""
    everything = list(tab.fields.values())

    outputs = [*everything, parts["messages"]]

    def filling(text_in: Callable[[Any], str]) -> Callable[[Any], list[Any]]:
        """A handler that fills the fields from a recipe and says which of its files are gone."""

        def fill(value: Any) -> list[Any]:
            if value is None:
                return [*(unchanged() for _ in everything), ""]
            text = text_in(value)
            return [*tab.fill(text), pages.notices(recipes.changed_files(text, surroundings.host))]

        careful = guarded(fill, outputs=len(outputs))

        def handler(value: Any) -> list[Any]:
            *filled, notice, trouble = careful(value)
            return [*filled, trouble or notice]

        return handler

    for event, source, text_in in (
        (prompts.paste.click, prompts.prompt, lambda prompt: prompt or maker.shelf.newest_recipe()),
        (parts["drop"].upload, parts["drop"], lambda upload: tab.recipe_in(getattr(upload, "name", upload))),
    ):
        event(fn=filling(text_in), inputs=[source], outputs=outputs, show_progress=False).then(
            fn=None, **script("txt2video_filled"), inputs=[], outputs=[]
        )


def keep_forecast(page: Any, maker: Maker, *, fields: Mapping[str, Any], keys: Any, line: Any) -> None:
    """Say what the values will take, from when the page opens on, and again when one of them or the clips change.

    A clip that has been made tells how long the next one will take.
    """

    def forecast(*values: Any) -> str:
        return maker.forecast(dict(zip(fields, values, strict=True)))

    event: dict[str, Any] = {"fn": forecast, "inputs": list(fields.values()), "outputs": [line], "show_progress": False}
    event["preprocess"] = False
    page.load(**event)
    for changing in (keys, *(fields[name] for name in WEIGHTY)):
        changing.change(**event)


def keep_duration(page: Any, *, fields: Mapping[str, Any], line: Any) -> None:
    """Say how long a clip is, from when the page opens on, and again whenever its frames change."""
    inputs = [fields["frames"], fields["fps"]]
    code = script("txt2video_duration", inputs=len(inputs))
    for event in (page.load, *(field.change for field in inputs)):
        event(fn=None, **code, inputs=inputs, outputs=[line], show_progress=False, queue=False)
