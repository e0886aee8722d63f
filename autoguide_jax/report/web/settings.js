// The table of all settings of a sweep: sorted by any column, filtered by any axis, a page at a
// time, with what stands behind a row folded under it.

const PAGE = 100;

/** The columns: {title, hint, key(i) → what it is sorted by, cell(i) → td}. */
function columnsOf() {
  const cell = (text) => make('td', {}, text);
  const axes = S.axes.map((axis, k) => ({
    title: axis.title,
    key: (i) => (S.points[i][k] < 0 ? null : S.points[i][k]),
    cell: (i) => cell(axis.texts[S.points[i][k]] ?? '–'),
  }));
  const metrics = S.metrics.map((one, k) => ({
    title: `${one.title}\u00a0${one.arrow}`,
    hint: one.meaning,
    key: (i) => stat(i, one)?.[0] ?? null,
    cell: (i) => scoreCell(i, one, k === 0 ? S.marks[i] : null),
  }));
  const cost = (k) => (i) => S.cost[i][k] ?? null;
  const computation = (i) => (S.cost[i][0] ? `${S.cost[i][0].toFixed(2)}×` : '–');
  const calls = (i) => (S.cost[i][1] === null ? '–' : `${S.cost[i][1]} + ${S.cost[i][2] ?? 0}`);
  return [
    ...axes,
    ...metrics,
    { title: 'computation', key: cost(0), cell: (i) => cell(computation(i)) },
    {
      title: 'calls per image',
      key: (i) => (S.cost[i][1] === null ? null : S.cost[i][1] + (S.cost[i][2] ?? 0)),
      cell: (i) => cell(calls(i)),
    },
    { title: 'seconds', key: cost(4), cell: (i) => cell(S.cost[i][4].toFixed(1)) },
  ];
}

function scoreCell(i, one, mark) {
  const found = stat(i, one);
  if (!found) return make('td', {}, '–');
  const spread = found[1] === null ? null : make('small', {}, `± ${fixed(found[1], one.places)}`);
  return make('td', { class: mark ?? null }, `${fixed(found[0], one.places)} `, spread);
}

function tablePart() {
  const place = live('table');
  if (!place) return;
  const columns = columnsOf();
  const heads = columns.map(({ title, hint }) => make('th', { title: hint ?? null }, title));
  const body = make('tbody');
  const folded = make('th', {}, '');
  const head = make('thead', {}, make('tr', {}, ...heads, folded));
  const table = make('table', { id: 'settings' }, head, body);
  const told = make('p', { class: 'note', role: 'status' });
  const more = make('button', { type: 'button', class: 'more' }, 'Show more');
  const state = { column: S.axes.length, ascending: true, shown: PAGE };
  const controls = filters(() => fillTable());
  const fillTable = () => {
    const found = entriesOf(controls.count()).filter(controls.fits);
    const keyed = found.map((i) => [i, columns[state.column].key(i)]);
    keyed.sort((a, b) => compare(a[1], b[1], state.ascending));
    const rows = keyed.slice(0, state.shown).map(([i]) => rowOf(i, columns));
    body.replaceChildren(...rows);
    const count = Math.min(state.shown, found.length);
    told.textContent = `${count} of ${found.length} settings`;
    more.hidden = count === found.length;
  };
  more.addEventListener('click', () => {
    state.shown += 10 * PAGE;
    fillTable();
  });
  const sort = (column, ascending) => {
    Object.assign(state, { column, ascending, shown: PAGE });
    fillTable();
  };
  sortable(heads, sort, [S.axes.length, true]);
  const scroll = make('div', { class: 'scroll' }, table);
  replace(place, controls.node, told, scroll, more);
}

/** A choice for the number of images, if there are several, and for every axis. */
function filters(changed) {
  const node = make('div', { class: 'controls' });
  const count = countChoice('table.images', changed);
  if (S.counts.length > 1) node.append(count.node);
  const chosen = S.axes.map((axis, k) => {
    const all = { value: '', text: 'all' };
    const each = axis.texts.map((text) => ({ value: `=${text}`, text }));
    const none = S.points.some((p) => p[k] < 0) ? [{ value: '=–', text: '–' }] : [];
    return choice(`table.${axis.name}`, axis.title, [all, ...none, ...each], '', changed);
  });
  chosen.forEach((control) => node.append(control.node));
  const text = (i, k) => `=${S.axes[k].texts[S.points[i][k]] ?? '–'}`;
  const fits = (i) => chosen.every((c, k) => c.value === '' || c.value === text(i, k));
  return { node, fits, count: () => Number(count.value) };
}

function rowOf(i, columns) {
  const about = { type: 'button', class: 'plain', 'aria-expanded': 'false' };
  const button = make('button', about, 'more');
  const cells = columns.map((c) => c.cell(i));
  const row = make('tr', { 'data-entry': i }, ...cells, make('td', {}, button));
  let folded = null;
  button.addEventListener('click', () => {
    if (folded) folded.remove();
    folded = folded ? null : detailsOf(i, columns.length + 1);
    if (folded) row.after(folded);
    button.setAttribute('aria-expanded', String(Boolean(folded)));
  });
  return row;
}

/** What stands behind a row: intervals, lines of results.jsonl, examples, the networks. */
function detailsOf(i, span) {
  const list = make('dl', { class: 'facts' });
  const add = (what, ...value) => list.append(make('dt', {}, what), make('dd', {}, ...value));
  add('setting', words(i) || 'the only one');
  for (const one of S.metrics) {
    const found = stat(i, one);
    if (!found) continue;
    const sets = `${found[3]} set${found[3] > 1 ? 's' : ''} of seeds`;
    add(one.title, `${told(found, one.places)}${interval(found, one.places)}, ${sets}`);
  }
  if (S.apart[i]) add('difference', apart(i).trim());
  add('images', `${S.cost[i][3]}, ${S.counts[S.count[i]]} for each set of seeds`);
  const lines = `line ${S.lines[i].join(', ')} of `;
  add('scores', lines, make('a', { href: 'results.jsonl' }, 'results.jsonl'));
  if (S.pictures[i]) add('examples', `examples/${S.kept[i]}.npz`);
  for (const [role, run, address] of S.runs) {
    const link = address ? [': ', make('a', { href: address }, 'config.json')] : [];
    add(`run of ${role}`, run, ...link);
  }
  return make('tr', { class: 'details' }, make('td', { colspan: span }, list));
}

start([
  metricPart,
  samplesPart,
  () => curvePart('curve', S.view.x, false),
  () => curvePart('age', S.view.age, true),
  mapPart,
  searchPart,
  tablePart,
  sortTables,
]);
