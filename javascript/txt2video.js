// The txt2video tab in the browser: starting runs, dropping recipes, and playing clips in step.

const TXT2VIDEO = "txt2video";
const TXT2VIDEO_TASK = `${TXT2VIDEO}_task_id`; // under which the browser keeps the run, for a page that is loaded again

function txt2videoElement(name) {
    return gradioApp().getElementById(`${TXT2VIDEO}_${name}`);
}

// ---- Starting a run, and finding it again after the page was reloaded

function txt2videoFollow(task, timeout) {
    const container = txt2videoElement("gallery_container");
    const finished = () => {
        showSubmitButtons(TXT2VIDEO, true);
        showRestoreProgressButton(TXT2VIDEO, false);
        // Not at once: a page that is left breaks off what it asks for, which looks like the end, and must forget nothing.
        setTimeout(() => {
            if (localGet(TXT2VIDEO_TASK) === task) localRemove(TXT2VIDEO_TASK);
        }, 500);
    };
    requestProgress(task, container, container, finished, null, timeout);
}

function txt2video_submit(...values) {
    showSubmitButtons(TXT2VIDEO, false);
    txt2videoMarkFields([]);
    const task = randomId();
    localSet(TXT2VIDEO_TASK, task);
    txt2videoFollow(task);
    values[0] = task;
    return values;
}

// A run of something other than what the fields alone say: drafts, or what follows from the chosen clip.
function txt2video_follow(action, ...values) {
    const started = txt2video_submit(...values);
    const picked = Array.from(txt2videoChosenClip()?.querySelectorAll(".txt2video-pick[aria-pressed=true]") || [], (pick) => pick.dataset.number);
    started[1] = JSON.stringify({do: action, key: txt2videoChosenClip()?.dataset.key, picked: picked.join(", ")});
    return started;
}

let txt2videoRestoring = false;

// The button does nothing until gradio has attached its events, some time after the page is there; and the WebUI hides
// a progress bar for good that begins before its settings have come.
function txt2videoRestoreSoon(tries = 40) {
    if (txt2videoRestoring || !tries) return;
    if (typeof opts === "undefined" || Object.keys(opts).length) txt2videoElement("restore_progress")?.click();
    setTimeout(() => txt2videoRestoreSoon(tries - 1), 500);
}

function txt2video_restore() {
    txt2videoRestoring = true;
    showRestoreProgressButton(TXT2VIDEO, false);
    const task = localGet(TXT2VIDEO_TASK);
    if (task) {
        setSubmitButtonsVisibility(TXT2VIDEO, true, true, false);
        txt2videoFollow(task, 0);
    }
    return [task || ""];
}

// ---- Fields

function txt2video_duration(frames, fps) {
    return [fps > 0 ? `${frames} frames at ${fps} fps: ${(frames / fps).toFixed(1)} s` : ""];
}

function txt2videoSet(name, value) {
    const input = txt2videoElement(name)?.querySelector(typeof value === "boolean" ? "input[type=checkbox]" : "input[type=number]");
    if (!input) return;
    if (typeof value === "boolean") {
        if (input.checked !== value) input.click();
    } else {
        input.value = value;
        updateInput(input);
    }
}

function txt2video_try(prompt) {
    const box = txt2videoElement("prompt").querySelector("textarea");
    box.value = prompt;
    updateInput(box);
    setTimeout(() => txt2videoElement("generate").click(), 300);
    return [];
}

function txt2video_seed_of_clip(seed) {
    const clip = txt2videoChosenClip();
    return [clip && clip.dataset.seed ? Number(clip.dataset.seed) : seed];
}

function txt2video_filled() {
    recalculate_prompts_txt2video();
    return [];
}

// The WebUI calls these three by name: for every tab that recipes can be sent to, and when styles go into its prompts.
function recalculate_prompts_txt2video(...values) {
    for (const button of ["token_button", "negative_token_button"]) {
        update_token_counter(`${TXT2VIDEO}_${button}`);
    }
    return values;
}

function update_txt2video_tokens(...values) {
    return recalculate_prompts_txt2video(...values);
}

function switch_to_txt2video(...values) {
    const page = gradioApp().getElementById(`tab_${TXT2VIDEO}`);
    const pages = Array.from(page.parentElement.children).filter((child) => child.id.startsWith("tab_"));
    gradioApp().querySelector("#tabs").querySelectorAll(":scope > .tab-nav > button, :scope > .tab-wrapper button")[pages.indexOf(page)]?.click();
    return values;
}

