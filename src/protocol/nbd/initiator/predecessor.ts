/**
 * Fencing what an earlier process of ours has left at a server (block/life.ts): a connection that names that process's
 * session is let in by a Farbus server only when all that the session had begun is over (target/sessions.ts). Nothing is
 * asked over it. Servers that know no sessions cannot be asked; docs/nbd.md says what holds with them.
 */
import type { Fate, Mark } from '../../../block/life.js';
import type { Dialer } from '../../../network/stream.js';
import { isSessionId } from '../spec.js';
import { connect, type ConnectionOptions } from './connection.js';

/** The mark of a session. */
export function sessionMark(id: string): Mark {
  return { kind: 'nbd', session: id };
}

/**
 * Fences the session with that mark. Rejects where the server is not reachable, or still has something of it to finish.
 * @param options How the device itself connects.
 */
export async function fenceSession(
  dialer: Dialer,
  { session }: Mark,
  exportName: string,
  options: Omit<ConnectionOptions, 'wish'>,
): Promise<Fate> {
  if (typeof session !== 'string' || !isSessionId(session)) return 'unknown';
  const connection = await connect(dialer, { ...options, wish: { exportName, session } });
  const fenced = connection.agreement.state !== undefined;
  await connection.disconnect();
  return fenced ? 'gone' : 'unknown';
}
