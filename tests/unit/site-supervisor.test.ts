/**
 * Running a site: states, ends, consoles and leases of computers that the test plays; and frames
 * through a pipe.
 */
import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { sleep } from '../../src/base/event-loop.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { parseMac } from '../../src/network/ethernet/mac.js';
import type { ComputerEvents, StartComputer } from '../../src/site/computer.js';
import { FramePipe, lendPort, PipeSegment } from '../../src/site/frame-pipe.node.js';
import { readSite } from '../../src/app/config/site.js';
import { siteFacts } from '../../src/app/site/site.js';
import { Supervisor } from '../../src/site/supervisor.js';

const file = `
segments: { lan: { mtu: 9000 } }
computers:
  s: { role: server, network: lan, devices: { d: { source: x, local: true } } }
  c: { role: client, network: lan, drives: [{ far: s/d }] }
`;

/** The context of a request that is never withdrawn. */
const work = { signal: new AbortController().signal, waitsFor: () => undefined };

function setUp() {
  const none = (): void => undefined;
  const site = readSite('site.yaml', file, { name: 'site', checkFile: none });
  const told: string[] = [];
  const events = new Map<string, ComputerEvents>();
  const typed: string[] = [];
  const opened: Hub[] = [];
  const start: StartComputer = (plan, segment, computer) => {
    if (!segment) throw new FarbusError('no segment');
    events.set(plan.name, computer);
    return {
      input: (bytes) => typed.push(`${plan.name}: ${new TextDecoder().decode(bytes)}`),
      moveLease: async (device, to) => {
        if (to === 'nobody') throw new FarbusError('no such side');
        computer.leases([{ device, holder: to, sides: ['network', 'local'] }]);
      },
      control: async (request) => ({ of: plan.name, ...request }),
      stop: async () => {
        told.push(`stop ${plan.name}`);
        computer.state('stopped', '');
      },
    };
  };
  const supervisor = new Supervisor(site, {
    start,
    traceFolder: undefined,
    openSegment: async ({ name, mtu }) => {
      opened.push(new Hub({ name, mtu }));
      return opened.at(-1)!;
    },
    events: {
      status: ({ name, state }) => told.push(`${name} ${state}`),
      output: () => undefined,
      log: () => undefined,
    },
  });
  return { site, supervisor, told, events, typed, opened };
}

