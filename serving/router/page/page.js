// Asks POST /v1/compare for what the address says, and draws the answer. Text of the data is only ever set as text.
"use strict";

const TWO = ["engagement", "relevance"]; // what the page begins with; a version may have others
let channels = TWO;
const columns = () => [...channels, "merged"];
const MARKS = { l2: "L2", l1: "L1" };
const $ = (id) => document.getElementById(id);
const state = { kind: "item", id: "", k: 20, alpha: null, quotas: null }; // both null: as the arm has it
let samples = { items: [], users: [] };
let answer = null;

function el(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
}

// ---- asking

async function call(path, body, signal) {
  const headers = { "content-type": "application/json" };
  const token = sessionStorage.getItem("token");
  if (token) headers.authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The router cannot be reached."), { again: 2 });
  }
  const told = await response.json().catch(() => ({ error: "no JSON came back" }));
  if (response.ok) return told;
  const again = Number(response.headers.get("retry-after"));
  throw Object.assign(new Error(`The router says (${response.status}): ${told.error}`), { status: response.status, again });
}

let asking = null; // AbortController of the question under way: another one ends it, its answer is never drawn
let again = false; // the slider has moved on meanwhile
let timer = 0;

function ask() {
  clearTimeout(timer);
  timer = setTimeout(compare);
}

function askSoon() { // at most one question at a time: the lists follow the slider as fast as answers come
  if (asking) again = true;
  else timer ||= setTimeout(compare, 40);
}

async function compare() {
  timer = 0;
  again = false;
  asking?.abort();
  const mine = (asking = new AbortController());
  const slow = setTimeout(() => mine === asking && busy(true), 250);
  const start = performance.now();
  try {
    const beginning = samples.version && state.id ? null : begin(mine.signal);
    if (!state.id) await beginning;
    const who = state.kind === "item" ? { triggers: [state.id] } : { user_id: state.id };
    const own = state.quotas ? { quotas: state.quotas } : state.alpha !== null ? { alpha: state.alpha } : {};
    const [found] = await Promise.all([call("/v1/compare", { ...who, k: state.k, ...own }, mine.signal), beginning]);
    if (mine !== asking) return;
    answer = found;
    trouble("");
    $("login").hidden = true;
    draw(performance.now() - start);
  } catch (error) {
    if (mine === asking) failed(error);
  } finally {
    clearTimeout(slow);
    if (mine === asking) {
      asking = null;
      busy(false);
      if (again) askSoon();
    }
  }
}

async function begin(signal) {
  const told = await call("/v1/samples", null, signal);
  samples = { ...told, version: told.model_version };
  for (const option of $("k").options) option.disabled = Number(option.value) > told.k;
  offer();
  if (!state.id) choose("item", random().item_id, false);
}

function random() {
  const item = samples.items.pop();
  if (!samples.items.length) samples.version = null; // ask for more
  return item;
}

function failed(error) {
  if (error.name === "AbortError") return;
  if (error.status === undefined && error.again === undefined) throw error; // ours
  $("login").hidden = error.status !== 401;
  const kept = answer ? " What you see is the last good answer." : "";
  trouble(error.message + kept + (error.again ? " Trying again by itself." : ""));
  if (error.again) timer ||= setTimeout(compare, 1000 * Math.min(error.again, 30));
}

function trouble(text) {
  if ($("trouble").textContent !== text) $("trouble").replaceChildren(...(text ? [el("p", {}, text)] : []));
}

function busy(yes) {
  $("lists").setAttribute("aria-busy", yes);
  $("lists").classList.toggle("slow", yes && answer !== null);
}

// ---- the address

function read() {
  const query = new URLSearchParams(location.search);
  state.kind = query.has("user") ? "user" : "item";
  state.id = query.get(state.kind) ?? "";
  const k = Number(query.get("k"));
  state.k = [...$("k").options].some((option) => Number(option.value) === k) ? k : 20;
  const alpha = Number.parseFloat(query.get("alpha"));
  state.alpha = alpha >= 0 && alpha <= 100 ? alpha : null;
  const named = (query.get("quotas") ?? "").split(",").filter(Boolean).map((part) => part.split(":"));
  state.quotas = named.length ? Object.fromEntries(named.map(([name, quota]) => [name, Number(quota) || 0])) : null;
  show();
}

function address(item = null) {
  const query = new URLSearchParams(item === null ? { [state.kind]: state.id } : { item });
  query.set("k", state.k);
  if (state.alpha !== null) query.set("alpha", state.alpha);
  if (state.quotas) query.set("quotas", Object.entries(state.quotas).map(([name, quota]) => `${name}:${quota}`).join(","));
  return `?${query}`;
}

