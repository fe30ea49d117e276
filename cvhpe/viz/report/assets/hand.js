// Hands on canvases: in 3D, rotated by dragging, or in 2D over an image.

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
/** Draw now, and again when the colour scheme changes. */
function keepDrawn(draw) {
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

/** Draw bones and joints at points [[x, y], ...] in canvas pixels; `colour` null gives each finger its own. */
function drawHand(context, points, colour, width, order) {
  const { bones, colours } = DATA.skeleton;
  const known = (p) => p && p.every((v) => v !== null && Number.isFinite(v));
  context.lineCap = "round";
  for (const k of order || bones.keys()) {
    const [a, b] = bones[k];
    if (!known(points[a]) || !known(points[b])) continue;
    context.strokeStyle = context.fillStyle = colour || colours[b];
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(points[a][0], points[a][1]);
    context.lineTo(points[b][0], points[b][1]);
    context.stroke();
    context.beginPath();
    context.arc(points[b][0], points[b][1], 1.1 * width, 0, 2 * Math.PI);
    context.fill();
  }
}

/** A canvas that shows hands in the camera frame (mm; x right, y down, z forward) and rotates when dragged. */
class HandView {
  constructor(side, label, radius) {
    this.node = canvas(side, `${label}; drag to rotate`);
    this.node.className = "rotatable";
    this.node.tabIndex = 0;
    this.radius = radius;
    this.hands = [];
    this.reset();
    this.node.addEventListener("pointerdown", (e) => {
      this.from = [e.clientX, e.clientY];
      this.node.setPointerCapture(e.pointerId);
    });
    this.node.addEventListener("pointermove", (e) => {
      if (!this.from) return;
      this.rotate((e.clientX - this.from[0]) * 0.012, (e.clientY - this.from[1]) * 0.012);
      this.from = [e.clientX, e.clientY];
    });
    for (const end of ["pointerup", "pointercancel"]) this.node.addEventListener(end, () => (this.from = null));
    this.node.addEventListener("dblclick", () => { this.reset(); this.draw(); });
    this.node.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[e.key];
      if (!step) return;
      e.preventDefault();
      this.rotate(...step);
    });
  }

  reset() {
    this.yaw = 0.3;
    this.pitch = 0.15;
  }

  rotate(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
    this.draw();
  }

  /** hands: [{joints: [[x, y, z], ...], colour: CSS variable name or null}] */
  show(hands) {
    this.hands = hands;
    const all = hands.flatMap((h) => h.joints).filter((p) => p[0] !== null);
    this.centre = [0, 1, 2].map((k) => (Math.min(...all.map((p) => p[k])) + Math.max(...all.map((p) => p[k]))) / 2);
    const farthest = Math.max(...all.map((p) => Math.hypot(...p.map((v, k) => v - this.centre[k]))));
    this.half = this.radius || farthest || 1;
    this.draw();
  }

  /** Rotate a point into the view. */
  toView(p) {
    if (p[0] === null) return [NaN, NaN, 0];
    const [x, y, z] = p.map((v, k) => v - this.centre[k]);
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    const [x1, z1] = [cy * x + sy * z, cy * z - sy * x];
    return [x1, cp * y - sp * z1, sp * y + cp * z1];
  }

  draw() {
    const context = this.node.getContext("2d"), size = this.node.width;
    context.clearRect(0, 0, size, size);
    const zoom = (0.47 * size) / this.half;
    for (const { joints, colour } of this.hands) {
      const rotated = joints.map((p) => this.toView(p));
      const at = rotated.map(([x, y]) => [size / 2 + zoom * x, size / 2 + zoom * y]);
      const depth = (k) => Math.max(...DATA.skeleton.bones[k].map((j) => rotated[j][2]));
      const order = [...DATA.skeleton.bones.keys()].sort((a, b) => depth(b) - depth(a)); // far bones first
      drawHand(context, at, colour ? theme(colour) : null, Math.max(1.5, size / 110), order);
    }
  }
}

/** Draw 2D joints in [-0.5, 0.5] on an empty canvas. */
function draw2D(node, points) {
  const size = node.width, context = node.getContext("2d");
  context.fillStyle = theme("stripe");
  context.fillRect(0, 0, size, size);
  const at = points.map((p) => (p[0] === null ? [NaN, NaN] : [size * (0.5 + 0.86 * p[0]), size * (0.5 + 0.86 * p[1])]));
  drawHand(context, at, null, Math.max(1.2, size / 80));
}

const sheets = new Map();
/** Draw image `i` of a sprite sheet on a canvas, then call `after`. */
function drawFromSheet(node, sheet, i, after) {
  let image = sheets.get(sheet.uri);
  if (!image) {
    image = new Image();
    image.src = sheet.uri;
    sheets.set(sheet.uri, image);
  }
  const drawSprite = () => {
    const { side, columns } = sheet;
    const context = node.getContext("2d");
    context.imageSmoothingEnabled = true;
    context.drawImage(image, (i % columns) * side, Math.floor(i / columns) * side, side, side, 0, 0, node.width, node.height);
    if (after) after(context);
  };
  if (image.complete && image.naturalWidth) drawSprite();
  else image.addEventListener("load", drawSprite, { once: true });
}

/** Draw thumbnail `i`: an image, or 2D joints. */
function drawThumbnail(node, thumbnails, i) {
  if (thumbnails.sheet) drawFromSheet(node, thumbnails.sheet, i);
  else draw2D(node, thumbnails.points[i]);
}

// -- tooltip ---------------------------------------------------------------------------------------

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
