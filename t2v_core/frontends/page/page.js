// What javascript/txt2video.js expects of the page around it, for the page of its own: in a WebUI, the WebUI has these.

function gradioApp() {
    return document;
}

// ---- Small things that are kept in the browser

function localSet(name, value) {
    try { localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ }
}

function localGet(name, otherwise) {
    try { return localStorage.getItem(name) ?? otherwise; } catch { return otherwise; }
}

function localRemove(name) {
    try { localStorage.removeItem(name); } catch { /* a browser that keeps nothing */ }
}

function randomId() {
    const bytes = crypto.getRandomValues(new Uint8Array(12));
    return `task(${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")})`;
}

// ---- When the page is there, and whenever it has changed

const pageCallbacks = {loaded: [], updated: []};
let pageIsLoaded = false;

function onUiLoaded(callback) {
    if (pageIsLoaded) callback();
    else pageCallbacks.loaded.push(callback);
}

function onAfterUiUpdate(callback) {
    pageCallbacks.updated.push(callback);
}

function onOptionsChanged() {}

function hasLocalization() {
    return false;
}

function getTranslation() {}

function pageCall(callbacks) {
    for (const callback of callbacks) {
        try { callback(); } catch (error) { console.error(error); }
    }
}

let pageUpdate = null;
new MutationObserver(() => {
    if (!pageIsLoaded && document.querySelector("#txt2video_prompt textarea") && document.querySelector("#txt2video_gallery")) {
        pageIsLoaded = true;
        pageSetUp();
        pageCall(pageCallbacks.loaded);
    }
    clearTimeout(pageUpdate);
    if (pageIsLoaded) pageUpdate = setTimeout(() => pageCall(pageCallbacks.updated), 100);
}).observe(document, {childList: true, subtree: true});

// ---- Inputs

function updateInput(input) {
    input.dispatchEvent(new Event("input", {bubbles: true}));
}

function update_token_counter(id) {
    document.getElementById(id)?.click();
}

function setupTokenCounting(id, counterId, buttonId) {
    const area = document.querySelector(`#${id} textarea`);
    let timer = null;
    area?.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(() => update_token_counter(buttonId), 800);
    });
    const counter = document.getElementById(counterId);
    if (area && counter) {
        counter.classList.add("txt2video-counter");
        document.getElementById(id).append(counter);
    }
}

function toggleTokenCountingVisibility() {}

// ---- Generate, Interrupt, Skip

function pageShow(id, shown) {
    const element = document.getElementById(id);
    if (element) element.style.display = shown ? "block" : "none";
}

function setSubmitButtonsVisibility(tab, interrupt, skip, interrupting) {
    pageShow(`${tab}_interrupt`, interrupt);
    pageShow(`${tab}_skip`, skip);
    pageShow(`${tab}_interrupting`, interrupting);
    pageShow(`${tab}_generate`, !interrupt && !interrupting);
}

function showSubmitButtons(tab, shown) {
    setSubmitButtonsVisibility(tab, !shown, !shown, false);
}

function showRestoreProgressButton() {}

let pageTask = null;

function txt2video_page_stop(how) {
    if (pageTask) fetch(`txt2video/stop?${new URLSearchParams({task: pageTask, how})}`, {method: "POST"});
    if (how === "interrupt") setSubmitButtonsVisibility("txt2video", false, false, true);
    return [];
}

// ---- Progress: asked for several times a second, so that it's there again after the page was reloaded

const PAGE_ASK_EVERY = 400; // milliseconds
const PAGE_UNKNOWN_FOR = 20; // so often a task that hasn't come to the server is asked for

