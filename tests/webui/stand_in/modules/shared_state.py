"""What is being made now, for the page's progress bar, and what its buttons ask for."""

import datetime
import time


class State:
    skipped = False
    interrupted = False
    stopping_generation = False
    job = ""
    job_no = 0
    job_count = 0
    job_timestamp = "0"
    sampling_step = 0
    sampling_steps = 0
    current_image = None
    id_live_preview = 0
    textinfo = None
    time_start = None

    def begin(self, job="(unknown)"):
        self.job = job
        self.job_no, self.job_count = 0, -1
        self.sampling_step = 0
        self.current_image, self.id_live_preview = None, 0
        self.textinfo = None
        self.skipped = self.interrupted = self.stopping_generation = False
        self.time_start = time.time()
        self.job_timestamp = datetime.datetime.now().strftime("%Y%m%d%H%M%S")

    def end(self):
        self.job, self.job_count = "", 0

    def skip(self):
        self.skipped = True

    def interrupt(self):
        self.interrupted = True

    def stop_generating(self):
        self.stopping_generation = True

    def assign_current_image(self, image):
        self.current_image = image
        self.id_live_preview += 1
