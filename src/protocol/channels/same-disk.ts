/**
 * Decides whether a later channel leads to the same disk as the first one: by the marks that the
 * server reports, and if these do not decide, by the content (block/witness.ts).
 */
import type { Buffers } from '../../base/buffers.js';
import { BlockError } from '../../block/errors.js';
import type { ContentWitness } from '../../block/witness.js';
import { provenSame, type Channel, type RemoteFacts } from './channel.js';
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
  if (provenSame(first, channel.facts)) return undefined;
  let last: Promise<unknown> = Promise.resolve();
  // Read one after the other: a channel that was just opened may have room for only one request.
  const read = (offset: number, into: Buffers): Promise<void> => {
    const done = last.then(() => readAlone(channel, offset, into));
    last = done.catch(() => undefined);
    return done;
  };
  const verdict = await witness.check(read);
  if (verdict === 'same') return undefined;
  if (verdict === 'other') return 'another disk has its name: its content differs';
  return 'no mark shows whether it is the same disk: open it again, or add ,assume-same to the source';
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
