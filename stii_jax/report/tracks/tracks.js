"use strict";

// The table of tracks and its corrections: pure functions of text and numbers, without access to the DOM.

// ---- The table: trajectories.csv, one row per frame and slot ----

const TEXT = ["frame", "time", "object", "visible", "background", "predicted"]; // the other columns are measures

// `cuts` are the frames at which a new scene begins, so that the slots show other objects.
function parseTable(text, slots, cuts) {
  const [head, ...lines] = text.trimEnd().split("\n");
  const columns = head.split(",");
  const frames = lines.length / slots;
  const [time, predicted] = [new Float64Array(frames), new Uint8Array(frames)];
  const table = { columns, lines, slots, frames, cuts, time, predicted };
  const measures = columns.filter((name) => !TEXT.includes(name));
  for (const name of measures) table[name] = new Float64Array(lines.length);
  table.visible = new Uint8Array(lines.length);
  lines.forEach((line, row) => {
    const cells = line.split(",");
    columns.forEach((name, i) => {
      if (measures.includes(name)) table[name][row] = cells[i] === "" ? NaN : Number(cells[i]);
    });
    table.visible[row] = Number(cells[columns.indexOf("visible")]);
    if (row % slots) return;
    table.time[row / slots] = Number(cells[columns.indexOf("time")]);
    table.predicted[row / slots] = Number(cells[columns.indexOf("predicted")]);
  });
  return table;
}

// ---- Tracks: which object each slot shows in each frame ----

function startTracks(table, background) {
  const tracks = Array.from({ length: table.slots }, (_, id) =>
    ({ id, name: id === background ? "background" : `object ${id}`, background: id === background }));
  const owner = Int32Array.from({ length: table.lines.length }, (_, row) => row % table.slots);
  let next = table.slots;
  for (const cut of table.cuts) {
    for (let slot = 0; slot < table.slots; slot++) {
      if (slot === background) continue;
      for (let row = cut * table.slots + slot; row < owner.length; row += table.slots) owner[row] = next;
      tracks.push({ id: next, name: `object ${next}`, background: false });
      next += 1;
    }
  }
  return { tracks, owner, next };
}

// Apply a correction; returns the new tracks. `edit.do` is one of:
//   rename: object, name
//   merge:  object, into        all of `object` becomes part of `into`
//   split:  object, from        a new object begins at frame `from`
//   swap:   object, with, from  the two exchange their slots from frame `from` on
function applyEdit(table, state, edit) {
  const track = (id) => {
    const found = state.tracks.find((one) => one.id === id);
    if (!found) throw new Error(`there is no object ${id}`);
    return found;
  };
  const first = () => {
    if (!Number.isInteger(edit.from) || edit.from < 0 || edit.from >= table.frames) {
      throw new Error(`there is no frame ${edit.from}: frames are 0 to ${table.frames - 1}`);
    }
    return edit.from * table.slots;
  };
  const pair = (other) => {
    if (other === edit.object) throw new Error("choose two different objects");
    return [track(edit.object), track(other)];
  };
  const owner = state.owner.slice();
  let { tracks, next } = state;
  if (edit.do === "rename") {
    track(edit.object);
    const name = typeof edit.name === "string" ? edit.name.trim() : "";
    if (!name || name.length > 80) throw new Error("a name must have 1 to 80 characters");
    tracks = tracks.map((one) => (one.id === edit.object ? { ...one, name } : one));
  } else if (edit.do === "merge") {
    const [gone] = pair(edit.into);
    if (gone.background) throw new Error("the background cannot be merged into an object: merge the object into it");
    for (let row = 0; row < owner.length; row++) if (owner[row] === edit.object) owner[row] = edit.into;
    tracks = tracks.filter((one) => one !== gone);
  } else if (edit.do === "split") {
    if (track(edit.object).background) throw new Error("the background cannot be split: choose an object");
    const start = first();
    if (start === 0) throw new Error("a split at frame 0 leaves nothing before it: go to a later frame");
    for (let row = start; row < owner.length; row++) if (owner[row] === edit.object) owner[row] = next;
    tracks = [...tracks, { id: next, name: `object ${next}`, background: false }];
    next += 1;
  } else if (edit.do === "swap") {
    pair(edit.with);
    for (let row = first(); row < owner.length; row++) {
      if (owner[row] === edit.object) owner[row] = edit.with;
      else if (owner[row] === edit.with) owner[row] = edit.object;
    }
  } else {
    throw new Error(`unknown correction ${JSON.stringify(edit.do)}`);
  }
  return { tracks, owner, next };
}

function replay(table, background, edits) {
  let state = startTracks(table, background);
  edits.forEach((edit, i) => {
    try {
      state = applyEdit(table, state, edit);
    } catch (error) {
      throw new Error(`correction ${i + 1}: ${error.message}`);
    }
  });
  return state;
}

function describeEdit(edit) {
  return {
    rename: () => `object ${edit.object} renamed to “${edit.name}”`,
    merge: () => `object ${edit.object} merged into object ${edit.into}`,
    split: () => `object ${edit.object} split at frame ${edit.from}`,
    swap: () => `objects ${edit.object} and ${edit.with} swapped from frame ${edit.from} on`,
  }[edit.do]();
}

// ---- Measures of a track in one frame ----

