// Plays segments one behind the other, and counts exactly what it has played of each.

const JITTER = 0.06; // seconds that wait before a segment begins, and after it ran dry
const REPORT = 0.02; // seconds between reports

class Loudspeaker extends AudioWorkletProcessor {
  constructor() {
    super();
    this.segments = [];
    this.cleared = new Set();
    this.paused = false;
    this.last = 0;
    this.silent = 0;
    this.port.onmessage = ({ data }) => this[data.type]?.(data);
  }

  find(number) {
    return this.segments.find((segment) => segment.number === number);
  }

  samples({ segment: number, samples }) {
    if (this.cleared.has(number)) return;
    let segment = this.find(number);
    if (!segment) {
      segment = { number, chunks: [], at: 0, waiting: 0, played: 0, told: 0, complete: false, ready: false };
      this.segments.push(segment);
    }
    segment.chunks.push(samples);
    segment.waiting += samples.length;
  }

  flush({ segment: number }) {
    const segment = this.find(number);
    if (segment) segment.complete = true;
  }

  clear({ segment: number }) {
    const segment = this.find(number);
    this.cleared.add(number);
    this.segments = this.segments.filter((each) => each !== segment);
    this.port.postMessage({ segment: number, samples: segment?.played ?? 0, final: true });
  }

  pause() {
    this.paused = true;
  }

  resume() {
    this.paused = false;
  }

  process(inputs, [[out]]) {
    let filled = 0;
    while (!this.paused && filled < out.length && this.segments.length) {
      const segment = this.segments[0];
      if (!segment.ready) segment.ready = segment.complete || segment.waiting >= JITTER * sampleRate;
      if (!segment.ready) break;
      filled = this.fill(segment, out, filled);
      if (filled === out.length) break;
      if (!segment.complete) {
        segment.ready = false; // it ran dry
        break;
      }
      this.segments.shift();
      this.tell(segment, true);
    }
    if (filled) this.last = out[filled - 1];
    for (; filled < out.length; filled++) {
      this.last *= 0.97; // no click where sound stops
      out[filled] = this.last;
    }
    this.silent += out.length;
    if (this.silent >= REPORT * sampleRate) {
      this.silent = 0;
      if (this.segments.length) this.tell(this.segments[0], false);
    }
    return true;
  }

  fill(segment, out, filled) {
    while (filled < out.length && segment.chunks.length) {
      const chunk = segment.chunks[0];
      const count = Math.min(chunk.length - segment.at, out.length - filled);
      for (let index = 0; index < count; index++) out[filled + index] = chunk[segment.at + index] / 32768;
      filled += count;
      segment.at += count;
      segment.played += count;
      segment.waiting -= count;
      if (segment.at === chunk.length) {
        segment.chunks.shift();
        segment.at = 0;
      }
    }
    return filled;
  }

  tell(segment, final) {
    if (segment.played === segment.told && !final) return;
    segment.told = segment.played;
    this.port.postMessage({ segment: segment.number, samples: segment.played, final });
  }
}

registerProcessor("loudspeaker", Loudspeaker);
