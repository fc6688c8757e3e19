/**
 * Small queries to an SFTP server: attributes of a path, and the content of short files such as
 * those of /proc.
 */
import { Packet, AttrFlag, OpenFlag, Status, maxHandle } from './spec.js';
import type { Answer, SftpConnection } from './connection.js';
import { statusOf, type StatusAnswer } from './status.js';
import { SftpProtocolError, type FieldReader } from './wire.js';

/** The server answered with an error status. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly status: StatusAnswer;

  constructor(status: StatusAnswer) {
    super(status.text || `status ${status.code}`);
    this.status = status;
  }
}

export interface Attributes {
  /** In bytes. */
  readonly size: number | undefined;
  /** POSIX mode, including the file type. */
  readonly mode: number | undefined;
}

/** Longest short file that is read, and length of one read, in bytes. */
const shortFile = 128 << 10;
const oneRead = 4096;

/** Opens an existing file ([SFTP] 6.3). Rejects with a StatusError. */
export async function openHandle(connection: SftpConnection, path: string, flags: number): Promise<Uint8Array> {
  const answer = await connection.ask(Packet.open, (packet) => packet.text(path).u32(flags).u32(0));
  const handle = expect(answer, Packet.handle).bytes();
  if (handle.length > maxHandle) throw new SftpProtocolError('the server gave a handle that is too long');
  return handle.slice();
}

export async function closeHandle(connection: SftpConnection, handle: Uint8Array): Promise<void> {
  await connection.ask(Packet.close, (packet) => packet.bytes(handle));
}

/** Queries the attributes of a path ([SFTP] 6.8). Rejects with a StatusError. */
export async function statPath(connection: SftpConnection, path: string): Promise<Attributes> {
  const fields = expect(await connection.ask(Packet.stat, (packet) => packet.text(path)), Packet.attrs);
  const flags = fields.u32();
  const size = flags & AttrFlag.size ? fields.u64() : undefined;
  if (flags & AttrFlag.ids) fields.u64();
  const mode = flags & AttrFlag.permissions ? fields.u32() : undefined;
  return { size, mode };
}

/**
 * Resolves a path's symbolic links, or reads one link ([SFTP] 6.10, 6.11). Rejects with a
 * StatusError.
 */
export async function nameOf(
  connection: SftpConnection,
  type: typeof Packet.realPath | typeof Packet.readLink,
  path: string,
): Promise<string> {
  const fields = expect(await connection.ask(type, (packet) => packet.text(path)), Packet.name);
  if (fields.u32() < 1) throw new SftpProtocolError('the server gave no name');
  return fields.text();
}

/** Reads a short file as text. Rejects with a StatusError. */
export async function readText(connection: SftpConnection, path: string): Promise<string> {
  const handle = await openHandle(connection, path, OpenFlag.read);
  try {
    const parts: Uint8Array[] = [];
    let length = 0;
    while (length < shortFile) {
      const part = await readPart(connection, handle, length);
      if (part.length === 0) break;
      parts.push(part);
      length += part.length;
    }
    const decoder = new TextDecoder();
    return parts.map((part) => decoder.decode(part, { stream: true })).join('');
  } finally {
    await closeHandle(connection, handle);
  }
}

/** Reads some bytes from `at` on; none at the end of the file. */
function readPart(connection: SftpConnection, handle: Uint8Array, at: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const bytes = new Uint8Array(oneRead);
    const waiter = {
      most: oneRead,
      data: (part: Uint8Array, from: number) => bytes.set(part, from),
      dataEnd: (length: number) => resolve(bytes.subarray(0, length)),
      answer: (answer: Answer) => {
        const status = statusOf(answer) ?? { code: Status.failure, text: 'no data' };
        if (status.code === Status.eof) resolve(new Uint8Array(0));
        else reject(new StatusError(status));
      },
      lost: reject,
    };
    connection.send(Packet.read, waiter, (packet) => packet.bytes(handle).u64(at).u32(oneRead));
  });
}

/** Like {@link readText}, trimmed; '' if the file cannot be read. */
export async function readTextIfAny(connection: SftpConnection, path: string): Promise<string> {
  try {
    return (await readText(connection, path)).trim();
  } catch (error) {
    if (error instanceof StatusError) return '';
    throw error;
  }
}

/**
 * Returns the fields of an answer of the given type.
 * @throws StatusError if the server answered with an error
 */
export function expect(answer: Answer, type: number): FieldReader {
  if (answer.type === type) return answer.fields;
  const status = statusOf(answer);
  if (!status) throw new SftpProtocolError('the server gave an answer of the wrong kind');
  throw new StatusError(status);
}
