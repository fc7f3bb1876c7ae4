// Tiles, tables and lists: the page in words and numbers.
import {$, bytes, chip, clock, el, eta, jobIndex, millis, number, setText, span} from './util.js';

const JOB_STATES = {
  queued: '○',
  running: '●',
  paused: '‖',
  done: '✓',
  failed: '✕',
  stopped: '■'
};
const NODE_STATES = {
  alive: '●',
  suspect: '◐',
  dead: '✕',
  left: '○',
  unknown: '?'
};
const MOOD = {
  running: 'good',
  done: 'good',
  paused: 'warn',
  failed: 'bad',
  alive: 'good',
  suspect: 'warn',
  dead: 'bad'
};

const pill = (state, marks) => el('span', {class: `pill ${MOOD[state] ?? ''}`}, `${marks[state] ?? ''} ${state}`);

export function drawHeader(state) {
  setText($('cluster'), state.cluster ?? '');
  document.title = state.cluster ? `IDunno ${state.cluster}` : 'IDunno';
  const health = $('health');
  setText(health, state.lost ? '▲ not connected' : state.troubles.length === 0 ? '● healthy' : `▲ ${state.troubles.join(', ')}`);
  health.className = `pill ${state.lost || state.troubles.length > 0 ? 'bad' : 'good'}`;
  const facts = [
    ['Coordinator', state.coordinator ? `n${state.coordinator}` : 'none'],
    ['Standby', state.standby && state.standby !== state.coordinator ? `n${state.standby}` : 'none'],
    ['Epoch', String(state.epoch)], ['Phase', state.phase || '–'], ['Your role', state.rights?.role ?? '–']
  ];
  const text = JSON.stringify(facts);
  if ($('facts').dataset.text !== text) {
    $('facts').dataset.text = text;
    $('facts').replaceChildren(...facts.map(([what, value]) => el('div', {}, el('dt', {}, what), el('dd', {}, value))));
  }
}

export function drawBanner(state) {
  const banner = $('banner');
  const text = state.lost ? 'No connection to the dashboard; what you see is old. It is tried again every second.' : state.banner;
  setText(banner, text ?? '');
  banner.hidden = !text;
  banner.classList.toggle('bad', Boolean(state.lost || state.silent));
}

export function drawTiles(state) {
  const running = state.jobs.filter((job) => job.state === 'running');
  const waiting = state.jobs.filter((job) => job.state === 'queued' || job.state === 'paused').length;
  const alive = state.nodes.filter((node) => node.state === 'alive');
  const slots = alive.reduce((sum, node) => sum + node.slots, 0);
  const busy = alive.reduce((sum, node) => sum + Math.min(node.running, node.slots), 0);
  const ratio = state.fairness.now ?? state.fairness.last;
  const under = state.sdfs.under_replicated;
  const tiles = [
    ['Queries a second', number(running.reduce((sum, job) => sum + job.rate, 0)), '', 'over the last 10 s'],
    ['Jobs running', String(running.length), waiting > 0 ? `+ ${waiting} waiting` : '', `${state.jobs.length} in all`],
    ['Slots busy', String(busy), `of ${slots}`, `${alive.length} of ${state.nodes.length} machines alive`],
    [
      'Fairness', ratio ? number(ratio, 3) : '–', ratio ? 'max/min' : '',
      state.fairness.windows ? `${Math.round(100 * state.fairness.in10 / state.fairness.windows)} % of windows within 10 %` :
                               'needs two jobs'
    ],
    [
      'Stored', bytes(state.sdfs.bytes), '',
      under ? `▲ ${under} blocks under-replicated` : `${state.sdfs.files} files, all replicated`
    ]
  ];
  const box = $('tiles');
  if (box.childElementCount !== tiles.length)
    box.replaceChildren(...tiles.map(
        () => el('div', {class: 'tile'}, el('div', {class: 'what'}), el('div', {class: 'value'}), el('div', {class: 'more'}))));
  tiles.forEach(([what, value, unit, more], i) => {
    const [first, second, third] = box.children[i].children;
    setText(first, what);
    if (second.dataset.text !== value + unit) {
      second.dataset.text = value + unit;
      second.replaceChildren(value, unit ? el('small', {}, ` ${unit}`) : '');
    }
    setText(third, more);
  });
}

