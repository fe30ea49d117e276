// The t-SNE of the latent means, whose points show their hands, and the latent interpolation.

/** A square canvas with the points of one panel; the point under the pointer shows its hand. */
function scatterPlot(latents, panel) {
  const node = canvas(480, `t-SNE, ${panel.title}: ${latents.names.join(", ")}`);
  node.style.width = "100%";
  node.style.height = "auto";
  const size = node.width, place = ([x, y]) => [size * (0.5 + 0.47 * x), size * (0.5 - 0.47 * y)];
  // in a fixed shuffled order: no modality lies on top of all others
  const order = [...panel.at.keys()].sort((a, b) => ((a * 7919) % 10007) - ((b * 7919) % 10007));
  let marked = -1;
  const draw = () => {
    const context = node.getContext("2d");
    context.clearRect(0, 0, size, size);
    for (const i of order) {
      const [x, y] = place(panel.at[i]);
      const same = marked >= 0 && panel.thumbnail[i] === panel.thumbnail[marked];
      context.globalAlpha = marked < 0 || same ? 0.9 : 0.25;
      context.fillStyle = latents.colours[panel.modality[i]];
      context.beginPath();
      context.arc(x, y, (same ? 6 : 3.4) * PIXELS, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  };
  keepDrawn(draw);
  const onPointer = (event) => {
    const box = node.getBoundingClientRect(), scale = size / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = -1, nearest = (14 * PIXELS) ** 2;
    panel.at.forEach((at, i) => {
      const [a, b] = place(at), distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < nearest) [best, nearest] = [i, distance];
    });
    if (best !== marked) { marked = best; draw(); }
    if (best < 0) return hideTip();
    const image = canvas(128, "the hand of this point");
    drawThumbnail(image, latents.thumbnails, panel.thumbnail[best]);
    showTip(event, image, el("div", {}, `${latents.names[panel.modality[best]]}, held-out hand ${latents.rows[panel.thumbnail[best]]}`));
  };
  node.addEventListener("pointermove", onPointer);
  node.addEventListener("pointerdown", onPointer);
  node.addEventListener("pointerleave", () => { marked = -1; draw(); hideTip(); });
  return node;
}

function latentsSection(body, latents) {
  const key = el("div", { class: "legend" }, ...latents.names.map((name, k) => {
    const dot = el("i", { class: "dot" });
    dot.style.background = latents.colours[k];
    return el("span", {}, dot, name);
  }));
  const panels = latents.panels.map((panel) => {
    const a = panel.accuracy;
    const text = a.left_out ? a.left_out
      : `Modality classification accuracy: ${a.accuracy.toFixed(2)} ± ${a.error.toFixed(2)} for k nearest neighbours, ${a.linear.toFixed(2)} ± ${a.linear_error.toFixed(2)} for a linear classifier. Perfectly mixed modalities reach ${a.chance.toFixed(2)}, which is chance.`;
    return el("div", {}, el("h3", {}, panel.title), scatterPlot(latents, panel), el("p", { class: "note" }, text));
  });
  body.append(
    el("p", { class: "note" }, "t-SNE of the latent means of held-out hands. Point at one to see its hand and to highlight the same hand in the other modalities."),
    key, el("div", { class: "panels" }, ...panels));
  if (panels.length < 2 && latents.names.length > 1) body.append(el("p", { class: "note" }, "For comparison with unimodal training, run cvhpe figures once and write this report again."));
}

/** A slider between two hands: 3D joints, image and 2D joints decoded at every step. */
function interpolationSection(body, line) {
  const row = el("div", { class: "interpolation" }), count = (line.joints3d || line.joints2d || { length: 25 }).length;
  const side = Math.min(300, Math.max(150, innerWidth - 80));
  const end = (k) => {
    const node = canvas(96, `hand ${"AB"[k]}`);
    keepDrawn(() => drawThumbnail(node, line.inputs, k));
    return el("figure", { class: "end" }, node, el("figcaption", {}, `hand ${"AB"[k]} (${line.ends[k]})`));
  };
  let hand = null, image = null;
  const shown = [];
  if (line.joints3d) {
    const radius = 1.05 * Math.max(...line.joints3d.map((joints) => {
      const c = [0, 1, 2].map((k) => (Math.min(...joints.map((p) => p[k])) + Math.max(...joints.map((p) => p[k]))) / 2);
      return Math.max(...joints.map((p) => Math.hypot(...p.map((v, k) => v - c[k]))));
    }));
    hand = new HandView(side, "interpolated 3D hand", radius);
    hand.node.id = "interpolation-hand";
    redraws.push(() => hand.draw());
    shown.push(el("figure", {}, hand.node, el("figcaption", {}, "3D joints, drag to rotate")));
  }
  if (line.image || line.joints2d) {
    image = canvas(Math.min(200, side), "interpolated image");
    image.id = "interpolation-image";
    const what = [line.image && line.image.label, line.joints2d && "2D joints"].filter(Boolean).join(" and ");
    shown.push(el("figure", {}, image, el("figcaption", {}, what)));
  }
  row.append(end(0), ...shown, end(1));
  const slider = el("input", { type: "range", min: 0, max: count - 1, value: 0, step: 1, id: "interpolation-slider", "aria-label": "interpolation step" });
  const place = el("output", { for: "interpolation-slider" });
  const show = () => {
    const k = Number(slider.value);
    place.textContent = `${Math.round((100 * k) / (count - 1))} %`;
    if (hand) hand.show([{ joints: line.joints3d[k], colour: null }]);
    if (!image) return;
    const size = image.width;
    const joints = (context) => {
      if (line.joints2d) drawHand(context, line.joints2d[k].map(([x, y]) => [size * (x + 0.5), size * (y + 0.5)]), null, size / 90);
    };
    if (line.image) drawFromSheet(image, line.image, k, joints);
    else {
      const context = image.getContext("2d");
      context.fillStyle = theme("stripe");
      context.fillRect(0, 0, size, size);
      joints(context);
    }
  };
  slider.addEventListener("input", show);
  let timer = null;
  const play = el("button", { type: "button" }, "Play");
  let direction = 1;
  play.onclick = () => {
    if (timer) { clearInterval(timer); timer = null; play.textContent = "Play"; return; }
    play.textContent = "Stop";
    timer = setInterval(() => {
      const next = Number(slider.value) + direction;
      if (next < 0 || next > count - 1) direction = -direction;
      slider.value = Number(slider.value) + direction;
      show();
    }, 120);
  };
  body.append(
    el("p", { class: "note" }, `Two held-out hands are encoded from ${line.source}; points on the straight line between their latent means are decoded.`),
    row, el("div", { class: "slide" }, play, slider, place));
  keepDrawn(show);
}
