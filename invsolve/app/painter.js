// Paint what is missing over an image: with a brush or as boxes, by mouse, finger and keyboard.
// Runs once when its component is on the page: `element`, `props` and `watch` are Gradio's. The server sends
// {picture, key, size}; what was painted goes back as {key, size, shapes}, in pixels of the image (see masks.py).
const root = element.querySelector(".iv-painter");
const COLOUR = "#ff2d6f";
const LONGEST = 1600; // side of the canvas, which is drawn in fewer pixels than a large image has
const MOST = 1000; // shapes that masks.py takes
const TOOLS = [
  ["brush", "Brush", "Drag over what is missing."],
  ["box", "Box", "Drag from one corner to the other."],
  ["erase", "Eraser", "Drag over what is to stay."],
];
const KEYS = "Arrows move the cursor (with Shift, by one pixel), Space begins and ends a stroke or box, Esc gives it up.";

let painted = {}, size, shapes = [], open, tool = "brush", width, cursor, zoomed = 1;

const stripes = make("canvas");
const stage = make("div", "iv-paint");
const image = make("img");
const canvas = make("canvas");
const cross = make("div", "iv-cross");
const said = make("p", "iv-hint");
const bar = make("div", "iv-tools");
const around = make("div", "iv-paint-scroll");

function build() {
  image.alt = "The image that is painted on";
  image.draggable = false;
  cross.hidden = true;
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-label", `Paint what is missing. ${KEYS}`);
  stage.append(image, canvas, cross);
  around.append(stage);
  said.setAttribute("role", "status");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Paint");
  for (const [name, text, hint] of TOOLS) {
    const node = button(text, hint, () => choose(name));
    node.dataset.tool = name;
  }
  const thick = make("label", "iv-thick", "Size ");
  width = make("input", "iv-range");
  Object.assign(width, { type: "range", min: 1, max: 20, step: 0.5, value: 5 });
  width.setAttribute("aria-label", "Size of the brush, in hundredths of the image");
  thick.append(width);
  bar.append(thick);
  button("Undo", "Take back the last stroke or box", () => { open = null; shapes.pop(); told(); });
  button("Clear", "Take back everything", () => { open = null; shapes = []; told(); });
  button("−", "Smaller", () => zoom(1 / 1.5));
  button("+", "Larger", () => zoom(1.5));
  [stripes.width, stripes.height] = [8, 8];
  const context = stripes.getContext("2d");
  for (let x = 0; x < 8; x++) for (let y = 0; y < 8; y++) {
    context.fillStyle = (x + y) % 8 < 5 ? COLOUR : "white";
    context.fillRect(x, y, 1, 1);
  }
  choose("brush");
}

function button(text, label, action) {
  const node = make("button", "", text);
  node.type = "button";
  node.title = label;
  if (text.length < 2) node.setAttribute("aria-label", label);
  node.addEventListener("click", action);
  bar.append(node);
  return node;
}

function choose(name) {
  tool = name;
  open = null;
  for (const node of bar.querySelectorAll("[data-tool]")) node.setAttribute("aria-pressed", node.dataset.tool === name);
  if (size) draw();
  said.textContent = TOOLS.find(([each]) => each === name)[2];
}

function show(value) {
  if (value && value.shapes) return void (painted = value); // here, perhaps before the task was left
  root.replaceChildren();
  if (!value || !value.picture) return void root.append(make("p", "iv-hint", "Choose an image first: then paint here."));
  shapes = painted.key === value.key ? painted.shapes : []; // of the same image what was painted stays
  painted = { key: value.key };
  [size, open, cursor, zoomed] = [value.size, null, null, 1];
  image.src = value.picture;
  stage.style.aspectRatio = `${size[0]} / ${size[1]}`;
  const scale = Math.min(1, LONGEST / Math.max(...size));
  [canvas.width, canvas.height] = size.map((side) => Math.max(1, Math.round(side * scale)));
  cross.hidden = true;
  zoom(1);
  root.append(bar, said, around);
  told();
}