// The table rows in which an object is visible in a frame: none, one, or several after a merge.
function visibleRows(table, state, frame, id) {
  const rows = [];
  for (let row = frame * table.slots; row < (frame + 1) * table.slots; row++) {
    if (state.owner[row] === id && table.visible[row]) rows.push(row);
  }
  return rows;
}

// Combine the measures of several rows. A centroid is weighted by mask probability, whose sum is area times confidence.
function combine(table, rows) {
  let [area, mass, x, y] = [0, 0, 0, 0];
  for (const row of rows) {
    const weight = table.area[row] * table.confidence[row];
    area += table.area[row];
    mass += weight;
    x += weight * table.centroid_x[row];
    y += weight * table.centroid_y[row];
  }
  const of = (name) => rows.map((row) => table[name][row]);
  return {
    centroid_x: x / mass,
    centroid_y: y / mass,
    area,
    left: Math.min(...of("left")),
    top: Math.min(...of("top")),
    right: Math.max(...of("right")),
    bottom: Math.max(...of("bottom")),
    confidence: mass / area,
  };
}

// Position and area of every track in every frame; NaN and 0 where the track is not visible.
function trackSeries(table, state) {
  const series = new Map(state.tracks.map(({ id }) => [id, {
    x: new Float64Array(table.frames).fill(NaN),
    y: new Float64Array(table.frames).fill(NaN),
    area: new Float64Array(table.frames),
    count: 0,
  }]));
  for (let frame = 0; frame < table.frames; frame++) {
    const rows = new Map();
    for (let row = frame * table.slots; row < (frame + 1) * table.slots; row++) {
      if (!table.visible[row]) continue;
      const id = state.owner[row];
      if (rows.has(id)) rows.get(id).push(row);
      else rows.set(id, [row]);
    }
    for (const [id, of] of rows) {
      const one = series.get(id);
      const found = of.length > 1 ? combine(table, of) : null;
      one.x[frame] = found ? found.centroid_x : table.centroid_x[of[0]];
      one.y[frame] = found ? found.centroid_y : table.centroid_y[of[0]];
      one.area[frame] = found ? found.area : table.area[of[0]];
      one.count += 1;
    }
  }
  return series;
}

// Speeds in pixels per second since the previous frame; NaN unless the object is visible in both frames.
function speeds(table, one) {
  return one.x.map((x, t) =>
    (t ? Math.hypot(x - one.x[t - 1], one.y[t] - one.y[t - 1]) / (table.time[t] - table.time[t - 1]) : NaN));
}

// Distances between two centroids in pixels; NaN unless both are visible.
function distances(one, other) {
  return one.x.map((x, t) => Math.hypot(x - other.x[t], one.y[t] - other.y[t]));
}

// First and last frame of every interval in which an object is visible.
function presence(one) {
  const runs = [];
  one.area.forEach((area, t) => {
    if (!area) return;
    if (t && one.area[t - 1]) runs[runs.length - 1][1] = t;
    else runs.push([t, t]);
  });
  return runs;
}

function quantile(values, share) {
  const known = Float64Array.from(values).filter((value) => Number.isFinite(value)).sort();
  return known.length ? known[Math.floor(share * (known.length - 1))] : NaN;
}

// ---- Files ----

// Format numbers as Python does in trajectories.csv.
function floatText(value) {
  const rounded = Number(value.toFixed(3));
  return Number.isInteger(rounded) ? `${rounded}.0` : String(rounded);
}

function quoted(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// The corrected table: the columns of trajectories.csv plus the name, one row per frame and object.
function exportTable(table, state) {
  const at = Object.fromEntries(table.columns.map((name, i) => [name, i]));
  const tracks = [...state.tracks].sort((a, b) => a.id - b.id);
  const lines = [[...table.columns, "name"].join(",")];
  for (let frame = 0; frame < table.frames; frame++) {
    for (const { id, name, background } of tracks) {
      const rows = visibleRows(table, state, frame, id);
      const cells = table.lines[rows[0] ?? frame * table.slots].split(",");
      if (rows.length === 0) {
        for (const column of table.columns) if (!TEXT.includes(column)) cells[at[column]] = "";
        cells[at.area] = "0";
      } else if (rows.length > 1) {
        for (const [column, value] of Object.entries(combine(table, rows))) cells[at[column]] = floatText(value);
      }
      cells[at.object] = id;
      cells[at.visible] = rows.length ? 1 : 0;
      cells[at.background] = background ? 1 : 0;
      lines.push([...cells, quoted(name)].join(","));
    }
  }
  return `${lines.join("\n")}\n`;
}

function writeEdits(table, recording, edits) {
  return `${JSON.stringify({ stii_jax_edits: 1, recording, frames: table.frames, slots: table.slots, edits }, null, 1)}\n`;
}

// Read the corrections in a file; throws an error if they do not fit this decomposition.
function readEdits(table, background, text) {
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Error("this file is not JSON: choose one that “Save corrections” wrote");
  }
  if (content?.stii_jax_edits !== 1 || !Array.isArray(content.edits)) {
    throw new Error("this file holds no corrections: choose one that “Save corrections” wrote");
  }
  if (content.frames !== table.frames || content.slots !== table.slots) {
    throw new Error(`these corrections are for ${content.frames} frames and ${content.slots} slots, ` +
      `not for ${table.frames} and ${table.slots}: choose those of this decomposition`);
  }
  replay(table, background, content.edits);
  return content.edits;
}
