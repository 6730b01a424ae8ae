"use strict";
// Asks the daemon once a second for the documents that flannelctl shows, and draws what has changed. Text goes into the
// page as text only, so nothing that a record in the store says can become a part of the page.

const EVERY = 1000, KEPT = 90, SILENT = 10, IDLE = 60;
const NAMES = { udp: "UDP form", vxlan: "VXLAN form", plain: "unwrapped" };
const $ = (id) => document.getElementById(id);

let looks = [];          // the last two looks
let history = [];        // rates in all, newest last
let unanswered = {};     // by node: for how many seconds it was sent to and sent nothing
let chosen = null;       // the node pointed at
let drawn = "";          // what the picture was laid out for
const parts = new Map(); // what it is made of, by node

// ---- asking ----

async function get(name) {
  const answer = await fetch(name + ".json", { cache: "no-store" });
  return answer.ok ? answer.json() : null;
}

async function look() {
  const at = performance.now();
  const status = await get("status"), peers = await get("peers"), drops = await get("drops"), stats = await get("stats");
  return { at, status, drops, stats, peers: peers ? peers.peers : [] };
}

async function turn() {
  try {
    const now = await look();
    looks = [...looks, now].slice(-2);
    show(now, looks.length > 1 ? looks[0] : now);
  } catch (error) {
    verdict("bad", "the daemon does not answer");
  }
  setTimeout(turn, EVERY);
}

// ---- what was moved between two looks ----

function rates(before, now) {
  const seconds = Math.max((now.at - before.at) / 1000, 0.001);
  const more = (a, b) => Math.max(b - a, 0) / seconds;
  const earlier = new Map(before.peers.map((peer) => [peer.address, peer.traffic]));
  const peers = new Map(now.peers.map((peer) => {
    const to = peer.traffic, from = earlier.get(peer.address) || to;
    return [peer.address, to && {
      out: more(from.sent_packets, to.sent_packets), outBits: 8 * more(from.sent_bytes, to.sent_bytes),
      in: more(from.received_packets, to.received_packets), inBits: 8 * more(from.received_bytes, to.received_bytes),
      unsent: more(from.unsent_packets, to.unsent_packets),
    }];
  }));
  const past = new Map(before.drops.reasons.map((drop) => [drop.reason, drop.packets]));
  const drops = now.drops.reasons.filter((drop) => drop.packets > 0)
    .map((drop) => ({ ...drop, rate: more(past.get(drop.reason) || 0, drop.packets) }))
    .sort((a, b) => b.rate - a.rate || b.packets - a.packets);
  const count = (look, name) => (look.stats.counters.find((one) => one.name === name) || { total: 0, workers: [] });
  const total = (name) => more(count(before, name).total, count(now, name).total);
  const workers = count(now, "to_underlay_packets").workers.map((_, worker) => {
    const of = (name) => more(count(before, name).workers[worker] || 0, count(now, name).workers[worker]);
    return { out: of("to_underlay_packets"), sends: of("underlay_sends"), in: of("to_tun_packets"), writes: of("tun_writes"), sleeps: of("sleeps") };
  });
  return {
    peers, drops, workers,
    out: 8 * total("to_underlay_bytes"), in: 8 * total("to_tun_bytes"), dropped: drops.reduce((sum, drop) => sum + drop.rate, 0),
  };
}

// How a node fares, as far as this one can know, worst first.
function health(peer, rate) {
  const traffic = peer.traffic;
  if (!traffic || !rate) return ["", "carried by the kernel, not counted"];
  const seen = traffic.seen_seconds_ago, waits = seen === null || seen >= SILENT;
  unanswered[peer.address] = waits && rate.out > 0 ? (unanswered[peer.address] || 0) + 1 : waits ? unanswered[peer.address] || 0 : 0;
  if (rate.unsent > 0) return ["failing", "the kernel does not send what goes there"];
  if (unanswered[peer.address] >= SILENT) return ["doubtful", "packets go there, none come back"];
  if (seen === null) return ["quiet", "nothing has come from there yet"];
  return seen > IDLE ? ["quiet", "quiet for " + time(seen)] : ["", "heard " + time(seen) + " ago"];
}

// ---- words ----

function short(value) {
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return (value / size).toPrecision(3) + " " + letter;
  }
  return (value > 0 && value < 10 ? value.toFixed(1) : value.toFixed(0)) + " ";
}
const bits = (value) => short(value) + "bit/s";

function time(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = Math.max(units.findIndex(([, size]) => seconds >= size), 0);
  if (seconds < 1) return "0 s";
  const [name, size] = units[first], rest = units[first + 1];
  const second = rest ? Math.floor((seconds % size) / rest[1]) : 0;
  return Math.floor(seconds / size) + " " + name + (second ? " " + second + " " + rest[0] : "");
}

