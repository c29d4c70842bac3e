// The dashboard: asks the API as any other client, draws what it answers, asks again when something happened.
'use strict';

// --- Small tools
const $ = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat('en');
const n = (value) => (value === null || value === undefined ? '–' : numbers.format(value));
const many = (count, one, more) => `${n(count)} ${count === 1 ? one : more ?? one + 's'}`;
const seatsOf = (quota) => (quota === null || quota === undefined ? 'unlimited' : n(quota));
const path = (...parts) => parts.map(encodeURIComponent).join('/');

// Storage may be forbidden; then nothing is remembered.
const store = (area, key, value) => {
  try {
    const kept = window[area];
    if (value === undefined) return kept.getItem(key);
    return value === null ? kept.removeItem(key) : kept.setItem(key, value);
  } catch { return null; }
};

const SVG = 'http://www.w3.org/2000/svg';
function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(9).filter((child) => child || child === 0));
  return node;
}
const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

// Makes the children of `parent` like `fresh` and keeps what is the same, with its focus and scrolling.
function patch(parent, fresh) {
  const keyOf = (node) => node.dataset?.key;
  const wanted = new Set(fresh.map(keyOf));
  const known = new Map();
  for (const child of [...parent.children]) {
    const key = keyOf(child);
    if (key && !wanted.has(key)) child.remove();
    else if (key) known.set(key, child);
  }
  let at = parent.firstChild;
  for (const node of fresh) {
    const key = keyOf(node);
    const old = key ? known.get(key) : at && !keyOf(at) ? at : null;
    if (!old || old.nodeName !== node.nodeName) {
      parent.insertBefore(node, at);
      continue;
    }
    if (old === at) at = at.nextSibling;
    else parent.insertBefore(old, at);
    update(old, node);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function update(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whether it is open is for whoever opened it.
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  patch(old, [...fresh.childNodes]);
}

function draw(...nodes) {
  const focused = document.activeElement;
  patch($('main'), nodes.flat(9).filter(Boolean));
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

// --- Time and words
// By the daemon's clock, as it told it last: it may hurry, or be set otherwise than the reader's.
let ahead = 0;
const now = () => Date.now() + ahead;
const setClock = (iso) => { ahead = Date.parse(iso) - Date.now(); };

const HOUR = 3600e3, DAY = 24 * HOUR;
const HM = { hour: '2-digit', minute: '2-digit' }, DATE = { day: 'numeric', month: 'short', year: 'numeric' };
const written = (form) => new Intl.DateTimeFormat('en-GB', form);
const minute = written(HM), clock = written({ ...HM, second: '2-digit' }), weekday = written({ weekday: 'short', ...HM });
const dated = written({ weekday: 'short', ...DATE, ...HM }), dayOnly = written({ weekday: 'short', day: 'numeric' });

function time(iso, form) {
  if (!iso) return '–';
  const at = new Date(iso);
  const old = now() - at > 20 * HOUR;
  return h('time', { datetime: iso, title: dated.format(at) }, (form ?? (old ? dated : clock)).format(at));
}

// Contracts go by civil dates of the billing zone, whatever zone the reader is in; a time only where it is not midnight.
function day(iso, timeZone) {
  const at = new Date(iso);
  const part = (form) => written({ timeZone, ...form }).format(at);
  return h('time', { datetime: iso, title: `in ${timeZone}` }, part({ ...DATE, ...(part(HM) !== '00:00' && HM) }));
}

function lasting(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

const BANDS = { over: 'over quota', full: 'full', '90_to_100': '90 to 99 %', '80_to_90': '80 to 89 %', '50_to_80': '50 to 79 %', below_50: 'below 50 %', idle: 'no seat in use' };
const KINDS = { desktop: 'desktop client', mobile: 'paired mobile', phone: 'registered phone', connector: 'connector', guest: 'guest', call: 'call' };
const WHY = {
  'deny.full tenant': 'no free seat', 'deny.full pool': 'the provider’s pool is full', 'deny.full reservation': 'what is free is reserved',
  'deny.full channels': 'all trunk lines are in use', 'deny.full limit': 'a limit of the daemon', 'deny.inactive ended': 'the subscription ended',
  'deny.inactive suspended': 'the subscription is suspended', 'deny.inactive stale': 'the subscription is not confirmed', 'deny.inactive': 'no active subscription',
  'deny.unknown_tenant': 'no such tenant', 'deny.conflict': 'the session belongs to somebody else', 'allow.new': 'took a free seat', 'allow.over': 'above the quota',
  node: 'ended', ttl: 'not renewed in time', grace: 'its node was lost', epoch: 'its node restarted', inventory: 'gone from its node', ended: 'the subscription ended', admin: 'ended by hand',
};
// The rules of a step of an explanation, in a sentence; the command line says the same.
const RULES = {
  'C14': 'Emergency calls are always allowed',
  'C1 C5 C12 C13 B4 B6 B7 C4': 'Kind, direction and leg decide whether a seat is required',
  'D4': 'The tenant must be known',
  'G1 G4 G5': 'A known session is renewed, never counted twice',
  'G5': 'A late message changes nothing',
  'G5 G8': 'A message from before its node restarted changes nothing',
  'C18': 'Lifelines are allowed in any state of the subscription',
  'J5 J6 J7': 'New sessions require an active subscription',
  'L3': 'A call to outside requires a free trunk line',
  'D2': 'One seat is enough for all sessions of a subject',
  'D1 F6 F7': 'A free seat is granted',
  'F3': 'Lifelines and running sessions are admitted above the quota',
  'D3 F6 F7': 'Without a free seat the request is denied',
  'limits': 'The number of live sessions is limited',
};
const STATES = { trial: 'trial', active: 'active', pending_change: 'change booked', pending_cancel: 'cancellation booked', suspended: 'suspended', stale: 'not confirmed', ended: 'ended' };

function why(event) {
  if (event.message && event.type !== 'released') return event.message;
  const code = [event.code, event.detail].filter(Boolean).join(' ');
  return WHY[code] ?? WHY[event.code] ?? WHY[event.reason] ?? code;
}

// Said to who cannot look: the latest of many things, and not more often than one can hear.
let saidAt = 0, saying;
function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => { saidAt = Date.now(); $('say').textContent = text; }, Math.max(300, saidAt + 8000 - Date.now()));
}

// --- API
const TOKEN = 'usherd.token';
const token = () => store('sessionStorage', TOKEN);
const credentials = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

async function ask(url, options = {}) {
  const answer = await fetch(url, { ...options, cache: 'no-store', headers: { Accept: 'application/json', ...credentials(), ...options.headers } });
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  throw Object.assign(new Error(body.errors?.[0]?.detail ?? body.detail ?? `status ${answer.status}`), { status: answer.status });
}

const later = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  signal.addEventListener('abort', () => { clearTimeout(timer); done(); }, { once: true });
});

