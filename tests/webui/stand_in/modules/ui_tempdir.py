"""Files that the page may load although they lie outside the server's folder."""

import os

import gradio as gr

from modules.gradio_extensions import MAJOR


def register_tmp_file(gradio_app, filename):
    # gradio 4 compares paths, gradio 3 texts.
    path = gr.utils.abspath(filename) if MAJOR >= 4 else os.path.abspath(filename)
    gradio_app.temp_file_sets[0] = gradio_app.temp_file_sets[0] | {path}
