/** The control socket of a running `farbus serve`: status reports and commands (docs/serve.md). */
import { untilAbort } from '../../base/abort.js';
import { Deadline } from '../../base/deadline.js';
import { FarbusError } from '../../base/errors.js';
import type { LockHolder, WriterLock } from '../../block/writer-lock.js';
import type { ControlHandler } from '../control/server.js';
import type { Work } from '../../base/work.js';
import type { ExportUser, Offered } from '../../export/exports.js';
import type { Rates, RateSampler } from '../../export/rates.js';
import type { ServeService } from './service.js';

/** Status of an export. */
export interface ExportStatus {
  readonly name: string;
  readonly description: string;
  readonly size: number;
  readonly readOnly: boolean;
  /**
   * Number of the connection that may write, or '' for none. Present only if one connection writes
   * at a time.
   */
  readonly writer?: string;
  /** The gateway in use, if its source names several. */
  readonly route?: string;
  /** Time since the server of its source was lost, in seconds; absent while it is there. */
  readonly away?: number;
  /** Present if the storage has a lock for its one writer. */
  readonly lock?: LockStatus;
  /** For a removable drive: is a medium present, and does a client hold it? */
  readonly medium?: { readonly present: boolean; readonly held: boolean };
  readonly clients: readonly ClientStatus[];
  /** Number of connections that use it now, and that have used it since it was opened. */
  readonly connections: number;
  readonly connectionsTotal: number;
  readonly requests: number;
  readonly errors: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Absent in answers of the web server. */
  readonly rates?: Rates;
}

/** The holder of the storage's lock: this server, another client, no client, or unknown. */
export interface LockStatus extends Partial<Omit<LockHolder, 'own'>> {
  readonly state: 'here' | 'elsewhere' | 'free' | 'unknown';
  /** True if the lock is taken when a client comes that may write. */
  readonly standby: boolean;
}

export interface ClientStatus {
  readonly id: string;
  readonly peer: string;
  readonly tlsName?: string;
  /** The id of the token that it has shown, or "console"; only over the web server. */
  readonly token?: string;
  /** The name that it gives itself; only over the web server. */
  readonly label?: string;
  /** Time since it connected, in seconds. */
  readonly connected: number;
  readonly requests: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Time since its last write, zeroing or trim, in seconds. Absent if it has made none. */
  readonly lastWrite?: number;
  /** Absent in answers of the web server. */
  readonly rates?: Rates;
}

/** Status of a server. */
export interface ServeStatus {
  readonly pid: number;
  /** Time since the start, in seconds. */
  readonly uptime: number;
  readonly listening: readonly string[];
  readonly metrics?: string;
  /** The address of the web server's page, without a token. */
  readonly web?: string;
  /** SHA-256 of the web server's certificate, if it was generated. */
  readonly webFingerprint?: string;
  /**
   * Numbers of connections: open (including those that use no export yet), accepted, and refused
   * because of a limit.
   */
  readonly connections: { readonly open: number; readonly accepted: number; readonly refused: number };
  /** Memory of the process, in bytes. */
  readonly memory: number;
  readonly exports: readonly ExportStatus[];
}

/** Time for the storage to say who has its lock, in ms. */
const lockMs = 1000;

/** The web server of a server, as far as its status shows it. */
export interface ServedWeb {
  readonly plainAddress: string;
  readonly fingerprint: string | undefined;
}

export async function statusOf(service: ServeService, web?: ServedWeb): Promise<ServeStatus> {
  const { server, metricsAddress } = service;
  return {
    pid: process.pid,
    uptime: Math.round((Date.now() - service.started) / 1000),
    listening: addressesOf(service),
    ...(metricsAddress !== undefined && { metrics: metricsAddress }),
    ...(web && { web: web.plainAddress }),
    ...(web?.fingerprint !== undefined && { webFingerprint: web.fingerprint }),
    connections: { open: server.connections, ...server.counts },
    memory: process.memoryUsage.rss(),
    exports: await Promise.all([...server.exports.list()].map((one) => exportStatus(one, service.rates))),
  };
}

