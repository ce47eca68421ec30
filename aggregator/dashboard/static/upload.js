// Send a file to the node that keeps it, piece by piece, and go on where it stopped.
// Each piece is on the storage before the next is sent; what is done is remembered.
"use strict";
(() => {
  const PIECE_BYTES = 8 * 1024 * 1024;
  const ASK_MS = 1000; // how often we ask how far the server is
  const TRIES = 5; // of one piece, each after a longer pause
  const PAUSE_MS = 1000;
  const QCOW2_MAGIC = 0x514649fb;

  const byId = (id) => document.getElementById(id);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const zone = byId("upload");
  if (!zone) {
    return;
  }
  const form = byId("upload-form");
  const words = byId("upload-words").content;
  const word = (name) => words.querySelector(`[data-word="${name}"]`).textContent;

  // What a new beginning may mend: the ids that are remembered are of no use.
  const OVER = ["upload_gone", "upload_failed", "upload_disk_not_made", "bad_draft"];

  class Refused extends Error {
    constructor(text, isOver = true) {
      super(text);
      this.isOver = isOver;
    }
  }

  class Unreached extends Error {}

  // ---- what is remembered of a file: its ids, and how much is on the storage

  const keyOf = (file) => `skerry-upload ${file.name} ${file.size} ${file.lastModified}`;

  function recall(file) {
    try {
      return JSON.parse(localStorage.getItem(keyOf(file)));
    } catch {
      return null;
    }
  }

  function remember(file, known) {
    try {
      localStorage.setItem(keyOf(file), JSON.stringify(known));
    } catch {
      // storage is forbidden: an interruption begins anew
    }
  }

  const forget = (file) => remember(file, null);

  // ---- what the page shows

  const size = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    for (; bytes >= 1024 && unit < units.length - 1; unit += 1) {
      bytes /= 1024;
    }
    return `${bytes.toFixed(bytes < 100 && unit ? 1 : 0)} ${units[unit]}`;
  };

  function show(text, share) {
    byId("upload-progress").hidden = false;
    byId("upload-text").textContent = text;
    if (share !== undefined) {
      byId("upload-bar").value = Math.round(1000 * share);
    }
  }

  function showEnd(text, { mayGoOn = false, mayStop = false } = {}) {
    show(text);
    byId("upload-again").hidden = !mayGoOn;
    byId("upload-stop").hidden = !mayStop;
    byId("upload-file").disabled = false;
  }

  // ---- the steps

  async function ask(what, fields) {
    const body = new URLSearchParams({ csrf: form.elements.csrf.value, ...fields });
    const response = await fetch(`/ui/uploads/${what}`, { method: "POST", body });
    if (response.status === 401) {
      location.reload(); // the session has ended
    }
    const answer = await response.json();
    if (!response.ok) {
      const isOver = OVER.includes(answer.code);
      throw new Refused(`${answer.error}. ${answer.remedy}`, isOver);
    }
    return answer;
  }

  async function look(file) {
    const head = new DataView(await file.slice(0, 32).arrayBuffer());
    const isQcow2 = head.byteLength === 32 && head.getUint32(0) === QCOW2_MAGIC;
    if (!file.size) {
      throw new Refused(word("empty"));
    }
    if (isQcow2 && head.getBigUint64(8)) {
      throw new Refused(word("backed"));
    }
    return {
      disk_format: isQcow2 ? "qcow2" : "raw",
      disk_bytes: String(isQcow2 ? head.getBigUint64(24) : file.size),
      file_bytes: String(file.size),
    };
  }

  async function open(task) {
    for (;;) {
      const answer = await ask("begin", task.fields);
      if (answer.url) {
        return answer.url;
      }
      if (answer.phase.startsWith("finalizing") || answer.phase.startsWith("finished")) {
        return null; // all was sent before
      }
      show(word(answer.phase === "making" ? "making" : "waiting"));
      await pause(ASK_MS);
    }
  }

  async function put(url, piece, start) {
    const end = start + piece.size - 1;
    let response;
    try {
      response = await fetch(url, {
        method: "PUT",
        body: piece,
        headers: { "Content-Range": `bytes ${start}-${end}/*` },
      });
    } catch {
      throw new Unreached(word("unreachable"));
    }
    const text = (await response.text()).trim();
    if (!response.ok) {
      throw new Unreached(meaning(text) || String(response.status));
    }
  }

  // The node answers in plain words, what is on the way in the form of our errors.
  function meaning(text) {
    try {
      const { message, remedy } = JSON.parse(text).error;
      return `${message}. ${remedy}`;
    } catch {
      return text;
    }
  }

  async function putAgain(task, piece, start) {
    for (let tried = 1; ; tried += 1) {
      try {
        await put(task.url, piece, start);
        return;
      } catch (error) {
        if (!(error instanceof Unreached) || tried === TRIES || task.isStopped) {
          throw error;
        }
        await pause(tried * PAUSE_MS);
        task.url = await open(task); // it may be paused, or elsewhere
      }
    }
  }

  async function send(task) {
    const { file } = task;
    task.url = await open(task);
    while (task.url && task.sent < file.size && !task.isStopped) {
      const piece = file.slice(task.sent, task.sent + PIECE_BYTES);
      await putAgain(task, piece, task.sent);
      task.sent += piece.size;
      remember(file, { fields: task.fields, sent: task.sent });
      show(`${size(task.sent)} / ${size(file.size)} ${word("sent")}`, task.sent / file.size);
    }
  }

  async function finish(task) {
    show(word("checking"), 1);
    for (;;) {
      const answer = await ask("finish", task.fields);
      if (answer.phase === "finished_success") {
        return;
      }
      await pause(ASK_MS);
    }
  }

  async function giveUp(task) {
    for (;;) {
      const answer = await ask("give-up", task.fields);
      if (answer.phase === "gone") {
        return;
      }
      await pause(ASK_MS);
    }
  }

  // ---- one file at a time

  let current = null;

  async function run(task) {
    current = task;
    task.isStopped = false;
    byId("upload-name").textContent = task.file.name;
    byId("upload-again").hidden = true;
    byId("upload-stop").hidden = false;
    byId("upload-file").disabled = true;
    show(word("making"), task.sent / task.file.size);
    try {
      await send(task);
      if (task.isStopped) {
        await giveUp(task);
        forget(task.file);
        showEnd(word("given_up"));
        return;
      }
      await finish(task);
      forget(task.file);
      showEnd(word("done"));
    } catch (error) {
      if (error instanceof Refused && error.isOver) {
        forget(task.file);
        showEnd(error.message);
        return;
      }
      const isOurs = error instanceof Refused || error instanceof Unreached;
      const text = `${word("interrupted")} ${isOurs ? error.message : ""}`;
      showEnd(text.trim(), { mayGoOn: true, mayStop: true });
    }
  }

  async function take(file) {
    if (byId("upload-file").disabled) {
      return;
    }
    const known = recall(file);
    if (known) {
      await run({ file, fields: known.fields, sent: known.sent });
      return;
    }
    let found;
    try {
      found = await look(file);
    } catch (error) {
      byId("upload-name").textContent = file.name;
      showEnd(error.message);
      return;
    }
    const fields = {
      disk_id: crypto.randomUUID(),
      transfer_id: crypto.randomUUID(),
      name: file.name.replace(/\.(raw|img|qcow2)$/i, ""),
      storage_domain_id: form.elements.storage_domain_id.value,
      ...found,
    };
    remember(file, { fields, sent: 0 });
    await run({ file, fields, sent: 0 });
  }

  byId("upload-file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // the same file may be chosen again
    if (file) {
      take(file);
    }
  });

  byId("upload-again").addEventListener("click", () => run(current));

  byId("upload-stop").addEventListener("click", () => {
    const wasRunning = byId("upload-file").disabled;
    current.isStopped = true;
    if (!wasRunning) {
      giveUp(current)
        .then(() => { forget(current.file); showEnd(word("given_up")); })
        .catch((error) => showEnd(error.message, { mayGoOn: true, mayStop: true }));
    }
  });

  const hasFile = (event) => event.dataTransfer?.types.includes("Files");

  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      if (hasFile(event)) {
        event.preventDefault();
        zone.classList.add("is-over");
      }
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) {
      zone.classList.remove("is-over");
    }
  });
  document.addEventListener("drop", (event) => {
    zone.classList.remove("is-over");
    if (hasFile(event)) {
      event.preventDefault();
      take(event.dataTransfer.files[0]);
    }
  });

  window.addEventListener("beforeunload", (event) => {
    if (byId("upload-file").disabled) {
      event.preventDefault(); // it is asked whether to leave
    }
  });
})();
