/** `farbus up`: starts the computers and segments of a site file, and runs until the site ends. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FarbusError, usageError } from '../../base/errors.js';
import { sleep } from '../../base/event-loop.js';
import { visible } from '../../base/printable.js';
import type { OnProgress } from '../../guest/progress.js';
import { isOver, isUp } from '../../site/computer.js';
import { register, type Facts, type Registration } from '../../app/control/registry.js';
import { describe } from '../../app/control/description.js';
import { parseWeb } from '../../app/web/address.js';
import { startWeb, type Web } from '../../app/web/serve.js';
import { Tokens } from '../../web/server/tokens.node.js';
import { openBrowser } from '../ui/open-browser.js';
import { siteHandler } from '../../app/site/control.js';
import { logFolder, snapshotFolder } from '../../site/folders.node.js';
import { SiteLogs } from '../../site/logs.node.js';
import type { SitePlan } from '../../site/plan.js';
import type { ComputerStatus } from '../../site/supervisor.js';
import { announce, stderrLogger, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options, Values } from '../table.js';
import { exitStatus } from '../exit-status.js';
import { ProgressLine } from '../ui/progress.js';
import { endInOrder, onSignals } from '../ui/signals.js';
import { loadSite } from '../../app/site/load.js';
import { siteCalled, siteFacts, siteStatus, statusLine } from '../../app/site/site.js';
import { prepareSystems, siteEngines, siteSupervisor } from '../../app/site/start.js';

const options = {
  detach: {
    short: 'd',
    about: 'run in the background: print states until every computer is up, and leave the site running',
  },
  check: { about: 'check the site file and start nothing' },
  trace: { about: "write each computer's steps to COMPUTER.trace in the folder of logs" },
  web: {
    value: '[HOST:]PORT',
    alone: '0',
    about:
      'serve a console page with the terminals of the computers, at http://HOST:PORT/; HOST is 127.0.0.1 by default, ' +
      'PORT a free one. Prints the address, and opens it where there is a display',
  },
  json: { about: 'print each change of a state as a line of JSON' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'up',
  summary: 'start a site: computers and the network segments between them',
  usage: ['SITE-FILE [OPTIONS]'],
  about: `
    A site file (YAML, docs/site.md) describes client and server computers, their devices and drives, and the Ethernet
    segments that join them. Each computer runs in its own process, and each change of its state is printed. If one
    crashes, the others continue. Ctrl-C, SIGTERM or farbus down ends the site; it also ends when no computer runs any
    more. A fault of the file is reported with its line before anything starts.`,
  options,
  notes: `
    The logs are in ~/.local/state/farbus/SITE ($XDG_STATE_HOME), and farbus logs prints them: COMPUTER.log has the
    messages of the hypervisor and the steps of the boot, COMPUTER.console the output of its console.`,
  statuses: [['1', 'also: a computer failed or crashed']],
  examples: [
    'farbus up examples/demo.yaml',
    'farbus up site.yaml --detach && farbus console desk',
    'farbus up --check site.yaml',
    'farbus up site.yaml --web',
  ],
  pages: ['site', 'web'],
  operands: 'file',
  run,
});

/** Time for the computers of a background site to start, in ms. */
const detachLimit = 600_000;

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [given, ...more] = operands;
  if (given === undefined || more.length > 0) throw usageError('farbus up SITE-FILE: give one site file');
  const file = resolve(given);
  if (!existsSync(file)) throw new FarbusError(`there is no site file ${given}`);
  if (values.web !== undefined) parseWeb(values.web);
  // Relative paths in a site file start at its folder.
  process.chdir(dirname(file));
  const site = await loadSite(basename(file));
  if (values.check) {
    io.stdout.write(`${site.name}: ${many(site.computers, 'computer')}, ${many(site.segments, 'segment')}\n`);
    return 0;
  }
  if (await siteCalled(site.name, io.env)) {
    throw new FarbusError(`the site ${site.name} runs already: farbus down ${site.name} ends it`);
  }
  await prepare(site, io);
  if (values.detach) return detach(file, site.name, values, io);
  return stay(site, io, values);
}

function many({ length }: readonly unknown[], what: string): string {
  return `${length} ${what}${length === 1 ? '' : 's'}`;
}

async function prepare(site: SitePlan, io: CliIo): Promise<void> {
  const progress = new ProgressLine(io);
  const onProgress: OnProgress = ({ label, done, total }) => progress.bytes(label, done, total);
  const signals = onSignals();
  try {
    const { signal } = signals;
    const log = stderrLogger(io, true);
    const onEngine = (line: string) => stderrLogger(io).log('info', line);
    await signals.during(prepareSystems(site, io.env, { log, onEngine, onProgress, signal }));
  } finally {
    progress.clear();
    signals.stop();
  }
}

type StayValues = Pick<Values<typeof options>, 'trace' | 'json' | 'web'>;

