// The sections of the page.

const mm = (v) => (v === null || v === undefined ? "" : v.toFixed(2));
const unit = (v) => (v === null || v === undefined ? "" : v.toFixed(3));

/** Fill a section, or show why it is left out. */
function section(name, fill) {
  const body = document.querySelector(`#${name} .body`), data = DATA[name];
  if (data && data.left_out) body.append(el("p", { class: "left-out" }, `Left out: ${data.left_out}.`));
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
    const own = first.rows[0], mean = first.rows.find((r) => r.method === "mean pose");
    add(`${mm(own.median)} mm`, `median error, ${first.label} → 3D joints`);
    add(unit(own.auc_20_50), "AUC 20–50 mm");
    if (mean) add(`${Math.round((100 * own.median) / mean.median)} %`, "of the mean pose's error");
  }
  add(run.parameters.toLocaleString("en"), "parameters");
  add(`${run.latent}`, "latent dimensions");
}

/** The method of a row, and below it the data of its numbers. */
const method = (r) => el("span", {}, r.method, r.note ? el("small", {}, r.note) : null);

function metricsSection(body, sources) {
  const columns = ["", "median EPE mm", "mean EPE mm", "PA-MPJPE mm", "AUC 0–50", "AUC 20–50"];
  for (const s of sources) {
    const self = s.source === "joints3d" ? " (reconstruction)" : "";
    body.append(el("h3", {}, `${s.label} → 3D joints${self}, ${s.frames.toLocaleString("en")} held-out hands`), table(columns, s.rows.map((r) => ({
      kind: r.kind, cells: [method(r), mm(r.median), mm(r.mean), mm(r.pa), unit(r.auc_0_50), unit(r.auc_20_50)],
    }))));
  }
  body.append(el("p", { class: "note" }, "End-point error (EPE) of visible joints relative to the root: the mean or median of each joint, averaged over the joints. The paper's numbers are on its own evaluation frames."));
}

function trainingSection(body, t) {
  const lines = (of, colours) => Object.entries(of).map(([name, y]) => ({ name, x: t.step, y, colour: colours && colours[name] }));
  if (Object.keys(t.epe).length) {
    const series = Object.entries(t.epe).map(([name, y]) => ({ name, x: t.validated, y, colour: t.epe_colours[name], dots: y.length < 40 }));
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
  body.append(lineChart({ series, x: "threshold, mm", y: "fraction of joints", yMin: 0, yMax: 1 }));
  body.firstChild.style.maxWidth = "560px";
}

function jointsSection(body, j) {
  body.append(
    barChart({ title: `By finger, ${j.source} → 3D joints`, unit: "mm", bars: j.fingers.map((f) => ({ name: f.name, value: f.mean, colour: f.colour })), note: "Mean error over the joints of a finger." }),
    barChart({ title: "By joint", unit: "mm", bars: j.names.map((name, i) => ({ name, value: j.mean[i], mark: j.median[i], colour: j.colours[i] })), note: "Bar: mean; tick: median." }));
}

function examplesSection(body, e) {
  body.append(el("p", { class: "note" }, `Of ${e.frames.toLocaleString("en")} held-out hands with at least half of their joints visible; input: ${e.source}. Ground truth is blue, prediction red; drag a hand to rotate it.`));
  for (const kind of ["best", "worst"]) {
    const examples = e[kind].hands.map((hand, i) => {
      const image = canvas(160, `held-out hand ${hand.row}`), view = new HandView(160, "ground truth and prediction");
      image.style.width = image.style.height = view.node.style.width = view.node.style.height = "";
      keepDrawn(() => drawThumbnail(image, e[kind], i));
      keepDrawn(() => view.show([{ joints: hand.truth, colour: "truth" }, { joints: hand.predicted, colour: "prediction" }]));
      return el("div", { class: "example" }, image, view.node, el("p", {}, `hand ${hand.row}: ${hand.error.toFixed(1)} mm`));
    });
    body.append(el("h3", {}, kind === "best" ? "Best" : "Worst"), el("div", { class: "examples" }, ...examples));
  }
}

/** What the calibration was fitted on, and whether the charts show the same hands. */
function calibrationNote(r) {
  if (!r.has_calibration) return "The run has no calibration: it is fitted here on every other hand, and the charts show the remaining ones.";
  if (r.fitted_on === "training") return "The calibration is fitted on training hands by cross-validation; none of them is shown here.";
  if (r.overlaps) return "The calibration is fitted on validation hands, some of which are shown here: the calibrated curves are optimistic.";
  return "The calibration is fitted on validation hands; none of them is shown here.";
}

function reliabilitySection(body, r) {
  const most = 1.05 * Math.max(...r.error_raw, ...r.sd, ...r.error);
  const ideal = (end) => ({ name: "ideal", x: [0, end], y: [0, end], colour: "#8b93a3", dash: true });
  const scaling = r.tta_views
    ? `Calibrated samples have ${r.scale.toFixed(1)} times the standard deviation of the predictions under ${r.tta_views} TTA views`
    : `Calibration scales the samples by ${r.scale.toFixed(1)}`;
  const tails = r.dof ? `, with the tails of Student's t distribution with ${r.dof} degrees of freedom. ` : ". ";
  body.append(
    lineChart({
      title: "Predicted standard deviation and error", x: "standard deviation, mm", y: "error (RMS), mm", yMin: 0, yMax: most, xMin: 0, xMax: most,
      series: [ideal(most), { name: "posterior samples", x: r.sd_raw, y: r.error_raw, colour: "#d1495b", dots: true },
        { name: "calibrated", x: r.sd, y: r.error, colour: "#2563c9", dots: true }],
    }),
    lineChart({
      title: "Coverage of credible regions", x: "nominal coverage", y: "empirical coverage", yMin: 0, yMax: 1, xMin: 0, xMax: 1,
      series: [ideal(1), { name: "posterior samples", x: r.levels, y: r.coverage_raw, colour: "#d1495b" },
        { name: "calibrated", x: r.levels, y: r.coverage, colour: "#2563c9" }],
    }),
    el("p", { class: "note wide" },
      `${r.hands.toLocaleString("en")} held-out hands; ten bins of equally many joints, root mean squares. ` +
      `Rank correlation of standard deviation and error: ${r.rank_correlation.toFixed(2)}. ${scaling}${tails}${calibrationNote(r)}`));
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
section("latents", latentsSection);
section("interpolation", interpolationSection);
section("reliability", reliabilitySection);
configSection(document.querySelector("#config .body"));
document.body.dataset.ready = "yes";
