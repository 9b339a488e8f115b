// Elements, numbers and colours for all parts of the page.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element. Properties are set as they are; `on` holds listeners, `attributes` what has no property. */
export function element(tag, { on = {}, attributes = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [kind, listener] of Object.entries(on)) made.addEventListener(kind, listener);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A drawing of a button, from the path of a 24 x 24 picture. */
export function icon(path) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(space, "path");
  line.setAttribute("d", path);
  picture.append(line);
  return picture;
}

/** Show a message where it belongs; an empty one hides the place. */
export function tell(place, message) {
  place.textContent = message;
  place.hidden = !message;
}

/** Say something to a screen reader. */
export function announce(message) {
  byId("status").textContent = message;
}

/** Seconds as m:ss or h:mm:ss, with as many decimals as asked for. */
export function clock(seconds, decimals = 0) {
  const unit = 10 ** decimals;
  const ticks = Math.floor(Math.max(0, seconds) * unit + 1e-6);
  const whole = Math.floor(ticks / unit);
  const pad = (number, width) => String(number).padStart(width, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const start = hours ? `${hours}:${pad(minutes, 2)}` : `${minutes}`;
  const end = decimals ? `.${pad(ticks % unit, decimals)}` : "";
  return `${start}:${pad(whole % 60, 2)}${end}`;
}

/** A count with its noun. */
export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Fit a canvas to its place on the screen: the context in CSS pixels, and the size. */
export function prepared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** The colours of the style sheet as a canvas needs them: resolved for light or dark. */
export function colours(...names) {
  const probe = byId("status");
  const found = names.map((name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  });
  probe.style.color = "";
  return found;
}
