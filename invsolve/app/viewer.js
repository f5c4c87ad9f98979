// The viewer of images: a slider between before and after, or panels side by side, with one zoom for all of them.
// Runs once when its component is on the page: `element`, `props` and `watch` are Gradio's.
const root = element.querySelector(".iv-viewer");
const WIDEST = 64; // screen pixels that an image pixel takes at most
const PIXELATED = 6; // from so many on, pixels are shown as squares

let view, layers, stages, timer;

function show(value) {
  clearInterval(timer);
  root.replaceChildren();
  if (!value || !value.panels) return;
  view = { x: 0, y: 0, z: 1, cut: 50 };
  layers = [];
  stages = [];
  const build = { slider: sliderOf, grid: gridOf, samples: samplesOf }[value.mode];
  const body = build(value);
  root.append(toolbar(value), ...body);
  move();
}

// --- one zoom for all panels: x and y are the image's corner in widths and heights of a stage, z its scale

function move() {
  view.z = Math.max(view.z, 1);
  view.x = within(view.x, 1 - view.z, 0);
  view.y = within(view.y, 1 - view.z, 0);
  for (const layer of layers) layer.style.transform = `translate(${100 * view.x}%, ${100 * view.y}%) scale(${view.z})`;
  for (const stage of stages) {
    const scale = screenPixels(stage);
    stage.classList.toggle("iv-squares", scale >= PIXELATED);
    stage.style.touchAction = view.z > 1 ? "none" : "pan-y";
  }
  const scale = root.querySelector(".iv-scale");
  if (scale && stages.length) scale.textContent = `${Math.round(100 * screenPixels(stages[0]))} %`;
  for (const update of root.querySelectorAll(".iv-marker")) update.place();
}

const screenPixels = (stage) => (view.z * stage.clientWidth) / stage.pixels[0];

function zoom(factor, fx = 0.5, fy = 0.5) {
  const stage = stages[0];
  const most = Math.max(1, (WIDEST * stage.pixels[0]) / Math.max(stage.clientWidth, 1));
  const z = within(view.z * factor, 1, most);
  view.x = fx - ((fx - view.x) * z) / view.z;
  view.y = fy - ((fy - view.y) * z) / view.z;
  view.z = z;
  move();
}

function toolbar(value) {
  const bar = make("div", "iv-tools");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Zoom");
  const button = (text, label, action) => {
    const node = make("button", "", text);
    node.type = "button";
    node.title = label;
    node.setAttribute("aria-label", label);
    node.addEventListener("click", action);
    bar.append(node);
    return node;
  };
  button("−", "Smaller", () => zoom(1 / 1.5));
  button("+", "Larger", () => zoom(1.5));
  button("Fit", "Show the whole image", () => { view.z = 1; move(); });
  button("1:1", "One pixel of the image is one of the screen", () => zoom(1 / screenPixels(stages[0])));
  bar.append(make("span", "iv-scale", ""));
  if (value.hint) bar.append(make("span", "iv-hint", value.hint));
  return bar;
}

function stageOf(value, drag, pick) {
  const stage = make("div", "iv-stage");
  stage.pixels = value.size;
  stage.style.aspectRatio = `${value.size[0]} / ${value.size[1]}`;
  stage.style.maxWidth = `calc(${value.size[0] / value.size[1]} * 74vh)`;
  stage.tabIndex = 0;
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const fingers = new Map();
  let moved = 0;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
    moved = 0;
    if (drag && view.z === 1) drag(at(event)[0]);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = at(event);
    const other = [...fingers].find(([id]) => id !== event.pointerId);
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (other) {
      const apart = (point) => Math.hypot(point[0] - other[1][0], point[1] - other[1][1]);
      zoom(apart(now) / Math.max(apart(before), 1e-3), (now[0] + other[1][0]) / 2, (now[1] + other[1][1]) / 2);
    } else if (view.z > 1) {
      view.x += now[0] - before[0];
      view.y += now[1] - before[1];
      move();
    } else if (drag) drag(now[0]);
    fingers.set(event.pointerId, now);
  });
  stage.addEventListener("pointerup", (event) => {
    if (pick && fingers.size === 1 && moved < 0.02) pick(at(event));
    fingers.delete(event.pointerId);
  });
  stage.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  stage.addEventListener("dblclick", (event) => (view.z > 1 ? ((view.z = 1), move()) : zoom(3, ...at(event))));
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 200), ...at(event));
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") { view.z = 1; move(); }
  });
  stages.push(stage);
  return stage;
}