function jobRow(job, actions, act) {
  const row = el('tr', {class: job.over ? 'over' : null, 'data-job': job.id});
  const fill = el('div', {class: 'fill'});
  const share = job.total ? Math.min(1, job.done / job.total) : job.state === 'done' ? 1 : 0;
  fill.style.width = `${share * 100}%`;
  if (!job.over)
    fill.style.setProperty('--c', `var(--job${jobIndex(job.id)})`);
  else
    fill.style.setProperty('--c', 'var(--soft)');
  const percent = job.total ? `${Math.floor(share * 100)} %` : '∞';
  const progress =
      el('div', {class: 'progress'},
         el('div', {
           class: 'track',
           role: 'progressbar',
           'aria-label': `progress of j${job.id}`,
           'aria-valuemin': 0,
           'aria-valuemax': 100,
           'aria-valuenow': Math.floor(share * 100)
         },
            fill),
         el('span', {class: 'pct'}, percent),
         el('span', {class: 'of'},
            job.total ? `${number(job.done, 0)} of ${number(job.total, 0)}` : `${number(job.done, 0)} so far`));
  const numeric = (name, text) => el('td', {class: 'n', 'data-name': name}, text);
  const button = (what, label, title) => {
    const out =
        el('button', {type: 'button', class: 'small', 'data-action': what, 'aria-label': `${label} j${job.id}`, title}, label);
    out.disabled = !actions;
    out.addEventListener('click', () => act(job, what));
    return out;
  };
  const buttons = el('div', {class: 'actions'});
  if (!job.over) {
    const why = actions ? null : 'the key of this dashboard may not';
    buttons.append(
        job.state === 'paused' ? button('resume', 'Resume', why) : button('pause', 'Pause', why), button('stop', 'Stop', why));
  }
  row.append(
      el('td', {class: 'first'},
         el('span', {class: 'name', title: `${job.model}, ${job.data}, batch ${job.batch}`}, chip(job.id), el('b', {}, job.name),
            el('span', {class: 'sub'}, `${job.model !== job.name ? `${job.model}, ` : ''}batch ${job.batch}`))),
      el('td', {class: 'state', title: job.reason || null}, pill(job.state, JOB_STATES)), el('td', {class: 'bar'}, progress),
      numeric('Queries/s', job.over ? '–' : number(job.rate)), numeric('ETA', eta(job)), numeric('Median', millis(job.median)),
      numeric('p90', millis(job.p90)), numeric('p99 ms', millis(job.p99)), numeric('Errors', number(job.errors, 0)),
      numeric('Weight', String(job.weight)), numeric('Nodes', String(job.nodes.length)), el('td', {class: 'last'}, buttons));
  return row;
}

/** Keyboard focus survives the new rows. */
function keepFocus(table, draw) {
  const active = table.contains(document.activeElement) ? document.activeElement : null;
  const job = active?.closest('tr')?.dataset.job, action = active?.dataset.action;
  draw();
  if (job && action) table.querySelector(`tr[data-job="${job}"] [data-action="${action}"]`)?.focus({preventScroll: true});
}

export function drawJobs(state, act) {
  const table = $('jobs'), body = table.tBodies[0];
  const text = JSON.stringify([state.jobs, state.rights]);
  if (body.dataset.text === text) return;
  body.dataset.text = text;
  keepFocus(
      table,
      () => body.replaceChildren(
          ...(state.jobs.length === 0 ?
                  [el('tr', {},
                      el('td', {class: 'empty', colspan: 12},
                         'No jobs yet. `idunno submit --model M --data /PATH`, or the button above.'))] :
                  state.jobs.slice(0, 30).map((job) => jobRow(job, state.rights?.actions && !state.lost, act)))));
}

export function drawNodes(state) {
  const runs = new Map();
  for (const [node, , job, batch] of state.running) runs.set(node, [...(runs.get(node) ?? []), [job, batch]]);
  $('nodes').tBodies[0].replaceChildren(...state.nodes.map((node) => {
    const gone = node.state === 'dead' || node.state === 'left';
    const role = node.id === state.coordinator && !gone ? '★ coordinator' :
        node.id === state.standby && !gone              ? '☆ standby' :
                                                          (node.roles?.[0] ?? 'worker');
    const batches = (runs.get(node.id) ?? []).slice(0, 4).flatMap(([job, batch]) => [chip(job), ` b${batch} `]);
    return el(
        'tr', {class: gone ? 'over' : null}, el('th', {scope: 'row'}, `n${node.id}`), el('td', {}, role),
        el('td', {}, pill(node.state, NODE_STATES)), el('td', {class: 'n'}, gone ? '–' : `${Math.round(node.cpu * 100)} %`),
        el('td', {class: 'n'}, gone ? '–' : bytes(node.memory)), el('td', {class: 'n'}, gone ? '–' : String(node.leased)),
        el('td', {}, ...(batches.length ? batches : [gone ? '–' : 'idle'])), el('td', {}, node.models?.join(' ') || '–'));
  }));
}

