// The live page: one WebSocket, one call.

import { $, make, notice } from "./dom.js";
import * as graph from "./graph.js";
import * as times from "./times.js";
import * as transcript from "./transcript.js";
import { play } from "./replay.js";
import { RoomSound } from "./room.js";
import { Sound } from "./sound.js";

const GOING_AWAY = 1001; // WebSocket's code of a server that ends
let socket = null;
let sound = null;
let over = true;
let welcome = null;
let wanted = null; // how the call was started: a restart starts it in the same way
const token = new URLSearchParams(location.search).get("token");

function connect() {
  const address = new URL("call", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  if (token) address.searchParams.set("token", token);
  const mine = new WebSocket(address);
  let answered = false;
  socket = mine;
  mine.binaryType = "arraybuffer";
  mine.onmessage = ({ data }) => {
    if (mine !== socket) return;
    answered = true;
    if (typeof data === "string") take(JSON.parse(data));
    else sound?.play(data);
  };
  mine.onclose = ({ code, reason }) => {
    if (mine !== socket) return;
    if (reason && !over && code !== GOING_AWAY) notice("error", `The server has closed the call: ${reason}`);
    else if (!over || !answered) notice("error", "The server is gone. Start it again, then press Restart.");
    show("offline");
    finish();
  };
}

const send = (message) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));

const take = (message) => ON[message.type]?.(message);

const ON = {
  welcome(message) {
    welcome = message;
    fillPicker(message);
    $("save").hidden = !message.save;
    if (message.replay) return replay();
    if (message.watch) return watching(message.watch);
    if (wanted) return begin(wanted);
    show("ready");
    if (!message.speech) return begin({ mode: "text" });
    if (message.livekit) $("voice-goes").textContent = "Your voice goes through a LiveKit server to the machine that serves this page.";
    $("start").showModal();
  },
  loading({ step, done }) {
    $("loading-step").textContent = step;
    $("loading-done").value = done;
    if (!$("loading").open) $("loading").showModal();
    show("loading");
  },
  started(message) {
    $("loading").close();
    over = false;
    if (welcome.watch) return watched(message);
    $("model").textContent = message.model;
    document.title = `${message.graph} · graph_voice`;
    graph.draw(message.svg, message.agents);
    for (const id of ["text", "send", "stop", "restart", "save"]) $(id).disabled = false;
    $("graph-name").disabled = false;
    $("text").focus();
  },
  agent: ({ name, before }) => graph.activate(name, before, true),
  state: ({ agent, user }) => show(user === "speaking" ? "you speak" : agent),
  nodes: ({ running }) => graph.running(running),
  userdata: ({ fields }) => facts(fields),
  turn(view) {
    transcript.turn(view);
    times.turn(view);
  },
  line: ({ agent, text }) => transcript.outside(agent, text),
  caller: ({ text, final }) => transcript.caller(text, final),
  notice: ({ kind, text }) => (kind === "error" ? notice(kind, text) : transcript.note(text)),
  prompt: showPrompt,
  ping: ({ id }) => send({ type: "pong", id, at: performance.now() }),
  room: (message) => sound?.join(message),
  clear: (message) => sound?.tell(message),
  flush: (message) => sound?.tell(message),
  pause: (message) => sound?.tell(message),
  resume: (message) => sound?.tell(message),
  ended({ reason }) {
    $("loading").close();
    show("over");
    transcript.ended(reason);
    finish();
  },
};

const address = (name) => `${name}${token ? `?token=${encodeURIComponent(token)}` : ""}`;

async function replay() {
  const stored = await (await fetch(address("replay.json"))).json();
  document.body.classList.add("recording");
  const reset = () => {
    transcript.begin(() => {});
    times.begin();
    facts({});
  };
  reset();
  graph.draw(stored.svg, stored.agents);
  document.title = `${stored.name} · graph_voice`;
  $("model").textContent = `recording: ${stored.name}`;
  for (const id of ["say", "save", "restart", "graph-name"]) $(id).hidden = true;
  $("where-time-went").hidden = !stored.moments.some(([, message]) => message.spans?.length); // a store does not know
  show("recording");
  play(stored, stored.sound ? address("replay.wav") : null, take, reset);
}

/** A call of others: what is told is shown, and nothing can be said. */
function watching(room) {
  for (const id of ["say", "save", "graph-name"]) $(id).hidden = true;
  $("model").textContent = `room: ${room}`;
  document.title = `${room} · graph_voice`;
  $("restart").textContent = "Reconnect";
  $("no-facts").textContent = "Nothing is known of it.";
  show("waiting");
}

function watched({ svg, agents }) {
  transcript.begin(() => {});
  times.begin();
  facts({});
  graph.draw(svg, agents);
  show("waiting");
}

function finish() {
  over = true;
  for (const id of ["text", "send", "stop"]) $(id).disabled = true;
  for (const id of ["mute", "hold", "meter", "talk"]) $(id).hidden = true;
  $("restart").disabled = false;
  $("loading").close();
  sound?.close();
  sound = null;
}

function show(state) {
  $("state").textContent = state;
  $("state").dataset.state = state.replaceAll(" ", "-");
}