function layerOf(panel) {
  const layer = make("div", "iv-layer");
  const image = make("img");
  image.alt = panel.label;
  image.draggable = false;
  image.src = panel.file.url;
  layer.append(image);
  layers.push(layer);
  return layer;
}

// --- before and after

function sliderOf(value) {
  const [before, after] = value.panels;
  const divider = make("div", "iv-divider");
  const range = make("input", "iv-range");
  const cut = (share) => {
    view.cut = within(100 * share, 0, 100);
    upper.style.clipPath = `inset(0 0 0 ${view.cut}%)`;
    divider.style.left = `${view.cut}%`;
    range.value = view.cut;
  };
  const stage = stageOf(value, cut);
  const upper = make("div", "iv-upper");
  upper.append(layerOf(after));
  stage.append(layerOf(before), upper, divider, make("span", "iv-tag", before.label), make("span", "iv-tag iv-right", after.label));
  divider.addEventListener("pointerdown", (event) => { // it moves where the image is dragged, too
    event.stopPropagation();
    divider.setPointerCapture(event.pointerId);
    divider.onpointermove = (moved) => {
      const box = stage.getBoundingClientRect();
      cut((moved.clientX - box.left) / box.width);
    };
  });
  divider.addEventListener("pointerup", () => (divider.onpointermove = null));
  Object.assign(range, { type: "range", min: 0, max: 100, step: 0.5 });
  range.setAttribute("aria-label", "Slide between before and after");
  range.addEventListener("input", () => cut(range.value / 100));
  cut(0.5);
  return [stage, range];
}

// --- panels side by side

function gridOf(value) {
  const grid = make("div", "iv-grid");
  for (const panel of value.panels) {
    const figure = make("figure", "iv-panel");
    const stage = panel.file ? stageOf(value) : make("div", "iv-failed", panel.failed);
    if (panel.file) stage.append(layerOf(panel));
    const caption = make("figcaption");
    caption.append(make("strong", "", panel.label), make("span", "", panel.note || ""));
    figure.append(stage, caption);
    grid.append(figure);
  }
  return [grid];
}

// --- samples: one image at a time, the map of uncertainty over it, and what is known about the pixel that is clicked

