/**
 * Lends a disk of this browser (OPFS) to other computers, as a page uses it. The disk and the
 * connection are in a worker (disk-worker.ts).
 */
import { Messages, type MessageEnd } from '../../browser/messages.js';
import type { DiskToLend } from './disk-worker.js';
import { holdPage } from './hold-page.js';
import type { LendingOptions, LendingState, LendingUse } from './lend.js';

/** Options of {@link lendOpfsDisk}. */
export type DiskLendingOptions = Pick<LendingOptions, 'server' | 'name' | 'token' | 'onState' | 'onUse'>;

/** A disk that is lent by a worker. */
export interface DiskLending {
  /**
   * Stops lending: the export ends at once. Flushes and closes the disk, and rejects if that fails.
   * Idempotent.
   */
  stop(): Promise<void>;
}

/**
 * Lends a disk in the OPFS, writable, until it is stopped or the page is closed. No other tab can
 * use the disk meanwhile. Resolves when the server is being called; `onState` tells the rest.
 * @throws FarbusError if there is no disk of this name, or another tab uses it
 */
export async function lendOpfsDisk(disk: string, options: DiskLendingOptions): Promise<DiskLending> {
  const { server, name, token, onState, onUse } = options;
  const worker = new Worker(new URL('./disk-worker.js', import.meta.url), { type: 'module' });
  const over = new AbortController();
  const end = (): void => {
    over.abort();
    worker.terminate();
  };
  const messages = new Messages(
    worker as unknown as MessageEnd,
    () => undefined,
    (event, value) => {
      if (event === 'use') return onUse?.(value as LendingUse);
      const { state, detail } = value as { state: LendingState; detail: string };
      if (state === 'refused') {
        // The worker has closed the disk, and does not call the server again.
        end();
        messages.fail(new Error(detail));
      }
      onState?.(state, detail);
    },
  );
  worker.onerror = ({ message }) => {
    const why = `the worker that lends it has failed: ${message || 'its files cannot be loaded'}`;
    end();
    messages.fail(new Error(why));
    onState?.('stopped', why);
  };
  try {
    const asked: DiskToLend = { disk, server: new URL(server).href, name, token };
    await messages.call('start', asked);
  } catch (error) {
    end();
    throw error;
  }
  // A page is not frozen because of a lock of its worker in every browser.
  holdPage(over.signal);
  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    if (over.signal.aborted) return;
    try {
      await messages.call('stop');
    } catch (error) {
      // The state has been told. A worker that has ended by itself has closed the disk.
      if (!over.signal.aborted) throw error;
    } finally {
      end();
    }
  };
  return { stop: () => (stopped ??= stop()) };
}
