/* What every page shares: a table that draws one page of its rows at a time, and the charts.
   Words reach the document as text nodes and attributes only, never as markup. */

const PAGE = 50; // rows drawn at a time: ten thousand would make every click wait for the layout
const DASH = "–";

function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children.flat().filter(child => child !== null));
  return element;
}

const whole = value => value === null ? DASH : value.toLocaleString("en", {maximumFractionDigits: 1});
const counted = (number, one) => `${whole(number)} ${one}${number === 1 ? "" : "s"}`;
const figure = (value, digits = 2) => value === null ? DASH : value.toFixed(digits);
const share = value => value === null ? DASH : `${Math.round(100 * value)}%`;
const signed = value => value.toFixed(1).replace(/^-0\.0$/, "0.0").replace(/^\d/, "+$&");
const unknownLast = value => value === null ? Infinity : value;
const mark = kind => el("span", {class: `${kind} mark`}, kind);
const listed = neighbors => neighbors.slice(0, 4).map(([word]) => word).join(", ");

/* What may be wider than the window: a region that the keyboard reaches and scrolls. */
const scroll = (label, child) => el("div", {class: "scroll", role: "region", "aria-label": label, tabindex: "0"}, child);

function texts(value) {
  if (typeof value === "string") return [value];
  return value && typeof value === "object" ? Object.values(value).flatMap(texts) : [];
}

function words(neighbors, classOf) {
  const item = ([word, cosine]) =>
    el("li", {class: classOf(word), style: `--c:${Math.max(cosine, 0)}`}, word, el("i", null, figure(cosine)));
  return neighbors.length ? el("ol", {class: "words"}, neighbors.map(item)) : el("p", {class: "muted"}, "none");
}

class PagedTable {
  /* rows: records with "token" and "kind"; columns: by name {key, cell} of a row; detail: what opens below a row. */
  constructor(rows, columns, detail) {
    this.table = document.getElementById("table");
    this.search = document.getElementById("search");
    this.boxes = [...document.querySelectorAll("input[data-kind]")];
    this.heads = [...this.table.tHead.rows[0].cells];
    this.names = this.heads.map(head => head.dataset.column);
    this.rows = rows.map((row, at) => ({...row, at}));
    this.sorted = this.found = this.rows;
    this.columns = columns;
    this.detail = detail;
    this.search.addEventListener("input", () => this.filter());
    this.boxes.forEach(box => box.addEventListener("change", () => this.filter()));
    this.heads.forEach((head, at) => head.firstElementChild.addEventListener("click", () => this.sort(at)));
    this.table.addEventListener("click", event => {
      const row = event.target.closest(".row");
      if (row && !String(getSelection())) this.toggle(row.parentElement);
    });
    this.table.addEventListener("keydown", event => this.press(event));
    document.getElementById("previous").addEventListener("click", () => this.turn(this.page - 1));
    document.getElementById("next").addEventListener("click", () => this.turn(this.page + 1));
    addEventListener("hashchange", () => this.follow());
    document.querySelectorAll("a[href^='#t']").forEach(link =>
      link.addEventListener("click", () => { if (link.hash === location.hash) this.follow(); }));
    this.filter();
    this.follow();
  }

  filter() {
    const asked = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kinds = new Set(this.boxes.filter(box => box.checked).map(box => box.dataset.kind));
    const text = row => row.text ??= texts(row).join("\n").toLowerCase(); // only once somebody searches
    this.found = this.sorted.filter(row => kinds.has(row.kind) && asked.every(word => text(row).includes(word)));
    this.turn(0);
  }

  sort(at) {
    const head = this.heads[at], down = head.getAttribute("aria-sort") === "ascending";
    this.heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = this.columns[this.names[at]].key, {compare} = new Intl.Collator("en");
    const keyed = this.rows.map(row => [key(row), row]);
    const order = typeof keyed[0]?.[0] === "string" ? compare : (a, b) => a === b ? 0 : a - b;
    this.sorted = keyed.sort((a, b) => (down ? -1 : 1) * order(a[0], b[0])).map(([, row]) => row);
    this.filter();
  }

