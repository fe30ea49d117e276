// The sections of the page, from the data in it.

const mm = (v) => (v === null || v === undefined ? "" : v.toFixed(2));
const unit = (v) => (v === null || v === undefined ? "" : v.toFixed(3));

/** Fill a section, or say what the run lacks for it. */
function section(name, fill) {
  const body = document.querySelector(`#${name} .body`), data = DATA[name];
  if (data && data.lacking) body.append(el("p", { class: "lacking" }, `Left out: ${data.lacking}.`));
  else fill(body, data);
}

function table(columns, rows) {
  const head = el("tr", {}, ...columns.map((c) => el("th", { scope: "col" }, c)));
  const lines = rows.map(({ kind, cells }) => el("tr", { class: kind || "" }, ...cells.map((c) => el("td", {}, c))));
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...lines)));
}

function header() {
  const run = DATA.run, tiles = document.getElementById("tiles");
  document.getElementById("name").textContent = run.name;
  document.getElementById("about").textContent =
    `${run.pairs.join(", ")} · trained on ${run.data.join(", ")} · ${run.held_out.toLocaleString("en")} held-out hands · protocol ${run.protocol}`;
  const add = (value, what) => tiles.append(el("div", { class: "tile" }, el("b", {}, value), el("span", {}, what)));
  const first = Array.isArray(DATA.metrics) ? DATA.metrics[0] : null;
  if (first) {
    const mine = first.rows[0], mean = first.rows.find((r) => r.who === "mean pose");
    add(`${mm(mine.median)} mm`, `median error, ${first.label} → 3D joints`);
    add(unit(mine.auc_20_50), "AUC 20–50 mm");
    if (mean) add(`${Math.round((100 * mine.median) / mean.median)} %`, "of the mean pose's error");
  }
  add(run.parameters.toLocaleString("en"), "parameters");
  add(`${run.latent}`, "latent dimensions");
}

/** Whose numbers a row has; what they were measured on stands below, where no narrow screen hides it. */
const who = (r) => el("span", {}, r.who, r.note ? el("small", {}, r.note) : null);

function metricsSection(body, sources) {
  const columns = ["", "median EPE mm", "mean EPE mm", "PA-MPJPE mm", "AUC 0–50", "AUC 20–50"];
  for (const s of sources) {
    const self = s.source === "joints3d" ? " (reconstruction)" : "";
    body.append(el("h3", {}, `${s.label} → 3D joints${self}, ${s.frames.toLocaleString("en")} held-out hands`), table(columns, s.rows.map((r) => ({
      kind: r.kind, cells: [who(r), mm(r.median), mm(r.mean), mm(r.pa), unit(r.auc_0_50), unit(r.auc_20_50)],
    }))));
  }
  body.append(el("p", { class: "note" }, "End-point error over visible joints, relative to the root; mean over the joints of each joint's mean or median. The paper's numbers are of its own evaluation frames."));
}

function trainingSection(body, t) {
  const lines = (of, colours) => Object.entries(of).map(([name, y]) => ({ name, x: t.step, y, colour: colours && colours[name] }));
  if (Object.keys(t.epe).length) {
    const series = Object.entries(t.epe).map(([name, y]) => ({ name, x: t.checked, y, colour: t.epe_colours[name], dots: y.length < 40 }));
    body.append(lineChart({ title: "Held-out median error", series, x: "step", y: "mm", yMin: 0 }));
  }
  body.append(lineChart({ title: "Loss of each pair", series: lines(t.losses), x: "step", y: "loss", log: true }));
  body.append(lineChart({ title: "KL of each input", series: lines(t.kl, t.kl_colours), x: "step", y: "nats", log: true }));
  if (t.seconds) body.append(el("p", { class: "note wide" }, `${Math.round(t.seconds).toLocaleString("en")} s, ${Math.round(t.samples_per_second).toLocaleString("en")} samples a second.`));
}

function pckSection(body, pck) {
  const greys = ["#8b93a3", "#b08968"];
  let k = 0;
  const series = pck.curves.map((c) => ({ name: c.name, x: pck.thresholds, y: c.values, colour: c.colour || greys[k++ % 2], dash: !c.colour }));
  body.append(lineChart({ series, x: "threshold, mm", y: "share of joints", yMin: 0, yMax: 1 }));
  body.firstChild.style.maxWidth = "560px";
}

