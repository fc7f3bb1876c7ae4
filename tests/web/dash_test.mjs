// `idunno dash` as a user meets it: a temporary cluster, a real browser, real clicks. Every check waits for a condition with a
// deadline. Run by ctest (label web) or by hand: node tests/web/dash_test.mjs BIN_DIR [SCREENSHOT_DIR].
import assert from 'node:assert/strict';
import {mkdirSync} from 'node:fs';
import {request} from 'node:http';
import {join} from 'node:path';

import {Cluster, openBrowser, until} from './cluster.mjs';

const [binDir = 'build/bin', shots] = process.argv.slice(2);
if (shots) mkdirSync(shots, {recursive: true});
const browser = await openBrowser();
const cluster = new Cluster(binDir);
const run = (...args) => cluster.run(...args);

/** A plain request, with whatever headers a hostile page or program would send. */
function ask(url, {method = 'GET', headers = {}, body = ''} = {}) {
  return new Promise((resolve, reject) => {
    const call = request(url, {method, headers}, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({status: response.statusCode, text, headers: response.headers}));
    });
    call.on('error', reject);
    call.end(body);
  });
}

async function refusesOthers(url) {
  const page = await ask(url);
  const token = page.text.match(/name="idunno-token" content="([0-9a-f]{64})"/)?.[1];
  assert.ok(token, 'the page of an admin carries a token');
  assert.match(page.headers['content-security-policy'], /default-src 'none'/);
  const json = {'Content-Type': 'application/json'};
  const post = (headers) =>
      ask(new URL('/api/job', url), {method: 'POST', headers: {...json, ...headers}, body: '{"job":"j1","action":"stop"}'});
  assert.equal((await post({})).status, 403, 'no token');
  assert.equal((await post({'X-Idunno-Token': 'f'.repeat(64)})).status, 403, 'a wrong token');
  assert.equal((await post({'X-Idunno-Token': token, Origin: 'http://evil.example'})).status, 403, 'another origin');
  assert.equal((await post({'X-Idunno-Token': token, Origin: 'null'})).status, 403, 'no origin of its own');
  assert.equal((await ask(url, {headers: {Host: 'evil.example'}})).status, 421, 'a name that was made to mean this machine');
  assert.equal((await ask(new URL('/api/stream', url), {headers: {Host: `evil.example:${new URL(url).port}`}})).status, 421);
  assert.equal((await post({'X-Idunno-Token': token})).status, 404, 'with everything right, the cluster decides: no such job');
  assert.equal((await ask(new URL('/../main.cc', url))).status, 404);
}

const number = (text) => Number(text.replace(/[^0-9.]/g, ''));

async function clickThrough(page, url) {
  await page.goto(url);
  await page.getByText('● healthy').first().waitFor();
  assert.match(await page.locator('#facts').innerText(), /Coordinator\s*n1/);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip', 'the keyboard begins at the top');

  // Submit by the form; a wrong path is told in the form, not lost.
  for (const [model, weight] of [['lenet', '1'], ['squeeze', '1']]) {
    await page.getByRole('button', {name: 'Submit a job'}).click();
    await page.locator('select[name=model] option', {hasText: model}).waitFor({state: 'attached'});
    await page.locator('select[name=model]').selectOption(model);
    await page.locator('input[name=batch]').fill('4');
    await page.locator('input[name=weight]').fill(weight);
    await page.locator('input[name=repeat]').fill('forever');
    if (model === 'lenet') {
      await page.locator('input[name=data]').fill('/nowhere');
      await page.locator('#submit-send').click();
      await page.locator('#submit-error').filter({hasText: 'nowhere'}).waitFor();
    }
    await page.locator('input[name=data]').fill('/pictures');
    await page.locator('#submit-send').click();
    await page.locator('#submit-dialog').waitFor({state: 'hidden'});
  }
  await page.locator('tr[data-job="1"]').getByText('running').waitFor();
  await page.locator('tr[data-job="2"]').getByText('running').waitFor();
  const rate = async (job) => number(await page.locator(`tr[data-job="${job}"] td:nth-child(4)`).innerText());
  await until('both jobs have a rate', async () => (await rate(1)) > 0 && (await rate(2)) > 0);
  await page.locator('#rates canvas').waitFor();
  await until('the strip chart names both jobs', async () => (await page.locator('#strip-key .chip').count()) === 2);
  assert.equal(await page.locator('#rates .u-legend .u-series').count(), 3, 'time and two jobs');
}

async function surviveFailover(page) {
  const told = page.locator('#banner');
  await run('kill-node', '--coordinator');
  // Either that numbers are missing, or already who took over: how long the first lasts is the cluster's affair.
  await told.filter({hasText: /being replaced|takes over|took over/}).waitFor({timeout: 30_000});
  await told.filter({hasText: 'took over from n1'}).waitFor({timeout: 30_000});
  await page.locator('#ring').getByText('dead', {exact: true}).waitFor();
  await page.locator('#events').getByText('coordinator changed').first().waitFor();
  assert.doesNotMatch(await page.locator('#facts').innerText(), /Coordinator\s*n1/);
}

