// The page of fleet-web: asks for documents, and changes what differs from the one before. Elements are kept by key, so that focus,
// scrolling, selection and open details stay. Messages come from the server, except ages, counts and the states of the page itself.

const WAIT = 10000; // ms that the server waits for a newer document
const SILENCE = 6000; // after so long without an answer that is due, the page says so
const RETRY = 2000;
const ROWS = 200, CARD_UNITS = 8, FEW_MACHINES = 12, EVENTS_OF_ONE = 20;
const ONE = { bad: "problem", warn: "waits", info: "changes", ok: "runs", off: "stopped", unknown: "unknown" };
const COLOURS = Object.keys(ONE);
const MANY = { ...ONE, bad: "problems", warn: "wait", info: "change", ok: "run" };
const KEY_NEEDED = "This page needs its key: open the address that fleetctl web prints.";

const $ = (selector) => document.querySelector(selector);
const colour = (c) => (Object.hasOwn(ONE, c) ? c : "unknown");

let view = null, usage = null, why = null;
let refused = false; // the server did not accept the key
let heard, silent = null; // when an answer came; since when one is due
let ahead = 0; // ms by which the clock of the server is ahead of this one
let chosen = null; // the unit or machine whose details are open: {kind, id}
let opener = null; // what had the focus before
const limits = { "#problems": 20, "#units": ROWS }; // rows that are drawn

// -- Elements --

function make(tag, name, ...children) {
  const e = document.createElement(tag);
  if (name) e.className = name;
  e.append(...children);
  return e;
}

function text(e, value) {
  const s = String(value ?? ""), node = e.firstChild;
  if (!node) {
    if (s) e.append(s);
  } else if (node.data !== s) node.data = s; // the node stays, and a selection in it
}

function attribute(e, name, value) {
  if (value === null) e.removeAttribute(name);
  else if (e.getAttribute(name) !== String(value)) e.setAttribute(name, value);
}

const named = (e, name) => attribute(e, "class", name);
const show = (e, is) => e.hidden === !is || (e.hidden = !is);

// A link to the details of a unit or a machine; without one, plain text. The address keeps the key, for other tabs.
const address = (kind, id) => (id ? `?${kind}=${encodeURIComponent(id)}${location.hash}` : null);
function link(e, kind, id, name) {
  attribute(e, "href", address(kind, id));
  text(e, name);
}

// The members of 'after' (positions before the change, in the new order) that need not move: the longest sequence that rises.
function staying(after) {
  const ends = [], former = [];
  after.forEach((position, i) => {
    let low = 0, high = ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (after[ends[middle]] < position) low = middle + 1;
      else high = middle;
    }
    former[i] = ends[low - 1];
    ends[low] = i;
  });
  const stay = new Set();
  for (let i = ends.at(-1); i !== undefined; i = former[i]) stay.add(i);
  return stay;
}

// Give 'parent' one child for each item, in their order. An element that is moved loses the focus and the selection: the child that has one
// of them stays, and the others are moved around it.
function sync(parent, items, keyOf, create, update) {
  const former = (parent.kept ??= new Map()), kept = new Map(), wanted = [];
  for (const item of items) {
    let key = keyOf(item);
    while (kept.has(key)) key += "\0"; // twice the same
    const e = former.get(key) ?? create(item);
    update(e, item);
    kept.set(key, e);
    wanted.push(e);
  }
  for (const [key, e] of former) if (!kept.has(key)) e.remove();
  parent.kept = kept;

  const now = new Map([...parent.children].map((e, i) => [e, i]));
  const holds = (node) => wanted.findIndex((e) => now.has(e) && node && e.contains(node));
  let pin = holds(document.activeElement);
  if (pin < 0) pin = holds(getSelection().isCollapsed ? null : getSelection().anchorNode);
  let old = wanted.map((e, i) => ({ e, i, was: now.get(e) })).filter((o) => o.was !== undefined);
  if (pin >= 0) {
    const at = now.get(wanted[pin]);
    old = old.filter((o) => Math.sign(o.i - pin) === Math.sign(o.was - at));
  }
  const stay = new Set([...staying(old.map((o) => o.was))].map((n) => old[n].e));
  let next = null;
  for (const e of wanted.toReversed()) {
    if (!stay.has(e)) parent.insertBefore(e, next);
    next = e;
  }
}