  turn(page) {
    const pages = Math.max(1, Math.ceil(this.found.length / PAGE));
    this.page = Math.min(Math.max(page, 0), pages - 1);
    [...this.table.tBodies].forEach(body => body.remove());
    this.table.append(...this.found.slice(this.page * PAGE, (this.page + 1) * PAGE).map(row => this.body(row)));
    const found = this.found.length;
    document.getElementById("shown").textContent = `${whole(found)} shown`;
    document.getElementById("place").textContent = `Page ${whole(this.page + 1)} of ${whole(pages)}`;
    document.getElementById("nothing").hidden = found > 0;
    document.getElementById("pager").hidden = pages === 1;
    document.getElementById("previous").disabled = this.page === 0;
    document.getElementById("next").disabled = this.page === pages - 1;
  }

  body(row) {
    const button = el("button", {type: "button", "aria-expanded": "false", "aria-controls": `d${row.at}`}, row.token);
    const cells = this.names.slice(1).map(name =>
      el("td", {class: `c-${name}`}, this.columns[name].cell(row)));
    // The link to it is #t7, and no element has that id: the browser's own jump would take the focus away again.
    return el("tbody", {"data-at": row.at},
      el("tr", {class: "row"}, el("th", {scope: "row", class: "c-token"}, button), cells),
      el("tr", {class: "detail", id: `d${row.at}`, hidden: ""}, el("td", {colspan: this.names.length})));
  }

  toggle(body, wanted = body.rows[1].hidden) {
    const [row, detail] = body.rows;
    if (wanted && !detail.cells[0].firstChild) detail.cells[0].append(el("div", {class: "opened"}, this.detail(this.rows[body.dataset.at])));
    detail.hidden = !wanted;
    row.querySelector("button").setAttribute("aria-expanded", String(wanted));
  }

  /* In the rows: arrows go from one to the next, Escape closes what is open. Enter and Space are the button's own.
     In what is open, arrows scroll. */
  press(event) {
    const body = event.target.closest("tbody"), from = event.target.closest(".row") && body;
    const other = {ArrowDown: from?.nextElementSibling, ArrowUp: from?.previousElementSibling}[event.key];
    if (other?.matches("tbody")) {
      event.preventDefault();
      other.querySelector("button").focus();
    } else if (body && event.key === "Escape") {
      this.toggle(body, false);
      body.querySelector("button").focus();
    }
  }

  show(row) {
    if (!this.found.includes(row)) {
      this.search.value = "";
      this.boxes.forEach(box => { box.checked = true; });
      this.filter();
    }
    this.turn(Math.floor(this.found.indexOf(row) / PAGE));
    const body = this.table.querySelector(`[data-at='${row.at}']`);
    this.toggle(body, true);
    body.scrollIntoView({block: "start"});
    body.querySelector("button").focus({preventScroll: true});
  }

  follow() {
    const row = /^#t\d+$/.test(location.hash) && this.rows[location.hash.slice(2)];
    if (row) this.show(row);
  }
}

function drawCharts(table) {
  const rows = new Map(table.rows.map(row => [row.token, row]));
  for (const block of document.querySelectorAll("script[data-chart]")) {
    const place = document.getElementById(`chart-${block.dataset.chart}`);
    const options = {mode: "vega-lite", actions: false, renderer: "svg"};
    vegaEmbed(place, JSON.parse(block.textContent), options).then(({view}) => {
      view.addEventListener("click", (_, item) => {
        const row = item && item.datum && rows.get(item.datum.token);
        if (row) table.show(row);
      });
    }).catch(error => {
      place.textContent = `The chart could not be drawn: ${error.message}`;
      console.error(error);
    });
  }
}

const ROWS = JSON.parse(document.getElementById("rows").textContent);
