// The browser's microphone and loudspeaker in a LiveKit room. It has the methods of Sound.

import { make } from "./dom.js";
import { refused } from "./sound.js";

export class RoomSound {
  /** `client`: address of LiveKit's own client. `level(value)`: 0 to 1. `lost(why)`: the room is gone. */
  constructor({ client, level, lost }) {
    Object.assign(this, { client, level, lost });
    this.joined = new Promise((done) => (this.isJoined = done));
    this.closed = this.silent = this.entered = false;
  }

  /** Must be called in a click: browsers give no sound before. */
  async open() {
    await load(this.client);
    const { Room, RoomEvent } = window.LivekitClient;
    this.room = new Room();
    this.room.on(RoomEvent.TrackSubscribed, (track) => track.kind === "audio" && document.body.append(track.attach()));
    this.room.on(RoomEvent.TrackUnsubscribed, (track) => track.detach().forEach((element) => element.remove()));
    this.room.on(RoomEvent.Disconnected, () => this.entered && !this.closed && this.lost("the room was left"));
    await Promise.race([this.room.startAudio(), new Promise((done) => setTimeout(done, 500))]);
    return 48000;
  }

  /** Enter the room to which the server invites. */
  async join({ url, token }) {
    try {
      await this.room.connect(url, token);
      this.entered = true;
      this.isJoined();
    } catch (error) {
      if (!this.closed) this.lost(error.message);
    }
  }

  /** Ask for the microphone, once the room is entered. Throws in words for the caller. */
  async listen() {
    await this.joined;
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("A browser gives its microphone only to https pages and to this machine (127.0.0.1).");
    }
    try {
      const publication = await this.room.localParticipant.setMicrophoneEnabled(!this.silent);
      if (publication?.track) this.measure(publication.track);
      this.listens = true;
    } catch (error) {
      throw refused(error);
    }
  }

  measure(track) {
    this.meter = window.LivekitClient.createAudioAnalyser(track);
    this.measuring = setInterval(() => this.level(this.silent ? 0 : Math.min(1, this.meter.calculateVolume())), 100);
  }

  get muted() {
    return this.silent;
  }

  set muted(value) {
    const differs = this.silent !== value;
    this.silent = value;
    if (differs && this.listens) this.room.localParticipant.setMicrophoneEnabled(!value);
  }

  play() {}

  tell() {}

  async close() {
    this.closed = true;
    clearInterval(this.measuring);
    await this.meter?.cleanup();
    await this.room?.disconnect();
  }
}

function load(address) {
  if (window.LivekitClient) return Promise.resolve();
  return new Promise((done, failed) => {
    const script = make("script");
    script.src = address;
    script.onload = done;
    script.onerror = () => failed(new Error("LiveKit's client can't be loaded"));
    document.head.append(script);
  });
}