function requestProgress(task, container, gallery, atEnd, onProgress, timeout) {
    const box = document.createElement("div");
    box.className = "txt2video-progress";
    box.innerHTML = '<div class="txt2video-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100"><div></div><span>Starting …</span></div><div class="txt2video-live" hidden><img alt="Preview"></div>';
    container.prepend(box);
    container.classList.add("txt2video-busy");
    pageTask = task;
    localSet("txt2video_last_task", task);
    let unknown = 0;
    let previewed = "";
    const title = document.title;
    const end = () => {
        document.title = title;
        box.remove();
        container.classList.remove("txt2video-busy");
        if (pageTask === task) pageTask = null;
        atEnd();
    };
    const show = (state) => {
        const percent = Math.round(100 * state.fraction);
        const left = state.time_left && ` · ${state.time_left} left`;
        const words = state.before ? `In line: ${state.before} before you` : `${state.words || "Starting …"}${left}`;
        box.querySelector(".txt2video-bar div").style.width = `${percent}%`;
        box.querySelector(".txt2video-bar").setAttribute("aria-valuenow", percent);
        box.querySelector(".txt2video-bar span").textContent = words;
        document.title = state.before ? `(${state.before}) ${title}` : `[${percent}%] ${title}`;
        if (state.preview && state.preview_id !== previewed) {
            previewed = state.preview_id;
            box.querySelector(".txt2video-live").hidden = false;
            box.querySelector("img").src = state.preview;
        }
        onProgress?.(state);
    };
    const ask = async () => {
        try {
            const query = new URLSearchParams({task, seen: previewed});
            const response = await fetch(`txt2video/progress?${query}`, {cache: "no-store"});
            if (response.status === 401) {
                location.reload();
                return;
            }
            const state = await response.json();
            unknown = state.state === "unknown" ? unknown + 1 : 0;
            if (state.state === "ended" || unknown > (timeout === 0 ? 0 : PAGE_UNKNOWN_FOR)) {
                end();
                return;
            }
            if (state.state !== "unknown") show(state);
        } catch {
            box.querySelector(".txt2video-bar span").textContent = "The server doesn't answer. Trying again …";
        }
        setTimeout(ask, document.hidden ? 4 * PAGE_ASK_EVERY : PAGE_ASK_EVERY);
    };
    ask();
}

// ---- The simple view and the full one are the same page with less or more of it shown

function pageSetView(simple) {
    document.documentElement.classList.toggle("txt2video-simple", simple);
    localSet("txt2video_view", simple ? "simple" : "full");
    const button = document.getElementById("txt2video_view");
    if (button) button.textContent = simple ? "All settings" : "Simple view";
}

pageSetView(localGet("txt2video_view", "simple") !== "full");

function txt2video_page_switch_view() {
    pageSetView(!document.documentElement.classList.contains("txt2video-simple"));
    return [];
}

function txt2video_page_advanced() {
    const open = document.documentElement.classList.toggle("txt2video-advanced-open");
    const button = document.getElementById("txt2video_simple_advanced");
    if (button) button.textContent = open ? "▾ Advanced" : "▸ Advanced";
    return [];
}

// What stands in the prompts is there again after the page was reloaded.
function pageKeepPrompt(id) {
    const area = document.querySelector(`#${id} textarea`);
    const kept = localGet(`${id}_text`, "");
    if (kept && !area.value) {
        area.value = kept;
        updateInput(area);
    }
    area.addEventListener("input", () => localSet(`${id}_text`, area.value));
}

// Fields and buttons say what they do to who rests on them, and buttons that hold one symbol to who listens, too.
onAfterUiUpdate(() => {
    const tips = document.querySelector("meta[name=txt2video-tips]")?.content || "{}";
    for (const [id, tip] of Object.entries(JSON.parse(tips))) {
        const element = document.getElementById(id);
        if (element && element.title !== tip) {
            element.title = tip;
            if (element.tagName === "BUTTON") element.setAttribute("aria-label", tip);
        }
    }
});

function pageSetUp() {
    for (const id of ["txt2video_prompt", "txt2video_neg_prompt"]) pageKeepPrompt(id);
    const last = localGet("txt2video_last_task");
    if (!localGet("txt2video_task_id") && last) {
        // What the page showed when it was closed is shown again, if the server still knows it.
        fetch(`txt2video/progress?${new URLSearchParams({task: last})}`).then((response) => response.json()).then((state) => {
            if (state.state === "unknown") {
                localRemove("txt2video_last_task");
                return;
            }
            localSet("txt2video_task_id", last);
            txt2videoRestoreSoon();
        }).catch(() => {});
    }
}

document.addEventListener("keydown", (event) => {
    const mine = event.target instanceof Element && event.target.closest("#txt2video_prompt, #txt2video_neg_prompt, #txt2video_settings");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && mine) {
        event.preventDefault();
        event.stopPropagation();
        document.getElementById(pageTask ? "txt2video_interrupt" : "txt2video_generate").click();
    } else if (event.key === "Enter" && event.altKey && mine && pageTask) {
        event.preventDefault();
        document.getElementById("txt2video_skip").click();
    } else if (event.key === "Escape" && pageTask) {
        document.getElementById("txt2video_interrupt").click();
    }
}, true);
