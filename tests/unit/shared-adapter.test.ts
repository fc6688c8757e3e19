/**
 * The shared network adapter ([SYS] fig. 9): the destination of each frame, their order, and the
 * frames that it drops.
 */
import { describe, expect, it } from 'vitest';
import { Steps, type Step } from '../../src/base/steps.js';
import { sleep } from '../../src/base/event-loop.js';
import { SharedAdapter } from '../../src/computer/shared-adapter.js';
import type { CardIntake, NetworkCard } from '../../src/machine/network-card.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { broadcastMac, parseMac, type Mac } from '../../src/network/ethernet/mac.js';
import { initiatorClaim, targetClaim } from '../../src/protocol/aoe/claim.js';
import { connectAoe } from '../../src/protocol/aoe/initiator/initiator.js';
import { AoeTarget } from '../../src/protocol/aoe/target/target.js';
import { getSealedOfRequest, putSealed } from '../../src/protocol/aoe/seal.js';
import { AoeCommand, AtaFlag, Flag, Header } from '../../src/protocol/aoe/spec.js';
import { flagsOf, putHeader, tagOf } from '../../src/protocol/aoe/wire.js';
import { putU32 } from '../../src/base/big-endian.js';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { settle } from './aoe-peer.js';

const mac1 = parseMac('02:00:00:00:00:01')!;
const mac2 = parseMac('02:00:00:00:00:02')!;
const other = parseMac('02:00:00:00:00:09')!;

/** A network card whose driver is played by the test. */
class FakeCard implements NetworkCard {
  readonly mac: Mac;
  readonly mtu = 1500;
  readonly received: Uint8Array[] = [];
  room = Infinity;
  off = false;
  #send: (frame: Uint8Array) => void = () => undefined;
  #onRoom: () => void = () => undefined;

  constructor(mac: Mac) {
    this.mac = mac;
  }

  onSend(take: (frame: Uint8Array) => void): void {
    this.#send = take;
  }

  onRoom(callback: () => void): void {
    this.#onRoom = callback;
  }

  receive(frame: Uint8Array): CardIntake {
    if (this.off) return 'off';
    if (this.room === 0) return 'full';
    this.room--;
    this.received.push(frame.slice());
    return 'taken';
  }

  makeRoom(frames: number): void {
    this.room = frames;
    this.#onRoom();
  }

  send(frame: Uint8Array): void {
    this.#send(frame);
  }

  interruptVector(): number {
    return 0x3a;
  }
}

function frame(to: Mac, from: Mac, type: number, length = 60, mark = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set(to);
  bytes.set(from, 6);
  bytes[12] = type >> 8;
  bytes[13] = type & 0xff;
  bytes[length - 1] = mark;
  return bytes;
}

function aoe(to: Mac, from: Mac, shelf: number, slot: number, flags = 0): Uint8Array {
  const bytes = new Uint8Array(60);
  putHeader(bytes, to, from, { shelf, slot, command: AoeCommand.config, tag: 7 }, flags);
  return bytes;
}

function setUp(mtu = 1500) {
  const hub = new Hub({ mtu });
  const steps = new Steps();
  const passed: Step[] = [];
  steps.add({ step: (step) => passed.push(step) });
  const adapter = new SharedAdapter(hub, { mac: mac1, steps });
  const card = new FakeCard(mac1);
  let receivers = 0;
  adapter.connect(card, () => ++receivers > 0);
  const heard: Uint8Array[] = [];
  const peer = hub.attach({ mac: mac2, onFrame: (bytes) => heard.push(bytes.slice()) });
  return { hub, adapter, card, peer, heard, passed, receivers: () => receivers };
}

