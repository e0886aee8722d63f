// Charts as inline SVG: lines with bands, points with whiskers, heat maps. Values are read by
// pointing, by touching, or with the arrow keys once a chart has the focus.

const SERIES = 9;
const seriesColour = (i) => `var(--s${i % SERIES})`;

/** {at: value → pixel, ticks: [[value, text]]} of an axis {scale, low, high, values?, texts?}. */
function scaled(axis, from, to) {
  const log = axis.scale.startsWith('log');
  const f = log ? Math.log : (value) => value;
  let [low, high] = [f(axis.low), f(axis.high)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const at = (value) => from + ((f(value) - low) / (high - low)) * (to - from);
  if (axis.texts) return { at, ticks: thinned(axis, at) };
  const ticks = log && axis.high / axis.low > 4 ? decades(axis) : steps(axis);
  return { at, ticks: ticks.map((value) => [value, minus(String(+value.toPrecision(10)))]) };
}

/** The values of an axis as ticks, as many as keep 46 pixels apart. */
function thinned(axis, at) {
  const kept = [];
  axis.values.forEach((value, i) => {
    const last = kept.length && kept[kept.length - 1][0];
    if (!kept.length || Math.abs(at(value) - at(last)) > 46) kept.push([value, axis.texts[i]]);
  });
  return kept;
}

function steps({ low, high }, count = 5) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-12); i++) found.push(i * step);
  return found;
}

function decades({ low, high }) {
  const found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
    for (const k of high / low > 200 ? [1] : [1, 2, 5]) found.push(k * 10 ** e);
  }
  return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
}

/** Ends of an axis of scores with margins, logarithmic where they span a lot. */
function scoreAxis(title, values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (low > 0 && high / low > 4) return { title, scale: 'log', low: low / 1.1, high: high * 1.1 };
  const margin = 0.07 * (high - low || Math.abs(high) || 1);
  return { title, scale: 'linear', low: low - margin, high: high + margin };
}

/**
 * A chart. spec: {label, x, y: axes, series: [{name, colour, points, line, step}]}.
 * points: {x, y, low, high, left, right, text, pick}.
 */
function plot(host, spec) {
  const width = Math.max(320, Math.min(host.clientWidth || 960, 1040));
  const box = { left: 62, right: width - 16, top: 14, bottom: 330 };
  const x = scaled(spec.x, box.left + 12, box.right - 12);
  const y = scaled(spec.y, box.bottom, box.top);
  const inside = (value) => Math.max(box.top, Math.min(box.bottom, value));
  const view = { viewBox: `0 0 ${width} 378`, width, height: 378, class: 'chart', tabindex: 0 };
  const svg = draw('svg', { ...view, role: 'img', 'aria-label': spec.label });
  svg.append(frame(spec, box, x, y));
  const spots = [];
  spec.series.forEach((series, row) => {
    const group = draw('g', { 'data-series': series.name });
    const place = (p) => [x.at(p.x), inside(y.at(p.y))];
    if (series.line) group.append(...lineOf(series, place, (v) => inside(y.at(v))));
    series.points.forEach((point, column) => {
      const [cx, cy] = place(point);
      if (!series.line) group.append(...whiskers(point, series.colour, x, y, inside));
      const dot = { cx, cy, r: series.line ? 3.5 : 5.5, fill: series.colour, class: 'dot' };
      const circle = draw('circle', dot);
      group.append(circle);
      spots.push({ cx, cy, row, column, circle, point, series });
    });
    svg.append(group);
  });
  const tip = make('div', { class: 'tip', role: 'status', 'aria-live': 'polite' });
  pointing(svg, spots, tip, width);
  host.replaceChildren(legend(spec.series), make('div', { class: 'frame' }, svg, tip));
}

