/**
 * Disks that are far, as a subject of fuzzing: an initiator (NBD, dd over a shell, SFTP) with the
 * filters of a SOURCE's text on it, against a server whose answers are edited on their way.
 * With any input, every request settles, with a BlockError where it fails; no memory beside that of
 * a read is written; the device closes; and the files of its cache and overlay are used again, or
 * refused.
 */
import { rmSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import { FarbusError, messageOf } from '../../../src/base/errors.js';
import { silent } from '../../../src/base/log.js';
import type { BlockDevice } from '../../../src/block/device.js';
import { BlockError } from '../../../src/block/errors.js';
import { MergeFilter } from '../../../src/block/filters/merge.js';
import { ReadAheadFilter } from '../../../src/block/filters/readahead.js';
import { openFiltered } from '../../../src/app/filters.js';
import { parseSource } from '../../../src/app/source-text.js';
import { openSource } from '../../../src/app/sources.js';
import { listenOn } from '../../../src/network/listen.node.js';
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

async function serveNbd(): Promise<Serve> {
  composed ??= await Composed.open({ name: 'far', keys: (files) => ({ source: `raw:${files.disk('d', newDisk())}` }) });
  return composed.service.server.accept;
}

const connectNbdOn: Connect = (connect, reconnectSeconds) =>
  connectNbd({ address: 'fuzz', connect }, { exportName: 'disk', reconnectSeconds, connectSeconds: 5 });

const transports: Readonly<Record<string, { serve: () => Promise<Serve>; connect: Connect }>> = {
  nbd: { serve: serveNbd, connect: connectNbdOn },
  // As `openSource` opens the URI, over a socket.
  'nbd by a socket': { serve: serveNbd, connect: connectNbdOn },
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
        const transport = random.pick(['nbd', 'nbd by a socket', 'dd', 'sftp']);
        return one(input, transport, random.pick(filters), random.once(4) ? 1 : 0, random.once(4) ? 7 : Infinity);
      }),
    ),

  async close() {
    const wrong = await composed?.close();
    composed = undefined;
    if (wrong !== undefined) throw new Error(wrong);
  },
};

/**
 * The stream of a new connection, from which the client gets what the editor makes of the server's
 * bytes.
 */
function edited(stream: ByteStream, editor: Editor): ByteStream {
  editor.restart();
  // Bytes that the kernel sends from a file could not be edited.
  Object.defineProperty(stream, 'sendFile', { value: undefined });
  editWrites(stream, editor);
  return stream;
}

async function one(input: Input, transport: string, text: string, reconnect: number, piece: number): Promise<string> {
  const own = joinPath(folder, String(count++));
  const { serve, connect } = transports[transport]!;
  const accept = await serve();
  const editor = new Editor(input);
  const dial = async (): Promise<ByteStream> => {
    const [near, server] = streamPair((length) => Math.min(length, piece));
    accept(edited(server, editor));
    return near;
  };
  const fault = (what: string, cause?: unknown): FuzzError =>
    new FuzzError(`${transport}${text}: ${what}`, input, cause);
  const options = text.replaceAll('FOLDER', own);
  const socket = joinPath(folder, `s${count++}`);
  const listener =
    transport === 'nbd by a socket'
      ? await listenOn(
          { path: socket },
          (stream) => accept(edited(stream, editor)),
          () => undefined,
        )
      : undefined;
  const open = (): Promise<BlockDevice> =>
    listener
      ? openSource(parseSource(`nbd+unix:///disk?socket=${socket}${options}`), {
          log: silent,
          reconnectSeconds: reconnect,
        })
      : openFiltered(() => connect(dial, reconnect), parseSource(`x${options}`).filters);
  try {
    const said = await opened(open, fault);
    // Now the server is honest: what the files of cache and overlay hold is used again, or refused.
    editor.stop();
    const again = /cache|overlay/.test(text) ? await opened(open, fault) : '';
    return `${transport} ${said} ${again === '' || again.startsWith('ok') ? '' : again}`;
  } finally {
    await listener?.close();
    rmSync(own, { recursive: true, force: true });
  }
}

/** Opens a device, uses it and closes it. @returns how it went. */
async function opened(
  open: () => Promise<BlockDevice>,
  fault: (what: string, cause?: unknown) => FuzzError,
): Promise<string> {
  const outcome = await settled(open(), fault('it does not open or fail'));
  if ('error' in outcome) {
    const { error } = outcome;
    if (!(error instanceof FarbusError || error instanceof BlockError)) {
      throw fault(`opening fails with ${String(error)}`, error);
    }
    return messageOf(error).replace(/\d+/g, 'N').slice(-60);
  }
  const said = await use(outcome.value, fault);
  const closing = await settled(outcome.value.close(), fault('it does not close'));
  return `${said}${'error' in closing ? ' close fails' : ''}`;
}