function samplesOf(value) {
  const pixels = new Map(); // of the files that are read, by address
  const chosen = { at: 0, pixel: null };
  const stage = stageOf(value, null, (at) => pick(at));
  const shown = layerOf(value.panels[0]);
  const map = layerOf({ label: "How uncertain each pixel is", file: value.map });
  map.classList.add("iv-map");
  const marker = make("div", "iv-marker");
  marker.hidden = true;
  marker.place = () => {
    if (!chosen.pixel) return;
    const [x, y] = chosen.pixel;
    marker.style.left = `${100 * (view.x + ((x + 0.5) / value.size[0]) * view.z)}%`;
    marker.style.top = `${100 * (view.y + ((y + 0.5) / value.size[1]) * view.z)}%`;
  };
  const name = make("span", "iv-tag", value.panels[0].label);
  stage.append(shown, map, marker, name);
  stage.setAttribute("aria-label", "Image: click a pixel, or move with the arrow keys, to see what is known about it");

  const strip = make("div", "iv-strip");
  const thumbs = value.panels.map((panel, i) => {
    const button = make("button");
    const image = make("img");
    image.src = panel.file.url;
    image.alt = "";
    button.type = "button";
    button.append(image, make("span", "", panel.label));
    button.addEventListener("click", () => { play(false); choose(i); });
    strip.append(button);
    return button;
  });
  const choose = (i) => {
    chosen.at = i;
    shown.firstChild.src = value.panels[i].file.url;
    shown.firstChild.alt = name.textContent = value.panels[i].label;
    thumbs.forEach((thumb, k) => thumb.setAttribute("aria-pressed", k === i));
  };

  const controls = make("div", "iv-controls");
  const animate = make("button", "iv-play", "▶ Play the samples");
  animate.type = "button";
  const first = value.panels.findIndex((panel) => panel.sample);
  const play = (on) => {
    clearInterval(timer);
    animate.classList.toggle("iv-on", on);
    animate.textContent = on ? "❚❚ Pause" : "▶ Play the samples";
    if (!on) return;
    let next = first;
    choose(next);
    timer = setInterval(() => {
      if (!root.isConnected) return clearInterval(timer);
      next = next + 1 < value.panels.length ? next + 1 : first;
      choose(next);
    }, 500);
  };
  animate.addEventListener("click", () => play(!animate.classList.contains("iv-on")));
  const toggle = make("label", "iv-toggle");
  const box = make("input");
  box.type = "checkbox";
  box.checked = true;
  box.addEventListener("change", () => map.classList.toggle("iv-hidden", !box.checked));
  toggle.append(box, document.createTextNode("Show how uncertain each pixel is"));
  const bar = make("div", "iv-colours");
  const ramp = make("div", "iv-ramp");
  ramp.style.background = `linear-gradient(to right, ${value.colours.join(", ")})`;
  const ticks = make("div", "iv-ticks");
  for (const share of [0, 0.25, 0.5, 0.75, 1]) ticks.append(make("span", "", String(Math.round(share * value.white))));
  bar.append(make("span", "iv-hint", "Width of the 90 % interval in grey levels of 255"), ramp, ticks);
  controls.append(animate, toggle, bar);

  const readout = make("div", "iv-readout");
  readout.setAttribute("role", "status");
  readout.append(make("p", "iv-hint", "Click a pixel of the image to see between which values it lies."));

  const pick = (at) => {
    const x = within(Math.floor(((at[0] - view.x) / view.z) * value.size[0]), 0, value.size[0] - 1);
    const y = within(Math.floor(((at[1] - view.y) / view.z) * value.size[1]), 0, value.size[1] - 1);
    look(x, y);
  };
  const look = async (x, y) => {
    chosen.pixel = [x, y];
    marker.hidden = false;
    marker.place();
    const files = [value.low, value.high, ...value.panels.map((panel) => panel.file)];
    const read = await Promise.all(files.map((file) => colourOf(file.url, x, y)));
    if (chosen.pixel[0] !== x || chosen.pixel[1] !== y) return;
    const samples = read.slice(2).filter((_, i) => value.panels[i].sample);
    readout.replaceChildren(...describe(x, y, read[0], read[1], read[2], samples));
  };
  const colourOf = async (url, x, y) => {
    if (!pixels.has(url)) pixels.set(url, (async () => {
      const image = new Image();
      image.src = url;
      await image.decode();
      const canvas = make("canvas");
      [canvas.width, canvas.height] = value.size;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      return context;
    })());
    return (await pixels.get(url)).getImageData(x, y, 1, 1).data;
  };
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [x, y] = chosen.pixel || value.size.map((side) => Math.floor(side / 2));
    look(within(x + step[0], 0, value.size[0] - 1), within(y + step[1], 0, value.size[1] - 1));
  });
  choose(0);
  return [stage, strip, controls, readout];
}

function describe(x, y, low, high, restored, samples) {
  const channels = [["Red", 0, "#dc2626"], ["Green", 1, "#16a34a"], ["Blue", 2, "#2563eb"]];
  const grey = [low, high, restored, ...samples].every((colour) => colour[0] === colour[1] && colour[1] === colour[2]);
  const rows = (grey ? [["Grey", 0, "#64748b"]] : channels).map(([name, c, colour]) => {
    const row = make("div", "iv-channel");
    const axis = make("div", "iv-axis");
    const band = make("div", "iv-band");
    band.style.left = `${(100 * low[c]) / 255}%`;
    band.style.width = `${(100 * (high[c] - low[c])) / 255}%`;
    band.style.background = colour;
    axis.append(band);
    for (const sample of samples) {
      const dot = make("div", "iv-dot");
      dot.style.left = `${(100 * sample[c]) / 255}%`;
      axis.append(dot);
    }
    const tick = make("div", "iv-tick");
    tick.style.left = `${(100 * restored[c]) / 255}%`;
    axis.append(tick);
    const values = samples.map((sample) => sample[c]).join(", ");
    row.append(make("strong", "", name), axis, make("span", "", `${restored[c]}, between ${low[c]} and ${high[c]}; samples ${values}`));
    return row;
  });
  const head = make("p", "", `Pixel ${x + 1} from the left, ${y + 1} from the top (black is 0, white 255):`);
  const legend = make("p", "iv-hint", "Bar: 90 % interval. Line: restored image. Dots: samples.");
  return [head, ...rows, legend];
}

new ResizeObserver(() => view && stages.length && move()).observe(root);
watch("value", () => show(props.value));
show(props.value);
