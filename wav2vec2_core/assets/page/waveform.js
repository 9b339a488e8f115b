// A waveform with its words, and the whole recording below it.

import { clock, colours, prepared } from "./dom.js";

const [RULER, LANE] = [20, 44];
/** Seconds that a second of screen shows at least; that a view begins with, for each 1000 pixels. */
const [LEAST, COMFORTABLE] = [0.5, 12];
const FONT = '13px Inter, "SF Pro Text", "Segoe UI", Roboto, system-ui, sans-serif';
const COLOURS = ["ink", "soft", "faint", "line", "accent", "wave", "region", "active", "unsure"];

/** Tells `word` (detail: its index) when one is clicked, `seek` (detail: seconds) when a place is. */
export class Waveform extends EventTarget {
  #sound = null;
  #words = [];
  #duration = 0;
  #time = 0;
  #active = -1;
  #hovered = -1;
  #start = 0;
  #span = 1;

  constructor(canvas, whole) {
    super();
    Object.assign(this, { canvas, whole });
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.#listen();
  }

  /** Show a recording from its beginning. */
  open(duration) {
    this.#sound = null;
    this.#words = [];
    this.#hovered = -1;
    this.#time = 0;
    this.#start = 0;
    this.#active = -1;
    this.#duration = 0;
    this.draw();
    this.lasting(duration);
  }