// Server-sent events, read by fetch because an EventSource cannot send a token. Tries again, resumes where it was.
async function listen(url, signal, heard) {
  let last = null, wait = 1000;
  while (!signal.aborted) {
    const cut = new AbortController();
    const stop = () => cut.abort();
    signal.addEventListener('abort', stop);
    let silent;
    // The daemon says at least every 15 seconds that it lives.
    const alive = () => { clearTimeout(silent); silent = setTimeout(stop, 40000); };
    try {
      alive();
      const answer = await fetch(url, { signal: cut.signal, cache: 'no-store', headers: { Accept: 'text/event-stream', ...credentials(), ...(last && { 'Last-Event-ID': last }) } });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      state('on', 'live');
      wait = 1000;
      view?.wake();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ''; ;) {
        const { done, value } = await reader.read();
        if (done) break;
        alive();
        const blocks = (rest + value).split('\n\n');
        rest = blocks.pop();
        for (const block of blocks) {
          const data = block.split('\n').find((line) => line.startsWith('data: '));
          if (!data) continue;
          const event = JSON.parse(data.slice(6));
          last = event.id ?? last;
          heard(event);
        }
      }
    } catch { /* Tried again below. */ }
    clearTimeout(silent);
    signal.removeEventListener('abort', stop);
    if (signal.aborted) return;
    state('off', 'connecting again');
    await later(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(wait * 2, 15000);
  }
}

function state(word, text) {
  if ($('live').dataset.state === word) return;
  $('live').dataset.state = word;
  $('live-text').textContent = text;
}

// --- What is looked at
// A view loads and draws; it is woken by events, and loads again at most once a second, less often where an
// answer takes long. What nobody looks at asks for nothing.
let view = null;

class View {
  constructor(title) {
    this.title = title;
    this.gone = new AbortController();
    this.due = 0;
  }

  show() {
    const signal = this.gone.signal;
    const tick = setInterval(() => this.wake(), 30000);
    signal.addEventListener('abort', () => { clearInterval(tick); clearTimeout(this.timer); });
    this.wake();
    if (this.stream) listen(this.stream, signal, (event) => this.heard(event));
  }

  heard(event) {
    if (event) this.wake();
  }

  wake() {
    if (this.timer || this.gone.signal.aborted) return;
    this.timer = setTimeout(() => this.refresh(), Math.max(0, this.due - Date.now()));
  }

  async refresh() {
    const began = Date.now();
    try {
      this.data = await this.load();
      this.at = new Date(now()).toISOString();
      this.fault = null;
    } catch (error) {
      this.fault = error;
    }
    this.timer = null;
    if (this.gone.signal.aborted) return;
    this.due = Date.now() + Math.max(1000, 10 * (Date.now() - began));
    this.redraw();
    if (this.fault && this.fault.status !== 401) setTimeout(() => this.wake(), 3000);
  }

  redraw() {
    if (this.fault?.status === 401) return drawLogin(this.fault);
    if (this.fault?.status === 404) return draw(h('h1', { tabindex: -1 }, this.title), h('p', {}, this.fault.message, '. ', h('a', { href: '#/' }, 'Back to the fleet')));
    if (!this.data) return draw(h('h1', { tabindex: -1 }, this.title), this.fault ? faultNotice(this) : h('p', { class: 'soft' }, 'Loading …'));
    draw(this.fault && faultNotice(this), this.nodes(this.data));
    this.drawn?.();
    if (this.wantsFocus) { document.querySelector('h1')?.focus({ preventScroll: true }); this.wantsFocus = false; }
  }
}

const faultNotice = (shown) => h('p', { class: 'notice alert', role: 'alert', 'data-key': 'fault' },
  `The daemon does not answer (${shown.fault.message}).`, shown.at && [' What you see is from ', time(shown.at), '.']);

const heading = (title, ...more) => h('div', { class: 'head', 'data-key': 'head' }, h('h1', { tabindex: -1 }, title), more);
const section = (key, width, ...children) => h('section', { class: width, 'data-key': key }, children);
const figure = (label, value, small, more = {}) => h('div', { class: more.wide && 'wide' }, h('dt', {}, label), h('dd', { id: more.id, class: more.bad && 'bad' }, value, small && [' ', h('small', {}, small)], more.below));
const row = (key, ...cells) => h('tr', { 'data-key': key }, cells);
const soft = (...children) => h('span', { class: 'soft' }, children);
const th = (...children) => h('th', { scope: 'row' }, children);
const td = (...children) => h('td', {}, children);
const num = (...children) => h('td', { class: 'n' }, children);
const tag = (word, text) => h('span', { class: `tag ${word}` }, text);

