// Timelines of the objects, the distance between two of them, and the paths.

const LANE = { presence: 8, curve: 40, gap: 8 }; // heights in CSS pixels
const LINE_PART = 200; // frames
const PLENTY = 0.995; // share of values below the top of a curve, so that single jumps do not flatten the rest

function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function rounded(value) {
  if (!Number.isFinite(value)) return "–";
  return Number(value.toPrecision(3)).toLocaleString("en");
}

// Draw a line through the points of all frames, with gaps where `point` returns null. It is drawn in parts, because the
// time for a line that crosses itself grows faster than its length.
function drawLine(context, count, point) {
  let before = null;
  for (let t = 0; t < count; t++) {
    if (t % LINE_PART === 0) {
      if (t) context.stroke();
      context.beginPath();
      if (before) context.moveTo(...before);
    }
    const at = point(t);
    if (at && before) context.lineTo(...at);
    else if (at) context.arc(...at, 0.4, 0, 7); // a single point is a dot
    before = at;
  }
  context.stroke();
}

// Draw values over time, clipped at `top`.
function drawCurve(context, values, top, { width, y, height }) {
  const last = Math.max(values.length - 1, 1);
  drawLine(context, values.length, (t) =>
    (Number.isFinite(values[t]) ? [(t / last) * width, y + height * (1 - Math.min(values[t] / top, 1))] : null));
}

class Lane {
  constructor(app, height, head) {
    this.app = app;
    this.height = height;
    this.canvas = element("canvas", { role: "img" });
    this.canvas.style.height = `${height}px`;
    this.cursor = element("div", { class: "cursor" });
    this.chart = element("div", { class: "lane-chart" }, this.canvas, this.cursor);
    this.row = element("div", { class: "lane" }, head, this.chart);
    const seek = (event) => {
      const box = this.chart.getBoundingClientRect();
      app.seek(((event.clientX - box.left) / box.width) * (app.table.frames - 1));
    };
    this.chart.addEventListener("pointerdown", seek);
    this.chart.addEventListener("pointermove", (event) => event.buttons === 1 && seek(event));
  }

  draw(color, label, curves, runs) {
    const width = this.chart.clientWidth || 300;
    const context = freshContext(this.canvas, width, this.height);
    const { frames } = this.app.table;
    const { observed } = this.app.page;
    if (observed < frames) {
      context.fillStyle = themeColor("--ahead");
      const start = ((observed - 0.5) / Math.max(frames - 1, 1)) * width;
      context.fillRect(start, 0, width - start, this.height);
    }
    context.fillStyle = context.strokeStyle = color;
    for (const [first, last] of runs) {
      context.fillRect((first / frames) * width, 0, Math.max(((last + 1 - first) / frames) * width, 1), LANE.presence);
    }
    context.lineWidth = 1.3;
    context.lineJoin = "round";
    let y = runs.length ? LANE.presence + LANE.gap : LANE.gap / 2;
    for (const { values, top } of curves) {
      context.globalAlpha = 0.35;
      context.fillRect(0, y + LANE.curve, width, 1);
      context.globalAlpha = 1;
      drawCurve(context, values, top, { width, y, height: LANE.curve });
      y += LANE.curve + LANE.gap;
    }
    this.canvas.setAttribute("aria-label", label);
  }

  move(frame) {
    this.cursor.style.left = `${(100 * frame) / Math.max(this.app.table.frames - 1, 1)}%`;
  }
}

class Timelines {
  constructor(app) {
    this.app = app;
    this.pair = [byId("from-object"), byId("to-object")];
    this.readout = element("p", { class: "lane-value" });
    const height = LANE.curve + 2 * LANE.gap;
    this.distance = new Lane(app, height, element("div", { class: "lane-name" }, this.readout));
    byId("distance").append(this.distance.row);
    for (const select of this.pair) select.addEventListener("change", () => this.drawDistance());
    const { time, frames } = app.table;
    const marks = [0, Math.floor((frames - 1) / 2), frames - 1].map((t) =>
      element("span", {}, `frame ${t}, ${time[t].toFixed(1)} s`));
    byId("time-axis").append(...marks);
  }

