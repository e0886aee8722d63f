// The parts of a sweep's page. An entry is a setting scored over one number of images; a point
// has the index of its value on every axis, −1 where the axis says nothing (guides at w = 1).

const S = held('sweep');
const axisOf = (name) => S.axes.findIndex((axis) => axis.name === name);
const metricOf = (name) => S.metrics.find((metric) => metric.name === name);
let metric = S.metrics[0];
const redrawn = []; // what follows the metric

const stat = (i, of = metric) => S.stats[of.name][i];
const badness = (value) =>
  ({ lower: value, higher: -value })[metric.better] ?? Math.abs(value - metric.better);
const rank = (i) => (stat(i) ? badness(stat(i)[0]) : Infinity);

/** Entries over a number of images (an index, the last = full). */
const entriesOf = (count) => [...S.count.keys()].filter((i) => S.count[i] === count);
const full = entriesOf(S.counts.length - 1);
let scored = full; // what charts show: entries over one number of images
const lowest = (entries) => entries.reduce((a, b) => (rank(b) < rank(a) ? b : a), entries[0]);

/** The best entry that has a value on every axis: what other axes are held at. */
function anchor() {
  const known = scored.filter((i) => stat(i));
  const guided = known.filter((i) => !S.points[i].includes(-1));
  return guided.length ? lowest(guided) : known.length ? lowest(known) : S.anchor;
}

const words = (i) =>
  S.axes
    .map((a, k) => [a.title, a.texts[S.points[i][k]]])
    .filter(([, text]) => text !== undefined)
    .map(([title, text]) => `${title} ${text}`)
    .join(', ');

function told95(i) {
  const found = stat(i);
  const sets = found[3] > 1 ? ` over ${found[3]} sets of seeds` : '';
  const between = interval(found, metric.places);
  const line = `${metric.title} ${told(found, metric.places)}${sets}`;
  return `${words(i)}\n${line}${between && `\n95 %:${between}`}${apart(i)}`;
}

/** What the distance has more than that of the best setting, on the same seeds. */
function apart(i) {
  const found = metric === S.metrics[0] ? S.apart[i] : null;
  if (!found) return '';
  const half = found[1] === null ? '' : ` ± ${fixed(found[1], metric.places)} (95 %)`;
  return `\n${fixed(found[0], metric.places)}${half} more than the best, same seeds`;
}

// ---- choosing settings -------------------------------------------------------------------------

/**
 * The controls of a view: its own axes, and for each other axis its value: that of the best
 * setting, the best of all, or one of them. roles: [[name, label, axis names, initial]].
 */
function view(name, roles, changed) {
  const place = make('div', { class: 'controls' });
  const chosen = {};
  for (const [role, label, options, initial] of roles) {
    const shown = options.map((n) => ({ value: n, text: n ? S.axes[axisOf(n)].title : 'one' }));
    const control = choice(`${name}.${role}`, label, shown, initial ?? '', () => rebuild());
    chosen[role] = control;
    place.append(control.node);
  }
  const others = make('div', { class: 'controls' });
  const holds = new Map();
  const rebuild = () => {
    const free = roles.map(([role]) => chosen[role].value).filter(Boolean);
    others.replaceChildren();
    holds.clear();
    for (const axis of S.axes.filter((a) => !free.includes(a.name))) {
      const options = [
        { value: 'best', text: 'at the best' },
        { value: 'min', text: 'best of all' },
        ...axis.texts.map((text) => ({ value: `=${text}`, text })),
      ];
      const id = `${name}.${axis.name}`;
      const control = choice(id, axis.title, options, S.view.mode, () => changed());
      holds.set(axis.name, control);
      others.append(control.node);
    }
    changed();
  };
  return { nodes: [place, others], chosen, holds, rebuild };
}

