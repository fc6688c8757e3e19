/**
 * Finds the facts about a device and its server by SFTP alone. On Linux, files in /proc and /sys
 * tell the size of a block device, the process of the SFTP server, and the current boot of the
 * computer.
 */
import { FarbusError } from '../../base/errors.js';
import { markOf, type DiskMarks } from '../../block/identity.js';
import type { RemoteFacts } from '../channels/channel.js';
import { Extension, FileType, OpenFlag, Packet, Status, maxLength, safeLength } from './spec.js';
import type { SftpConnection } from './connection.js';
import { StatusError, expect, nameOf, openHandle, readTextIfAny, statPath } from './files.js';

const bootIdPath = '/proc/sys/kernel/random/boot_id';

/**
 * The process of an SFTP server. Id and start time together are unique within one boot of the
 * system.
 */
export interface ServerProcess {
  readonly pid: number;
  /** Start time, in clock ticks since the boot. */
  readonly start: string;
  /** Its PID namespace. */
  readonly space: string;
}

export interface SftpFacts extends RemoteFacts {
  readonly handle: Uint8Array;
  /** Longest read and longest write, in bytes. */
  readonly readLength: number;
  readonly writeLength: number;
  /** Undefined if the server's processes are not visible. */
  readonly process: ServerProcess | undefined;
  /** True if the server can report the free space of a file system. */
  readonly statFileSystem: boolean;
}

export interface SftpWish {
  readonly address: string;
  readonly path: string;
  readonly readOnly: boolean;
  /** The size that the user states, in bytes. */
  readonly size: number | undefined;
}

/**
 * Opens the device and finds its facts. Rejects with a FarbusError, of the kind `method` if dd may
 * work, or with an Error if the connection is lost.
 */
export async function sftpFacts(connection: SftpConnection, wish: SftpWish): Promise<SftpFacts> {
  const fail = (what: string): never => {
    throw new FarbusError(`cannot open ${wish.address}: ${what}`, { kind: 'device' });
  };
  const { mode, size: statSize } = await statPath(connection, wish.path).catch((error: unknown) =>
    fail(explain(error)),
  );
  const kind = (mode ?? FileType.file) & FileType.mask;
  const isDevice = kind === FileType.block || kind === FileType.character;
  if (kind === FileType.folder) fail('it is a folder: give a file or a block device');
  if (kind !== FileType.file && !isDevice) fail('it is neither a file nor a block device');
  const { handle, readOnly } = await open(connection, wish.path, wish.readOnly).catch((error: unknown) =>
    fail(explain(error)),
  );
  const disk = isDevice
    ? await diskFacts(connection, wish.path)
    : { size: statSize, sector: undefined, marks: {}, used: '' };
  const size = wish.size ?? disk.size;
  if (size === undefined) {
    throw new FarbusError(
      `cannot open ${wish.address}: SFTP cannot tell how long the device is: add ?size=BYTES, or use ssh+dd://`,
      { kind: 'method' },
    );
  }
  if (disk.size !== undefined && size > disk.size) fail(`it has ${disk.size} bytes, and size= says ${size}`);
  if (!(size <= Number.MAX_SAFE_INTEGER - 65536)) fail(`${size} bytes are too many`);
  const { readLength, writeLength } = await limits(connection);
  return {
    handle,
    readOnly,
    size,
    sector: disk.sector,
    marks: disk.marks,
    used: disk.used,
    flush: connection.extensions.has(Extension.fsync),
    statFileSystem: connection.extensions.has(Extension.statFileSystem),
    readLength,
    writeLength,
    machine: await readTextIfAny(connection, '/etc/machine-id'),
    boot: await readTextIfAny(connection, bootIdPath),
    process: await ownProcess(connection),
  };
}

async function open(
  connection: SftpConnection,
  path: string,
  readOnly: boolean,
): Promise<{ handle: Uint8Array; readOnly: boolean }> {
  if (!readOnly) {
    try {
      return { handle: await openHandle(connection, path, OpenFlag.read | OpenFlag.write), readOnly: false };
    } catch (error) {
      // A read-only file system gives a general failure in SFTP version 3.
      const denied =
        error instanceof StatusError &&
        (error.status.code === Status.permissionDenied || error.status.code === Status.failure);
      if (!denied) throw error;
    }
  }
  return { handle: await openHandle(connection, path, OpenFlag.read), readOnly: true };
}

function explain(error: unknown): string {
  if (!(error instanceof StatusError)) throw error;
  switch (error.status.code) {
    case Status.noSuchFile:
      return 'there is no such device or file on the server: check the path';
    case Status.permissionDenied:
      return 'the server does not let this user read it: log in as another user, or use ssh+dd:// with ?sudo=1';
    default:
      return `the server says: ${error.message}`;
  }
}

interface DiskFacts {
  readonly size: number | undefined;
  readonly sector: number;
  readonly marks: DiskMarks;
  readonly used: string;
}

