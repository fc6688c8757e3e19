/**
 * `farbus status`: shows the status of this user's servers and sites, reloads a server's settings,
 * or takes the right to write an export.
 */
import { FarbusError, isFailure, usageError } from '../../base/errors.js';
import { jsonLine, visible } from '../../base/printable.js';
import { formatBytes, formatSeconds as duration } from '../../base/format.js';
import { askControl } from '../../app/control/client.js';
import { describe as describeProcess } from '../../app/control/description.js';
import { findNamed, wrongKind, type Named } from '../../app/control/find.js';
import { kindWords } from '../../app/control/kinds.js';
import { nameOf, running } from '../../app/control/registry.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { exitStatus } from '../exit-status.js';
import type { Rates } from '../../export/rates.js';
import type { ClientStatus, ExportStatus, LockStatus, ServeStatus } from '../../app/serve/control.js';
import { describeSite, runningSites } from '../../app/site/site.js';

const options = {
  socket: { value: 'PATH', about: 'only the server with this control socket' },
  take: {
    value: 'EXPORT',
    brief: 'take the right to write EXPORT from its connection',
    about:
      'take the right to write EXPORT (of farbus serve --one-writer) from the connection that has it, once its writes ' +
      'are complete and durable; the next client that connects gets it. Meanwhile the command prints what it waits ' +
      'for. The right stays where it is after Ctrl-C, and if 30 s are not enough',
  },
  reload: { about: 'make the server read its configuration file again, and print what is wrong with it' },
  json: { about: 'print JSON: a list of servers; sizes in bytes, times in seconds' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'status',
  summary: 'show the servers and sites that run here',
  usage: ['[NAME] [OPTIONS]'],
  about: `
    Shows every farbus serve of this user: where it listens, its exports, their clients, its counts, and how much is read
    and written now, over the last seconds (the times of requests only of servers with --metrics or --web). Then come the
    sites of farbus up, with the states of their computers and the holders of their leases. A server that does not answer
    within 2 seconds is named on stderr. With NAME, shows only that server, site, computer or disk (farbus ps lists them).`,
  options,
  statuses: [['1', 'also: a server did not answer within 2 seconds']],
  examples: ['farbus status', 'farbus status desk', 'farbus status --json', 'farbus status --take disk.img'],
  pages: ['serve'],
  operands: [],
  run,
});

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [name, ...more] = operands;
  if (more.length > 0) throw usageError('farbus status [NAME]: one name at a time; farbus ps shows all');
  if (name !== undefined && values.socket !== undefined) throw usageError('give a NAME or --socket, not both');
  const named = name === undefined ? undefined : await findNamed(name, io.env);
  if (named && (named.process.kind !== 'serve' || named.computer !== undefined)) {
    if (values.take !== undefined || values.reload) throw wrongKind(named, '--take and --reload are for servers');
    return statusOfNamed(named, values.json, io);
  }
  const socket = named?.process.path ?? values.socket;
  const servers = await find(socket, io.env);
  const onWorking = tellWaiting(io);
  if (values.take !== undefined)
    await askControl(having(servers, values.take), { command: 'lease', export: values.take }, { onWorking });
  if (values.reload) {
    const sockets = [...servers.answers.map((one) => one.socket), ...servers.silent];
    if (sockets.length === 0) throw new FarbusError('no farbus serve runs here');
    if (sockets.length > 1) {
      throw new FarbusError(`--reload is for one server: name it, one of ${sockets.map(nameOf).join(', ')}`);
    }
    await askControl(sockets[0]!, { command: 'reload' }, { onWorking });
  }
  const changed = values.take !== undefined || values.reload;
  const { answers, silent } = changed ? await find(socket, io.env) : servers;
  if (values.json) io.stdout.write(jsonLine(answers));
  else {
    const sites = socket === undefined ? await Promise.all((await runningSites(io.env)).map(describeSite)) : [];
    if (answers.length === 0 && silent.length === 0) io.stdout.write('no farbus serve runs here\n');
    io.stdout.write([...answers.map(describe), ...sites].join('\n'));
  }
  if (silent.length === 0) return exitStatus.done;
  io.stderr.write(`farbus: ${noAnswer(silent)}\n`);
  return exitStatus.failed;
}