function choose(kind, id, remember = true) {
  Object.assign(state, { kind, id });
  history[remember ? "pushState" : "replaceState"](null, "", address());
  show();
}

let remembering = 0;

function change(what) {
  Object.assign(state, what);
  clearTimeout(remembering); // browsers allow few changes of the address a second
  remembering = setTimeout(() => history.replaceState(null, "", address()), 250);
  show();
}

function show() {
  for (const radio of document.getElementsByName("kind")) radio.checked = radio.value === state.kind;
  kindChosen();
  $("k").value = state.k;
  if (state.alpha !== null) showAlpha(state.alpha);
  $("served").disabled = state.alpha === null && !state.quotas;
}

// ---- the version's channels

function showChannels() {
  const own = answer.heads.every((name) => TWO.includes(name)) ? TWO : answer.heads;
  if (own.join() !== channels.join()) {
    channels = own;
    $("lists").replaceChildren(...columns().map(column));
    document.querySelector(".columns").replaceChildren(
      document.querySelector(".columns legend"), ...columns().map(choice));
  }
  for (const part of document.querySelectorAll(".of-alpha")) part.hidden = Boolean(answer.quotas);
  $("quotas").hidden = !answer.quotas;
  if (!answer.quotas) return;
  if ($("quotas").children.length !== channels.length) $("quotas").replaceChildren(...channels.map(slider));
  for (const input of $("quotas").querySelectorAll("input")) {
    const quota = answer.quotas[input.name];
    if (document.activeElement !== input) input.value = quota;
    input.nextElementSibling.textContent = `${quota.toFixed(quota % 1 ? 1 : 0)} %`;
  }
}

function colour(node, name) { // the style sheet's, or one by the channel's place
  const hue = (150 + 77 * channels.indexOf(name)) % 360;
  if (TWO.includes(name) || name === "merged") node.classList.add(name);
  else node.style.setProperty("--own", `light-dark(hsl(${hue} 70% 28%), hsl(${hue} 60% 75%))`);
  return node;
}

function column(name) {
  const title = name === "merged" ? "Merged" : `${name[0].toUpperCase()}${name.slice(1)} ${answer.quotas ? "channel" : "head"}`;
  const section = el("section", { className: "list" },
    el("h2", { id: `${name}-name` }, title), el("div", { className: "share" }), el("ol", {}));
  section.dataset.name = name;
  section.setAttribute("aria-labelledby", `${name}-name`);
  section.classList.toggle("chosen", name === document.querySelector("main").dataset.column);
  return colour(section, name);
}

function choice(name) {
  const radio = el("input", { type: "radio", name: "column", value: name, checked: name === document.querySelector("main").dataset.column });
  radio.addEventListener("change", chooseColumn);
  return el("label", {}, radio, el("span", {}, name[0].toUpperCase() + name.slice(1)));
}

function chooseColumn(event) {
  document.querySelector("main").dataset.column = event.target.value;
  for (const section of document.querySelectorAll(".list")) section.classList.toggle("chosen", section.dataset.name === event.target.value);
}

function slider(name) {
  const input = el("input", { type: "range", min: 0, max: 100, step: 1, name, ariaLabel: `percent from the ${name} channel` });
  input.addEventListener("input", () => {
    // The others share what is left as they do now, or evenly where they have nothing.
    const now = state.quotas ?? answer.quotas;
    const others = channels.filter((other) => other !== name);
    const sum = others.reduce((total, other) => total + (now[other] ?? 0), 0);
    const left = 100 - Number(input.value);
    const share = (other) => (sum ? (left * (now[other] ?? 0)) / sum : left / others.length);
    change({ quotas: { [name]: Number(input.value), ...Object.fromEntries(others.map((other) => [other, share(other)])) } });
    askSoon();
  });
  return colour(el("label", {}, el("span", {}, name), input, el("output", {})), name);
}

function showAlpha(alpha) {
  $("alpha").value = alpha;
  $("alpha-value").textContent = `${alpha} %`;
  $("alpha").setAttribute("aria-valuetext", `${alpha} percent from the engagement head`);
}

// ---- the search box: a combobox as WAI-ARIA has it

const box = { options: [], active: -1, asked: null };
const searching = () => document.querySelector("[name=kind]:checked").value;

function kindChosen() {
  const user = searching() === "user";
  $("search-label").textContent = user ? "User id" : "Trigger item: title or id";
  $("random").textContent = user ? "Next user" : "Random item";
  offer();
  const same = searching() === state.kind;
  $("search").value = same ? (answer?.items[state.id]?.title ?? state.id) : "";
  $("search").placeholder = user ? "Type an id, or choose one with ↓" : "Type a word of a title, or an id";
  close();
}

