// What was said and done, turn by turn. A turn is made anew whenever the server says that it has changed.

import { $, announce, button, make, replace, seconds } from "./dom.js";
import { hue, named } from "./graph.js";

const WORDS = {
  cut: ["cut off", "The caller cut in here. What is struck was not heard."],
  dropped: ["dropped", "Generated, and dropped before its first sound."],
  guess: ["not said", "Generated for a guess of what the caller would say."],
};
let ask = () => {};
let said = new Set();
let shown = new Map();

/** `prompt`: a function that asks for what a model was shown. */
export function begin(prompt) {
  ask = prompt;
  said = new Set();
  shown = new Map();
  $("lines").replaceChildren();
}

function following(change) {
  const lines = $("lines");
  const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 60;
  change();
  const ghost = lines.querySelector(".ghost");
  if (ghost) lines.append(ghost);
  if (atEnd) lines.scrollTop = lines.scrollHeight;
}

export function turn(view) {
  if (view.user !== null && view.state !== "discarded") caller("", true);
  following(() => {
    const made = make("li", `turn ${view.state}`);
    made.dataset.turn = view.id;
    if (view.state === "discarded") made.append(make("p", "aside", "a guess that did not come true"));
    if (view.user !== null) made.append(line("caller", make("b", "who", "caller"), words(make("span", "said", view.user))));
    const calls = new Set(view.steps.flatMap((step) => step.calls.map((call) => call.id)));
    const edges = view.handoffs.filter((handoff) => !calls.has(handoff.call)); // of edges, or of an earlier turn's tool
    for (const step of view.steps) {
      while (edges.length && edges[0].new === step.agent) made.append(handoff(edges.shift()));
      made.append(...spoken(step));
      for (const call of step.calls) {
        made.append(tool(call, step.agent));
        made.append(...view.handoffs.filter((each) => each.call === call.id).map(handoff));
      }
    }
    made.append(...edges.map(handoff));
    made.append(...view.written.map(data));
    for (const failure of view.failed) made.append(make("p", "failure", failure));
    if (view.prompts.length) made.append(prompts(view.prompts));
    const old = shown.get(view.id);
    shown.set(view.id, made);
    if (old) replace(old, made);
    else $("lines").append(made);
  });
  tell(view);
}

function line(kind, who, ...content) {
  return make("p", `line ${kind}`, who, " ", ...content);
}

/** Words have the direction of their own script, whatever stands before them. */
const words = (...content) => make("bdi", "", ...content);

function spoken(step) {
  return step.words.map((each) => {
    const said = words();
    const made = line(each.state, named(step.agent), said);
    made.style.setProperty("--hue", hue(step.agent));
    if (each.heard) said.append(make("span", "heard", each.heard));
    const [mark, why] = WORDS[each.state] ?? [];
    if (mark) {
      const sign = make("span", "mark", mark);
      sign.title = why;
      said.append(" ", sign, " ");
    }
    if (each.unheard) said.append(make(mark ? "s" : "span", "unheard", each.unheard));
    return made;
  });
}

function tool(call, agent) {
  const made = make("div", `tool ${call.status}${call.error ? " error" : ""}`);
  made.style.setProperty("--hue", hue(agent));
  const status = call.result === null ? (call.status === "running" ? "running…" : call.status) : "";
  made.append(
    make("div", "call", make("code", "", call.name), call.seconds === null ? null : make("span", "quiet", seconds(call.seconds)),
      status ? make("span", "quiet", status) : null),
  );
  if (call.args && call.args !== "{}") made.append(text("args", call.args));
  if (call.update) made.append(make("p", "quiet", call.update));
  if (call.result !== null) made.append(text("result", call.result));
  if (call.raised && !call.raised.endsWith(call.result)) {
    const raised = text("raised", call.raised);
    raised.title = "What the tool's code has raised. The model was told the line above.";
    made.append(raised);
  }
  return made;
}

/** What a tool or a node has written for a page. */
function data(view) {
  const made = make("div", "tool data");
  made.style.setProperty("--hue", hue(view.agent));
  made.append(make("div", "call", make("code", "", view.key || "data"), make("span", "quiet", `written by ${view.by || view.agent}`)));
  made.append(text("result", readable(view)));
  return made;
}

function text(kind, content) {
  const made = make("pre", kind, content);
  made.dir = "auto";
  return made;
}

/** JSON as lines: an object's texts as they are, such as a table in Markdown, and the rest as JSON. */
function readable({ key, data: json }) {
  let value;
  try {
    value = JSON.parse(json);
  } catch {
    return json; // it was cut, since it is long
  }
  if (typeof value === "string") return value;
  if (value === null || typeof value !== "object" || Array.isArray(value)) return json;
  const lines = Object.entries(value).filter(([name, each]) => name !== "key" || each !== key);
  return lines.map(([name, each]) => {
    const shown = typeof each === "string" ? each : JSON.stringify(each);
    return `${name}: ${shown.includes("\n") ? `\n${shown}` : shown}`;
  }).join("\n");
}

function handoff(view) {
  const made = make("p", `handoff ${view.state}`, named(view.old), " → ", named(view.new));
  made.style.setProperty("--hue", hue(view.new));
  if (view.task) made.append(make("span", "quiet", view.task === "begin" ? " a task begins" : " back from a task"));
  if (view.args) made.append(make("code", "quiet", ` ${view.args}`));
  if (view.state === "rejected") {
    const mark = make("span", "mark", "did not happen");
    mark.title = view.reason;
    made.append(mark);
  }
  return made;
}

function prompts(list) {
  const made = make("p", "prompts", make("span", "quiet", "asked: "));
  for (const each of list) made.append(button(each.agent || "model", "link", each.id, () => ask(each.id)), " ");
  return made;
}

/** What the caller is saying, before it is a turn. */
export function caller(text, final) {
  following(() => {
    $("lines").querySelector(".ghost")?.remove();
    if (!text) return;
    const made = make("li", "turn ghost", line("caller", make("b", "who", "caller"), words(make("span", final ? "said" : "unheard", text))));
    $("lines").append(made);
  });
}

/** A line of an agent outside of all turns. */
export function outside(agent, text) {
  following(() => {
    const made = line("heard", named(agent), words(make("span", "heard", text)));
    made.style.setProperty("--hue", hue(agent));
    $("lines").append(make("li", "turn", made));
  });
  announce(`${agent}: ${text}`);
}

/** Something worth knowing beside what was said. */
export function note(text) {
  following(() => $("lines").append(make("li", "turn note", text)));
  announce(text);
}

export function ended(reason) {
  following(() => $("lines").append(make("li", "turn end", `The call is over (${reason.replaceAll("_", " ")}).`)));
  announce("The call is over.");
}

/** Each finished line once, for screen readers. */
function tell(view) {
  const once = (key, text) => {
    if (said.has(key)) return;
    said.add(key);
    announce(text);
  };
  if (view.user !== null && view.state !== "speculative" && view.state !== "discarded") once(`${view.id}:user`, `caller: ${view.user}`);
  for (const step of view.steps) {
    for (const each of step.words) {
      if (each.state === "heard") once(each.id, `${step.agent}: ${each.heard}`);
      if (each.state === "cut") once(each.id, `${step.agent}: ${each.heard}; cut off`);
      if (each.state === "dropped") once(each.id, `${step.agent}: a reply was dropped before its first sound`);
    }
    for (const call of step.calls) if (call.result !== null) once(call.id, `tool ${call.name}: ${call.result}`);
  }
  for (const each of view.handoffs) if (each.state === "entered") once(`${view.id}:${each.new}`, `handoff from ${each.old} to ${each.new}`);
}
