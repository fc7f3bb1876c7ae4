// The three charts over time. uPlot draws lines; the band of the fair share is painted below them by a hook of its own.
/* global uPlot */
import {$, clock, css, fillTable, jobColour, jobDash, millis, number} from './util.js';

// Places in a job's sample, as cli/dash_history.cc writes them.
const ID = 0, RATE = 1, WEIGHT = 2, MEDIAN = 3, P90 = 4, P99 = 5, MACHINES = 6, RUNNING = 7;
const charts = {};  // by the name of their box; and what their hooks need to know of the newest picture

const axisFont = '12px system-ui, sans-serif';
const axis = (more) => ({
  stroke: css('--soft'),
  font: axisFont,
  grid: {stroke: css('--grid'), width: 1},
  ticks: {stroke: css('--grid'), width: 1, size: 4},
  ...more
});
const timeValues = (_, splits) => splits.map(
    (at) => new Date(at * 1000).toLocaleTimeString(
        'en-GB', splits.length > 1 && splits[1] - splits[0] < 60 ? {} : {hour: '2-digit', minute: '2-digit'}));
const legendTime = (_, at) => (at === null || at === undefined ? '–' : new Date(at * 1000).toLocaleTimeString('en-GB'));

const sizeOf = (box) =>
    ({width: Math.max(220, box.clientWidth), height: parseInt(getComputedStyle(box).getPropertyValue('--plot'), 10)});

function options(box, series, more) {
  return {
    ...sizeOf(box),
    cursor: {sync: {key: 'time'}, points: {size: 7}, drag: {x: false, y: false}},
    legend: {markers: {width: 3}},
    series: [{label: 'Time', value: legendTime}, ...series],
    axes: [
      axis({values: timeValues, space: 70, size: 30}), axis({
        size: 52,
        values: (_, splits) => splits.map((v) => v === null ? '' : (v >= 10000 ? `${v / 1000}k` : String(v))),
        ...more.yAxis
      })
    ],
    scales: {x: {time: true, range: more.xRange}, y: more.yScale},
    hooks: more.hooks ?? {},
    padding: [8, 10, 0, 0],
    bands: more.bands,
  };
}

/** Draws anew when the lines are others, else only puts in the new numbers. */
function show(name, key, data, make) {
  const box = $(name);
  let chart = charts[name];
  if (data.length < 2 || data[0].length === 0) {
    chart?.plot.destroy();
    delete charts[name];
    box.classList.add('empty');
    return;
  }
  box.classList.remove('empty');
  const full = `${key}|${document.documentElement.dataset.shown}`;
  if (!chart || chart.key !== full) {
    chart?.plot.destroy();
    chart = charts[name] = {key: full, plot: new uPlot(make(box), data, box), width: box.clientWidth};
    return showNewest(chart.plot);
  }
  if (chart.width !== box.clientWidth) {
    chart.width = box.clientWidth;
    chart.plot.setSize(sizeOf(box));
  }
  chart.plot.setData(data);
  showNewest(chart.plot);
}

/** The legend tells the newest numbers while no pointer asks for others. */
function showNewest(plot) {
  if ((plot.cursor.left ?? -1) < 0) plot.setLegend({idx: plot.data[0].length - 1});
}

// A second is only a few batches long: machines are shown as the mean of five.
const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
const jobOf = (sample, id) => sample[1].find((job) => job[ID] === id);

/** Of each distinct weight: the fair share over time, null where fewer than two jobs run. */
function fairShares(samples) {
  const out = new Map();
  samples.forEach((sample, i) => {
    const running = sample[1].filter((job) => job[RUNNING]);
    if (running.length < 2) return;
    const rate = running.reduce((sum, job) => sum + job[RATE], 0);
    const weight = running.reduce((sum, job) => sum + job[WEIGHT], 0);
    for (const job of running) {
      if (!out.has(job[WEIGHT])) out.set(job[WEIGHT], new Array(samples.length).fill(null));
      out.get(job[WEIGHT])[i] = rate * job[WEIGHT] / weight;
    }
  });
  // Whole batches make the sum of the rates jump: the band is the mean of ten seconds, like the rates themselves.
  const calm = (share) => share.map((value, i) => {
    const near = share.slice(Math.max(0, i - 9), i + 1).filter((each) => each !== null);
    return value === null ? null : mean(near);
  });
  return new Map([...out].map(([weight, share]) => [weight, calm(share)]));
}

