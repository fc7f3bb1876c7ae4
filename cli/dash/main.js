// The page's state, the stream that feeds it, and when what is drawn.
import {drawCharts} from './charts.js';
import {act, toast, wireForms} from './forms.js';
import {drawRing} from './ring.js';
import {drawStrip, wireStrip} from './strip.js';
import {$} from './util.js';
import {addEvents, drawBanner, drawEvents, drawFairness, drawHeader, drawJobs, drawNodes, drawStorage, drawTiles} from './view.js';

const SAMPLES_MAX = 600, SPANS_MAX = 6000;
const state = {
  samples: [],
  spans: [],
  running: [],
  jobs: [],
  nodes: [],
  troubles: [],
  fairness: {},
  sdfs: {},
  banner: '',
  lost: true
};
let offset = 0;  // the cluster's clock less this machine's
let known = false;

const now = () => Date.now() + offset;

function drawTick() {
  if (!known) return;
  drawHeader(state);
  drawBanner(state);
  drawTiles(state);
  drawJobs(state, act);
  drawNodes(state);
  drawFairness(state);
  drawStorage(state);
  drawRing(state);
  drawAllCharts();
  const may = Boolean(state.rights?.actions);
  $('open-submit').disabled = !may || state.lost;
  $('open-submit').title = may ? '' : 'this dashboard only shows: its key or its options do not let it submit';
  $('foot').textContent = `Key “${state.rights?.key ?? ''}” (${state.rights?.role ?? ''})${
      may ? '' : ', shows only'}. Pushed by idunno dash; last numbers ${new Date(state.at).toLocaleTimeString('en-GB')}.`;
}

const drawAllCharts = () => drawCharts(state, Number($('window').value), Number($('latency-of').value));

function addSpan(span) {
  // A run of short batches is told again as it grows: same node, slot and beginning.
  const before = state.spans.findLastIndex((each) => each[0] === span[0] && each[1] === span[1]);
  if (before >= 0 && state.spans[before][4] === span[4])
    state.spans[before] = span;
  else
    state.spans.push(span);
}

function connect() {
  const stream = new EventSource('/api/stream');
  stream.addEventListener('whole', (event) => {
    Object.assign(state, JSON.parse(event.data), {lost: false});
    offset = state.at - Date.now();
    known = true;
    drawEvents(state.events);
    drawTick();
  });
  stream.addEventListener('tick', (event) => {
    const tick = JSON.parse(event.data);
    offset = tick.at - Date.now();
    if (tick.sample) state.samples.push(tick.sample);
    delete tick.sample;
    if (state.samples.length > SAMPLES_MAX) state.samples.splice(0, state.samples.length - SAMPLES_MAX);
    Object.assign(state, tick);
    drawTick();
  });
  stream.addEventListener('news', (event) => {
    const news = JSON.parse(event.data);
    news.spans.forEach(addSpan);
    if (state.spans.length > SPANS_MAX) state.spans.splice(0, state.spans.length - SPANS_MAX);
    addEvents(news.events);
    state.running = news.running;
    const changed = state.banner !== news.banner || state.silent !== news.silent || state.coordinator !== news.coordinator;
    let moved = false;
    for (const [id, nodeState] of news.nodes) {
      const node = state.nodes.find((each) => each.id === id);
      moved = moved || (node && node.state !== nodeState);
      if (node) node.state = nodeState;
    }
    Object.assign(state, {banner: news.banner, silent: news.silent, coordinator: news.coordinator});
    if (changed) drawBanner(state);
    if (changed || moved) {
      drawHeader(state);
      drawRing(state);
    }
    drawNodes(state);
  });
  stream.addEventListener('error', () => {
    state.lost = true;
    if (known) drawTick();
    // The browser connects again by itself unless the server has refused.
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  });
}

// The strip moves; ten pictures a second are enough, one for those who want no motion.
const calm = matchMedia('(prefers-reduced-motion: reduce)');
let stripAt = 0;
function animate(at) {
  if (at - stripAt > (calm.matches ? 1000 : 100) && known) {
    stripAt = at;
    // While nothing comes, time stands still here: bars must not grow over what nobody knows.
    drawStrip(state, Number($('strip-window').value), state.lost ? state.at : now());
  }
  requestAnimationFrame(animate);
}

const systemDark = matchMedia('(prefers-color-scheme: dark)');
function shownTheme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === 'dark' : systemDark.matches;
  document.documentElement.dataset.shown = dark ? 'dark' : 'light';
  $('theme-mark').textContent = dark ? '☀' : '☾';
  $('theme-name').textContent = dark ? ' Light' : ' Dark';
  $('theme').setAttribute('aria-pressed', String(dark));
  drawTick();
}

$('theme').addEventListener('click', () => {
  const next = document.documentElement.dataset.shown === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem('idunno-theme', next);
  } catch { /* only for this visit, then */
  }
  shownTheme();
});
systemDark.addEventListener('change', shownTheme);
for (const id of ['window', 'latency-of']) $(id).addEventListener('change', () => known && drawAllCharts());
new ResizeObserver(() => known && drawAllCharts()).observe($('main'));
wireForms();
wireStrip();
shownTheme();
connect();
requestAnimationFrame(animate);
window.addEventListener('unhandledrejection', (event) => toast(String(event.reason?.message ?? event.reason), true));
