// Recording from the microphone, with the text while it is spoken.

import { liveSocket } from "./api.js";
import { byId, clock, colours, prepared, tell } from "./dom.js";

/** The sound as it is: what calls do to it for people makes words harder to recognize. */
const PLAIN = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const DENIED = {
  NotAllowedError: "The microphone is not allowed: permit it for this page in the browser, then record again.",
  NotFoundError: "There is no microphone: connect one, then record again.",
  NotReadableError: "The microphone is used by another program: end that one, then record again.",
};
const NO_LIVE = "There is no live text: the server did not take the connection. The recording goes on, its text comes at the end.";

/** Open the microphone. Raises an `Error` that says what to do. */
export async function openMicrophone() {
  if (!navigator.mediaDevices) throw new Error("Browsers give the microphone to pages over HTTPS or of this machine only.");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: PLAIN });
  } catch (error) {
    throw new Error(DENIED[error.name] ?? `The microphone cannot be opened (${error.message}).`);
  }
}

/** A recording that runs; it shows itself until `stop`. */
export class LiveRecording {
  #stream;
  #context;
  #socket = null;
  #blocks = [];
  #levels = [];
  #samples = 0;
  #text = "";
  #finished = Promise.withResolvers();

  /** Start. `stream`: of `openMicrophone`; `language`: of MMS. */
  async start(stream, language) {
    this.#stream = stream;
    this.#context = new AudioContext();
    for (const id of ["live-text", "live-partial"]) byId(id).textContent = "";
    tell(byId("live-error"), "");
    this.#draw();
    await this.#context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    this.#connect(language);
    const source = this.#context.createMediaStreamSource(stream);
    const worklet = new AudioWorkletNode(this.#context, "samples");
    worklet.port.onmessage = (event) => this.#take(event.data);
    source.connect(worklet).connect(this.#context.destination); // silent: only what is connected runs
  }

  get seconds() {
    return this.#samples / this.#context.sampleRate;
  }

  /** End it: the recording as a file, and its seconds. */
  async stop() {
    for (const track of this.#stream.getTracks()) track.stop();
    await this.#context.close();
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send("end");
      const patience = new Promise((resolve) => setTimeout(resolve, 3000));
      await Promise.race([this.#finished.promise, patience]);
    }
    this.#socket?.close();
    const now = new Date().toLocaleTimeString("en-GB");
    const name = `Microphone ${now.replaceAll(":", ".")}.wav`;
    return { file: new File([wav(this.#blocks, this.#context.sampleRate)], name, { type: "audio/wav" }), seconds: this.seconds };
  }

  #connect(language) {
    try {
      this.#socket = liveSocket(this.#context.sampleRate, language);
    } catch {
      tell(byId("live-error"), NO_LIVE); // a key with letters that a browser cannot send
      return;
    }
    let isOver = false;
    this.#socket.onmessage = (event) => {
      const told = JSON.parse(event.data);
      if (told.text) {
        byId("live-text").append(`${this.#text ? " " : ""}${told.text}`);
        this.#text += told.text;
      }
      byId("live-partial").textContent = told.partial ? `${this.#text ? " " : ""}${told.partial}` : "";
      isOver = Boolean(told.final);
      if (isOver) this.#finished.resolve();
    };
    this.#socket.onclose = (event) => {
      this.#finished.resolve();
      if (!isOver) tell(byId("live-error"), event.reason ? `Live text ended: ${event.reason}.` : NO_LIVE);
    };
  }

  #take(block) {
    this.#blocks.push(block);
    this.#samples += block.length;
    let most = 0;
    for (const sample of block) most = Math.max(most, Math.abs(sample));
    this.#levels.push(most / 32768);
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(block);
    this.#draw();
  }

  #draw() {
    byId("live-time").textContent = clock(this.seconds);
    const { context, width, height } = prepared(byId("level"));
    const [accent, faint] = colours("alarm", "faint");
    const [step, bar] = [5, 3];
    const shown = Math.floor(width / step);
    for (let i = 0; i < shown; i += 1) {
      const level = this.#levels[this.#levels.length - shown + i];
      const tall = Math.max(2, Math.sqrt(level ?? 0) * height);
      context.fillStyle = level === undefined ? faint : accent;
      context.beginPath();
      context.roundRect(i * step, (height - tall) / 2, bar, tall, bar / 2);
      context.fill();
    }
  }
}

/** Samples (s16le) as a WAV file. */
function wav(blocks, rate) {
  const size = blocks.reduce((sum, block) => sum + block.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const text = (offset, word) => [...word].forEach((letter, i) => head.setUint8(offset + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); // whole numbers
  head.setUint16(22, 1, true); // channels
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, size, true);
  return new Blob([head, ...blocks], { type: "audio/wav" });
}