describe('[SYS] fig. 9', () => {
  it('passes a virtual I/O command to the virtual I/O server (281, 400) and other frames to the card (289)', async () => {
    const { adapter, card, peer, passed, receivers } = setUp();
    const commands: Uint8Array[] = [];
    adapter.share(targetClaim(1, 0)).attach({ onFrame: (bytes) => commands.push(bytes.slice()) });
    peer.send(frame(mac1, mac2, 0x0800, 60, 1));
    peer.send(aoe(mac1, mac2, 1, 0));
    peer.send(frame(broadcastMac, mac2, 0x0806, 60, 2));
    await sleep(5);
    expect(card.received).toEqual([frame(mac1, mac2, 0x0800, 60, 1), frame(broadcastMac, mac2, 0x0806, 60, 2)]);
    expect(commands).toEqual([aoe(mac1, mac2, 1, 0)]);
    expect(passed.map(({ traceId, id }) => [traceId, id])).toEqual([
      [0, '289'],
      [7, '280'],
      [7, '281'],
      [0, '289'],
    ]);
    expect(receivers()).toBe(1);
    expect(adapter.counters).toMatchObject({ toGuest: 2, toHypervisor: 1, hidden: 0 });
  });

  it('asks at each frame, in both directions, until the receive handler is recorded', async () => {
    const hub = new Hub();
    const adapter = new SharedAdapter(hub, { mac: mac1 });
    const card = new FakeCard(mac1);
    let asked = 0;
    adapter.connect(card, () => ++asked === 3);
    const peer = hub.attach({ mac: mac2, onFrame: () => undefined });
    card.send(frame(mac2, mac1, 0x0800)); // nothing is received yet
    peer.send(frame(mac1, mac2, 0x0800));
    await sleep(5);
    expect(asked).toBe(1);
    for (let i = 0; i < 4; i++) card.send(frame(mac2, mac1, 0x0800));
    expect(asked).toBe(3);
  });

  it("sends the operating system's frames unchanged, except those that pose as the hypervisor", async () => {
    const { adapter, card, heard } = setUp();
    adapter.share(targetClaim(1, 0)).attach({ onFrame: () => undefined });
    adapter.share(initiatorClaim(2, 0)).attach({ onFrame: () => undefined });
    const own = [frame(mac2, mac1, 0x0800), aoe(mac2, mac1, 3, 0), aoe(mac2, mac1, 1, 0)];
    const posing = [aoe(mac2, mac1, 1, 0, Flag.response), aoe(mac2, mac1, 2, 0)];
    for (const bytes of [...own, ...posing]) card.send(bytes);
    await sleep(5);
    expect(heard).toEqual(own);
    expect(adapter.counters).toMatchObject({ fromGuest: 3, posing: 2 });
  });

  it("hides the hypervisor's discovery from the operating system, and leaves it its own AoE", async () => {
    const { adapter, card, peer } = setUp();
    adapter.share(initiatorClaim(2, 0)).attach({ onFrame: () => undefined });
    peer.send(aoe(broadcastMac, mac2, 5, 0)); // A search for another target.
    peer.send(aoe(broadcastMac, mac2, 5, 0, Flag.response)); // another target announces itself
    peer.send(aoe(mac1, mac2, 5, 0, Flag.response)); // one answers what OS 1 asked
    await sleep(5);
    expect(card.received).toEqual([aoe(mac1, mac2, 5, 0, Flag.response)]);
    expect(adapter.counters.hidden).toBe(2);
  });

  it('leaves all AoE to the operating system if the hypervisor has none', async () => {
    const { card, peer } = setUp();
    peer.send(aoe(broadcastMac, mac2, 5, 0));
    await sleep(5);
    expect(card.received).toHaveLength(1);
  });

  it('drops and counts frames that are too long for the card, and accepts its own long ones', async () => {
    const { adapter, card, peer } = setUp(9000);
    const commands: number[] = [];
    adapter.share(targetClaim(1, 0)).attach({ onFrame: (bytes) => commands.push(bytes.length) });
    const large = new Uint8Array(9014);
    large.set(aoe(mac1, mac2, 1, 0));
    peer.send(large);
    peer.send(frame(mac1, mac2, 0x0800, 1515));
    peer.send(frame(mac1, mac2, 0x0800, 1514));
    peer.send(frame(mac1, mac2, 0x8100, 1518));
    await sleep(5);
    expect(commands).toEqual([9014]);
    expect(card.received.map(({ length }) => length)).toEqual([1514, 1518]);
    expect(adapter.counters.oversized).toBe(1);
  });

  it('keeps the order while the card is full, and drops only frames beyond the limit', async () => {
    const { adapter, card, peer } = setUp();
    card.room = 1;
    for (let mark = 0; mark < 20; mark++) peer.send(frame(mac1, mac2, 0x0800, 60, mark));
    await settle();
    card.makeRoom(3);
    peer.send(frame(mac1, mac2, 0x0800, 60, 20));
    await settle();
    card.makeRoom(Infinity);
    expect(card.received.map((bytes) => bytes[59])).toEqual(Array.from({ length: 21 }, (_, mark) => mark));
    card.room = 0;
    for (let mark = 0; mark < 600; mark++) peer.send(frame(mac1, mac2, 0x0800, 60));
    await settle();
    expect(adapter.counters.overflow).toBe(600 - 512);
    card.room = Infinity;
    card.off = true;
    card.makeRoom(Infinity);
    expect(adapter.counters.off).toBe(512);
  });

  it('refuses a card of another address', () => {
    const hub = new Hub();
    expect(() => new SharedAdapter(hub, { mac: mac1 }).connect(new FakeCard(other))).toThrow(/another address/);
  });
});