/** Prints the status of anything but a server. */
async function statusOfNamed({ process: of, computer }: Named, json: boolean, io: CliIo): Promise<number> {
  const description = await describeProcess(of);
  const part = description.computers?.find((one) => one.name === computer);
  if (json) io.stdout.write(jsonLine(part ? [{ ...part, site: of.name }] : [description]));
  else if (of.kind === 'site' && !part) io.stdout.write(await describeSite(of));
  else {
    const { state, engine, uses, reach } = part ?? description;
    const ways = part ? [] : (description.ways ?? []);
    const useLines = (use: string): string[] => {
      const way = ways.find(({ source }) => source === use);
      return [
        `  uses         ${use}`,
        ...wayLine(way?.route, way?.away === undefined ? undefined : secondsSince(way.away)),
      ];
    };
    const lines = [
      `${kindWords[part ? 'computer' : of.kind]} ${part ? `${of.name}/${part.name}` : of.name}: ${state}`,
      `  process      ${of.pid}, up ${duration(secondsSince(description.since))}`,
      ...(engine === undefined ? [] : [`  engine       ${engine}`]),
      ...uses.flatMap(useLines),
      ...reach.map((one) => `  reach it by  ${one}`),
      `  control      ${of.path}`,
    ];
    io.stdout.write(lines.map((line) => `${visible(line)}\n`).join(''));
  }
  return exitStatus.done;
}

/** @param time in ISO 8601 */
function secondsSince(time: string): number {
  return Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
}

/** Time limit for a status reply, in ms; a server needs not wait for anything to give it. */
const limitMs = 2000;

type Found = ServeStatus & { readonly name: string; readonly socket: string };

interface Servers {
  readonly answers: readonly Found[];
  /** Control sockets of servers that run but do not answer. */
  readonly silent: readonly string[];
}

/** Asks all servers in parallel. */
async function find(socket: string | undefined, env: NodeJS.ProcessEnv): Promise<Servers> {
  const ask = async (path: string): Promise<Found> => ({
    name: nameOf(path),
    ...((await askControl(path, { command: 'status' }, { limitMs, absolute: true })) as ServeStatus),
    socket: path,
  });
  if (socket !== undefined) return { answers: [await ask(socket)], silent: [] };
  const silent: string[] = [];
  const servers = (await running(env)).filter(({ kind }) => kind === 'serve');
  const asked = servers.map(({ path }) =>
    ask(path).catch((error: unknown) => {
      // Only a server that does not answer counts as silent, not one that ends or starts.
      if (isFailure(error, 'no-answer')) silent.push(path);
      return undefined;
    }),
  );
  const answers = (await Promise.all(asked)).filter((one) => one !== undefined);
  return { answers, silent: silent.sort() };
}

function noAnswer(silent: readonly string[]): string {
  return `no answer within ${limitMs / 1000} s from ${silent.join(', ')}: was it stopped?`;
}

/**
 * The control socket of this user's server that has an export. Rejects with a FarbusError if none
 * or several have it.
 */
export async function serverWith(name: string, socket: string | undefined, env: NodeJS.ProcessEnv): Promise<string> {
  return having(await find(socket, env), name);
}

function having({ answers, silent }: Servers, name: string): string {
  const [one, more] = answers.filter(({ exports }) => exports.some((of) => of.name === name));
  if (!one) {
    const others = silent.length > 0 ? `; ${noAnswer(silent)}` : ': see farbus status';
    throw new FarbusError(`no server here has an export ${JSON.stringify(name)}${others}`);
  }
  if (more) throw new FarbusError(`several servers have an export ${JSON.stringify(name)}: name one by --socket PATH`);
  return one.socket;
}

function describe(server: Found): string {
  const { pid, uptime, listening, connections, memory, exports, metrics, web, webFingerprint } = server;
  const refused = connections.refused > 0 ? `, ${connections.refused} refused` : '';
  const lines = [
    `${server.name}: process ${pid}, up ${duration(uptime)}, ${formatBytes(memory)} of memory`,
    `  listens at   ${listening.join(' ')}${metrics === undefined ? '' : `; metrics at ${metrics}`}`,
    ...(web === undefined ? [] : [`  web          ${web}`]),
    ...(webFingerprint === undefined ? [] : [`  certificate  SHA-256 ${webFingerprint}`]),
    `  control      ${server.socket}`,
    `  connections  ${connections.open} open, ${connections.accepted} since the start${refused}`,
    ...exports.flatMap(exportLines),
  ];
  return lines.map((line) => `${visible(line)}\n`).join('');
}

