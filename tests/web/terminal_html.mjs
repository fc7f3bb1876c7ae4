// What `tmux capture-pane -e` prints (text with SGR sequences) as an HTML page, for a picture of a terminal. Pure.

const BACKGROUND = '#11161d', INK = '#d9dfe7';
const BASIC = ['#3b4252', '#f2777a', '#5fd7a7', '#f0c674', '#6cb6ff', '#d7a1e8', '#6fd3e3', '#d9dfe7'];

/** xterm's table of 256 colours. */
function colour(index) {
  if (index < 16) return BASIC[index % 8];
  if (index >= 232) {
    const grey = 8 + 10 * (index - 232);
    return `rgb(${grey}, ${grey}, ${grey})`;
  }
  const level = (value) => (value === 0 ? 0 : 55 + 40 * value);
  const cube = index - 16;
  return `rgb(${level(Math.floor(cube / 36))}, ${level(Math.floor(cube / 6) % 6)}, ${level(cube % 6)})`;
}

const escape = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

function apply(style, codes) {
  for (let i = 0; i < codes.length; ++i) {
    const code = codes[i];
    if (code === 0)
      Object.assign(style, {ink: null, back: null, bold: false, dim: false, reverse: false});
    else if (code === 1)
      style.bold = true;
    else if (code === 2)
      style.dim = true;
    else if (code === 7)
      style.reverse = true;
    else if (code === 22)
      style.bold = style.dim = false;
    else if (code === 27)
      style.reverse = false;
    else if (code === 39)
      style.ink = null;
    else if (code === 49)
      style.back = null;
    else if (code >= 30 && code <= 37)
      style.ink = BASIC[code - 30];
    else if (code >= 40 && code <= 47)
      style.back = BASIC[code - 40];
    else if ((code === 38 || code === 48) && codes[i + 1] === 5) {
      style[code === 38 ? 'ink' : 'back'] = colour(codes[i + 2]);
      i += 2;
    }
  }
}

function lineHtml(line, style) {
  let html = '';
  for (const part of line.split(/(\x1b\[[0-9;]*m)/)) {
    const sequence = part.match(/^\x1b\[([0-9;]*)m$/);
    if (sequence) {
      apply(style, sequence[1].split(';').map(Number));
    } else if (part) {
      const ink = (style.reverse ? style.back ?? BACKGROUND : style.ink) ?? INK;
      const back = style.reverse ? style.ink ?? INK : style.back;
      html += `<span style="color:${ink};${back ? `background:${back};` : ''}${style.bold ? 'font-weight:700;' : ''}${
          style.dim ? 'opacity:.6;' : ''}">${escape(part)}</span>`;
    }
  }
  return html;
}

export function terminalHtml(text) {
  const style = {ink: null, back: null, bold: false, dim: false, reverse: false};
  const lines = text.replace(/\n$/, '').split('\n').map((line) => lineHtml(line, style));
  return `<!doctype html><meta charset="utf-8"><body style="margin:0;background:#fff">
<pre style="display:inline-block;margin:0;padding:12px 14px;border-radius:10px;background:${BACKGROUND};color:${
      INK};font:14px/1.28 'DejaVu Sans Mono',monospace">${lines.join('\n')}</pre>`;
}