let shares = new Map();
function paintBands(plot) {
  const {ctx, bbox} = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const xs = plot.data[0];
  const point = (i, value) => [plot.valToPos(xs[i], 'x', true), plot.valToPos(value, 'y', true)];
  for (const share of shares.values()) {
    for (let begin = 0; begin < share.length; ++begin) {
      if (share[begin] === null) continue;
      let end = begin;
      while (end + 1 < share.length && share[end + 1] !== null) ++end;
      const edge = (factor) => Array.from({length: end - begin + 1}, (_, k) => point(begin + k, share[begin + k] * factor));
      const high = edge(1.1), low = edge(0.9);
      ctx.fillStyle = css('--band');
      ctx.beginPath();
      [...high, ...low.toReversed()].forEach(([x, y], k) => (k === 0 ? ctx.moveTo(x, y) : ctx.lineTo(x, y)));
      ctx.fill();
      ctx.strokeStyle = css('--band-line');
      ctx.lineWidth = devicePixelRatio;
      for (const line of [high, low]) {
        ctx.beginPath();
        line.forEach(([x, y], k) => (k === 0 ? ctx.moveTo(x, y) : ctx.lineTo(x, y)));
        ctx.stroke();
      }
      begin = end;
    }
  }
  ctx.restore();
}

/** Every fifth of the newest samples, newest first: enough to read, short enough to look at. */
const tableSamples = (samples) => samples.filter((_, i) => (samples.length - 1 - i) % 5 === 0).slice(-12).toReversed();
const every = (samples, ids, head, value) => [
    ['Time', ...ids.map((id) => `${head} j${id}`)],
    tableSamples(samples).map((sample) => [clock(sample[0]), ...ids.map((id) => value(jobOf(sample, id)))])];

