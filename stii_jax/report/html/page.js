"use strict";

// The player, the sortable table and the readout of the curves. All content comes from the page's data.

const GREY = 215; // for pixels that no slot explains, as in stii_jax.visualization.visualize
const TINT = 0.65; // opacity of a slot's colour over the grey frame; over a coloured frame it would be hard to read
const page = JSON.parse(document.getElementById("data").textContent);

const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// ---- Clips: decode image sheets into pixel arrays ----

async function readSheet(source, count, height, width) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = element("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const columns = image.naturalWidth / width;
  return Array.from({ length: count }, (_, i) =>
    context.getImageData((i % columns) * width, Math.floor(i / columns) * height, width, height).data);
}

async function readClip(data) {
  const { frames, slots, height, width, sheets } = data;
  const read = (name, count) => readSheet(sheets[name], count, height, width);
  const masks = await read("masks", frames * slots);
  return {
    ...data,
    on: Array(slots).fill(true),
    video: await read("video", frames),
    truth: sheets.truth ? await read("truth", frames) : null,
    means: await read("means", frames * slots),
    masks,
    assignment: sheets.responsibilities ? await read("responsibilities", frames * slots) : masks,
  };
}

// ---- Images of the active slots; the red channel of a mask is its probability times 255 ----

function picture(clip, paint) {
  const pixels = new Uint8ClampedArray(clip.height * clip.width * 4).fill(255);
  for (let at = 0; at < pixels.length; at += 4) paint(pixels, at);
  return pixels;
}

function reconstruction(clip, frame) {
  const first = frame * clip.slots;
  return picture(clip, (pixels, at) => {
    for (let channel = 0; channel < 3; channel++) {
      let sum = 0;
      for (let k = 0; k < clip.slots; k++) {
        sum += clip.masks[first + k][at] * (clip.on[k] ? clip.means[first + k][at + channel] : GREY);
      }
      pixels[at + channel] = sum / 255;
    }
  });
}

function segmentation(clip, frame) {
  const first = frame * clip.slots;
  const seen = clip.video[frame];
  return picture(clip, (pixels, at) => {
    let best = 0;
    for (let k = 1; k < clip.slots; k++) {
      if (clip.assignment[first + k][at] > clip.assignment[first + best][at]) best = k;
    }
    const light = 0.299 * seen[at] + 0.587 * seen[at + 1] + 0.114 * seen[at + 2];
    for (let channel = 0; channel < 3; channel++) {
      const color = clip.on[best] ? clip.colors[best][channel] : GREY;
      pixels[at + channel] = TINT * color + (1 - TINT) * light;
    }
  });
}

function appearance(clip, frame, slot) {
  const mask = clip.masks[frame * clip.slots + slot];
  const mean = clip.means[frame * clip.slots + slot];
  return picture(clip, (pixels, at) => {
    for (let channel = 0; channel < 3; channel++) {
      pixels[at + channel] = (mask[at] * mean[at + channel] + (255 - mask[at]) * GREY) / 255;
    }
  });
}

// ---- The player ----

const SCENE = [
  ["frame", "video", "Frame of the video", false, (clip, frame) => clip.video[frame]],
  ["reconstruction", "reconstruction", "Reconstruction from the active slots", true, reconstruction],
  ["segmentation", "segmentation", "Frame coloured by each pixel's slot", true, segmentation],
  ["truth", "true segmentation", "True objects, in the colours of their slots", false,
    (clip, frame) => clip.truth[frame]],
];