export function drawFairness(state) {
  const fair = state.fairness;
  const ratio = fair.now ?? fair.last;
  const part = (count) => (fair.windows ? `${number(100 * count / fair.windows, 0)} %` : '–');
  const rows = [
    ['Windows of 10 s within 10 %', part(fair.in10)], ['within 20 %', part(fair.in20)],
    ['Windows judged', number(fair.windows, 0)]
  ];
  if (fair.worst)
    rows.push(
        ['Worst', `${number(fair.worst, 2)}${fair.worst_at ? ` at ${clock(fair.worst_at)}` : ''}`], ['Cause', fair.cause || '–']);
  $('fair').replaceChildren(
      el('div', {class: 'lead'}, el('dt', {}, 'largest rate ÷ smallest, by weight'),
         el('dd', {}, ratio ? number(ratio, 3) : '–',
            el('small', {},
               fair.now ? ` now, ${fair.jobs} jobs` :
                   ratio ? ' when two last ran' :
                           ' needs two jobs'))),
      ...rows.map(([what, value]) => el('div', {}, el('dt', {}, what), el('dd', {}, value))));
}

export function drawStorage(state) {
  const most = Math.max(1, ...state.nodes.map((node) => node.stored));
  const under = state.sdfs.under_replicated;
  const pillBox = $('sdfs-state');
  setText(pillBox, under ? `▲ ${under} blocks under-replicated` : '● all blocks replicated');
  pillBox.className = `pill ${under ? 'bad' : 'good'}`;
  $('sdfs').tBodies[0].replaceChildren(...state.nodes.map((node) => {
    const fill = el('div', {class: 'fill'});
    fill.style.width = `${100 * node.stored / most}%`;
    return el(
        'tr', {class: node.state === 'dead' ? 'over' : null}, el('th', {scope: 'row'}, `n${node.id}`),
        el('td', {class: 'bar'}, el('div', {class: 'progress'}, el('div', {class: 'track'}, fill))),
        el('td', {class: 'n'}, number(node.blocks, 0)), el('td', {class: 'n'}, bytes(node.stored)),
        el('td', {class: 'n'}, node.full ? '▲ full' : bytes(node.free)));
  }));
  setText(
      $('sdfs-note'),
      `${number(state.sdfs.files, 0)} files, ${number(state.sdfs.blocks, 0)} blocks, ${
          bytes(state.sdfs.bytes)} before replication`);
}

function moodOf(type) {
  if (['alarm', 'node_dead', 'job_failed', 'block_damaged'].includes(type)) return 'bad';
  if (['node_suspect', 'batch_failed', 'batch_hedged', 'batch_given_up', 'coordinator_changed'].includes(type)) return 'warn';
  return ['job_done', 'node_joined', 'block_repaired'].includes(type) ? 'good' : '';
}

const eventRow = (event) =>
    el('li', {}, el('time', {datetime: event.at}, clock(Date.parse(event.at))), el('span', {}, event.node ?? ''),
       el('span', {class: `type ${moodOf(event.type)}`}, event.type.replaceAll('_', ' ')),
       el('span', {class: 'text', title: event.text},
          `${event.job && !event.text.startsWith(event.job) ? `${event.job} ` : ''}${event.text}`));

const EVENTS_MAX = 200;
export function drawEvents(events) {
  $('events').replaceChildren(
      ...(events.length ? events.toReversed().map(eventRow) :
                          [el('li', {}, el('span', {}, ''), el('span', {}, ''), el('span', {}, 'nothing yet'))]));
  $('events').dataset.some = events.length ? 'yes' : '';
}
export function addEvents(events) {
  const list = $('events');
  if (!events.length) return;
  if (!list.dataset.some) list.replaceChildren();
  list.dataset.some = 'yes';
  for (const event of events) list.prepend(eventRow(event));
  while (list.childElementCount > EVENTS_MAX) list.lastElementChild.remove();
}
export {span};