function frame(spec, box, x, y) {
  const group = draw('g', { class: 'axes' });
  for (const [value, text] of y.ticks) {
    const at = y.at(value);
    group.append(draw('line', { x1: box.left, x2: box.right, y1: at, y2: at }));
    group.append(draw('text', { x: box.left - 8, y: at + 4, 'text-anchor': 'end' }, text));
  }
  for (const [value, text] of x.ticks) {
    const at = { x: x.at(value), y: box.bottom + 18, 'text-anchor': 'middle' };
    group.append(draw('text', at, text));
  }
  const middle = (box.left + box.right) / 2;
  const under = { x: middle, y: box.bottom + 40, 'text-anchor': 'middle' };
  group.append(draw('text', under, spec.x.title));
  const turned = { transform: `translate(14,${(box.top + box.bottom) / 2}) rotate(-90)` };
  group.append(draw('text', { ...turned, 'text-anchor': 'middle' }, spec.y.title));
  return group;
}

/** The band of the intervals and the line through the points. */
function lineOf({ points, colour, step }, place, down) {
  const known = points.filter((p) => p.low !== undefined && p.low !== null);
  const upper = known.map((p) => `${place(p)[0]},${down(p.high)}`);
  const lower = known.map((p) => `${place(p)[0]},${down(p.low)}`).reverse();
  const band = { points: [...upper, ...lower].join(' '), fill: colour, opacity: 0.14 };
  const path = points
    .map((p, i) => {
      const [px, py] = place(p);
      return i === 0 ? `M${px},${py}` : step ? `H${px}V${py}` : `L${px},${py}`;
    })
    .join('');
  const stroke = { d: path, fill: 'none', stroke: colour, 'stroke-width': 2 };
  return [draw('polygon', { ...band, class: 'band' }), draw('path', stroke)];
}

function whiskers(p, colour, x, y, inside) {
  const style = { stroke: colour, 'stroke-width': 1.5 };
  const [cx, cy] = [x.at(p.x), inside(y.at(p.y))];
  const found = [];
  if (p.low !== undefined && p.low !== null) {
    const ends = { y1: inside(y.at(p.low)), y2: inside(y.at(p.high)) };
    found.push(draw('line', { x1: cx, x2: cx, ...ends, ...style }));
  }
  if (p.left !== undefined && p.left !== null) {
    found.push(draw('line', { x1: x.at(p.left), x2: x.at(p.right), y1: cy, y2: cy, ...style }));
  }
  return found;
}

function legend(series) {
  const dot = (colour) => make('span', { class: 'dot', style: `background:${colour}` });
  const named = series.filter((one) => one.name);
  const items = named.map((one) => make('li', {}, dot(one.colour), one.name));
  return make('ul', { class: 'legend' }, ...items);
}

/** Show the nearest spot under the pointer; arrow keys go along a series and between them. */
function pointing(svg, spots, tip, width) {
  let current = null;
  const show = (spot) => {
    current?.circle.classList.remove('here');
    current = spot;
    tip.textContent = spot ? spot.point.text : '';
    tip.classList.toggle('on', Boolean(spot));
    if (!spot) return;
    spot.circle.classList.add('here');
    const scale = svg.clientWidth / width || 1;
    tip.style.left = `${Math.min(spot.cx * scale, svg.clientWidth - 210)}px`;
    tip.style.top = `${spot.cy * scale + 14}px`;
  };
  svg.addEventListener('pointermove', (event) => {
    const area = svg.getBoundingClientRect();
    const scale = width / area.width;
    const [px, py] = [(event.clientX - area.left) * scale, (event.clientY - area.top) * scale];
    const far = (s) => Math.hypot(s.cx - px, s.cy - py);
    const near = spots.reduce((a, b) => (a && far(a) <= far(b) ? a : b), null);
    show(near && far(near) < 60 ? near : null);
  });
  svg.addEventListener('pointerleave', () => show(null));
  svg.addEventListener('blur', () => show(null));
  svg.addEventListener('click', () => current?.point.pick?.());
  svg.addEventListener('keydown', (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (event.key === 'Enter') current?.point.pick?.();
    if (!(event.key in step) || !spots.length) return;
    event.preventDefault();
    const [dr, dc] = step[event.key];
    show(current ? beside(spots, current, dr, dc) : spots[0]);
  });
}

