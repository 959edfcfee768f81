// What pages do with script. Without it they can be read, and their forms work.

const root = document.documentElement;
const body = document.body;

// Times: the relay writes UTC; here they are shown in the zone of the viewer, with UTC on hover.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

function span(ms) {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

function showTimes() {
  const now = new Date();
  for (const element of document.querySelectorAll("time[data-as]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    if (element.dataset.as === "ago") {
      const ms = now - at;
      element.textContent = Math.abs(ms) < 1000 ? "now" : ms > 0 ? `${span(ms)} ago` : `in ${span(-ms)}`;
    } else {
      element.textContent = (at.toDateString() === now.toDateString() ? clock : day).format(at);
    }
    element.title = `${full.format(at)}\n${at.toISOString().replace("T", " ").replace("Z", " UTC")}`;
  }
}

// Live: one stream for all tabs of the browser says that something has changed. Then the part of the page with the id
// `live` is read again, unless the viewer scrolls, selects or types: then a button offers the new state.

const CHANNEL = "tidegate-changes";
const REFRESH_MS = 2000;
const state = document.getElementById("live-state");
const live = document.getElementById("live");
let channel;
let source;
let releaseLock;
let lastRefresh = 0;
let due = false;
let timer;

function say(word, text) {
  if (!state) return;
  state.hidden = false;
  state.dataset.state = word;
  state.querySelector(".word").textContent = text;
  state.title = text;
}

// One tab holds the lock and the stream, and tells the others. Without locks (plain HTTP) each tab has its own stream.
function connect() {
  const url = new URL(body.dataset.stream, location.href);
  channel ??= new BroadcastChannel(`${CHANNEL}${url.search}`);
  channel.onmessage = (message) => received(message.data, false);
  if (navigator.locks) {
    say("live", "Live");
    navigator.locks.request(`${CHANNEL}${url.search}`, () => new Promise((resolve) => { releaseLock = resolve; open(url); }));
  } else {
    open(url);
  }
}

function open(url) {
  if (document.hidden) return releaseLock?.();
  source = new EventSource(url);
  source.onopen = () => tell({ state: "live" });
  source.onerror = () => tell({ state: source.readyState === EventSource.CLOSED ? "off" : "retrying" });
  source.addEventListener("changed", () => tell({ changed: true }));
}

function tell(message) {
  channel?.postMessage(message);
  received(message);
}

function received(message) {
  if (message.state === "live") say("live", "Live");
  else if (message.state === "retrying") say("retrying", "Reconnecting");
  else if (message.state === "off") say("off", "Not live: reload the page");
  else if (message.changed) changed();
}

function disconnect() {
  source?.close();
  source = undefined;
  releaseLock?.();
  releaseLock = undefined;
}

function isBusy() {
  const active = document.activeElement;
  const types = active && active !== body && live.contains(active) && active.matches("input, select, textarea");
  const selects = String(getSelection()).length > 0;
  const ticked = live.querySelector("input[type=checkbox]:checked") !== null;
  const scrolled = scrollY > 200 && live.dataset.liveScrolled === undefined;
  // Details that someone has opened would be closed by what is read again.
  const opened = document.querySelector("dialog[open]") !== null || live.querySelector("details[open]") !== null;
  const older = new URL(location.href).searchParams.has("cursor");
  return types || selects || ticked || scrolled || opened || older;
}

function changed() {
  due = true;
  if (timer) return;
  timer = setTimeout(() => { timer = undefined; if (due) refresh(false); }, Math.max(0, lastRefresh + REFRESH_MS - Date.now()));
}

function refresh(asked) {
  if (!asked && isBusy()) return offer();
  due = false;
  lastRefresh = Date.now();
  document.getElementById("newer")?.remove();
  return htmx.ajax("GET", location.href, { target: "#live", select: "#live", swap: "morph:outerHTML", headers: { "tidegate-live": "1" } });
}

function offer() {
  if (document.getElementById("newer")) return;
  const button = document.createElement("button");
  button.id = "newer";
  button.className = "newer primary";
  button.textContent = "Show what has changed";
  button.onclick = () => { scrollTo({ top: 0 }); refresh(true); };
  document.getElementById("content").prepend(button);
}

if (live?.dataset.live !== undefined) {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else { connect(); changed(); }
  });
  addEventListener("pagehide", disconnect);
  if (!document.hidden) connect();
  document.addEventListener("scroll", () => { if (due && !isBusy()) changed(); }, { passive: true });
}

