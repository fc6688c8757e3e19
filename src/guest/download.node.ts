/**
 * Downloads over HTTP with a time limit for the response, a minimum speed after it, and retries. A
 * file gets its final name only after its size and SHA-256 have been verified.
 *
 * Left out: resuming; proxies, which Node's fetch does not support.
 */
import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { pause } from '../base/event-loop.js';
import { JoinedAbort } from '../base/abort.js';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';
import { inCache, temporaryName } from './cache.node.js';

/**
 * Why a download failed. `gone`: the server has no such file. `wrong`: the content is not as
 * expected. `unreachable`: no response, or not in time.
 */
export type DownloadFault = 'gone' | 'wrong' | 'unreachable';

/** A failed download. `message` begins with the URL. */
export class DownloadError extends Error {
  readonly fault: DownloadFault;
  constructor(fault: DownloadFault, message: string) {
    super(message);
    this.fault = fault;
  }
}

export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  /**
   * Time for the response, including redirects, and then for each further {@link leastBytes}, in
   * ms.
   */
  readonly stallMs?: number | undefined;
  /** Maximum number of attempts if the network fails. */
  readonly attempts?: number | undefined;
  /** Wait before the second attempt, in ms; doubled for each further one. */
  readonly retryMs?: number | undefined;
}

/** Expected size and checksum of a file. */
export interface Expected {
  /** Bytes. */
  readonly size: number;
  /** Lower-case hexadecimal digits. */
  readonly sha256: string;
}

/**
 * Downloads `url` into the file `path`.
 * @param onBytes Called with the number of bytes received so far; each attempt starts at 0.
 * @throws DownloadError
 * @throws FarbusError if the file cannot be written or `signal` was aborted
 */
export async function downloadFile(
  url: string,
  path: string,
  expected: Expected,
  onBytes: (done: number) => void,
  options: DownloadOptions = {},
): Promise<void> {
  await retried(url, options, async () => {
    const temporary = temporaryName(path);
    const file = await inCache(path, () => open(temporary, 'wx'));
    try {
      const hash = createHash('sha256');
      let done = 0;
      for await (const chunk of body(url, expected.size, options)) {
        hash.update(chunk);
        await inCache(path, () => file.writeFile(chunk));
        done += chunk.length;
        onBytes(done);
      }
      if (done < expected.size) {
        throw new DownloadError('unreachable', `${url} ended after ${done} of ${expected.size} bytes`);
      }
      if (hash.digest('hex') !== expected.sha256) {
        throw new DownloadError('wrong', `${url} has not the SHA-256 that it should have`);
      }
      await inCache(path, () => rename(temporary, path));
    } finally {
      await file.close();
      await rm(temporary, { force: true });
    }
  });
}

/** Downloads `url` into memory, at most `maxBytes`. Errors are those of {@link downloadFile}. */
export async function downloadBytes(
  url: string,
  maxBytes: number,
  onBytes: (done: number) => void,
  options: DownloadOptions = {},
): Promise<Uint8Array> {
  return await retried(url, options, async () => {
    const chunks: Uint8Array[] = [];
    let done = 0;
    for await (const chunk of body(url, maxBytes, options)) {
      chunks.push(chunk);
      done += chunk.length;
      onBytes(done);
    }
    return Buffer.concat(chunks);
  });
}

/**
 * Bytes that must arrive within each `stallMs`. Otherwise a server that sends a byte now and then
 * would hold the download up for ever.
 */
const leastBytes = 16 << 10;

async function retried<T>(url: string, options: DownloadOptions, attempt: () => Promise<T>): Promise<T> {
  const attempts = options.attempts ?? 3;
  for (let tried = 1; ; tried++) {
    try {
      return await attempt();
    } catch (error) {
      if (options.signal?.aborted) throw new FarbusError(`the download of ${url} was stopped`);
      if (error instanceof FarbusError) throw error;
      const failure =
        error instanceof DownloadError ? error : new DownloadError('unreachable', `${url}: ${reasonOf(error)}`);
      if (failure.fault !== 'unreachable' || tried >= attempts) throw failure;
      await pause((options.retryMs ?? 500) * 2 ** (tried - 1), options.signal);
    }
  }
}

/** fetch() reports "fetch failed"; the reason is in the cause. */
function reasonOf(error: unknown): string {
  const cause = (error as { cause?: unknown } | null)?.cause;
  return errnoOf(cause) ?? messageOf(cause ?? error);
}

/**
 * Yields the body of the response to a GET, at most `maxBytes`, with a time limit on every wait.
 */
async function* body(url: string, maxBytes: number, options: DownloadOptions): AsyncGenerator<Uint8Array> {
  const stallMs = options.stallMs ?? 30_000;
  const stalled = new AbortController();
  const timer = setTimeout(() => {
    stalled.abort(new DownloadError('unreachable', `${url} sent next to nothing for ${stallMs / 1000} s`));
  }, stallMs);
  const either = new JoinedAbort(stalled.signal, options.signal);
  try {
    const response = await fetch(url, {
      signal: either.signal,
      // Get a .gz file as it is, without content decoding.
      headers: { 'accept-encoding': 'identity' },
    });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      throw new DownloadError(faultOf(response.status), `${url} answers ${response.status} ${response.statusText}`);
    }
    if (url.startsWith('https:') && !response.url.startsWith('https:')) {
      throw new DownloadError('wrong', `${url} leads to ${response.url}, which is not protected`);
    }
    let done = 0;
    let enough = leastBytes;
    timer.refresh();
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      done += chunk.length;
      if (done >= enough) {
        timer.refresh();
        enough = done + leastBytes;
      }
      if (done > maxBytes)
        throw new DownloadError('wrong', `${url} is longer than the ${maxBytes} bytes it should have`);
      yield chunk;
    }
  } finally {
    clearTimeout(timer);
    either.end();
  }
}

function faultOf(status: number): DownloadFault {
  if (status === 404 || status === 410) return 'gone';
  return status === 408 || status === 429 || status >= 500 ? 'unreachable' : 'wrong';
}
