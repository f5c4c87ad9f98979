"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick" || key === "oninput") node[key] = value; else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const key = (row) => {
        const cell = row.cells[column];
        if (!cell || cell.colSpan > 1) return null;
        if (head.dataset.kind !== "number") return cell.textContent.trim();
        return cell.dataset.value === "" ? null : Number(cell.dataset.value);
      };
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === null || y === null) return (x === null) - (y === null);
        return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      });
      body.append(...rows);
    };
    head.tabIndex = 0;
    head.onclick = sort;
    head.onkeydown = (event) => { if (event.key === "Enter") sort(); };
  });
}

const slider = (left, right) => {
  const over = make("img", { src: left, class: "over", alt: "measurement" });
  const range = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "measurement on the left, restoration on the right" });
  range.oninput = () => { over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`; };
  return make("div", { class: "slider" }, make("img", { src: right, alt: "restoration" }), over, range);
};
const map = (source, words) => make("figure", {}, make("img", { src: source, alt: words, loading: "lazy" }), make("figcaption", { class: "small" }, words));

const show = (task, item, solver) => {
  const result = item.results[solver], body = document.getElementById("detail-body");
  body.replaceChildren(make("h3", {}, `${task} / ${solver} / ${item.name}, seed ${item.seed}`));
  if (result.image) body.append(slider(item.input, result.image)); else body.append(make("p", { class: "warning" }, `${result.status}: ${result.error}`));
  const maps = make("div", { class: "maps" });
  if (item.truth) maps.append(map(item.input, "measurement"), map(item.truth, "truth"));
  if (result.image) maps.append(map(result.image, "restoration"), map(result.error_map, "absolute error, white 0.25"));
  if (result.mean) maps.append(map(result.mean, "mean of the samples"), map(result.std, "deviation of the samples, white 0.25"));
  if (item.kernel) maps.append(map(item.kernel, "true kernel"));
  if (result.kernel) maps.append(map(result.kernel, "estimated kernel"));
  body.append(maps);
  if (result.scores) {
    const rows = Object.entries(result.scores).map(([k, v]) => make("tr", {}, make("th", { scope: "row" }, k), make("td", {}, v === null ? "–" : Number(v).toPrecision(4))));
    body.append(make("table", {}, make("tbody", {}, ...rows)));
  }
  body.append(make("p", { class: "small" }, "Make it again:"), make("pre", {}, result.command));
  document.getElementById("detail").showModal();
};

for (const place of document.querySelectorAll(".grid[data-task]")) {
  const task = place.dataset.task;
  for (const item of data[task] || []) {
    const known = Object.entries(item.results).filter(([, result]) => result.status !== "missing");
    if (!known.length) continue;
    const tiles = make("div", { class: "items" });
    if (item.truth) for (const [word, source] of [["measurement", item.input], ["truth", item.truth]]) tiles.append(make("div", { class: "tile" }, make("img", { src: source, alt: word, loading: "lazy" }), word));
    for (const [solver, result] of known) {
      const tile = make("button", { class: result.image ? "tile" : "tile failed", type: "button", onclick: () => show(task, item, solver) });
      if (result.image) tile.append(make("img", { src: result.image, alt: solver, loading: "lazy" }));
      const score = result.scores && Object.entries(result.scores).find(([k]) => k === "psnr");
      tile.append(make("span", {}, solver + (score && score[1] !== null ? ` ${score[1].toFixed(2)} dB` : result.image ? "" : `: ${result.status}`)));
      tiles.append(tile);
    }
    place.append(make("details", { open: "" }, make("summary", {}, `${item.name}, seed ${item.seed}`), tiles));
  }
}
