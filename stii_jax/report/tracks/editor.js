// Corrections: forms, undo, files, and the table of objects. This file starts the page.

function fillSelect(select, tracks, chosen) {
  const before = tracks.some(({ id }) => String(id) === select.value) ? select.value : String(chosen ?? "");
  select.replaceChildren(...tracks.map(({ id, name }) =>
    element("option", { value: id }, /^(object \d+|background)$/.test(name) ? name : `${id} ${name}`)));
  select.value = before;
}

function save(name, type, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

class App {
  constructor(page) {
    this.page = page;
    this.table = parseTable(page.table, page.slots, page.cuts);
    this.frame = 0;
    this.edits = [];
    this.saved = "[]";
    this.update();
  }

  update() {
    this.state = replay(this.table, this.page.background, this.edits);
    this.series = trackSeries(this.table, this.state);
  }

  track(id) {
    return this.state.tracks.find((one) => one.id === id);
  }

  // The tracks that are visible in some frame. A model has more slots than the scene has objects.
  objects() {
    return this.state.tracks.filter(({ id, background }) => !background && this.series.get(id).count);
  }

  color(id) {
    return this.page.colors[id % this.page.colors.length];
  }

  // The track's number, followed by its name if it was renamed.
  label(id) {
    const { name } = this.track(id);
    return name === `object ${id}` ? String(id) : `${id} ${name}`;
  }

  nameTag(id) {
    const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.backgroundColor = rgb(this.color(id));
    return element("span", { class: "tag" }, swatch, element("strong", {}, this.track(id).name));
  }
}

class ObjectTable {
  constructor(app, rename) {
    this.app = app;
    this.rename = rename;
  }

  rebuild() {
    this.cells = new Map();
    const rows = this.app.objects().map(({ id, name }) => {
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.backgroundColor = rgb(this.app.color(id));
      const field = element("input", { type: "text", value: name, maxlength: 80, "aria-label": `Name of object ${id}`, "data-object": id });
      field.addEventListener("change", () => this.rename(id, field.value));
      const cells = Array.from({ length: 4 }, () => element("td", { class: "number" }));
      this.cells.set(id, { cells, speed: speeds(this.app.table, this.app.series.get(id)) });
      const head = element("th", { scope: "row" }, element("span", { class: "tag" }, swatch, String(id)));
      return element("tr", {}, head, element("td", {}, field), ...cells);
    });
    byId("objects-rows").replaceChildren(...rows);
    const shown = this.app.objects();
    const absent = this.app.state.tracks.filter((one) => !one.background && !shown.includes(one));
    byId("absent").textContent = absent.length ? `Never visible: ${absent.map(({ name }) => name).join(", ")}.` : "";
    this.show();
  }

  show() {
    const { frame, series } = this.app;
    for (const [id, { cells, speed }] of this.cells) {
      const { x, y, area } = series.get(id);
      const seen = !Number.isNaN(x[frame]);
      const values = seen ? [x[frame].toFixed(1), y[frame].toFixed(1), rounded(area[frame])] : ["not visible", "–", "–"];
      [...values, rounded(speed[frame])].forEach((value, i) => (cells[i].textContent = value));
    }
    byId("objects-frame").textContent = `in frame ${frame}`;
  }
}

function startEditor(app, changed) {
  const message = byId("message");
  const selects = { merge: ["merge-object", "merge-into"], split: ["split-object"], swap: ["swap-object", "swap-with"] };

  function say(text, wrong = false) {
    message.textContent = text;
    message.classList.toggle("wrong", wrong);
  }

  function attempt(action) {
    try {
      say(action());
    } catch (error) {
      say(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`, true);
    }
  }

  function setEdits(edits) {
    app.edits = edits;
    app.update();
    changed();
  }

  function add(edit) {
    applyEdit(app.table, app.state, edit); // if this throws, nothing has changed
    setEdits([...app.edits, edit]);
    return `Done: ${describeEdit(edit)}.`;
  }

  function undo() {
    if (!app.edits.length) throw new Error("there is nothing to undo");
    const gone = app.edits[app.edits.length - 1];
    setEdits(app.edits.slice(0, -1));
    return `Undone: ${describeEdit(gone)}.`;
  }

  const chosen = (id) => Number(byId(id).value);
  const MAKE = {
    merge: () => ({ do: "merge", object: chosen("merge-object"), into: chosen("merge-into") }),
    split: () => ({ do: "split", object: chosen("split-object"), from: app.frame }),
    swap: () => ({ do: "swap", object: chosen("swap-object"), with: chosen("swap-with"), from: app.frame }),
  };
  for (const [name, make] of Object.entries(MAKE)) byId(name).addEventListener("click", () => attempt(() => add(make())));
  byId("undo").addEventListener("click", () => attempt(undo));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=text], input[type=number]");
    if (typing || event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey) return;
    event.preventDefault();
    attempt(undo);
  });

  const stem = app.page.name.replace(/\.[^.]+$/, "");
  byId("save-table").addEventListener("click", () => {
    save(`${stem}-tracks.csv`, "text/csv", exportTable(app.table, app.state));
    app.saved = JSON.stringify(app.edits);
    say(`Saved ${stem}-tracks.csv.`);
  });
  byId("save-edits").addEventListener("click", () => {
    save(`${stem}-corrections.json`, "application/json", writeEdits(app.table, app.page.name, app.edits));
    app.saved = JSON.stringify(app.edits);
    say(`Saved ${stem}-corrections.json.`);
  });
  byId("load-edits").addEventListener("change", async (event) => {
    const text = await event.target.files[0].text();
    event.target.value = "";
    attempt(() => {
      const edits = readEdits(app.table, app.page.background, text);
      setEdits(edits);
      return `Loaded ${edits.length} corrections; they replace the previous ones.`;
    });
  });
  window.addEventListener("beforeunload", (event) => {
    if (JSON.stringify(app.edits) !== app.saved) event.preventDefault();
  });

  function rebuild() {
    const [everything, objects] = [app.state.tracks, app.objects()];
    fillSelect(byId("merge-object"), objects, objects[1]?.id ?? objects[0]?.id);
    fillSelect(byId("merge-into"), everything, objects[0]?.id);
    fillSelect(byId("split-object"), objects, objects[0]?.id);
    fillSelect(byId("swap-object"), everything, objects[0]?.id);
    fillSelect(byId("swap-with"), everything, objects[1]?.id ?? everything[0].id);
    const none = element("li", { class: "none" }, "none yet");
    byId("edits").replaceChildren(...(app.edits.length ? app.edits.map((edit) => element("li", {}, describeEdit(edit))) : [none]));
    byId("undo").disabled = app.edits.length === 0;
  }

  function showFrame() {
    for (const id of ["split", "swap"]) byId(`${id}-frame`).textContent = app.frame;
  }

  return { add: (edit) => attempt(() => add(edit)), rebuild, showFrame, selects };
}

function start(page) {
  const app = new App(page);
  const objects = new ObjectTable(app, (object, name) => {
    editor.add({ do: "rename", object, name });
    objects.rebuild(); // restores the old name if the new one was rejected
  });
  const editor = startEditor(app, () => {
    rebuild();
    player.draw();
  });
  const [timelines, paths] = [new Timelines(app), new Paths(app)];

  function rebuild() {
    for (const part of [objects, editor, timelines, paths]) part.rebuild();
  }

  byId("content").hidden = false;
  app.seek = (frame) => player.seek(frame);
  app.frameChanged = () => {
    for (const part of [editor, objects]) (part.showFrame ?? part.show).call(part);
    timelines.move();
  };
  rebuild();
  const player = startPlayer(page, app);
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (Math.abs(contentRect.width - width) < 1) return;
    width = contentRect.width;
    timelines.draw();
    paths.draw();
  }).observe(byId("content"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    timelines.draw();
    paths.draw();
  });
  player.seek(0).then(() => (byId("player").dataset.ready = ""));
  return app;
}

const app = start(JSON.parse(byId("data").textContent));
