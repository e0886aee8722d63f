// Tables that sort by the heads of their columns.

/** Make a head a button that sorts: sort(column, ascending); the sorted one says so. */
function sortable(heads, sort, first = null) {
  const order = (column, ascending) => {
    heads.forEach((head) => head.removeAttribute('aria-sort'));
    heads[column].setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
    sort(column, ascending);
  };
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const press = () => order(column, head.getAttribute('aria-sort') !== 'ascending');
    const button = make('button', { type: 'button', class: 'sort', onclick: press });
    button.append(...head.childNodes);
    head.append(button);
  });
  if (first) order(...first);
}

/** What a cell is sorted by: its exact value, the number or the words that it shows. */
function valueOf(cell) {
  const exact = cell.dataset.mean ?? cell.dataset.best;
  if (exact !== undefined) return Number(exact);
  const text = cell.textContent.trim().replace('−', '-');
  const number = parseFloat(text);
  return Number.isNaN(number) ? (text === '–' || text === '' ? null : text) : number;
}

/** Compare numbers before words, what is missing always last. */
function compare(a, b, ascending) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1;
  const sign = ascending ? 1 : -1;
  return sign * (typeof a === 'number' ? a - b : a.localeCompare(b));
}

/** Sort the rows of a static table within its groups; real images stay at the end. */
function sortRows(body, column, ascending) {
  const groups = [{ head: null, rows: [] }];
  const last = [];
  for (const row of body.rows) {
    if (row.classList.contains('group')) groups.push({ head: row, rows: [] });
    else if (row.classList.contains('real')) last.push(row);
    else groups[groups.length - 1].rows.push([row, row.cells[column]]);
  }
  const ordered = groups.flatMap(({ head, rows }) => {
    const keyed = rows.map(([row, cell]) => [row, cell ? valueOf(cell) : null]);
    keyed.sort((a, b) => compare(a[1], b[1], ascending));
    return [...(head ? [head] : []), ...keyed.map(([row]) => row)];
  });
  body.append(...ordered, ...last);
}

/** Every static table of the page. */
function sortTables() {
  for (const table of document.querySelectorAll('table')) {
    if (table.querySelector('button.sort')) continue;
    const [body, heads] = [table.tBodies[0], [...table.tHead.rows[0].cells]];
    sortable(heads, (column, ascending) => sortRows(body, column, ascending));
  }
}