// ---- the page ----

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function drawing(name, settings, parent, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(settings)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function verdict(kind, text) {
  $("verdict").className = kind;
  $("verdict").textContent = text;
}

function show(now, before) {
  const status = now.status, problems = status.problems.length, rate = rates(before, now);
  const name = status.node ? status.node.public.join(", ") : "flanneld";
  document.title = (problems ? "✗ " : "") + name + " · flannel";
  $("node").textContent = name;
  $("subnets").textContent = status.lease ? status.lease.subnets.join(", ") : "";
  verdict(problems ? "bad" : "good", problems ? problems + (problems > 1 ? " problems" : " problem") : "✓ all is well");
  $("problems").hidden = !problems;
  $("problems").replaceChildren(...status.problems.map((problem) => element("li", problem)));
  const seen = now.peers.map((peer) => ({ ...peer, rate: rate.peers.get(peer.address), health: health(peer, rate.peers.get(peer.address)) }));
  history = [...history, rate].slice(-KEPT);
  picture(status, seen);
  lines();
  facts(status);
  peerTable(seen);
  dropTable(rate.drops);
  workerTable(rate.workers);
}

function lines() {
  const sides = [["out", bits], ["in", bits], ["drop", (value) => short(value) + "/s"]];
  for (const [id, told] of sides) {
    const values = history.map((rate) => (id === "drop" ? rate.dropped : rate[id]));
    const most = Math.max(...values, 1), step = 100 / (KEPT - 1);
    const points = values.map((value, place) => (100 - (values.length - 1 - place) * step).toFixed(2) + " " + (42 - 38 * value / most).toFixed(2));
    const svg = $(id + "-line"), path = "M" + points.join("L");
    svg.setAttribute("viewBox", "0 0 100 44");
    svg.setAttribute("preserveAspectRatio", "none");
    const first = (100 - (values.length - 1) * step).toFixed(2);
    svg.replaceChildren(drawing("path", { d: path + "L100 44L" + first + " 44Z", class: "under" }), drawing("path", { d: path }));
    $(id + "-now").textContent = told(values[values.length - 1]);
  }
}

function facts(status) {
  const { lease, network, node, store, engine, others } = status, on = (value) => (value ? "on" : "off");
  const forms = network ? [{ name: network.backend, port: network.port }, network.beside].filter(Boolean) : [];
  const ports = forms.map((form) => form.port).filter(Boolean);
  const told = [
    lease && ["Lease", lease.subnets.join(", "), lease.standing + ", here for " + time(lease.age_seconds)
      + (lease.expires_in_seconds === null ? "" : ", would end in " + time(lease.expires_in_seconds))],
    network && ["Network", network.ranges.join(", "), forms.map((form) => form.name).join(" and ") + " by the " + network.carried_by
      + ", MTU " + network.mtu + (ports.length ? ", UDP port " + ports.join(" and ") : "") + (network.direct_routing ? ", neighbours directly" : "")],
    node && ["This node", node.public.join(", "), node.interface + ", MTU " + node.mtu],
    ["Store", store.kind + " at " + store.places.join(", "), (store.answers ? "answers" : "does not answer") + ", for " + time(store.since_seconds)
      + (others ? "; " + others.records + " records, " + others.refused + " refused, " + others.unreadable + " unreadable" : "")],
    engine && ["Engine", engine.io + ", " + engine.workers + (engine.workers > 1 ? " workers" : " worker"), engine.device + ": tso " + on(engine.tso)
      + ", uso " + on(engine.uso) + ", gso " + engine.gso_segments + ", gro " + on(engine.gro) + ", merge " + on(engine.merge)
      + (engine.shortcut ? ", shortcut at " + engine.shortcut : "")],
    ["Process", "flanneld " + status.version + ", " + status.pid, "up " + time(status.uptime_seconds)],
  ];
  $("facts").replaceChildren(...told.filter(Boolean).map(([name, first, more]) => {
    const fact = element("div");
    fact.append(element("h2", name), element("p", first), element("p", more, "more"));
    return fact;
  }));
}

// Columns are a heading and what to show of a row; numbers go to the right.
function table(id, rows, columns, empty) {
  const head = element("tr"), number = (value) => typeof value === "string" && /^[\d-]/.test(value);
  const cells = rows.map((row) => columns.map(([, told]) => told(row)));
  const right = columns.map((_, column) => column > 0 && cells.length > 0 && cells.every((row) => number(row[column]) && !row[column].includes("/")));
  columns.forEach(([name], column) => head.append(element("th", name, right[column] ? "number" : "")));
  const body = cells.map((row, place) => {
    const line = element("tr");
    row.forEach((cell, column) => {
      const made = element("td", typeof cell === "string" ? cell : undefined, right[column] ? "number" : "");
      if (typeof cell !== "string") made.append(...cell);
      line.append(made);
    });
    if (rows[place].address) point(line, rows[place].address);
    return line;
  });
  if (!rows.length) {
    const line = element("tr");
    line.append(element("td", empty, "none"));
    return $(id).replaceChildren(line);
  }
  $(id).replaceChildren(head, ...body);
}

function peerTable(peers) {
  const of = (told) => (peer) => (peer.rate ? told(peer) : "-"), known = (value) => (value === null || value === undefined ? "-" : String(value));
  const dot = (peer) => {
    const mark = element("i", "", peer.health[0]);
    mark.title = peer.health[1];
    return [mark, peer.address];
  };
  table("peers", peers, [
    ["node", dot], ["subnets", (peer) => peer.subnets.join(", ")], ["form", (peer) => peer.form], ["MTU", (peer) => known(peer.mtu)],
    ["path", (peer) => known(peer.traffic && peer.traffic.path_mtu)],
    ["out/s", of((peer) => short(peer.rate.out))], ["out bit/s", of((peer) => short(peer.rate.outBits))],
    ["in/s", of((peer) => short(peer.rate.in))], ["in bit/s", of((peer) => short(peer.rate.inBits))],
    ["unsent", of((peer) => String(peer.traffic.unsent_packets))], ["dropped", of((peer) => known(peer.traffic.dropped_packets))],
    ["fares", (peer) => peer.health[1]],
  ], "no other node is known");
}

function dropTable(drops) {
  table("drops", drops, [
    ["reason", (drop) => drop.reason], ["packets", (drop) => String(drop.packets)], ["a second", (drop) => short(drop.rate)], ["meaning", (drop) => drop.about],
  ], "every packet was carried");
}

function workerTable(workers) {
  const part = (packets, messages) => (messages ? (packets / messages).toFixed(1) : "-");
  table("workers", workers.map((worker, number) => ({ ...worker, number })), [
    ["worker", (worker) => String(worker.number)], ["out/s", (worker) => short(worker.out)], ["a send", (worker) => part(worker.out, worker.sends)],
    ["in/s", (worker) => short(worker.in)], ["a write", (worker) => part(worker.in, worker.writes)], ["sleeps/s", (worker) => short(worker.sleeps)],
  ], "no packet engine is at work here");
}

// Pointing at a row marks the node in the picture, and the other way round.
function point(made, address) {
  made.classList.toggle("chosen", address === chosen);
  made.onpointerenter = () => { chosen = address; tell(); };
  made.onpointerleave = () => { chosen = null; tell(); };
}

function tell() {
  const part = parts.get(chosen);
  $("chosen").textContent = part ? part.hint.textContent : "";
}

// ---- the picture ----

// Too many for the names of all: pointing at a node tells its name.
const crowded = (count, width) => count > 14 && width < 560;

// Places round the middle; many nodes stand in two rows so that their names have room.
function places(count, width, height) {
  const rows = count > 14 ? [1, 0.66] : [1], names = crowded(count, width) ? 16 : Math.min(88, width * 0.17);
  if (count === 1) return [{ x: width * 0.72, y: height / 2 }];
  return Array.from({ length: count }, (_, place) => {
    const angle = (place / count) * 2 * Math.PI - Math.PI / 2, far = rows[place % rows.length];
    return { x: width / 2 + Math.cos(angle) * (width / 2 - names) * far, y: height / 2 + Math.sin(angle) * (height / 2 - 44) * far };
  });
}

function picture(status, peers) {
  const svg = $("mesh"), width = Math.max(svg.clientWidth, 280), small = width < 560;
  const height = peers.length > 14 ? (small ? 460 : 560) : peers.length > 2 ? (small ? 340 : 400) : 220;
  const layout = [width, height, status.node && status.node.public, ...peers.map((peer) => peer.address + peer.form)].join(" ");
  if (layout !== drawn) draw(svg, status, peers, width, height);
  drawn = layout;
  for (const peer of peers) update(peer);
  legend(peers);
  tell();
}

function draw(svg, status, peers, width, height) {
  const middle = { x: peers.length === 1 ? width * 0.28 : width / 2, y: height / 2 }, spots = places(peers.length, width, height), taken = [];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = height + "px";
  svg.replaceChildren();
  parts.clear();
  const links = drawing("g", {}, svg), nodes = drawing("g", {}, svg);
  peers.forEach((peer, place) => {
    const spot = spots[place], dx = spot.x - middle.x, dy = spot.y - middle.y, long = Math.hypot(dx, dy) || 1;
    const beside = (by) => `M${middle.x - dy / long * by} ${middle.y + dx / long * by}L${spot.x - dy / long * by} ${spot.y + dx / long * by}`;
    const part = {
      link: drawing("path", { d: beside(0) }, links),
      out: drawing("path", { d: beside(3) }, links), in: drawing("path", { d: beside(-3) }, links),
      node: drawing("g", {}, nodes),
    };
    part.hint = drawing("title", {}, part.node);
    part.spot = drawing("circle", { cx: spot.x, cy: spot.y, r: peers.length > 14 ? 7 : 10 }, part.node);
    const above = dy < -1, edge = peers.length > 14 ? 11 : 15, first = above ? spot.y - edge - 13 : spot.y + edge + 8;
    if (!crowded(peers.length, width) && room(taken, spot.x, first, peer.address.length * 7.2, peers.length > 14 ? 14 : 28)) {
      drawing("text", { x: spot.x, y: peers.length > 14 && above ? first + 13 : first, class: "halo" }, part.node, peer.address);
      if (peers.length <= 14) part.told = drawing("text", { x: spot.x, y: first + 15, class: "faint halo" }, part.node, "");
    }
    parts.set(peer.address, part);
  });
  drawing("circle", { cx: middle.x, cy: middle.y, r: 14, class: "self" }, nodes);
  const name = status.node ? status.node.public[0] : "this node";
  drawing("text", { x: middle.x, y: middle.y + 31, class: "halo" }, nodes, name);
}

// Whether a name fits beside those that are there.
function room(taken, x, y, width, height) {
  const box = [x - width / 2 - 3, y - 12, x + width / 2 + 3, y + height - 8];
  const free = taken.every((other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3]);
  if (free) taken.push(box);
  return free;
}

function update(peer) {
  const part = parts.get(peer.address), [state, words] = peer.health, rate = peer.rate || { outBits: 0, inBits: 0, out: 0, in: 0 };
  const thick = (value) => (value > 0 ? Math.min(1.2 + Math.log10(1 + value / 1e3) * 0.5, 4) * (parts.size > 14 ? 0.7 : 1) : 0);
  const color = state === "doubtful" || state === "failing" ? state : peer.form;
  const width = Math.max(2, thick(rate.outBits + rate.inBits) * 0.7);
  part.link.setAttribute("class", ["link", color, state === "quiet" ? "quiet" : ""].join(" "));
  part.link.style.strokeWidth = (peer.address === chosen ? width + 3 : width) + "px";
  part.link.style.strokeOpacity = rate.out + rate.in > 0 ? 0.45 : 0.9;
  for (const side of ["out", "in"]) {
    const wide = thick(rate[side + "Bits"]);
    part[side].setAttribute("class", ["flow", side, color, wide ? "moving" : ""].join(" "));
    part[side].style.strokeWidth = wide + "px";
    part[side].style.animationDuration = Math.max(0.35, 1.4 - wide * 0.25) + "s";
  }
  part.spot.setAttribute("class", "spot " + color);
  part.hint.textContent = `${peer.address}  ${peer.subnets.join(", ")}\n${NAMES[peer.form] || peer.form}, ${words}\nout ${bits(rate.outBits)}, in ${bits(rate.inBits)}`;
  if (part.told) part.told.textContent = told(peer, rate, words);
  point(part.node, peer.address);
}

function told(peer, rate, words) {
  if (!peer.rate || peer.health[0]) return words.length > 22 ? { failing: "not sent", doubtful: "no answer", quiet: "quiet" }[peer.health[0]] || peer.subnets[0] : words;
  return rate.out + rate.in > 0 ? `↑ ${short(rate.outBits)}  ↓ ${short(rate.inBits)}` : peer.subnets[0];
}

function legend(peers) {
  const forms = [...new Set(peers.map((peer) => peer.form))].map((form) => [form, NAMES[form] || form]);
  const states = [["quiet", "quiet"], ["doubtful", "no answer"], ["failing", "not sent"]].filter(([state]) => peers.some((peer) => peer.health[0] === state));
  const items = [...forms, ...states].map(([kind, words]) => {
    const item = element("span"), line = drawing("svg", { viewBox: "0 0 28 8" });
    drawing("line", { x1: 1, x2: 27, y1: 4, y2: 4, class: kind === "quiet" ? "plain quiet" : kind }, line);
    item.append(line, words);
    return item;
  });
  $("legend").replaceChildren(...items);
}

turn();
