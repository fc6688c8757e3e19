/**
 * Fencing earlier processes: the records about them (storage/lives.node.ts), and the writes that
 * wait (block/fence.ts).
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { Logger } from '../../src/base/log.js';
import { ownedName } from '../../src/base/owned.node.js';
import { Fence, type FenceOptions } from '../../src/block/fence.js';
import type { EndedLife, Life, FenceKey } from '../../src/block/life.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { connectAoe, type AoeInitiator } from '../../src/protocol/aoe/initiator/initiator.js';
import { AtaArgument, AtaFlag, Header } from '../../src/protocol/aoe/spec.js';
import { AoeTarget } from '../../src/protocol/aoe/target/target.js';
import { startedAnew, type RemoteFacts } from '../../src/protocol/channels/channel.js';
import { fileCalls } from '../../src/linux/files.node.js';
import { beginLife } from '../../src/storage/lives.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { tempFolder } from '../support/temp.js';

const key: FenceKey = { kind: 'test', number: 1 };

class Lines implements Logger {
  readonly lines: string[] = [];
  log(_level: string, message: string): void {
    this.lines.push(message);
  }
}

/** A life in memory that succeeds others. */
class TestLife implements Life {
  readonly noted: FenceKey[] = [];
  readonly ended: EndedLife[];
  fencedLives = 0;
  readonly kept: boolean;

  constructor(ended: readonly EndedLife[], kept = true) {
    this.ended = [...ended];
    this.kept = kept;
  }

