// The player: images of the recording, overlaid with outlines, numbers and recent paths.

const TAIL = 30; // length of a path in frames, as in overlay.mp4
const NOT_SEEN = "rgb(215 215 215)"; // background of predicted frames, as in overlay.mp4
const KEPT = 90; // number of decoded images to keep
const AHEAD = 8; // number of images to decode in advance

const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const rgb = (color) => `rgb(${color.join(" ")})`;

// Clear a canvas at the screen's resolution; return its context, scaled to CSS pixels.
function freshContext(canvas, width, height) {
  const dense = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * dense));
  canvas.height = Math.max(1, Math.round(height * dense));
  const context = canvas.getContext("2d");
  context.scale(canvas.width / width, canvas.height / height);
  return context;
}

// ---- Outlines: 16-bit numbers; see outlines.py ----

function readOutlines(text) {
  const numbers = new Uint16Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const starts = [];
  for (let at = 0; at < numbers.length;) {
    starts.push(at);
    let pieces = numbers[at++];
    while (pieces--) at += 2 + 2 * numbers[at + 1];
  }
  return { numbers, starts };
}

// Return slot and corners (x, y, x, y, ...) of every polygon in a stored frame, in pixels of the recording.
function polygonsOf(outlines, stored, unit) {
  const { numbers, starts } = outlines;
  const polygons = [];
  let at = starts[stored];
  let pieces = numbers[at++];
  while (pieces--) {
    const [slot, count] = [numbers[at], numbers[at + 1]];
    polygons.push({ slot, points: Array.from(numbers.subarray(at + 2, at + 2 + 2 * count), (value) => value * unit) });
    at += 2 + 2 * count;
  }
  return polygons;
}

// ---- Images, decoded on demand ----

class PictureReel {
  constructor(uris) {
    this.uris = uris;
    this.images = new Map();
  }

  load(number) {
    const image = this.images.get(number) ?? new Image();
    this.images.delete(number); // keeps the most recently used last
    this.images.set(number, image);
    if (!image.src) image.src = this.uris[number];
    if (this.images.size > KEPT) this.images.delete(this.images.keys().next().value);
    return image.decode().then(() => image);
  }

  prefetch(number) {
    for (let next = number + 1; next <= Math.min(number + AHEAD, this.uris.length - 1); next++) {
      if (!this.images.has(next)) this.load(next);
    }
  }
}

// ---- The scene ----

class Scene {
  constructor(page, app) {
    this.page = page;
    this.app = app;
    this.outlines = readOutlines(page.outlines);
    this.canvas = byId("scene");
    const limit = `calc(72vh * ${page.width / page.height})`; // keeps the controls in view
    this.canvas.style.maxWidth = `max(${limit}, 14rem)`;
    this.canvas.style.aspectRatio = `${page.width} / ${page.height}`;
  }

  // The stored frame to show for a frame. Only every `every`-th observed frame has an image.
  stored(frame) {
    const { every, uris } = this.page.pictures;
    if (frame >= this.page.observed) return { index: uris.length + frame - this.page.observed, frame, picture: null };
    const index = Math.floor(frame / every);
    return { index, frame: index * every, picture: index };
  }

  draw(image, shown) {
    const { page, app } = this;
    const width = this.canvas.clientWidth || page.width;
    const scale = width / page.width;
    const context = freshContext(this.canvas, width, page.height * scale);
    this.scale = scale;
    context.imageSmoothingEnabled = width / page.pictures.width < 3;
    context.fillStyle = NOT_SEEN;
    context.fillRect(0, 0, width, page.height * scale);
    if (image) context.drawImage(image, 0, 0, width, page.height * scale);
    context.lineJoin = context.lineCap = "round";
    this.drawBox(context);
    const tops = this.drawOutlines(context, shown);
    if (byId("show-paths").checked) this.drawPaths(context, shown.frame);
    if (byId("show-futures")?.checked) this.drawFutures(context, shown.frame);
    if (byId("show-numbers").checked) this.drawNumbers(context, shown.frame, tops);
    this.canvas.setAttribute("aria-label", this.describe(shown.frame));
    byId("scene-card").classList.toggle("ahead", shown.frame >= page.observed);
    app.drawn = shown.frame;
  }

