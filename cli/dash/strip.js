// The strip chart: a row for each slot of each node, a bar for each batch. Bars carry the job's name where it fits, and jobs
// differ in hatching, too.
import {$, chip, css, el, jobColour, jobIndex} from './util.js';

const ROW = 20, GAP = 4, LEFT = 46, BOTTOM = 20;
let drawn = [];  // {x, y, width, height, text} of the last picture

/** Rows in order: n1 slot 0, n1 slot 1, n2 slot 0, ... */
function rowsOf(state) {
  const rows = [];
  for (const node of state.nodes) {
    const slots = Math.min(Math.max(1, node.slots), 16);
    for (let slot = 0; slot < slots; ++slot)
      rows.push({
        node: node.id,
        slot,
        label: slots > 1 ? `n${node.id}·${slot + 1}` : `n${node.id}`,
        gone: node.state === 'dead' || node.state === 'left',
        first: slot === 0
      });
  }
  return rows;
}

function hatch(context, x, y, width, height, index) {
  if (index === 0) return;
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = css('--card');
  context.globalAlpha = 0.28;
  context.lineWidth = 1.5;
  context.beginPath();
  const step = index === 3 ? 4 : 7;
  for (let at = -height; at < width + height; at += step) {
    if (index === 1 || index === 3 || index === 5) {
      context.moveTo(x + at, y + height);
      context.lineTo(x + at + height, y);
    }
    if (index === 2 || index === 5) {
      context.moveTo(x + at, y);
      context.lineTo(x + at + height, y + height);
    }
    if (index === 4) {
      context.moveTo(x + at, y);
      context.lineTo(x + at, y + height);
    }
  }
  context.stroke();
  context.restore();
}

export function drawStrip(state, seconds, now) {
  const canvas = $('strip');
  const rows = rowsOf(state);
  const box = canvas.parentElement;
  const width = box.clientWidth, height = rows.length * (ROW + GAP) + BOTTOM;
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext('2d');
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const from = now - seconds * 1000;
  const x = (at) => LEFT + (width - LEFT) * (at - from) / (seconds * 1000);
  const soft = css('--soft'), line = css('--line'), hover = css('--hover'), card = css('--card');
  context.font = '11.5px system-ui, sans-serif';
  context.textBaseline = 'middle';
  const places = new Map();
  rows.forEach((row, i) => {
    const y = i * (ROW + GAP);
    places.set(`${row.node}/${row.slot}`, y);
    context.fillStyle = hover;
    context.fillRect(LEFT, y, width - LEFT, ROW);
    context.fillStyle = row.gone ? css('--bad') : soft;
    context.textAlign = 'left';
    context.fillText(row.label + (row.gone ? ' ✕' : ''), 0, y + ROW / 2);
  });
  const tickEvery = [1, 3, 5, 10, 15, 30, 60].find((step) => step * (width - LEFT) / seconds > 52) ?? 60;
  context.textAlign = 'center';
  for (let back = 0; back < seconds; back += tickEvery) {
    const at = x(now - back * 1000);
    context.fillStyle = line;
    context.fillRect(at, 0, 1, height - BOTTOM + 3);
    context.fillStyle = soft;
    if (at > LEFT + 20) context.fillText(back === 0 ? 'now' : `−${back} s`, Math.min(at, width - 14), height - BOTTOM / 2 + 2);
  }
  drawn = [];
  const jobs = new Set();
  const bar = (node, slot, job, batch, start, end, running) => {
    const y = places.get(`${node}/${slot}`);
    if (y === undefined || end < from || start > now) return;
    jobs.add(job);
    const left = Math.max(LEFT, x(start));
    const wide = Math.max(1, Math.min(width, x(Math.min(end, now))) - left - 0.6);
    context.fillStyle = jobColour(job);
    context.fillRect(left, y, wide, ROW);
    hatch(context, left, y, wide, ROW, jobIndex(job));
    if (wide > 26) {
      context.fillStyle = card;
      context.textAlign = 'center';
      context.font = '600 11px system-ui, sans-serif';
      context.fillText(wide > 58 ? `j${job}/b${batch}` : `j${job}`, left + wide / 2, y + ROW / 2 + 0.5);
    }
    drawn.push({
      x: left,
      y,
      width: wide,
      height: ROW,
      text: `j${job}/b${batch} on n${node}, slot ${slot + 1}: ${((end - start) / 1000).toFixed(2)} s${running ? ' so far' : ''}`
    });
  };
  for (const [node, slot, job, batch, start, end] of state.spans) bar(node, slot, job, batch, start, end, false);
  for (const [node, slot, job, batch, start] of state.running)
    if (start > 0) bar(node, slot, job, batch, start, now, true);

  const key = $('strip-key');
  const names = [...jobs].sort((a, b) => a - b).map((id) => [id, state.jobs.find((job) => job.id === id)?.name ?? '']);
  if (key.dataset.names !== JSON.stringify(names)) {
    key.dataset.names = JSON.stringify(names);
    key.replaceChildren(...names.map(([id, name]) => el('span', {}, chip(id), ` ${name}`)));
  }
}

export function wireStrip() {
  const canvas = $('strip'), tip = $('strip-tip');
  canvas.addEventListener('pointermove', (event) => {
    const hit = drawn.findLast(
        (bar) => event.offsetX >= bar.x && event.offsetX <= bar.x + bar.width && event.offsetY >= bar.y &&
            event.offsetY <= bar.y + bar.height);
    tip.hidden = !hit;
    if (!hit) return;
    tip.textContent = hit.text;
    tip.style.left = `${Math.min(event.offsetX + 12, canvas.clientWidth - tip.offsetWidth - 4)}px`;
    tip.style.top = `${event.offsetY + 16}px`;
  });
  canvas.addEventListener('pointerleave', () => {
    tip.hidden = true;
  });
}
