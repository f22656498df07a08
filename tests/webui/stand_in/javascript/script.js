// The page's own functions that extensions call, made to behave as the WebUI's do; none of it is the WebUI's code.

var opts = {};
var standIn = {loaded: [], updated: [], optionsChanged: [], isLoaded: false, soon: null, counters: {}};

function gradioApp() {
    const app = document.querySelector("gradio-app");
    if (!app) return document;
    app.getElementById = (id) => document.getElementById(id);
    return app;
}

function onUiLoaded(callback) { standIn.loaded.push(callback); }
function onAfterUiUpdate(callback) { standIn.updated.push(callback); }
function onOptionsChanged(callback) { standIn.optionsChanged.push(callback); }

var localization = {};
function hasLocalization() { return Object.keys(localization).length > 0; }
function getTranslation(text) { return localization[text]; }

function standInCall(callbacks) {
    for (const callback of callbacks) {
        try {
            callback();
        } catch (error) {
            console.error("error running callback", callback, error);
        }
    }
}

document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(() => {
        if (!standIn.isLoaded && gradioApp().querySelector("#txt2img_prompt")) {
            standIn.isLoaded = true;
            standInCall(standIn.loaded);
        }
        clearTimeout(standIn.soon);
        standIn.soon = setTimeout(() => standInCall(standIn.updated), 200);
    }).observe(document.body, {childList: true, subtree: true});
});

onUiLoaded(() => {
    for (const {props} of gradio_config.components) {
        const element = props.webui_tooltip && gradioApp().getElementById(props.elem_id);
        if (element) element.title = props.webui_tooltip;
    }
});

onAfterUiUpdate(() => {
    const box = gradioApp().querySelector("#settings_json textarea");
    if (!box || Object.keys(opts).length) return;
    opts = JSON.parse(box.value);
    standInCall(standIn.optionsChanged);
});

function randomId() { return `task(${Math.random().toString(36).slice(2)})`; }

function localSet(key, value) { localStorage.setItem(key, value); }
function localGet(key, missing) { return localStorage.getItem(key) ?? missing; }
function localRemove(key) { localStorage.removeItem(key); }

function updateInput(target) { target.dispatchEvent(new Event("input", {bubbles: true})); }

function setSubmitButtonsVisibility(tab, showInterrupt, showSkip, showInterrupting) {
    const shown = {interrupt: showInterrupt, skip: showSkip, interrupting: showInterrupting};
    for (const name in shown) gradioApp().getElementById(`${tab}_${name}`).style.display = shown[name] ? "block" : "none";
}
function showSubmitButtons(tab, show) { setSubmitButtonsVisibility(tab, !show, !show, false); }
function showSubmitInterruptingPlaceholder(tab) { setSubmitButtonsVisibility(tab, false, true, true); }
function showRestoreProgressButton(tab, show) {
    gradioApp().getElementById(`${tab}_restore_progress`)?.style.setProperty("display", show ? "flex" : "none", "important");
}

// The counter's text moves beside the prompt, and the hidden button is pressed when the prompt has been changed.
function setupTokenCounting(id, counterId, buttonId) {
    const prompt = gradioApp().getElementById(id);
    const counter = gradioApp().getElementById(counterId);
    const box = gradioApp().querySelector(`#${id} > label > textarea`);
    prompt.parentElement.insertBefore(counter, prompt);
    let soon = null;
    const count = () => {
        clearTimeout(soon);
        soon = setTimeout(() => gradioApp().getElementById(buttonId)?.click(), 300);
    };
    box.addEventListener("input", count);
    standIn.counters[buttonId] = count;
}
function toggleTokenCountingVisibility(id, counterId, buttonId) {
    gradioApp().getElementById(counterId).style.display = opts.disable_token_counters ? "none" : "block";
}
function update_token_counter(buttonId) { standIn.counters[buttonId]?.(); }

async function standInAsk(question) {
    const reply = await fetch("./internal/progress", {
        method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(question),
    });
    if (!reply.ok) throw new Error(`progress: ${reply.status}`);
    return reply.json();
}

// A bar above the container and the preview in the gallery, until the task has ended or was never heard of.
function requestProgress(id_task, progressbarContainer, gallery, atEnd, onProgress, inactivityTimeout = 40) {
    const began = Date.now();
    const bar = document.createElement("div");
    bar.className = "progressDiv";
    bar.style.display = opts.show_progressbar ? "block" : "none";
    bar.innerHTML = "<div class='progress'></div>";
    progressbarContainer.parentNode.insertBefore(bar, progressbarContainer);
    let preview = null, wasActive = false, isOver = false;

    const end = () => {
        if (isOver) return;
        isOver = true;
        bar.remove();
        preview?.remove();
        atEnd();
    };
    const pause = () => new Promise((resolve) => setTimeout(resolve, opts.live_preview_refresh_period || 500));

    (async () => {
        while (!isOver) {
            const state = await standInAsk({id_task, live_preview: false});
            const share = 100 * (state.progress || 0);
            bar.firstChild.style.width = `${share}%`;
            bar.firstChild.textContent = `${state.textinfo || ""} ${share.toFixed(0)}%`;
            wasActive ||= state.active;
            const isIdle = !state.active && (wasActive || (!state.queued && Date.now() - began > 1000 * inactivityTimeout));
            if (state.completed || isIdle) return end();
            onProgress?.(state);
            await pause();
        }
    })().catch(end);

    (async () => {
        let known = 0;
        while (gallery && !isOver) {
            const state = await standInAsk({id_task, id_live_preview: known});
            if (isOver) return;
            known = state.id_live_preview;
            if (state.live_preview) {
                if (!preview) {
                    preview = document.createElement("div");
                    preview.className = "livePreview";
                    gallery.insertBefore(preview, gallery.firstElementChild);
                }
                const image = new Image();
                image.src = state.live_preview;
                preview.replaceChildren(image);
            }
            await pause();
        }
    })().catch(end);
}

// ---- The other tabs

function standInOpen(index) { gradioApp().querySelector("#tabs").querySelectorAll("button")[index].click(); }
function switch_to_txt2img() { standInOpen(0); return Array.from(arguments); }
function switch_to_img2img() { standInOpen(1); return Array.from(arguments); }
function switch_to_inpaint() { standInOpen(1); return Array.from(arguments); }
function switch_to_extras() { standInOpen(2); return Array.from(arguments); }
