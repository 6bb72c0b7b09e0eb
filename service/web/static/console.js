// The console: what the REST interface says, for people. It holds nothing of its own but the key, in this tab.
import { $, ask, askForKey, attempt, element, say } from "./base.js";
import { actions, showAliases, showAudit, showDefault } from "./life.js";

const state = { models: [], model: null, version: null, points: [] };

const percent = (number) => (number === null ? "undefined" : number.toFixed(3));

function interval(found) {
  if (!found) return "";
  if (found.value === null) return "undefined";
  return element("span", { title: `on ${found.rows} rows` }, percent(found.value), " ",
    element("small", {}, `[${percent(found.low)}, ${percent(found.high)}]`));
}

const isDefault = (point) => point.is_default;
const isScores = (version) => version.kind === "scores"; // registered by its classes alone
const current = () => state.model.versions.find((version) => version.model_version === state.version);

async function load(keep) {
  state.models = await ask("GET", "/models");
  if (state.models.length === 0) {
    say("No model is registered yet: setpoint publish model.onnx --model NAME");
    return;
  }
  const name = keep?.model ?? state.models[0].name;
  $("model").replaceChildren(...state.models.map((model) => element("option", {}, model.name)));
  $("model").value = name;
  await choose(name, keep?.version);
}

const reload = () => load({ model: state.model.name, version: state.version });

async function choose(name, version) {
  state.model = state.models.find((model) => model.name === name);
  state.version = version ?? state.model.default.model_version;
  $("version").replaceChildren(...state.model.versions.map((found) =>
    element("option", { value: found.model_version }, found.is_default ? `${found.model_version} (live)` : `${found.model_version} (staged)`)));
  $("version").value = state.version;
  state.points = await ask("GET", `/models/${name}/operating-points?model_version=${state.version}`);
  showPoints();
  showPlane();
  showForm();
  showAliases(name, state.model.aliases, state.points, reload);
  $("shadow").replaceChildren();
  $("main").hidden = false;
  await showDefault(name, reload);
  await showAudit(name);
}

