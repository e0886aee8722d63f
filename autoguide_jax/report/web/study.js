// The parts of a study's page: curves over w, one metric against another, samples by weight.

const S = held('study');
const byName = (name) => S.metrics.find((metric) => metric.name === name);
const metricChoice = (name, label, initial, changed) => {
  const options = S.metrics.map((m) => ({ value: m.name, text: `${m.title} ${m.arrow}` }));
  return choice(name, label, options, initial, changed);
};
const between = (found, places) => {
  const ends = interval(found, places);
  return ends && `\n95 %:${ends}`;
};

/** A stat [mean, spread, half, n] as a point with its interval upwards. */
function point(x, found, metric, words) {
  const [mean, , half] = found;
  const ends = half === null ? {} : { low: mean - half, high: mean + half };
  const text = `${words}\n${metric.title} ${told(found, metric.places)}`;
  return { x, y: mean, ...ends, text: text + between(found, metric.places) };
}

function curvesPart() {
  const place = live('curves');
  if (!place) return;
  const chart = make('div', { class: 'plot' });
  const control = metricChoice('curves.metric', 'score', S.metrics[0].name, () => redraw());
  const each = S.arms.map((arm) => ({ value: arm.title, text: arm.title }));
  const arms = [{ value: '', text: 'all' }, ...each];
  const only = choice('curves.arm', 'method', arms, '', () => redraw());
  const redraw = () => curves(chart, byName(control.value), only.value);
  replace(place, make('div', { class: 'controls' }, control.node, only.node), chart);
  drawn(redraw);
}

function curves(host, metric, only) {
  const lines = S.arms.map((arm, k) => ({
    name: arm.title,
    colour: arm.colour,
    line: true,
    points: S.curves[metric.name][k]
      .filter((row) => row[1] !== null)
      .map(([w, ...found]) => point(w, found, metric, `${arm.title}, w = ${w}`)),
  }));
  const fresh = S.arms.map((arm, k) => {
    const [w, found] = [S.weights[k], S.finals[metric.name][k]];
    const words = `${arm.title}, chosen w = ${w}, fresh seeds`;
    const points = w === null || !found ? [] : [point(w, found, metric, words)];
    return { name: '', of: arm.title, colour: arm.colour, points };
  });
  const series = [...lines, ...fresh]
    .filter((s) => s.points.length && (only === '' || (s.of ?? s.name) === only));
  const points = series.flatMap((s) => s.points);
  if (!points.length) {
    host.replaceChildren(make('p', { class: 'note' }, 'No weight was scored there.'));
    return;
  }
  const values = points.map((p) => p.y);
  const xs = points.map((p) => p.x);
  const x = { title: 'w', scale: 'linear', low: Math.min(...xs), high: Math.max(...xs) };
  const y = scoreAxis(`${metric.title} ${metric.arrow}`, values);
  plot(host, { label: `${metric.title} against w`, x, y, series });
}

const COST = { name: 'cost', title: 'computation', arrow: '', places: 2 };

function tradePart() {
  const place = live('trade');
  if (!place) return;
  const chart = make('div', { class: 'plot' });
  const names = S.metrics.map((m) => m.name);
  const initial = (wanted, other) => (names.includes(wanted) ? wanted : other);
  const both = [...S.metrics, COST];
  const options = both.map((m) => ({ value: m.name, text: `${m.title} ${m.arrow}` }));
  const across = choice('trade.x', 'across', options, initial('recall', 'cost'), () => redraw());
  const first = initial('precision', names[0]);
  const up = metricChoice('trade.y', 'up', first, () => redraw());
  const kinds = [
    { value: 'chosen', text: 'chosen settings, fresh seeds' },
    { value: 'weights', text: 'every weight, selection seeds' },
  ];
  const kind = choice('trade.show', 'show', kinds, 'chosen', () => redraw());
  const redraw = () => trade(chart, across.value, byName(up.value), kind.value);
  replace(place, make('div', { class: 'controls' }, across.node, up.node, kind.node), chart);
  drawn(redraw);
}

