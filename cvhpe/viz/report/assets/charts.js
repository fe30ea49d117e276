// SVG charts: lines with a cursor that shows their values, and bars.

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const PALETTE = ["#2563c9", "#d1495b", "#2e9e4f", "#e39a0c", "#8a4fc7", "#17a2a2", "#9a6b3f", "#e377c2"];

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e4 || (size > 0 && size < 1e-3)) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(3)));
}

/** About `count` round numbers that span [low, high]. */
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
  const values = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-6; t += step) values.push(Math.abs(t) < step * 1e-6 ? 0 : t);
  return values;
}

function powers(low, high) {
  const values = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) if (10 ** e >= low * 0.999 && 10 ** e <= high * 1.001) values.push(10 ** e);
  return values.length > 1 ? values : ticks(low, high, 4); // less than a decade
}

function legend(series) {
  return el("div", { class: "legend" }, ...series.map((s) => {
    const mark = el("i");
    mark.style.background = s.colour;
    if (s.dash) mark.style.background = `repeating-linear-gradient(90deg, ${s.colour} 0 4px, transparent 4px 7px)`;
    return el("span", {}, mark, s.name);
  }));
}

/** series: [{name, x, y, colour, dash, dots}]; y null is a gap. */
function lineChart({ series, x, y, log = false, yMin, yMax, xMin, xMax, title }) {
  series.forEach((s, i) => (s.colour = s.colour || PALETTE[i % PALETTE.length]));
  const W = 460, H = 260, L = 48, R = 12, T = 10, B = 38;
  const valid = (v) => v !== null && v !== undefined && Number.isFinite(v) && (!log || v > 0);
  const xs = series.flatMap((s) => s.x), ys = series.flatMap((s) => s.y).filter(valid);
  if (!ys.length) return el("p", { class: "left-out" }, "no values");
  const x0 = xMin ?? Math.min(...xs), x1 = Math.max(xMax ?? Math.max(...xs), x0 + 1e-9);
  let y0 = yMin ?? Math.min(...ys), y1 = yMax ?? Math.max(...ys);
  if (log && y1 <= y0 * 1.01) [y0, y1] = [y0 / 2, y1 * 2];
  if (!log && y1 <= y0) y1 = y0 + 1;
  if (!log && yMax === undefined) y1 += 0.04 * (y1 - y0);
  const px = (v) => L + ((v - x0) / (x1 - x0)) * (W - L - R);
  const along = log ? (v) => (Math.log(v) - Math.log(y0)) / (Math.log(y1) - Math.log(y0)) : (v) => (v - y0) / (y1 - y0);
  const py = (v) => H - B - along(v) * (H - T - B);
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title || y}: ${series.map((s) => s.name).join(", ")}` });
  for (const t of log ? powers(y0, y1) : ticks(y0, y1)) {
    root.append(svg("line", { x1: L, x2: W - R, y1: py(t), y2: py(t), class: "frame" }));
    root.append(Object.assign(svg("text", { x: L - 6, y: py(t) + 4, "text-anchor": "end" }), { textContent: short(t) }));
  }
  for (const t of ticks(x0, x1, 6)) root.append(Object.assign(svg("text", { x: px(t), y: H - B + 16, "text-anchor": "middle" }), { textContent: short(t) }));
  root.append(Object.assign(svg("text", { x: (L + W - R) / 2, y: H - 4, "text-anchor": "middle" }), { textContent: x }));
  root.append(Object.assign(svg("text", { x: 12, y: (H - B + T) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(H - B + T) / 2})` }), { textContent: y }));
  for (const s of series) {
    let path = "", gap = true;
    s.x.forEach((v, i) => {
      if (!valid(s.y[i])) { gap = true; return; }
      path += `${gap ? "M" : "L"}${px(v).toFixed(1)} ${py(s.y[i]).toFixed(1)}`;
      gap = false;
      if (s.dots) root.append(svg("circle", { cx: px(v), cy: py(s.y[i]), r: 3.2, fill: s.colour }));
    });
    root.append(svg("path", { d: path, fill: "none", stroke: s.colour, "stroke-width": 1.8, "stroke-linejoin": "round", "stroke-dasharray": s.dash ? "5 4" : "none" }));
  }
  const cursor = svg("line", { y1: T, y2: H - B, class: "cursor", visibility: "hidden" });
  root.append(cursor);
  const axis = series.reduce((a, s) => (s.x.length > a.length ? s.x : a), []);
  root.addEventListener("pointermove", (event) => {
    const box = root.getBoundingClientRect();
    const at = x0 + (((event.clientX - box.left) / box.width) * W - L) / (W - L - R) * (x1 - x0);
    const near = axis.reduce((a, b) => (Math.abs(b - at) < Math.abs(a - at) ? b : a), axis[0]);
    cursor.setAttribute("x1", px(near));
    cursor.setAttribute("x2", px(near));
    cursor.setAttribute("visibility", "visible");
    const lines = series.map((s) => [s, s.y[s.x.indexOf(near)]]).filter(([, v]) => v !== undefined);
    showTip(event, el("div", {}, `${x}: ${short(near)}`), ...lines.map(([s, v]) => {
      const mark = el("b", {}, "● ");
      mark.style.color = s.colour;
      return el("div", {}, mark, `${s.name}: ${short(v)}`);
    }));
  });
  root.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); hideTip(); });
  return el("div", {}, ...(title ? [el("h3", {}, title)] : []), root, legend(series));
}

/** bars: [{name, value, colour, mark}]; mark: a second value, drawn as a tick. */
function barChart({ bars, unit, title, note }) {
  const W = 460, row = 18, L = 92, R = 52, H = bars.length * row + 6;
  const most = Math.max(...bars.flatMap((b) => [b.value ?? 0, b.mark ?? 0])) || 1;
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  bars.forEach((b, i) => {
    const y = i * row + 3, width = ((b.value ?? 0) / most) * (W - L - R);
    root.append(Object.assign(svg("text", { x: L - 6, y: y + 12, "text-anchor": "end" }), { textContent: b.name.replaceAll("_", " ") }));
    root.append(svg("rect", { x: L, y: y + 1, width, height: row - 5, rx: 2, fill: b.colour }));
    if (b.mark !== null && b.mark !== undefined) {
      const x = L + (b.mark / most) * (W - L - R);
      root.append(svg("line", { x1: x, x2: x, y1: y - 1, y2: y + row - 3, stroke: "currentColor", "stroke-width": 2 }));
    }
    root.append(Object.assign(svg("text", { x: L + (Math.max(b.value ?? 0, b.mark ?? 0) / most) * (W - L - R) + 8, y: y + 12 }), { textContent: b.value === null ? "not visible" : `${b.value.toFixed(1)} ${unit}` }));
  });
  return el("div", {}, el("h3", {}, title), root, ...(note ? [el("p", { class: "note" }, note)] : []));
}
