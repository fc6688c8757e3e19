/**
 * iPXE as an unmodified guest whose only disk is behind its own AoE initiator ([SYS] fig. 1: the
 * segment carries it). It boots a boot record from our target, with its own driver for the guest's
 * network card, and serves the BIOS disk calls.
 */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createComputer } from '../../src/app/computer/start.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import type { ClientComputer } from '../../src/computer/client.js';
import { SharedAdapter } from '../../src/computer/shared-adapter.js';
import { prepareFirmware } from '../../src/guest/firmware.node.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { parseMac } from '../../src/network/ethernet/mac.js';
import { targetClaim } from '../../src/protocol/aoe/claim.js';
import { AoeTarget } from '../../src/protocol/aoe/target/target.js';
import { MemoryDevice } from '../../src/storage/memory.js';

/** The ISO image of Debian's package ipxe. */
const iso = '/usr/lib/ipxe/ipxe.iso';
const missing = !existsSync(iso);
if (missing && process.env['CI']) throw new Error(`${iso} is missing: install the package ipxe`);
if (missing) console.warn(`skipped: ${iso} is missing; install the package ipxe`);

const log = { log: () => undefined };
const closing: (() => Promise<unknown>)[] = [];
let computer: ClientComputer;
let target: AoeTarget;

beforeAll(async () => {
  if (missing) return;
  const hub = new Hub();
  closing.push(() => hub.close());
  const server = new SharedAdapter(hub, { mac: parseMac('02:00:00:00:00:02')! });
  target = new AoeTarget(server.share(targetClaim(1, 0)), new MemoryDevice(bootDisk()), { shelf: 1, slot: 0 });
  closing.push(() => target.close());
  const adapter = new SharedAdapter(hub, { mac: parseMac('02:00:00:00:00:01')! });
  const drive = await openClientDrive(parseSource(`${iso},cdrom`), { log });
  closing.push(() => drive.device!.close());
  computer = await createComputer([drive], 64 << 20, { log, adapter, firmware: await prepareFirmware() });
  closing.push(() => computer.stop());
  computer.bootFirmware();
}, 120_000);

afterAll(async () => {
  for (const close of closing.reverse()) await close();
});

it.skipIf(missing)(
  'finds our target with its own driver and initiator, and boots from it',
  async () => {
    await computer.screen!.waitFor(/Press Ctrl-B/, 120_000);
    await computer.screen!.type('<ctrl-b>');
    await computer.screen!.waitFor(/iPXE> *$/m, 60_000);
    expect(await computer.screen!.command('ifstat', /^iPXE>/, 30_000)).toContain('02:00:00:00:00:01');
    await computer.screen!.type('ifopen net0<enter>sanboot aoe:e1.0<enter>');
    await computer.screen!.waitFor(/first sector by AoE[^]*second sector by AoE/, 120_000);
    expect(target.counters.bytesRead).toBeGreaterThanOrEqual(1024);
    expect(target.counters.malformed).toBe(0);
  },
  300_000,
);

/**
 * A disk whose boot record prints a text, reads the second sector through the BIOS, and prints the
 * text in it.
 */
function bootDisk(): Uint8Array {
  // More than one cylinder of 255 heads and 63 sectors; a smaller BIOS disk would have none.
  const disk = new Uint8Array(16 << 20);
  const text = (at: number, words: string): void => disk.set(new TextEncoder().encode(`${words}\r\n\0`), at);
  disk.set([
    // cli; segments 0; stack; sti
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb,
    0xbe, 0x80, 0x7c, 0xe8, 0x15, 0x00, // mov si, 7c80h; call print
    // read sector 2 to 7e00h by int 13h
    0xb8, 0x01, 0x02, 0xb9, 0x02, 0x00, 0x30, 0xf6, 0xbb, 0x00, 0x7e, 0xcd, 0x13,
    0x89, 0xde, 0xe8, 0x03, 0x00, // mov si, bx; call print
    0xf4, 0xeb, // hlt; jmp
    0xfd, // … to hlt; print:
    // lodsb … int 10h; ret
    0xac, 0x84, 0xc0, 0x74, 0x09, 0xb4, 0x0e, 0xbb, 0x07, 0x00, 0xcd, 0x10, 0xeb, 0xf2, 0xc3,
  ]); // prettier-ignore
  text(0x80, 'first sector by AoE');
  text(0x200, 'second sector by AoE');
  disk.set([0x55, 0xaa], 510);
  return disk;
}
