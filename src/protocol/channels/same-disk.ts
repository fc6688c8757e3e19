/** Decides whether a later channel leads to the same disk as the first one. */
import type { Buffers } from '../../base/buffers.js';
import { BlockError } from '../../block/errors.js';
import type { ContentWitness } from '../../block/witness.js';
import { otherContent, provenSame } from '../remote/same-disk.js';
import type { Channel, RemoteFacts } from './channel.js';
import { RemoteRequest } from './request.js';

/**
 * @param witness has watched the requests so far
 * @returns the reason why it is not accepted as the same disk; undefined if it is
 * @throws BlockError if the channel fails
 */
export async function otherDisk(
  first: RemoteFacts,
  channel: Channel,
  witness: ContentWitness,
): Promise<string | undefined> {
  if (provenSame(first.size, first.marks, channel.facts.marks)) return undefined;
  let last: Promise<unknown> = Promise.resolve();
  // Read one after the other: a channel that was just opened may have room for only one request.
  const read = (offset: number, into: Buffers): Promise<void> => {
    const done = last.then(() => readAlone(channel, offset, into));
    last = done.catch(() => undefined);
    return done;
  };
  return otherContent(witness, read);
}

/** Reads over a channel that is not used for anything else yet. */
function readAlone(channel: Channel, offset: number, into: Buffers): Promise<void> {
  const lost = (reason: string): void => request.fail(new BlockError('unreachable', reason));
  const request = new RemoteRequest({ op: 'read', offset, length: into.length, buffers: into }, () => undefined);
  channel.start({
    answered: (_, error) => (error ? request.fail(error) : request.succeed()),
    again: () => lost('the server does not answer in step'),
    room: () => undefined,
    lost,
  });
  if (channel.hasRoom(request)) channel.send(request);
  else lost('the connection takes no request');
  return request.done;
}