function offer() {
  $("random").disabled = searching() === "user" && !samples.users.length;
}

function close() {
  clearTimeout(box.timer);
  box.asked?.abort();
  Object.assign(box, { options: [], active: -1 });
  $("found").hidden = true;
  $("search").setAttribute("aria-expanded", false);
  $("search").removeAttribute("aria-activedescendant");
}

async function search(text) {
  box.asked?.abort();
  const mine = (box.asked = new AbortController());
  text = text.trim();
  if (searching() === "user") {
    const users = samples.users.filter((user) => user.includes(text)).map((id) => ({ id, title: id, note: "sample user" }));
    if (text && !samples.users.includes(text)) users.unshift({ id: text, title: text, note: "this user id" });
    return list(users, "No sample users: type an id");
  }
  try {
    const query = new URLSearchParams({ q: text, limit: 12 });
    const { items } = await call(`/v1/items?${query}`, null, mine.signal);
    if (mine !== box.asked || document.activeElement !== $("search")) return;
    const options = items.map((item) => ({
      id: item.item_id,
      title: item.title || item.item_id,
      note: [item.item_id, ...item.l2_topics].join(" · "),
    }));
    if (!options.length) options.push({ id: text, title: `Ask with “${text}”`, note: "no title or id has it; an unseen item is a normal request" });
    list(options, "");
  } catch (error) {
    if (mine === box.asked) failed(error);
  }
}

function list(options, nothing) {
  box.options = options;
  const nodes = options.map(({ title, note }, place) =>
    el("li", { id: `found-${place}`, role: "option", ariaSelected: "false" }, title, el("small", {}, note)));
  if (!nodes.length) nodes.push(el("li", { className: "nothing", role: "option", ariaDisabled: "true", ariaSelected: "false" }, nothing));
  $("found").replaceChildren(...nodes);
  $("found").hidden = false;
  $("search").setAttribute("aria-expanded", true);
  activate(options.length ? 0 : -1);
}

function activate(place) {
  box.active = place;
  [...$("found").children].forEach((node, at) => node.setAttribute("aria-selected", at === place));
  if (place < 0) return $("search").removeAttribute("aria-activedescendant");
  $("search").setAttribute("aria-activedescendant", `found-${place}`);
  $("found").children[place].scrollIntoView({ block: "nearest" });
}

function take(place) {
  const option = box.options[place];
  if (!option) return;
  const kind = searching();
  close();
  choose(kind, option.id);
  $("search").value = option.title;
  ask();
}

function keyed(event) {
  const open = !$("found").hidden;
  const n = box.options.length;
  const moves = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in moves) {
    event.preventDefault();
    if (!open) search(searching() === state.kind ? "" : $("search").value);
    else if (n) activate((box.active + moves[event.key] + n) % n);
  } else if (event.key === "Enter") {
    event.preventDefault();
    if (open) take(box.active);
    else search($("search").value);
  } else if (event.key === "Escape") {
    if (open) close();
    else kindChosen();
  }
}

// ---- drawing

function draw(browser) {
  const { lists, items, triggers } = answer;
  showChannels();
  if (state.alpha === null && answer.alpha !== null) showAlpha(answer.alpha);
  $("version").textContent = answer.model_version;
  $("arm").textContent = answer.arm;
  drawState();
  drawTriggers(triggers, items);
  drawLatency(answer.timings_ms, browser);
  const places = {};
  for (const name of columns()) places[name] = new Map((lists[name] ?? []).map((row, at) => [row.item_id, at + 1]));
  const hasTopics = Object.values(items).some((item) => item.l1_topics.length + item.l2_topics.length);
  const focused = document.activeElement?.closest?.(".list li")?.dataset.item;
  const within = document.activeElement?.closest?.(".list");
  for (const name of columns()) drawList(name, places, hasTopics);
  if (focused !== undefined) [...within.querySelectorAll("li")].find((li) => li.dataset.item === focused)?.querySelector("a").focus();
  if (document.activeElement !== $("search") && searching() === state.kind) $("search").value = items[state.id]?.title || state.id;
  const told = columns().map((name) => `${name} ${share(lists[name] ?? [])} %`).join(", ");
  const quotas = answer.quotas ? Object.entries(answer.quotas).map(([name, quota]) => `${name} ${quota}`).join(", ") : `alpha ${answer.alpha}`;
  $("said").textContent = `${quotas}: ${lists.merged.length} candidates; share an L2 topic: ${told}`;
  if (!document.body.dataset.drawn) performance.mark("first answer");
  document.body.dataset.drawn = answer.request_id;
}

