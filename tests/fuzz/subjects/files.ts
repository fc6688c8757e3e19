/**
 * Files that someone has made to do harm, as a subject of fuzzing: overlays, caches, disks with
 * partition tables, images, journals of a copy and snapshots, each a good one with edits. Each is
 * refused with an error for people, or used: then requests settle, the base of an overlay stays as
 * it is, and no memory is taken that a number in the file names.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import { crc32 } from '../../../src/base/crc32.js';
import { FarbusError, messageOf } from '../../../src/base/errors.js';
import { silent } from '../../../src/base/log.js';
import { BlockError } from '../../../src/block/errors.js';
import { readJournal, writeJournal } from '../../../src/app/copy/journal.js';
import { parseSource } from '../../../src/app/source-text.js';
import { openSource } from '../../../src/app/sources.js';
import { readSnapshot, writeSnapshot } from '../../../src/machine/snapshot-file.node.js';
import { probeDisk } from '../../../src/probe/probe.js';
import { formatOf } from '../../../src/protocol/qemu/formats.js';
import { writeBytes } from '../../../src/conformance/subject.js';
import { tempFolder } from '../../support/temp.js';
import { gptDisk, putMbr, sealGpt } from '../../unit/probe-disks.js';
import { exportFill, exportSize } from '../harness/compositions.js';
import { edit, edits, Editor, fileEdits } from '../harness/edits.js';
import type { Input } from '../harness/input.js';
import { FuzzError, type Subject } from '../harness/loop.js';
import { settled, use } from '../harness/use.js';

/** A kind of file: a good one, and its use. */
interface Kind {
  readonly name: string;
  readonly good: () => Uint8Array;
  /**
   * Makes its checksums right again after edits: what is behind them is reached else by chance
   * only.
   */
  readonly seal?: (bytes: Uint8Array) => void;
  /** Uses the file at `path`, next to which is a disk `base`. @returns what came of it. */
  readonly use: (path: string, fault: Fault) => Promise<string>;
}
type Fault = (what: string, cause?: unknown) => FuzzError;

/** Opens a SOURCE with filters and uses it. */
async function open(source: string, fault: Fault): Promise<string> {
  const opened = await settled(
    openSource(parseSource(source), { log: silent, reconnectSeconds: 0 }),
    fault('it does not open or fail'),
  );
  if ('error' in opened) {
    const { error } = opened;
    if (!(error instanceof FarbusError || error instanceof BlockError)) throw fault(`opening: ${String(error)}`, error);
    return messageOf(error).replaceAll(source, '').replace(/\d+/g, 'N').slice(-60);
  }
  const device = opened.value;
  await settled(probeDisk(device), fault('a probe does not end'));
  const said = await use(device, fault);
  const closed = await settled(device.close(), fault('it does not close'));
  return `${said} ${'error' in closed ? 'close fails' : ''}`;
}

const base = new Uint8Array(exportSize).fill(exportFill);
const good = new Map<string, Uint8Array>();
const gpt = (): Uint8Array => {
  const bytes = gptDisk(256);
  sealGpt(bytes, 512);
  return bytes;
};
const mbr = (): Uint8Array => {
  const bytes = new Uint8Array(exportSize);
  putMbr(bytes, 0, [
    { type: 5, start: 8, count: 100 },
    { type: 0x83, start: 64, count: 32 },
  ]);
  putMbr(bytes, 8, [
    { type: 0x83, start: 1, count: 4 },
    { type: 5, start: 16, count: 16 },
  ]);
  putMbr(bytes, 24, [{ type: 0x83, start: 1, count: 4 }]);
  return bytes;
};
const beside = (path: string): string => `raw:${joinPath(path, '..', 'base')}`;

/** The header of an overlay or a cache: a CRC-32 of its first 4092 bytes in the next four. */
function sealHeader(bytes: Uint8Array): void {
  if (bytes.length < 4096) return;
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(4092, crc32(bytes.subarray(0, 4092)), true);
}

/** A snapshot: SHA-256 of all but the digest itself, which is behind the lengths. */
function sealSnapshot(bytes: Uint8Array): void {
  bytes.set(createHash('sha256').update(bytes.subarray(0, 24)).update(bytes.subarray(56)).digest(), 24);
}

