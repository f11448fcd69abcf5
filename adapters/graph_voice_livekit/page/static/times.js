// A waterfall for each turn: from the end of the caller's words to the last sound of the answer.

import { $, make, replace, seconds } from "./dom.js";

const KINDS = {
  caller: "caller speaks",
  transcription: "transcription",
  end_of_turn: "end of turn",
  model: "model, first token",
  generate: "model, the rest",
  tool: "tool",
  voice: "voice, first sound",
  playback: "playback",
};
const SHOWN = 8;
let rows = new Map();

export function begin() {
  rows = new Map();
  $("times").replaceChildren(make("li", "empty", "The first turn has not happened yet."));
  $("legend").replaceChildren(...Object.entries(KINDS).map(([kind, text]) => make("li", "", make("i", `span of-${kind}`), text)));
}

export function turn(view) {
  const spans = view.spans.filter((span) => span.end !== null);
  const old = rows.get(view.id);
  if (!spans.length || view.state === "discarded") {
    old?.remove();
    rows.delete(view.id);
    return;
  }
  const made = row(view, spans);
  if (old) replace(old, made);
  else {
    $("times").querySelector(".empty")?.remove();
    $("times").prepend(made);
  }
  rows.set(view.id, made);
  while (rows.size > SHOWN) {
    const [first] = rows.keys();
    rows.get(first).remove();
    rows.delete(first);
  }
}

function row(view, spans) {
  const start = Math.min(...spans.map((span) => span.start));
  const end = Math.max(...spans.map((span) => span.end));
  const spoke = spans.find((span) => span.kind === "caller");
  const asked = spoke ? spoke.end : view.began;
  const first = spans.find((span) => span.kind === "playback");
  const who = view.steps.at(-1)?.agent ?? "";
  const made = make("li", "row");
  const answered = view.user !== null && first && first.start > asked ? make("b", "", `answered after ${seconds(first.start - asked)}`) : null;
  made.append(make("p", "title", `${view.number}. ${view.user ?? `${who} begins`}`), make("p", "answer", answered));
  const bars = make("div", "bars");
  for (const span of spans) {
    const bar = make("i", `span of-${span.kind}`);
    bar.style.left = `${(100 * (span.start - start)) / Math.max(end - start, 0.001)}%`;
    bar.style.width = `${(100 * (span.end - span.start)) / Math.max(end - start, 0.001)}%`;
    bar.title = `${span.label}: ${seconds(span.end - span.start)}`;
    bars.append(bar);
  }
  const numbers = spans.filter((span) => span.end - span.start >= 0.005).map((span) => `${span.label} ${seconds(span.end - span.start)}`).join(" · ");
  made.append(bars, make("p", "numbers", numbers));
  return made;
}