// A part of a page that changes by itself, such as the progress of an operation, without an event in the stream.
const every = Number(live?.dataset.every);
if (every) setInterval(() => { if (!document.hidden && !isBusy()) refresh(false); }, every * 1000);

document.addEventListener("htmx:afterSettle", () => { showTimes(); marks(); });

// Keys. Letters count only outside of fields.

const GO = { o: "", e: "/events", d: "/deliveries", a: "/alerts", s: "/sources", t: "/destinations", f: "/flow", r: "/operations", q: "/quarantine", y: "/system" };
let went = 0;

function rows() { return [...document.querySelectorAll("[data-rows] tbody tr")]; }

function go(path) {
  const url = new URL(body.dataset.root, location.href);
  url.pathname += path;
  location.href = url.href;
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("is-current"));
  const next = Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by));
  all[at]?.classList.remove("is-current");
  all[next].classList.add("is-current");
  all[next].scrollIntoView({ block: "nearest" });
  all[next].querySelector("a.row-link, a")?.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.closest?.("input:not([type=checkbox]), select, textarea, dialog, tidegate-editor, [contenteditable]")) {
    if (event.key === "Escape") target.blur?.();
    return;
  }
  const current = document.querySelector("tr.is-current");
  const handled = (() => {
    if (went && Date.now() - went < 1500) {
      went = 0;
      if (event.key in GO) { go(GO[event.key]); return true; }
    }
    switch (event.key) {
      case "/": document.getElementById("find")?.focus(); return true;
      case "?": document.getElementById("keys")?.showModal(); return true;
      case "g": went = Date.now(); return true;
      case "j": step(1); return true;
      case "k": step(-1); return true;
      case "x": { const tick = current?.querySelector("input[type=checkbox]"); tick?.click(); return Boolean(tick); }
      case "r": { const retry = document.querySelector("[data-key=r]:not([disabled])"); retry?.click(); return Boolean(retry); }
      case ".": { const first = document.querySelector(".page-head .actions a, .page-head .actions button"); first?.focus(); return Boolean(first); }
      default: return false;
    }
  })();
  if (handled) event.preventDefault();
});

// Buttons: copy a text, close a notice, open and close a dialog, confirm, and tick all rows.

function marks() {
  for (const element of document.querySelectorAll("[data-copy], [data-close], [data-opens], [data-script]")) element.hidden = false;
  for (const form of document.querySelectorAll("[data-ticks]")) count(form);
}

function count(form) {
  const ticks = [...form.querySelectorAll("input[type=checkbox][name=id]")];
  const ticked = ticks.filter((tick) => tick.checked).length;
  for (const element of form.querySelectorAll("[data-ticked]")) element.textContent = ticked;
  for (const button of form.querySelectorAll("[data-needs-ticks]")) button.disabled = ticked === 0;
  const all = form.querySelector("input[data-tick-all]");
  if (all) { all.checked = ticked > 0 && ticked === ticks.length; all.indeterminate = ticked > 0 && ticked < ticks.length; }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button, a");
  if (!button) return;
  if (button.dataset.copy !== undefined) {
    const text = button.dataset.copy || document.getElementById(button.dataset.copies)?.textContent || "";
    const was = button.textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Press Ctrl+C"; }
    setTimeout(() => { button.textContent = was; }, 1500);
  } else if (button.dataset.close) {
    document.getElementById(button.dataset.close)?.remove();
  } else if (button.dataset.opens) {
    event.preventDefault();
    document.getElementById(button.dataset.opens)?.showModal();
  }
});

document.addEventListener("change", (event) => {
  const form = event.target.closest?.("[data-ticks]");
  if (!form) return;
  if (event.target.matches("[data-tick-all]")) {
    for (const tick of form.querySelectorAll("input[type=checkbox][name=id]")) tick.checked = event.target.checked;
  }
  count(form);
});

// A form is sent once.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  for (const button of event.target.querySelectorAll("button:not([type=button])")) setTimeout(() => { button.disabled = true; });
});
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

root.classList.add("has-script");
showTimes();
marks();
setInterval(showTimes, 10000);
