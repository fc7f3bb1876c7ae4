// Small things that all parts of the page use. Text from the cluster is only ever set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** el('td', {class: 'n', title: '...'}, 'text', child, ...) */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function svg(tag, attributes = {}, text) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Sets the text only when it differs: selections and screen readers stay undisturbed. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const jobIndex = (id) => (id - 1) % 6;
export const jobColour = (id) => css(`--job${jobIndex(id)}`);
/** Jobs differ in the pattern of their lines, too, not in colour alone. */
export const jobDash = (id) => [[], [9, 4], [3, 3], [12, 3, 3, 3], [6, 2], [2, 5]][jobIndex(id)];

export function chip(id) {
  const out = el('span', {class: 'chip'}, `j${id}`);
  out.style.setProperty('--c', `var(--job${jobIndex(id)})`);
  return out;
}

export const number = (value, digits = 1) => value === null || value === undefined ?
    '–' :
    value.toLocaleString('en-US', {minimumFractionDigits: digits, maximumFractionDigits: digits});

export function millis(value) {
  if (value === null || value === undefined) return '–';
  return number(value, value < 10 ? 1 : 0);
}

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    ++unit;
  }
  return `${number(value, unit === 0 || value >= 100 ? 0 : 1)} ${units[unit]}`;
}

export function span(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return '–';
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${s % 60} s`;
  return s < 86400 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} m` :
                     `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB');

export function eta(job) {
  if (job.over) return '–';
  if (job.total === null) return 'endless';
  const rate = job.rate || job.rate_all;
  return job.state === 'running' && rate > 0 ? span((job.total - job.done) / rate) : '–';
}

/** Fills a small table of numbers beside a chart. */
export function fillTable(table, heads, rows) {
  table.replaceChildren(
      el('thead', {}, el('tr', {}, ...heads.map((head, i) => el('th', {scope: 'col', class: i > 0 ? 'n' : null}, head)))),
      el('tbody', {}, ...rows.map((row) => el('tr', {}, ...row.map((cell, i) => el('td', {class: i > 0 ? 'n' : null}, cell))))));
}
