// The page: what is chosen at the top, where recordings come from, and which view is shown.

import { key, models } from "./api.js";
import { announce, byId, element, tell } from "./dom.js";
import { showList } from "./list.js";
import { LiveRecording, openMicrophone } from "./microphone.js";
import { Recordings } from "./recordings.js";
import { Sheet } from "./sheet.js";

const settings = () => ({ model: byId("model").value, language: byId("language").value });
const recordings = new Recordings(settings);
const sheet = new Sheet(recordings);
let live = null;
let isReady = false;

showList(recordings);
recordings.addEventListener("list", show);
recordings.addEventListener("change", ({ detail }) => detail.status === 401 && detail.state === "failed" && askForKey());

/** Show the view that fits: what runs, what is chosen, or the beginning. */
function show() {
  const isEmpty = recordings.items.length === 0;
  document.body.dataset.view = live ? "live" : isEmpty ? "empty" : "sheet";
  byId("welcome").hidden = live !== null || !isEmpty;
  byId("live").hidden = live === null;
  byId("sheet").hidden = live !== null || isEmpty;
  for (const button of document.querySelectorAll(".record")) button.disabled = live !== null || !isReady;
  for (const button of document.querySelectorAll(".choose")) button.disabled = !isReady;
}

// ---- the server -----------------------------------------------------------------------------------------------------

async function greet() {
  tell(byId("notice"), "");
  let served;
  try {
    served = await models();
  } catch (error) {
    if (error.status === 401) askForKey();
    else tellNotice(error.message);
    return;
  }
  byId("key-form").hidden = true;
  byId("model").replaceChildren(...served.map(({ id }) => element("option", { value: id, textContent: id })));
  byId("model").onchange = () => showLanguages(served);
  showLanguages(served);
  recordings.againWithoutKey();
}

function tellNotice(message) {
  tell(byId("notice"), message);
  byId("notice").append(" ", element("button", { type: "button", textContent: "Try again", on: { click: greet } }));
}

function showLanguages(served) {
  const model = served.find(({ id }) => id === byId("model").value);
  isReady = model.head === "ForCTC";
  if (!isReady) tell(byId("notice"), `${model.id} is a Wav2Vec2${model.head}: this page needs a model that transcribes.`);
  byId("language-field").hidden = model.languages.length === 0;
  const named = model.languages.map((code) => ({ code, name: nameOf(code) }));
  named.sort((one, other) => one.name.localeCompare(other.name));
  byId("language").replaceChildren(
    ...named.map(({ code, name }) => element("option", { value: code, textContent: name, selected: code === model.language })),
  );
  show();
}

function nameOf(code) {
  const [language, script] = code.split("-script_");
  let name = language;
  try {
    name = new Intl.DisplayNames("en", { type: "language" }).of(language);
  } catch {
    // a code that browsers do not know stands for itself
  }
  return name === code ? code : `${name} (${script ? `${language}, ${script}` : language})`;
}

function askForKey() {
  const isWrong = key.get() !== "";
  byId("key-error").textContent = isWrong ? "This key is not right." : "";
  byId("key-form").hidden = false;
  byId("key").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(byId("key").value);
  greet();
});

// ---- files ----------------------------------------------------------------------------------------------------------

function take(files) {
  const added = [...files].map((file) => recordings.add(file));
  if (!added.length) return;
  recordings.choose(added[0]);
  if (added.length > 1) announce(`${added.length} recordings were added`);
}

for (const button of document.querySelectorAll(".choose")) button.addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", () => {
  take(byId("files").files);
  byId("files").value = "";
});

let inside = 0;
const holdsFiles = (event) => isReady && !live && event.dataTransfer.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (!holdsFiles(event)) return;
  inside += 1;
  byId("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!holdsFiles(event)) return;
  inside -= 1;
  byId("drop").hidden = inside <= 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  byId("drop").hidden = true;
  if (holdsFiles(event)) take(event.dataTransfer.files);
});

// ---- the microphone -------------------------------------------------------------------------------------------------

async function record(event) {
  const place = event.currentTarget.closest("aside") ? byId("notice") : byId("microphone-error");
  tell(place, "");
  sheet.pause();
  let stream;
  try {
    stream = await openMicrophone();
  } catch (error) {
    tell(place, error.message);
    return;
  }
  live = new LiveRecording();
  show();
  byId("stop").focus();
  await live.start(stream, settings().language);
}

async function stop() {
  byId("stop").disabled = true;
  const { file, seconds } = await live.stop();
  byId("stop").disabled = false;
  live = null;
  if (seconds > 0) recordings.choose(recordings.add(file, { duration: seconds }));
  show();
  (document.querySelector('#list [aria-current="true"]') ?? byId("stage")).focus();
}

for (const button of document.querySelectorAll(".record")) button.addEventListener("click", record);
byId("stop").addEventListener("click", stop);

// ---- light and dark -------------------------------------------------------------------------------------------------

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function showTheme() {
  const chosen = localStorage.getItem("wav2vec2-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  byId("theme").setAttribute("aria-pressed", String((chosen ?? (prefersDark.matches ? "dark" : "light")) === "dark"));
  sheet.redraw();
}

byId("theme").addEventListener("click", () => {
  const isDark = byId("theme").getAttribute("aria-pressed") === "true";
  localStorage.setItem("wav2vec2-theme", isDark ? "light" : "dark");
  showTheme();
});
prefersDark.addEventListener("change", showTheme);

// The ornament of the beginning: bars as of a voice.
function ornament() {
  const space = "http://www.w3.org/2000/svg";
  for (let i = 0; i < 67; i += 1) {
    const swell = Math.exp(-(((i - 33) / 20) ** 2)) * (0.55 + 0.45 * Math.sin(i * 0.9) * Math.sin(i * 0.37 + 1));
    const tall = 2 + 70 * Math.max(0.02, swell);
    const bar = document.createElementNS(space, "rect");
    const placed = { x: 2 + i * 6, y: 40 - tall / 2, width: 2.5, height: tall, rx: 1.25 };
    for (const [name, value] of Object.entries(placed)) bar.setAttribute(name, value);
    document.querySelector(".ornament").append(bar);
  }
}

ornament();
showTheme();
show();
greet();
