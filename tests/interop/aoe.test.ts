/**
 * Our AoE initiator with vblade (Debian's AoE target), over a veth pair in a private network
 * namespace.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { openPacket } from '../../src/network/ethernet/packet.node.js';
import type { Segment } from '../../src/network/ethernet/segment.js';
import { discoverAoe } from '../../src/protocol/aoe/initiator/discover.js';
import { connectAoe, type AoeInitiator } from '../../src/protocol/aoe/initiator/initiator.js';
import { AOE_TYPE } from '../../src/protocol/aoe/spec.js';
import { replacedTests, twoDisks, type Replaceable } from '../conformance/replaced.js';
import { conformance } from '../conformance/suite.js';
import { enterNamespace, vethPair } from '../support/namespace.js';
import { tempPath } from '../support/temp.js';

const possible = enterNamespace('vblade');
const size = 4 << 20;
const disk = tempPath('disk.img');
let vblade: ChildProcess | undefined;
let segment: Segment;

async function startBlade(path = disk): Promise<void> {
  vblade = spawn('vblade', ['7', '3', 'blade', path], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(vblade.stdout!, 'data');
}

async function stopBlade(): Promise<void> {
  const child = vblade;
  vblade = undefined;
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

if (possible) {
  beforeAll(async () => {
    writeFileSync(disk, '');
    truncateSync(disk, size);
    vethPair('ours', 'blade', 9000);
    segment = openPacket('ours', { etherType: AOE_TYPE });
    await startBlade();
  });
  afterAll(async () => {
    await stopBlade();
    await segment?.close();
  });

  conformance(
    'AoE to vblade over a veth pair',
    async () => ({ device: await connectAoe(segment, { shelf: 7, slot: 3, frameLifetimeMs: 200 }) }),
    { persistent: true, steps: 200 },
  );
}

describe.skipIf(!possible)('vblade', () => {
  it('is discovered, with its own description', async () => {
    const found = await discoverAoe(segment, { ms: 300 });
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ shelf: 7, slot: 3, bufferCount: 16, sectors: 17 });
  });

  it('is read and written, and its file contains the data', async () => {
    const device = await connectAoe(segment, { shelf: 7, slot: 3 });
    expect(device.info.size).toBe(size);
    expect(device.hasSession).toBe(false);
    const bytes = Uint8Array.from({ length: size }, (_, index) => (index * 7 + (index >> 9)) & 0xff);
    await device.write(0, buffersOf(bytes));
    await device.flush();
    const back = new Uint8Array(size);
    await device.read(0, buffersOf(back));
    expect(Buffer.compare(back, bytes)).toBe(0);
    expect(Buffer.compare(readFileSync(disk), bytes)).toBe(0);
    await device.close();
  });

  it('may be killed and started again under load: nothing is lost and nothing fails', async () => {
    const states: string[] = [];
    const device = await connectAoe(segment, { shelf: 7, slot: 3, onState: (state) => states.push(state) });
    const bytes = Uint8Array.from({ length: 1 << 20 }, (_, index) => (index * 13 + (index >> 8)) & 0xff);
    const write = device.write(1 << 20, buffersOf(bytes));
    await stopBlade();
    await new Promise((resolve) => setTimeout(resolve, 5500));
    await startBlade();
    await write;
    const back = new Uint8Array(bytes.length);
    await device.read(1 << 20, buffersOf(back));
    expect(Buffer.compare(back, bytes)).toBe(0);
    await device.close();
    expect(states.slice(0, 2)).toEqual(['connected', 'reconnecting']);
  });

  it('gives an error in one line if it is absent', async () => {
    const wrong = connectAoe(segment, { shelf: 7, slot: 4, connectSeconds: 0.3 });
    await expect(wrong).rejects.toThrow(/^aoe:7\.4@ours: no answer within 0\.3 seconds/);
  });
});

/** vblade at the address, which is killed and started with the other disk. */
async function replaceable(): Promise<Replaceable> {
  const disks = twoDisks();
  let device: AoeInitiator | undefined;
  let state = '';
  const open = async (): Promise<AoeInitiator> => {
    const onState = (now: string): void => void (state = now);
    return (device = await connectAoe(segment, { shelf: 7, slot: 3, onState }));
  };
  const replace = async (): Promise<void> => {
    await stopBlade();
    // Without a command that goes unanswered, the initiator cannot notice this (docs/promises.md).
    if (state === 'connected') device!.read(0, buffersOf(new Uint8Array(512))).catch(() => undefined);
    await expect.poll(() => state, { timeout: 20_000 }).not.toBe('connected');
    disks.swap();
    await startBlade(disks.path);
  };
  await stopBlade();
  await startBlade(disks.path);
  return { open, replace, disks };
}
describe.skipIf(!possible)('vblade', () => {
  replacedTests('vblade', replaceable);
});
