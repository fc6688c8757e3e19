/** `farbus console` in a pipe, and `farbus logs` of a name without logs. */
import { once } from 'node:events';
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { computerHandler, type Controlled } from '../../src/app/computer/control.js';
import { register } from '../../src/app/control/registry.js';
import { ConsoleFeed } from '../../src/base/console-feed.js';
import { Processes } from '../support/processes.js';

const closing: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closing) await close();
});

/** A computer that answers each byte by it and a dot. */
async function echoing(place: Processes): Promise<{ feed: ConsoleFeed; got: () => string }> {
  const feed = new ConsoleFeed();
  let got = '';
  const sendSerial = (bytes: Uint8Array): void => {
    const text = Buffer.from(bytes).toString('latin1');
    got += text;
    feed.add(Buffer.from([...text].map((one) => `${one}.`).join('')));
  };
  const facts = { state: 'running', uses: [], reach: [] };
  const own = await register(
    { kind: 'computer', name: 'desk', usual: 'desk', env: place.env, end: () => undefined },
    facts,
  );
  const parts = { computer: { sendSerial }, media: {}, usesScreen: false } as unknown as Controlled;
  own.serve(computerHandler(parts, feed), () => facts);
  closing.push(() => own.close());
  return { feed, got: () => got };
}

describe('farbus console in a pipe', () => {
  it('leaves when its input has ended and the computer prints nothing more', async () => {
    const place = new Processes();
    const { feed, got } = await echoing(place);
    const child = place.spawnPiped('console', 'desk');
    let [seen, said] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.stdin.end('ab');
    while (!seen.includes('a.b.')) await once(child.stdout, 'data');
    // Output in time keeps it.
    setTimeout(() => feed.add(Buffer.from('later')), 1000);
    expect((await once(child, 'close'))[0]).toBe(0);
    expect([seen, said, got()]).toEqual(['a.b.later', '', 'ab']);
  });

  it('leaves at Ctrl-], with what came before it sent to the computer', async () => {
    const place = new Processes();
    const { got } = await echoing(place);
    const child = place.spawnPiped('console', 'desk');
    const before = 'x'.repeat(300_000);
    // The input stays open.
    child.stdin.write(`${before}\x1dafter`);
    child.stdout.resume();
    expect((await once(child, 'close'))[0]).toBe(0);
    while (got().length < before.length) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(got()).toBe(before);
  });
});

describe('farbus logs', () => {
  it('--clean removes the logs of what has ended, and nothing else', async () => {
    const place = new Processes();
    await echoing(place);
    const state = join(place.env['XDG_STATE_HOME']!, 'farbus');
    for (const name of ['pair', '.detached/desk', '.detached/old', '.detached/older', '.snapshots']) {
      mkdirSync(join(state, name), { recursive: true });
      writeFileSync(join(state, name, 'x.log'), 'up\n');
      writeFileSync(join(state, name, 'x.console.1'), 'up\n');
    }
    writeFileSync(join(state, 'pair', 'mine.txt'), 'mine');
    const left = () =>
      readdirSync(state, { recursive: true })
        .map(String)
        .filter((name) => !name.startsWith('.snap'))
        .sort();
    expect((await place.farbus('logs', '--clean', 'desk')).stderr).toMatch(
      /^farbus: desk runs, so its logs stay: [^\n]+\n$/,
    );
    expect(await place.farbus('logs', '--clean', '-n', '3')).toMatchObject({ code: 2 });
    expect((await place.farbus('logs', '--clean', 'none')).stderr).toBe('farbus: there are no logs of "none"\n');
    expect(left()).toHaveLength(14);
    expect((await place.farbus('logs', '--clean', 'old')).stderr).toBe('farbus: removed the logs of old: 6 B\n');
    const days = ['logs', '--clean', '--older-than', '30'];
    expect(await place.farbus('logs', '--older-than', '30')).toMatchObject({ code: 2 });
    expect((await place.farbus(...days)).stderr).toBe('farbus: no logs of what has ended are older than 30 days\n');
    const longAgo = Date.now() / 1000 - 31 * 24 * 60 * 60;
    utimesSync(join(state, '.detached/older/x.log'), longAgo, longAgo);
    expect((await place.farbus(...days)).stderr).toMatch(/ are older than 30 days\n$/);
    utimesSync(join(state, '.detached/older/x.console.1'), longAgo, longAgo);
    expect((await place.farbus(...days)).stderr).toBe('farbus: removed the logs of older: 6 B\n');
    expect(left()).toHaveLength(8);
    const { code, stderr } = await place.farbus('logs', '--clean');
    expect({ code, stderr }).toEqual({ code: 0, stderr: 'farbus: removed the logs of pair: 6 B\n' });
    const kept = ['.detached', '.detached/desk', '.detached/desk/x.console.1', '.detached/desk/x.log'];
    expect(left()).toEqual([...kept, 'pair', 'pair/mine.txt']);
    expect(readdirSync(join(state, '.snapshots'))).toHaveLength(2);
  });

  it('of a name without logs prints only its error', async () => {
    const place = new Processes();
    const folder = join(place.env['XDG_STATE_HOME']!, 'farbus', 'pair');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'desk.log'), '2026-01-01T00:00:00.000Z up\n');
    expect((await place.farbus('logs', 'nosuch')).stderr).toMatch(/^farbus: neither the site pair [^\n]+\n$/);
    expect((await place.farbus('logs', 'desk')).stderr).toBe(
      'farbus: no site runs; the logs of pair, which has ended:\n',
    );
  });
});