async function stay(site: SitePlan, io: CliIo, { trace, json, web: at }: StayValues): Promise<number> {
  const folder = logFolder(io.env, site.name);
  const log = stderrLogger(io);
  let logs: SiteLogs | undefined;
  const signals = onSignals();
  let crashed = false;
  const supervisor = siteSupervisor(site, {
    traceFolder: trace ? folder : undefined,
    snapshotFolder: snapshotFolder(io.env, site.name),
    events: {
      status: (status) => {
        crashed ||= status.state === 'crashed' || status.state === 'failed';
        logs?.line(status.name, statusLine(status));
        announce(io, json ? `${JSON.stringify(status)}\n` : `${statusLine(status)}\n`, log);
      },
      output: (computer, bytes) => logs?.output(computer, bytes),
      log: (computer, level, message) => {
        if (level !== 'debug') logs?.line(computer, `${level}: ${message}`);
        if (level === 'warn' || level === 'error') io.stderr.write(`farbus: ${visible(`${computer}: ${message}`)}\n`);
      },
    },
  });
  let control: Registration | undefined;
  let web: Web | undefined;
  let closeBrowser: (() => void) | undefined;
  const engines = siteEngines(site, io.env);
  const facts = (): Facts => {
    const { reach, ...more } = siteFacts(site, engines, () => supervisor.status);
    return { ...more, reach: [...reach, ...(web ? [web.plainAddress] : [])] };
  };
  try {
    control = await register(
      { kind: 'site', name: site.name, usual: site.name, env: io.env, end: endInOrder },
      facts(),
    );
    control.serve(
      siteHandler(supervisor, folder, () => supervisor.stop()),
      facts,
    );
    // Do this after taking the control socket: before, the logs may belong to a running site.
    logs = new SiteLogs(folder);
    if (!json) io.stderr.write(`farbus: the site ${site.name}; logs are in ${folder}\n`);
    if (at !== undefined) {
      const { name } = site;
      const tls = { 'tls-verify-peer': false };
      web = await signals.during(startWeb({ at, origins: [], tls, name, env: io.env, log }));
      announce(io, json ? `${JSON.stringify({ web: web.address })}\n` : `${web.address}\n`, log);
      closeBrowser = openBrowser(io, web.address);
    }
    await signals.during(supervisor.start());
    const status = await Promise.race([
      signals.received,
      supervisor.over.then(() => (crashed ? exitStatus.failed : exitStatus.done)),
    ]);
    await supervisor.stop();
    return status;
  } finally {
    closeBrowser?.();
    web?.close();
    await supervisor.stop();
    await control?.close();
    signals.stop();
    logs?.close();
  }
}

/** Starts this command again in the background, and shows the states until all computers are up. */
async function detach(file: string, name: string, { trace, json, web }: StayValues, io: CliIo): Promise<number> {
  const own = [
    ...(trace ? ['--trace'] : []),
    ...(json ? ['--json'] : []),
    ...(web === undefined ? [] : [`--web=${web}`]),
  ];
  const program = fileURLToPath(new URL('../../../bin/farbus.js', import.meta.url));
  const child = spawn(process.execPath, [program, 'up', file, ...own], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore'],
    env: io.env,
  });
  let ended = false;
  child.once('exit', () => (ended = true));
  child.once('error', () => (ended = true));
  child.unref();
  const shown = new Map<string, string>();
  const until = performance.now() + detachLimit;
  while (performance.now() < until) {
    await sleep(200);
    const status = await statusOf(name, io.env);
    for (const one of status) {
      const line = statusLine(one);
      if (shown.get(one.name) !== line) io.stdout.write(`${line}\n`);
      shown.set(one.name, line);
    }
    const states = status.map(({ state }) => state);
    if (states.length > 0 && states.every((state) => isUp(state) || isOver(state))) {
      if (web !== undefined) io.stdout.write(`${await webAddress(name, io.env)}\n`);
      return states.every(isUp) ? exitStatus.done : exitStatus.failed;
    }
    if (ended) throw new FarbusError(`the site has ended: farbus logs --site ${name} tells why`);
  }
  throw new FarbusError('the site is not up yet; farbus down ends it');
}

/** The address of the console page of a site in the background, with its token. */
async function webAddress(name: string, env: NodeJS.ProcessEnv): Promise<string> {
  const site = await siteCalled(name, env);
  const { reach = [] } = site ? await describe(site) : {};
  const plain = reach.find((one) => /^https?:/.test(one)) ?? '';
  return `${plain}#token=${(await Tokens.open(env)).consoleToken}`;
}

async function statusOf(name: string, env: NodeJS.ProcessEnv): Promise<readonly ComputerStatus[]> {
  try {
    const site = await siteCalled(name, env);
    return site ? (await siteStatus(site.path)).computers : [];
  } catch {
    // The socket does not exist yet or any more; the caller watches the process for that.
    return [];
  }
}
