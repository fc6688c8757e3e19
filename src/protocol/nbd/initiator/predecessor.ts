/**
 * Fences requests that an earlier process of ours left at a server (block/life.ts).
 *
 * It opens a connection that names that process's session. A Farbus server admits it only after
 * every request of that session has ended (block/sessions.ts). No request is sent on it. Servers
 * without sessions cannot be asked; docs/nbd.md says what holds for them.
 */
import { Deadline } from '../../../base/deadline.js';
import type { Fate, Life, Mark } from '../../../block/life.js';
import type { Dialer } from '../../../network/stream.js';
import { isSessionId } from '../spec.js';
import { connect, type ConnectionOptions } from './connection.js';

/**
 * The mark of a session.
 * @param known true if the server supports sessions
 */
export function sessionMark(id: string, known: boolean): Mark {
  return { kind: 'nbd', session: id, known: known ? 1 : 0 };
}

/**
 * How long the device's first connection may be delayed by fencing, in ms. After that, fencing
 * continues concurrently.
 */
const firstMs = 2000;

/**
 * Fences before the device connects, as far as possible within a short time, because a server may
 * accept only one connection.
 * @returns the marks of fenced sessions; the others must be fenced concurrently with the device's
 *   connection
 */
export async function fenceFirst(
  dialer: Dialer,
  { ended }: Life,
  exportName: string,
  options: Omit<ConnectionOptions, 'wish'>,
): Promise<ReadonlySet<Mark>> {
  const fenced = new Set<Mark>();
  const marks = ended.flatMap((one) => one.marks ?? []).filter(({ known }) => known === 1);
  if (marks.length === 0) return fenced;
  const limit = new Deadline(firstMs, options.signal);
  for (const mark of marks) {
    if (limit.signal.aborted) break;
    const fate = await fenceSession(dialer, mark, exportName, { ...options, signal: limit.signal }).catch(
      () => undefined,
    );
    if (fate === 'gone') fenced.add(mark);
  }
  limit.end();
  return fenced;
}

/**
 * Fences the session with this mark. Rejects if the server is unreachable or a request of the
 * session is still running.
 * @param options options of the device's own connections
 */
export async function fenceSession(
  dialer: Dialer,
  { session, known }: Mark,
  exportName: string,
  options: Omit<ConnectionOptions, 'wish'>,
): Promise<Fate> {
  if (typeof session !== 'string' || !isSessionId(session) || known !== 1) return 'unknown';
  const connection = await connect(dialer, { ...options, wish: { exportName, session } });
  const fenced = connection.negotiated.state !== undefined;
  await connection.disconnect();
  return fenced ? 'gone' : 'unknown';
}
