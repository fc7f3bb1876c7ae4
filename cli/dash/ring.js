// The members as a ring. State is told by shape (arc, dashes, cross) and in words, not by colour alone.
import {$, svg} from './util.js';

const SIZE = 320, CENTRE = SIZE / 2;

export function drawRing(state) {
  const nodes = state.nodes;
  const picture = svg('svg', {
    viewBox: `0 0 ${SIZE} ${SIZE}`,
    role: 'img',
    'aria-label': nodes
                      .map(
                          (node) => `n${node.id} ${node.state}${node.id === state.coordinator ? ', coordinator' : ''}${
                              node.id === state.standby ? ', standby' : ''}`)
                      .join('; ')
  });
  const radius = nodes.length > 1 ? 116 : 0;
  const size = Math.max(7, Math.min(26, 300 / Math.max(1, nodes.length)));
  picture.append(svg('circle', {class: 'orbit', cx: CENTRE, cy: CENTRE, r: Math.max(1, radius)}));
  nodes.forEach((node, i) => {
    const angle = (i / nodes.length) * 2 * Math.PI - Math.PI / 2;
    const x = CENTRE + radius * Math.cos(angle), y = CENTRE + radius * Math.sin(angle);
    const leads = node.id === state.coordinator && node.state !== 'dead';
    const group = svg('g', {class: `${node.state}${leads ? ' coordinator' : ''}`});
    group.append(
        svg('title', {},
            `n${node.id}: ${node.state}${node.roles?.length ? `, ${node.roles.join(', ')}` : ''}\n${node.address ?? ''}`));
    group.append(svg('circle', {class: 'body', cx: x, cy: y, r: size}));
    const share = Math.min(1, (node.cpu ?? 0) / Math.max(1, node.slots));
    if (node.state === 'alive' && share > 0.005) {
      const around = 2 * Math.PI * (size + 5);
      group.append(svg('circle', {
        class: 'arc',
        cx: x,
        cy: y,
        r: size + 5,
        'stroke-dasharray': `${around * share} ${around}`,
        transform: `rotate(-90 ${x} ${y})`
      }));
    }
    if (size >= 14) {
      const alive = node.state === 'alive';
      group.append(svg('text', {x, y: alive ? y : y - 5}, `n${node.id}`));
      if (!alive) group.append(svg('text', {class: 'sub', x, y: y + 8}, node.state));
      if (node.state === 'dead') group.append(svg('text', {x: x + size * 0.8, y: y - size * 0.8}, '✕'));
    }
    const office = leads ? '★' : node.id === state.standby && node.state !== 'dead' ? '☆' : '';
    if (office)
      group.append(svg(
          'text',
          {class: 'star', x: CENTRE + (radius - size - 17) * Math.cos(angle), y: CENTRE + (radius - size - 17) * Math.sin(angle)},
          office));
    picture.append(group);
  });
  const alive = nodes.filter((node) => node.state === 'alive').length;
  if (nodes.length > 1) {
    picture.append(
        svg('text', {class: 'centre', x: CENTRE, y: CENTRE - 7}, `${alive} of ${nodes.length}`),
        svg('text', {class: 'mid', x: CENTRE, y: CENTRE + 14}, 'alive'));
  }
  $('ring').replaceChildren(picture);
}