function drawState() {
  const words = (part) => (part === "history" ? "the user’s history" : `the ${part} ${answer.quotas ? "channel" : "head"}`);
  $("state").className = answer.degraded ? "bad" : "";
  $("state").textContent = answer.degraded
    ? `degraded: without ${answer.missing.map(words).join(", ")}`
    : answer.heads.length > 2 ? `all ${answer.heads.length} channels answer`
    : answer.heads.length > 1 ? "both heads answer" : "the only head answers";
}

function drawTriggers(triggers, items) {
  const user = state.kind === "user";
  $("asked-name").textContent = user ? `User ${state.id}: last engaged, newest first` : "Trigger";
  const nodes = [];
  if (user && !triggers.length) nodes.push(el("p", { className: "note" }, "Nothing is known of this user: there is nothing to start from."));
  if (user && triggers.length)
    nodes.push(el("ol", {}, ...triggers.map((id) => el("li", {}, link(id, items[id]?.title || id)))));
  if (!user) {
    const item = items[state.id];
    nodes.push(el("p", { className: "title" }, item?.title || state.id));
    nodes.push(item ? topics(item, new Set()) : el("p", { className: "note" }, "This version has not seen this item."));
    nodes.push(el("p", { className: "from" }, item ? [state.id, ...item.l1_topics].join(" · ") : ""));
  }
  $("triggers").replaceChildren(...nodes);
}

function drawLatency(times, browser) {
  const heads = channels.filter((head) => times[head] !== undefined);
  const before = times.history ?? 0;
  const after = before + Math.max(0, ...heads.map((head) => times[head]));
  const total = times.total ?? after + (times.merge ?? 0);
  const stages = [["history", 0, times.history], ...channels.map((head) => [head, before, times[head]]),
    ["merge", after, times.merge], ["total", 0, total]];
  const nodes = stages.map(([name, from, length]) => {
    const bar = channels.includes(name) ? colour(el("i", {}), name) : el("i", { className: name });
    bar.style.marginLeft = `${(100 * Math.min(from, total)) / total}%`;
    bar.style.width = `${(100 * Math.min(length ?? 0, total - from)) / total}%`;
    return el("div", {}, el("dt", {}, name),
      el("dd", {}, el("span", { className: "track" }, length === undefined ? "" : bar),
        el("span", { className: "ms" }, length === undefined ? "not asked" : `${length.toFixed(length < 10 ? 2 : 1)} ms`)));
  });
  $("latency").replaceChildren(...nodes);
  $("browser").textContent = `in the browser ${browser.toFixed(0)} ms`;
}

function share(rows, levels = ["l2"]) {
  return rows.length ? Math.round((100 * rows.filter((row) => levels.includes(row.topic_match)).length) / rows.length) : 0;
}

function drawList(name, places, hasTopics) {
  const section = document.querySelector(`.list[data-name="${name}"]`);
  const rows = answer.lists[name] ?? [];
  const bar = el("i", {});
  bar.style.width = `${share(rows)}%`;
  const words = !rows.length ? ["no candidates"] : !hasTopics ? ["this data has no topics"]
    : [el("b", {}, `${share(rows)} % share an L2 topic`), `, ${share(rows, ["l1"])} % an L1 topic alone`];
  const counts = name === "merged"
    ? channels.map((head) => `${rows.filter((row) => row.head === head).length} from ${head}`).join(", ")
    : `${rows.filter((row) => places.merged.has(row.item_id)).length} of ${rows.length} in the merge`;
  section.querySelector(".share").replaceChildren(...words, el("div", { className: "track" }, bar), counts);
  const nodes = rows.map((row, at) => drawRow(name, row, at + 1, places));
  section.querySelector("ol").replaceChildren(...(nodes.length ? nodes : [el("li", { className: "empty" }, why(name))]));
}

function why(name) {
  if (answer.missing.includes(name)) return answer.quotas
    ? "This channel did not answer; the merge is filled up from the others." : "This head did not answer; the merge is filled up from the other one.";
  if (name !== "merged" && !answer.heads.includes(name)) return "This version has no such head.";
  return "Nothing: the request has no trigger that this version knows.";
}