  /** Say how long it is, once that is known. */
  lasting(duration) {
    if (!duration || duration === this.#duration) return;
    this.#duration = duration;
    this.#span = 0;
    this.draw();
  }

  set sound(sound) {
    this.#sound = sound;
    this.draw();
  }

  set words(words) {
    this.#words = words;
    this.draw();
  }

  /** The place that plays, the word there, and whether the view follows it. */
  at(time, active, follows) {
    this.#time = time;
    this.#active = active;
    const end = this.#start + 0.9 * this.#span;
    if (follows && (time > end || time < this.#start)) this.#start = time - 0.1 * this.#span;
    this.draw();
  }

  /** Bring a place into view. */
  show(time) {
    if (time < this.#start || time > this.#start + this.#span) this.#start = time - this.#span / 2;
    this.draw();
  }

  /** Zoom by a factor about a place, by default the middle of the view. */
  zoom(factor, about = this.#start + this.#span / 2) {
    const span = Math.max(LEAST, Math.min(this.#duration, this.#span * factor));
    this.#start = about - ((about - this.#start) * span) / this.#span;
    this.#span = span;
    this.draw();
  }

  draw() {
    if (!this.canvas.clientWidth) return;
    this.#span ||= Math.min(this.#duration, Math.max(2, (COMFORTABLE * this.canvas.clientWidth) / 1000));
    this.#start = Math.max(0, Math.min(this.#start, this.#duration - this.#span));
    if (!this.#duration) {
      prepared(this.canvas); // nothing of another recording stays
      this.whole.hidden = true;
      return;
    }
    const paint = Object.fromEntries(colours(...COLOURS).map((colour, i) => [COLOURS[i], colour]));
    this.#drawView(paint);
    this.whole.hidden = this.#span > 0.98 * this.#duration;
    if (!this.whole.hidden) this.#drawWhole(paint);
  }

  // ---- drawing ------------------------------------------------------------------------------------------------------

  #drawView(paint) {
    const { context, width, height } = prepared(this.canvas);
    const x = (time) => ((time - this.#start) / this.#span) * width;
    const bottom = height - LANE;
    context.font = FONT;
    this.#drawRuler(context, width, bottom, x, paint);
    const [first, last] = this.#visible();
    this.#drawRegions(context, first, last, bottom, x, paint);
    this.#drawSound(context, 0, width, RULER, bottom, this.#start, this.#span, paint, first);
    this.#drawLabels(context, first, last, width, bottom, x, paint);
    const cursor = Math.round(x(this.#time));
    context.fillStyle = paint.ink;
    context.fillRect(cursor - 0.75, RULER - 6, 1.5, bottom - RULER + 10);
    context.beginPath();
    context.arc(Math.max(4, Math.min(width - 4, cursor)), RULER - 6, 4, 0, 2 * Math.PI);
    context.fill();
  }

  #drawRuler(context, width, bottom, x, paint) {
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
    const step = steps.find((one) => (one / this.#span) * width > 76) ?? 3600;
    context.textAlign = "left";
    for (let i = Math.ceil(this.#start / step); i * step <= this.#start + this.#span; i += 1) {
      const place = Math.round(x(i * step)) + 0.5;
      context.fillStyle = paint.line;
      context.fillRect(place, 4, 1, bottom - 4);
      context.fillStyle = paint.soft;
      context.font = FONT.replace("13px", "11px");
      if (place + 34 < width) context.fillText(clock(i * step, step < 1 ? 1 : 0), place + 5, 12);
    }
    context.font = FONT;
  }

  #drawRegions(context, first, last, bottom, x, paint) {
    for (let i = first; i < last; i += 1) {
      const { start, end } = this.#words[i];
      context.fillStyle = i === this.#active || i === this.#hovered ? paint.active : paint.region;
      context.beginPath();
      context.roundRect(x(start), RULER + 4, Math.max(2, x(end) - x(start)), bottom - RULER - 4, 5);
      context.fill();
    }
  }

  /** Columns of the outline: lowest and highest sample, and its power within; pale outside words. */
  #drawSound(context, left, width, top, bottom, start, span, paint, word) {
    const sound = this.#sound;
    const middle = (top + bottom) / 2;
    const half = (bottom - top) / 2 - 6;
    context.fillStyle = paint.faint;
    if (!sound) {
      context.fillRect(left, middle - 0.5, width, 1);
      return;
    }
    const column = 1 / (window.devicePixelRatio || 1);
    for (let offset = 0; offset < width; offset += column) {
      const from = start + (offset / width) * span;
      const to = from + (column / width) * span;
      const { low, high, power } = between(sound, from, to);
      while (word < this.#words.length && this.#words[word].end <= from) word += 1;
      const isSpoken = word < this.#words.length && this.#words[word].start < to;
      context.fillStyle = isSpoken ? paint.wave : paint.faint;
      const peak = Math.max(0.6, (high - low) * half);
      context.fillRect(left + offset, middle - Math.max(0.3, high * half), column, peak);
      if (!isSpoken) continue;
      context.fillStyle = paint.accent;
      const core = Math.min(peak / 2, Math.sqrt(power) * half);
      context.fillRect(left + offset, middle - core, column, 2 * core);
    }
  }

  #drawLabels(context, first, last, width, bottom, x, paint) {
    let taken = -Infinity;
    context.textAlign = "center";
    for (let i = first; i < last; i += 1) {
      const { word, start, end, probability } = this.#words[i];
      const [left, right] = [x(start), x(end)];
      const isActive = i === this.#active || i === this.#hovered;
      context.fillStyle = isActive ? paint.accent : probability < 0.5 ? paint.unsure : paint.wave;
      context.beginPath();
      context.roundRect(left, bottom + 8, Math.max(2, right - left), 3, 1.5);
      context.fill();
      const reach = context.measureText(word).width / 2;
      const middle = Math.max(reach + 2, Math.min(width - reach - 2, (left + right) / 2));
      const isWithin = right > 0 && left < width && middle - reach > taken + 7;
      if (!isWithin) continue;
      context.fillStyle = isActive ? paint.accent : paint.ink;
      context.fillText(word, middle, bottom + 30);
      taken = middle + reach;
    }
  }

  #drawWhole(paint) {
    const { context, width, height } = prepared(this.whole);
    const x = (time) => (time / this.#duration) * width;
    context.fillStyle = paint.active;
    context.beginPath();
    context.roundRect(x(this.#start), 0, Math.max(6, x(this.#span)), height, 6);
    context.fill();
    this.#drawSound(context, 0, width, 0, height, 0, this.#duration, paint, 0);
    context.fillStyle = paint.ink;
    context.fillRect(x(this.#time) - 0.75, 0, 1.5, height);
  }

  // ---- pointing -----------------------------------------------------------------------------------------------------

  #listen() {
    const { canvas, whole } = this;
    let pressed = null;
    const timeAt = (event) => this.#start + (event.offsetX / canvas.clientWidth) * this.#span;
    const wordAt = (event) => {
      if (event.offsetY < canvas.clientHeight - LANE) return -1;
      const time = timeAt(event);
      const reach = (8 / canvas.clientWidth) * this.#span;
      return this.#words.findIndex(({ start, end }) => start - reach <= time && time < end + reach);
    };
    canvas.addEventListener("pointerdown", (event) => {
      pressed = { x: event.offsetX, start: this.#start, isDrag: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (pressed) {
        const moved = event.offsetX - pressed.x;
        pressed.isDrag ||= Math.abs(moved) > 4;
        if (pressed.isDrag) this.#start = pressed.start - (moved / canvas.clientWidth) * this.#span;
      }
      this.#hovered = pressed?.isDrag ? -1 : wordAt(event);
      canvas.style.cursor = this.#hovered >= 0 ? "pointer" : pressed?.isDrag ? "grabbing" : "default";
      this.draw();
    });
    canvas.addEventListener("pointerup", (event) => {
      const isClick = pressed && !pressed.isDrag;
      pressed = null;
      if (!isClick) return;
      const word = wordAt(event);
      this.#tell(word >= 0 ? "word" : "seek", word >= 0 ? word : timeAt(event));
    });
    canvas.addEventListener("pointercancel", () => (pressed = null));
    canvas.addEventListener("pointerleave", () => {
      this.#hovered = -1;
      this.draw();
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (event.ctrlKey || event.metaKey) this.zoom(Math.exp(event.deltaY / 200), timeAt(event));
        else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
          this.#start += (event.deltaX / canvas.clientWidth) * this.#span;
          this.draw();
        } else return;
        event.preventDefault();
      },
      { passive: false },
    );
    const move = (event) => {
      const time = (event.offsetX / whole.clientWidth) * this.#duration;
      this.#start = time - this.#span / 2;
      this.#tell("seek", Math.max(0, time));
    };
    whole.addEventListener("pointerdown", (event) => {
      whole.setPointerCapture(event.pointerId);
      move(event);
    });
    whole.addEventListener("pointermove", (event) => event.buttons && move(event));
  }

  #tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  /** The words in view: the first, and the one behind the last. */
  #visible() {
    const first = firstEndingAfter(this.#words, this.#start);
    let last = first;
    while (last < this.#words.length && this.#words[last].start < this.#start + this.#span) last += 1;
    return [first, last];
  }
}

/** Index of the first word that ends after a time. */
export function firstEndingAfter(words, time) {
  let [low, high] = [0, words.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].end > time) high = middle;
    else low = middle + 1;
  }
  return low;
}

function between({ rate, low, high, power }, from, to) {
  const first = Math.max(0, Math.floor(from * rate));
  const last = Math.min(low.length, Math.max(first + 1, Math.floor(to * rate)));
  let [least, most, sum] = [0, 0, 0];
  for (let i = first; i < last; i += 1) {
    if (low[i] < least) least = low[i];
    if (high[i] > most) most = high[i];
    sum += power[i];
  }
  return { low: least, high: most, power: sum / Math.max(1, last - first) };
}
