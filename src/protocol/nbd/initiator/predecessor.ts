/**
 * Fences requests that an earlier process of ours left at a server (block/life.ts).
 *
 * It opens a connection that names that process's session. A Farbus server admits it only after
 * every request of that session has ended (block/sessions.ts). No request is sent on it. Servers
 * without sessions cannot be asked; docs/nbd.md says what holds for them.
 */
import { Deadline } from '../../../base/deadline.js';
import type { Fate, Life, FenceKey } from '../../../block/life.js';
import { isSessionId } from '../spec.js';
import { connect, type ConnectionOptions } from './connection.js';
import { isShared, type Gateways } from './gateways.js';

/**
 * The fence key of a session.
 * @param known true if the server supports sessions
 */
export function sessionKey(id: string, known: boolean): FenceKey {
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
 * @returns the keys of fenced sessions; the others must be fenced concurrently with the device's
 *   connection
 */
export async function fenceFirst(
  gateways: Gateways,
  { ended }: Life,
  exportName: string,
  options: Omit<ConnectionOptions, 'wish' | 'secure'>,
): Promise<ReadonlySet<FenceKey>> {
  const fenced = new Set<FenceKey>();
  const keys = ended.flatMap((one) => one.keys ?? []).filter(({ known }) => known === 1);
  if (keys.length === 0) return fenced;
  const limit = new Deadline(firstMs, options.signal);
  for (const key of keys) {
    if (limit.signal.aborted) break;
    const fate = await fenceSession(gateways, key, exportName, { ...options, signal: limit.signal }).catch(
      () => undefined,
    );
    if (fate === 'gone') fenced.add(key);
  }
  limit.end();
  return fenced;
}

/**
 * Fences the session with this key. Its requests may be at any of the gateways: without a fence
 * between them, each must confirm that they have ended there.
 * Rejects if a server is unreachable or a request of the session is still running.
 * @param options options of the device's own connections
 */
export async function fenceSession(
  gateways: Gateways,
  { session, known }: FenceKey,
  exportName: string,
  options: Omit<ConnectionOptions, 'wish' | 'secure'>,
): Promise<Fate> {
  if (typeof session !== 'string' || !isSessionId(session) || known !== 1) return 'unknown';
  let failure: { readonly error: unknown } | undefined;
  let fate: Fate = 'gone';
  for (const { dialer, secure } of gateways.all) {
    try {
      const connection = await connect(dialer, { ...options, secure, wish: { exportName, session } });
      const { state } = connection.negotiated;
      await connection.disconnect();
      if (isShared(state)) return 'gone';
      if (state === undefined) fate = 'unknown';
    } catch (error) {
      failure ??= { error };
    }
  }
  if (failure && !gateways.unfenced) throw failure.error;
  return failure ? 'unknown' : fate;
}