/** The values of the free axes, as one text → the best entry there; −1 stands at all values. */
function bestBy(free, holds) {
  const at = S.points[anchor()];
  const conditions = [...holds].map(([name, { value }]) => {
    const k = axisOf(name);
    if (value === 'min') return () => true;
    const wanted = value === 'best' ? at[k] : S.axes[k].texts.indexOf(value.slice(1));
    return (p) => p[k] === -1 || p[k] === wanted;
  });
  const found = new Map();
  for (const i of scored) {
    const p = S.points[i];
    if (!stat(i) || !conditions.every((holdsAt) => holdsAt(p))) continue;
    let keys = [[]];
    for (const name of free) {
      const k = axisOf(name);
      const span = p[k] === -1 ? [...S.axes[k].values.keys()] : [p[k]];
      keys = keys.flatMap((key) => span.map((v) => [...key, v]));
    }
    for (const key of keys) {
      const old = found.get(key.join());
      if (old === undefined || rank(i) < rank(old)) found.set(key.join(), i);
    }
  }
  return found;
}

// ---- parts -------------------------------------------------------------------------------------

function metricPart() {
  const place = live('metric');
  if (!place) return;
  const options = S.metrics.map((m) => ({ value: m.name, text: `${m.title} ${m.arrow}` }));
  const control = choice('metric', 'score', options, metric.name, (name) => {
    metric = metricOf(name);
    redrawn.forEach((redraw) => redraw());
  });
  metric = metricOf(control.value);
  const count = countChoice('images', (k) => {
    scored = entriesOf(k);
    redrawn.forEach((redraw) => redraw());
  });
  scored = entriesOf(Number(count.value));
  const shown = S.counts.length > 1 ? count.node : null;
  replace(place, make('div', { class: 'controls' }, control.node, shown));
}

/** A choice of the number of images; changed(index). Numbers are never mixed. */
function countChoice(name, changed) {
  const last = S.counts.length - 1;
  const named = (n, k) => `${n}${k === last ? ' (full)' : ''}`;
  const options = S.counts.map((n, k) => ({ value: String(k), text: named(n, k) }));
  return choice(name, 'images', options, String(last), (value) => changed(Number(value)));
}

const numeric = () => S.axes.filter((a) => a.scale !== 'ordinal').map((a) => a.name);

/** A chart under the controls of a view; show(host, view) draws it. */
function chartPart(name, roles, show) {
  const chart = make('div', { class: 'plot' });
  const controls = view(name, roles, () => redraw());
  const redraw = () => show(chart, controls);
  replace(live(name), ...controls.nodes, chart);
  redrawn.push(redraw);
  redraws.push(redraw);
  controls.rebuild();
}

function curvePart(name, x, fixedX) {
  if (!live(name)) return;
  const xs = fixedX ? [x] : numeric();
  const line = S.view.lines === x ? 'weight' : S.view.lines;
  const lines = ['', ...S.axes.filter((a) => a.values.length <= 12).map((a) => a.name)];
  const start = fixedX && axisOf('weight') >= 0 ? 'weight' : line;
  const roles = [['x', 'along', xs, x], ['lines', 'a line for each', lines, start]];
  chartPart(name, roles, curve);
}

function curve(host, { chosen, holds }) {
  const x = chosen.x.value;
  const by = chosen.lines.value === x ? '' : chosen.lines.value;
  const axis = S.axes[axisOf(x)];
  const found = bestBy(by ? [x, by] : [x], holds);
  const lines = by ? S.axes[axisOf(by)] : { texts: [''], title: '' };
  const series = lines.texts.map((text, k) => {
    const keys = axis.values.map((_, j) => (by ? `${j},${k}` : `${j}`));
    const points = keys
      .map((key, j) => found.has(key) && spot(found.get(key), axis, j))
      .filter(Boolean);
    const name = by ? `${lines.title} ${text}` : '';
    return { name, colour: seriesColour(k), line: true, points };
  });
  const values = series.flatMap((s) => s.points.map((p) => p.y));
  if (!values.length) {
    host.replaceChildren(make('p', { class: 'note' }, 'No setting was scored there.'));
    return;
  }
  const [low, high] = [Math.min(...axis.values), Math.max(...axis.values)];
  const across = { ...axis, low, high };
  const reach = series.flatMap((s) => s.points.flatMap((p) => [p.low ?? p.y, p.high ?? p.y]));
  const y = scoreAxis(`${metric.title} ${metric.arrow}`, clipped(reach, values));
  const label = `${metric.title} along ${axis.title}`;
  plot(host, { label, x: across, y, series });
}

