"""One run at a time, with its task, its state, and its time under the result."""

import functools
import html
import threading
import time

from modules import devices, errors, progress, shared

queue_lock = threading.Lock()


def wrap_gradio_gpu_call(func, extra_outputs=None):
    @functools.wraps(func)
    def wrapped(*args, **kwargs):
        began = time.perf_counter()
        first = args[0] if args else None
        task = first if isinstance(first, str) and first.startswith("task(") and first.endswith(")") else None
        if task:
            progress.add_task_to_queue(task)
        try:
            results = list(_run(task, functools.partial(func, *args, **kwargs)))
        except Exception as error:
            errors.report("Error completing request", exc_info=True)
            message = html.escape(f"{type(error).__name__}: {error}")
            results = [*(extra_outputs or [None, ""]), f"<div class='error'>{message}</div>"]
        devices.torch_gc()
        elapsed = time.perf_counter() - began
        results[-1] += f"<div class='performance'><p class='time'>Time taken: {elapsed:.1f} sec.</p></div>"
        return tuple(results)

    return wrapped


def _run(task, job):
    try:
        with queue_lock:
            shared.state.begin(job=task)
            progress.start_task(task)
            try:
                results = job()
                progress.record_results(task, results)
            finally:
                progress.finish_task(task)
            shared.state.end()
    finally:
        state = shared.state
        state.skipped = state.interrupted = state.stopping_generation = False
        state.job, state.job_count = "", 0
    return results
