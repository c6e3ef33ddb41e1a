// Puts what the process says onto the page, as text, and sends decisions back. Nothing is signed, hashed or spelled
// out here, and nothing that is shown changes until somebody asks for it.

const $ = (id) => document.getElementById(id);
const LOOK_MS = 500;
const WATCH_MS = 3000;
// A large proposal is sent whole each time it is watched.
const WATCH_LARGE_MS = 15000;
const LARGE_BYTES = 65536;
const SECTIONS = ["empty", "proposal", "decided"];

let waiting = [];
let shown = null;
// The one that was looked for and cannot be shown.
let unshown = null;
let readyAt = Infinity;
let isBusy = false;
let timer = 0;

async function ask(path, body) {
  const request = body === undefined
    ? {}
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    const answer = await fetch(path, { cache: "no-store", redirect: "error", ...request });
    if (answer.ok) return await answer.json();
  } catch {
    // Said below.
  }
  return { refused: "openexec-approve has ended, or no longer answers: nothing can be decided here. Start it again." };
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// A line, and below it how it reads: [indentation or word, exact text, reading, whether that is an amount].
function lines([indent, exact, reading, isAmount]) {
  const depth = Number.isInteger(indent) ? indent : 0;
  const line = element("div", exact, `exact in${depth}`);
  if (reading === undefined) return [line];
  const read = element("div", undefined, `reading in${depth}${isAmount ? " amount" : ""}`);
  read.append(element("span", "reads", "mark"), element("span", reading, "text"));
  return [line, read];
}

function pairs(list, entries) {
  list.replaceChildren(...entries.flatMap(([word, text]) => [element("dt", word), element("dd", text)]));
}

function notice(text, canLook) {
  if ($("notice-text").textContent !== text) $("notice-text").textContent = text;
  $("anew").hidden = !text || !canLook;
}

function show(section, heading) {
  for (const id of SECTIONS) $(id).hidden = id !== section;
  $("places").hidden = section === "decided" || (section === "empty" && unshown === null);
  $("to-waiting").setAttribute("aria-current", section === "decided" ? "false" : "page");
  $("to-decided").setAttribute("aria-current", section === "decided" ? "page" : "false");
  window.scrollTo(0, 0);
  heading.focus({ preventScroll: true });
}

// Buttons that decide do nothing until what they are about was there to be looked at for a while.
function arm() {
  readyAt = performance.now() + LOOK_MS;
  for (const id of ["approve", "reject"]) $(id).setAttribute("aria-disabled", "true");
  setTimeout(() => {
    const isReady = performance.now() >= readyAt && !isBusy;
    for (const id of ["approve", "reject"]) if (isReady) $(id).removeAttribute("aria-disabled");
  }, LOOK_MS + 10);
}

async function list() {
  const answer = await ask("list");
  if (!answer.refused) waiting = answer.waiting;
  $("terminal").hidden = !answer.needs_terminal;
  return answer.refused;
}

async function look(id, position) {
  notice("");
  const failed = await list();
  const wanted = id ?? waiting[Math.min(Math.max(position, 0), waiting.length - 1)];
  if (failed || wanted === undefined) {
    shown = unshown = null;
    $("empty-title").textContent = failed ? "The service does not say what waits" : "Nothing waits for you";
    $("empty-text").textContent = failed ?? "When somebody proposes something, this page says so.";
    show("empty", $("empty-title"));
    return watch();
  }
  const answer = await ask(`proposal/${wanted}`);
  if (answer.refused) {
    shown = null;
    unshown = wanted;
    standing(wanted);
    $("empty-title").textContent = "This proposal cannot be shown";
    $("empty-text").textContent = answer.refused;
    show("empty", $("empty-title"));
    return watch();
  }
  put(answer);
}

function standing(id) {
  const position = waiting.indexOf(id);
  place(position < 0 ? "No longer waiting" : `${position + 1} of ${waiting.length} that wait`, position);
}

// What the head says of it, and where it stands among those that wait: below 0 it has no neighbours.
function place(text, position) {
  $("place").textContent = text;
  $("previous").hidden = position <= 0;
  $("next").hidden = position < 0 || position + 1 >= waiting.length;
}