// An attribute, as gradio writes its elements' classes anew.
function txt2videoMarkFields(names) {
    for (const marked of gradioApp().querySelectorAll("[data-txt2video-wrong]")) delete marked.dataset.txt2videoWrong;
    for (const name of names) {
        const field = txt2videoElement(name === "negative_prompt" ? "neg_prompt" : name);
        if (field) field.dataset.txt2videoWrong = "1";
    }
}

// ---- Clips

function txt2videoPlayer() {
    return txt2videoElement("gallery")?.querySelector(".txt2video-player");
}

function txt2videoClips() {
    return Array.from(txt2videoPlayer()?.querySelectorAll(".txt2video-clip") || []);
}

function txt2videoChosenClip() {
    const clips = txt2videoClips();
    return clips.find((clip) => clip.classList.contains("chosen")) || clips[0];
}

function txt2videoFrameOf(clip) {
    const video = clip.querySelector("video");
    const last = Number(clip.dataset.frames) - 1;
    return Math.max(0, Math.min(last, Math.floor(video.currentTime * Number(clip.dataset.fps) + 1e-3)));
}

function txt2video_downloading(...values) {
    txt2videoFollowing = true;
    return values;
}

function txt2video_with_chosen(_, ...values) {
    const clip = txt2videoChosenClip();
    const chosen = clip ? {key: clip.dataset.key, frame: txt2videoFrameOf(clip)} : {};
    chosen.frames_shown = Boolean(txt2videoElement("frames_gallery")?.offsetParent);
    return [JSON.stringify(chosen), ...values];
}

function txt2video_save_copy() {
    const clip = txt2videoChosenClip();
    if (!clip) return [];
    if (!clip.dataset.file) {  // a folder of pictures
        txt2videoElement("zip").click();
        return [];
    }
    const link = document.createElement("a");
    link.href = clip.dataset.file;
    link.download = clip.querySelector("figcaption").textContent.split(" · ")[0];
    link.click();
    return [];
}

function txt2video_pass_to(tab) {
    if (!txt2videoElement("html_log")?.querySelector(".txt2video-problem")) txt2videoElement(`pass_to_${tab}`).click();
    return [];
}

function txt2videoChoose(clip) {
    for (const other of txt2videoClips()) other.classList.toggle("chosen", other === clip);
    const info = txt2videoElement("html_info")?.querySelector("p");
    if (info && clip.dataset.info) info.innerText = clip.dataset.info;
}

function txt2videoSeek(frame) {
    for (const clip of txt2videoClips()) {
        const video = clip.querySelector("video");
        const wanted = Math.min(frame, Number(clip.dataset.frames) - 1);
        video.currentTime = (wanted + 0.5) / Number(clip.dataset.fps);
    }
}

function txt2videoSetPlaying(player, playing) {
    for (const clip of txt2videoClips()) {
        const video = clip.querySelector("video");
        if (playing) video.play().catch(() => {});
        else video.pause();
    }
    player.querySelector('[data-do="play"]').textContent = playing ? "⏸" : "▶";
}

function txt2videoControl(player, action) {
    const leader = txt2videoClips()[0];
    if (!leader) return;
    const video = leader.querySelector("video");
    if (action === "play") {
        txt2videoSetPlaying(player, video.paused);
    } else if (action === "previous" || action === "next") {
        const count = Number(leader.dataset.frames);
        const step = action === "next" ? 1 : count - 1;
        const wanted = (txt2videoFrameOf(leader) + step) % count;
        txt2videoSetPlaying(player, false);
        txt2videoSeek(wanted);
    } else if (action === "loop") {
        const button = player.querySelector('[data-do="loop"]');
        const loop = button.classList.toggle("on");
        for (const clip of txt2videoClips()) clip.querySelector("video").loop = loop;
    } else if (action === "full") {
        (player.dataset.many === "1" ? player : txt2videoChosenClip().querySelector("video")).requestFullscreen?.();
    }
}

