// A hand on a canvas: in 3D, turned by dragging, or flat over a picture.

const DATA = JSON.parse(document.getElementById("data").textContent);
const PIXELS = Math.min(window.devicePixelRatio || 1, 2);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const redraws = [];
/** Draw now, and again when the colours of the page change. */
function drawn(draw) {
  redraws.push(draw);
  draw();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((draw) => draw()));

function canvas(side, label) {
  const node = el("canvas", { width: Math.round(side * PIXELS), height: Math.round(side * PIXELS), role: "img", "aria-label": label });
  node.style.width = `${side}px`;
  node.style.height = `${side}px`;
  return node;
}

/** Bones and joints at points [[x, y], ...] in canvas pixels; `colour` null: a colour a finger. */
function strokeHand(paint, points, colour, width, order) {
  const { bones, colours } = DATA.skeleton;
  const known = (p) => p && p.every((v) => v !== null && Number.isFinite(v));
  paint.lineCap = "round";
  for (const k of order || bones.keys()) {
    const [a, b] = bones[k];
    if (!known(points[a]) || !known(points[b])) continue;
    paint.strokeStyle = paint.fillStyle = colour || colours[b];
    paint.lineWidth = width;
    paint.beginPath();
    paint.moveTo(points[a][0], points[a][1]);
    paint.lineTo(points[b][0], points[b][1]);
    paint.stroke();
    paint.beginPath();
    paint.arc(points[b][0], points[b][1], 1.1 * width, 0, 2 * Math.PI);
    paint.fill();
  }
}

/** A canvas that shows hands in the camera's frame (mm; x right, y down, z away) and turns when dragged. */
class HandView {
  constructor(side, label, reach) {
    this.node = canvas(side, `${label}; drag to turn`);
    this.node.className = "turn";
    this.node.tabIndex = 0;
    this.reach = reach;
    this.hands = [];
    this.reset();
    this.node.addEventListener("pointerdown", (e) => {
      this.from = [e.clientX, e.clientY];
      this.node.setPointerCapture(e.pointerId);
    });
    this.node.addEventListener("pointermove", (e) => {
      if (!this.from) return;
      this.turn((e.clientX - this.from[0]) * 0.012, (e.clientY - this.from[1]) * 0.012);
      this.from = [e.clientX, e.clientY];
    });
    for (const end of ["pointerup", "pointercancel"]) this.node.addEventListener(end, () => (this.from = null));
    this.node.addEventListener("dblclick", () => { this.reset(); this.draw(); });
    this.node.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[e.key];
      if (!step) return;
      e.preventDefault();
      this.turn(...step);
    });
  }

  reset() {
    this.yaw = 0.3;
    this.pitch = 0.15;
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
    this.draw();
  }

  /** hands: [{joints: [[x, y, z], ...], colour: CSS variable name or null}] */
  show(hands) {
    this.hands = hands;
    const all = hands.flatMap((h) => h.joints).filter((p) => p[0] !== null);
    this.centre = [0, 1, 2].map((k) => (Math.min(...all.map((p) => p[k])) + Math.max(...all.map((p) => p[k]))) / 2);
    const far = Math.max(...all.map((p) => Math.hypot(...p.map((v, k) => v - this.centre[k]))));
    this.half = this.reach || far || 1;
    this.draw();
  }

  seen(p) {
    if (p[0] === null) return [NaN, NaN, 0];
    const [x, y, z] = p.map((v, k) => v - this.centre[k]);
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    const [x1, z1] = [cy * x + sy * z, cy * z - sy * x];
    return [x1, cp * y - sp * z1, sp * y + cp * z1];
  }

  draw() {
    const paint = this.node.getContext("2d"), size = this.node.width;
    paint.clearRect(0, 0, size, size);
    const zoom = (0.47 * size) / this.half;
    for (const { joints, colour } of this.hands) {
      const turned = joints.map((p) => this.seen(p));
      const at = turned.map(([x, y]) => [size / 2 + zoom * x, size / 2 + zoom * y]);
      const depth = (k) => Math.max(...DATA.skeleton.bones[k].map((j) => turned[j][2]));
      const order = [...DATA.skeleton.bones.keys()].sort((a, b) => depth(b) - depth(a)); // far bones first
      strokeHand(paint, at, colour ? theme(colour) : null, Math.max(1.5, size / 110), order);
    }
  }
}

/** 2D joints that fill [-0.5, 0.5], on a canvas of their own. */
function drawFlat(node, points) {
  const size = node.width, paint = node.getContext("2d");
  paint.fillStyle = theme("stripe");
  paint.fillRect(0, 0, size, size);
  const at = points.map((p) => (p[0] === null ? [NaN, NaN] : [size * (0.5 + 0.86 * p[0]), size * (0.5 + 0.86 * p[1])]));
  strokeHand(paint, at, null, Math.max(1.2, size / 80));
}

const sheets = new Map();
/** Draw picture `i` of a sheet on a canvas; `after` runs once it is there. */
function drawFromSheet(node, sheet, i, after) {
  let image = sheets.get(sheet.uri);
  if (!image) {
    image = new Image();
    image.src = sheet.uri;
    sheets.set(sheet.uri, image);
  }
  const paintIt = () => {
    const { side, columns } = sheet;
    const paint = node.getContext("2d");
    paint.imageSmoothingEnabled = true;
    paint.drawImage(image, (i % columns) * side, Math.floor(i / columns) * side, side, side, 0, 0, node.width, node.height);
    if (after) after(paint);
  };
  if (image.complete && image.naturalWidth) paintIt();
  else image.addEventListener("load", paintIt, { once: true });
}

/** What stands for hand `i` of some thumbnails: its picture, or its 2D joints. */
function drawThumb(node, thumbs, i) {
  if (thumbs.sheet) drawFromSheet(node, thumbs.sheet, i);
  else drawFlat(node, thumbs.points[i]);
}

// -- the word beside the pointer ---------------------------------------------------------------------

const tip = document.getElementById("tip");
function showTip(event, ...content) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const right = event.clientX + 16 + width > innerWidth ? event.clientX - 16 - width : event.clientX + 16;
  tip.style.left = `${Math.max(4, right)}px`;
  tip.style.top = `${Math.max(4, Math.min(innerHeight - height - 4, event.clientY - height / 2))}px`;
}
const hideTip = () => (tip.hidden = true);
addEventListener("scroll", hideTip, { passive: true });