/** Finds a block device's size in /sys, because stat gives 0 for it. */
async function diskFacts(connection: SftpConnection, path: string): Promise<DiskFacts> {
  const unknown = { size: undefined, sector: 512, marks: {}, used: '' };
  let real: string;
  try {
    real = await nameOf(connection, Packet.realPath, path);
  } catch (error) {
    if (error instanceof StatusError) return unknown;
    throw error;
  }
  // In /sys, a disk's name has "!" in place of "/" (cciss!c0d0).
  const match = /^\/dev\/(.+)$/.exec(real);
  if (!match) return unknown;
  const folder = `/sys/class/block/${match[1]!.replaceAll('/', '!')}`;
  const sectors = await readTextIfAny(connection, `${folder}/size`);
  if (!/^\d{1,14}$/.test(sectors) || sectors === '0') return unknown;
  const block =
    (await readTextIfAny(connection, `${folder}/queue/logical_block_size`)) ||
    // A partition's directory lies in its disk's directory.
    (await readTextIfAny(connection, `${folder}/../queue/logical_block_size`));
  const sector = Number(block || '512');
  const valid = sector >= 512 && sector <= 65536 && (sector & (sector - 1)) === 0;
  return {
    size: Number(sectors) * 512,
    sector: valid ? sector : 512,
    marks: await diskMarks(connection, folder),
    used: await useOf(connection, real),
  };
}

/**
 * Finds the marks of a disk or partition in its directory in /sys. A partition's directory lies in
 * its disk's directory.
 */
async function diskMarks(connection: SftpConnection, folder: string): Promise<DiskMarks> {
  const partition = await readTextIfAny(connection, `${folder}/partition`);
  const disk = partition === '' ? folder : `${folder}/..`;
  const first = async (...names: string[]): Promise<string> => {
    for (const name of names) {
      const text = await readTextIfAny(connection, `${disk}/${name}`);
      if (text !== '') return text;
    }
    return '';
  };
  const onDisk = (fact: string): string | undefined => {
    const mark = markOf(fact);
    return mark && (partition === '' ? mark : `${mark}-part${partition}`);
  };
  const [boot, sequence] = [await readTextIfAny(connection, bootIdPath), await first('diskseq')];
  return {
    hardware: onDisk(await first('wwid', 'device/wwid', 'serial', 'device/serial')),
    layer: markOf(await readTextIfAny(connection, `${folder}/dm/uuid`)),
    sequence: boot === '' || sequence === '' ? undefined : onDisk(`${boot}:${sequence}`),
  };
}

/**
 * 'mounted' if a disk or one of its partitions is mounted, by device name ([proc(5)] mountinfo: the
 * second field after "-" is the source); '' if not.
 */
async function useOf(connection: SftpConnection, device: string): Promise<string> {
  for (const line of (await readTextIfAny(connection, '/proc/self/mountinfo')).split('\n')) {
    const source = / - \S+ (\S+)/.exec(line)?.[1] ?? '';
    if (source.startsWith(device) && /^(p?\d+)?$/.test(source.slice(device.length))) return 'mounted';
  }
  return '';
}

/** The longest read and write that the server accepts ([PROTOCOL] 4.8). */
async function limits(connection: SftpConnection): Promise<{ readLength: number; writeLength: number }> {
  const safe = { readLength: safeLength, writeLength: safeLength };
  if (!connection.extensions.has(Extension.limits)) return safe;
  try {
    const answer = await connection.ask(Packet.extended, (packet) => packet.text(Extension.limits));
    const fields = expect(answer, Packet.extendedReply);
    fields.u64();
    const bounded = (length: number): number => (length >= 4096 ? Math.min(length, maxLength) : safeLength);
    return { readLength: bounded(fields.u64()), writeLength: bounded(fields.u64()) };
  } catch (error) {
    if (error instanceof StatusError) return safe;
    throw error;
  }
}

/**
 * Finds the SFTP server's own process. Undefined if other processes would be invisible: then the
 * absence of a process proves nothing.
 */
async function ownProcess(connection: SftpConnection): Promise<ServerProcess | undefined> {
  const own = parseStat(await readTextIfAny(connection, '/proc/self/stat'));
  const first = parseStat(await readTextIfAny(connection, '/proc/1/stat'));
  if (!own || !first) return undefined;
  let space = '';
  try {
    space = await nameOf(connection, Packet.readLink, '/proc/self/ns/pid');
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
  }
  return { pid: own.pid, start: own.start, space };
}

/**
 * Parses /proc/PID/stat (proc(5)): process id, name in parentheses, state; field 22 is the start
 * time.
 */
export function parseStat(text: string): { pid: number; state: string; start: string } | undefined {
  const match = /^(\d{1,10}) \(.*\) (\S) (?:-?\d+ ){18}(\d+) /s.exec(text);
  return match ? { pid: Number(match[1]), state: match[2]!, start: match[3]! } : undefined;
}
