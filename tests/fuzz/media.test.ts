/**
 * Media that come, go and are exchanged at the server while a guest works and connections are cut,
 * in any order: every command ends, and no medium ever gets a byte that was meant for another. From
 * the guest's registers to the server's drive.
 */
import { expect, it } from 'vitest';
import { silent } from '../../src/base/log.js';
import { ExchangeableDrive } from '../../src/block/exchangeable-drive.js';
import { VirtualIoClient } from '../../src/computer/virtual-io-client.js';
import { PacketDrive } from '../../src/device/ata/packet-drive.js';
import { Scsi } from '../../src/spec/scsi.js';
import { Exports } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { connectNbd } from '../../src/protocol/nbd/initiator/initiator.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { AhciDriver, testAtaIdentity } from '../support/ahci-driver.js';
import { memoryDialer, type MemoryStream } from '../support/stream-pair.js';

const runs = process.env['FARBUS_TEST_ALL'] ? 200 : 4;
const steps = 60;
const blocks = 64;

/** A generator of numbers below `n`, the same for the same seed (xorshift). */
function seeded(seed: number): (n: number) => number {
  let state = seed * 2654435761 + 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

async function play(seed: number): Promise<void> {
  const random = seeded(seed);
  const drive = new ExchangeableDrive({ identity: '', readOnly: false, rotational: false, blockSize: 512 });
  const media: { tag: number; bytes: Uint8Array }[] = [];
  const insert = (): void => {
    const tag = media.length + 1;
    const bytes = new Uint8Array(blocks * 512 * (1 + random(2))).fill(tag);
    media.push({ tag, bytes });
    drive.insert(new MemoryDevice(bytes));
  };
  const exports = new Exports();
  exports.add({ name: 'drive', device: drive });
  const server = new Server(exports, silent);
  let stream: MemoryStream | undefined;
  const dialer = memoryDialer((one) => {
    stream = one;
    server.accept(one);
  });
  if (random(2)) insert();
  const far = await connectNbd(dialer, { reconnectSeconds: 5 });
  const guest = new AhciDriver([
    new PacketDrive({ kind: 'removable', identity: testAtaIdentity, medium: new VirtualIoClient(far) }),
  ]);
  await guest.start();
  const at = guest.allocate(4096);
  /**
   * The content that the guest has read from the current medium; undefined if the guest has been
   * told of a change since.
   */
  let known: number | undefined;
  const command = async (packet: number[], length = 0, write = false): Promise<boolean> => {
    const { status } = await guest.packet(packet, length, { write, at });
    if (!(status & 1)) return true;
    known = undefined;
    await guest.packet([Scsi.requestSense, 0, 0, 0, 18], 18, { at });
    return false;
  };
  let written = 0;
  for (let step = 0; step < steps; step++) {
    switch (random(12)) {
      case 0:
        if (drive.loaded) void drive.remove();
        break;
      case 1:
        if (!drive.loaded) insert();
        break;
      case 2:
        if (drive.loaded) void drive.remove();
        insert();
        break;
      case 3:
        stream?.destroy();
        break;
      case 4:
        await command([Scsi.startStopUnit, 0, 0, 0, 2]);
        break;
      case 5:
        await command([Scsi.preventAllow, 0, 0, 0, random(2)]);
        break;
      default:
        if (known === undefined) {
          const ready = await command([Scsi.testUnitReady]);
          if (ready && (await command([Scsi.read10, 0, 0, 0, 0, 0, 0, 0, 1], 512))) known = guest.memory.at(at, 1)[0]!;
          break;
        }
        guest.memory.at(at, 512).fill(known);
        // Something may happen while it is in flight.
        if (random(4) === 0) queueMicrotask(() => drive.loaded && void drive.remove());
        if (random(4) === 0) queueMicrotask(() => stream?.destroy());
        if (await command([Scsi.write10, 0, 0, 0, 0, random(blocks), 0, 0, 1], 512, true)) written++;
    }
    if (random(6) === 0) await new Promise((resolve) => setTimeout(resolve, random(200)));
  }
  await far.close();
  await server.drain(100);
  for (const { tag, bytes } of media) {
    expect(
      bytes.findIndex((byte) => byte !== tag),
      `seed ${seed}: medium ${tag}`,
    ).toBe(-1);
  }
  seen += written;
}

let seen = 0;

it('a guest’s writes reach the medium that they were meant for, or none', async () => {
  for (let seed = 1; seed <= runs; seed++) await play(seed);
  // Else nothing would have been shown.
  expect(seen).toBeGreaterThan(runs);
}, 600_000);