  drawBox(context) {
    const [left, top, right, bottom] = this.page.box.map((edge) => edge * this.scale);
    if (right - left >= this.canvas.clientWidth - 1 && bottom - top >= this.canvas.clientHeight - 1) return;
    context.strokeStyle = "rgb(150 150 150)";
    context.lineWidth = 1.5;
    context.strokeRect(left, top, right - left, bottom - top);
  }

  // Returns, by track, its path and the upper edge of its outlines.
  drawOutlines(context, { index, frame }) {
    const { page, app, scale } = this;
    const paths = new Map();
    for (const { slot, points } of polygonsOf(this.outlines, index, page.unit)) {
      const id = app.state.owner[frame * page.slots + slot];
      if (app.track(id).background) continue;
      const one = paths.get(id) ?? { path: new Path2D(), top: Infinity };
      for (let i = 0; i < points.length; i += 2) {
        one.path[i ? "lineTo" : "moveTo"](points[i] * scale, points[i + 1] * scale);
        one.top = Math.min(one.top, points[i + 1] * scale);
      }
      one.path.closePath();
      paths.set(id, one);
    }
    if (!byId("show-outlines").checked) return paths;
    for (const [id, { path }] of paths) {
      context.strokeStyle = "rgb(0 0 0 / 0.55)";
      context.lineWidth = 4;
      context.stroke(path);
      context.strokeStyle = rgb(app.color(id));
      context.lineWidth = 2.2;
      context.stroke(path);
    }
    return paths;
  }

  drawPaths(context, frame) {
    const { app, scale } = this;
    for (const { id, background } of app.state.tracks) {
      if (background) continue;
      const { x, y } = app.series.get(id);
      context.strokeStyle = rgb(app.color(id));
      context.lineWidth = 2;
      for (let t = Math.max(1, frame - TAIL + 2); t <= frame; t++) {
        if (Number.isNaN(x[t]) || Number.isNaN(x[t - 1])) continue;
        context.globalAlpha = 1 - (frame - t) / TAIL;
        context.beginPath();
        context.moveTo(x[t - 1] * scale, y[t - 1] * scale);
        context.lineTo(x[t] * scale, y[t] * scale);
        context.stroke();
      }
      context.globalAlpha = 1;
    }
  }

  // The paths in all sampled futures, from the last observed frame on, with a dot at this frame.
  drawFutures(context, frame) {
    const { page, app, scale } = this;
    const ahead = frame - page.observed + 1;
    if (ahead < 0) return;
    page.futures.forEach((paths, slot) => {
      const id = app.state.owner[frame * page.slots + slot];
      if (app.track(id).background) return;
      context.strokeStyle = context.fillStyle = rgb(app.color(id));
      for (const path of paths) {
        context.globalAlpha = 0.5;
        context.lineWidth = 1.5;
        drawLine(context, path.length, (t) => path[t]?.map((value) => value * scale));
        context.globalAlpha = 1;
        if (ahead && path[ahead]) context.fillRect(path[ahead][0] * scale - 2, path[ahead][1] * scale - 2, 4, 4);
      }
    });
  }

  drawNumbers(context, frame, tops) {
    const { app, scale } = this;
    context.font = "600 13px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const { id, background } of app.state.tracks) {
      const { x, y } = app.series.get(id);
      if (background || Number.isNaN(x[frame])) continue;
      const text = app.label(id);
      const [width, height] = [context.measureText(text).width + 10, 19];
      const limits = [this.canvas.clientWidth - width, this.canvas.clientHeight - height];
      const left = Math.min(Math.max(x[frame] * scale - width / 2, 0), Math.max(limits[0], 0));
      const top = Math.min(Math.max((tops.get(id)?.top ?? y[frame] * scale) - height - 5, 0), Math.max(limits[1], 0));
      const color = app.color(id);
      context.fillStyle = rgb(color);
      context.fillRect(left, top, width, height);
      context.fillStyle = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140 ? "black" : "white";
      context.fillText(text, left + 5, top + height / 2 + 0.5);
    }
  }

  describe(frame) {
    const places = this.app.state.tracks.filter(({ background }) => !background).map(({ id, name }) => {
      const { x, y } = this.app.series.get(id);
      return Number.isNaN(x[frame]) ? `${name} is not visible` : `${name} at ${Math.round(x[frame])}, ${Math.round(y[frame])}`;
    });
    return `Frame ${frame}: ${places.join("; ")}`;
  }
}