function showPoints() {
  const shown = current();
  $("about").textContent = isScores(shown)
    ? `Decides between ${shown.classes.join(", ")}, on scores that are computed elsewhere.`
    : `Decides between ${shown.classes.join(", ")}; runs on ${shown.provider ?? "nothing yet"}; file ${shown.digest.slice(0, 12)}.`;
  const names = ["recall", "precision", "f1", "g_mean"];
  const head = element("tr", {}, ...["point", "state", "fitted for", "threshold", ...names, "evidence", ""].map((text) => element("th", { scope: "col" }, text)));
  const rows = state.points.map((point) => element("tr", isDefault(point) ? { class: "default" } : {},
    element("td", { title: `${point.method}, ${point.created_at}` }, point.operating_point, " ",
      isDefault(point) ? element("span", { class: "badge" }, "default") : null,
      ...point.aliases.map((alias) => element("small", {}, ` ${alias}`))),
    element("td", { class: point.state, title: [point.because, `published by ${point.author || "nobody who is known"}`, point.approved_by ? `approved by ${point.approved_by}` : ""].filter((text) => text).join("; ") }, point.state),
    element("td", { class: "long" }, point.fitted_for ?? "–",
      point.positive === null ? null : element("small", {}, ` positive: ${point.positive}`)),
    element("td", {}, point.threshold === null ? "–" : point.threshold.toPrecision(3)),
    ...names.map((name) => element("td", {}, interval(point.evidence[name]))),
    element("td", {}, point.evidence.recall ? point.evidence.recall.kind.replace("_", "-") : "none",
      ...(point.guarantees ?? []).map((each) => element("div", {}, `${each.interval.kind}: ${each.constraint}`)),
      point.warnings.length === 0 ? null : element("details", {}, element("summary", {}, `${point.warnings.length} warning${point.warnings.length === 1 ? "" : "s"}`),
        ...point.warnings.map((text) => element("div", { class: "note" }, text)))),
    element("td", {}, ...actions(state.model.name, point, reload))));
  $("points").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

function showPlane() {
  const x = (value) => 40 + value * 360, y = (value) => 290 - value * 270;
  const parts = [element("svg:path", { class: "axis", fill: "none", d: `M${x(0)} ${y(1)} V${y(0)} H${x(1)}` }),
    element("svg:text", { x: x(1), y: 314, "text-anchor": "end" }, "recall"),
    element("svg:text", { x: 4, y: y(1) - 6 }, "precision")];
  for (const tick of [0, 0.5, 1]) {
    parts.push(element("svg:text", { x: x(tick), y: 304, "text-anchor": "middle" }, String(tick)));
    parts.push(element("svg:text", { x: 34, y: y(tick) + 4, "text-anchor": "end" }, String(tick)));
  }
  const labels = [];
  for (const point of state.points) {
    const { recall, precision } = point.evidence;
    if (!recall || recall.value === null || precision.value === null) continue;
    const [across, up] = [x(recall.value), y(precision.value)];
    const left = recall.value > 0.6;
    parts.push(element("svg:g", isDefault(point) ? { class: "default" } : {},
      element("svg:path", { class: "spread", d: `M${x(recall.low)} ${up} H${x(recall.high)} M${across} ${y(precision.low)} V${y(precision.high)}` }),
      element("svg:circle", { cx: across, cy: up, r: 5 })));
    labels.push(element("svg:text", { x: across + (left ? -9 : 9), y: up - 8, "text-anchor": left ? "end" : "start" }, point.operating_point));
  }
  let lowest = -Infinity; // labels one below the other where points lie close together
  for (const label of labels.sort((a, b) => a.getAttribute("y") - b.getAttribute("y"))) {
    lowest = Math.max(Number(label.getAttribute("y")), lowest + 13);
    label.setAttribute("y", lowest);
  }
  parts.push(...labels);
  $("plane").replaceChildren(...parts);
}

function showForm() {
  const { columns, inputs } = current();
  const probability = (name) => element("label", {}, `probability of ${name}`, element("input", { name: `of ${name}`, inputmode: "decimal", autocomplete: "off" }));
  const fields = isScores(current()) ? asked(current()).map(probability) : columns.length > 0 ? columns.map((column) => element("label", { title: `empty: ${column.missing}` }, column.name,
    column.kind === "category"
      ? element("select", { name: column.name }, element("option", { value: "" }, ""), ...Object.entries(column.codes).map(([name, code]) => element("option", { value: code }, name)))
      : element("input", { name: column.name, inputmode: "decimal", autocomplete: "off" })))
    : [element("label", { class: "wide" }, `One row as JSON, of ${inputs.map((input) => `${input.name} ${input.dtype} (${input.shape.slice(1).join(", ")})`).join("; ")}`,
      element("textarea", { name: "json", rows: 3 }, "[]"))];
  $("row").replaceChildren(...fields, element("p", { class: "wide" }, element("button", {}, "Decide")));
  $("answer").replaceChildren();
}

// The classes whose probability the form asks for: of two the second one's is enough.
const asked = ({ classes }) => (classes.length === 2 ? classes.slice(1) : classes);

// The row in the form, as a function of how many copies of it are wanted: the rows of a call, under their name.
function rowsOf(form) {
  if (!isScores(current())) {
    const row = rowOf(form);
    return (times) => ({ inputs: row(times) });
  }
  const row = asked(current()).map((name) => {
    const text = form.elements[`of ${name}`].value.trim().replace(",", ".");
    if (text === "" || Number.isNaN(Number(text))) throw new Error(`probability of ${name} must be a number from 0 to 1, got ${text || "nothing"}`);
    return Number(text);
  });
  return (times) => ({ probabilities: Array(times).fill(row) });
}

// The same of a model that is run on inputs.
function rowOf(form) {
  const { columns, inputs } = current();
  if (columns.length === 0) {
    const row = JSON.parse(form.elements.json.value);
    return inputs.length === 1 ? (times) => Array(times).fill(row)
      : (times) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, Array(times).fill(value)]));
  }
  const row = columns.map(({ name }) => {
    const text = form.elements[name].value.trim().replace(",", ".");
    if (text === "") return null;
    if (Number.isNaN(Number(text))) throw new Error(`${name} must be a number, got ${text}`);
    return Number(text);
  });
  return (times) => Array(times).fill(row);
}

async function decide(event) {
  event.preventDefault();
  $("answer").replaceChildren(); // what was decided before is not of this row
  await attempt(async () => {
    // The same row once for each point: one run of the model answers them all. Drafts and shadows are only compared.
    const of = (...states) => state.points.filter((point) => states.includes(point.state)).map((point) => point.operating_point);
    const names = of("approved"), drafts = of("draft", "shadow");
    const { classes, predictions, compare } = await ask("POST", "/predict", {
      model: state.model.name, model_version: state.version, ...rowsOf(event.target)(names.length), operating_point: names, compare: drafts });
    const head = element("tr", {}, ...["point", "decides", "margin (log-odds)"].map((text) => element("th", { scope: "col" }, text)));
    $("answer").replaceChildren(
      element("p", {}, "The model's own probabilities: ", classes.map((name, i) => `${name} ${percent(predictions[0].probabilities[i])}`).join(", ")),
      element("table", {}, element("thead", {}, head), element("tbody", {}, ...predictions.map(({ label, margin }, i) =>
        element("tr", {}, element("td", {}, names[i]), element("td", {}, label), element("td", {}, margin.toFixed(2)))),
        ...drafts.map((name) => element("tr", {}, element("td", {}, name), element("td", {}, compare[name][0]), element("td", {}, "would"))))));
    say("");
  });
}

$("model").addEventListener("change", () => attempt(() => choose($("model").value)));
$("version").addEventListener("change", () => attempt(() => choose(state.model.name, Number($("version").value))));
$("row").addEventListener("submit", decide);
$("key").addEventListener("click", () => attempt(async () => {
  if (await askForKey()) await load(state.model ? { model: state.model.name, version: state.version } : undefined);
}));
attempt(load);
