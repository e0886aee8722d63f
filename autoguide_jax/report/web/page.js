'use strict';
// What the parts of the page share: elements, controls, and a state that the address keeps:
// report.html#curve.x=guide_nimg opens the page with that choice.

const SVG = document.createRange().createContextualFragment('<svg></svg>').firstChild.namespaceURI;

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const make = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

const live = (name) => document.querySelector(`[data-live="${name}"]`);

/** The JSON that the page holds under an id, null without it. */
function held(id) {
  const node = document.getElementById(id);
  return node && JSON.parse(node.textContent);
}

const minus = (text) => text.replace('-', '−');
const fixed = (value, places) => minus(value.toFixed(places));
/** A mean and what stands behind ±; stat: [mean, spread, half, n] or null. */
function told(stat, places) {
  if (!stat) return '–';
  return fixed(stat[0], places) + (stat[1] === null ? '' : ` ± ${fixed(stat[1], places)}`);
}
/** Its 95 % interval, '' where it is not known. */
function interval([mean, , half], places) {
  return half === null ? '' : ` [${fixed(mean - half, places)}, ${fixed(mean + half, places)}]`;
}

// ---- state -------------------------------------------------------------------------------------

const hash = () => new URLSearchParams(location.hash.includes('=') ? location.hash.slice(1) : '');
const controls = new Map(); // name → function that sets it to a text

function remember(name, value) {
  const state = hash();
  state.set(name, value);
  history.replaceState(null, '', `#${state}`);
}

addEventListener('hashchange', () => {
  for (const [name, value] of hash()) controls.get(name)?.(value);
});

/** A labelled list of options [{value, text}]; changed(value) is called when it changes. */
function choice(name, label, options, initial, changed) {
  const known = (value) => options.some((option) => option.value === value);
  const wanted = hash().get(name);
  const node = make('select', { name, 'data-control': name });
  for (const { value, text } of options) node.append(make('option', { value }, text));
  const control = { node: make('label', {}, `${label} `, node), value: initial };
  const set = (value) => {
    if (!known(value)) return;
    node.value = control.value = value;
  };
  set(initial);
  set(wanted);
  controls.set(name, (value) => {
    set(value);
    changed(control.value);
  });
  node.addEventListener('change', () => {
    control.value = node.value;
    remember(name, node.value);
    changed(node.value);
  });
  return control;
}

/** A labelled range input over texts; changed(index). The address has the text, not the index. */
function slider(name, label, texts, initial, changed) {
  const last = texts.length - 1;
  const input = make('input', { type: 'range', min: 0, max: last, step: 1, 'data-control': name });
  const shown = make('output', {});
  const node = make('label', { class: 'slider' }, `${label} `, input, shown);
  const control = { node, value: initial };
  const set = (index) => {
    control.value = index;
    input.value = index;
    input.setAttribute('aria-valuetext', texts[index]);
    shown.textContent = texts[index];
  };
  const find = (text) => texts.indexOf(text);
  const wanted = find(hash().get(name));
  set(wanted < 0 ? initial : wanted);
  input.addEventListener('input', () => {
    set(Number(input.value));
    remember(name, texts[control.value]);
    changed(control.value);
  });
  controls.set(name, (text) => {
    if (find(text) < 0) return;
    set(find(text));
    changed(control.value);
  });
  return control;
}

/** Run the parts of the page; what a part replaces falls away only if the part works. */
function start(parts) {
  const failed = [];
  for (const part of parts) {
    try {
      part();
    } catch (error) {
      failed.push(error);
      console.error(error);
    }
  }
  document.documentElement.dataset.script = failed.length ? String(failed[0]) : 'ready';
}

/** Put nodes into a live place; the static part before it goes. */
function replace(place, ...nodes) {
  place.replaceChildren(...nodes);
  for (let before = place.previousElementSibling; before; before = before.previousElementSibling) {
    if (before.hasAttribute('data-static')) before.remove();
    else if (!before.classList.contains('live')) break;
  }
}
