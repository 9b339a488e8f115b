// The recordings of the page, and the line in which they are transcribed.

import { Refused, align, transcribe } from "./api.js";

/** Recordings that are with the server at a time: while one is sent, another is transcribed. */
const AT_ONCE = 2;

/**
 * One recording. `state`: waiting, sending, transcribing, done or failed; `share`: how much of that is done, where it is
 * known; `text`: heard so far; `result`: text, words, segments, duration; `draft`: text that is being corrected.
 */
class Item {
  state = "waiting";
  share = null;
  note = "";
  text = "";
  heard = 0;
  result = null;
  error = "";
  draft = null;
  sound = null;

  constructor(file, name, duration) {
    Object.assign(this, { file, name, duration, cancelling: new AbortController() });
  }
}

/** Tells `list` when recordings come, go or are chosen, `change` (with its item) when one changes. */
export class Recordings extends EventTarget {
  items = [];
  chosen = null;
  #running = 0;
  #settings;

  /** `settings` returns the model and language that are chosen. */
  constructor(settings) {
    super();
    this.#settings = settings;
  }

  /** Add a file. `duration`: where it is known. */
  add(file, { name = file.name, duration = null } = {}) {
    const item = new Item(file, name, duration);
    this.items.push(item);
    this.#start();
    return item;
  }

  choose(item) {
    this.chosen = item;
    this.dispatchEvent(new Event("list"));
  }

  remove(item) {
    item.cancelling.abort();
    const place = this.items.indexOf(item);
    this.items.splice(place, 1);
    if (this.chosen === item) this.chosen = this.items[Math.min(place, this.items.length - 1)] ?? null;
    this.dispatchEvent(new Event("list"));
    this.#start();
  }

  /** Transcribe a recording again, from the beginning. */
  again(item) {
    this.change(item, { state: "waiting", error: "", text: "", heard: 0, share: null, note: "" });
    this.#start();
  }

  /** Again where the server did not know the key. */
  againWithoutKey() {
    for (const item of this.items) if (item.state === "failed" && item.status === 401) this.again(item);
  }

  /** Time the words of a corrected text; raises `Refused` and leaves the item as it was. */
  async align(item, text) {
    const found = await align(item.file, text, { ...this.#settings(), signal: item.cancelling.signal });
    const result = { ...item.result, ...found, text: found.segments.map((one) => one.text).join(" ") };
    this.change(item, { result, draft: null });
  }

  change(item, values) {
    Object.assign(item, values);
    this.dispatchEvent(new CustomEvent("change", { detail: item }));
  }

  #start() {
    for (const item of this.items) {
      if (this.#running >= AT_ONCE) return;
      if (item.state === "waiting" && !item.note) this.#run(item);
    }
  }

  async #run(item) {
    this.#running += 1;
    this.change(item, { state: "sending", share: 0 });
    try {
      const result = await transcribe(item.file, {
        ...this.#settings(),
        signal: item.cancelling.signal,
        onSent: (share) => this.change(item, share < 1 ? { share } : { state: "transcribing", share: null }),
        onWords: (text, heard) => {
          const share = item.duration ? Math.min(1, heard / item.duration) : null;
          this.change(item, { state: "transcribing", text: item.text + text, heard, share });
        },
      });
      this.change(item, { state: "done", result, duration: result.duration, share: null });
    } catch (error) {
      this.#fail(item, error);
    } finally {
      this.#running -= 1;
      this.#start();
    }
  }

  #fail(item, error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refused && error.status === 429) {
      const wait = Math.max(1, error.retryAfter);
      const note = `The server is busy: next try in ${wait} s`;
      this.change(item, { state: "waiting", note, share: null });
      setTimeout(() => {
        item.note = "";
        this.#start();
      }, 1000 * wait);
      return;
    }
    if (!(error instanceof Refused)) console.error(error);
    const message = error instanceof Refused ? error.message : `The page failed: ${error.message}`;
    this.change(item, { state: "failed", error: message, status: error.status, share: null });
  }
}

/** The words of each segment: `[{ segment, words: [{ word, index }] }]`. */
export function paragraphs(result) {
  let first = 0;
  return result.segments.map((segment) => {
    const words = [];
    while (first < result.words.length && result.words[first].start < segment.end) {
      words.push({ word: result.words[first], index: first });
      first += 1;
    }
    return { segment, words };
  });
}
