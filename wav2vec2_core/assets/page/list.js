// The list of recordings.

import { announce, byId, clock, counted, element, icon } from "./dom.js";

/** What a recording's line says of it. */
export function stateOf(item) {
  switch (item.state) {
    case "waiting":
      return item.note || "Waiting";
    case "sending":
      return `Sending ${Math.round(100 * item.share)} %`;
    case "transcribing":
      return item.heard && item.duration
        ? `Transcribing, ${clock(item.heard)} of ${clock(item.duration)}`
        : "Transcribing";
    case "done":
      return `${clock(item.duration)}  ·  ${counted(item.result.words.length, "word")}`;
  }
  return item.error;
}

/** Keep the list in step with the recordings. */
export function showList(recordings) {
  const lines = new Map();

  function lineOf(item) {
    const name = element("span", { className: "name", textContent: item.name, title: item.name });
    const state = element("span", { className: "state" });
    const open = element(
      "button",
      { type: "button", className: "open", on: { click: () => recordings.choose(item) } },
      name,
      state,
    );
    const bar = element("progress", { max: 1, attributes: { "aria-label": `Progress of ${item.name}` } });
    const remove = element(
      "button",
      {
        type: "button",
        className: "remove icon",
        title: "Remove",
        attributes: { "aria-label": `Remove ${item.name}` },
        on: { click: () => removed(item) },
      },
      icon("M7 7l10 10M17 7L7 17"),
    );
    return { line: element("li", {}, open, remove, bar), open, state, bar, told: "" };
  }

  function removed(item) {
    recordings.remove(item);
    const next = recordings.chosen && lines.get(recordings.chosen);
    (next ? next.open : document.querySelector("#welcome .choose")).focus();
  }

  function update(item) {
    const shown = lines.get(item);
    if (!shown) return;
    shown.line.dataset.state = item.state;
    shown.state.textContent = stateOf(item);
    shown.bar.hidden = !["sending", "transcribing"].includes(item.state);
    if (item.share === null) shown.bar.removeAttribute("value");
    else shown.bar.value = item.share;
    if (shown.told !== item.state && ["done", "failed"].includes(item.state)) {
      announce(item.state === "done" ? `${item.name}: ${item.result.text}`.slice(0, 300) : `${item.name}: ${item.error}`);
    }
    shown.told = item.state;
  }

  function updateAll() {
    for (const item of recordings.items) if (!lines.has(item)) lines.set(item, lineOf(item));
    for (const item of lines.keys()) if (!recordings.items.includes(item)) lines.delete(item);
    const wanted = recordings.items.map((item) => lines.get(item).line);
    const list = byId("list");
    if (wanted.length !== list.children.length || wanted.some((line, i) => line !== list.children[i])) {
      list.replaceChildren(...wanted);
    }
    for (const [item, { open }] of lines) {
      const isNew = item === recordings.chosen && !open.hasAttribute("aria-current");
      if (item === recordings.chosen) open.setAttribute("aria-current", "true");
      else open.removeAttribute("aria-current");
      if (isNew) requestAnimationFrame(() => open.scrollIntoView({ block: "nearest", inline: "nearest" }));
      update(item);
    }
  }

  recordings.addEventListener("list", updateAll);
  recordings.addEventListener("change", (event) => update(event.detail));
}