// A table, or a sentence where there is nothing to list. Columns that begin with # hold numbers; those that begin
// with ? are left out on a phone; an empty one holds buttons.
function table(caption, columns, rows, nothing, note) {
  const head = columns.map((column) => h('th', { scope: 'col', class: column[0] === '#' ? 'n' : column[0] === '?' ? 'opt' : null }, column ? column.replace(/^[#?]/, '') : h('span', { class: 'hidden' }, 'Actions')));
  return h('div', { class: 'scroll', ...(rows.length > 8 && { tabindex: 0, role: 'region', 'aria-label': caption }) }, h('table', {},
    h('caption', {}, h('h2', {}, caption), note && [' ', h('small', {}, note)]),
    rows.length > 0 && h('thead', {}, h('tr', {}, head)),
    h('tbody', {}, rows.length > 0 ? rows : h('tr', { 'data-key': 'none' }, h('td', { class: 'soft' }, nothing)))));
}

const tenantLink = (id, name) => h('a', { href: `#/tenant/${encodeURIComponent(id)}` }, name ?? id);
const named = (tenant) => [tenantLink(tenant.tenant, tenant.name), tenant.name !== tenant.tenant && soft(` ${tenant.tenant}`)];

function fill(held, quota, what) {
  if (quota === null) return null;
  const most = Math.max(quota, held, 1);
  // Over the quota it has the other colour; the words beside it say so too.
  return h('meter', { min: 0, max: most, value: held, optimum: 0, high: held > quota ? Math.max(quota, 0.01) : most, 'aria-label': `${what}: ${n(held)} of ${n(quota)} seats` });
}

const bandTag = (tenant) => tag(tenant.band, tenant.over > 0 ? `${n(tenant.over)} over` : tenant.band === 'full' ? 'full' : `${seatsOf(tenant.free)} free`);

function tenantRow(tenant) {
  return row(tenant.tenant, th(named(tenant)), num(`${n(tenant.held)} / ${seatsOf(tenant.quota)}`),
    h('td', { class: 'opt' }, fill(tenant.held, tenant.quota, tenant.name)), td(bandTag(tenant)));
}

// --- The fleet
class Fleet extends View {
  constructor() {
    super('Fleet');
    this.stream = 'v1/events?pulse_ms=1000';
  }

  async load() {
    const [overview, nodes] = await Promise.all([ask('v1/overview'), ask('v1/nodes?limit=200')]);
    setClock(overview.at);
    announceFleet(this.data?.overview, overview);
    return { overview, nodes };
  }

  redraw() {
    // A token for some tenants only: those are its fleet.
    if (this.fault?.status === 401 && token() && !this.tried) {
      this.tried = true;
      ask('v1/tenants?limit=1').then(() => open(new Tenants(new URLSearchParams(), true)), () => super.redraw());
      return;
    }
    super.redraw();
  }

  nodes({ overview: o, nodes }) {
    $('about').textContent = `usherd ${o.version}`;
    return [
      heading('Fleet', soft('as of ', time(o.at)), copyButton('right', 'v1/overview')),
      troubles(o),
      h('dl', { class: 'figures', 'data-key': 'figures' },
        figure('Seats in use', n(o.held), `of ${n(o.quota)}`, { id: 'held', wide: true, below: fill(o.held, o.quota, 'All tenants') }),
        figure('Over quota', n(o.over), many(o.bands.over, 'tenant'), { bad: o.over > 0 }),
        figure('Full', n(o.bands.full), o.bands.full === 1 ? 'tenant' : 'tenants'),
        figure('Tenants', n(o.tenants), o.tenants - o.bands.idle === 0 ? 'none active' : `${n(o.tenants - o.bands.idle)} active`),
        figure('Nodes', n(o.nodes.up), o.nodes.silent ? `up, ${n(o.nodes.silent)} silent` : 'up', { bad: o.nodes.silent > 0 })),
      h('div', { class: 'grid', 'data-key': 'grid' },
        section('fullest', 'w7', table('Fullest tenants', ['Tenant', '#In use', '?Share', 'Free'], o.fullest.map(tenantRow), 'No seat is in use.')),
        section('bands', 'w5', bandTable(o)),
        section('denials', 'w7', table('Latest denials', ['When', 'Tenant', 'Who', '?What', '?Why', ''], o.denials.map(denialRow), 'Nothing was denied lately.')),
        section('nodes', 'w5', nodeTable(nodes.nodes, nodes.next)),
        section('kinds', 'w4', kindTable(o.sessions)),
        section('config', 'w8', h('h2', {}, 'Configuration and state'), stateList(o)),
        o.pools.length > 0 && section('pools', '', table('Provider pools', ['Pool', '#Licensed', '#In use', '#Assigned, unused', '#Unassigned', '#Over'],
          o.pools.map((pool) => row(pool.pool, th(pool.pool), num(n(pool.licensed)), num(n(pool.in_use)), num(n(pool.assigned_unused)), num(n(pool.unassigned)), num(n(pool.over)))))))];
  }
}

// What somebody should do something about, in sentences.
function troubles(o) {
  const told = [
    !o.ready && 'Not ready: the journal is being read. Inbound and emergency calls are allowed meanwhile.',
    o.journal.degraded && `The journal is degraded: ${o.journal.degraded}`,
    !o.config.last_reload_successful && `The last configuration was rejected, the previous one is in force: ${o.config.last_error ?? 'see the log'}`,
    o.config.from_last_good && 'The last good copy of the configuration is in force: the files were bad at the start.',
    o.history.problem && `The history of usage cannot be kept: ${o.history.problem}`,
    !o.time.wall_clock_trusted && (o.time.waits_for === 'confirmation'
      ? 'The daemon started with a clock far from where it was: the more generous time counts until a time server keeps the clock, or you run usherd clock trust.'
      : 'The wall clock stepped: for ten minutes the more generous time counts.'),
    o.sync && (o.sync.stale || o.sync.result === 'failed' || o.sync.result === 'refused') && `Tenant records are not being pulled: ${o.sync.message ?? 'not confirmed for too long'}`,
  ];
  return told.filter(Boolean).map((text) => h('p', { class: 'notice alert', 'data-key': text.slice(0, 24) }, text));
}

function bandTable(o) {
  const rows = Object.entries(BANDS).map(([band, label]) => row(band,
    th(o.bands[band] ? h('a', { href: `#/tenants?band=${band}` }, label) : label), num(n(o.bands[band])),
    td(h('meter', { min: 0, max: Math.max(1, o.tenants), value: o.bands[band], 'aria-label': `${label}: ${many(o.bands[band], 'tenant')}` }))));
  return table('Tenants by band', ['Seats in use', '#Tenants', 'Share'], rows);
}

function nodeTable(nodes, more) {
  const silentFirst = [...nodes].sort((a, b) => (a.state === b.state ? 0 : a.state === 'silent' ? -1 : 1));
  const rows = silentFirst.map((node) => row(node.node, th(node.node),
    td(node.epoch === null ? tag('', 'no lease') : tag(node.state === 'silent' ? 'deny' : 'allow', node.state)), td(node.last_seen ? time(node.last_seen) : 'never said hello')));
  return table('Nodes', ['Node', 'State', 'Last seen'], rows, 'No node has reported yet.', more && 'the first 200');
}

function kindTable(kinds) {
  const rows = Object.entries(KINDS).map(([kind, label]) => row(kind, th(`${label[0].toUpperCase()}${label.slice(1)}s`), num(n(kinds[kind].counting)), num(n(kinds[kind].free))));
  return table('Live sessions', ['Kind', '#Need a seat', '#Free'], rows);
}

function stateList(o) {
  const next = o.next_change;
  const facts = [
    ['Configuration', [o.config.last_reload_successful ? 'in force since ' : tag('deny', 'last one rejected'), ' ', time(o.config.loaded_at, dated), ' ', h('code', { class: 'soft' }, o.config.hash.slice(0, 12))]],
    ['Next booked change', next ? [day(next.at, o.time.zone), ': ', tenantLink(next.tenant), ` ${next.state === 'ended' ? 'ends' : `to ${seatsOf(next.seats)} seats`}`] : 'none'],
    ['Journal', o.journal.degraded ? tag('deny', 'degraded') : { none: 'off', written: 'on disk; survives a crash, not a power cut', synced: 'survives a power cut' }[o.journal.durability]],
    ['Time', `${o.time.zone}, zone data ${o.time.tz_data}${o.time.clock_steps ? `, ${many(o.time.clock_steps, 'clock step')}` : ''}`],
    ['Records', o.sync ? [`pulled, serial ${n(o.sync.serial)}, confirmed `, time(o.sync.confirmed_at, dated)] : 'from files'],
  ];
  return h('dl', { class: 'keys' }, facts.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}

function denialRow(event) {
  return row(event.id, td(time(event.at)), td(event.tenant ? tenantLink(event.tenant) : '–'), td(event.subject || '–'),
    h('td', { class: 'opt' }, KINDS[event.kind]), h('td', { class: 'opt' }, why(event)), decisionButtons(event));
}

function announceFleet(before, o) {
  if (!before) return;
  const fresh = o.denials.filter((event) => event.id > (before.denials[0]?.id ?? 0));
  const told = [
    fresh.length > 0 && `${many(fresh.length, 'new denial')}, the latest for ${fresh[0].tenant}`,
    o.bands.full > before.bands.full && many(o.bands.full, 'tenant is full', 'tenants are full'),
    o.over > before.over && `${many(o.over, 'seat')} over quota`,
    o.nodes.silent > before.nodes.silent && many(o.nodes.silent, 'node is silent', 'nodes are silent'),
  ].filter(Boolean);
  if (told.length > 0) say(`${told.join('. ')}.`);
}

// --- A list of tenants
class Tenants extends View {
  constructor(query, limited) {
    super('Tenants');
    // The daemon refuses what it does not know, as what a mail adds to a link.
    this.query = new URLSearchParams([...query].filter(([key]) => /^(search|state|band)$/.test(key)));
    this.limited = limited;
    this.pages = 1;
    this.stream = 'v1/events?pulse_ms=1000';
  }

  async load() {
    const tenants = [];
    let after = '', more = true;
    for (let page = 0; page < this.pages && more; page++) {
      const query = new URLSearchParams([...this.query, ['limit', 100], ['after', after]]);
      const answer = await ask(`v1/tenants?${query}`);
      tenants.push(...answer.tenants);
      after = answer.next ?? '';
      more = Boolean(answer.next);
    }
    const count = `${tenants.length}${more ? ' or more' : ''}`;
    if (count !== this.count) say(`${count} ${tenants.length === 1 ? 'tenant' : 'tenants'} found.`);
    this.count = count;
    return { tenants, more };
  }

  nodes({ tenants, more }) {
    const band = BANDS[this.query.get('band')], search = this.query.get('search');
    const only = [search && `with “${search}” in id or name`, band && `in the band “${band}”`].filter(Boolean).join(', ');
    return [
      heading('Tenants', soft(only), copyButton('right', `v1/tenants?${this.query}`)),
      this.limited && h('p', { class: 'notice', 'data-key': 'limited' }, 'Your token is for these tenants only; figures of the whole fleet are not shown.'),
      section('list', '', table(`${this.count} ${tenants.length === 1 ? 'tenant' : 'tenants'}`, ['Tenant', '#In use', '?Share', 'Free'], tenants.map(tenantRow), 'None. Try a part of the id or of the name.'),
        more && h('p', {}, h('button', { type: 'button', 'data-do': 'more' }, 'Show more')))];
  }
}

// --- A tenant
const EVENTS_MAX = 60;

class Tenant extends View {
  constructor(id) {
    super(id);
    this.id = id;
    this.base = `v1/tenants/${path(id)}`;
    this.stream = `v1/events?after=0&tenant=${encodeURIComponent(id)}`;
    this.events = [];
    this.span = 'day';
    this.filter = '';
    this.cursor = null;
  }

  heard(event) {
    if (event.type !== 'gap') {
      this.events = [event, ...this.events.filter((known) => known.id !== event.id)].slice(0, EVENTS_MAX);
      // What was before is listed, and not said.
      if (event.at > this.opened && event.type === 'denied') say(`Denied: ${event.subject || 'somebody'}, ${why(event)}.`);
    }
    super.heard(event);
  }

  async load() {
    const [tenant, sessions] = await Promise.all([ask(this.base), ask(`${this.base}/sessions?limit=1000`)]);
    setClock(tenant.at);
    this.opened ??= tenant.at;
    await this.loadUsage(now());
    const before = this.data?.tenant;
    if (before && before.band !== tenant.band && ['full', 'over'].includes(tenant.band)) say(`${tenant.name ?? this.id} is ${BANDS[tenant.band]}: ${n(tenant.held)} of ${n(tenant.quota)} seats.`);
    return { tenant, sessions: sessions.sessions, more: Boolean(sessions.next) };
  }

  // The curve changes with its slots: it is read twice a minute, and the week every five minutes.
  async loadUsage(at) {
    const read = async (kept, every, days, step) => {
      if (kept && Math.abs(at - kept.read) < every) return kept;
      const asked = ask(`${this.base}/usage?step=${step}&from=${new Date(at - days * DAY).toISOString()}`);
      return { read: at, ...await asked.catch((error) => ({ missing: error.status === 404 ? 'This daemon keeps no history of usage.' : error.message })) };
    };
    [this.week, this.day] = await Promise.all([read(this.week, 300e3, 7, '1h'), read(this.day, 30e3, 1, '5m')]);
  }

  nodes({ tenant: t, sessions, more }) {
    const name = t.name ?? this.id;
    document.title = `${name} · usherd`;
    return [
      heading(name, name !== this.id && soft(this.id), tag(t.state === 'active' ? 'allow' : 'full', STATES[t.state]), copyButton('right', this.base)),
      !t.names && h('p', { class: 'notice', 'data-key': 'names' }, 'You see pseudonyms: your token has no right to the names of people. One pseudonym is one person, until the daemon starts again.'),
      this.warnings(t),
      h('dl', { class: 'figures', 'data-key': 'figures' },
        figure('Seats in use', n(t.held), `of ${seatsOf(t.quota)}`, { id: 'held', wide: true, below: fill(t.held, t.quota, 'This tenant') }),
        t.over > 0 ? figure('Over quota', n(t.over), '', { bad: true }) : figure('Free', seatsOf(t.free), t.free === 0 ? 'full' : '', { id: 'free', bad: t.free === 0 }),
        figure('Peak today', n(t.peak_today)),
        figure('Denied today', n(t.denials_today), '', { bad: t.denials_today > 0 }),
        figure('Live sessions', n(t.sessions))),
      h('div', { class: 'grid', 'data-key': 'grid' },
        section('curve', '', this.curve()),
        section('holders', 'w7 tall', this.holders(t, sessions, more)),
        h('div', { class: 'w5 grid', 'data-key': 'side' },
          section('booked', '', this.booked(t)),
          section('inclusive', '', inclusiveTable(t.inclusive)),
          section('kinds', '', kindTable(countKinds(sessions)))),
        section('decisions', '', table('Live decisions', ['When', 'What', 'Who', '?Session', 'Why', '?Seats', ''], this.events.map(decisionRow), 'Nothing yet: this list fills while you look.')))];
  }

  fit(item) {
    const total = this.week?.total, then = item.seats_then;
    if (!total || item.status !== 'pending' || then === null || then === undefined) return null;
    if (total.peak > then) return { bad: true, text: `Would not fit: ${n(total.peak)} seats were in use at once${total.peak_at ? ` on ${weekday.format(new Date(total.peak_at))}` : ''}, within the last 7 days.` };
    if (total.demand > then) return { bad: true, text: `Would be tight: ${many(total.demand, 'seat')} were wanted at once within the last 7 days, the refused ones counted.` };
    return { text: `Fits: at most ${n(total.peak)} in use within the last 7 days.` };
  }

  warnings(t) {
    const bad = (t.schedule ?? []).map((item) => [item, this.fit(item)]).filter(([, fit]) => fit?.bad);
    return bad.map(([item, fit]) => h('p', { class: 'notice', 'data-key': `fit-${item.id}` }, h('strong', {}, `${n(item.seats_then)} seats`), ' from ', day(item.effective_at, t.time_zone), `. ${fit.text}`));
  }

  booked(t) {
    const rows = (t.schedule ?? []).map((item) => {
      const what = item.cancel ? (item.cancel_licences ? `cancel ${n(item.cancel_licences)}` : 'ends') : `${n(item.seats)} seats`;
      const fit = this.fit(item);
      return row(item.id, td(day(item.effective_at, t.time_zone)), td(what, item.object !== 'subscription' && ` of ${item.object}`, soft(` by ${item.by}`)),
        num(seatsOf(item.seats_then)), td(item.status === 'pending' ? fit && tag(fit.bad ? 'over' : 'allow', fit.bad ? 'does not fit' : 'fits') : tag('', item.status)));
    });
    return table('Booked changes', ['From', 'Change', '#Seats then', 'Last week'], rows, 'Nothing is booked.');
  }

  holders(t, sessions, more) {
    const people = new Map();
    for (const session of sessions.filter((session) => session.counts)) {
      const key = session.subject ?? '';
      people.set(key, [...(people.get(key) ?? []), session]);
    }
    const lingering = t.held - people.size;
    const wanted = [...people].filter(([subject]) => subject.toLowerCase().includes(this.filter.toLowerCase())).sort(([a], [b]) => (a < b ? -1 : 1));
    const rows = wanted.slice(0, 300).map(([subject, claims]) => row(subject, th(subject || '–'),
      td(claims.map((claim, at) => [at > 0 && h('br'), claimText(claim)])), h('td', { class: 'n opt' }, time(claims.map((claim) => claim.started).sort()[0]))));
    const notes = [more && 'of the first 1,000 sessions', wanted.length > 300 && 'the first 300; filter for others', !more && lingering > 0 && `${many(lingering, 'seat')} kept for a moment after release`];
    return [
      people.size > 8 && h('p', { 'data-key': 'filter' }, h('label', { class: 'hidden', for: 'filter' }, 'Filter holders'), h('input', { id: 'filter', type: 'search', placeholder: 'Filter holders' })),
      table('Who holds a seat, and why', ['Subject', 'For', '?Since'], rows, people.size ? 'Nobody of that name.' : 'Nobody.', notes.filter(Boolean).join('; ')),
    ];
  }

  usage() { return this.span === 'day' ? this.day : this.week; }

  curve() {
    const usage = this.usage();
    const choice = (span, text) => h('button', { type: 'button', class: 'small', 'data-do': 'span', 'data-span': span, 'aria-pressed': String(this.span === span) }, text);
    const head = h('div', { class: 'head' }, h('h2', {}, 'Seats over time'), h('span', { class: 'right' }, choice('day', '24 hours'), ' ', choice('week', '7 days')));
    if (!usage || usage.missing || usage.usage.length === 0) return [head, h('p', { class: 'soft' }, usage?.missing ?? 'Nothing was recorded in this time yet.')];
    return [head, drawCurve(usage, this)];
  }
}

function claimText(claim) {
  const word = claim.kind === 'call' ? [claim.direction, claim.class && `${claim.class},`, 'call'].filter(Boolean).join(' ') : KINDS[claim.kind];
  return [word, soft(' since ', time(claim.started, minute), claim.node && ` on ${claim.node}`),
    claim.orphan && [' ', tag('over', `node lost, ends in ${lasting(claim.ends_in_s ?? 0)}`)], claim.first === 'allow.over' && [' ', tag('over', 'above the quota')]];
}

function countKinds(sessions) {
  const counts = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, { counting: 0, free: 0 }]));
  for (const session of sessions) counts[session.kind][session.counts ? 'counting' : 'free'] += 1;
  return counts;
}

function inclusiveTable(i) {
  if (!i) return h('p', { class: 'soft' }, 'The configuration does not name this tenant any more.');
  const line = (key, label, included, used, over) => row(key, th(label), num(included === null ? 'no limit' : n(included)), num(n(used)), num(over > 0 ? tag('over', n(over)) : n(over)));
  return table('Inclusive services', ['Service', '#Included', '#Used', '#Over'], [
    line('numbers', 'Phone numbers', i.numbers, i.numbers_assigned, i.surplus_numbers),
    line('channels', 'Trunk lines', i.channels, i.channels_in_use, i.channels === null ? null : Math.max(0, i.channels_in_use - i.channels)),
    line('endpoints', 'Devices', i.endpoints, i.endpoints_set_up, i.surplus_endpoints)]);
}

function decisionRow(event) {
  const look = event.type === 'denied' ? 'deny' : event.type === 'granted' ? 'allow' : '';
  const seats = event.held === undefined ? '' : `${n(event.held)} / ${seatsOf(event.quota)}`;
  return row(event.id, td(time(event.at)), td(tag(look, event.type), ' ', h('span', { class: 'opt' }, [event.direction, event.kind].filter(Boolean).join(' '))), td(event.subject || '–'),
    h('td', { class: 'mono opt' }, event.session || '–'), td(why(event)), h('td', { class: 'opt' }, seats), decisionButtons(event));
}

// --- Explain, and as curl
const told = new Map();

// What explains an event: the request that led to it, as far as the event tells.
function question(event) {
  const asked = { tenant: event.tenant, subject: event.subject, session: event.session, kind: event.kind, direction: event.kind === 'call' ? event.direction ?? 'outbound' : undefined, class: event.class, group: event.group, ttl_s: 60 };
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => value));
}