  note(noted: FenceKey): Promise<void> {
    this.noted.push(noted);
    return Promise.resolve();
  }
  forget(): void {}
  fenced(): Promise<void> {
    this.fencedLives++;
    return Promise.resolve();
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

describe('a fence', () => {
  const options = (more: Partial<FenceOptions>): FenceOptions & { log: Lines } => ({
    address: 'test:',
    seconds: 60,
    fence: () => Promise.resolve('gone'),
    ...more,
    log: new Lines(),
  });

  it('exists only if there is something to fence', () => {
    expect(Fence.of(undefined, options({}))).toBeUndefined();
    expect(Fence.of(new TestLife([]), options({}))).toBeUndefined();
    expect(Fence.of(new TestLife([], false), options({}))).toBeUndefined();
  });

  it('holds writes back until each place is fenced, and tries again after a failure', async () => {
    const life = new TestLife([{ pid: 7, keys: [key, { ...key, number: 2 }] }]);
    const seen: unknown[] = [];
    const fence = Fence.of(
      life,
      options({
        fence: (one) => {
          seen.push(one['number']);
          return seen.length === 1 ? Promise.reject(new Error('not yet')) : Promise.resolve('gone');
        },
      }),
    )!;
    await fence.wait();
    expect(seen).toEqual([1, 1, 2]);
    expect(life.fencedLives).toBe(1);
    expect(fence.wait()).toBeUndefined();
    await fence.close();
  });

  it('warns, and lets writes pass, if the server cannot tell', async () => {
    const given = options({ fence: () => Promise.resolve('unknown') });
    const fence = Fence.of(new TestLife([{ pid: 7, keys: [key, key] }]), given)!;
    await fence.wait();
    expect(given.log.lines).toEqual([
      'test:: the server cannot tell whether a write of the ended process 7 may still land',
    ]);
    await fence.close();
  });

  it('waits until no frame can be in flight if keys are lost', async () => {
    for (const life of [new TestLife([], false), new TestLife([{ pid: 7, keys: undefined }])]) {
      let settle!: () => void;
      const fence = Fence.of(life, options({ settle: () => new Promise((resolve) => (settle = resolve)) }))!;
      let over = false;
      const wait = fence.wait()!.then(() => (over = true));
      await sleep(10);
      expect(over).toBe(false);
      settle();
      await wait;
      await fence.close();
    }
  });

  it('ends a wait that is cancelled, or whose device is closed, and leaves the rest to the next life', async () => {
    const life = new TestLife([{ pid: 7, keys: [key] }]);
    const never = (_: FenceKey, signal: AbortSignal): Promise<never> =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
    const fence = Fence.of(life, options({ fence: never }))!;
    const control = new AbortController();
    const given = fence.wait(control.signal);
    const other = fence.wait();
    control.abort();
    await expect(given).rejects.toMatchObject({ kind: 'aborted' });
    const closing = fence.close();
    await expect(other).rejects.toMatchObject({ kind: 'closed' });
    await closing;
    await expect(fence.wait()).rejects.toMatchObject({ kind: 'closed' });
    expect(life.fencedLives).toBe(0);
  });
});

describe('a life in a file', () => {
  const source = 'nbd://host/x';
  const lives: Life[] = [];
  afterEach(async () => {
    for (const life of lives.splice(0)) await life.close(true);
  });
  const begin = async (env: NodeJS.ProcessEnv, log: Logger = new Lines()): Promise<Life> => {
    const life = await beginLife(source, log, env);
    lives.push(life);
    return life;
  };
  const home = (): NodeJS.ProcessEnv => ({ XDG_STATE_HOME: tempFolder() });
  const filesOf = (env: NodeJS.ProcessEnv): string[] => {
    const folder = join(env['XDG_STATE_HOME']!, 'farbus/sources');
    return readdirSync(folder).flatMap((one) => readdirSync(join(folder, one)).map((name) => join(folder, one, name)));
  };
  /** Renames a file so that it belongs to another owner. */
  const owned = (path: string, owner: string): string => {
    const named = join(dirname(path), `${owner}.json`);
    renameSync(path, named);
    return named;
  };
  const deadPid = (): number => spawnSync('true').pid;

  it('is accessible to its owner only, and removed by a clean end', async () => {
    const env = home();
    const life = await begin(env);
    await life.note(key);
    const [path] = filesOf(env);
    expect(statSync(path!).mode & 0o777).toBe(0o600);
    expect(statSync(dirname(path!)).mode & 0o777).toBe(0o700);
    await life.close(true);
    expect(readdirSync(join(env['XDG_STATE_HOME']!, 'farbus/sources'))).toEqual([]);
  });

  it('remains after an end with requests in flight, for the next life to fence', async () => {
    const env = home();
    const life = await begin(env);
    await life.note(key);
    await life.note({ ...key, number: 2 });
    life.forget(key);
    await life.close(false);
    const log = new Lines();
    const next = await begin(env, log);
    expect(next.ended).toMatchObject([{ pid: 0, keys: [{ kind: 'test', number: 2 }] }]);
    await next.fenced(next.ended[0]!);
    expect([next.ended, filesOf(env), log.lines]).toEqual([[], [], []]);
    await next.close(true);
  });

  it("is recognised as a dead process's by process number and start time", async () => {
    const env = home();
    const life = await begin(env);
    await life.note(key);
    const log = new Lines();
    expect((await begin(env, log)).ended).toEqual([]);
    // One process may open a source several times, for several partitions of it: no warning.
    expect(log.lines).toEqual([]);
    const [, start, place, random] = ownedName('').split('-');
    owned(filesOf(env)[0]!, [deadPid(), start, place, random].join('-'));
    expect((await begin(env)).ended).toMatchObject([{ keys: [key] }]);
    owned(filesOf(env)[0]!, [process.pid, Number(start) - 1, place, random].join('-'));
    expect((await begin(env)).ended).toMatchObject([{ pid: process.pid, keys: [key] }]);
    owned(
      filesOf(env)[0]!,
      ['1', readFileSync('/proc/1/stat', 'latin1').split(') ')[1]!.split(' ')[19], place, random].join('-'),
    );
    expect((await begin(env, log)).ended).toEqual([]);
    expect(log.lines).toEqual([`${source}: process 1 has it open for writing too: make sure that both may`]);
  });

  it.skipIf(!fileCalls())('of another container is that of a living process as long as its lock is held', async () => {
    const env = home();
    const life = await begin(env);
    await life.note(key);
    const [pid, start, , random] = ownedName('').split('-');
    const path = owned(filesOf(env)[0]!, [pid, start, 'ffffff', random].join('-'));
    expect((await begin(env)).ended).toEqual([]);
    // Replace the file by a copy, as happens when the owner ends.
    writeFileSync(`${path}.copy`, readFileSync(path));
    renameSync(`${path}.copy`, path);
    expect((await begin(env)).ended).toMatchObject([{ keys: [key] }]);
    writeFileSync(path, readFileSync(path, 'utf8').replace('"locked":true', '"locked":false'));
    const log = new Lines();
    expect((await begin(env, log)).ended).toEqual([]);
    expect(log.lines[0]).toMatch(/of another container or an earlier boot may use it too; if not, remove /);
  });

  it('is not read where other users could forge it', async () => {
    const env = home();
    const life = await begin(env);
    await life.note(key);
    await life.close(false);
    chmodSync(dirname(filesOf(env)[0]!), 0o777);
    const log = new Lines();
    const next = await begin(env, log);
    expect([next.ended, next.kept]).toEqual([[], false]);
    expect(log.lines).toEqual([expect.stringMatching(/^nbd:\/\/host\/x: cannot keep in .*: a write of it may /)]);
  });

  it('leaves other files in its folder alone, and ignores malformed ones', async () => {
    const env = home();
    const life = await begin(env);
    await life.note(key);
    const folder = dirname(filesOf(env)[0]!);
    closeSync(openSync(join(folder, 'mine.json'), 'w'));
    mkdirSync(join(folder, `${ownedName('').replace(/^\d+/, String(deadPid()))}.json`));
    const next = await begin(env);
    expect(next.ended).toMatchObject([{ keys: undefined }]);
    await next.fenced(next.ended[0]!);
    expect(readdirSync(folder)).toContain('mine.json');
  });

  it('holds at most the newest 64 places', async () => {
    const env = home();
    const life = await begin(env);
    for (let number = 0; number < 70; number++) await life.note({ ...key, number });
    await life.close(false);
    const { ended } = await begin(env);
    expect(ended[0]!.keys).toHaveLength(64);
    expect(ended[0]!.keys![63]).toMatchObject({ number: 69 });
  });
});

describe('a server by ssh', () => {
  const facts = (machine: string, boot: string): RemoteFacts => ({
    ...{ machine, boot, marks: {}, size: 1, sector: undefined, readOnly: false, flush: true, used: '' },
  });

  it('needs no fence if the same computer has been rebooted since', () => {
    const then = { kind: 'dd', machine: 'm', boot: 'b' };
    expect(startedAnew(then, facts('m', 'c'))).toBe(true);
    expect(startedAnew(then, facts('m', 'b'))).toBe(false);
    expect(startedAnew(then, facts('n', 'c'))).toBe(false);
    expect(startedAnew(then, facts('m', ''))).toBe(false);
    expect(startedAnew({ ...then, boot: '' }, facts('m', 'c'))).toBe(false);
  });
});

describe('a late frame of an AoE initiator that was killed', () => {
  const closing: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });
  const at = { shelf: 1, slot: 2 };
  const fill = (letter: string): ReturnType<typeof buffersOf> =>
    buffersOf(new Uint8Array(4096).fill(letter.charCodeAt(0)));

  async function late(sessions: boolean, forge: (key: FenceKey) => FenceKey = (one) => one): Promise<string> {
    const hub = new Hub({ mtu: 9000 });
    closing.push(() => hub.close());
    const disk = new MemoryDevice(1 << 20);
    new AoeTarget(hub, disk, { ...at, sessions });
    const open = async (life: Life): Promise<AoeInitiator> => {
      const device = await connectAoe(hub, { ...at, life, frameLifetimeMs: 500 });
      closing.push(() => device.close());
      return device;
    };
    const writes: Uint8Array[] = [];
    const port = hub.attach({
      promiscuous: true,
      onFrame: (frame) => {
        const isRequest = frame[Header.versionFlags] === 0x10 && frame[Header.command] === 0;
        if (isRequest && frame[AtaArgument.flags]! & AtaFlag.write) writes.push(frame.slice());
      },
    });
    const life = new TestLife([]);
    await (await open(life)).write(0, fill('A'));
    // A delayed frame with another write of the first initiator.
    const held = writes[0]!;
    held[Header.tag + 3]!++;
    const second = await open(new TestLife([{ pid: 7, keys: life.noted.map(forge) }]));
    const newer = second.write(0, fill('B'));
    if (sessions) await newer;
    else await sleep(50);
    port.send(held);
    await newer;
    await sleep(50);
    const first = new Uint8Array(512);
    await disk.read(0, buffersOf(first));
    return String.fromCharCode(first[0]!);
  }

  it('is refused by a Farbus target whose session was ended', async () => {
    expect(await late(true)).toBe('B');
  });

  it('lands before the first write if the target has no sessions', async () => {
    expect(await late(false)).toBe('B');
  });

  it('does no harm to the next life if keys are forged', async () => {
    const forgeries: readonly FenceKey[] = [
      { mac: 'ff:ff:ff:ff:ff:ff' },
      { mac: 3 },
      { generation: 1e9 },
      { generation: 'x' },
    ];
    for (const forged of forgeries) {
      await late(true, (one) => ({ ...one, ...forged }));
    }
  });
});
