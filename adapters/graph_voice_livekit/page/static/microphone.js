// Gathers the microphone's samples to frames of 20 ms.

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frame = new Int16Array(Math.round(sampleRate * 0.02));
    this.filled = 0;
    this.sum = 0;
  }

  process([[samples]]) {
    if (!samples) return true;
    for (const sample of samples) {
      const clipped = Math.max(-1, Math.min(1, sample));
      this.sum += clipped * clipped;
      this.frame[this.filled++] = Math.round(clipped * 32767);
      if (this.filled === this.frame.length) {
        const level = Math.min(1, Math.sqrt(this.sum / this.filled) * 5);
        const out = this.frame.slice();
        this.port.postMessage({ samples: out.buffer, level }, [out.buffer]);
        this.filled = 0;
        this.sum = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