function trade(host, across, y, kind) {
  const x = byName(across) ?? COST;
  const series = S.arms.map((arm, k) => {
    const found = kind === 'chosen' ? chosenOf(k, x, y) : weightsOf(k, x, y);
    const line = kind !== 'chosen';
    const points = found.map(([words, mine, theirs]) => both(words, mine, theirs, x, y, line));
    return { name: arm.title, colour: arm.colour, line, points };
  }).filter((s) => s.points.length);
  const points = series.flatMap((s) => s.points);
  if (!points.length) {
    host.replaceChildren(make('p', { class: 'note' }, 'No method has both.'));
    return;
  }
  const reach = (a, b, c) => points.flatMap((p) => [p[a], p[b] ?? p[a], p[c] ?? p[a]]);
  const scale = (m, values) => scoreAxis(`${m.title} ${m.arrow}`, values);
  plot(host, {
    label: `${y.title} against ${x.title}`,
    x: scale(x, reach('x', 'left', 'right')),
    y: scale(y, reach('y', 'low', 'high')),
    series,
  });
}

/** [[words, stat across, stat up]] of an arm's chosen setting on fresh seeds. */
function chosenOf(k, x, y) {
  const cost = S.arms[k].cost;
  const mine = x === COST ? cost && [cost, null, null, 1] : S.finals[x.name][k];
  const theirs = S.finals[y.name][k];
  return mine && theirs ? [[S.arms[k].title, mine, theirs]] : [];
}

/** The same for every weight of its curve; computation does not depend on w, so it has none. */
function weightsOf(k, x, y) {
  if (x === COST) return [];
  const rows = S.curves[x.name][k].map((row, i) => [row, S.curves[y.name][k][i]]);
  return rows
    .filter(([a, b]) => a[1] !== null && b[1] !== null)
    .map(([a, b]) => [`${S.arms[k].title}, w = ${a[0]}`, a.slice(1), b.slice(1)]);
}

function both(words, mine, theirs, x, y, line) {
  const up = point(mine[0], theirs, y, words);
  const half = mine[2];
  const sides = half === null || line ? {} : { left: mine[0] - half, right: mine[0] + half };
  if (line) [up.low, up.high] = [null, null];
  const text = `${up.text}\n${x.title} ${told(mine, x.places)}${between(mine, x.places)}`;
  return { ...up, ...sides, text };
}

function samplesPart() {
  const place = live('samples');
  const texts = [...new Set(S.pictures.flatMap((arm) => Object.keys(arm)))];
  const weights = texts.filter((text) => text !== 'chosen').sort((a, b) => a - b);
  if (!place || !weights.length) return;
  const shown = S.arms.map((_, k) => k).filter((k) => Object.keys(S.pictures[k]).length);
  const grids = shown.map(() => grid(S.heads));
  const steps = ['chosen', ...weights];
  const update = () => {
    const weight = steps[control.value];
    grids.forEach(({ show }, i) => {
      const [arm, kept] = [S.arms[shown[i]], S.pictures[shown[i]]];
      const alone = Object.keys(kept).length === 1 && 'chosen' in kept; // no guide, no weights
      const key = alone ? 'chosen' : weight;
      const told = S.weights[shown[i]];
      const w = key !== 'chosen' ? `, w = ${key}` : told === null ? '' : `, w = ${told}`;
      show(kept[key] ?? null, arm.title + w);
    });
  };
  const control = slider('samples.w', 'w', steps, 0, update);
  const nodes = make('div', { class: 'grids' }, ...grids.map((g) => g.node));
  const note = S.note ? make('p', { class: 'note' }, `${S.note}.`) : null;
  const all = [make('div', { class: 'controls' }, control.node), nodes, note];
  replace(place, ...all.filter(Boolean));
  update();
}

start([curvesPart, tradePart, samplesPart, sortTables]);