function jointsSection(body, j) {
  body.append(
    barChart({ title: `By finger, ${j.source} → 3D joints`, unit: "mm", bars: j.fingers.map((f) => ({ name: f.name, value: f.mean, colour: f.colour })), note: "Mean error over the joints of a finger." }),
    barChart({ title: "By joint", unit: "mm", bars: j.names.map((name, i) => ({ name, value: j.mean[i], mark: j.median[i], colour: j.colours[i] })), note: "Bar: mean; tick: median." }));
}

function examplesSection(body, e) {
  body.append(el("p", { class: "note" }, `Of ${e.frames.toLocaleString("en")} held-out hands at least half in sight, seen as ${e.source}. Truth is blue, prediction red; drag a hand to turn it.`));
  for (const kind of ["best", "worst"]) {
    const cards = e[kind].hands.map((hand, i) => {
      const picture = canvas(160, `held-out hand ${hand.row}`), view = new HandView(160, "truth and prediction");
      picture.style.width = picture.style.height = view.node.style.width = view.node.style.height = "";
      drawn(() => drawThumb(picture, e[kind], i));
      drawn(() => view.show([{ joints: hand.truth, colour: "truth" }, { joints: hand.predicted, colour: "prediction" }]));
      return el("div", { class: "card" }, picture, view.node, el("p", {}, `hand ${hand.row}: ${hand.error.toFixed(1)} mm`));
    });
    body.append(el("h3", {}, kind === "best" ? "Best" : "Worst"), el("div", { class: "cards" }, ...cards));
  }
}

/** Whose hands told the calibration, and whether the curves judge it on these very hands. */
function toldBy(r) {
  if (!r.carried) return "The run carries no calibration; it was found on every other of these hands, and the curves are of the others.";
  if (r.told_by === "training") return "That was found on training hands, held out in turn; no hand of these curves had a part in it.";
  if (r.same) return "That was found on the run's validation hands, of which these are some: the blue curves flatter it.";
  return "That was found on the run's validation hands; no hand of these curves had a part in it.";
}

function reliabilitySection(body, r) {
  const most = 1.05 * Math.max(...r.error, ...r.calibrated, ...r.calibrated_error);
  const ideal = (end) => ({ name: "ideal", x: [0, end], y: [0, end], colour: "#8b93a3", dash: true });
  body.append(
    lineChart({
      title: "Predicted spread and actual error", x: "predicted, mm", y: "actual, mm", yMin: 0, yMax: most, xMin: 0, xMax: most,
      series: [ideal(most), { name: "spread of posterior samples", x: r.spread, y: r.error, colour: "#d1495b", dots: true },
        { name: "calibrated", x: r.calibrated, y: r.calibrated_error, colour: "#2563c9", dots: true }],
    }),
    lineChart({
      title: "How often the truth is where it should be", x: "share promised", y: "share found", yMin: 0, yMax: 1, xMin: 0, xMax: 1,
      series: [ideal(1), { name: "posterior samples", x: r.levels, y: r.covered_raw, colour: "#d1495b" },
        { name: "calibrated", x: r.levels, y: r.covered, colour: "#2563c9" }],
    }),
    el("p", { class: "note wide" },
      `${r.hands} held-out hands; ten bins of equally many joints, root mean squares. Spread and error are ranked alike with a correlation of ${r.rank.toFixed(2)}. ` +
      (r.turns ? `Calibrated samples of a hand are ${r.scale.toFixed(1)} times as wide as its predictions differ when it is turned` : `Calibrated samples are ${r.scale.toFixed(1)} times as wide`) + (r.dof ? ` and have the tails of ${r.dof} degrees of freedom. ` : ". ") +
      toldBy(r)));
}

function configSection(body) {
  body.append(
    table(["", ""], Object.entries(DATA.versions).map(([k, v]) => ({ cells: [k, v] }))),
    el("details", {}, el("summary", {}, "config.toml"), el("pre", {}, DATA.config)));
}

header();
section("metrics", metricsSection);
section("training", trainingSection);
section("pck", pckSection);
section("joints", jointsSection);
section("examples", examplesSection);
section("space", spaceSection);
section("walk", walkSection);
section("reliability", reliabilitySection);
configSection(document.querySelector("#config .body"));
document.body.dataset.ready = "yes";
