// What a waveform is drawn from, and what plays.

/** Bytes of a file beyond which no waveform is made: all of its samples would be in memory at once. */
const MOST = 200e6;
/** Bytes beyond which half the rate will do. */
const LARGE = 8e6;

/**
 * The outline of a recording: `{ duration, rate, low, high, power }`, `rate` values a second of lowest and highest
 * sample and mean square. Raises an `Error` where the browser cannot read the file.
 */
export async function outlineOf(file) {
  if (file.size > MOST) throw new Error("A file as large as this one is shown without its waveform.");
  const context = new OfflineAudioContext(1, 1, file.size > LARGE ? 8000 : 16000);
  let buffer;
  try {
    buffer = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error("This browser cannot read the format, so there is no waveform. The text is complete.");
  }
  return outline(mixed(buffer), buffer.sampleRate, buffer.duration);
}

function mixed(buffer) {
  const samples = buffer.getChannelData(0);
  for (let channel = 1; channel < buffer.numberOfChannels; channel += 1) {
    const other = buffer.getChannelData(channel);
    for (let i = 0; i < samples.length; i += 1) samples[i] += other[i];
  }
  return samples;
}

function outline(samples, sampleRate, duration) {
  const rate = duration > 120 ? 100 : 400;
  const count = Math.max(1, Math.ceil(duration * rate));
  const [low, high, power] = [0, 0, 0].map(() => new Float32Array(count));
  let most = 1e-4;
  for (let bin = 0; bin < count; bin += 1) {
    const first = Math.floor((bin * sampleRate) / rate);
    const last = Math.min(samples.length, Math.floor(((bin + 1) * sampleRate) / rate));
    let [least, greatest, sum] = [0, 0, 0];
    for (let i = first; i < last; i += 1) {
      const sample = samples[i];
      if (sample < least) least = sample;
      if (sample > greatest) greatest = sample;
      sum += sample * sample;
    }
    low[bin] = least;
    high[bin] = greatest;
    power[bin] = sum / Math.max(1, last - first);
    most = Math.max(most, greatest, -least);
  }
  for (let bin = 0; bin < count; bin += 1) {
    low[bin] /= most;
    high[bin] /= most;
    power[bin] /= most * most;
  }
  return { duration, rate, low, high, power };
}

/** Plays one recording at a time. Tells `tick` while it plays and when its place changes, `state` at start and end. */
export class Player extends EventTarget {
  #audio = new Audio();
  #end = Infinity;
  #address = "";
  problem = "";

  constructor() {
    super();
    this.#audio.preload = "auto";
    for (const kind of ["play", "pause", "ended"]) this.#audio.addEventListener(kind, () => this.#told("state"));
    this.#audio.addEventListener("seeked", () => this.#told("tick"));
    this.#audio.addEventListener("loadedmetadata", () => this.#told("tick"));
    this.#audio.addEventListener("error", () => {
      this.problem = "This browser cannot play the format.";
      this.#told("state");
    });
    this.#audio.addEventListener("play", () => this.#follow());
  }

  open(file) {
    this.close();
    this.problem = "";
    this.#address = URL.createObjectURL(file);
    this.#audio.src = this.#address;
  }

  close() {
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = "";
  }

  get time() {
    return this.#audio.currentTime;
  }

  get duration() {
    return Number.isFinite(this.#audio.duration) ? this.#audio.duration : null;
  }

  get isPlaying() {
    return !this.#audio.paused && !this.#audio.ended;
  }

  seek(seconds) {
    this.#end = Infinity;
    this.#audio.currentTime = Math.max(0, Math.min(seconds, this.duration ?? seconds));
    this.#told("tick");
  }

  /** Play from here, or a stretch. */
  play(start = null, end = Infinity) {
    if (start !== null) this.seek(start);
    this.#end = end;
    this.#audio.play().catch(() => {}); // a format that cannot be played is told of by the event "error"
  }

  pause() {
    this.#audio.pause();
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  #follow() {
    if (!this.isPlaying) return;
    if (this.time >= this.#end) {
      this.pause();
      this.seek(this.#end);
      return;
    }
    this.#told("tick");
    requestAnimationFrame(() => this.#follow());
  }

  #told(kind) {
    this.dispatchEvent(new Event(kind));
  }
}
