// What viewer.js and painter.js share; it comes before them.
const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};
const within = (value, low, high) => Math.min(Math.max(value, low), high);
