// One recording: its waveform, its text, and what can be done with them.

import { captions } from "./api.js";
import { announce, byId, clock, counted, element, icon, tell } from "./dom.js";
import { stateOf } from "./list.js";
import { paragraphs } from "./recordings.js";
import { Player, outlineOf } from "./sound.js";
import { Waveform, firstEndingAfter } from "./waveform.js";

const PLAY = "M8 5.5v13l11-6.5z";
const PAUSE = "M8 6v12M16 6v12";
/** Caption format -> end of the file's name. */
const FORMATS = { txt: "txt", srt: "srt", vtt: "vtt", tsv: "tsv", json: "json", textgrid: "TextGrid" };
/** Below this probability a word is marked. */
const UNSURE = 0.5;

export class Sheet {
  #recordings;
  #item = null;
  #player = new Player();
  #waveform;
  #active = -1;
  #shownResult = null;
  #parts = {};

  constructor(recordings) {
    this.#recordings = recordings;
    this.#build();
    recordings.addEventListener("list", () => this.#choose(recordings.chosen));
    recordings.addEventListener("change", ({ detail }) => detail === this.#item && this.#update());
    this.#player.addEventListener("tick", () => this.#tick());
    this.#player.addEventListener("state", () => this.#tick());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#waveform.draw());
  }

  /** Draw again, in other colours. */
  redraw() {
    this.#waveform.draw();
  }

  pause() {
    this.#player.pause();
  }

  // ---- its elements -------------------------------------------------------------------------------------------------

  #build() {
    const parts = this.#parts;
    const button = (label, listener, properties = {}) =>
      element("button", { type: "button", textContent: label, on: { click: listener }, ...properties });
    parts.title = element("h2", { tabIndex: -1 });
    parts.facts = element("p", { className: "facts" });
    parts.canvas = element("canvas", {
      className: "wave",
      tabIndex: 0,
      attributes: { role: "slider", "aria-label": "Position in the recording", "aria-valuemin": 0 },
      on: { keydown: (event) => this.#key(event) },
    });
    parts.whole = element("canvas", { className: "whole", attributes: { "aria-hidden": "true" }, hidden: true });
    parts.play = button("", () => this.#player.toggle(), { className: "play" });
    parts.time = element("span", { className: "time" });
    parts.soundNote = element("p", { className: "note", hidden: true });
    const zoom = (name, path, factor) =>
      element(
        "button",
        { type: "button", className: "icon", title: name, attributes: { "aria-label": name }, on: { click: () => this.#waveform.zoom(factor) } },
        icon(path),
      );
    parts.zoom = element("span", { className: "zoom" }, zoom("Zoom out", "M6 12h12", 2), zoom("Zoom in", "M6 12h12M12 6v12", 0.5));
    const transport = element("div", { className: "transport" }, parts.play, parts.time, parts.soundNote, parts.zoom);
    parts.problem = element("p", { attributes: { role: "alert" } });
    parts.failure = element("div", { className: "problem", hidden: true }, parts.problem, button("Try again", () => this.#recordings.again(this.#item)));
    parts.edit = button("Edit text", () => this.#edit(), { className: "quiet" });
    parts.words = element("div", {
      className: "words",
      attributes: { role: "group", "aria-label": "Words: arrow keys move, Enter plays one" },
      on: {
        click: (event) => event.target.dataset.word && this.#hear(Number(event.target.dataset.word)),
        keydown: (event) => this.#wordKey(event),
      },
    });
    parts.downloads = element("div", { className: "downloads", attributes: { role: "group", "aria-label": "Download" } }, element("span", { textContent: "Download" }));
    for (const [format, end] of Object.entries(FORMATS)) {
      parts.downloads.append(button(end, () => this.#download(format), { className: "chip" }));
    }
    parts.downloadError = element("p", { className: "problem", hidden: true, attributes: { role: "alert" } });
    this.#buildEditor(button);
    parts.sound = element("div", { className: "sound" }, parts.canvas, parts.whole, transport);
    const head = element("header", { className: "tools" }, element("h3", { textContent: "Transcript" }), parts.edit);
    parts.text = element("section", { className: "text" }, head, parts.words, parts.editor, parts.downloads, parts.downloadError);
    byId("sheet").append(
      element("header", { className: "title" }, parts.title, parts.facts),
      parts.sound,
      parts.failure,
      parts.text,
    );
    this.#waveform = new Waveform(parts.canvas, parts.whole);
    this.#waveform.addEventListener("word", ({ detail }) => this.#hear(detail));
    this.#waveform.addEventListener("seek", ({ detail }) => this.#player.seek(detail));
  }

  #buildEditor(button) {
    const parts = this.#parts;
    parts.draft = element("textarea", {
      spellcheck: true,
      attributes: { "aria-label": "Text, a line for each caption", "aria-describedby": "align-error" },
      on: {
        input: () => (this.#item.draft = parts.draft.value),
        keydown: (event) => {
          if (event.key === "Escape") this.#leaveEditor();
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) parts.editor.requestSubmit();
        },
      },
    });
    parts.align = element("button", { type: "submit", className: "primary", textContent: "Align with the sound" });
    parts.alignError = element("p", { id: "align-error", className: "problem", hidden: true, attributes: { role: "alert" } });
    parts.editor = element(
      "form",
      {
        className: "editor",
        hidden: true,
        on: {
          submit: (event) => {
            event.preventDefault();
            this.#align();
          },
        },
      },
      parts.draft,
      parts.alignError,
      element("div", { className: "actions" }, parts.align, button("Cancel", () => this.#leaveEditor())),
    );
  }

  // ---- showing ------------------------------------------------------------------------------------------------------

  #choose(item) {
    byId("sheet").hidden = !item;
    if (item === this.#item) return;
    this.#item = item;
    this.#shownResult = null;
    this.#active = -1;
    if (!item) {
      this.#player.close();
      return;
    }
    const parts = this.#parts;
    parts.title.textContent = item.name;
    for (const place of [parts.alignError, parts.downloadError, parts.soundNote]) tell(place, "");
    this.#waveform.open(item.duration);
    this.#player.open(item.file);
    this.#update();
    this.#tick();
    this.#listenTo(item);
  }

  /** Make the waveform, once for each recording. */
  async #listenTo(item) {
    try {
      item.sound ??= await outlineOf(item.file);
      item.duration ??= item.sound.duration;
    } catch (error) {
      if (item === this.#item) tell(this.#parts.soundNote, error.message);
      return;
    }
    if (item !== this.#item) return;
    this.#waveform.lasting(item.duration);
    this.#waveform.sound = item.sound;
    this.#update();
    this.#tick();
  }

  #update() {
    const item = this.#item;
    const parts = this.#parts;
    const isDone = item.state === "done";
    const isEditing = isDone && item.draft !== null;
    parts.facts.textContent = item.state === "failed" ? "" : stateOf(item);
    byId("sheet").dataset.state = item.state;
    parts.failure.hidden = item.state !== "failed";
    parts.sound.hidden = item.state === "failed" && !item.sound;
    parts.problem.textContent = item.error;
    parts.text.hidden = item.state === "failed" || !(isDone || item.text);
    parts.edit.hidden = !isDone || isEditing;
    parts.downloads.hidden = !isDone || isEditing;
    parts.editor.hidden = !isEditing;
    parts.words.hidden = isEditing;
    if (isEditing && parts.draft.value !== item.draft) parts.draft.value = item.draft;
    if (!isDone) {
      this.#shownResult = null;
      parts.words.textContent = item.text;
    } else if (this.#shownResult !== item.result) {
      this.#shownResult = item.result;
      this.#waveform.lasting(item.result.duration);
      this.#waveform.words = item.result.words;
      this.#showWords(item.result);
    }
  }

  #showWords(result) {
    if (!result.words.length) {
      this.#parts.words.replaceChildren(element("p", { className: "none", textContent: "No speech was found." }));
      return;
    }
    const shown = paragraphs(result).map(({ segment, words }) => {
      const line = element("p", {}, this.#timeButton(segment));
      const text = element("span", { className: "line" });
      let read = 0;
      for (const { word, index } of words) {
        const place = segment.text.indexOf(word.word, read); // what stands between two words is kept: not all are spaced
        if (place > read) text.append(segment.text.slice(read, place));
        read = place < 0 ? read : place + word.word.length;
        text.append(this.#wordButton(word, index));
      }
      line.append(text);
      return line;
    });
    this.#parts.words.replaceChildren(...shown);
  }

  #timeButton(segment) {
    const label = `Play from ${clock(segment.start, 1)}`;
    return element("button", {
      type: "button",
      className: "from",
      textContent: clock(segment.start),
      title: label,
      attributes: { "aria-label": label },
      on: { click: () => this.#player.play(segment.start) },
    });
  }

  #wordButton(word, index) {
    const made = element("button", { type: "button", className: "word", textContent: word.word, tabIndex: index ? -1 : 0 });
    made.dataset.word = index;
    if (word.probability < UNSURE) {
      made.classList.add("unsure");
      made.title = `Unsure: ${Math.round(100 * word.probability)} %`;
    }
    return made;
  }

  #tick() {
    const item = this.#item;
    if (!item) return;
    const { time, isPlaying, problem } = this.#player;
    const parts = this.#parts;
    const duration = item.duration ?? this.#player.duration ?? 0;
    const words = item.result?.words ?? [];
    const next = firstEndingAfter(words, time);
    const active = next < words.length && words[next].start <= time && (isPlaying || time > 0) ? next : -1;
    this.#waveform.lasting(duration);
    this.#waveform.at(time, active, isPlaying);
    if (active !== this.#active) {
      parts.words.querySelector(".word.active")?.classList.remove("active");
      parts.words.querySelector(`[data-word="${active}"]`)?.classList.add("active");
      this.#active = active;
    }
    parts.time.textContent = `${clock(time, 1)} / ${clock(duration, 1)}`;
    const wanted = isPlaying ? "Pause" : "Play";
    if (parts.play.getAttribute("aria-label") !== wanted) {
      parts.play.setAttribute("aria-label", wanted);
      parts.play.replaceChildren(icon(isPlaying ? PAUSE : PLAY));
    }
    parts.play.disabled = Boolean(problem);
    if (problem && parts.soundNote.hidden) tell(parts.soundNote, problem);
    parts.canvas.setAttribute("aria-valuemax", duration.toFixed(1));
    parts.canvas.setAttribute("aria-valuenow", time.toFixed(1));
    const word = active >= 0 ? `, ${words[active].word}` : "";
    parts.canvas.setAttribute("aria-valuetext", `${clock(time, 1)} of ${clock(duration, 1)}${word}`);
  }

  // ---- doing --------------------------------------------------------------------------------------------------------

  /** Play one word. */
  #hear(index) {
    const { start, end } = this.#item.result.words[index];
    this.#waveform.show(start);
    this.#player.play(start, end);
    this.#rove(index, false);
  }

  #key(event) {
    const { time, duration } = this.#player;
    const step = event.shiftKey ? 0.1 : 1;
    const actions = {
      ArrowLeft: () => this.#player.seek(time - step),
      ArrowRight: () => this.#player.seek(time + step),
      Home: () => this.#player.seek(0),
      End: () => this.#player.seek(duration ?? 0),
      " ": () => this.#player.toggle(),
      Enter: () => this.#player.toggle(),
      "+": () => this.#waveform.zoom(0.5, time),
      "-": () => this.#waveform.zoom(2, time),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
    this.#waveform.show(this.#player.time);
  }

  /** One word at a time is in the order of Tab; arrow keys move among them. */
  #wordKey(event) {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step || event.target.dataset.word === undefined) return;
    event.preventDefault();
    this.#rove(Number(event.target.dataset.word) + step, true);
  }

  #rove(index, focuses) {
    const wanted = this.#parts.words.querySelector(`[data-word="${index}"]`);
    if (!wanted) return;
    for (const word of this.#parts.words.querySelectorAll('.word[tabindex="0"]')) word.tabIndex = -1;
    wanted.tabIndex = 0;
    if (focuses) wanted.focus();
  }

  #edit() {
    const text = this.#item.result.segments.map((segment) => segment.text).join("\n");
    this.#player.pause();
    this.#recordings.change(this.#item, { draft: text });
    this.#parts.draft.focus();
  }

  #leaveEditor() {
    tell(this.#parts.alignError, "");
    this.#recordings.change(this.#item, { draft: null });
    this.#parts.edit.focus();
  }

  async #align() {
    const item = this.#item;
    const { align, alignError, edit, draft } = this.#parts;
    tell(alignError, "");
    align.disabled = true;
    align.textContent = "Aligning";
    try {
      await this.#recordings.align(item, draft.value);
      announce(`Aligned ${counted(item.result.words.length, "word")}`);
      if (item === this.#item) edit.focus();
    } catch (error) {
      if (item === this.#item) tell(alignError, error.message);
    } finally {
      align.disabled = false;
      align.textContent = "Align with the sound";
    }
  }

  async #download(format) {
    const { name, result } = this.#item;
    const base = name.replace(/\.[^.]+$/, "");
    tell(this.#parts.downloadError, "");
    try {
      const content = await captions(result, format, base);
      const address = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
      element("a", { href: address, download: `${base}.${FORMATS[format]}` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
    } catch (error) {
      tell(this.#parts.downloadError, error.message);
    }
  }
}