/** Wide bands must not flatten the lines: they may take as much room again, and are cut there. */
function clipped(reach, values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = (most - least) / 2 || Infinity;
  const inside = (value) => Math.max(least - room, Math.min(most + room, value));
  return [...values, ...reach.map(inside)];
}

function spot(i, axis, j) {
  const [mean, , half] = stat(i);
  const ends = half === null ? {} : { low: mean - half, high: mean + half };
  return { x: axis.values[j], y: mean, ...ends, text: told95(i), pick: () => pick(i) };
}

function mapPart() {
  if (!live('map')) return;
  const names = S.axes.filter((a) => a.numeric).map((a) => a.name);
  const roles = [['x', 'across', names, S.view.map_x], ['y', 'up', names, S.view.map_y]];
  chartPart('map', roles, map);
}

function map(host, { chosen, holds }) {
  const [x, y] = [S.axes[axisOf(chosen.x.value)], S.axes[axisOf(chosen.y.value)]];
  const found = x === y ? new Map() : bestBy([x.name, y.name], holds);
  const cells = [...found].map(([key, i]) => {
    const [column, row] = key.split(',').map(Number);
    const value = stat(i)[0];
    const show = fixed(value, metric.places);
    return { i: column, j: row, value, show, text: told95(i), pick: () => pick(i) };
  });
  if (!cells.length) {
    host.replaceChildren(make('p', { class: 'note' }, 'No setting was scored there.'));
    return;
  }
  heat(host, { label: `${metric.title} over ${x.title} and ${y.title}`, x, y, cells, badness });
}

function searchPart() {
  const place = live('search');
  if (!place || !S.history.length) return;
  const chart = make('div', { class: 'plot' });
  replace(place, chart);
  const first = S.metrics[0];
  const series = S.history.map(({ count, points }, k) => ({
    name: `scored over ${count} images`,
    colour: seriesColour(k),
    line: true,
    step: true,
    points: points.map(([x, y]) => ({
      x, y, text: `${x} images drawn\nbest ${first.title} ${fixed(y, first.places)}`,
    })),
  }));
  const xs = series.flatMap((s) => s.points.map((p) => p.x));
  const x = { title: 'images drawn', scale: 'linear', low: 0, high: Math.max(...xs) };
  const y = scoreAxis(`best ${first.title}`, series.flatMap((s) => s.points.map((p) => p.y)));
  drawn(() => plot(chart, { label: 'Best score found so far', x, y, series }));
}

let pick = () => {};

function samplesPart() {
  const place = live('samples');
  if (!place) return;
  const [left, right] = [grid(S.heads), grid(S.heads)];
  const shown = make('div', { class: 'two-grids' }, left.node, right.node);
  const plain = full.filter((i) => S.cost[i][2] === 0 && S.pictures[i]);
  const beside = plain.length ? lowest(plain) : lowest(full.filter((i) => S.pictures[i]));
  const current = [...S.points[S.anchor]];
  const sliders = S.axes.map((axis, k) =>
    slider(`samples.${axis.name}`, axis.title, axis.texts, current[k], () => update()));
  const find = () => {
    const point = sliders.map((control) => control.value);
    const same = (p) => p.every((v, k) => v === -1 || v === point[k]);
    const fits = full.filter((i) => same(S.points[i]));
    return fits.find((i) => S.pictures[i]) ?? fits[0];
  };
  const update = () => {
    const i = find();
    const known = i !== undefined && stat(i);
    const unknown = 'this setting was not scored';
    const score = known ? `${metric.title} ${told(known, metric.places)}` : unknown;
    left.show(S.pictures[i], score);
    const name = plain.length ? 'Without guidance' : words(beside);
    const other = stat(beside) ? `: ${metric.title} ${told(stat(beside), metric.places)}` : '';
    right.show(S.pictures[beside], `${name}${other}`);
  };
  pick = (i) => {
    S.points[i].forEach((v, k) => {
      if (v >= 0) controls.get(`samples.${S.axes[k].name}`)(S.axes[k].texts[v]);
    });
  };
  replace(place, make('div', { class: 'controls' }, ...sliders.map((s) => s.node)), shown);
  redrawn.push(update);
  update();
}
