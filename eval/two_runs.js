/* The table of two runs: lists of two are the first run and the second. */

const lists = row => row.neighbors.map(found => new Set(found.map(([word]) => word)));
const trained = found => found ? found[2] : null;
const rank = basis => basis ? [whole(trained(basis[2])), el("br"), el("small", null, basis[0])] : DASH;
const LABELS = ["far", "unclear", "near"];

const COLUMNS = {
  token: {key: row => row.token},
  change: {key: row => ["worse", "better", "same"].indexOf(row.kind), cell: row => mark(row.kind)},
  ...Object.fromEntries(["first", "second"].flatMap((name, run) => [
    [`verdict-${name}`, {key: row => LABELS.indexOf(row.verdicts[run]), cell: row => mark(row.verdicts[run])}],
    [`rank-${name}`, {
      key: row => row.bases[run] ? trained(row.bases[run][2]) : Infinity, cell: row => rank(row.bases[run])}],
    [`sure-${name}`, {key: row => unknownLast(row.sure[run]), cell: row => share(row.sure[run])}],
    [`near-${name}`, {key: row => listed(row.neighbors[run]), cell: row => listed(row.neighbors[run])}],
  ])),
  shared: {key: row => row.shared, cell: row => whole(row.shared)},
};

function side(row, run) {
  const other = lists(row)[1 - run];
  return el("div", null,
    el("h3", null, ["first run", "second run"][run]),
    el("p", null, el("b", {class: row.verdicts[run]}, row.verdicts[run]), `: ${row.reasons[run]}`),
    words(row.neighbors[run], word => other.has(word) ? "" : "fresh"));
}

function relations(row) {
  const head = ["related word", "kind", "first run", "second run", "of"];
  const line = ([name, kind, heldOut, first, second]) => el("tr", null,
    el("td", null, name, " ", heldOut ? el("span", {class: "tag"}, "held out") : null),
    el("td", null, kind), el("td", null, whole(trained(first))), el("td", null, whole(trained(second))),
    el("td", null, whole(first && first[0])));
  return scroll(`Related words of ${row.token}`, el("table", {class: "relations"},
    el("thead", null, el("tr", null, head.map(name => el("th", {scope: "col"}, name)))),
    el("tbody", null, row.relations.map(line))));
}

const detail = row => [
  row.definition ? el("p", {class: "muted"}, row.definition) : "",
  el("div", {class: "spaces"}, side(row, 0), side(row, 1)),
  row.relations.length ? relations(row) : "",
];

drawCharts(new PagedTable(ROWS, COLUMNS, detail));
