/**
 * A site as a user runs it: farbus up, console, lease, down; with each computer in its own process,
 * then with all in one. A crash of one computer leaves the other running ([SYS] fig. 1 to 12).
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { farbusFile } from '../interop/farbus.js';
import { tempFolder } from '../support/temp.js';

let folder: string;
let env: NodeJS.ProcessEnv;
let site: Farbus;
/** The running `farbus logs --follow`. */
let followed: Farbus;
const children = new Set<ChildProcess>();

const text = (processes: string): string => `
name: pair
processes: ${processes}
segments:
  lan: { mtu: 9000 }
computers:
  store:
    role: server
    network: lan
    address: 10.0.0.2/24
    snapshot: store.snapshot
    devices:
      disk: { source: 'memory:16M', local: true }
  desk:
    role: client
    network: lan
    address: 10.0.0.1/24
    snapshot: desk.snapshot
    drives:
      - far: store/disk
`;

beforeAll(() => {
  folder = tempFolder();
  const runtime = join(folder, 'run');
  mkdirSync(runtime, { mode: 0o700 });
  env = { ...process.env, XDG_RUNTIME_DIR: runtime, XDG_STATE_HOME: join(folder, 'state') };
});

afterAll(async () => {
  if (site?.child.exitCode === null) {
    site.child.kill('SIGTERM');
    await Promise.race([site.ended, new Promise((resolve) => setTimeout(resolve, 30_000))]);
  }
  for (const child of children) child.kill('SIGKILL');
});