/** The addresses at which a server is reached. */
export function addressesOf(service: ServeService): string[] {
  return service.listening.map((at) => service.uri(at));
}

/** The status of an export, with its rates if `rates` is given. */
export async function exportStatus(of: Offered, rates?: RateSampler): Promise<ExportStatus> {
  const { name, description, device, counters, lease, users } = of;
  const { connections: connectionsTotal, ...counts } = counters;
  const { route, away } = device.info;
  const lock = device.writerLock && (await lockStatus(device.writerLock));
  return {
    name,
    description,
    size: device.info.size,
    readOnly: of.readOnly || device.info.readOnly,
    ...(lease && { writer: lease.holder }),
    ...(route !== undefined && { route }),
    ...(away !== undefined && { away: secondsSince(away) }),
    ...(lock && { lock }),
    ...(device.media && { medium: { present: device.media.medium !== '', held: of.media.held } }),
    clients: [...users].map((user) => clientStatus(user, rates)),
    connections: users.size,
    connectionsTotal,
    ...counts,
    ...(rates && { rates: rates.of(counters, of.meter) }),
  };
}

async function lockStatus(lock: WriterLock): Promise<LockStatus> {
  const standby = lock.takeOver !== undefined;
  const limit = new Deadline(lockMs);
  try {
    const holder = await untilAbort(limit.signal, lock.holder());
    if (!holder) return { state: 'free', standby };
    const { own, client, address, cookie } = holder;
    return { state: own ? 'here' : 'elsewhere', standby, client, address, cookie };
  } catch {
    return { state: 'unknown', standby };
  } finally {
    limit.end();
  }
}

/** @param time in ms since 1970 */
function secondsSince(time: number): number {
  return Math.max(0, Math.round((Date.now() - time) / 1000));
}

function clientStatus(
  { id, peer, tlsName, token, label, since, counters }: ExportUser,
  rates?: RateSampler,
): ClientStatus {
  const { lastWrite, ...counts } = counters;
  return {
    id,
    peer,
    ...(tlsName !== undefined && { tlsName }),
    ...(token !== undefined && { token }),
    ...(label !== undefined && { label }),
    connected: secondsSince(since),
    ...counts,
    ...(lastWrite !== undefined && { lastWrite: Math.round((performance.now() - lastWrite) / 1000) }),
    ...(rates && { rates: rates.of(counters) }),
  };
}

/**
 * Handles control commands: `status`; `lease {export, to}`, which moves the right to write; `eject
 * {export, force}` and `insert {export, source}`, which exchange media; and `reload`.
 */
export function controlHandler(
  service: ServeService,
  reload: (work: Work) => Promise<void>,
  web?: ServedWeb,
): ControlHandler {
  return async (request, work) => {
    switch (request.command) {
      case 'status':
        return statusOf(service, web);
      case 'lease':
        return moveLease(service, request['export'], request['to'], work);
      case 'eject':
        return { ejected: await service.eject(String(request['export']), request['force'] === true) };
      case 'insert':
        await service.insert(String(request['export']), String(request['source']), work);
        return {};
      case 'reload':
        await reload(work);
        return statusOf(service, web);
      default:
        throw new FarbusError(`there is no command ${JSON.stringify(request.command).slice(0, 100)}`);
    }
  };
}

/** Takes the lease from its holder once the holder's writes are complete and durable. */
export async function moveLease(service: ServeService, name: unknown, to: unknown, work: Work): Promise<ExportStatus> {
  const offered = typeof name === 'string' ? service.server.exports.find(name) : undefined;
  if (!offered) throw new FarbusError(`there is no export ${JSON.stringify(name)}: see farbus status`);
  if (!offered.lease) {
    throw new FarbusError(`the export ${JSON.stringify(offered.name)} may be written by several: it has no lease`);
  }
  await offered.lease.move(typeof to === 'string' ? to : '', {
    signal: work.signal,
    waitsFor: (what) => work.waitsFor(() => what().replace(/^the writes of /, 'the writes of connection ')),
  });
  return exportStatus(offered, service.rates);
}