const kinds: readonly Kind[] = [
  {
    name: 'overlay',
    good: () => good.get('overlay')!,
    seal: sealHeader,
    use: (path, fault) => open(`${beside(path)},overlay=${path}`, fault),
  },
  {
    name: 'cache',
    good: () => good.get('cache')!,
    seal: sealHeader,
    use: (path, fault) => open(`${beside(path)},cache=${path},cache-keep`, fault),
  },
  {
    name: 'gpt',
    good: gpt,
    seal: (bytes) => sealGpt(bytes, 512),
    use: (path, fault) => open(`raw:${path},partition=1`, fault),
  },
  { name: 'mbr', good: mbr, use: (path, fault) => open(`raw:${path},partition=5`, fault) },
  {
    name: 'journal',
    good: () => good.get('journal')!,
    use: async (path, fault) => shape(await settled(readJournal(path), fault('it is not read'))),
  },
  {
    name: 'snapshot',
    good: () => good.get('snapshot')!,
    seal: sealSnapshot,
    use: async (path, fault) => shape(await settled(readSnapshot(path), fault('it is not read'))),
  },
  {
    name: 'image',
    good: () =>
      Uint8Array.from(Buffer.from('KDMV\x01\0\0\0\x03\0\0\0# Disk DescriptorFile\nversion=1\nRW 8 FLAT "/x" 0\n')),
    use: async (path) => String(formatOf(readFileSync(path))),
  },
];

function shape(outcome: { value: unknown } | { error: unknown }): string {
  if ('value' in outcome) return outcome.value === undefined ? 'none' : 'read';
  return messageOf(outcome.error).replace(/\d+/g, 'N').slice(-60);
}

let folder = '';
let count = 0;
/** Edits lie within this many bytes of one another. */
const maxGap = 5000;

export const files: Subject = {
  name: 'files',
  /** The first message: which kind, and whether its checksums are right. */
  generate: (random) => [
    Uint8Array.of(random.below(kinds.length), random.below(4)),
    ...edits(random, maxGap, fileEdits),
  ],
  message: (random) => edit(random, maxGap, random.below(fileEdits)),

  async open() {
    folder = tempFolder();
    const at = (name: string): string => joinPath(folder, name);
    writeFileSync(at('base'), base);
    for (const [name, text] of [
      ['overlay', `raw:${at('base')},overlay=${at('overlay')}`],
      ['cache', `raw:${at('base')},cache=${at('cache')}`],
    ] as const) {
      const device = await openSource(parseSource(text), { log: silent });
      device.direct?.read(0, new Uint8Array(4096));
      await writeBytes(device, 4096, new Uint8Array(8192).fill(1));
      await device.writeZeroes(32768, 4096);
      await device.flush();
      await device.close();
      good.set(name, readFileSync(at(name)));
    }
    const end = { name: 'x', size: exportSize, identity: 'i' };
    const journal = { from: end, to: end, done: 4096 };
    await writeJournal(at('journal'), journal as never);
    good.set('journal', readFileSync(at('journal')));
    await writeSnapshot(at('snapshot'), { key: 'k', drives: [], devices: [{ a: [1, 2] }], engine: base });
    good.set('snapshot', readFileSync(at('snapshot')));
  },

  run: (inputs) => Promise.all(inputs.map(one)),
};

async function one(input: Input): Promise<string> {
  const [[number = 0, sealed = 0] = [], ...changes] = input;
  const kind = kinds[number % kinds.length]!;
  const own = joinPath(folder, String(count++));
  mkdirSync(own);
  const path = joinPath(own, kind.name);
  writeFileSync(joinPath(own, 'base'), base);
  const bytes = new Editor(changes).apply(kind.good());
  if (sealed > 0 && bytes.length > 1024) kind.seal?.(bytes);
  writeFileSync(path, bytes);
  const fault: Fault = (what, cause) => new FuzzError(`${kind.name}: ${what}`, input, cause);
  try {
    const said = await kind.use(path, fault);
    const now = readFileSync(joinPath(own, 'base'));
    if (kind.name === 'overlay' && Buffer.compare(now, base) !== 0) throw fault('the base has changed');
    return `${kind.name}: ${said}`;
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}
