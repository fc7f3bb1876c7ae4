// What the tests with a browser have in common: finding one, a cluster in a temporary folder, waiting for conditions.
import {execFile, spawn} from 'node:child_process';
import {existsSync, mkdtempSync, rmSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

const SKIPPED = 77;  // as ctest is told (CMakeLists.txt)

function browserPath() {
  const places = [process.env.IDUNNO_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  return places.find((path) => path && existsSync(path));
}

function loadPlaywright() {
  try {
    return createRequire(new URL('../../cli/dash/', import.meta.url))('playwright-core');
  } catch {
    return null;
  }
}

/** A headless browser; ends the program as skipped where there is none. */
export async function openBrowser() {
  const playwright = loadPlaywright();
  if (!playwright || !browserPath()) {
    console.log(`skipped: ${playwright ? 'no chromium' : 'no playwright-core (npm ci --prefix cli/dash)'}`);
    process.exit(SKIPPED);
  }
  return playwright.chromium.launch({executablePath: browserPath(), args: ['--no-sandbox']});
}

/** Looks again and again until `holds` gives something; there is no other waiting. */
export async function until(what, holds, limit = 60_000) {
  const deadline = Date.now() + limit;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export class Cluster {
  constructor(binDir) {
    this.idunno = join(binDir, 'idunno');
    this.scratch = mkdtempSync(join(tmpdir(), 'idunno-web-'));
    this.dir = join(this.scratch, 'cluster');
    this.started = [];
  }

  /** `idunno ARGS`: what it printed; throws with what it said on stderr when it fails. */
  run(...args) {
    return new Promise(
        (resolve, reject) => execFile(
            this.idunno, ['--dir', this.dir, ...args], {timeout: 120_000},
            (error, out, err) =>
                (error ? reject(new Error(`idunno ${args.join(' ')}: ${err || error.message}`)) : resolve(out.trim()))));
  }

  /** Starts a dashboard: its address and its process. */
  async dash(...args) {
    const dash =
        spawn(this.idunno, ['--dir', this.dir, 'dash', '--port', '0', '--no-open', ...args], {stdio: ['ignore', 'pipe', 'pipe']});
    this.started.push(dash);
    let out = '', err = '';
    dash.stdout.on('data', (chunk) => {
      out += chunk;
    });
    dash.stderr.on('data', (chunk) => {
      err += chunk;
    });
    const url = await until('the dashboard prints its address', () => {
      if (dash.exitCode !== null) throw new Error(`dash ended: ${err}`);
      return out.match(/http:\/\/\S+\//)?.[0];
    });
    return {url, dash};
  }

  async end() {
    for (const each of this.started) each.kill('SIGTERM');
    await this.run('down', '--purge', '-y').catch((error) => console.error(error.message));
    rmSync(this.scratch, {recursive: true, force: true});
  }
}
