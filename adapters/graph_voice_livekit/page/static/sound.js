// The browser's microphone and loudspeaker.

const FAREST = [16000, 96000];

export class Sound {
  /** `send(buffer)`: 20 ms of the microphone. `report(message)`: what was played. `level(value)`: 0 to 1. */
  constructor({ send, report, level }) {
    Object.assign(this, { send, report, level });
    this.muted = false;
  }

  /** Must be called in a click: browsers give no sound before. */
  async open() {
    this.context = new AudioContext({ latencyHint: "interactive" });
    if (this.context.sampleRate < FAREST[0] || this.context.sampleRate > FAREST[1]) {
      await this.context.close();
      this.context = new AudioContext({ latencyHint: "interactive", sampleRate: 48000 });
    }
    await Promise.race([this.context.resume(), new Promise((done) => setTimeout(done, 500))]);
    const files = ["loudspeaker.js", "microphone.js"].map((name) => new URL(name, import.meta.url));
    await Promise.all(files.map((file) => this.context.audioWorklet.addModule(file)));
    this.speaker = new AudioWorkletNode(this.context, "loudspeaker", { numberOfInputs: 0, outputChannelCount: [1] });
    this.speaker.port.onmessage = ({ data }) => this.report({ type: "played", ...data, at: performance.now() });
    this.speaker.connect(this.context.destination);
    return this.context.sampleRate;
  }

  /** Ask for the microphone. Throws in words for the caller. */
  async listen() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("A browser gives its microphone only to https pages and to this machine (127.0.0.1).");
    }
    const wanted = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    } catch (error) {
      throw refused(error);
    }
    this.microphone = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
    this.microphone.port.onmessage = ({ data }) => {
      this.level(this.muted ? 0 : data.level);
      this.send(this.muted ? new ArrayBuffer(data.samples.byteLength) : data.samples);
    };
    this.source = this.context.createMediaStreamSource(this.stream);
    this.source.connect(this.microphone);
  }

  play(buffer) {
    const segment = new DataView(buffer).getUint32(0, true);
    const samples = new Int16Array(buffer, 4);
    this.speaker?.port.postMessage({ type: "samples", segment, samples });
  }

  tell(message) {
    this.speaker?.port.postMessage(message);
  }

  async close() {
    this.stream?.getTracks().forEach((track) => track.stop());
    if (this.context && this.context.state !== "closed") await this.context.close();
  }
}

/** Why there is no microphone, in words for the caller. */
export const refused = (error) => new Error(REFUSED[error.name] ?? `The microphone can't be used: ${error.message}`);

const REFUSED = {
  NotAllowedError: "The browser was not allowed to use the microphone. Allow it in the address bar and restart, or type.",
  NotFoundError: "There is no microphone. Plug one in and restart, or type.",
  NotReadableError: "Another program holds the microphone. Close it and restart, or type.",
};
