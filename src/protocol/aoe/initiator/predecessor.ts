/**
 * Fences writes that an earlier process of ours left on a segment or in a target (block/life.ts).
 *
 * A Farbus target ends a session when an opening from the session's own MAC address supersedes it.
 * So the opening is sent from a second port with the address of the earlier process. For other
 * targets only waiting helps: no copy of a write stays in the network longer than
 * `frameLifetimeMs`.
 */
import { sleep } from '../../../base/event-loop.js';
import type { Fate, FenceKey } from '../../../block/life.js';
import { formatMac, isGroup, parseMac, type Mac } from '../../../network/ethernet/mac.js';
import type { Segment } from '../../../network/ethernet/segment.js';
import { nonceSize, type SessionGrant } from '../session.js';
import { Flag } from '../spec.js';
import { flagsOf, isAoe } from '../wire.js';
import { makeContact } from './contact.js';
import { Messenger } from './messenger.js';

/** Interval between queries for the target, in ms. */
const queryMs = 250;
/** Time limit for the target's first answer to the earlier address, in ms. */
const unheardMs = 10_000;

/** The target to fence, and what is known of it. */
export interface PlaceOptions {
  readonly shelf: number;
  readonly slot: number;
  readonly frameLifetimeMs: number;
  /** The target has Farbus sessions. */
  readonly sessions: boolean;
  /** Returns true while the target answers the device's own address. */
  readonly connected: () => boolean;
  readonly signal: AbortSignal;
}

/** The fence key of a session; its generation is 0 if the target has no sessions. */
export function placeKey(mac: Mac, grant: SessionGrant | undefined): FenceKey {
  return { kind: 'aoe', mac: formatMac(mac), generation: grant?.generation ?? 0 };
}

/**
 * Resolves with `gone` when the target executes no further command of that session, or with
 * `unknown` if the key is invalid or the target cannot be reached from the earlier address.
 * Rejects if the target does not answer; the caller may try again.
 */
export async function fencePlace(segment: Segment, key: FenceKey, options: PlaceOptions): Promise<Fate> {
  const { shelf, slot, frameLifetimeMs, sessions, connected, signal } = options;
  const { mac: address, generation } = key;
  const mac = typeof address === 'string' ? parseMac(address) : undefined;
  if (!mac || isGroup(mac) || typeof generation !== 'number' || !(generation >= 0 && generation <= 0xffff))
    return 'unknown';
  if (generation === 0 || !sessions) {
    await sleep(frameLifetimeMs, signal);
    return 'gone';
  }
  const onFrame = (frame: Uint8Array): void => {
    if (isAoe(frame) && flagsOf(frame) & Flag.response) messenger.take(frame);
  };
  const port = segment.attach({ mac, onFrame });
  let tag = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const messenger = new Messenger(port, () => (tag = (tag + 1) >>> 0));
  const limit = new AbortController();
  let found = false;
  const timer = setTimeout(() => {
    if (!found) limit.abort(new Error('the target does not answer'));
  }, unheardMs);
  const stop = (): void => limit.abort(signal.reason);
  signal.addEventListener('abort', stop);
  try {
    const nonce = crypto.getRandomValues(new Uint8Array(nonceSize));
    const opening = { nonce, supersedes: generation, firstTag: 1, named: true, sealed: true };
    const onFound = (): void => void (found = true);
    const wish = { shelf, slot, mac, opening, sessions, signal: limit.signal, queryMs, onFound };
    const { grant } = await makeContact(messenger, wish);
    // Without a session, the opening superseded none: the target has become one of another kind.
    return grant ? 'gone' : 'unknown';
  } catch (error) {
    // The target answers only our own address: frames for the earlier address, which belonged to
    // another interface, do not arrive here.
    if (!found && !signal.aborted && connected()) return 'unknown';
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    port.close();
  }
}