function decisionButtons(event) {
  if (!event.kind || !event.tenant) return h('td', {});
  told.delete(event.id);
  told.set(event.id, event);
  if (told.size > 500) told.delete(told.keys().next().value);
  const about = `${event.type} ${event.subject ?? ''} ${minute.format(new Date(event.at))}`;
  return h('td', { class: 'do' }, h('button', { type: 'button', class: 'small', 'data-do': 'explain', 'data-event': event.id, 'aria-label': `Explain ${about}` }, 'Explain'), ' ',
    h('button', { type: 'button', class: 'small opt', 'data-do': 'copy', 'data-curl': curl('v1/explain', question(event)), 'aria-label': `Copy ${about} as curl` }, 'curl'));
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
function curl(url, body) {
  const parts = ['curl -sS', quoted(new URL(url, location.href).href), token() && '-H "Authorization: Bearer $USHERD_TOKEN"'];
  if (body) parts.push("-H 'Content-Type: application/json'", '-d', quoted(JSON.stringify(body)));
  return parts.filter(Boolean).join(' ');
}
const copyButton = (look, url) => h('button', { type: 'button', class: `small ${look}`, 'data-do': 'copy', 'data-curl': curl(url), 'aria-label': 'Copy this view as curl' }, 'Copy as curl');

function openDialog(title, ...nodes) {
  $('dialog-title').textContent = title;
  $('dialog-body').replaceChildren(...nodes.flat(9).filter(Boolean));
  if (!$('dialog').open) $('dialog').showModal();
}

async function copy(button) {
  const text = button.dataset.curl;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
    say('Copied.');
  } catch {
    const field = h('textarea', { readonly: true, rows: 5, 'aria-label': 'The command' }, text);
    openDialog('Copy as curl', h('p', {}, 'This browser does not let the page copy. Copy it yourself:'), field);
    field.select();
  }
}

