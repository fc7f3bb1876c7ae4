// The pictures of the README: a cluster of five nodes with two networks, a coordinator that dies, the page and the terminal in a
// wide and a narrow window, light and dark. Needs tmux and ImageMagick.
//   node tests/web/screenshots.mjs BIN_DIR OUT_DIR [SECONDS that the jobs run before]
import {execFileSync} from 'node:child_process';
import {mkdirSync, statSync} from 'node:fs';
import {join} from 'node:path';

import {Cluster, openBrowser, until} from './cluster.mjs';
import {terminalHtml} from './terminal_html.mjs';

const [binDir = 'build/bin', out = 'configs/images', seconds = '90'] = process.argv.slice(2);
const BYTES_MAX = 150 * 1024;
mkdirSync(out, {recursive: true});
const browser = await openBrowser();
const cluster = new Cluster(binDir);
const socket = join(cluster.scratch, 'tmux');
const tmux = (...args) => execFileSync('tmux', ['-S', socket, ...args], {encoding: 'utf8'});

function watchIn(name, columns, rows, ...args) {
  tmux(
      '-f', '/dev/null', 'new-session', '-d', '-s', name, '-x', String(columns), '-y', String(rows), '-e', 'LC_ALL=C.UTF-8', '-e',
      'COLORTERM=truecolor', cluster.idunno, '--dir', cluster.dir, 'watch', ...args);
  tmux('set', '-t', name, 'status', 'off');
  tmux('resize-window', '-t', name, '-x', String(columns), '-y', String(rows));
}

async function shotOfTerminal(name, file) {
  const page = await browser.newPage({viewport: {width: 2000, height: 1400}});
  await page.setContent(terminalHtml(tmux('capture-pane', '-e', '-N', '-p', '-t', name)));
  await page.locator('pre').screenshot({path: join(out, file)});
  await page.close();
}

async function shotOfPage(url, file, {width, height, dark, clip}) {
  const context = await browser.newContext({viewport: {width, height}, colorScheme: dark ? 'dark' : 'light'});
  const page = await context.newPage();
  await page.goto(url);
  await page.locator('#rates canvas').waitFor();
  await until('the strip chart is drawn', async () => (await page.locator('#strip-key .chip').count()) > 0);
  await until('numbers have come', () => page.locator('#foot').innerText());
  await page.screenshot({path: join(out, file), fullPage: true, clip: clip ? {x: 0, y: 0, width, height: clip} : undefined});
  await context.close();
}

let failed = false;
try {
  await cluster.run('up', '-n', '5');
  const pictures = join(cluster.scratch, 'pictures');
  await cluster.run('bench', 'make-images', pictures, '--count', '256', '--size', '256');
  await cluster.run('fs', 'put', '-r', pictures, '/pictures');
  for (const model of ['resnet18', 'alexnet']) await cluster.run('model', 'init', model);
  const {url} = await cluster.dash();
  for (const [name, columns, rows] of [['wide', 132, 30], ['narrow', 60, 20], ['killed', 100, 24]]) watchIn(name, columns, rows);
  await cluster.run('submit', '--model', 'resnet18', '--data', '/pictures', '--batch', '8', '--repeat', '40');
  await cluster.run('submit', '--model', 'alexnet', '--data', '/pictures', '--batch', '8', '--repeat', '40');
  const begun = Date.now();
  await until('the jobs have run for a while', () => Date.now() - begun > Number(seconds) * 1000, Number(seconds) * 1000 + 5000);
  await shotOfTerminal('wide', 'watch-wide.png');
  await shotOfTerminal('narrow', 'watch-narrow.png');
  await shotOfPage(url, 'dash-light.png', {width: 1280, height: 900, dark: false, clip: 1180});
  await shotOfPage(url, 'dash-dark.png', {width: 1280, height: 900, dark: true, clip: 1180});
  await shotOfPage(url, 'dash-narrow.png', {width: 360, height: 780, dark: false, clip: 1500});
  await cluster.run('kill-node', '--coordinator');
  await until('the view tells of it', () => tmux('capture-pane', '-p', '-t', 'killed').includes('took over'));
  await until('the dead node is shown', () => /n1 .*dead/.test(tmux('capture-pane', '-p', '-t', 'killed')));
  await shotOfTerminal('killed', 'watch-failover.png');
  for (const file
           of ['watch-wide.png', 'watch-narrow.png', 'watch-failover.png', 'dash-light.png', 'dash-dark.png',
               'dash-narrow.png']) {
    // 255 colours are enough for both views, and half of the bytes.
    execFileSync('convert', [join(out, file), '-strip', '-dither', 'None', '-colors', '255', `png8:${join(out, file)}`]);
    const {size} = statSync(join(out, file));
    console.log(`${file}: ${Math.round(size / 1024)} KiB`);
    if (size > BYTES_MAX) throw new Error(`${file} is larger than ${BYTES_MAX / 1024} KiB`);
  }
} catch (error) {
  failed = true;
  console.error(error);
} finally {
  try {
    tmux('kill-server');
  } catch { /* it was not started */
  }
  await browser.close();
  await cluster.end();
}
process.exit(failed ? 1 : 0);
