// The latent space as a cloud of points, each of which shows its hand.

/** A square canvas with the points of one panel; `find(event)` gives the point under the pointer. */
function cloud(space, panel) {
  const node = canvas(480, `t-SNE, ${panel.title}: ${space.names.join(", ")}`);
  node.style.width = "100%";
  node.style.height = "auto";
  const size = node.width, place = ([x, y]) => [size * (0.5 + 0.47 * x), size * (0.5 - 0.47 * y)];
  // Not modality after modality: the last would lie on top of all others.
  const order = [...panel.at.keys()].sort((a, b) => ((a * 7919) % 10007) - ((b * 7919) % 10007));
  let marked = -1;
  const draw = () => {
    const paint = node.getContext("2d");
    paint.clearRect(0, 0, size, size);
    for (const i of order) {
      const [x, y] = place(panel.at[i]);
      const same = marked >= 0 && panel.thumb[i] === panel.thumb[marked];
      paint.globalAlpha = marked < 0 || same ? 0.9 : 0.25;
      paint.fillStyle = space.colours[panel.modality[i]];
      paint.beginPath();
      paint.arc(x, y, (same ? 6 : 3.4) * PIXELS, 0, 2 * Math.PI);
      paint.fill();
    }
    paint.globalAlpha = 1;
  };
  drawn(draw);
  const look = (event) => {
    const box = node.getBoundingClientRect(), scale = size / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = -1, least = (14 * PIXELS) ** 2;
    panel.at.forEach((at, i) => {
      const [a, b] = place(at), far = (a - x) ** 2 + (b - y) ** 2;
      if (far < least) [best, least] = [i, far];
    });
    if (best !== marked) { marked = best; draw(); }
    if (best < 0) return hideTip();
    const picture = canvas(128, "the hand at this point");
    drawThumb(picture, space.thumbs, panel.thumb[best]);
    showTip(event, picture, el("div", {}, `${space.names[panel.modality[best]]}, held-out hand ${space.rows[panel.thumb[best]]}`));
  };
  node.addEventListener("pointermove", look);
  node.addEventListener("pointerdown", look);
  node.addEventListener("pointerleave", () => { marked = -1; draw(); hideTip(); });
  return node;
}

function spaceSection(body, space) {
  const key = el("div", { class: "legend" }, ...space.names.map((name, k) => {
    const dot = el("i", { class: "dot" });
    dot.style.background = space.colours[k];
    return el("span", {}, dot, name);
  }));
  const panels = space.panels.map((panel) => {
    const m = panel.mixing;
    const text = m.lacking ? m.lacking
      : `By their neighbours, modalities are told apart with an accuracy of ${m.accuracy.toFixed(2)} ± ${m.error.toFixed(2)}; ${m.chance.toFixed(2)} would be perfectly mixed, 1 perfectly apart. A plane in all dimensions reaches ${m.linear.toFixed(2)} ± ${m.linear_error.toFixed(2)}.`;
    return el("div", {}, el("h3", {}, panel.title), cloud(space, panel), el("p", { class: "note" }, text));
  });
  body.append(
    el("p", { class: "note" }, "t-SNE of the latent means of held-out hands. Point at one: its hand appears, and the same hand in the other modalities is marked."),
    key, el("div", { class: "panels" }, ...panels));
  if (panels.length < 2 && space.names.length > 1) body.append(el("p", { class: "note" }, "cvhpe figures trains each modality by itself for comparison; this page shows it once that was done."));
}

/** The slider: a hand that turns, its picture and its 2D joints at every step between two hands. */
function walkSection(body, walk) {
  const row = el("div", { class: "walk" }), count = (walk.joints3d || walk.joints2d || { length: 25 }).length;
  const side = Math.min(300, Math.max(150, innerWidth - 80));
  const end = (k) => {
    const node = canvas(96, `hand ${"AB"[k]}`);
    drawn(() => drawThumb(node, walk.from, k));
    return el("figure", { class: "end" }, node, el("figcaption", {}, `hand ${"AB"[k]} (${walk.ends[k]})`));
  };
  let hand = null, picture = null;
  const shown = [];
  if (walk.joints3d) {
    const reach = 1.05 * Math.max(...walk.joints3d.map((joints) => {
      const c = [0, 1, 2].map((k) => (Math.min(...joints.map((p) => p[k])) + Math.max(...joints.map((p) => p[k]))) / 2);
      return Math.max(...joints.map((p) => Math.hypot(...p.map((v, k) => v - c[k]))));
    }));
    hand = new HandView(side, "3D hand of the walk", reach);
    hand.node.id = "walk-hand";
    redraws.push(() => hand.draw());
    shown.push(el("figure", {}, hand.node, el("figcaption", {}, "3D joints, drag to turn")));
  }
  if (walk.picture || walk.joints2d) {
    picture = canvas(Math.min(200, side), "picture of the walk");
    picture.id = "walk-picture";
    const what = [walk.picture && walk.picture.label, walk.joints2d && "2D joints"].filter(Boolean).join(" and ");
    shown.push(el("figure", {}, picture, el("figcaption", {}, what)));
  }
  row.append(end(0), ...shown, end(1));
  const slider = el("input", { type: "range", min: 0, max: count - 1, value: 0, step: 1, id: "walk-slider", "aria-label": "step of the walk" });
  const place = el("output", { for: "walk-slider" });
  const show = () => {
    const k = Number(slider.value);
    place.textContent = `${Math.round((100 * k) / (count - 1))} %`;
    if (hand) hand.show([{ joints: walk.joints3d[k], colour: null }]);
    if (!picture) return;
    const size = picture.width;
    const joints = (paint) => {
      if (walk.joints2d) strokeHand(paint, walk.joints2d[k].map(([x, y]) => [size * (x + 0.5), size * (y + 0.5)]), null, size / 90);
    };
    if (walk.picture) drawFromSheet(picture, walk.picture, k, joints);
    else {
      const paint = picture.getContext("2d");
      paint.fillStyle = theme("stripe");
      paint.fillRect(0, 0, size, size);
      joints(paint);
    }
  };
  slider.addEventListener("input", show);
  let timer = null;
  const play = el("button", { type: "button" }, "Play");
  let forth = 1;
  play.onclick = () => {
    if (timer) { clearInterval(timer); timer = null; play.textContent = "Play"; return; }
    play.textContent = "Stop";
    timer = setInterval(() => {
      const next = Number(slider.value) + forth;
      if (next < 0 || next > count - 1) forth = -forth;
      slider.value = Number(slider.value) + forth;
      show();
    }, 120);
  };
  body.append(
    el("p", { class: "note" }, `Two held-out hands, seen as ${walk.source}, and the straight line between them in the latent space, decoded at every step.`),
    row, el("div", { class: "slide" }, play, slider, place));
  drawn(show);
}