function beside(spots, current, rows, columns) {
  const wanted = [current.row + rows, current.column + columns];
  const same = spots.filter((spot) => spot.row === wanted[0]);
  const far = (spot) => Math.abs(spot.column - wanted[1]);
  return same.reduce((a, b) => (a && far(a) <= far(b) ? a : b), null) ?? current;
}

/** A heat map: {label, x, y: {title, texts}, cells: [{i, j, value, text, show, pick}], badness}. */
function heat(host, spec) {
  const [columns, rows] = [spec.x.texts.length, spec.y.texts.length];
  const width = Math.max(320, Math.min(host.clientWidth || 960, 120 + columns * 110, 1040));
  const cell = [(width - 100) / columns, Math.max(18, Math.min(46, 460 / rows))];
  const height = rows * cell[1] + 60;
  const view = { viewBox: `0 0 ${width} ${height}`, width, height, class: 'chart', tabindex: 0 };
  const svg = draw('svg', { ...view, role: 'img', 'aria-label': spec.label });
  const bad = spec.cells.map((c) => spec.badness(c.value));
  const f = Math.min(...bad) > 0 ? Math.log : (value) => value;
  const [low, high] = [f(Math.min(...bad)), f(Math.max(...bad))];
  const spots = spec.cells.map((c, k) => {
    const share = (f(bad[k]) - low) / (high - low || 1);
    const [left, top] = [90 + c.i * cell[0], 6 + (rows - 1 - c.j) * cell[1]];
    const mix = `color-mix(in oklab, var(--high) ${(100 * share).toFixed(1)}%, var(--low))`;
    const area = { x: left + 1, y: top + 1, width: cell[0] - 2, height: cell[1] - 2 };
    const best = bad[k] === Math.min(...bad) ? ' best' : '';
    const circle = draw('rect', { ...area, style: `fill:${mix}`, class: `cell${best}` });
    svg.append(circle);
    const middle = [left + cell[0] / 2, top + cell[1] / 2];
    if (cell[0] > 44) {
      const ink = share < 0.45 ? 'var(--paper)' : 'var(--ink)';
      const at = { x: middle[0], y: middle[1] + 4, 'text-anchor': 'middle', style: `fill:${ink}` };
      svg.append(draw('text', { ...at, class: `value${best}` }, c.show));
    }
    const row = rows - 1 - c.j;
    return { cx: middle[0], cy: middle[1], row, column: c.i, circle, point: c };
  });
  svg.append(sides(spec, cell, rows, width, height));
  const tip = make('div', { class: 'tip', role: 'status', 'aria-live': 'polite' });
  pointing(svg, spots, tip, width);
  host.replaceChildren(make('div', { class: 'frame' }, svg, tip));
}

function sides(spec, cell, rows, width, height) {
  const group = draw('g', { class: 'axes' });
  const every = Math.ceil(46 / cell[0]);
  spec.x.texts.forEach((text, i) => {
    const at = { x: 90 + (i + 0.5) * cell[0], y: height - 36, 'text-anchor': 'middle' };
    if (i % every === 0) group.append(draw('text', at, text));
  });
  spec.y.texts.forEach((text, j) => {
    const at = { x: 82, y: 6 + (rows - 0.5 - j) * cell[1] + 4, 'text-anchor': 'end' };
    group.append(draw('text', at, text));
  });
  const under = { x: (90 + width) / 2, y: height - 10, 'text-anchor': 'middle' };
  group.append(draw('text', under, spec.x.title));
  const turned = { transform: `translate(14,${(rows * cell[1]) / 2}) rotate(-90)` };
  group.append(draw('text', { ...turned, 'text-anchor': 'middle' }, spec.y.title));
  return group;
}

const redraws = [];
/** Draw now, and again when the width of the window changes. */
function drawn(redraw) {
  redraws.push(redraw);
  redraw();
}
let resized = 0;
addEventListener('resize', () => {
  clearTimeout(resized);
  resized = setTimeout(() => redraws.forEach((redraw) => redraw()), 150);
});