  rebuild() {
    const { app } = this;
    const shown = app.objects();
    const speedsOf = new Map(shown.map(({ id }) => [id, speeds(app.table, app.series.get(id))]));
    const topOf = (lists) => Math.max(...lists.map((values) => quantile(values, PLENTY)).filter(Number.isFinite), 1e-9);
    const tops = {
      area: topOf(shown.map(({ id }) => app.series.get(id).area)),
      speed: topOf([...speedsOf.values()]),
    };
    this.lanes = shown.map(({ id, name }) => {
      const one = app.series.get(id);
      const share = `${((100 * one.count) / app.table.frames).toFixed(1)} %`;
      const head = element("div", { class: "lane-name" }, app.nameTag(id),
        element("small", {}, `visible in ${share} of frames`),
        element("small", {}, `area, 0 to ${rounded(tops.area)} px`),
        element("small", {}, `speed, 0 to ${rounded(tops.speed)} px/s`));
      const lane = new Lane(app, LANE.presence + 2 * LANE.curve + 3 * LANE.gap, head);
      const area = one.area.map((value) => value || NaN);
      const label = `${name}: visible in ${share} of frames; median area ${rounded(quantile(area, 0.5))} px, ` +
        `median speed ${rounded(quantile(speedsOf.get(id), 0.5))} px/s`;
      lane.redraw = () => lane.draw(rgb(app.color(id)), label,
        [{ values: area, top: tops.area }, { values: speedsOf.get(id), top: tops.speed }], presence(one));
      return lane;
    });
    byId("lanes").replaceChildren(...this.lanes.map((lane) => lane.row));
    this.pair.forEach((select, i) => fillSelect(select, shown, shown[Math.min(i, shown.length - 1)]?.id));
    byId("distance").hidden = shown.length < 2;
    this.draw();
  }

  draw() {
    for (const lane of this.lanes) lane.redraw();
    this.drawDistance();
    this.move();
  }

  drawDistance() {
    const { app } = this;
    if (this.lanes.length < 2) return;
    const [a, b] = this.pair.map((select) => Number(select.value));
    this.values = distances(app.series.get(a), app.series.get(b));
    this.top = Math.max(quantile(this.values, 1), 1e-9) || 1e-9;
    const label = `Distance between ${app.track(a).name} and ${app.track(b).name}: median ${rounded(quantile(this.values, 0.5))} px`;
    this.distance.draw(themeColor("--ink"), label, [{ values: this.values, top: this.top }], []);
    this.move();
  }

  move() {
    const { frame } = this.app;
    for (const lane of this.lanes) lane.move(frame);
    if (this.lanes.length < 2) return;
    this.distance.move(frame);
    this.readout.replaceChildren(element("strong", {}, `${rounded(this.values[frame])} px`),
      element("small", {}, `in frame ${frame}`), element("small", {}, `curve: 0 to ${rounded(this.top)} px`));
  }
}

// ---- Paths: positions over the whole recording, from the dot to the square ----

class Paths {
  constructor(app) {
    this.app = app;
  }

  rebuild() {
    const shown = this.app.objects();
    const figures = shown.length > 1 ? [{ title: "all objects", of: shown }] : [];
    figures.push(...shown.map((track) => ({ title: track.name, of: [track] })));
    this.plots = figures.map(({ title, of }) => {
      const canvas = element("canvas", { role: "img", "aria-label": `Path of ${title}` });
      canvas.style.aspectRatio = `${this.app.page.width} / ${this.app.page.height}`;
      return { canvas, of, figure: element("figure", { class: "panel" }, canvas, element("figcaption", {}, title)) };
    });
    byId("plots").replaceChildren(...this.plots.map(({ figure }) => figure));
    this.draw();
  }

  draw() {
    for (const { canvas, of } of this.plots) this.drawPlot(canvas, of);
  }

  drawPlot(canvas, tracks) {
    const { app } = this;
    const width = canvas.clientWidth || 200;
    const scale = width / app.page.width;
    const context = freshContext(canvas, width, app.page.height * scale);
    const [left, top, right, bottom] = app.page.box.map((edge) => edge * scale);
    context.strokeStyle = themeColor("--line");
    context.strokeRect(left + 0.5, top + 0.5, right - left - 1, bottom - top - 1);
    for (const { id } of tracks) {
      const { x, y } = app.series.get(id);
      context.strokeStyle = context.fillStyle = rgb(app.color(id));
      context.lineWidth = 1.2;
      context.lineJoin = "round";
      drawLine(context, x.length, (t) => (Number.isNaN(x[t]) ? null : [x[t] * scale, y[t] * scale]));
      const first = x.findIndex((value) => !Number.isNaN(value));
      const last = x.findLastIndex((value) => !Number.isNaN(value));
      context.beginPath();
      context.arc(x[first] * scale, y[first] * scale, 4, 0, 7);
      context.fill();
      context.fillRect(x[last] * scale - 4, y[last] * scale - 4, 8, 8);
    }
  }
}