async function stopByClicks(page) {
  await page.locator('tr[data-job="1"] [data-action=pause]').click();
  await page.locator('tr[data-job="1"]').getByText('paused').waitFor();
  await page.locator('tr[data-job="1"] [data-action=resume]').click();
  await page.locator('tr[data-job="1"]').getByText('running').waitFor();
  await page.locator('tr[data-job="2"] [data-action=stop]').click();
  await page.getByRole('button', {name: 'Keep it'}).click();
  await page.locator('tr[data-job="2"] [data-action=stop]').click();
  await page.getByRole('button', {name: 'Stop it'}).click();
  await page.locator('tr[data-job="2"]').getByText('stopped').waitFor();
  assert.equal(JSON.parse(await run('job', 'show', 'j2', '--json')).state, 'stopped');
}

async function looks(page) {
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  if (shots) await page.screenshot({path: join(shots, 'dash-light.png'), fullPage: true});
  await page.locator('#theme').click();
  assert.notEqual(await background(), light);
  assert.equal(await page.evaluate(() => document.documentElement.dataset.shown), 'dark');
  await page.reload();
  await page.getByText(/^(●|▲)/).first().waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.shown), 'dark', 'the choice is kept');
  // A page that has just been opened has the past at once.
  await page.locator('#rates canvas').waitFor();
  assert.ok((await page.locator('#events li').count()) > 2);
  if (shots) await page.screenshot({path: join(shots, 'dash-dark.png'), fullPage: true});
  for (const [width, height] of [[360, 780], [768, 1024], [1600, 1000]]) {
    await page.setViewportSize({width, height});
    await until(
        `nothing sticks out at ${width} px`,
        () => page.evaluate(
            () => document.documentElement.scrollWidth <= innerWidth &&
                [...document.querySelectorAll('.chart canvas')].every(
                    (canvas) => canvas.getBoundingClientRect().right <= innerWidth)),
        5000);
    if (shots && width === 360) await page.screenshot({path: join(shots, 'dash-narrow.png'), fullPage: true});
  }
}

async function accessible(page) {
  const unnamed = await page.evaluate(
      () => [...document.querySelectorAll('button, select, input, [role=img], [role=progressbar]')]
                .filter(
                    (each) => !each.getAttribute('aria-label') && !each.getAttribute('aria-labelledby') && !each.labels?.length &&
                        !each.textContent.trim())
                .map((each) => each.outerHTML.slice(0, 120)));
  assert.deepEqual(unnamed, [], 'everything that is used has a name');
}

let failed = false;
try {
  await run('up', '-n', '3');
  const pictures = join(cluster.scratch, 'pictures');
  await run('bench', 'make-images', pictures, '--count', '100', '--size', '64');
  await run('fs', 'put', '-r', pictures, '/pictures');
  await run('model', 'init', 'lenet5', '--name', 'lenet');
  await run('model', 'init', 'squeezenet1_1', '--name', 'squeeze');
  const {url, dash} = await cluster.dash();
  await refusesOthers(url);

  const context = await browser.newContext({viewport: {width: 1280, height: 900}, colorScheme: 'light', reducedMotion: 'reduce'});
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`error: ${error.stack}`));
  page.on('request', (each) => {
    if (!each.url().startsWith(url) && !each.url().startsWith('data:')) complaints.push(`asked another address: ${each.url()}`);
  });

  await clickThrough(page, url);
  // The refused submit is a 404 on purpose, and Chromium tells of it on the console.
  assert.deepEqual(complaints.splice(0).filter((text) => !text.includes('status of 404')), []);
  await accessible(page);
  await surviveFailover(page);
  await stopByClicks(page);
  await looks(page);
  await until('the banner goes', () => page.locator('#banner').isHidden());
  assert.deepEqual(complaints, []);

  // A key that may only read gets a page that only shows, and the server holds to it.
  await run('keys', 'add', 'viewer', '--role', 'read');
  const viewer = await cluster.dash('--key', join(cluster.dir, 'keys', 'viewer.key'));
  assert.match((await ask(viewer.url)).text, /name="idunno-token" content=""/);
  assert.equal(
      (await ask(new URL('/api/submit', viewer.url), {method: 'POST', headers: {'X-Idunno-Token': ''}, body: '{}'})).status, 403);
  await page.goto(viewer.url);
  await page.getByText('shows only').waitFor();
  assert.ok(await page.getByRole('button', {name: 'Submit a job'}).isDisabled());
  // Its end is told to the page, and it ends at once although the page is still connected.
  viewer.dash.kill('SIGINT');
  await until('the dashboard ends', () => viewer.dash.exitCode !== null, 10_000);
  assert.equal(viewer.dash.exitCode, 0);
  await page.getByText('No connection to the dashboard').waitFor();
  assert.equal(dash.exitCode, null);
  console.log('dash: all held');
} catch (error) {
  failed = true;
  console.error(error);
} finally {
  await browser.close();
  await cluster.end();
}
process.exit(failed ? 1 : 0);
