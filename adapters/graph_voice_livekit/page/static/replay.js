// Plays a stored call: the same messages as in a live one, at their times.

import { $ } from "./dom.js";

/** `take(message)` shows a message; `reset()` forgets all that was shown. */
export function play(stored, audio, take, reset) {
  const { moments, duration } = stored;
  let next = 0;
  let base = null; // without sound: when second 0 was, in milliseconds of the page's clock
  let stopped = 0;
  $("player").hidden = false;
  $("position").max = duration;
  if (audio) $("recording").src = audio;

  const now = () => (audio ? $("recording").currentTime : base === null ? stopped : (performance.now() - base) / 1000);
  const plays = () => (audio ? !$("recording").paused : base !== null);

  function show(at) {
    if (next && moments[next - 1][0] > at) {
      reset();
      next = 0;
    }
    for (; next < moments.length && moments[next][0] <= at; next++) take(moments[next][1]);
    $("position").value = at;
    $("clock").textContent = stamp(at);
    $("position").setAttribute("aria-valuetext", stamp(at));
  }

  function go(at) {
    if (audio) $("recording").currentTime = at;
    else if (base !== null) base = performance.now() - at * 1000;
    else stopped = at;
    show(at);
  }

  function pause() {
    if (audio) $("recording").pause();
    else [stopped, base] = [now(), null];
    $("play").textContent = "Play";
  }

  $("play").addEventListener("click", () => {
    if (plays()) return pause();
    if (now() >= duration - 0.05) go(0);
    if (audio) $("recording").play();
    else base = performance.now() - stopped * 1000;
    $("play").textContent = "Pause";
    requestAnimationFrame(tick);
  });
  $("position").addEventListener("input", ({ target }) => go(Number(target.value)));

  function tick() {
    const ended = audio && $("recording").ended; // the sound may be a little shorter than the call
    show(ended ? duration : Math.min(now(), duration));
    if (ended || !plays() || now() >= duration) return pause();
    requestAnimationFrame(tick);
  }
  show(0);
}

const stamp = (at) => `${Math.floor(at / 60)}:${(at % 60).toFixed(1).padStart(4, "0")}`;