describe('every computer in a process of its own', () => {
  beforeAll(async () => {
    writeFileSync(join(folder, 'site.yaml'), text('each'));
    site = start('up', join(folder, 'site.yaml'), '--trace');
    await site.printed(/store \(server\): running/);
    await site.printed(/desk \(client\): running/);
  }, 400_000);

  it('has consoles, on which the computers reach each other and write a far disk', async () => {
    const output = await atConsole(
      'desk',
      'ping -c 2 10.0.0.2; echo far disk > /dev/nvme0n1; sync; head -c 8 /dev/nvme0n1',
    );
    expect(output).toContain('2 packets received');
    expect(output).toContain('far disk');
    expect(await atConsole('store', 'hostname; head -c 8 /dev/nvme0n1')).toMatch(/store\s[^]*far disk/);
  });

  it('a console sets the terminal to raw mode, and Ctrl-] leaves it', async () => {
    const command = `${process.execPath} ${farbusFile} console desk`;
    const child = spawn('script', ['-qec', command, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] });
    children.add(child);
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await expect.poll(() => output, { timeout: 30_000 }).toContain('Ctrl-] leaves');
    await expect.poll(() => output, { timeout: 30_000 }).toContain('desk# ');
    // Ctrl-C goes to the guest and does not end the command. It may arrive before sleep has
    // started, so it is repeated.
    child.stdin.write('sleep 1000\n');
    const interrupted = async (): Promise<string> => {
      child.stdin.write('\x03\necho st""ill here\n');
      await new Promise((resolve) => setTimeout(resolve, 500));
      return output;
    };
    await expect.poll(interrupted, { timeout: 30_000 }).toContain('still here');
    child.stdin.write('\x1d');
    const [code] = (await once(child, 'exit')) as [number];
    children.delete(child);
    expect(code).toBe(0);
  });

  it('shows and moves a lease; the side without it is refused', async () => {
    expect((await run('lease')).stdout).toBe('store/disk: network\n');
    expect((await run('status')).stdout).toMatch(
      /^site pair\n {2}store \(server\): running\n {2}desk \(client\): running\n {2}lease store\/disk: network\n$/m,
    );
    expect((await run('status', 'pair/desk')).stdout).toMatch(/^ {2}engine {7}v86(: .*)?$/m);
    const write =
      'dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 oflag=direct 2>/dev/null && echo written || echo refused';
    expect(await atConsole('store', write)).toContain('refused');
    expect((await run('lease', 'store/disk', 'local')).stdout).toBe('store/disk: local\n');
    expect(await atConsole('store', write)).toContain('written');
    expect(await atConsole('desk', write)).toContain('refused');
    expect((await run('lease', 'store/disk', 'nobody')).stderr).toContain('give one of network, local');
    expect((await run('lease', 'store/none', 'local')).stderr).toContain('there is no device "store/none"');
  });

  it('logs the steps of the boots, and traces the steps of each command with equal tags on both sides', async () => {
    const logs = join(folder, 'state/farbus/pair');
    const steps = (name: string) =>
      [...readFileSync(join(logs, `${name}.log`), 'utf8').matchAll(/step (\d+)/g)].map(([, id]) => id);
    expect(steps('desk')).toEqual(['321', '322', '323', '324', '325', '326']);
    expect(steps('store')).toEqual(['341', '342', '343', '344', '345', '346', '347', '348']);
    await atConsole('desk', 'dd if=/dev/nvme0n1 of=/dev/null bs=4k skip=1000 count=1 iflag=direct 2>/dev/null');
    const trace = (name: string) => readFileSync(join(logs, `${name}.trace`), 'utf8');
    const [, tag] = /AoE message #(\d+): read sectors 8000\.\.8007/.exec(trace('desk'))!;
    const own = [...trace('store').matchAll(new RegExp(`^#${tag} +(\\d+)`, 'gm'))].map(([, id]) => id);
    expect(own).toEqual(['280', '281', '288', '282', '283', '284']);
  });

  it('prints the logs of one computer, or of all in the order of time', async () => {
    const { stdout } = await run('logs');
    const lines = stdout.trimEnd().split('\n');
    expect(lines.every((line) => /^(desk |store) \| \d{4}-\d\d-\d\dT[\d:.]+Z ./.test(line))).toBe(true);
    const times = lines.map((line) => line.slice(8, 32));
    expect(times).toEqual([...times].sort());
    expect(stdout).toContain('desk (client): running');
    expect(stdout).toContain('step 348');
    const one = await run('logs', 'store', '--lines', '3', '--json');
    const told = one.stdout.trimEnd().split('\n');
    expect(told).toHaveLength(3);
    for (const line of told) expect(JSON.parse(line)).toMatchObject({ computer: 'store', time: expect.any(String) });
    expect((await run('logs', '--console', 'desk')).stdout).toContain('far disk');
    const unknown = await run('logs', 'nobody');
    expect(unknown).toMatchObject({ code: 1, stdout: '' });
    expect(unknown.stderr).toContain('give one of desk, store');
    followed = start('logs', '--follow', '--lines', '0');
  });

  it('does not start twice', async () => {
    const again = await run('up', join(folder, 'site.yaml'));
    expect(again.stderr).toContain('the site pair runs already');
    expect(again.code).toBe(1);
  });

  it('reports that a computer has crashed, and leaves the other one running', async () => {
    process.kill(childOf(site.child.pid!, 'store'), 'SIGKILL');
    await site.printed(/store \(server\): crashed: its process ended by itself: SIGKILL/);
    await followed.printed(/^store \| .*crashed: its process ended by itself: SIGKILL$/m);
    expect(await atConsole('desk', 'echo still""here')).toContain('stillhere');
    expect((await run('console', 'nobody')).stderr).toContain('these run: pair, pair/store, pair/desk');
    const gone = await run('console', 'store');
    expect(gone.stdout).toContain('farbus: ready');
    expect(gone.stderr).toBe('farbus: store (server): crashed: its process ended by itself: SIGKILL\n');
  });

  it('ends by farbus down and leaves nothing behind', async () => {
    const computers = [childOf(site.child.pid!, 'desk')];
    expect((await run('down')).stdout).toBe('pair has ended\n');
    expect(await site.ended).toBe(1); // one of the computers had crashed
    for (const pid of computers) expect(() => process.kill(pid, 0)).toThrow();
    expect(readdirSync(join(folder, 'run/farbus'))).toEqual([]);
    expect((await run('down')).stderr).toContain('no site runs');
    expect(await followed.ended).toBe(0);
    const after = await run('logs', '--follow');
    expect(after.stderr).toContain('no site runs; the logs of pair, which has ended');
    expect(after.stdout).toContain('crashed');
    expect(after.code).toBe(0);
    const none = await run('logs', '--site', 'other');
    expect(none.stderr).toBe('farbus: there are no logs of a site "other"; there are those of pair\n');
    expect(none.code).toBe(1);
  });
});

