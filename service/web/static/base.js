// What every part of the console stands on: elements, messages, calls, and questions that need an answer.
export const $ = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElementNS(tag.startsWith("svg:") ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml", tag.replace("svg:", ""));
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function say(text, error = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", error);
}

export async function ask(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (response.status === 401) {
    if (!(await askForKey(token ? (await response.json()).detail : ""))) throw new Error("This server answers only with a key or its token: the button Key takes it.");
    return ask(method, path, body);
  }
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail), { type: answer.type });
  return answer;
}

// The key or token is kept in this tab only, and never in the page. What was wrong with the last one is told.
export async function askForKey(refused = "") {
  $("token-refused").textContent = refused;
  const given = await opened($("token"));
  if (given === null) return false;
  sessionStorage.setItem("token", given.token.value);
  return true;
}

// Opens a dialog; its form's fields where it was agreed to, else null.
function opened(dialog) {
  const form = dialog.querySelector("form");
  form.reset();
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes" ? form.elements : null), { once: true });
  });
}

// Asks why, then does it. Where the evidence speaks against it, that is shown, and doing it nevertheless must be ticked.
export async function change(question, button, work) {
  $("change-question").textContent = question;
  $("change-do").textContent = button;
  let against = "", reason = "";
  for (;;) {
    $("change-against").textContent = against;
    $("change-override").hidden = against === "";
    const asked = opened($("change"));
    $("change").querySelector("form").elements.reason.value = reason;
    const given = await asked;
    if (given === null) return;
    reason = given.reason.value;
    try {
      await work({ reason, ...(given.override.checked ? { override: true } : {}) });
      return;
    } catch (error) {
      if (!error.type?.endsWith(":bad-evidence")) {
        say(error.message, true);
        return;
      }
      against = error.message;
    }
  }
}

export async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  }
}
