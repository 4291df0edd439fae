// Keeps a page live, and asks before anything is done. The server draws everything; regions marked data-live are taken
// from a fresh copy of the page whenever the server tells of a change.
"use strict";

const QUIET = 700; // ms, at least, between two looks
const REGULAR = 15000; // ms, until a look although nothing was told
const PATIENCE = 8000; // ms, for an answer
const AGAIN = 3000; // ms, until a new connection is tried

const link = document.getElementById("link");
const away = document.getElementById("away");
const drawn = new Map(); // the server's own text of each region, to change only what changed
let looking = false;
let stale = false;
let lastLook = 0;

function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

let behind = 0; // ms that this clock is ahead of the server's
function tick() {
  for (const time of document.querySelectorAll("time.since")) {
    time.textContent = span((Date.now() - behind - Date.parse(time.dateTime)) / 1000);
  }
}

function dress(root) {
  for (const button of root.querySelectorAll("button[data-path]")) button.hidden = false;
  for (const time of root.querySelectorAll("time:not(.since)")) {
    time.textContent = new Date(time.dateTime).toLocaleString();
  }
}

function isHere(here) {
  link.textContent = here ? "live" : "away";
  link.classList.toggle("live", here);
  document.body.classList.toggle("gone", !here);
  if (here) away.hidden = true;
  else if (away.hidden) {
    away.textContent = "The server does not answer. What you see is as it was; this page goes on by itself.";
    away.hidden = false;
  }
}

function take(page) {
  const focused = document.activeElement && document.activeElement.id;
  for (const fresh of page.querySelectorAll("[data-live]")) {
    const text = fresh.innerHTML;
    const old = document.getElementById(fresh.id);
    if (!old || drawn.get(fresh.id) === text) continue;
    drawn.set(fresh.id, text);
    const now = document.importNode(fresh, true);
    dress(now);
    old.replaceWith(now);
  }
  if (focused && document.activeElement === document.body) {
    const again = document.getElementById(focused);
    if (again) again.focus({ preventScroll: true });
  }
  tick();
}

async function look() {
  stale = true;
  if (looking || document.hidden) return;
  looking = true;
  await new Promise((done) => setTimeout(done, Math.max(0, lastLook + QUIET - Date.now())));
  stale = false;
  lastLook = Date.now();
  try {
    const answer = await fetch(location.pathname, { signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 401) return location.reload();
    if (answer.ok) {
      const at = Date.parse(answer.headers.get("date"));
      if (at) behind = Date.now() - at;
      take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      isHere(true);
    }
  } catch {
    isHere(false);
  }
  looking = false;
  if (stale) look();
}

function listen() {
  const source = new EventSource("/api/v1/events");
  source.onopen = look;
  for (const kind of ["job", "runner", "cooldown", "draining"]) source.addEventListener(kind, look);
  source.onerror = () => {
    isHere(false);
    source.close();
    setTimeout(listen, AGAIN);
  };
  addEventListener("pagehide", () => source.close(), { once: true });
}

async function act(button) {
  const dialog = document.getElementById("confirm");
  const force = document.getElementById("confirm-force");
  document.getElementById("confirm-title").textContent = button.dataset.title;
  document.getElementById("confirm-text").textContent = button.dataset.text;
  document.getElementById("confirm-yes").textContent = button.textContent;
  force.hidden = !button.dataset.force;
  force.querySelector("input").checked = false;
  force.querySelector("span").textContent = button.dataset.force || "";
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  if (dialog.returnValue !== "yes") return;
  const forced = force.querySelector("input").checked ? "?force=true" : "";
  try {
    const { method, path, body } = button.dataset;
    const headers = body ? { "content-type": "application/json" } : {};
    const answer = await fetch(path + forced, { method, body, headers });
    if (!answer.ok) throw new Error((await answer.json()).detail);
  } catch (error) {
    away.textContent = `It was not done: ${error.message}`;
    away.hidden = false;
    setTimeout(() => { away.hidden = true; }, 10000);
  }
  look();
}

addEventListener("click", (event) => {
  const button = event.target.closest("button[data-path]");
  if (button) act(button);
});
document.addEventListener("visibilitychange", look);
setInterval(look, REGULAR);
setInterval(tick, 1000);
dress(document);
listen();
