/** Decides whether a new connection leads to the same disk as the first one. */
import type { Buffers } from '../../../base/buffers.js';
import type { BlockInfo } from '../../../block/device.js';
import { BlockError } from '../../../block/errors.js';
import type { ContentWitness } from '../../../block/witness.js';
import { otherContent, provenSame } from '../../remote/same-disk.js';
import { NbdCommand } from '../spec.js';
import type { Connection } from './connection.js';
import { NbdRequest } from './request.js';

/**
 * @param first facts of the disk that requests wait for
 * @param witness undefined if the first server reported a decisive mark
 * @returns the reason why the disk is not accepted as the same one; undefined if it is
 * @throws BlockError if the connection fails
 */
export async function otherDisk(
  { size, marks = {} }: BlockInfo,
  connection: Connection,
  witness: ContentWitness | undefined,
): Promise<string | undefined> {
  if (provenSame(size, marks, connection.negotiated.marks ?? {})) return undefined;
  return otherContent(witness, (offset, into) => readAlone(connection, offset, into));
}

/** Reads over a connection that is not used for anything else yet. */
function readAlone(connection: Connection, offset: number, into: Buffers): Promise<void> {
  connection.start({
    answered: (request) => (request.error ? request.fail(request.error) : request.succeed()),
    room: () => undefined,
    lost: (reason, unfinished) => unfinished.forEach((request) => request.fail(new BlockError('unreachable', reason))),
  });
  const request = new NbdRequest(
    { type: NbdCommand.read, offset, length: into.length, buffers: into },
    () => undefined,
  );
  if (connection.hasRoom(request)) connection.send(request);
  else request.fail(new BlockError('unreachable', 'the connection is lost'));
  return request.done;
}
