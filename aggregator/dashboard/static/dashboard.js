// Keep the page as the fleet is, send forms without a jump, listen to keys.
// Without this script every page works by links and forms.
"use strict";
(() => {
  const LIVE_HEADER = "X-Skerry-Live";
  const WAIT_S = 20; // the longest that the server lets a question wait
  const PAUSE_MS = 1000; // between questions that were answered at once
  const HIDDEN_PAUSE_MS = 15000; // nobody looks
  const REFRESH_PAUSE_MS = 300; // changes come in bursts
  const REFRESH_SHARE = 4; // a page that takes long is drawn less often
  const PICTURE_PAUSE_MS = 5000;
  const CHORD_MS = 1500; // between the g and the v of "g v"

  const byId = (id) => document.getElementById(id);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const jitter = (ms) => ms * (0.75 + Math.random() / 2);

  function remember(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch {
      // storage is forbidden: it is forgotten with the page
    }
  }

  function recall(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null;
    }
  }

  // ---- morphing: what the server drew into what stands here

  // What the person opened, chose or looks at stays as it is.
  const isOurs = (name, node) =>
    (name === "open" && node.tagName === "DETAILS") ||
    (name === "value" && node.tagName === "INPUT" && node.type !== "hidden") ||
    (name === "src" && node.hasAttribute("data-picture"));

  function morph(old, fresh) {
    if (window.Idiomorph) {
      window.Idiomorph.morph(old, fresh, {
        morphStyle: "outerHTML",
        ignoreActiveValue: true,
        callbacks: {
          beforeAttributeUpdated: (name, node) => !isOurs(name, node),
          beforeNodeMorphed: (node) =>
            !(node.nodeType === 1 && node.hasAttribute("data-text")),
        },
      });
    } else if (!old.contains(document.activeElement) && !old.querySelector("details[open]")) {
      old.innerHTML = fresh.innerHTML;
    }
  }

  const parse = (text) => new DOMParser().parseFromString(text, "text/html");

  function takeRegions(fresh, selector) {
    for (const region of document.querySelectorAll(selector)) {
      const drawn = fresh.getElementById(region.id);
      if (drawn) {
        morph(region, drawn);
      }
    }
  }

  function takeMoment(response) {
    document.body.dataset.moment =
      response.headers.get("X-Skerry-Moment") || document.body.dataset.moment;
  }

  // ---- live updates

  let refreshing = null;

  function refresh() {
    refreshing ??= (async () => {
      const started = performance.now();
      try {
        const response = await fetch(location.href, {
          headers: { [LIVE_HEADER]: "1" },
          cache: "no-store",
        });
        if (response.redirected || response.status === 401) {
          location.reload(); // the session has ended
          return;
        }
        const isGone = response.status === 404;
        if (!response.ok && !isGone) {
          throw new Error(String(response.status));
        }
        const fresh = parse(await response.text());
        // both at once: another answer may have come while this one was read
        takeMoment(response);
        takeRegions(fresh, "[data-live]");
      } finally {
        const took = performance.now() - started;
        await pause(Math.max(REFRESH_PAUSE_MS, REFRESH_SHARE * took));
        refreshing = null;
      }
    })();
    return refreshing;
  }

  async function ask() {
    // who is told that the server is gone wants to know at once that it is back
    const wait = document.hidden || !byId("offline").hidden ? 0 : WAIT_S;
    const since = encodeURIComponent(document.body.dataset.moment);
    const response = await fetch(`/ui/changes?since=${since}&wait_s=${wait}`, {
      cache: "no-store",
    });
    if (response.status === 401) {
      location.reload();
      return PAUSE_MS;
    }
    if (!response.ok) {
      throw new Error(String(response.status));
    }
    const answer = await response.json();
    if (answer.moment !== document.body.dataset.moment && !document.hidden) {
      await refresh();
      return 0;
    }
    return answer.has_waited ? 0 : jitter(PAUSE_MS);
  }

  let wake = () => {};

  async function watch() {
    for (;;) {
      let rest = 2 * PAUSE_MS;
      try {
        rest = await ask();
        byId("offline").hidden = true;
      } catch {
        byId("offline").hidden = false;
      }
      rest = document.hidden ? jitter(HIDDEN_PAUSE_MS) : rest;
      await Promise.race([pause(rest), new Promise((done) => { wake = done; })]);
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) {
      wake();
    }
  });

  // Ages grow also when nothing else changes.
  const UNITS = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min"], [1, "s"]];

  function span(seconds) {
    const [step, unit, smaller, smallerUnit] =
      UNITS.find(([each]) => seconds >= each) || UNITS.at(-1);
    const large = `${Math.floor(seconds / step)} ${unit}`;
    const rest = smaller ? Math.floor((seconds % step) / smaller) : 0;
    return rest ? `${large} ${rest} ${smallerUnit}` : large;
  }

  // The server's clock counts, not the browser's: only what passed here is ours.
  function growAges() {
    const now = performance.now();
    for (const time of document.querySelectorAll("time:not(.number)")) {
      if (time.drawnText !== time.textContent) {
        time.drawnText = time.textContent;
        time.drawnAt = now;
        time.drawnAge = secondsIn(time.textContent);
      }
      const text = span(time.drawnAge + (now - time.drawnAt) / 1000);
      if (time.drawnAge !== null && text !== time.textContent) {
        const { drawnAge, drawnAt } = time;
        time.textContent = text;
        Object.assign(time, { drawnText: text, drawnAge, drawnAt });
      }
    }
  }

  function secondsIn(text) {
    const parts = [...text.matchAll(/(\d+) (d|h|min|s)/g)];
    const size = { d: 86400, h: 3600, min: 60, s: 1 };
    return parts.reduce((sum, [, number, unit]) => sum + number * size[unit], 0);
  }

  setInterval(growAges, PAUSE_MS);

  // ---- what a node shows of a VM: its screen and its serial line

  async function look() {
    if (document.hidden) {
      return;
    }
    const screen = byId("screen");
    if (screen) {
      const next = new Image();
      next.onload = () => { screen.src = next.src; };
      next.src = `${screen.getAttribute("src").split("?")[0]}?at=${Date.now()}`;
    }
    const serial = byId("serial");
    if (serial) {
      try {
        const response = await fetch(serial.dataset.text, { cache: "no-store" });
        if (response.ok) {
          const isAtEnd =
            serial.scrollTop + serial.clientHeight >= serial.scrollHeight - 8;
          serial.textContent = await response.text();
          if (isAtEnd) {
            serial.scrollTop = serial.scrollHeight;
          }
        }
      } catch {
        // the banner says so already
      }
    }
  }

  look();
  setInterval(look, PICTURE_PAUSE_MS);

  // ---- forms and questions

  const dialog = byId("dialog");

  async function takePage(response) {
    if (new URL(response.url).pathname === "/ui/login") {
      location.reload(); // the session has ended
      return;
    }
    const fresh = parse(await response.text());
    takeMoment(response);
    document.title = fresh.title;
    history.replaceState(null, "", response.url);
    takeRegions(fresh, "#note, #nav, #page, #tasks");
  }

  async function send(form) {
    const buttons = form.querySelectorAll("button");
    buttons.forEach((button) => { button.disabled = true; });
    try {
      const response = await fetch(form.action, {
        method: "POST",
        body: form.enctype === "multipart/form-data"
          ? new FormData(form) : new URLSearchParams(new FormData(form)),
      });
      form.closest("details[open]")?.removeAttribute("open");
      dialog.close();
      await takePage(response);
    } catch {
      form.submit(); // let the browser tell what is wrong
    } finally {
      buttons.forEach((button) => { button.disabled = false; });
    }
  }

  async function question(address) {
    const response = await fetch(address, { headers: { [LIVE_HEADER]: "1" } });
    const content = parse(await response.text()).querySelector("#page .question");
    if (!response.ok || response.redirected || !content) {
      location.href = address;
      return;
    }
    dialog.replaceChildren(content);
    dialog.showModal();
  }

  document.addEventListener("submit", (event) => {
    if (event.target.matches("form[data-form]")) {
      event.preventDefault();
      send(event.target);
    }
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const isPlain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.button);
    if (link && isPlain && link.hasAttribute("data-dialog")) {
      event.preventDefault();
      link.closest("details[open]")?.removeAttribute("open");
      question(link.href).catch(() => { location.href = link.href; });
    } else if (link && dialog.open && link.hasAttribute("data-close")) {
      event.preventDefault();
      dialog.close();
    } else if (link && link.matches("#note .close")) {
      event.preventDefault();
      byId("note").replaceChildren();
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) {
        menu.removeAttribute("open");
      }
    }
  });

  // ---- light and dark, tasks, keys

  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    remember("skerry-theme", root.dataset.theme);
  });

  const drawer = byId("tasks-drawer");
  drawer.open = recall("skerry-tasks") === "open";
  drawer.addEventListener("toggle", () => {
    remember("skerry-tasks", drawer.open ? "open" : "closed");
  });

  const help = byId("help");
  byId("help-open").addEventListener("click", () => help.showModal());

  function moveRow(step) {
    const links = [...document.querySelectorAll("[data-row] .name a")];
    if (!links.length) {
      return;
    }
    const here = links.findIndex((link) =>
      link.closest("[data-row]").contains(document.activeElement));
    const next = here < 0 ? (step > 0 ? 0 : links.length - 1) : here + step;
    links[Math.min(Math.max(next, 0), links.length - 1)].focus();
  }

  const go = (address) => { location.href = address; };
  const jumps = {
    "c v": () => go("/ui/vms/new"),
    "c d": () => go("/ui/disks/new"),
  };
  for (const link of document.querySelectorAll("[data-jump]")) {
    jumps[`g ${link.dataset.jump}`] = () => go(link.href);
  }
  const keys = {
    "/": () => byId("search").select(),
    "?": () => help.showModal(),
    j: () => moveRow(1),
    k: () => moveRow(-1),
    t: () => { drawer.open = !drawer.open; },
  };

  let first = "";
  let firstAt = 0;

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.ctrlKey && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      byId("search").select();
      return;
    }
    if (event.key === "Escape" && target.matches("input, textarea, select")) {
      target.blur();
      return;
    }
    const isTyping = target.matches("input, textarea, select") || target.isContentEditable;
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    if (document.querySelector("dialog[open]")) {
      return;
    }
    const chord = `${first} ${event.key}`;
    const act =
      (performance.now() - firstAt < CHORD_MS && jumps[chord]) || keys[event.key];
    first = event.key;
    firstAt = performance.now();
    if (act) {
      event.preventDefault();
      first = "";
      act();
    }
  });

  watch();
})();
