/** `farbus serve`: exports files and block devices as NBD ([SYS] the server computer's physical device 914, offered to all). */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { messageOf, usageError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { exportUri, parseListenAddress, type ListenAddress } from '../export/address.js';
import { bootId } from '../export/boot-id.node.js';
import { Exports } from '../export/exports.js';
import { Server } from '../export/server.js';
import { listenAoe } from '../protocol/aoe/target/open.node.js';
import { segmentHelp } from '../network/ethernet/open.node.js';
import { listenOn } from '../network/listen.node.js';
import { stderrLogger, type CliIo } from './io.js';
import { numberOption, parseOptions } from './options.js';
import { onSignals } from './signals.js';
import { openTls, tlsHelp, tlsOptions } from './tls.js';
import { isLocalPath, openDrive, parseDrive, sourceHelp, type SourceOptions } from './sources.js';

export const serveHelp = `Usage: farbus serve [options] [NAME=]SOURCE[,read-only][,overlay=FILE]...

Offers files and block devices to other computers as NBD exports (network block devices) or AoE targets. Each SOURCE is an export,
named by its last part or by NAME; a client that asks for no name gets the first. The address of every export is
printed on stdout, one a line, when the server is ready. SIGTERM or Ctrl-C ends it in good order; a second one at once.
With ,overlay=FILE what clients write goes to FILE, and the source stays as it is.

${sourceHelp}

${segmentHelp}

Options:
  --listen URI         where to listen; may be given several times (default nbd://127.0.0.1:10809):
                         nbd://HOST[:PORT]            TCP; port 0 takes a free one
                         nbd+unix:///?socket=PATH     a unix socket
                         aoe:SHELF.SLOT@SEGMENT       AoE on an Ethernet segment; each further export one slot on
  --read-only          let nobody write
  --reconnect SECONDS  how long a source that is elsewhere may be away before clients get errors (default 60)
  --name NAME          name of the export, where there is one SOURCE only
  --description TEXT   its description, for people, where there is one SOURCE only
${tlsHelp}
  --json               print {"listening":[...],"exports":[...]} instead, in one line
  --help               show this

Without --tls-certificates or --tls-psk there is no encryption and no password: whoever can connect can read and write.
Listen on other addresses than 127.0.0.1 only in networks that you trust. docs/nbd.md says how certificates are made.

Examples:
  farbus serve disk.img
  farbus serve --read-only /dev/sdb
  farbus serve --listen nbd://0.0.0.0 system=/dev/sda data=/srv/data.img
  farbus serve --listen 'nbd+unix:///?socket=/run/disk.sock' disk.img
  farbus serve ssh://server/dev/sdb,overlay=changes.img
  farbus serve --listen nbd://0.0.0.0 --tls-certificates /etc/pki/farbus --tls-verify-peer /dev/sdb
`;

const defaultListen = 'nbd://127.0.0.1:10809';

/** Runs the server until it is told to end. Resolves with the exit status; rejects with a FarbusError. */
export async function serve(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('serve', args, {
    allowPositionals: true,
    options: {
      listen: { type: 'string', multiple: true, default: [defaultListen] },
      'read-only': { type: 'boolean', default: false },
      reconnect: { type: 'string', default: '60' },
      name: { type: 'string' },
      description: { type: 'string' },
      ...tlsOptions,
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    io.stdout.write(serveHelp);
    return 0;
  }
  const sources = parseSources(positionals, values.name, values.description);
  const aoe = values.listen.filter((text) => text.startsWith('aoe:'));
  const addresses = values.listen.filter((text) => !aoe.includes(text)).map(parseListenAddress);
  const reconnectSeconds = numberOption('reconnect', values.reconnect, 0, 86_400);
  const log = stderrLogger(io);
  const tls = await openTls(values);
  const signals = onSignals();
  const server = new Server(new Exports(await bootId()), log);
  server.tls = tls;
  try {
    await open(server.exports, sources, { readOnly: values['read-only'], reconnectSeconds, log });
    const listening = await listen(server, addresses, log);
    const names = await listenOnSegments(server, aoe, log);
    io.stdout.write(values.json ? jsonOf(listening, server, names) : linesOf(listening, server, names));
    await signals.received;
    if (server.connections > 0) log.log('info', 'ending: waiting for requests under way; once more to end at once');
  } finally {
    await server.drain();
    signals.stop();
  }
  return 0;
}

/** What is to be exported, as the command line has it. */
interface Source {
  readonly path: string;
  readonly name: string;
  readonly description: string;
}

function parseSources(paths: readonly string[], name?: string, description = ''): Source[] {
  if (paths.length === 0) throw usageError('serve what? Give a file, device or other source: farbus serve disk.img');
  if (paths.length > 1 && name !== undefined)
    throw usageError('--name is for one SOURCE only: write NAME=SOURCE for each');
  if (paths.length > 1 && description !== '') throw usageError('--description is for one SOURCE only');
  const sources = paths.map((text) => ({ ...nameAndPath(text, name), description }));
  const seen = new Map<string, string>();
  for (const { name, path } of sources) {
    const other = seen.get(name);
    if (other !== undefined) {
      throw usageError(
        `${other} and ${path} would both be named ${JSON.stringify(name)}: write NAME=SOURCE for one of them`,
      );
    }
    seen.set(name, path);
  }
  return sources;
}

/** "NAME=SOURCE" or "SOURCE". A path that exists is one, whatever it contains. */
function nameAndPath(text: string, name: string | undefined): { name: string; path: string } {
  const equals = text.indexOf('=');
  const before = text.slice(0, equals);
  if (equals <= 0 || before.includes('/') || existsSync(text)) {
    const own = name ?? nameOf(parseDrive(text).source);
    if (own === '') throw usageError(`${JSON.stringify(text)} has no name to export it by: write NAME=SOURCE`);
    return { name: own, path: text };
  }
  if (name !== undefined) throw usageError(`${text} has a name already: leave --name out`);
  return { name: before, path: text.slice(equals + 1) };
}

/** A file's name, or the last part of a URI's path. */
function nameOf(source: string): string {
  return basename(isLocalPath(source) ? source : source.replace(/\?.*$/s, ''));
}

async function open(exports: Exports, sources: readonly Source[], options: SourceOptions): Promise<void> {
  const readOnly = options.readOnly === true;
  for (const { path, name, description } of sources) {
    const device = await openDrive(path, options);
    const { source, filters } = parseDrive(path);
    // What was acknowledged and not flushed outlives this process in the system's cache only: that of an overlay's map
    // or of a gateway's requests ends with it, and clients must be told.
    const state = isLocalPath(source) && filters.overlay === undefined ? {} : { state: randomUUID() };
    try {
      exports.add({ name, device, description, readOnly, ...state });
    } catch (error) {
      await device.close();
      throw error;
    }
  }
}

async function listen(server: Server, addresses: readonly ListenAddress[], log: Logger): Promise<ListenAddress[]> {
  const listening: ListenAddress[] = [];
  for (const address of addresses) {
    const failed = (error: Error) => log.log('warn', `cannot accept a connection: ${messageOf(error)}`);
    const listener = await listenOn(address, server.accept, failed);
    server.add(listener);
    listening.push(listener.at);
  }
  return listening;
}

/** Serves all exports on each segment. Their names there, in the order of the exports. */
async function listenOnSegments(server: Server, texts: readonly string[], log: Logger): Promise<string[][]> {
  const exports = [...server.exports.list()].map(({ device, readOnly, sessions }) => ({
    device,
    readOnly,
    state: sessions.state,
  }));
  const names: string[][] = exports.map(() => []);
  for (const text of texts) {
    const listener = await listenAoe(text, exports, log);
    server.add(listener);
    listener.names.forEach((name, index) => names[index]!.push(name));
  }
  return names;
}

function linesOf(listening: readonly ListenAddress[], { exports, tls }: Server, names: readonly string[][]): string {
  const list = [...exports.list()];
  const lines = listening.flatMap((at) => list.map(({ name }) => exportUri(at, name, tls !== undefined)));
  return [...lines, ...names.flat()].map((line) => `${line}\n`).join('');
}

function jsonOf(listening: readonly ListenAddress[], { exports, tls }: Server, names: readonly string[][]): string {
  const encrypted = tls !== undefined;
  const list = [...exports.list()].map(({ name, description, readOnly, device }, index) => ({
    name,
    description,
    size: device.info.size,
    readOnly: readOnly || device.info.readOnly,
    uris: [...listening.map((at) => exportUri(at, name, encrypted)), ...names[index]!],
  }));
  return `${JSON.stringify({ listening: listening.map((at) => exportUri(at, '', encrypted)), exports: list })}\n`;
}
