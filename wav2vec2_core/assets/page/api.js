// The server's addresses. Everything is relative to the page, so that it also works behind a prefix.

const KEY = "wav2vec2-key";

/** The key of this tab; it is forgotten with the tab. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

/** What the server says is wrong. `status`: of HTTP, 0 where there was no answer. */
export class Refused extends Error {
  constructor(message, { status = 0, retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, retryAfter });
  }
}

const UNREACHABLE = "The server cannot be reached. Is it still running?";
const CUT = "The connection ended before an answer came: the server is gone, or the file is larger than it takes.";

function authorization() {
  return key.get() ? { authorization: `Bearer ${key.get()}` } : {};
}

function refusal(status, text, retryAfter) {
  let message;
  try {
    message = JSON.parse(text).error.message;
  } catch {
    message = `The server answered with status ${status}`;
  }
  return new Refused(message, { status, retryAfter: Number(retryAfter) || 0 });
}

async function fetched(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...options.headers, ...authorization() } });
  } catch {
    throw new Refused(UNREACHABLE);
  }
  if (!answer.ok) throw refusal(answer.status, await answer.text(), answer.headers.get("retry-after"));
  return answer;
}

/** The models that are served. */
export async function models() {
  return (await (await fetched("v1/models")).json()).data;
}

/** A caption file of a result, as text. */
export async function captions(result, format, name) {
  const { words, segments, duration, language } = result;
  const body = JSON.stringify({ words, segments, duration, language, name, response_format: format });
  const headers = { "content-type": "application/json" };
  return (await fetched("v1/audio/captions", { method: "POST", headers, body })).text();
}

/** Send a form: fetch does not tell how much was sent, XMLHttpRequest does. */
function send(path, form, { signal, onSent, onText }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onSent?.(event.loaded / event.total);
    request.upload.onload = () => onSent?.(1);
    request.onprogress = () => request.status === 200 && onText?.(request.responseText);
    request.onload = () => {
      if (request.status === 200) resolve(request.responseText);
      else reject(refusal(request.status, request.responseText, request.getResponseHeader("retry-after")));
    };
    request.onerror = () => reject(new Refused(CUT));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

function formOf(file, fields) {
  const form = new FormData();
  for (const [name, value] of fields) if (value) form.append(name, value);
  form.append("file", file, file.name);
  return form;
}

/** The events that are complete in a stream's text from `start`, and where the next one begins. */
function eventsIn(text, start) {
  const events = [];
  let end = text.indexOf("\n\n", start);
  while (end >= 0) {
    const data = text.slice(start, end).replace(/^data: /, "");
    if (data !== "[DONE]") events.push(JSON.parse(data));
    start = end + 2;
    end = text.indexOf("\n\n", start);
  }
  return { events, start };
}

/**
 * Transcribe a file: text, words, segments, duration, language.
 * `onSent` is told the share that was sent, `onWords` new text and the seconds up to which it goes.
 */
export async function transcribe(file, { model, language, signal, onSent, onWords }) {
  const form = formOf(file, [
    ["model", model],
    ["language", language],
    ["stream", "true"],
    ["response_format", "verbose_json"],
    ["timestamp_granularities[]", "word"],
    ["timestamp_granularities[]", "segment"],
  ]);
  let read = 0;
  let result;
  const take = (text) => {
    const { events, start } = eventsIn(text, read);
    read = start;
    const deltas = events.filter((event) => event.type === "transcript.text.delta");
    if (deltas.length) onWords?.(deltas.map((event) => event.delta).join(""), deltas.at(-1).end);
    for (const event of events) {
      if (event.error) throw refusal(200, JSON.stringify(event));
      if (event.type === "transcript.text.done") result = event;
    }
  };
  // An error within the stream comes again with the whole text.
  const onText = (text) => {
    try {
      take(text);
    } catch {
      read = 0;
    }
  };
  const text = await send("v1/audio/transcriptions", form, { signal, onSent, onText });
  take(text);
  if (!result) throw new Refused(CUT);
  return result;
}

/** Find when the words of a text are spoken: words, segments, duration. */
export async function align(file, text, { model, language, signal }) {
  const form = formOf(file, [["model", model], ["language", language], ["text", text]]);
  return JSON.parse(await send("v1/audio/alignments", form, { signal }));
}

/** A websocket for live samples (s16le) of this rate. Browsers send a key as a subprotocol. */
export function liveSocket(rate, language) {
  const address = new URL("v1/stream", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("rate", rate);
  if (language) address.searchParams.set("language", language);
  const protocols = key.get() ? ["realtime", `openai-insecure-api-key.${key.get()}`] : [];
  const socket = new WebSocket(address, protocols);
  socket.binaryType = "arraybuffer";
  return socket;
}