describe('all computers in one process', () => {
  it('continue from their snapshots, in the background, and end by farbus down', async () => {
    writeFileSync(join(folder, 'one.yaml'), text('one'));
    const up = await run('up', '--detach', join(folder, 'one.yaml'));
    try {
      expect(up.stderr).toBe('');
      expect(up.stdout).toContain('desk (client): running: from a snapshot');
      expect(await atConsole('desk', 'ping -c 2 10.0.0.2')).toContain('2 packets received');
      const desk = start('console', 'desk');
      desk.child.stdin!.write('poweroff -f\n');
      await desk.printed(/farbus: desk \(client\): ended: it has halted$/m);
      expect(await desk.ended).toBe(0);
    } finally {
      await run('down');
    }
  }, 200_000);
});

it('starts nothing if a kernel that a computer needs is missing', async () => {
  const usual = env;
  env = { ...env, XDG_CACHE_HOME: join(folder, 'empty'), FARBUS_DEBIAN_MIRROR: 'http://127.0.0.1:9' };
  try {
    writeFileSync(join(folder, 'none.yaml'), text('one'));
    const up = await run('up', '--detach', join(folder, 'none.yaml'));
    expect(up).toMatchObject({ code: 1, stdout: '' });
    expect(up.stderr).toMatch(/^farbus: cannot get the package linux-image-\S+: .*\n$/);
  } finally {
    env = usual;
  }
});

interface Farbus {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  printed(pattern: RegExp): Promise<void>;
}

function start(...args: string[]): Farbus {
  const child = spawn(process.execPath, [farbusFile, ...args], { env, stdio: ['pipe', 'pipe', 'pipe'] });
  children.add(child);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = once(child, 'close').then(([code]) => {
    children.delete(child);
    return code as number | null;
  });
  const printed = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (pattern.test(output)) resolve();
      };
      child.stdout.on('data', look);
      child.stderr.on('data', look);
      look();
      void ended.then(() => reject(new Error(`farbus ${args[0]!} ended: ${output}`)));
    });
  return { child, ended, printed };
}

async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [farbusFile, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  children.delete(child);
  return { code, stdout, stderr };
}

/**
 * Types a command at a computer's console, through a pipe. Resolves with the output up to its end.
 */
async function atConsole(computer: string, command: string): Promise<string> {
  const child = spawn(process.execPath, [farbusFile, 'console', computer], { env, stdio: ['pipe', 'pipe', 'pipe'] });
  children.add(child);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const mark = `done-${Math.random().toString(36).slice(2)}`;
  // The quotes keep the echo of the input from matching the mark.
  child.stdin.write(`${command}; echo ${mark.slice(0, 5)}""${mark.slice(5)}\n`);
  try {
    await expect.poll(() => output, { timeout: 50_000 }).toContain(mark);
  } finally {
    child.kill('SIGTERM');
    await once(child, 'close');
    children.delete(child);
  }
  const at = output.lastIndexOf(mark);
  return output.slice(Math.max(0, output.lastIndexOf(command)), at);
}

/** The process of a computer, among the children of the process that runs the site. */
function childOf(parent: number, computer: string): number {
  const pids = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim().split(' ').map(Number);
  const found = pids.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(computer));
  if (found === undefined) throw new Error(`${computer} has no process`);
  return found;
}