function startPlayer(clips) {
  const player = byId("player");
  const scrub = byId("scrub");
  let clip = clips[0];
  let frame = 0;
  let panels = [];
  let playing = false;
  let lastTime = 0;

  function addPanel(parent, name, label, made, paint, below) {
    const canvas = element("canvas", {
      width: clip.width, height: clip.height, role: "img", "aria-label": label, "data-panel": name,
    });
    const figure = element("figure", { class: made ? "panel made" : "panel" }, canvas, below);
    parent.append(figure);
    panels.push({ context: canvas.getContext("2d", { willReadFrequently: true }), paint }); // in plain memory
    return figure;
  }

  function addScene() {
    for (const [name, title, label, made, paint] of SCENE) {
      if (name === "truth" && !clip.truth) continue;
      const caption = element("figcaption", {}, title, " ", element("span", { class: "word" }, made ? "predicted" : "not seen"));
      addPanel(byId("scene"), name, label, made, paint, caption);
    }
  }

  function addSlots() {
    for (let k = 0; k < clip.slots; k++) {
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.backgroundColor = `rgb(${clip.colors[k].join()})`;
      const role = k === clip.background ? element("small", {}, " background") : "";
      const text = element("span", {}, `slot ${k}`, role);
      const button = element("button", { type: "button", "data-slot": k }, swatch, text);
      button.addEventListener("click", () => toggle(k));
      addPanel(byId("slots"), `slot-${k}`, `Appearance of slot ${k}`, true, (c, t) => appearance(c, t, k), button);
    }
  }

  function toggle(slot) {
    clip.on[slot] = !clip.on[slot];
    markSlots();
    draw();
  }

  function markSlots() {
    for (const button of byId("slots").querySelectorAll("button")) {
      const on = clip.on[button.dataset.slot];
      button.setAttribute("aria-pressed", on);
      button.parentElement.classList.toggle("off", !on);
    }
  }

  function choose(number) {
    clip = clips[number];
    panels = [];
    byId("scene").replaceChildren();
    byId("slots").replaceChildren();
    addScene();
    addSlots();
    markSlots();
    scrub.max = clip.frames - 1;
    byId("videos").querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", i === number));
    const ahead = clip.frames - clip.observed;
    future.style.width = ahead ? `${(100 * (ahead - 0.5)) / (clip.frames - 1)}%` : "0";
    byId("description").textContent = `Video ${number}: ${clip.observed} frames observed` +
      (ahead ? `, then ${ahead} predicted without seeing the video` : "") +
      `; ${clip.slots} slots, of which slot ${clip.background} has the most pixels.`;
    show(0);
  }

  function show(number) {
    frame = Math.min(Math.max(number, 0), clip.frames - 1);
    const predicted = frame >= clip.observed;
    const state = predicted ? "predicted" : "observed";
    scrub.value = frame;
    scrub.setAttribute("aria-valuetext", `frame ${frame + 1} of ${clip.frames}, ${state}`);
    byId("number").textContent = `frame ${frame + 1} of ${clip.frames}`;
    byId("state").textContent = state;
    player.classList.toggle("ahead", predicted);
    draw();
  }

  function draw() {
    for (const { context, paint } of panels) {
      context.putImageData(new ImageData(paint(clip, frame), clip.width, clip.height), 0, 0);
    }
  }

  function play(on) {
    playing = on;
    const [sign, name] = byId("play").children;
    sign.textContent = on ? "❚❚" : "▶";
    name.textContent = on ? "Pause" : "Play";
    lastTime = performance.now();
    if (on) requestAnimationFrame(tick);
  }

  function tick(now) {
    if (!playing) return;
    if (now - lastTime >= 1000 / byId("speed").value) {
      lastTime = now;
      show((frame + 1) % clip.frames);
    }
    requestAnimationFrame(tick);
  }

  function step(number) {
    play(false);
    show(number);
  }

  const KEYS = {
    " ": () => play(!playing),
    ArrowLeft: () => step(frame - 1),
    ArrowRight: () => step(frame + 1),
    Home: () => step(0),
    End: () => step(clip.frames - 1),
  };

  player.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("select")) return;
    // Space presses the focused button, or opens the list of shortcuts.
    if (event.key === " " && event.target.matches("button, summary")) return;
    if (KEYS[event.key]) KEYS[event.key]();
    else if (/^[0-9]$/.test(event.key) && event.key < clip.slots) toggle(Number(event.key));
    else return;
    event.preventDefault();
  });
  byId("play").addEventListener("click", () => play(!playing));
  scrub.addEventListener("input", () => step(Number(scrub.value)));

  const future = element("div", { class: "future" });
  scrub.after(future);
  clips.forEach((_, number) => {
    const button = element("button", { type: "button" }, `Video ${number}`);
    button.addEventListener("click", () => choose(number));
    byId("videos").append(button);
  });
  byId("videos").hidden = clips.length < 2;
  choose(0);
  player.hidden = false;
  player.dataset.ready = "";
  play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}

// ---- The table of scores ----

function startSorting(table) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.tagName === "TH" ? cell.textContent : Number(cell.dataset.value ?? NaN);
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  heads.forEach((head, column) => {
    const button = element("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const missing = (row) => Number.isNaN(value(row, column)); // last in both directions
      const rows = [...table.tBodies[0].rows].sort((a, b) =>
        missing(a) || missing(b) ? missing(a) - missing(b) : sign * compare(value(a, column), value(b, column)));
      table.tBodies[0].append(...rows);
    });
  });
}

// ---- The curves ----

function startReading(figure, chart) {
  const svg = figure.querySelector("svg");
  const hair = svg.querySelector(".hair");
  const readout = figure.querySelector(".readout");
  const nearest = (points, step) =>
    points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.width;
    const part = Math.min(Math.max((x - chart.left) / (chart.right - chart.left), 0), 1);
    const step = nearest(Object.values(chart.curves)[0], part * chart.last)[0];
    const place = chart.left + (chart.right - chart.left) * (step / chart.last);
    hair.setAttribute("x1", place);
    hair.setAttribute("x2", place);
    hair.setAttribute("visibility", "visible");
    const said = Object.entries(chart.curves).map(([name, points]) => {
      const [at, value] = nearest(points, step);
      return `${name} ${Number(value.toPrecision(4)).toLocaleString("en")}` + (at === step ? "" : ` (step ${Math.round(at)})`);
    });
    readout.textContent = `Step ${Math.round(step)}: ${said.join("; ")}`;
  });
  svg.addEventListener("pointerleave", () => hair.setAttribute("visibility", "hidden"));
}

document.querySelectorAll(".chart").forEach((figure, i) => startReading(figure, page.charts[i]));
if (byId("scores")) startSorting(byId("scores"));
Promise.all(page.clips.map(readClip)).then(startPlayer);