function fillPicker({ graphs, graph: first }) {
  if ($("graph-name").options.length) return;
  for (const name of graphs) $("graph-name").append(new Option(name.replaceAll("_", " "), name, name === first, name === first));
  if (graphs.length < 2) $("graph-name").parentElement.classList.add("single");
}

/** Begin the call. `microphone`: whether it is wanted. */
async function begin(how) {
  wanted = how;
  transcript.begin((id) => send({ type: "prompt", id }));
  times.begin();
  facts({});
  $("start").close();
  $("notices").replaceChildren();
  const message = { type: "start", mode: how.mode, graph: $("graph-name").value };
  if (how.mode === "voice") {
    try {
      sound = made();
      message.sample_rate = await sound.open();
    } catch (error) {
      sound = null;
      message.mode = "text";
      notice("error", `This browser plays no sound (${error.message}), so this is a call in text.`);
    }
  }
  send(message);
  if (sound && how.microphone) {
    try {
      await sound.listen();
      for (const id of ["mute", "hold", "meter"]) $(id).hidden = false;
      $("talk").hidden = $("hold").ariaPressed !== "true";
      gate();
    } catch (error) {
      notice("error", error.message);
    }
  }
}

/** What carries the sound: the socket, or a LiveKit room. */
function made() {
  const lost = (why) => {
    notice("error", `The LiveKit room can't be reached (${why}). Press Restart.`);
    hangUp();
    show("over");
  };
  if (welcome.livekit) return new RoomSound({ client: address("livekit-client.js"), level: meter, lost });
  return new Sound({ send: (buffer) => socket?.readyState === WebSocket.OPEN && socket.send(buffer), report: send, level: meter });
}

function hangUp() {
  const old = socket;
  socket = null;
  old?.close(1000);
  finish();
}

function restart() {
  hangUp();
  $("restart").disabled = true;
  show("connecting");
  connect();
}

function meter(level) {
  $("meter").firstElementChild.style.width = `${Math.round(level * 100)}%`;
  $("meter").setAttribute("aria-valuenow", Math.round(level * 100));
}

function facts(fields) {
  const entries = Object.entries(fields);
  const before = new Map([...$("facts").querySelectorAll("dt")].map((term) => [term.textContent, term.nextSibling.textContent]));
  $("facts").replaceChildren(
    ...entries.flatMap(([name, value]) => {
      const changed = before.size && before.get(name) !== value;
      const known = make("dd", changed ? "changed" : "", value);
      known.dir = "auto";
      return [make("dt", "", name), known];
    }),
  );
  $("no-facts").hidden = entries.length > 0;
}

function showPrompt({ agent, messages, tools }) {
  $("prompt-title").textContent = `What the model of ${agent || "the graph"} was shown`;
  $("prompt-body").replaceChildren(
    ...messages.map(({ role, text }) => make("div", "message", make("b", "", role), make("pre", "", text))),
    ...(tools.length ? [make("div", "message", make("b", "", "tools"), make("pre", "", tools.join(", ")))] : []),
  );
  $("prompt").showModal();
}

// ---- what the caller does

let held = false;
function gate() {
  if (!sound) return;
  sound.muted = $("mute").ariaPressed === "true" || ($("hold").ariaPressed === "true" && !held);
  $("meter").dataset.microphone = sound.muted ? "off" : "on";
}
function toggle(id) {
  $(id).ariaPressed = $(id).ariaPressed === "true" ? "false" : "true";
  $("talk").hidden = $("hold").ariaPressed !== "true";
  gate();
}
function hold(down) {
  held = down;
  document.body.classList.toggle("held", down);
  gate();
}
function holding(event, down) {
  const typing = ["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName) && event.target.type !== "checkbox";
  if (event.code !== "Space" || typing || $("hold").ariaPressed !== "true") return;
  event.preventDefault();
  hold(down);
}

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || over) return;
  send({ type: "say", text });
  transcript.caller(text, true);
  $("text").value = "";
});
$("stop").addEventListener("click", () => send({ type: "interrupt" }));
$("mute").addEventListener("click", () => toggle("mute"));
$("hold").addEventListener("click", () => toggle("hold"));
$("talk").addEventListener("pointerdown", () => hold(true));
for (const end of ["pointerup", "pointercancel", "pointerleave"]) $("talk").addEventListener(end, () => hold(false));
document.addEventListener("keydown", (event) => holding(event, true));
document.addEventListener("keyup", (event) => holding(event, false));
$("restart").addEventListener("click", restart);
$("graph-name").addEventListener("change", restart);
$("save").addEventListener("click", () => send({ type: "save_test" }));
$("guesses").addEventListener("change", ({ target }) => document.body.classList.toggle("guesses", target.checked));
$("start-voice").addEventListener("click", () => begin({ mode: "voice", microphone: true }));
$("start-listen").addEventListener("click", () => begin({ mode: "voice", microphone: false }));
$("start-text").addEventListener("click", () => begin({ mode: "text" }));
$("start").addEventListener("cancel", (event) => event.preventDefault());
$("loading").addEventListener("cancel", (event) => event.preventDefault());
$("prompt-close").addEventListener("click", () => $("prompt").close());

times.begin();
connect();