function exportLines(of: ExportStatus): string[] {
  const nature = [formatBytes(of.size), of.readOnly ? 'read-only' : 'writable'];
  if (of.medium) nature.push(of.medium.present ? `a medium${of.medium.held ? ', held by a client' : ''}` : 'no medium');
  if (of.writer !== undefined) nature.push('one writer at a time');
  if (of.description !== '') nature.push(of.description);
  const done = `${of.requests} requests, ${formatBytes(of.bytesRead)} read, ${formatBytes(of.bytesWritten)} written`;
  return [
    `  ${of.name}: ${nature.join(', ')}`,
    `    ${done}, ${of.errors} errors`,
    ...rateLines(of.rates, '    '),
    ...wayLine(of.route, of.away),
    ...(of.lock ? [`    ${lockText(of.lock)}`] : []),
    ...connectionLines(of),
    ...of.clients.flatMap((client) => clientLines(client, of.writer === client.id)),
  ];
}

/** A server of 0.1.0 does not tell the present number. */
function connectionLines({ connections, connectionsTotal }: ExportStatus): string[] {
  if (connectionsTotal === undefined) return [];
  return [
    `    ${connections} ${connections === 1 ? 'connection' : 'connections'}, ${connectionsTotal} since the start`,
  ];
}

/**
 * How a disk is reached, if that is not plain.
 * @param away time since its server was lost, in seconds
 */
function wayLine(route: string | undefined, away: number | undefined): string[] {
  if (away === undefined) return route === undefined ? [] : [`    by way of ${route}`];
  const last = route === undefined ? '' : `, last at ${route}`;
  return [`    away for ${duration(away)}${last}: requests wait, or fail`];
}

function lockText({ state, standby, client, address, cookie }: LockStatus): string {
  const holder = `${client} at ${address}, cookie ${cookie}`;
  const until = standby ? ', taken when a client comes that may write' : '';
  switch (state) {
    case 'here':
      return `lock: held here (${holder})`;
    case 'elsewhere':
      return `lock: held by ${holder}${until}`;
    case 'free':
      return `lock: free${until}`;
    case 'unknown':
      return 'lock: unknown, the storage does not answer';
  }
}

/** A client's line; two lines if one would be wider than a terminal of 80 columns. */
function clientLines(client: ClientStatus, mayWrite: boolean): string[] {
  const { id, peer, tlsName, token, connected, bytesRead, bytesWritten, lastWrite } = client;
  const shown = token === undefined ? '' : ` token ${token}`;
  const name = `${tlsName === undefined ? '' : ` ${tlsName}`}${shown}`;
  const who = `    client ${id} ${peer}${name}, ${duration(connected)}${mayWrite ? ', may write' : ''}:`;
  const last = lastWrite === undefined ? '' : `, last write ${duration(lastWrite)} ago`;
  const done = `${formatBytes(bytesRead)} read, ${formatBytes(bytesWritten)} written${last}`;
  const line = `${who} ${done}`;
  return [...(line.length <= 80 ? [line] : [who, `      ${done}`]), ...rateLines(client.rates, '      ')];
}

/** The line of present rates; none while there are no requests, or if the server is of 0.1.0. */
function rateLines(rates: Rates | undefined, indent: string): string[] {
  if (!rates || rates.requests === 0) return [];
  const { requests, bytesRead, bytesWritten, latency } = rates;
  const ms = (seconds: number): string => `${Number((seconds * 1000).toPrecision(3))} ms`;
  // The histogram knows only the bounds of its buckets.
  const times = latency ? `; p50 <= ${ms(latency.p50)}, p99 <= ${ms(latency.p99)}` : '';
  const bytes = `${formatBytes(bytesRead)}/s read, ${formatBytes(bytesWritten)}/s written`;
  return [`${indent}now ${requests} requests/s, ${bytes}${times}`];
}
