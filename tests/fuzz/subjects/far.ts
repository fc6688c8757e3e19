/**
 * Disks that are far, as a subject of fuzzing: an initiator (NBD, dd over a shell, SFTP) with the filters of a SOURCE's
 * text on it, against a server whose answers are edited on their way. Whatever comes, every request settles, with a
 * BlockError where it fails; no memory beside that of a read is written; the device closes; and the files of its cache and
 * overlay can be used again.
 */
import { rmSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import { FarbusError, messageOf } from '../../../src/base/errors.js';
import type { BlockDevice } from '../../../src/block/device.js';
import { BlockError } from '../../../src/block/errors.js';
import { MergeFilter } from '../../../src/block/filters/merge.js';
import { ReadAheadFilter } from '../../../src/block/filters/readahead.js';
import { openFiltered } from '../../../src/cli/filters.js';
import { parseDrive } from '../../../src/cli/sources.js';
import type { ByteStream } from '../../../src/network/stream.js';
import { connectDd } from '../../../src/protocol/dd/device.js';
import { connectNbd } from '../../../src/protocol/nbd/initiator/initiator.js';
import { connectSftp } from '../../../src/protocol/sftp/device.js';
import { FakeShell } from '../../support/dd-fake-shell.js';
import { FakeSftp } from '../../support/sftp-fake-server.js';
import { streamPair } from '../../support/stream-pair.js';
import { tempFolder } from '../../support/temp.js';
import { putMbr } from '../../unit/probe-disks.js';
import { Composed, exportFill, exportSize } from '../harness/compositions.js';
import { edit, edits, Editor, editWrites } from '../harness/edits.js';
import type { Input } from '../harness/input.js';
import { FuzzError, type Subject } from '../harness/loop.js';
import { settled, use } from '../harness/use.js';

/** Where edits can be: about as many bytes as a server says in one run. */
const maxGap = 3000;

/** Accepts one connection for an honest server. */
type Serve = (stream: ByteStream) => void;
type Connect = (dial: () => Promise<ByteStream>, reconnectSeconds: number) => Promise<BlockDevice>;

/** The disk that the servers have: a partition table, and bytes. */
function newDisk(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(exportSize).fill(exportFill).fill(0, 0, 512);
  putMbr(bytes, 0, [{ type: 0x83, start: 16, count: exportSize / 512 - 16 }]);
  return bytes;
}

/** As `openSource` puts them together for far sources. */
const far = (device: BlockDevice): BlockDevice => new ReadAheadFilter(new MergeFilter(device));

const transports: Readonly<Record<string, { serve: () => Promise<Serve>; connect: Connect }>> = {
  nbd: {
    serve: async () => {
      composed ??= await Composed.open({
        name: 'far',
        keys: (files) => ({ source: `raw:${files.disk('d', newDisk())}` }),
      });
      return composed.service.server.accept;
    },
    connect: (connect, reconnectSeconds) =>
      connectNbd({ address: 'fuzz', connect }, { exportName: 'disk', reconnectSeconds, connectSeconds: 5 }),
  },
  dd: {
    serve: async () => {
      const disk = newDisk();
      return (stream) => void new FakeShell(stream, disk, () => 'none');
    },
    connect: async (run, reconnectSeconds) =>
      far(await connectDd({ address: 'fuzz', run }, { path: '/x', sessions: 1, reconnectSeconds })),
  },
  sftp: {
    serve: async () => {
      const disk = newDisk();
      return (stream) => void new FakeSftp(stream, disk, () => 'none');
    },
    connect: async (dial, reconnectSeconds) =>
      far(await connectSftp(dial, { address: 'fuzz', path: '/disk', kill: () => Promise.resolve(), reconnectSeconds })),
  },
};

let composed: Composed | undefined;
let folder = '';
let count = 0;

/** Texts of filters; FOLDER is the run's own. */
const filters = [
  '',
  '',
  ',cache=FOLDER/cache',
  ',cache=FOLDER/cache,cache-size=64k,cache-keep',
  ',overlay=FOLDER/overlay',
  ',readahead',
  ',cache=FOLDER/cache,readahead,overlay=FOLDER/overlay',
  ',partition=1',
  ',offset=8192,size=32768',
  ',cache=FOLDER/cache,partition=1,read-only',
  ',rate=1G',
];

export const farDisk: Subject = {
  name: 'far',
  batch: 256,
  generate: (random) => edits(random, maxGap),
  message: (random) => edit(random, maxGap),

  async open() {
    folder = tempFolder();
  },

  run: (inputs, random) =>
    Promise.all(
      inputs.map((input) => {
        const transport = random.pick(['nbd', 'nbd', 'dd', 'sftp']);
        return one(input, transport, random.pick(filters), random.once(4) ? 1 : 0, random.once(4) ? 7 : Infinity);
      }),
    ),

  async close() {
    const wrong = await composed?.close();
    composed = undefined;
    if (wrong !== undefined) throw new Error(wrong);
  },
};

async function one(input: Input, transport: string, text: string, reconnect: number, piece: number): Promise<string> {
  const own = joinPath(folder, String(count++));
  const { serve, connect } = transports[transport]!;
  const accept = await serve();
  const editor = new Editor(input);
  const dial = async (): Promise<ByteStream> => {
    const [near, server] = streamPair((length) => Math.min(length, piece));
    editor.restart();
    editWrites(server, editor);
    accept(server);
    return near;
  };
  const fault = (what: string, cause?: unknown): FuzzError =>
    new FuzzError(`${transport}${text}: ${what}`, input, cause);
  const source = `x${text.replaceAll('FOLDER', own)}`;
  const open = (): Promise<BlockDevice> => openFiltered(() => connect(dial, reconnect), parseDrive(source).filters);
  try {
    const outcome = await settled(open(), fault('it does not open or fail'));
    if ('error' in outcome) {
      if (!(outcome.error instanceof FarbusError || outcome.error instanceof BlockError)) {
        throw fault(`opening fails with ${String(outcome.error)}`, outcome.error);
      }
      return `${transport}: ${messageOf(outcome.error).replace(/\d+/g, 'N').slice(0, 80)}`;
    }
    const said = await use(outcome.value, fault);
    const closing = await settled(outcome.value.close(), fault('it does not close'));
    return `${transport} ${said}${'error' in closing ? ' close fails' : ''}`;
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}
