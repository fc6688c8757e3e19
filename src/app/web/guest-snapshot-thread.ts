/**
 * A thread that boots the guest of browser tabs and writes its snapshot: an emulated processor
 * would keep the event loop of the server busy for seconds.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { messageOf } from '../../base/errors.js';
import { silent } from '../../base/log.js';
import { makeTabSnapshot } from './guest-computer.js';

/** The answer of the thread. */
export type ThreadAnswer = { readonly error: string } | { readonly error?: undefined };

async function answer(): Promise<ThreadAnswer> {
  try {
    await makeTabSnapshot(workerData as string, silent);
    return {};
  } catch (error) {
    return { error: messageOf(error) };
  }
}

void answer().then((result) => parentPort!.postMessage(result));
