"""Tasks: which waits, which runs, which have ended with what; and what the page asks about them."""

import base64
import io
import time

from modules import shared

current_task = None
pending_tasks = {}
finished_tasks = []
recorded_results = []
recorded_results_limit = 2


def add_task_to_queue(id_job):
    pending_tasks[id_job] = time.time()


def start_task(id_task):
    global current_task
    current_task = id_task
    pending_tasks.pop(id_task, None)


def finish_task(id_task):
    global current_task
    if current_task == id_task:
        current_task = None
    finished_tasks.append(id_task)
    del finished_tasks[:-16]


def record_results(id_task, res):
    recorded_results.append((id_task, res))
    del recorded_results[:-recorded_results_limit]


def answer(question):
    """The JSON for one look of the page at a task."""
    task = question.get("id_task")
    reply = {"active": task == current_task, "queued": task in pending_tasks, "completed": task in finished_tasks}
    if not reply["active"]:
        place = 1 + sorted(pending_tasks, key=pending_tasks.get).index(task) if reply["queued"] else 0
        words = f"In queue: {place}/{len(pending_tasks)}" if place else "Waiting..."
        return reply | {"id_live_preview": -1, "textinfo": words}
    state = shared.state
    share = 0.0
    if state.job_count > 0:
        share = state.job_no / state.job_count
        if state.sampling_steps > 0:
            share += state.sampling_step / state.sampling_steps / state.job_count
    share = min(share, 1)
    elapsed = time.time() - state.time_start
    reply |= {"progress": share, "eta": elapsed / share - elapsed if share else None, "textinfo": state.textinfo}
    return reply | _preview(question)


def _preview(question):
    known, state = question.get("id_live_preview", -1), shared.state
    wanted = shared.opts.live_previews_enable and question.get("live_preview", True)
    if not wanted or state.current_image is None or state.id_live_preview == known:
        return {"live_preview": None, "id_live_preview": known}
    kind = shared.opts.live_previews_image_format
    file = io.BytesIO()
    options = {"optimize": True} if kind == "png" else {}
    state.current_image.save(file, format=kind, **options)
    url = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"live_preview": url, "id_live_preview": state.id_live_preview}