// ---- Controls ----

function startPlayer(page, app) {
  const scene = new Scene(page, app);
  const reel = new PictureReel(page.pictures.uris);
  const player = byId("player");
  const [scrub, field, speed] = ["scrub", "frame", "speed"].map(byId);
  const last = app.table.frames - 1;
  let playing = false;
  let lastTime = 0;
  let waiting = false;
  let latest = 0;

  async function draw() {
    const shown = scene.stored(app.frame);
    const mine = ++latest;
    if (shown.picture === null) return scene.draw(null, shown);
    waiting = true;
    const image = await reel.load(shown.picture);
    if (mine !== latest) return undefined;
    waiting = false;
    scene.draw(image, shown);
    reel.prefetch(shown.picture);
    return undefined;
  }

  function show(number) {
    app.frame = Math.min(Math.max(Math.round(number) || 0, 0), last);
    const predicted = app.frame >= page.observed;
    scrub.value = field.value = app.frame;
    const time = `${app.table.time[app.frame].toFixed(2)} s`;
    byId("when").textContent = `(0 to ${last}), ${time}`;
    byId("state").textContent = predicted ? "predicted" : "";
    scrub.setAttribute("aria-valuetext", `frame ${app.frame}, ${time}${predicted ? ", predicted" : ""}`);
    app.frameChanged();
    return draw();
  }

  function play(on) {
    playing = on;
    const [sign, name] = byId("play").children;
    sign.textContent = on ? "❚❚" : "▶";
    name.textContent = on ? "Pause" : "Play";
    lastTime = performance.now();
    if (on && app.frame === last) show(0);
    if (on) requestAnimationFrame(tick);
  }

  function tick(now) {
    if (!playing) return;
    const due = Math.floor(((now - lastTime) * speed.value) / 1000);
    if (due > 0 && !waiting) {
      lastTime = now;
      show(app.frame + due);
      if (app.frame === last) return play(false);
    }
    requestAnimationFrame(tick);
  }

  function seek(number) {
    play(false);
    return show(number);
  }

  const KEYS = {
    " ": () => play(!playing),
    ArrowLeft: (step) => seek(app.frame - step),
    ArrowRight: (step) => seek(app.frame + step),
    Home: () => seek(0),
    End: () => seek(last),
  };
  player.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("select, #frame")) return;
    // Space presses the focused control.
    if (event.key === " " && event.target.matches("button, summary, [type=checkbox]")) return;
    if (!KEYS[event.key]) return;
    KEYS[event.key](event.shiftKey ? 10 : 1);
    event.preventDefault();
  });
  byId("play").addEventListener("click", () => play(!playing));
  scrub.max = field.max = last;
  scrub.addEventListener("input", () => seek(Number(scrub.value)));
  field.addEventListener("change", () => seek(Number(field.value)));
  for (const name of ["outlines", "numbers", "paths", "futures"]) byId(`show-${name}`)?.addEventListener("change", draw);
  if (page.fps >= 1 && page.fps <= 100) {
    speed.prepend(element("option", { value: page.fps }, "as recorded"));
    speed.selectedIndex = 0;
  }
  byId("future").style.width = last >= page.observed ? `${(100 * (last - page.observed + 0.5)) / last}%` : "0";
  new ResizeObserver(draw).observe(scene.canvas.parentElement);
  return { seek, draw };
}