// -- Times --

const ages = new Map(); // element: {before, since}
const two = (n) => String(n).padStart(2, "0");
const serverNow = () => Date.now() + ahead;

function ageText(since) {
  const s = Math.max(0, Math.floor((serverNow() - since) / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

function age(e, before, since) {
  if (since > 0) {
    ages.set(e, { before, since });
    text(e, before + ageText(since));
  } else {
    ages.delete(e);
    text(e, before || "–");
  }
}

function clock(ms) {
  const d = new Date(ms), time = [d.getHours(), d.getMinutes(), d.getSeconds()].map(two).join(":");
  return d.toDateString() === new Date(serverNow()).toDateString() ? time : `${two(d.getMonth() + 1)}-${two(d.getDate())} ${time.slice(0, 5)}`;
}

// -- Filter --

// A word of a name is a pattern; without * and ?, a part of the name.
function pattern(word, before, after) {
  const body = word.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  return new RegExp(before + body + after, "i");
}

function readFilter(machines) {
  const f = { names: [], states: [], places: [] };
  for (const word of $("#filter").value.split(/\s+/).filter(Boolean)) {
    const [, kind, value] = /^(?:(state|on):)?(.*)$/i.exec(word);
    if (!kind) f.names.push(/[*?]/.test(value) ? pattern(value, "^", "$") : pattern(value, "", ""));
    else if (kind.toLowerCase() === "state") f.states.push(pattern(value, "(^|[ (])", ""));
    // The begin of a name, while it is typed; a complete name is only that machine.
    else f.places.push(pattern(value, "^", machines.some((m) => m.name.toLowerCase() === value.toLowerCase()) ? "$" : ""));
  }
  f.on = f.names.length + f.states.length + f.places.length > 0;
  f.place = (name) => f.places.every((p) => p.test(name));
  f.name = (name) => f.names.every((p) => p.test(name));
  f.unit = (u) => f.place(u.machine) && f.name(u.name) && f.states.every((p) => p.test(u.state) || p.test(ONE[colour(u.c)]));
  f.machine = (m, units) => f.place(m.name) && (units.some(f.unit) || (f.name(m.name) && f.states.every((p) => p.test(m.presence) || p.test(m.badge))));
  return f;
}

// -- What is drawn --

const collator = new Intl.Collator("en", { numeric: true });
const rank = (o) => (o.c === "bad" ? 0 : o.c === "warn" ? 1 : 2);
const inOrder = (list) => [...(list ?? [])].sort((a, b) => rank(a) - rank(b) || collator.compare(a.name, b.name));
const keyOf = (u) => `${u.name}\0${u.on}`;
const counted = (n, one, many) => `${n} ${n === 1 ? one : many}`;

// What all parts share, from the current document, filter and figures.
function prepare() {
  const d = { units: inOrder(view.units), machines: inOrder(view.machines), on: new Map(), figures: new Map(), usage: new Map() };
  d.byName = new Map(d.machines.map((m) => [m.name, m]));
  d.ids = new Set(d.machines.map((m) => m.id));
  d.names = new Set(d.units.map((u) => u.name));
  for (const u of d.units) {
    const id = d.ids.has(u.on) ? u.on : "";
    if (!id && !u.on && u.c === "off") continue; // it waits for no machine
    d.on.get(id)?.push(u) ?? d.on.set(id, [u]);
  }
  for (const m of usage?.machines ?? []) {
    d.usage.set(m.id, m);
    for (const u of m.units ?? []) d.figures.set(`${u.name}\0${m.id}`, u);
  }
  d.filter = readFilter(d.machines);
  d.shown = d.filter.on ? d.units.filter(d.filter.unit) : d.units;
  return d;
}

function drawHeader(d) {
  const problems = view.problems.length;
  text($("#cluster"), view.cluster || "fleet");
  const [sign, verdict] = $("#verdict").children;
  named(sign, `mark ${problems ? colour(COLOURS.find((c) => view.problems.some((p) => p.c === c))) : "ok"}`);
  text(verdict, problems ? counted(problems, "problem", "problems") : "no problems");
  const up = view.machines.filter((m) => m.presence === "up").length;
  const run = view.units.filter((u) => u.state.startsWith("active") && (u.c === "ok" || u.c === "info")).length;
  const counts = [`${up} of ${counted(view.machines.length, "machine", "machines")} up`, `${run} of ${counted(view.units.length, "unit runs", "units run")}`,
    view.leader ? `leader ${view.leader}` : "no leader"];
  if (typeof view.canLose === "number") counts.push(`can lose ${view.canLose > 0 ? view.canLose : "none"}`);
  text($("#counts"), counts.join(" · "));
  document.title = (problems ? `(${problems}) ` : "") + (view.cluster || "fleet");
}

function drawMore(part, n) {
  const more = $(`${part} .more`), rest = n - limits[part];
  show(more, rest > 0);
  text(more, `Show ${rest} more`);
}

// A row of problems, or of what is under way.
const target = (d, row) => (/^(machine|reboot)$/.test(row.of) ? ["machine", d.byName.get(row.name)?.id] : ["unit", d.names.has(row.name) && row.name]);
const makeRow = (...bar) => make("li", "", make("a"), make("p", "", ...bar, make("span", "text")), make("code"));
function updateRow(e, row, d) {
  const [name, what, command] = e.children;
  named(e, `is-${colour(row.c)}`);
  named(name, `name${row.c ? ` mark ${colour(row.c)}` : ""}`);
  link(name, ...target(d, row), row.name);
  text(what.lastChild, row.what);
  text(command, row.command);
}

function drawProblems(d) {
  sync($("#problems ul"), view.problems.slice(0, limits["#problems"]), (p) => `${p.of}\0${p.name}\0${p.command}`, () => makeRow(), (e, p) => updateRow(e, p, d));
  show($("#problems .none"), !view.problems.length);
  drawMore("#problems", view.problems.length);
}

function drawWork(d) {
  show($("#work"), view.work.length);
  sync($("#work ul"), view.work, (w) => `${w.of}\0${w.name}`, () => makeRow(make("progress"), make("span", "muted")), (e, w) => {
    const [bar, part] = e.children[1].children;
    updateRow(e, { c: "info", ...w }, d);
    for (const p of [bar, part]) show(p, w.total > 0);
    attribute(bar, "max", w.total || 1);
    attribute(bar, "value", w.done || 0);
    attribute(bar, "aria-label", `progress of ${w.name}`);
    text(part, w.total > 0 ? `${w.done} of ${w.total}\u2002` : "");
  });
}

const METERS = ["cpu", "memory", "disk"];
function drawMeters(e, name, figures) {
  sync(e, METERS.filter((m) => figures?.[m]), (m) => m, (m) => {
    const meter = make("meter");
    for (const [k, v] of Object.entries({ low: 0.85, high: 0.95, optimum: 0, max: 1 })) meter.setAttribute(k, v);
    return make("div", "", make("dt", "", m), make("dd", "", meter), make("dd"));
  }, (row, m) => {
    const meter = row.children[1].firstChild;
    attribute(meter, "aria-label", `${m} of ${name}`);
    attribute(meter, "value", figures[m].part ?? 0);
    text(row.children[2], figures[m].text ?? "–");
  });
}

function makeCard() {
  const top = make("div", "top", make("h3", "", make("a")), make("span", "role"), make("span", "badge"));
  return make("li", "card", top, make("p", "meta text"), make("p", "note text"), make("dl", "meters"), make("p", "tally"), make("ul", "list"), make("a", "more"));
}

function drawCard(e, m, d, few) {
  const [top, meta, note, meters, tally, list, more] = e.children, [title, role, badge] = top.children;
  const all = (d.on.get(m.id) ?? []).filter((u) => !d.filter.on || d.filter.unit(u)), figures = d.usage.get(m.id), up = m.presence === "up";
  named(e, `card is-${colour(m.c)}`);
  named(title.firstChild, `name mark ${colour(m.c)}`);
  link(title.firstChild, "machine", m.id, m.name);
  text(role, m.role);
  text(badge, m.badge);
  text(meta, m.meta?.replaceAll(",", ", "));
  show(note, (!up && m.id) || figures?.note);
  if (up || !m.id) age(note, figures?.note ?? "", 0);
  else age(note, m.since > 0 ? `${m.presence} since ` : m.presence, m.since);
  drawMeters(meters, m.name, up ? figures : null);

  const some = few ? all : all.filter((u) => u.c !== "ok"), lines = some.slice(0, CARD_UNITS), rest = some.length - lines.length;
  show(tally, !few);
  sync(tally, few ? [] : COLOURS.filter((c) => all.some((u) => colour(u.c) === c)), (c) => c, (c) => make("span", `mark ${c}`), (s, c) => {
    const n = all.filter((u) => colour(u.c) === c).length;
    text(s, counted(n, ONE[c], MANY[c]));
  });
  sync(list, lines, keyOf, () => make("li", "", make("a"), make("span")), (li, u) => {
    named(li.firstChild, `name mark ${colour(u.c)}`);
    link(li.firstChild, "unit", u.name, u.name);
    text(li.lastChild, u.c === "ok" ? d.figures.get(keyOf(u))?.cpu ?? "–" : u.state);
  });
  show(more, rest > 0);
  attribute(more, "href", rest > 0 && m.id ? `?q=${encodeURIComponent(`on:${m.name}`)}${location.hash}` : null);
  text(more, rest > 0 ? `and ${rest} more` : "");
}

function drawMachines(d) {
  const machines = d.filter.on ? d.machines.filter((m) => d.filter.machine(m, d.on.get(m.id) ?? [])) : [...d.machines];
  const waiting = d.on.get("") ?? [];
  if (d.filter.on ? waiting.some(d.filter.unit) : waiting.length) machines.push({ id: "", name: "no machine", c: "warn" });
  text($("#machines-h"), `Machines ${d.filter.on ? `${machines.filter((m) => m.id).length} of ` : ""}${view.machines.length}`);
  sync($("#machines ul"), machines, (m) => m.id, makeCard, (e, m) => drawCard(e, m, d, view.machines.length <= FEW_MACHINES));
  show($("#machines .none"), d.filter.on && !machines.length);
}

function drawUnits(d) {
  const drawn = d.shown.slice(0, limits["#units"]), body = $("#units tbody");
  const focused = body.kept && d.shown.find((u, i) => i >= drawn.length && body.kept.get(keyOf(u))?.contains(document.activeElement));
  if (focused) drawn.push(focused); // a row with the focus stays, although others are before it now
  text($("#units-h"), `Units ${d.filter.on ? `${d.shown.length} of ` : ""}${view.units.length}`);
  sync(body, drawn, keyOf, () => make("tr", "", make("th", "", make("a")), ...Array.from({ length: 5 }, () => make("td"))), (e, u) => {
    const [name, state, machine, since, cpu, memory] = e.children, figures = d.figures.get(keyOf(u));
    attribute(name, "scope", "row");
    named(name.firstChild, `name mark ${colour(u.c)}`);
    link(name.firstChild, "unit", u.name, u.name);
    named(state, `is-${colour(u.c)}`);
    text(state, u.health && u.state && !["none", "passing"].includes(u.health) ? `${u.state}, ${u.health}` : u.state);
    text(machine, u.machine || "–");
    age(since, "", u.since);
    text(cpu, figures?.cpu ?? "–");
    text(memory, figures?.memory ?? "–");
  });
  const [noMatch, none] = document.querySelectorAll("#units .none");
  show($("#units table"), d.shown.length);
  show(noMatch, view.units.length && !d.shown.length);
  show(none, !view.units.length);
  drawMore("#units", d.shown.length);
}

function drawEventsIn(list, events, d) {
  sync(list, events, (v) => `${v.at}\0${v.unit}\0${v.machine}\0${v.what}`,
    () => make("li", "", make("time"), make("a"), make("span", "where text"), make("span", "what text")), (e, v) => {
      const [time, unit, machine, what] = e.children, m = d.byName.get(v.machine);
      text(time, clock(v.at));
      attribute(time, "title", new Date(v.at).toLocaleString());
      named(unit, "name");
      if (v.unit) link(unit, "unit", d.names.has(v.unit) ? v.unit : null, v.unit);
      else link(unit, "machine", m?.id, v.machine);
      text(machine, v.unit ? v.machine : "");
      text(what, v.count > 1 ? `${v.what}\u2002×${v.count}` : v.what);
    });
}

function drawEvents(d) {
  const list = $("#events ul");
  drawEventsIn(list, view.events, d);
  requestAnimationFrame(() => list.classList.add("live")); // those of the first document do not appear one by one
}

function figuresOf(d) {
  if (chosen.kind === "machine") {
    const m = d.usage.get(chosen.id);
    return [...METERS.map((k) => [k, m?.[k]?.text ?? "–"]), ...(m?.note ? [["", m.note]] : [])];
  }
  const instances = d.units.filter((u) => u.name === chosen.id);
  return instances.flatMap((u) => {
    const f = d.figures.get(keyOf(u)), where = instances.length > 1 ? `${u.machine || "no machine"} ` : "";
    return [["CPU", f?.cpu], ["memory", f?.memory], ["IO/s", f?.io], ["tasks", f?.tasks], ["pressure", f?.pressure]].map(([k, v]) => [where + k, v ?? "–"]);
  });
}

function drawPairs(list, pairs) {
  sync(list, pairs.map((p, i) => [i, ...p]), ([i, name]) => `${i}\0${name}`, () => make("div", "", make("dt", "name"), make("dd", "text")), (e, [, name, value]) => {
    text(e.firstChild, name);
    text(e.lastChild, value);
  });
}

function drawDetails(d) {
  if (!chosen) return;
  const machine = chosen.kind === "machine", of = machine ? view.machines.find((m) => m.id === chosen.id) : d.units.find((u) => u.name === chosen.id);
  const known = why?.of === chosen ? why : null, title = $("#details-h");
  text(title, of?.name ?? chosen.id);
  named(title, `name mark ${of ? colour(of.c) : "unknown"}`);
  const state = known ? known.message ?? "" : "reading";
  text($("#details .none"), state);
  show($("#details .none"), state);
  drawPairs($("#details .lines"), known?.lines ?? []);
  drawPairs($("#details .figures"), figuresOf(d));
  sync($("#details .commands"), known?.commands ?? [], (c) => c, (c) => make("li", "", make("code", "", c)), () => {});
  drawEventsIn($("#details .events"), (known?.events ?? []).slice(0, EVENTS_OF_ONE), d);
}

// -- The states of the page itself --

function drawState() {
  const message = refused ? KEY_NEEDED : silentText() || view?.notice || "";
  const data = view && !(view.notice && !view.machines?.length && !view.units?.length);
  document.body.classList.toggle("waiting", !data);
  document.body.classList.toggle("stale", Boolean(data && message));
  text($("#banner"), data ? message : "");
  show($("#banner"), data && message);
  text($("#alone"), message || "reading the state of the cluster");
}

function silentText() {
  const ms = silent === null ? 0 : Date.now() - silent;
  if (ms < SILENCE) return "";
  return `No answer for ${Math.floor(ms / 1000)} s${view ? `: this is the state of ${clock(heard + ahead)}` : ""}. Units are not affected.`;
}

const PARTS = [["#header", drawHeader], ["#problems", drawProblems], ["#work", drawWork], ["#machines", drawMachines], ["#units", drawUnits], ["#events", drawEvents], ["#details", drawDetails]];

// A part that fails says so, and the others are drawn.
function attempt(part, action) {
  const e = $(part);
  try {
    action();
    e.fault?.remove();
    e.fault = null;
  } catch (error) {
    console.error(error);
    e.fault ??= e.appendChild(make("p", "fault"));
    text(e.fault, `This part cannot be shown: ${error.message}`);
    show(e, true);
  }
}

function draw() {
  attempt("#main", drawState);
  if (!view) return;
  attempt("#main", () => {
    const d = prepare();
    for (const [part, drawPart] of PARTS) attempt(part, () => drawPart(d));
  });
}

// -- Questions --

const hidden = () => document.visibilityState === "hidden";
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const once = (target, event) => new Promise((done) => target.addEventListener(event, done, { once: true }));
const asking = new Set();

async function shown() {
  while (hidden()) await once(document, "visibilitychange");
}

// The document at 'path', null: there is no newer one. Its first byte arrives within 'patience' ms.
async function ask(path, patience) {
  const abort = new AbortController(), key = /^#key=([\w-]+)$/.exec(location.hash)?.[1];
  let timer = setTimeout(() => abort.abort(), patience);
  asking.add(abort);
  try {
    const answer = await fetch(path, { headers: key ? { "X-Fleet-Key": key } : {}, cache: "no-store", signal: abort.signal });
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), 3 * WAIT);
    if (answer.status === 204) return null;
    if (!answer.ok) throw Object.assign(new Error(await answer.text()), { status: answer.status });
    return await answer.json();
  } finally {
    clearTimeout(timer);
    asking.delete(abort);
  }
}

// Ask for each newer document while the page is visible. After a failure, ask without a number, which is answered at once.
async function follow(path, take, fail) {
  let n = null, failed = false;
  for (;;) {
    await shown();
    const begin = Date.now();
    try {
      const answer = await ask(n === null ? path : `${path}?after=${encodeURIComponent(n)}`, failed ? RETRY : WAIT + SILENCE);
      take(answer);
      n = answer?.n ?? n;
      failed = false;
    } catch (error) {
      if (hidden()) continue;
      const due = !failed && Date.now() >= begin + WAIT + SILENCE ? begin + WAIT : Date.now();
      failed = true;
      n = null;
      await fail(error, due, begin);
    }
  }
}

const retry = (begin) => pause(Math.max(0, begin + RETRY - Date.now()));

function takeView(answer) {
  heard = Date.now();
  silent = null;
  refused = false;
  if (!answer) return drawState();
  // Another program has other files. Those that this tab has seen do not load it again: two of them may answer by turns.
  const seen = history.state?.seen ?? [], other = !seen.includes(answer.program);
  if (other) history.replaceState({ seen: [...seen, answer.program] }, "");
  if (other && view && view.program !== answer.program) return location.reload();
  view = answer;
  ahead = view.now - Date.now();
  draw();
  if (chosen) readWhy();
}

async function failView(error, due, begin) {
  if (error.status === 403) {
    refused = true;
    silent = null;
    draw();
    return once(window, "hashchange");
  }
  silent ??= due;
  draw();
  return retry(begin);
}

function takeUsage(answer) {
  if (!answer) return;
  usage = answer;
  draw();
}

function failUsage(error, due, begin) {
  usage = null; // figures that may be old are none
  draw();
  if (error.status === 403) return once(window, "hashchange");
  return error.status ? pause(WAIT) : retry(begin);
}

// The details of what is chosen: one question at a time; again, if the state has changed meanwhile.
let reading = null, again = false;
async function readWhy() {
  if (reading === chosen) {
    again = true;
    return;
  }
  const of = chosen;
  reading = of;
  do {
    again = false;
    let answer;
    try {
      answer = await ask(`why?${of.kind}=${encodeURIComponent(of.id)}`, WAIT + SILENCE);
    } catch (error) {
      // What was read before stays, unless it does not exist any more.
      if (error.status === 404 || why?.of !== of) answer = { message: error.status ? error.message : "No answer." };
    }
    if (chosen !== of) return;
    if (answer) why = { ...answer, of };
    draw();
  } while (again && !hidden());
  reading = null;
}

// -- The address, the keyboard --

function readAddress() {
  const p = new URLSearchParams(location.search), was = chosen;
  const kind = ["unit", "machine"].find((k) => p.get(k));
  if (!kind) chosen = null;
  else if (chosen?.kind !== kind || chosen.id !== p.get(kind)) chosen = { kind, id: p.get(kind) };
  if (document.activeElement !== $("#filter")) $("#filter").value = p.get("q") ?? "";
  if (chosen !== was) {
    if (!was) opener = document.activeElement;
    show($("#details"), chosen);
    show($("#events"), !chosen);
    cover();
    $("#side").scrollTop = 0;
    if (chosen) {
      $("#details-h").focus({ preventScroll: true });
      if (view) readWhy();
    } else restoreFocus(was);
  }
  draw();
}

function restoreFocus(was) {
  const e = opener?.isConnected && opener !== document.body ? opener : [...document.querySelectorAll("main a[href]")].find((a) => a.getAttribute("href") === address(was.kind, was.id));
  e?.focus({ preventScroll: true });
  opener = null;
}

const small = matchMedia("(max-width: 70rem)");
// On a small screen, details cover the rest, which is then not reached by the keyboard.
function cover() {
  const covers = Boolean(chosen && small.matches);
  $("#side").classList.toggle("covers", covers);
  for (const e of [$("#header"), $("#main"), $("#keys")]) e.inert = covers;
}

function go(changes, push) {
  const p = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) value ? p.set(name, value) : p.delete(name);
  const query = p.toString();
  history[push ? "pushState" : "replaceState"](history.state, "", (query ? `?${query}` : location.pathname) + location.hash);
}