async function explain(button) {
  const event = told.get(Number(button.dataset.event));
  if (!event) return;
  const body = question(event);
  openDialog('Why?', h('p', { class: 'soft' }, 'Asking …'));
  try {
    const e = await ask('v1/explain', { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
    openDialog(`${event.subject ?? 'Somebody'}: ${KINDS[event.kind]}`, explained(event, e, body));
  } catch (error) {
    openDialog('Why?', h('p', { class: 'notice alert' }, `It cannot be explained: ${error.message}`));
  }
}

// The rule book is plain text: the browser looks for the heading.
const ruleLink = (code) => /^[A-Z]\d+$/.test(code) && [' ', h('a', { href: `rulebook.md#:~:text=%23%23%23%23%20${code}`, target: '_blank' }, code)];

function explained(event, e, body) {
  const holders = Object.entries(e.holders).map(([kind, count]) => many(count, KINDS[kind])).join(', ');
  return [
    h('p', {}, tag('', event.type), ' at ', time(event.at), `: ${why(event)}.`),
    h('p', {}, h('strong', {}, 'Asked again now: '), tag(e.allow ? 'allow' : 'deny', [e.code, e.detail].filter(Boolean).join(' ')), ` ${e.message}`),
    h('ol', { class: 'steps', 'aria-label': 'Rules in the order in which they were consulted' }, e.steps.map((step) => h('li', {}, soft(RULES[step.rule], step.rule.split(' ').map(ruleLink)), h('span', {}, `${step.input}: `, h('strong', {}, step.outcome))))),
    h('p', {}, `${n(e.held)} of ${seatsOf(e.quota)} seats are held${holders ? `, for ${holders}` : ''}.`, e.frees_next && ` One may be free in ${lasting(e.frees_next.in_s)}.`),
    e.would_allow.length > 0 && h('p', {}, `It would be allowed by: ${e.would_allow.join('; ')}.`),
    h('p', {}, h('button', { type: 'button', 'data-do': 'copy', 'data-curl': curl('v1/explain', body) }, 'Copy as curl'))];
}

// --- The curve
const CURVE = { height: 240, left: 38, right: 8, top: 10, bottom: 24 };

function drawCurve(usage, owner) {
  const width = Math.max(280, ($('main').clientWidth || 600) - 2 * 16);
  const slots = usage.usage.map((slot) => ({ ...slot, from: Date.parse(slot.at), to: Date.parse(slot.at) + usage.step_s * 1000 }));
  const start = Date.parse(usage.from), end = Math.max(Date.parse(usage.to), slots.at(-1).to);
  const used = Math.max(1, ...slots.map((slot) => Math.max(slot.peak, slot.demand)));
  const quota = Math.max(0, ...slots.map((slot) => slot.quota ?? 0));
  // A quota far above all use would press the curve to the ground: then it is told, not drawn.
  const top = quota <= 5 * used ? Math.max(used, quota) : used;
  const step = [1, 2, 5].flatMap((k) => Array.from({ length: 7 }, (_, p) => k * 10 ** p)).sort((a, b) => a - b).find((size) => top / size <= 5);
  const high = Math.ceil((top * 1.04) / step) * step;
  const x = (at) => CURVE.left + ((at - start) / (end - start)) * (width - CURVE.left - CURVE.right);
  const y = (seats) => CURVE.height - CURVE.bottom - (Math.min(seats, high) / high) * (CURVE.height - CURVE.top - CURVE.bottom);
  owner.chart = { slots, x, width, usage };
  const cursor = Math.min(owner.cursor ?? slots.length - 1, slots.length - 1);
  const svg = s('svg', { viewBox: `0 0 ${width} ${CURVE.height}`, 'aria-hidden': 'true', focusable: 'false' },
    s('defs', {}, s('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' }, s('line', { x1: 0, y1: 0, x2: 0, y2: 6, class: 'c-hatch' }))),
    Array.from({ length: Math.floor(high / step) + 1 }, (_, k) => k * step).map((seats) => [
      s('line', { class: 'c-grid', x1: CURVE.left, x2: width - CURVE.right, y1: y(seats), y2: y(seats) }), s('text', { x: CURVE.left - 6, y: y(seats) + 4, 'text-anchor': 'end' }, n(seats))]),
    hours(start, end, width, x),
    runs(slots).map((run) => [s('path', { class: 'c-area', d: `${stairs(run, x, y, 'peak')} L${x(run.at(-1).to)} ${y(0)} L${x(run[0].from)} ${y(0)} Z` }), s('path', { class: 'c-peak', d: stairs(run, x, y, 'peak') })]),
    slots.filter((slot) => slot.demand > slot.peak).map((slot) => s('rect', { class: 'c-refused', fill: 'url(#hatch)', x: x(slot.from), width: Math.max(2, x(slot.to) - x(slot.from)), y: y(slot.demand), height: y(slot.peak) - y(slot.demand) })),
    quota <= high && runs(slots.filter((slot) => slot.quota !== null)).map((run) => s('path', { class: 'c-quota', d: stairs(run, x, y, 'quota') })),
    s('line', { class: 'c-cursor', id: 'cursor', x1: x(middle(slots[cursor])), x2: x(middle(slots[cursor])), y1: CURVE.top, y2: CURVE.height - CURVE.bottom }));
  const total = usage.total;
  const summary = `At most ${many(total.peak, 'seat')} in use at once${total.peak_at ? `, on ${weekday.format(new Date(total.peak_at))}` : ''}; ${many(total.denials, 'request')} denied; full for ${lasting(total.saturated_s)}.`;
  return [
    h('p', { id: 'curve-summary' }, summary),
    h('div', { class: 'chart', id: 'chart', tabindex: 0, role: 'slider', 'aria-label': 'Seats over time', 'aria-describedby': 'curve-summary', 'aria-valuemin': 0, 'aria-valuemax': slots.length - 1, 'aria-valuenow': cursor, 'aria-valuetext': slotText(slots[cursor], usage) }, svg),
    h('p', { class: 'readout', id: 'readout' }, slotText(slots[cursor], usage)),
    h('ul', { class: 'legend' },
      legend('in use, at most', s('rect', { class: 'c-area', width: 26, height: 11 }), s('path', { class: 'c-peak', d: 'M0 1H26' })),
      legend(quota > high ? `quota ${n(quota)}, above the picture` : 'quota', s('path', { class: 'c-quota', d: 'M0 6H26' })),
      legend('refused demand', s('rect', { class: 'c-refused', fill: 'url(#hatch)', width: 26, height: 11 }))),
    usageTable(slots, usage)];
}

const middle = (slot) => (slot.from + slot.to) / 2;
const legend = (text, ...shapes) => h('li', {}, s('svg', { viewBox: '0 0 26 11', 'aria-hidden': 'true' }, shapes), text);

// Slots that follow each other without a gap: where the daemon did not run there is no line.
function runs(slots) {
  const found = [];
  for (const slot of slots) {
    if (found.length > 0 && found.at(-1).at(-1).to === slot.from) found.at(-1).push(slot);
    else found.push([slot]);
  }
  return found;
}

const stairs = (run, x, y, key) => run.map((slot, at) => `${at ? 'L' : 'M'}${x(slot.from).toFixed(1)} ${y(slot[key]).toFixed(1)} L${x(slot.to).toFixed(1)} ${y(slot[key]).toFixed(1)}`).join(' ');

function hours(start, end, width, x) {
  const days = (end - start) / DAY;
  const every = days > 2 ? 24 : width < 500 ? 6 : 3;
  const at = new Date(start);
  at.setHours(0, 0, 0, 0);
  const marks = [];
  for (; at < end; at.setHours(at.getHours() + every)) {
    if (at > start + (end - start) * 0.01 && x(at) < width - 24) marks.push(+at);
  }
  const narrow = days > 2 && width < 500;
  return marks.filter((_, k) => !narrow || k % 2 === 0).map((mark) => [s('line', { class: 'c-grid', x1: x(mark), x2: x(mark), y1: CURVE.height - CURVE.bottom, y2: CURVE.height - CURVE.bottom + 4 }),
    s('text', { x: x(mark), y: CURVE.height - 6, 'text-anchor': 'middle' }, (days > 2 ? dayOnly : minute).format(mark))]);
}

function slotText(slot, usage) {
  const span = usage.step_s >= 3600 ? `${weekday.format(slot.from)} to ${minute.format(slot.to)}` : `${minute.format(slot.from)} to ${minute.format(slot.to)}`;
  const parts = [`at most ${n(slot.peak)} of ${seatsOf(slot.quota)} seats`, `${slot.mean.toFixed(1)} on average`, slot.saturated_s > 0 && `full for ${lasting(slot.saturated_s)}`, slot.denials > 0 && `${many(slot.denials, 'request')} denied, ${n(slot.demand)} seats wanted`];
  return `${span}: ${parts.filter(Boolean).join(', ')}.`;
}

function usageTable(slots, usage) {
  const size = usage.step_s >= 3600 ? 6 * HOUR : HOUR;
  const groups = new Map();
  for (const slot of slots) {
    const key = Math.floor(slot.from / size) * size;
    const g = groups.get(key) ?? { from: key, peak: 0, demand: 0, denials: 0, full: 0 };
    groups.set(key, { from: key, peak: Math.max(g.peak, slot.peak), demand: Math.max(g.demand, slot.demand), denials: g.denials + slot.denials, full: g.full + slot.saturated_s, quota: slot.quota });
  }
  const rows = [...groups.values()].reverse().map((g) => row(g.from, th((usage.step_s >= 3600 ? weekday : minute).format(g.from)), num(n(g.peak)), num(seatsOf(g.quota)), num(n(g.demand)), num(n(g.denials)), num(g.full > 0 ? lasting(g.full) : '–')));
  return h('details', {}, h('summary', {}, 'As a table'), table('Seats over time', ['From', '#Most in use', '#Quota', '#Wanted', '#Denied', '#Full for'], rows));
}

function moveCursor(owner, at) {
  const { slots, x, usage } = owner.chart;
  owner.cursor = Math.max(0, Math.min(slots.length - 1, at));
  const slot = slots[owner.cursor];
  for (const end of ['x1', 'x2']) $('cursor').setAttribute(end, x(middle(slot)));
  $('readout').textContent = slotText(slot, usage);
  $('chart').setAttribute('aria-valuenow', owner.cursor);
  $('chart').setAttribute('aria-valuetext', slotText(slot, usage));
}

function pointAt(event) {
  const chart = event.target.closest?.('#chart');
  if (!chart || !view?.chart) return;
  const box = chart.getBoundingClientRect();
  const at = ((event.clientX - box.left) / box.width) * view.chart.width;
  const { slots, x } = view.chart;
  moveCursor(view, slots.reduce((best, slot, k) => (Math.abs(x(middle(slot)) - at) < Math.abs(x(middle(slots[best])) - at) ? k : best), 0));
}

function keyOnChart(event) {
  if (event.target.id !== 'chart' || !view?.chart) return;
  const last = view.chart.slots.length - 1, at = view.cursor ?? last;
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at + 12, PageDown: at - 12, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  moveCursor(view, to);
}

// --- Signing in
function drawLogin(fault) {
  view.gone.abort();
  $('sign-out').hidden = true;
  state('wait', 'token needed');
  draw(section('login', 'login', h('h1', { tabindex: -1 }, 'A token is required'),
    h('p', {}, 'Sign in with a viewer or admin token. It is kept in this tab only and sent to this daemon only.'),
    h('p', { class: 'notice alert', role: 'alert' }, `${token() ? 'This token is not valid' : 'The daemon says'}: ${fault.message}.`),
    h('form', { id: 'login' }, h('label', { for: 'token' }, 'Bearer token'), h('input', { id: 'token', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, placeholder: 'ush_viewer_…' }), h('button', {}, 'Show the dashboard'))));
}

function signIn(event) {
  event.preventDefault();
  store('sessionStorage', TOKEN, $('token').value.trim());
  route();
}

// --- Routes and actions
function open(next, wantsFocus) {
  view?.gone.abort();
  view = next;
  view.wantsFocus = wantsFocus;
  document.title = `${view.title} · usherd`;
  if (document.activeElement !== $('search')) $('search').value = view.query?.get('search') ?? '';
  $('sign-out').hidden = !token();
  if (document.hidden) return state('wait', 'paused');
  state('wait', 'connecting');
  view.show();
}

function parse() {
  const [, place, query] = /^#?\/?([^?]*)\??(.*)$/.exec(location.hash);
  const parts = place.split('/').map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  if (parts[0] === 'tenant' && parts[1]) return new Tenant(parts[1]);
  return parts[0] === 'tenants' ? new Tenants(new URLSearchParams(query)) : new Fleet();
}

const route = (focus) => open(parse(), focus);

const ACTIONS = {
  explain, copy,
  theme: nextTheme,
  signOut() { store('sessionStorage', TOKEN, null); route(); },
  more() { view.pages += 1; view.due = 0; view.wake(); },
  span(button) { view.span = button.dataset.span; view.cursor = null; view.redraw(); },
};

// While nobody looks nothing is asked.
function looked() {
  if (!document.hidden) return view && !view.gone.signal.aborted ? null : resume();
  view?.gone.abort();
  state('wait', 'paused');
}

function resume() {
  const kept = view;
  const next = parse();
  if (kept && kept.constructor === next.constructor && kept.title === next.title) {
    for (const key of ['data', 'events', 'span', 'filter', 'cursor', 'pages', 'day', 'week', 'at', 'limited']) if (kept[key] !== undefined) next[key] = kept[key];
  }
  open(next);
}

function searchSoon() {
  clearTimeout(searchSoon.timer);
  searchSoon.timer = setTimeout(() => {
    const text = $('search').value.trim();
    location.replace(text ? `#/tenants?${new URLSearchParams({ search: text })}` : '#/');
  }, 250);
}

function searchNow(event) {
  event.preventDefault();
  const found = view instanceof Tenants ? view.data?.tenants : null;
  if (found?.length === 1) location.hash = `#/tenant/${encodeURIComponent(found[0].tenant)}`;
}

const THEMES = ['auto', 'light', 'dark'];
function setTheme(theme) {
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
function nextTheme(button) {
  const next = THEMES[(THEMES.indexOf(store('localStorage', 'usherd.theme') ?? 'auto') + 1) % THEMES.length];
  store('localStorage', 'usherd.theme', next);
  setTheme(next);
  button.textContent = `Theme: ${next}`;
}

// Before anything is drawn, so that nothing flashes.
setTheme(store('localStorage', 'usherd.theme') ?? 'auto');

document.addEventListener('DOMContentLoaded', () => {
  $('theme').textContent = `Theme: ${store('localStorage', 'usherd.theme') ?? 'auto'}`;
  document.addEventListener('click', (event) => {
    const button = event.target.closest('[data-do]');
    if (button) ACTIONS[button.dataset.do](button);
  });
  document.addEventListener('input', (event) => {
    if (event.target.id === 'search') searchSoon();
    if (event.target.id === 'filter') { view.filter = event.target.value; view.redraw(); }
  });
  document.addEventListener('submit', (event) => {
    if (event.target.id === 'search-form') searchNow(event);
    if (event.target.id === 'login') signIn(event);
  });
  document.addEventListener('keydown', (event) => {
    keyOnChart(event);
    if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.nodeName)) return;
    event.preventDefault();
    $('search').focus();
  });
  document.addEventListener('pointermove', pointAt);
  document.addEventListener('pointerdown', pointAt);
  document.addEventListener('visibilitychange', looked);
  addEventListener('hashchange', () => route(document.activeElement !== $('search')));
  addEventListener('resize', () => { clearTimeout(looked.timer); looked.timer = setTimeout(() => view?.chart && view.data && view.redraw(), 150); });
  route();
});