// Clips of one run have the same length: whichever drifts by more than half a frame is put back to the first one.
function txt2videoKeepInStep() {
    const player = txt2videoPlayer();
    const clips = txt2videoClips();
    if (player && clips.length) {
        const leader = clips[0].querySelector("video");
        for (const clip of clips.slice(1)) {
            const video = clip.querySelector("video");
            const drift = Math.abs(video.currentTime - leader.currentTime);
            const wrapped = Math.min(drift, Math.abs((leader.duration || 0) - drift));
            if (!leader.paused && video.readyState > 1 && wrapped > 0.5 / Number(clip.dataset.fps)) {
                video.currentTime = leader.currentTime;
            }
        }
        const frame = txt2videoFrameOf(clips[0]);
        const slider = player.querySelector("input[type=range]");
        if (document.activeElement !== slider || !leader.paused) slider.value = frame;
        // A node that comes or goes would be an update of the page, and hold back every script that waits for its end.
        player.querySelector(".txt2video-frame").firstChild.nodeValue = `${frame + 1} / ${clips[0].dataset.frames}`;
    }
    requestAnimationFrame(txt2videoKeepInStep);
}

function txt2videoPick(pick) {
    pick.setAttribute("aria-pressed", pick.getAttribute("aria-pressed") !== "true");
    const sheet = pick.closest(".txt2video-clip");
    const count = sheet.querySelectorAll(".txt2video-pick[aria-pressed=true]").length;
    const render = sheet.querySelector(".txt2video-render-picked");
    render.disabled = !count;
    render.dataset.count = count || "";
}

function txt2videoSetUpPlayer(player) {
    player.dataset.ready = "1";
    player.addEventListener("click", (event) => {
        const button = event.target.closest("[data-do]");
        const clip = event.target.closest(".txt2video-clip");
        if (button) txt2videoControl(player, button.dataset.do);
        else if (clip) txt2videoChoose(clip);
        if (event.target.closest(".txt2video-pick")) txt2videoPick(event.target.closest(".txt2video-pick"));
        if (event.target.closest(".txt2video-render-picked")) txt2videoElement("render_picked").click();
    });
    player.addEventListener("keydown", (event) => {
        const action = {" ": "play", ",": "previous", ".": "next"}[event.key];
        if (!action || event.target.closest("button, input")) return;
        event.preventDefault();
        txt2videoControl(player, action);
    });
    player.querySelector("input[type=range]").addEventListener("input", (event) => {
        txt2videoSetPlaying(player, false);
        txt2videoSeek(Number(event.target.value));
    });
    for (const video of player.querySelectorAll("video")) {
        video.muted = true;
        // A film that this browser can't play, as H.265 in some, is its first frame.
        video.addEventListener("error", () => {
            if (!video.hasAttribute("src")) return;
            video.removeAttribute("src");
            video.load();
            video.poster = video.closest(".txt2video-clip").querySelector("img").src;
        });
    }
    // The WebUI translates texts that are added to the page, but of tooltips only the outermost element's.
    if (hasLocalization()) {
        for (const titled of player.querySelectorAll("[title]")) titled.title = getTranslation(titled.title) ?? titled.title;
    }
    const first = txt2videoClips()[0];
    if (first) first.classList.add("chosen");
}

// ---- Recipes that are dropped or pasted

function txt2videoHandOver(name, files) {
    const input = txt2videoElement(name)?.querySelector('input[type="file"]');
    if (!input) return;
    const transfer = new DataTransfer();
    transfer.items.add(files[0]);
    input.value = "";
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
}

// ---- Places that take a picture or a video

let txt2videoPlaceAsked = "";

function txt2videoTaken(slot) {
    const clip = txt2videoChosenClip();
    return [JSON.stringify(clip ? {key: clip.dataset.key, frame: txt2videoFrameOf(clip), slot} : {slot})];
}

function txt2video_take() {
    return txt2videoTaken(txt2videoPlaceAsked);
}

function txt2video_take_as_source() {
    txt2videoOpen("source");
    return txt2videoTaken("source");
}

function txt2videoOpen(name) {
    const section = txt2videoElement(`section_${name}`);
    if (section && !section.querySelector(".txt2video-slot")?.offsetParent) section.querySelector("button, .label-wrap").click();
    section?.scrollIntoView({block: "nearest", behavior: "smooth"});
}

function txt2videoFillPlace(name, files) {
    const place = gradioApp().querySelector(`.txt2video-slot[data-slot="${name}"]`);
    if (place) place.dataset.state = "loading";
    txt2videoHandOver(`${name}_upload`, files);
}