export function drawCharts(state, windowSeconds, latencyOf) {
  const newest = state.samples.at(-1)?.[0] ?? 0;
  const samples = state.samples.filter((sample) => sample[0] > newest - windowSeconds * 1000);
  const ids = [...new Set(samples.flatMap((sample) => sample[1].map((job) => job[ID])))].sort((a, b) => a - b);
  const xs = samples.map((sample) => sample[0] / 1000);
  const end = newest / 1000;
  const xRange = () => [charts.end - charts.span, charts.end];
  charts.end = end;
  // A young page shows what there is rather than an empty past.
  charts.span = Math.min(windowSeconds, Math.max(60, end - (xs[0] ?? end)));
  const column = (id, place) => samples.map((sample) => jobOf(sample, id)?.[place] ?? null);
  const name = (id) => `j${id} ${state.jobs.find((job) => job.id === id)?.name ?? ''}`.trim();
  const line = (id, label, more = {}) =>
      ({label, stroke: jobColour(id), width: 2.2, dash: jobDash(id), points: {show: false}, ...more});
  const upward = {range: (_, __, high) => [0, Math.max(1, (high ?? 1) * 1.15)]};

  shares = fairShares(samples);
  show(
      'rates', `rates ${ids}`, [xs, ...ids.map((id) => column(id, RATE))],
      (box) => options(
          box, ids.map((id) => line(id, name(id), {value: (_, v) => number(v)})),
          {xRange, yScale: upward, hooks: {drawAxes: [paintBands]}}));
  $('rates').setAttribute(
      'aria-label',
      `Chart of rates. Now: ${
          state.jobs.filter((job) => !job.over).map((job) => `${job.name} ${number(job.rate)} queries a second`).join(', ') ||
          'no job runs'}`);

  const of = ids.includes(latencyOf) ? [latencyOf] : ids;
  const kinds = of.length === 1 ? [[MEDIAN, 'median', []], [P90, 'p90', [8, 4]], [P99, 'p99', [2, 4]]] :
                                  [[MEDIAN, 'median', []], [P99, 'p99', [3, 4]]];
  const lines = of.flatMap(
      (id) => kinds.map(([place, label, dash]) => ({id, place, label: `${of.length === 1 ? '' : `j${id} `}${label}`, dash})));
  const values = lines.map(({id, place}) => column(id, place));
  const all = values.flat().filter((v) => v !== null && v > 0);
  const log = all.length > 0 && Math.max(...all) / Math.min(...all) > 30;
  const logRange =
      (_, low,
       high) => [10 ** Math.floor(Math.log10(Math.max(0.1, low ?? 1))), 10 ** Math.ceil(Math.log10(Math.max(1, high ?? 10)))];
  show(
      'latency', `latency ${of} ${log}`,
      [xs, ...(log ? values.map((list) => list.map((v) => (v === null || v <= 0 ? null : v))) : values)],
      (box) => options(
          box, lines.map(({id, label, dash}) => line(id, label, {
                           dash,
                           width: label.endsWith('median') ? 2.4 : 1.7,
                           value: (_, v) => (v === null || v === undefined ? '–' : `${millis(v)} ms`)
                         })),
          {
            xRange,
            yScale: log ? {distr: 3, range: logRange} : upward,
            yAxis:
                {size: 60,
                 values: (_, splits) => splits.map(
                     (v) => (
                         v === null    ? '' :
                             v >= 1000 ? `${v / 1000} s` :
                                         `${v} ms`))}
          }));
  $('latency').setAttribute('aria-label', 'Chart of processing times; the numbers are in the table of jobs');

  // Stacked: each line stands on those before it, the area between is the job's.
  const stacked = ids.map((id) => column(id, MACHINES).map((v) => v ?? 0))
                      .map((list) => list.map((_, k) => mean(list.slice(Math.max(0, k - 4), k + 1))));
  for (let i = 1; i < stacked.length; ++i) stacked[i] = stacked[i].map((v, k) => v + stacked[i - 1][k]);
  // Of the job alone, not of the pile. The chart outlives this call, so it looks the samples up when it is asked.
  charts.samples = samples;
  const own = (id) => (_, __, ___, k) =>
      (k === null || k === undefined || !charts.samples[k] ? '–' : number(jobOf(charts.samples[k], id)?.[MACHINES], 2));
  const slots = Math.max(1, state.nodes.filter((node) => node.state !== 'left').length);
  show(
      'machines', `machines ${ids} ${slots}`, [xs, ...stacked],
      (box) =>
          options(box, ids.map((id, i) => line(id, name(id), {fill: `${jobColour(id)}${i === 0 ? '55' : ''}`, value: own(id)})), {
            xRange,
            yScale: {range: () => [0, slots]},
            yAxis: {incrs: [1, 2, 5, 10, 20, 50, 100]},
            bands: ids.slice(1).map((id, i) => ({series: [i + 2, i + 1], fill: `${jobColour(id)}55`}))
          }));
  $('machines').setAttribute('aria-label', 'Chart of the machines that each job uses');

  fillTable($('rates-table'), ...every(samples, ids, 'queries/s', (job) => number(job?.[RATE])));
  fillTable($('machines-table'), ...every(samples, ids, 'machines', (job) => number(job?.[MACHINES], 2)));
  fillTable(
      $('latency-table'), ['Job', 'Median ms', 'p90 ms', 'p95 ms', 'p99 ms', 'Mean ms', 'SD'],
      state.jobs.filter((job) => ids.includes(job.id))
          .map(
              (job) =>
                  [`j${job.id} ${job.name}`, millis(job.median), millis(job.p90), millis(job.p95), millis(job.p99),
                   millis(job.mean), millis(job.sd)]));

  const select = $('latency-of');
  const wanted = ['0', ...ids.map(String)];
  if ([...select.options].map((option) => option.value).join() !== wanted.join()) {
    const before = select.value;
    select.replaceChildren(...wanted.map((id) => new Option(id === '0' ? 'all jobs' : name(Number(id)), id)));
    select.value = wanted.includes(before) ? before : '0';
  }
  for (const box of ['rates', 'latency', 'machines'])
    $(box).dataset.empty = state.samples.length === 0 ? 'waiting for numbers' : 'no job runs';
}
