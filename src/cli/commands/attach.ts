/**
 * `farbus attach`: serves any source as NBD on a unix socket, for a hypervisor or tool that the
 * user already has.
 */
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import { byMkdtemp, makeOwnedFolder } from '../../base/owned.node.js';
import type { BlockDevice } from '../../block/device.js';
import { exportUri } from '../../export/nbd/address.js';
import { bootId } from '../../base/boot-id.node.js';
import { Exports } from '../../export/exports.js';
import { Server } from '../../export/nbd/server.js';
import { listenOn } from '../../network/listen.node.js';
import { checkSocketPath } from '../../network/socket.node.js';
import { runCommand } from '../ui/child.js';
import { enroll } from '../ui/enroll.js';
import { waysOf } from '../../app/control/ways.js';
import { filtersOf } from '../../app/filters.js';
import { announce, stderrLogger, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { numberOption } from '../options.js';
import { onSignals } from '../ui/signals.js';
import { memoryOf } from '../../app/unflushed.js';
import { parseSource } from '../../app/source-text.js';
import { openSource } from '../../app/sources.js';
import { exitStatus } from '../exit-status.js';
import { filterOptionsOf } from '../topics.js';

const options = {
  socket: {
    value: 'PATH',
    brief: 'the path of the socket (default: in a private folder)',
    about: 'the path of the socket; by default in a new private folder, which is removed at the end',
  },
  name: { value: 'NAME', about: 'the name for farbus ps and stop; by default disk, disk-2 and so on' },
  reconnect: {
    value: 'SECONDS',
    default: '60',
    brief: 'how long to wait for a lost connection (default 60)',
    about: 'how long to try to restore a lost connection before requests fail',
  },
  ...filterOptionsOf(),
} as const satisfies Options;

export const command = defineCommand({
  name: 'attach',
  summary: 'give any disk to a hypervisor or a tool',
  usage: ['SOURCE[,FILTER]... [OPTIONS] [-- COMMAND...]'],
  about: `
    Offers SOURCE on a unix socket as NBD (network block device), which QEMU, qemu-img, nbdcopy, nbd-client and other
    programs take. COMMAND is started once the socket is ready; in its words {nbd} becomes the NBD URI and {socket} the
    path of the socket. farbus ends when COMMAND ends. Without COMMAND the URI is printed, and farbus runs until SIGTERM or
    Ctrl-C.`,
  options,
  often: ['read-only', 'overlay', 'cache', 'partition', 'rate', 'socket', 'reconnect'],
  topics: ['sources'],
  statuses: [
    ['N', 'COMMAND ended with exit status N; 128 + N: signal N ended it'],
    [String(exitStatus.notRunnable), 'COMMAND cannot be run'],
    [String(exitStatus.notFound), 'there is no program of that name'],
  ],
  examples: [
    'farbus attach nbd://server/disk1 --overlay changes.overlay -- qemu-system-x86_64 -m 2G -drive file={nbd},format=raw,if=virtio',
    'farbus attach /dev/sdb --read-only -- qemu-img convert -f raw {nbd} -O qcow2 sdb.qcow2',
    'farbus attach ssh://server/dev/sdb --cache sdb.cache --partition 1 -- nbdcopy {nbd} sdb1.img',
    'farbus attach disk.img --socket /run/disk.sock',
  ],
  pages: ['attach', 'filters'],
  operands: 'source',
  runs: 'after-dashes',
  run,
});

async function run({ values, operands, command }: Given<typeof options>, io: CliIo): Promise<number> {
  const [text, more] = operands;
  if (text === undefined) throw usageError('attach what? Give a SOURCE: farbus attach disk.img -- COMMAND {nbd}');
  if (more !== undefined) throw usageError(`${more} does not belong here: a COMMAND begins after --`);
  if (values.socket === '') throw usageError('--socket needs a path');
  if (values.socket !== undefined) checkSocketPath(values.socket);
  const filters = filtersOf(values);
  const source = parseSource(text);
  const reconnectSeconds = numberOption('reconnect', values.reconnect, 0, 86_400);
  if (command && !command.some((word) => /\{(nbd|socket)\}/.test(word))) {
    throw usageError('COMMAND has neither {nbd} nor {socket}: put one of them where the disk is to be');
  }
  const log = stderrLogger(io, command !== undefined);
  const closing: (() => Promise<unknown>)[] = [];
  const signals = onSignals();
  try {
    const without = 'farbus ps and stop will not find this disk';
    const enrolled = await enroll({ io, kind: 'attach', name: values.name, log, uses: [text], without });
    closing.push(() => enrolled.close());
    const opening = openSource(source, { filters, reconnectSeconds, log, signal: signals.signal });
    const device = await signals.during(opening, (late) => late.close());
    const server = new Server(new Exports(memoryOf(source, filters, bootId())), log);
    closing.push(() => server.drain());
    add(server, device, text);
    const path = values.socket ?? join(await privateFolder(closing), 'nbd.sock');
    server.add(await listenOn({ path }, server.accept, (error) => log.log('warn', messageOf(error))));
    const uri = exportUri({ path }, '');
    enrolled.serve(noRequests, () => {
      return { state: 'running', uses: [text], reach: [uri], ...waysOf([[text, device.info]]) };
    });
    if (!device.info.readOnly && !device.info.can.flush) {
      log.log('warn', `${text}: the other side cannot promise that flushed data is durable`);
    }
    if (command) {
      const ended = runCommand(
        command.map((word) => replaced(word, uri, path)),
        io,
      );
      // From here on the command handles the signals; farbus ends with it.
      signals.stop();
      return await ended;
    }
    announce(io, `${uri}\n`, log);
    return await signals.received;
  } finally {
    await closeAll(closing.reverse()).finally(() => signals.stop());
  }
}

/** An attached disk answers no requests but those of every process. */
const noRequests = async (): Promise<never> => {
  throw new FarbusError('an attached disk does not take this request: use farbus stop, or its socket');
};

/**
 * Calls all in order, and then rejects with the first error. If a disk fails to close, the folder
 * must still be removed.
 */
async function closeAll(closing: readonly (() => Promise<unknown>)[]): Promise<void> {
  const errors: unknown[] = [];
  for (const close of closing) await close().catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw errors[0];
}

function add(server: Server, device: BlockDevice, description: string): void {
  // The description is for people only; the protocol limits its length.
  server.exports.add({ name: 'disk', device, description: description.slice(0, 1000), readOnly: device.info.readOnly });
}

/**
 * A folder that no other user can access: a process that can open the socket can write the disk.
 */
async function privateFolder(closing: (() => Promise<unknown>)[]): Promise<string> {
  const folder = await makeOwnedFolder(tmpdir(), 'farbus-attach-', { before: byMkdtemp });
  // `closing` runs in reverse, so the folder is removed after the server has closed.
  closing.unshift(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function replaced(word: string, uri: string, path: string): string {
  return word.replace(/\{(nbd|socket)\}/g, (_, name) => (name === 'nbd' ? uri : path));
}
