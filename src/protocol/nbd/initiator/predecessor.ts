/**
 * Fencing what an earlier process of ours has left at a server (block/life.ts): a connection that names that process's
 * session is let in by a Farbus server only when all that the session had begun is over (target/sessions.ts). Nothing is
 * asked over it. Servers that know no sessions cannot be asked; docs/nbd.md says what holds with them.
 */
import type { Fate, Life, Mark } from '../../../block/life.js';
import type { Dialer } from '../../../network/stream.js';
import { isSessionId } from '../spec.js';
import { connect, type ConnectionOptions } from './connection.js';

/** The mark of a session. @param known The server knows sessions. */
export function sessionMark(id: string, known: boolean): Mark {
  return { kind: 'nbd', session: id, known: known ? 1 : 0 };
}

/** How long the device's first connection is put off, in ms: then the fence goes on beside it. */
const firstMs = 2000;

/**
 * Fences what can be fenced soon before the device connects, since a server may be set to take a single connection.
 * @returns the marks of what is fenced. The others are to be fenced beside the device's connection.
 */
export async function fenceFirst(
  dialer: Dialer,
  { ended }: Life,
  exportName: string,
  options: Omit<ConnectionOptions, 'wish' | 'signal'>,
): Promise<ReadonlySet<Mark>> {
  const fenced = new Set<Mark>();
  const marks = ended.flatMap((one) => one.marks ?? []).filter(({ known }) => known === 1);
  if (marks.length === 0) return fenced;
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), firstMs);
  for (const mark of marks) {
    if (limit.signal.aborted) break;
    const fate = await fenceSession(dialer, mark, exportName, { ...options, signal: limit.signal }).catch(
      () => undefined,
    );
    if (fate === 'gone') fenced.add(mark);
  }
  clearTimeout(timer);
  return fenced;
}

/**
 * Fences the session with that mark. Rejects where the server is not reachable, or still has something of it to finish.
 * @param options How the device itself connects.
 */
export async function fenceSession(
  dialer: Dialer,
  { session, known }: Mark,
  exportName: string,
  options: Omit<ConnectionOptions, 'wish'>,
): Promise<Fate> {
  if (typeof session !== 'string' || !isSessionId(session) || known !== 1) return 'unknown';
  const connection = await connect(dialer, { ...options, wish: { exportName, session } });
  const fenced = connection.agreement.state !== undefined;
  await connection.disconnect();
  return fenced ? 'gone' : 'unknown';
}