document.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest(".txt2video-slot [data-do]");
    if (!button) return;
    const name = button.closest(".txt2video-slot").dataset.slot;
    const action = button.dataset.do;
    if (action === "choose") {
        const input = document.createElement("input");
        input.type = "file";
        input.accept = name.endsWith("_frame") ? "image/*" : "image/*,video/*";
        input.onchange = () => input.files.length && txt2videoFillPlace(name, input.files);
        input.click();
    } else if (action === "clear") {
        const box = txt2videoElement(name).querySelector("textarea, input");
        const put = (text) => {
            box.value = text;
            updateInput(box);
        };
        if (!box.value) put(" ");  // the place shows what became of another file, and changes only when the box does
        setTimeout(put, box.value.trim() ? 0 : 300, "");
    } else if (action === "draw") {
        txt2videoElement("draw").click();
    } else {
        txt2videoPlaceAsked = name;
        txt2videoElement("take").click();
    }
});

// ---- Painting a mask

const TXT2VIDEO_UNDOS = 30;

function txt2videoSetUpSketch(dialog) {
    dialog.dataset.ready = "1";
    const canvas = dialog.querySelector("canvas");
    const context = canvas.getContext("2d", {willReadFrequently: true});
    const size = dialog.querySelector('[data-do="size"]');
    const eraser = dialog.querySelector('[data-do="erase"]');
    const before = [];
    let last = null;
    const keep = () => {
        before.push(context.getImageData(0, 0, canvas.width, canvas.height));
        if (before.length > TXT2VIDEO_UNDOS) before.shift();
    };
    const place = (event) => {
        const box = canvas.getBoundingClientRect();
        return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
    };
    const paint = (from, to) => {
        context.globalCompositeOperation = eraser.getAttribute("aria-pressed") === "true" ? "destination-out" : "source-over";
        context.strokeStyle = "#ff5a1f";
        context.lineCap = context.lineJoin = "round";
        context.lineWidth = Number(size.value);
        context.beginPath();
        context.moveTo(...from);
        context.lineTo(...to);
        context.stroke();
    };
    canvas.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        event.preventDefault();
        try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
        keep();
        last = place(event);
        paint(last, last);
    });
    canvas.addEventListener("pointermove", (event) => {
        if (!last) return;
        for (const each of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
            const next = place(each);
            paint(last, next);
            last = next;
        }
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
    const actions = {
        erase: () => eraser.setAttribute("aria-pressed", eraser.getAttribute("aria-pressed") !== "true"),
        undo: () => before.length && context.putImageData(before.pop(), 0, 0),
        clear: () => { keep(); context.clearRect(0, 0, canvas.width, canvas.height); },
        cancel: () => dialog.close(),
        use: () => txt2videoMaskOf(canvas).toBlob((content) => {
            txt2videoFillPlace("mask", [new File([content], "mask.png", {type: "image/png"})]);
            dialog.close();
        }, "image/png"),
    };
    dialog.addEventListener("click", (event) => actions[event.target.dataset?.do]?.());
    // The page around us has keys of its own for Escape and Enter.
    dialog.addEventListener("keydown", (event) => {
        event.stopPropagation();
        if ((event.ctrlKey || event.metaKey) && event.key === "z") actions.undo();
    });
    dialog.addEventListener("close", () => dialog.remove());
    if (canvas.dataset.mask) txt2videoPutMask(context, canvas.dataset.mask);
    dialog.showModal();
}

// What is painted, white on black.
function txt2videoMaskOf(canvas) {
    const mask = document.createElement("canvas");
    [mask.width, mask.height] = [canvas.width, canvas.height];
    const context = mask.getContext("2d");
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < pixels.data.length; i += 4) {
        const light = pixels.data[i + 3] > 127 ? 255 : 0;
        pixels.data.set([light, light, light, 255], i);
    }
    context.putImageData(pixels, 0, 0);
    return mask;
}

// A mask that there is, as if it had just been painted.
function txt2videoPutMask(context, source) {
    const picture = new Image();
    picture.onload = () => {
        const {width, height} = context.canvas;
        context.drawImage(picture, 0, 0, width, height);
        const pixels = context.getImageData(0, 0, width, height);
        for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set([255, 90, 31, pixels.data[i] > 127 ? 255 : 0], i);
        context.putImageData(pixels, 0, 0);
    };
    picture.src = source;
}

