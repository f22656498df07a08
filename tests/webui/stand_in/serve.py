"""A small WebUI around the extension, on gradio 3.41 or 4.40: `python serve.py --port 7860`, data in $STAND_IN_DATA."""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
EXTENSION = HERE.parents[2]

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_TEMP_DIR"] = os.path.join(os.environ["STAND_IN_DATA"], "uploads")

import gradio as gr  # noqa: E402
import gradio.routes  # noqa: E402
from modules import (  # noqa: E402
    errors,
    gradio_extensions,
    images,
    infotext_utils,
    progress,
    script_callbacks,
    sd_models,
    shared,
    ui_components,
    util,
)
from starlette.responses import JSONResponse  # noqa: E402

_UPLOADED = {"source": "upload"} if gradio_extensions.MAJOR < 4 else {"sources": ["upload"], "format": "png"}


def load_extension():
    """Run its script as the WebUI does, with its folder among the modules only meanwhile."""
    before = list(sys.path)
    sys.path.insert(0, str(EXTENSION))
    try:
        path = EXTENSION / "scripts" / "txt2video.py"
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {"__name__": "txt2video"})
    finally:
        sys.path[:] = before


def image_tab(name, image_id):
    """A tab that frames can be sent to."""
    with gr.Blocks(analytics_enabled=False) as page:
        image = gr.Image(elem_id=image_id, interactive=True, type="pil", image_mode="RGBA", **_UPLOADED)
        width = gr.Slider(64, 2048, 512, label="Width", step=8, elem_id=f"{name}_width")
        height = gr.Slider(64, 2048, 512, label="Height", step=8, elem_id=f"{name}_height")
    infotext_utils.add_paste_fields(name, image, [(width, "Size-1"), (height, "Size-2")])
    return page


def png_info_tab():
    with gr.Blocks(analytics_enabled=False) as page:
        with ui_components.ResizeHandleRow(equal_height=False):
            with gr.Column(variant="panel"):
                image = gr.Image(elem_id="pnginfo_image", label="Source", interactive=True, type="pil", **_UPLOADED)
            with gr.Column(variant="panel"):
                above = gr.HTML()
                text = gr.Textbox(visible=False, elem_id="pnginfo_generation_info")
                below = gr.HTML()
                with gr.Row():
                    for tab in ("txt2img", "img2img", "inpaint", "extras"):
                        send_button(tab, text, image)
        image.change(fn=inspected, inputs=[image], outputs=[above, text, below])
    return page


def send_button(tab, text, image):
    button = gr.Button(f"Send to {tab}", elem_id=f"{tab}_tab")
    binding = infotext_utils.ParamBinding(
        paste_button=button, tabname=tab, source_text_component=text, source_image_component=image
    )
    infotext_utils.register_paste_params_button(binding)


def inspected(picture):
    """What PNG Info shows of a picture."""
    if picture is None:
        return "", "", ""
    recipe, items = images.read_info_from_image(picture)
    return "", recipe, f"<p>{recipe}</p><p>{items}</p>"


def txt2img_tab():
    with gr.Blocks(analytics_enabled=False) as page:
        prompt = gr.Textbox(label="Prompt", elem_id="txt2img_prompt")
    infotext_utils.add_paste_fields("txt2img", None, [(prompt, "Prompt")])
    return page


def create_ui():
    script_callbacks.ui_settings_callback()
    tabs = [(txt2img_tab(), "txt2img", "txt2img")]
    for name, label, image_id in (
        ("img2img", "img2img", "img2img_image"),
        ("extras", "Extras", "extras_image"),
        ("inpaint", "Inpaint", "img2maskimg"),
    ):
        tabs.append((image_tab(name, image_id), label, name))
    tabs.append((png_info_tab(), "PNG Info", "pnginfo"))
    tabs += script_callbacks.ui_tabs_callback()
    with gr.Blocks(analytics_enabled=False, title="Stand-in") as settings:
        gr.Textbox(json.dumps(shared.opts.data), elem_id="settings_json", label="Settings")
    tabs.append((settings, "Settings", "settings"))
    with gr.Blocks(analytics_enabled=False, title="Stand-in") as demo:
        infotext_utils.connect_paste_params_buttons()
        with gr.Tabs(elem_id="tabs"):
            for page, label, name in tabs:
                with gr.TabItem(label, id=name, elem_id=f"tab_{name}"):
                    page.render()
    return demo


def put_scripts_into_page():
    """The page's script, the extension's script and its style, as files that the browser names in errors."""
    original = gradio.routes.templates.TemplateResponse
    scripts = [HERE / "javascript" / "script.js", *sorted((EXTENSION / "javascript").glob("*.js"))]
    head = "".join(f'<script src="file={path}"></script>' for path in scripts)
    head += '<link rel="icon" href="data:,">'
    style = f'<link rel="stylesheet" href="file={EXTENSION / "style.css"}">'

    def response(*args, **kwargs):
        made = original(*args, **kwargs)
        made.body = made.body.replace(b"</head>", f"{head}</head>".encode())
        made.body = made.body.replace(b"</body>", f"{style}</body>".encode())
        made.init_headers()
        return made

    gradio.routes.templates.TemplateResponse = response


def add_routes(app, saved):
    async def progress_of_task(request):
        return JSONResponse(progress.answer(await request.json()))

    async def look(request):
        """What a test wants to know of the server's inside."""
        checkpoint = sd_models.model_data.sd_model
        state = {
            name: getattr(shared.state, name)
            for name in ("job", "job_count", "job_no", "sampling_step", "textinfo", "interrupted", "skipped")
        }
        return JSONResponse(
            {"saved": saved, "state": state, "opened": util.opened_folders, "moves": checkpoint and checkpoint.moves}
        )

    async def set_options(request):
        for name, value in (await request.json()).items():
            setattr(shared.opts, name, value)
        return JSONResponse(shared.opts.data)

    app.add_route("/internal/progress", progress_of_task, methods=["POST"])
    app.add_route("/test/look", look, methods=["GET"])
    app.add_route("/test/options", set_options, methods=["POST"])


def main():
    sd_models.model_data.sd_model = sd_models.Checkpoint()
    saved = []
    load_extension()
    script_callbacks.on_image_saved(lambda params: saved.append(params.filename))
    shared.demo = create_ui()
    put_scripts_into_page()
    limit = "concurrency_count" if gradio_extensions.MAJOR < 4 else "default_concurrency_limit"
    shared.demo.queue(**{limit: 64})
    app, *_ = shared.demo.launch(
        server_name="127.0.0.1",
        server_port=shared.cmd_opts.port,
        prevent_thread_lock=True,
        show_api=False,
        quiet=True,
        allowed_paths=[str(HERE / "javascript"), str(EXTENSION / "javascript"), str(EXTENSION / "style.css")],
    )
    add_routes(app, saved)
    print(f"Serving on gradio {gr.__version__}", flush=True)
    # Whoever started the server ends it by closing its input, also by dying.
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        errors.report("The stand-in didn't start", exc_info=True)
        os._exit(1)
