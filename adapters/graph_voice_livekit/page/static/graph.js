// The drawing of the graph: who is active, which nodes run, and handoffs as they happen.

import { $, make } from "./dom.js";

const HUES = ["#4338ca", "#0f766e", "#b4540a", "#be1850", "#0369a1", "#7e22ce", "#3f7d12", "#86198f"];
const SVG = "http://www.w3.org/2000/svg";
const still = matchMedia("(prefers-reduced-motion: reduce)");
let hues = {};
let drawing = null;

/** The color of an agent: that of its node. */
export function hue(agent) {
  if (!hues[agent]) hues[agent] = HUES[Object.keys(hues).length % HUES.length];
  return hues[agent];
}

/** An agent's name in its color. */
export function named(agent) {
  const name = make("b", "agent", agent || "agent");
  name.style.setProperty("--hue", hue(agent));
  return name;
}

export function draw(svg, agents) {
  hues = {};
  drawing = null;
  $("active").replaceChildren();
  if (!svg) {
    agents.forEach(hue);
    $("graph").replaceChildren(make("p", "empty", "There is no drawing of this graph."));
    return;
  }
  const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  for (const bad of parsed.querySelectorAll("script, foreignObject, style, a, image, use")) bad.remove();
  for (const element of parsed.querySelectorAll("*")) {
    for (const { name } of [...element.attributes]) {
      if (name.startsWith("on") || name === "style" || name.endsWith("href")) element.removeAttribute(name);
    }
  }
  drawing = document.importNode(parsed, true);
  for (const node of nodes()) {
    const color = node.querySelector("rect")?.getAttribute("stroke");
    if (!color) continue;
    node.style.setProperty("--hue", color);
    if (agents.includes(node.dataset.node)) hues[node.dataset.node] = color;
  }
  agents.forEach(hue);
  $("graph").replaceChildren(drawing);
}

const nodes = () => (drawing ? [...drawing.querySelectorAll("g[data-node]")] : []);
const edges = () => (drawing ? [...drawing.querySelectorAll("g.edge")] : []);

export function activate(agent, before, animated) {
  for (const node of nodes()) node.classList.toggle("active", node.dataset.node === agent);
  $("active").replaceChildren(...(agent ? [named(agent), " is active"] : []));
  const edge = before && before !== agent ? between(before, agent) : undefined;
  for (const each of edges()) each.classList.toggle("taken", each === edge);
  if (edge && animated) travel(edge);
  nodes().find((node) => node.dataset.node === agent)?.scrollIntoView?.({ block: "nearest", inline: "center" });
}

function between(old, next) {
  const owned = (name) => name === old || name === `${old}_tools`;
  const found = edges().filter((edge) => edge.dataset.target === next && owned(edge.dataset.source));
  return found.find((edge) => edge.classList.contains("handoff")) ?? found[0];
}

/** A dot runs along the edge. */
function travel(edge) {
  const path = [...edge.querySelectorAll("path")].find((each) => each.getAttribute("fill") === "none");
  if (!path || still.matches) return;
  edge.classList.add("moving");
  for (const earlier of drawing.querySelectorAll("circle.dot")) earlier.remove();
  const dot = document.createElementNS(SVG, "circle");
  dot.setAttribute("class", "dot");
  dot.setAttribute("r", "6");
  dot.setAttribute("fill", path.getAttribute("stroke"));
  edge.append(dot);
  const length = path.getTotalLength();
  const began = performance.now();
  const step = (now) => {
    const done = Math.min(1, (now - began) / 1100);
    const at = path.getPointAtLength(length * (1 - (1 - done) ** 2));
    dot.setAttribute("cx", at.x);
    dot.setAttribute("cy", at.y);
    if (done < 1 && dot.isConnected) return requestAnimationFrame(step);
    dot.remove();
    edge.classList.remove("moving");
  };
  requestAnimationFrame(step);
}

export function running(names) {
  for (const node of nodes()) node.classList.toggle("running", names.includes(node.dataset.node));
}