it('a target and an initiator on shared adapters find each other, and no card sees one of their frames', async () => {
  const hub = new Hub({ mtu: 9000 });
  const server = new SharedAdapter(hub, { mac: mac1 });
  const client = new SharedAdapter(hub, { mac: mac2 });
  const cards = [new FakeCard(mac1), new FakeCard(mac2)] as const;
  server.connect(cards[0]);
  client.connect(cards[1]);
  const target = new AoeTarget(server.share(targetClaim(1, 0)), new MemoryDevice(1 << 20), { shelf: 1, slot: 0 });
  const disk = await connectAoe(client.share(initiatorClaim(1, 0)), { shelf: 1, slot: 0 });
  const data = crypto.getRandomValues(new Uint8Array(60_000 - (60_000 % 512)));
  await disk.write(4096, buffersOf(data));
  cards[0].send(frame(mac2, mac1, 0x0800));
  const back = new Uint8Array(data.length);
  await disk.read(4096, buffersOf(back));
  expect(back).toEqual(data);
  expect(disk.hasSession).toBe(true);
  await disk.close();
  await target.close();
  await hub.close();
  expect(cards[0].received).toEqual([]);
  expect(cards[1].received).toEqual([frame(mac2, mac1, 0x0800)]);
});

it('an initiator that follows a killed one on the same address ends its session before the first write', async () => {
  const hub = new Hub({ mtu: 9000 });
  const disk = new MemoryDevice(1 << 20);
  void new AoeTarget(hub, disk, { shelf: 1, slot: 0 });
  const writes: Uint8Array[] = [];
  const tap = hub.attach({
    promiscuous: true,
    onFrame: (bytes) => {
      if (bytes[19] === AoeCommand.ata && bytes[24]! & AtaFlag.write) writes.push(bytes.slice());
    },
  });
  // As a computer of a site does (app/site).
  const start = (adapter: SharedAdapter) => connectAoe(adapter.share(initiatorClaim(1, 0)), { shelf: 1, slot: 0 });
  const write = (device: BlockDevice, value: number) => device.write(0, buffersOf(new Uint8Array(4096).fill(value)));
  const adapter = new SharedAdapter(hub, { mac: mac1 });
  const killed = await start(adapter);
  await write(killed, 1);
  adapter.close();
  // The killed computer's next write was held up in the network.
  const late = writes.find((bytes) => (flagsOf(bytes) & Flag.response) === 0)!.slice();
  const generation = getSealedOfRequest(late);
  putU32(late, Header.tag, tagOf(late) + 1);
  putSealed(late, generation);
  const successor = await start(new SharedAdapter(hub, { mac: mac1 }));
  await write(successor, 2);
  tap.send(late);
  await settle();
  const back = new Uint8Array(512);
  await disk.read(0, buffersOf(back));
  expect(back[0]).toBe(2);
  for (const device of [successor, killed]) await device.close();
  await hub.close();
});
