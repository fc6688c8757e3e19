/**
 * Linux's own vxlan device, in a private network namespace, on one segment with ours: ARP, ICMP,
 * and AoE to vblade behind it.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { broadcastMac } from '../../src/network/ethernet/mac.js';
import type { Port, Segment } from '../../src/network/ethernet/segment.js';
import { openVxlan } from '../../src/network/ethernet/vxlan.node.js';
import { connectAoe } from '../../src/protocol/aoe/initiator/initiator.js';
import { enterNamespace, ip } from '../support/namespace.js';
import { tempPath } from '../support/temp.js';

const possible = enterNamespace('vblade', 'nsenter');
const children: ChildProcess[] = [];
let segment: Segment;
let inside: (...command: readonly string[]) => string[];

function run(...command: readonly string[]): void {
  const [program, ...args] = inside(...command);
  execFileSync(program!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** The one's complement sum of RFC 1071. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

const ourIp = [192, 0, 2, 2];
const kernelIp = [192, 0, 2, 1];

function arp(port: Port, operation: 1 | 2, to: Uint8Array, ip: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(60);
  bytes.set([...to, ...port.mac, 8, 6, 0, 1, 8, 0, 6, 4, 0, operation, ...port.mac, ...ourIp, ...to, ...ip]);
  return bytes;
}

function echoRequest(port: Port, to: Uint8Array, length: number): Uint8Array {
  const total = 20 + 8 + length;
  const bytes = new Uint8Array(14 + total);
  bytes.set([
    ...to,
    ...port.mac,
    8,
    0,
    0x45,
    0,
    total >> 8,
    total & 0xff,
    0,
    1,
    0,
    0,
    64,
    1,
    0,
    0,
    ...ourIp,
    ...kernelIp,
  ]);
  bytes.set([8, 0, 0, 0, 0, 7, 0, 1], 34);
  bytes.fill(0x5a, 42);
  const header = checksum(bytes.subarray(14, 34));
  bytes.set([header >> 8, header & 0xff], 24);
  const body = checksum(bytes.subarray(34));
  bytes.set([body >> 8, body & 0xff], 36);
  return bytes;
}

describe.skipIf(!possible)("Linux's vxlan device", () => {
  beforeAll(async () => {
    // The other computer: a namespace that lives as long as a process in it.
    const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'inherit'] });
    children.push(holder);
    const own = execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' });
    for (;;) {
      if (execFileSync('readlink', [`/proc/${holder.pid}/ns/net`], { encoding: 'utf8' }) !== own) break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    inside = (...command) => ['nsenter', `--net=/proc/${holder.pid}/ns/net`, ...command];
    ip('link', 'add', 'here', 'mtu', '9100', 'type', 'veth', 'peer', 'name', 'there', 'mtu', '9100');
    ip('link', 'set', 'there', 'netns', String(holder.pid));
    ip('addr', 'add', '10.9.0.1/24', 'dev', 'here');
    ip('link', 'set', 'here', 'up');
    run('ip', 'addr', 'add', '10.9.0.2/24', 'dev', 'there');
    run('ip', 'link', 'set', 'there', 'up');
    const vxlan = [
      'type',
      'vxlan',
      'id',
      '42',
      'local',
      '10.9.0.2',
      'remote',
      '10.9.0.1',
      'dstport',
      '4789',
      'dev',
      'there',
    ];
    run('ip', 'link', 'add', 'vx0', ...vxlan);
    run('ip', 'link', 'set', 'vx0', 'mtu', '9000', 'up');
    run('ip', 'addr', 'add', `${kernelIp.join('.')}/24`, 'dev', 'vx0');
    segment = await openVxlan({ vni: 42, local: { host: '10.9.0.1' }, peers: [{ host: '10.9.0.2' }], mtu: 9000 });
  });
  afterAll(async () => {
    await segment?.close();
    for (const child of children.reverse()) {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    }
  });

  it('answers our ARP and our ping, and asks for our address', async () => {
    let kernel: Uint8Array | undefined;
    let asked = false;
    let echo: Uint8Array | undefined;
    const port: Port = segment.attach({
      onFrame: (frame) => {
        const isArp = frame[12] === 8 && frame[13] === 6;
        if (isArp && frame[21] === 2) kernel = frame.slice(6, 12);
        else if (isArp && frame[21] === 1) {
          asked = true;
          port.send(arp(port, 2, frame.slice(6, 12), kernelIp));
        } else if (frame[12] === 8 && frame[13] === 0 && frame[23] === 1 && frame[34] === 0) echo = frame.slice();
      },
    });
    const until = async (act: () => void, done: () => boolean): Promise<void> => {
      for (let i = 0; i < 500 && !done(); i++) {
        if (i % 25 === 0) act();
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      expect(done()).toBe(true);
    };
    await until(
      () => port.send(arp(port, 1, broadcastMac, kernelIp)),
      () => kernel !== undefined,
    );
    // A jumbo frame in each direction. The kernel first forgets our address, so that it has to ask
    // for it.
    run('ip', 'neigh', 'flush', 'dev', 'vx0');
    await until(
      () => port.send(echoRequest(port, kernel!, 8000)),
      () => echo !== undefined,
    );
    expect(echo).toHaveLength(14 + 20 + 8 + 8000);
    expect(echo!.subarray(42).every((byte) => byte === 0x5a)).toBe(true);
    expect(asked).toBe(true);
    port.close();
  });

  it('carries AoE to a vblade on it', async () => {
    const disk = tempPath('disk.img');
    writeFileSync(disk, new Uint8Array(2 << 20));
    const [program, ...args] = inside('vblade', '5', '6', 'vx0', disk);
    const vblade = spawn(program!, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(vblade);
    await once(vblade.stdout, 'data');
    const device = await connectAoe(segment, { shelf: 5, slot: 6 });
    const bytes = Uint8Array.from({ length: 1 << 20 }, (_, index) => (index * 31 + (index >> 10)) & 0xff);
    await device.write(512, buffersOf(bytes));
    const back = new Uint8Array(bytes.length);
    await device.read(512, buffersOf(back));
    expect(Buffer.compare(back, bytes)).toBe(0);
    await device.close();
  });
});