function txt2videoIsVideo(file) {
    return file.type.startsWith("video/") || /^image\/(webp|gif|apng)$/.test(file.type) || /\.(mp4|webm|mkv|avi|mov|webp|gif|apng)$/i.test(file.name);
}

// Which of our receivers takes files at this place: ours for our prompts, PNG Info for what it can't read itself.
function txt2videoReceiver(target, files) {
    if (!(target instanceof Element)) return null;
    const place = target.closest(".txt2video-place")?.querySelector(".txt2video-slot");
    if (place) return place.dataset.slot;
    if (target.closest(`#${TXT2VIDEO}_prompt_container, #${TXT2VIDEO}_prompt_row, #${TXT2VIDEO}_neg_prompt_row`)) return "drop";
    if (target.closest("#tab_pnginfo") && files && files.length === 1 && txt2videoIsVideo(files[0])) return "inspected";
    return null;
}

function txt2videoReceive(receiver, files) {
    if (receiver === "drop" || receiver === "inspected") txt2videoHandOver(receiver, files);
    else txt2videoFillPlace(receiver, files);
}

document.addEventListener("dragover", (event) => {
    const target = event.composedPath()[0];
    const isFile = Array.from(event.dataTransfer?.items || []).some((item) => item.kind === "file");
    if (isFile && target instanceof Element && target.closest(`#tab_pnginfo, #${TXT2VIDEO}_prompt_container, .txt2video-place`)) event.preventDefault();
}, true);

document.addEventListener("drop", (event) => {
    const files = event.dataTransfer?.files;
    const receiver = files && files.length ? txt2videoReceiver(event.composedPath()[0], files) : null;
    if (!receiver) return;
    event.preventDefault();
    event.stopPropagation();
    txt2videoReceive(receiver, files);
}, true);

document.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    const receiver = files && files.length ? txt2videoReceiver(event.composedPath()[0], files) : null;
    if (!receiver || receiver === "inspected") return;
    event.preventDefault();
    event.stopPropagation();
    txt2videoReceive(receiver, files);
}, true);

// ---- Once the page is there

onUiLoaded(() => {
    if (!txt2videoElement("prompt")) return;
    showSubmitButtons(TXT2VIDEO, true);
    const counters = [["prompt", "token_counter", "token_button"], ["neg_prompt", "negative_token_counter", "negative_token_button"]];
    for (const names of counters) setupTokenCounting(...names.map((name) => `${TXT2VIDEO}_${name}`));
    onOptionsChanged(() => {
        for (const names of counters) toggleTokenCountingVisibility(...names.map((name) => `${TXT2VIDEO}_${name}`));
    });
    if (localGet(TXT2VIDEO_TASK)) txt2videoRestoreSoon();
    requestAnimationFrame(txt2videoKeepInStep);
});

let txt2videoProblem = null;
let txt2videoFollowing = false;

onAfterUiUpdate(() => {
    const downloading = Boolean(txt2videoElement("download_status")?.querySelector(".txt2video-bar"));
    if (downloading && !txt2videoFollowing) txt2videoElement("follow_download")?.click();
    txt2videoFollowing = downloading;
    const player = txt2videoPlayer();
    if (player && !player.dataset.ready) txt2videoSetUpPlayer(player);
    const sketch = txt2videoElement("sketch")?.querySelector(".txt2video-sketch:not([data-ready])");
    if (sketch) txt2videoSetUpSketch(sketch);
    const problem = txt2videoElement("html_log")?.querySelector(".txt2video-problem") || null;
    if (problem !== txt2videoProblem) {
        txt2videoProblem = problem;
        txt2videoMarkFields(problem ? JSON.parse(problem.dataset.fields || "[]") : []);
        problem?.querySelector(".txt2video-lower")?.addEventListener("click", (event) => {
            for (const [name, value] of Object.entries(JSON.parse(event.target.dataset.values))) txt2videoSet(name, value);
            event.target.disabled = true;
        });
        problem?.querySelector(".txt2video-copy")?.addEventListener("click", () => {
            navigator.clipboard.writeText(problem.querySelector(".txt2video-report").textContent);
        });
    }
});