function zoom(factor) {
  zoomed = within(zoomed * factor, 1, 16);
  stage.style.width = `${100 * zoomed}%`;
  stage.style.maxWidth = `calc(${(zoomed * size[0]) / size[1]} * 60vh)`;
}

// --- drawing

function draw() {
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.scale(canvas.width / size[0], canvas.height / size[1]);
  context.lineCap = context.lineJoin = "round";
  for (const shape of open ? [...shapes, open] : shapes) {
    context.globalCompositeOperation = shape.tool === "erase" ? "destination-out" : "source-over";
    const [[x, y], last] = [shape.points[0], shape.points[shape.points.length - 1]];
    if (shape.tool === "box") {
      context.fillRect(x, y, last[0] - x, last[1] - y);
      continue;
    }
    context.lineWidth = shape.width;
    context.beginPath();
    context.moveTo(x, y);
    for (const point of shape.points) context.lineTo(...point);
    context.stroke();
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalCompositeOperation = "source-in"; // stripes are seen on every colour
  context.fillStyle = context.createPattern(stripes, "repeat");
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (cursor) {
    cross.style.left = `${(100 * cursor[0]) / size[0]}%`;
    cross.style.top = `${(100 * cursor[1]) / size[1]}%`;
  }
}

function told() {
  draw();
  painted = props.value = { key: painted.key, size, shapes };
}

const rounded = (point) => point.map((value) => Math.round(10 * value) / 10);

function begin(point) {
  if (shapes.length >= MOST) return void (said.textContent = "That is all that can be painted: take the mask as a file.");
  open = { tool, width: Math.max(1, (width.value / 100) * Math.max(...size)), points: [rounded(point)] };
  draw();
}

function go(point) {
  const last = open.points[open.points.length - 1];
  if (tool === "box") open.points = [open.points[0], rounded(point)];
  else if (Math.hypot(point[0] - last[0], point[1] - last[1]) >= open.width / 8) open.points.push(rounded(point));
  draw();
}

function end() {
  const [first, last] = [open.points[0], open.points[open.points.length - 1]];
  const [across, down] = [0, 1].map((i) => Math.abs(last[i] - first[i]));
  const nothing = tool === "box" && (across < 0.5 || down < 0.5);
  if (!nothing) shapes.push(open);
  if (tool === "box" && !nothing) said.textContent = `Box of ${Math.round(across)} x ${Math.round(down)} pixels.`;
  open = null;
  told();
}

// --- by mouse and finger; a second finger is the browser's, for scrolling and zooming

const at = (event) => {
  const box = canvas.getBoundingClientRect();
  const place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  return place.map((share, i) => within(share, 0, 1) * size[i]);
};
stage.addEventListener("pointerdown", (event) => {
  if (event.button || !event.isPrimary) return;
  stage.setPointerCapture(event.pointerId);
  cross.hidden = true;
  begin(at(event));
});
stage.addEventListener("pointermove", (event) => open && stage.hasPointerCapture(event.pointerId) && go(at(event)));
stage.addEventListener("pointerup", (event) => open && stage.hasPointerCapture(event.pointerId) && end());
stage.addEventListener("pointercancel", () => { open = null; draw(); });

// --- by keyboard

stage.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  cursor = cursor || size.map((side) => Math.floor(side / 2));
  if (way) {
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(...size) / 50));
    cursor = cursor.map((place, i) => within(place + way[i] * step, 0, size[i]));
    if (open) go(cursor);
    said.textContent = `${cursor[0]} from the left, ${cursor[1]} from the top`;
  } else if (event.key === " " || event.key === "Enter") {
    if (open) end();
    else begin(cursor);
  } else if (event.key === "Escape") open = null;
  else return;
  event.preventDefault();
  cross.hidden = false;
  draw();
});
stage.addEventListener("focus", () => stage.matches(":focus-visible") && (said.textContent = KEYS));

build();
watch("value", () => show(props.value));
show(props.value);
