/* The table of one run: what stands in each column, and what opens below a token. */

const SHOWN = "encoded"; // the space whose neighbours the row itself shows

const space = row => row.spaces.find(([name]) => name === SHOWN) || [SHOWN, [], [], []];
const arrow = ([, initial, trained]) => [initial === null ? null : `${whole(initial)} → `, el("b", null, whole(trained))];
const ranks = found => found === null ? [DASH] : [...arrow(found), " ", el("small", null, `of ${whole(found[0])}`)];

/* The nearest after training; those that were not among the neighbours before are bold. */
function marked([, before, after]) {
  const known = new Set(before.map(([word]) => word));
  return after.slice(0, 4).flatMap(([word], at) =>
    [at ? ", " : null, known.size && !known.has(word) ? el("b", {class: "fresh"}, word) : word]);
}

const COLUMNS = {
  token: {key: row => row.token},
  verdict: {key: row => ["far", "unclear", "near"].indexOf(row.kind), cell: row => mark(row.kind)},
  pieces: {key: row => row.pieces.length, cell: row => row.pieces.join(" ")},
  before: {key: row => listed(space(row)[1]), cell: row => listed(space(row)[1])},
  after: {key: row => listed(space(row)[2]), cell: row => marked(space(row))},
  rank: {
    key: row => row.basis ? row.basis[2][2] : Infinity,
    cell: row => {
      if (!row.basis) return DASH;
      const [name, heldOut, found] = row.basis;
      return [...arrow(found), el("br"), el("small", null, name + (heldOut ? "" : ", seen"))];
    },
  },
  sure: {
    key: row => unknownLast(row.confidence),
    cell: row => [share(row.confidence), ...row.leans_on && !row.leans_on.length
      ? [el("br"), el("small", null, "nothing to lean on")] : []],
  },
  sentences: {key: row => row.sentences, cell: row => whole(row.sentences)},
  norm: {key: row => row.norm_z, cell: row => signed(row.norm_z)},
  move: {key: row => unknownLast(row.move), cell: row => figure(row.move)},
};

function neighborhood([name, before, after, others], related) {
  const known = new Set(before.map(([word]) => word));
  const old = word => related.has(word.toLowerCase()) ? "related" : "";
  const fresh = word => old(word) || (known.size && !known.has(word) ? "fresh" : "");
  const side = (head, list, classOf) => el("div", null, el("div", {class: "head"}, head), words(list, classOf));
  return el("div", null,
    el("h3", null, name),
    el("div", {class: "sides"}, before.length ? side("before", before, old) : null, side("after", after, fresh)),
    others.length ? el("div", {class: "head"},
      `nearest other new tokens: ${others.map(([word, cosine]) => `${word} ${figure(cosine)}`).join(", ")}`) : null);
}

function relations(row) {
  const head = ["related word", "kind", "rank among glossary names", "word split", "rank in the vocabulary"];
  const line = ([name, kind, heldOut, glossary, vocabulary]) => el("tr", null,
    el("td", null, name, " ", heldOut ? el("span", {class: "tag"}, "held out") : null),
    el("td", null, kind),
    el("td", null, glossary ? ranks(glossary) : el("span", {class: "muted"}, "holds the token itself")),
    el("td", null, whole(glossary && glossary[3])),
    el("td", null, ranks(vocabulary)));
  return scroll(`Related words of ${row.token}`, el("table", {class: "relations"},
    el("thead", null, el("tr", null, head.map(name => el("th", {scope: "col"}, name)))),
    el("tbody", null, row.relations.map(line))));
}

function lengths(row) {
  const before = row.norm_initial === null ? "" : `${figure(row.norm_initial)} → `;
  const moved = row.move === null ? "" : `; moved ${figure(row.move)} of its length`;
  return `Row length ${before}${figure(row.norm)} (${signed(row.norm_z)} standard deviations from the vocabulary's mean)${moved}.`;
}

function evidence(row) {
  const pairs = Object.entries(row.pairs).map(([kind, number]) => `${whole(number)} ${kind}`).join(", ") || "none";
  const some = row.examples.length;
  const written = row.generated ? `, ${whole(row.generated)} of them by a language model` : "";
  return [
    some ? el("h3", null, `Sentences that taught it${some < row.sentences ? `, ${some} of ${whole(row.sentences)}` : ""}`) : null,
    ...row.examples.map(sentence => el("blockquote", null, sentence)),
    el("p", null, el("small", null,
      `${counted(row.sentences, "sentence")}${written}; pairs: ${pairs}; ${counted(row.negatives, "negative")}. ${lengths(row)} `
      + `Ids ${row.ids.join(", ")}; pieces `, el("code", null, row.pieces.join(" ")), ".")),
  ];
}

function leaning({leans_on: found, confidence}) {
  const sources = new Intl.ListFormat("en-GB").format(["spelling", ...found].map(source => `the ${source}`));
  const alone = found.length ? "" : " alone: there was nothing else to lean on";
  return el("p", null, `Sure to ${share(confidence)}. The first row was predicted from ${sources}${alone}.`);
}

function detail(row) {
  const related = new Set(row.relations.map(([name]) => name.toLowerCase()));
  const rank = row.definition_ranks;
  return [
    el("p", null, el("b", {class: row.kind}, `${row.kind[0].toUpperCase()}${row.kind.slice(1)}: `), row.reason),
    row.leans_on ? leaning(row) : null,
    row.definition ? el("p", {class: "muted"}, row.definition,
      rank ? el("small", null, " (this definition ranks ", ranks(rank), " definitions)") : null) : null,
    el("div", {class: "spaces"}, row.spaces.map(found => neighborhood(found, related))),
    row.relations.length ? relations(row) : null,
    ...evidence(row),
  ].filter(child => child !== null);
}

drawCharts(new PagedTable(ROWS, COLUMNS, detail));
