// The life of a point: its state, the default and the way back, aliases, and the audit trail that keeps why.
import { $, ask, attempt, change, element, say } from "./base.js";

const PAGE = 20;
const address = (model, ...rest) => ["/models", model, ...rest.map(encodeURIComponent)].join("/");

// The buttons of a point, as its state allows; `reload` shows what is so afterwards.
export function actions(model, point, reload) {
  const label = point.operating_point;
  const to = (verb, done, question) => element("button", { onclick: () => change(question, verb, async (said) => {
    await ask("POST", address(model, "operating-points", label, verb.toLowerCase()), said);
    await reload();
    say(`${label} is ${done}.`);
  }) }, verb);
  const approve = () => to("Approve", "approved", `Let ${label} answer those who name it?`);
  const shadow = () => to("Shadow", "in the shadow", `Compute ${label} beside every answer, and answer with it never?`);
  const retire = () => to("Retire", "retired", `Take ${label} out of use? Whoever names it is told why.`);
  const promote = () => element("button", { onclick: () => change(
    `Make ${label} the default? Every request that names no point will be answered by it.`, "Make it the default", async (said) => {
      await ask("PUT", address(model, "default"), { model_version: point.model_version, operating_point: label, ...said });
      await reload();
      say(`${label} is the default now.`);
    }) }, "Make default");
  const counts = () => element("button", { onclick: () => attempt(() => showShadow(model, label)) }, "Counts");
  const own = point.name === "argmax";
  const buttons = { draft: [approve, shadow, retire], shadow: [counts, approve, retire], retired: [shadow],
    approved: [...(point.is_default ? [] : [promote]), ...(own || point.is_default ? [] : [shadow, retire])] };
  return buttons[point.state].map((make) => make());
}

async function showShadow(model, label) {
  const found = await ask("GET", address(model, "operating-points", label, "shadow"));
  const rows = found.pairs.map((pair) => element("tr", {}, ...[pair.answered_by, pair.answered, pair.shadow, pair.rows].map((text) => element("td", {}, text))));
  $("shadow").replaceChildren(
    element("h2", {}, `${label} in the shadow`),
    element("p", {}, `${found.rows} rows, ${found.differ} of them decided otherwise; ${found.skipped} not counted.`),
    element("table", {}, element("thead", {}, element("tr", {}, ...["answered by", "answered", "shadow would", "rows"].map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, ...rows)));
}

export async function showDefault(model, reload) {
  const found = await ask("GET", address(model, "default"));
  const { operating_point: now, previous } = found;
  $("default").replaceChildren(
    element("span", {}, "Default: ", element("strong", {}, now), ` of version ${found.model_version}. `),
    previous === null ? element("span", { class: "note" }, "Nothing was before it.")
      : element("button", { onclick: () => change(`Roll back from ${now} to ${previous.operating_point}?`, "Roll back", async ({ reason }) => {
        await ask("POST", address(model, "default", "rollback"), { reason, expected: now });
        await reload();
        say(`${previous.operating_point} is the default again.`);
      }) }, `Roll back to ${previous.operating_point}`),
    ...found.warnings.map((text) => element("div", { class: "note" }, text)));
}

export function showAliases(model, aliases, points, reload) {
  const rows = Object.entries(aliases).map(([alias, label]) => element("tr", {}, element("td", {}, alias), element("td", {}, label),
    element("td", {}, element("button", { onclick: () => change(`Take the alias ${alias} away? Whoever names it is refused.`, "Take away", async ({ reason }) => {
      await ask("DELETE", `${address(model, "aliases", alias)}?${new URLSearchParams({ reason })}`);
      await reload();
      say(`${alias} is no alias any more.`);
    }) }, "Take away"))));
  $("aliases").replaceChildren(element("tbody", {}, ...rows));
  const form = $("alias");
  form.elements.point.replaceChildren(...points.filter((point) => point.state === "approved").map((point) => element("option", {}, point.operating_point)));
  form.onsubmit = (event) => {
    event.preventDefault();
    const [alias, label] = [form.elements.alias.value, form.elements.point.value];
    change(`Lead ${alias} to ${label}? Whoever names it is answered by that point.`, "Lead it there", async (said) => {
      await ask("PUT", address(model, "aliases", alias), { operating_point: label, ...said });
      await reload();
      say(`${alias} leads to ${label} now.`);
    });
  };
}

// The newest entries of a model, or those before a number, below what is shown.
export async function showAudit(model, before) {
  const asked = new URLSearchParams({ model, limit: PAGE, ...(before ? { before } : {}) });
  let entries;
  try {
    entries = await ask("GET", `/audit?${asked}`);
  } catch (error) {
    $("audit").replaceChildren(element("caption", {}, error.message));
    $("older").hidden = true;
    return;
  }
  if (!before) $("audit").replaceChildren(element("thead", {}, element("tr", {}, ...["", "when", "who", "did", "what", "why", "hash"].map((text) => element("th", { scope: "col" }, text)))));
  $("audit").append(element("tbody", {}, ...entries.map(entryRow)));
  $("older").hidden = entries.length < PAGE;
  $("older").onclick = () => attempt(() => showAudit(model, entries.at(-1).number));
}

function entryRow({ number, at, actor, action, details, hash }) {
  const named = (what) => (what === null || what === undefined ? null : typeof what === "string" ? what : what.operating_point);
  const what = [details.alias ?? details.operating_point ?? (details.model_version && `version ${details.model_version}`),
    details.to === undefined ? null : `${named(details.from) ?? "nothing"} → ${named(details.to) ?? "nothing"}`,
    details.overridden ? "overridden" : null];
  return element("tr", {}, ...[number, at.slice(0, 19).replace("T", " "), actor, action, what.filter((text) => text).join(": "), details.reason ?? ""].map((text) => element("td", { class: "long" }, String(text))),
    element("td", { title: hash }, element("code", {}, hash.slice(0, 12))));
}