const close = () => { go({ unit: null, machine: null }, true); readAddress(); };
function setFilter(value) {
  $("#filter").value = value;
  limits["#units"] = ROWS;
  draw();
  go({ q: value }, false);
}

document.addEventListener("click", (event) => {
  const a = event.target.closest("a[href]");
  if (!a || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault(); // another fragment would replace the key
  if (a.id === "skip") return $("#main").focus();
  const p = new URLSearchParams(a.search);
  if (p.has("q")) return setFilter(p.get("q"));
  go({ unit: p.get("unit"), machine: p.get("machine") }, true);
  readAddress();
});

// To the next link of the same list, not of a list in it.
function arrow(from, step) {
  const list = from.closest("a") && from.closest(".list");
  const links = [...(list?.querySelectorAll("a[href]") ?? [])].filter((a) => a.closest(".list") === list && a.checkVisibility());
  links[links.indexOf(from) + step]?.focus();
  return list;
}

document.addEventListener("keydown", (event) => {
  const filter = $("#filter"), e = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape") {
    if (e === filter) filter.value ? setFilter("") : filter.blur();
    else if (chosen) close();
    else if (filter.value) setFilter("");
  } else if (event.key === "/" && e !== filter && !filter.closest("[inert]")) filter.focus();
  else if (!(/^Arrow(Up|Down)$/.test(event.key) && arrow(e, event.key === "ArrowUp" ? -1 : 1))) return;
  event.preventDefault();
});

$("#filter").addEventListener("input", (event) => setFilter(event.target.value));
$("#close").addEventListener("click", close);
for (const part in limits)
  $(`${part} .more`).addEventListener("click", () => {
    const list = $(`${part} .list`), n = list.children.length;
    limits[part] = Infinity;
    draw();
    list.children[n]?.querySelector("a[href]")?.focus(); // the first of the new rows
  });
small.addEventListener("change", cover);
addEventListener("popstate", readAddress);
addEventListener("hashchange", () => draw());
document.addEventListener("visibilitychange", () => {
  if (hidden()) for (const a of asking) a.abort();
  else {
    if (silent !== null) silent = Date.now();
    if (chosen && view) readWhy();
  }
});

setInterval(() => {
  for (const [e, { before, since }] of ages) {
    if (!e.isConnected) ages.delete(e);
    else text(e, before + ageText(since));
  }
  if (silent !== null) drawState();
}, 1000);

readAddress();
follow("view", takeView, failView);
follow("usage", takeUsage, failUsage);