describe('a site that runs', () => {
  it('reports every state; the crash of one computer leaves the others running; clients end before servers', async () => {
    const { site, supervisor, told, events, opened } = setUp();
    await supervisor.start();
    for (const name of ['s', 'c']) events.get(name)!.state('running', '');
    events.get('s')!.state('crashed', 'SIGKILL');
    expect(told).toEqual(['s running', 'c running', 's crashed']);
    expect(supervisor.status.map(({ state }) => state)).toEqual(['crashed', 'running']);
    // farbus ps and the console page tell the reason.
    expect(siteFacts(site, new Map(), () => supervisor.status).computers).toMatchObject([
      { name: 's', state: 'crashed', detail: 'SIGKILL' },
      { name: 'c', state: 'running' },
    ]);
    await supervisor.stop();
    await supervisor.over;
    expect(told.slice(3)).toEqual(['stop c', 'c stopped', 'stop s', 's stopped']);
    expect(() => opened[0]!.attach({ onFrame: () => undefined })).toThrow('closed');
  });

  it('ends when no computer runs any more', async () => {
    const { supervisor, events } = setUp();
    await supervisor.start();
    events.get('s')!.state('ended', 'halted');
    events.get('c')!.state('failed', 'why');
    await supervisor.over;
  });

  it('starts a computer anew, also its only one, passes requests on, and keeps its terminal open', async () => {
    const { supervisor, told, events } = setUp();
    await supervisor.start();
    let isOver = false;
    void supervisor.over.then(() => (isOver = true));
    for (const name of ['s', 'c']) events.get(name)!.state('running', '');
    events.get('s')!.state('ended', 'halted');
    await expect(supervisor.control('s', { command: 'pause' }, work)).rejects.toThrow('s does not run');
    expect(await supervisor.control('c', { command: 'pause' }, work)).toEqual({ of: 'c', command: 'pause' });
    let seen = '';
    supervisor.console('c').watch({
      receive: (bytes) => (seen += new TextDecoder().decode(bytes)),
      over: () => (seen += '(over)'),
    });
    told.length = 0;
    const before = events.get('c');
    await supervisor.restartComputer('c');
    expect(told).toEqual(['stop c', 'c stopped']);
    expect(events.get('c')).not.toBe(before);
    events.get('c')!.output(new TextEncoder().encode('anew'));
    expect(seen).toBe('anew');
    events.get('c')!.state('running', '');
    await supervisor.restartComputer('s');
    events.get('s')!.state('running', '');
    expect([isOver, supervisor.status.map(({ state }) => state)]).toEqual([false, ['running', 'running']]);
    await supervisor.stop();
    await expect(supervisor.restartComputer('c')).rejects.toThrow('the site is ending');
  });

  it('starts no computer that runs, and one that was started counts at once as one that runs', async () => {
    const { supervisor, told, events } = setUp();
    await supervisor.start();
    let isOver = false;
    void supervisor.over.then(() => (isOver = true));
    for (const name of ['s', 'c']) events.get(name)!.state('running', '');
    await expect(supervisor.startComputer('c')).rejects.toThrow('c runs already');
    expect(told).not.toContain('stop c');
    events.get('c')!.state('ended', 'halted');
    await supervisor.startComputer('c');
    // Its process has not told its state yet.
    const before = events.get('c');
    await expect(supervisor.startComputer('c')).rejects.toThrow('c runs already');
    expect(events.get('c')).toBe(before);
    events.get('s')!.state('ended', 'halted');
    await sleep(0);
    expect(isOver).toBe(false);
    await supervisor.stop();
  });

  it('gives a console the earlier output, and moves leases', async () => {
    const { supervisor, events, typed } = setUp();
    await supervisor.start();
    const encode = (text: string) => new TextEncoder().encode(text);
    events.get('c')!.output(encode('x'.repeat(20_000)));
    events.get('c')!.output(encode('lo\x1b[6ngin: \xe4'));
    let seen = '';
    const watcher = {
      receive: (bytes: Uint8Array) => (seen += new TextDecoder().decode(bytes)),
      over: () => (seen += '(over)'),
    };
    const stop = supervisor.console('c').watch(watcher);
    expect(seen.startsWith('x'.repeat(16_000))).toBe(true);
    events.get('c')!.output(encode('\x1b[6nroot'));
    stop();
    events.get('c')!.output(encode('more'));
    // Escape sequences that query the terminal are passed on when they arrive, and not replayed.
    expect(seen.slice(16_000)).toMatch(/^x+login: \xe4\x1b\[6nroot$/);
    supervisor.input('c', encode('ls\n'));
    expect(typed).toEqual(['c: ls\n']);
    await supervisor.moveLease('s/d', 'local', work);
    expect(supervisor.leases).toEqual([{ device: 's/d', holder: 'local', sides: ['network', 'local'] }]);
    await expect(supervisor.moveLease('s/d', 'nobody', work)).rejects.toThrow('no such side');
    await expect(supervisor.moveLease('x/d', 'local', work)).rejects.toThrow('there is no computer "x"');
    expect(() => supervisor.console('x')).toThrow('give one of s, c');
  });

  it('ends a console with its computer, and shows a later one the last output and the end', async () => {
    const { supervisor, events } = setUp();
    await supervisor.start();
    const seen: string[] = ['', ''];
    const watch = (which: number, computer: string): unknown =>
      supervisor.console(computer).watch({
        receive: (bytes) => (seen[which] += new TextDecoder().decode(bytes)),
        over: () => (seen[which] += '(over)'),
      });
    watch(0, 'c');
    events.get('c')!.output(new TextEncoder().encode('System halted'));
    events.get('s')!.state('ended', 'halted');
    expect(seen[0]).toBe('System halted');
    events.get('c')!.state('ended', 'halted');
    watch(1, 'c');
    expect(seen).toEqual(['System halted(over)', 'System halted(over)']);
  });
});

/** The two ends of a pipe. `cut` limits the length of the pieces in which bytes arrive. */
function pipe(cut = Infinity): [Duplex, Duplex] {
  const ends: Duplex[] = [];
  const make = (other: number): Duplex =>
    new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        for (let at = 0; at < chunk.length; at += cut) ends[other]!.push(chunk.subarray(at, at + cut));
        done();
      },
    });
  ends.push(make(1), make(0));
  return [ends[0]!, ends[1]!];
}

describe('frames through a pipe', () => {
  it.each([1, 3, 1000, Infinity])('arrive whole and in order, in pieces of %d bytes', async (cut) => {
    const hub = new Hub({ mtu: 9000 });
    const mac = parseMac('02:00:00:00:00:01')!;
    const [here, there] = pipe(cut);
    const end = lendPort(hub, mac, here);
    const segment = new PipeSegment('lan', 9000, there);
    const heard: Uint8Array[] = [];
    const port = segment.attach({ mac, onFrame: (frame) => heard.push(frame.slice()) });
    const back: Uint8Array[] = [];
    const peer = hub.attach({ mac: parseMac('02:00:00:00:00:02')!, onFrame: (frame) => back.push(frame.slice()) });
    const frames = [60, 1514, 9014, 61].map((length, index) => {
      const frame = new Uint8Array(length).fill(index + 1);
      frame.set(mac);
      return frame;
    });
    for (const frame of frames) expect(peer.send(frame)).toBe(true);
    const answer = new Uint8Array(60);
    answer.set(peer.mac);
    expect(port.send(answer)).toBe(true);
    await sleep(20);
    expect(heard).toEqual(frames);
    expect(back).toEqual([answer]);
    end();
    await segment.close();
    await hub.close();
  });

  it('end at an impossible length', async () => {
    const [here, there] = pipe();
    const frames: Uint8Array[] = [];
    const reader = new FramePipe(there, (frame) => frames.push(frame));
    here.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
    await sleep(5);
    expect(frames).toEqual([]);
    expect(there.destroyed).toBe(true);
    expect(reader.send(new Uint8Array(60))).toBe(false);
  });
});