function put(answer) {
  shown = answer;
  unshown = null;
  standing(answer.id);
  $("action").textContent = answer.action;
  document.title = `${answer.action} - Approvals`;
  $("bytes").textContent = answer.bytes;
  $("payload").replaceChildren(...answer.payload.flatMap(lines));
  pairs($("signed"), answer.signed);
  pairs($("asked"), answer.asked);
  $("words").hidden = answer.words.length === 0;
  $("words-lines").replaceChildren(...answer.words.flatMap(lines));
  $("have").replaceChildren(...answer.have.map(([key, until]) => element("div", until ? `${key} until ${until}` : key)));
  if (answer.have.length === 0) $("have").textContent = "none";
  $("missing").textContent = answer.missing;
  pairs($("signing"), answer.signing);
  const why = answer.hindrance ?? answer.already;
  $("hindrance").hidden = !why;
  $("hindrance").textContent = why ? `You cannot ${answer.hindrance ? "decide about" : "approve"} it: ${why}.` : "";
  $("yes").hidden = Boolean(why);
  $("no").hidden = Boolean(answer.hindrance);
  $("why").value = "";
  $("outcome").textContent = "";
  $("onward").hidden = $("later").hidden = true;
  show("proposal", $("action"));
  isBusy = false;
  requestAnimationFrame(() => arm());
  watch();
}

async function decide(path, more) {
  if (performance.now() < readyAt || isBusy || !shown) return;
  isBusy = true;
  for (const id of ["approve", "reject"]) $(id).setAttribute("aria-disabled", "true");
  $("outcome").textContent = $("terminal").hidden ? "Signing." : "Signing. Look at the terminal: it may ask you.";
  const { id, view } = shown;
  const answer = await ask(path, { id, view, ...more });
  isBusy = false;
  // Another was put there meanwhile: this answer is in the list of what was decided.
  if (shown?.view !== view) return;
  $("outcome").textContent = answer.refused ? `Not done: ${answer.refused}` : answer.done;
  $("outcome").focus();
  if (answer.refused) return arm();
  $("yes").hidden = $("no").hidden = true;
  $("onward").hidden = $("later").hidden = false;
  const over = { ...shown, isDecided: true, position: Math.max(current(), 0) };
  shown = over;
  place("Decided", -1);
  const failed = await list();
  if (failed || shown !== over) return;
  const others = waiting.filter((other) => other !== id).length;
  place(others === 0 ? "Decided. Nothing else waits" : `Decided. ${others} more ${others === 1 ? "waits" : "wait"}`, -1);
}

// Says that something has changed, beside what is shown.
function watch() {
  clearTimeout(timer);
  const wait = shown && shown.bytes > LARGE_BYTES ? WATCH_LARGE_MS : WATCH_MS;
  timer = setTimeout(async () => {
    const seen = shown;
    if (document.hidden || isBusy || seen?.isDecided) return watch();
    if (seen) {
      const answer = await ask(`watch/${seen.id}`);
      if (shown === seen) notice(answer.refused ?? answer.notice ?? "", !answer.refused);
    } else if (!$("empty").hidden) {
      const before = waiting.length;
      const failed = await list();
      notice(failed ?? (waiting.length > 0 ? `${waiting.length} wait.` : ""), !failed && waiting.length !== before);
    }
    watch();
  }, wait);
}

async function decided() {
  notice("");
  const answer = await ask("decided");
  const rows = answer.rows ?? [];
  $("decided-none").hidden = rows.length > 0;
  $("decisions").replaceChildren(...rows.map(([time, verb, action, id, state, job, nonce, why]) => {
    const entry = element("li");
    const list = element("dl");
    const all = [["nonce", nonce], ["proposal", id], ["state", state], ["job", job], ["because", why]];
    pairs(list, all.filter(([, text]) => text));
    entry.append(element("h2", `${verb} ${action}`), element("p", time, "note"), list);
    return entry;
  }));
  show("decided", $("decided-title"));
  notice(answer.refused ?? answer.notice ?? "", false);
}

const current = () => waiting.indexOf(shown?.id ?? unshown);
$("look").addEventListener("click", () => look(undefined, current()));
$("anew").addEventListener("click", () => look(shown?.id, current()));
$("previous").addEventListener("click", () => look(undefined, current() - 1));
$("next").addEventListener("click", () => look(undefined, current() + 1));
$("onward").addEventListener("click", () => {
  const { id: before, position } = shown;
  list().then(() => {
    const still = waiting.indexOf(before);
    look(undefined, still < 0 ? position : (still + 1) % waiting.length);
  });
});
$("to-waiting").addEventListener("click", () => look(undefined, 0));
$("to-decided").addEventListener("click", decided);
$("approve").addEventListener("click", () => decide("approve", {}));
$("no").addEventListener("submit", (event) => {
  event.preventDefault();
  decide("reject", { justification: $("why").value });
});
// Back from another window: what is under the pointer now was not there a moment ago.
window.addEventListener("focus", () => { if (shown && !isBusy) arm(); });
look(undefined, 0);
