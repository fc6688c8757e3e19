/**
 * Keeps the browser from freezing the page in the background: it does not freeze pages that hold a
 * Web Lock. Without Web Locks, nothing happens.
 * @param until ends it
 */
export function holdPage(until: AbortSignal): void {
  const { locks } = (globalThis.navigator ?? {}) as { locks?: Locks };
  const held = new Promise<void>((resolve) => until.addEventListener('abort', () => resolve(), { once: true }));
  locks?.request('farbus-lend', { mode: 'shared' }, () => held).catch(() => undefined);
}

interface Locks {
  request(name: string, options: { mode: 'shared' }, callback: () => Promise<void>): Promise<unknown>;
}