function drawRow(name, row, rank, places) {
  const item = answer.items[row.item_id];
  const trigger = answer.items[row.trigger_id];
  const known = new Set([...(trigger?.l1_topics ?? []), ...(trigger?.l2_topics ?? [])]);
  const both = channels.every((head) => places[head].has(row.item_id));
  const merged = places.merged.get(row.item_id);
  const facts = topics(item, known);
  const tell = (className, text) => facts.append(el("span", { className }, text));
  if (name === "merged") facts.append(colour(el("span", { className: "head" }, `${row.head} ${row.head_rank}`), row.head));
  if (both) tell("both", channels.length > 2 ? "all" : "both");
  if (name !== "merged") tell("from", merged ? `merged ${merged}` : "not merged");
  if (answer.triggers.length > 1) tell("from", `via ${trigger?.title || row.trigger_id}`);
  const mark = row.topic_match;
  const details = mark === "l2" ? "shares an L2 topic with its trigger" : mark === "l1" ? "shares an L1 topic" : "shares no topic";
  const li = el("li", {},
    el("span", { className: "rank" }, rank),
    el("div", {}, el("span", { className: "title" }, link(row.item_id, item.title || row.item_id)), facts),
    el("div", { className: "right" },
      el("span", { className: `mark ${mark ?? "none"}`, title: details }, MARKS[mark] ?? "none"),
      el("span", { className: "score", title: "score: p(candidate | user) of its head" }, row.score.toPrecision(3))));
  li.dataset.item = row.item_id;
  return li;
}

function link(id, text) {
  const node = el("a", { href: address(id), title: `Start from this item (${id})` }, text);
  node.dataset.id = id;
  return node;
}

function topics(item, same) {
  const fine = item.l2_topics.map((topic) => [topic, ""]);
  const coarse = item.l1_topics.filter((topic) => same.has(topic)).map((topic) => [topic, " (L1)"]);
  const shown = fine.some(([topic]) => same.has(topic)) ? fine : [...fine, ...coarse];
  return el("div", { className: "topics" }, ...shown.map(([topic, level]) =>
    el("span", { className: same.has(topic) ? "topic same" : "topic" }, topic + level)));
}

function highlight(item) {
  for (const li of document.querySelectorAll(".list li")) li.classList.toggle("same", item !== undefined && li.dataset.item === item);
}

// ---- what people do

$("ask").addEventListener("submit", (event) => event.preventDefault());
for (const radio of document.getElementsByName("kind")) radio.addEventListener("change", kindChosen);
for (const radio of document.getElementsByName("column")) radio.addEventListener("change", chooseColumn);
$("search").addEventListener("keydown", keyed);
$("search").addEventListener("focus", () => $("search").select());
$("search").addEventListener("click", () => $("found").hidden && search(searching() === state.kind ? "" : $("search").value));
$("search").addEventListener("input", () => {
  clearTimeout(box.timer);
  box.timer = setTimeout(() => search($("search").value), 100);
});
$("search").addEventListener("blur", () => {
  close();
  if (searching() === state.kind) kindChosen();
});
$("found").addEventListener("mousedown", (event) => {
  event.preventDefault(); // the focus stays in the box
  take([...$("found").children].indexOf(event.target.closest("li")));
});
$("random").addEventListener("click", () => {
  if (searching() === "user") {
    const { users } = samples;
    choose("user", users[(users.indexOf(state.kind === "user" ? state.id : "") + 1) % users.length]);
  } else if (samples.items.length) choose("item", random().item_id);
  else Object.assign(state, { kind: "item", id: "" });
  ask();
});
$("k").addEventListener("change", () => {
  change({ k: Number($("k").value) });
  ask();
});
$("alpha").addEventListener("input", () => {
  change({ alpha: Number($("alpha").value) });
  askSoon();
});
$("served").addEventListener("click", () => {
  change({ alpha: null, quotas: null });
  (answer?.quotas ? $("quotas").querySelector("input") : $("alpha")).focus();
  ask();
});
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value.trim());
  $("token").value = "";
  ask();
});
document.addEventListener("click", (event) => {
  const id = event.target.closest("a")?.dataset.id;
  if (id === undefined || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  choose("item", id);
  $("asked-name").focus();
  ask();
});
for (const [come, go] of [["mouseover", "mouseout"], ["focusin", "focusout"]]) {
  $("lists").addEventListener(come, (event) => highlight(event.target.closest("li")?.dataset.item));
  $("lists").addEventListener(go, () => highlight());
}
window.addEventListener("popstate", () => {
  read();
  ask();
});

$("state").className = "wait";
const ghost = () => el("li", { ariaHidden: "true" }, el("span", {}), el("div", {}, el("span", { className: "ghost" }), el("span", { className: "ghost" })));
for (const ol of document.querySelectorAll(".list ol")) ol.append(...Array.from({ length: 8 }, ghost));
read();
ask();
