/**
 * Downloads over HTTP: with a time limit for the answer and a least speed for what follows, with retries, and a file only under its name
 * when its size and SHA-256 are right. Left out: resuming; proxies, which Node's fetch does not know.
 */
import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';
import { inCache, temporaryName } from './cache.node.js';

/** Why a download failed: the server has no such file; what came is not it; nothing came (in time). */
export type DownloadFault = 'gone' | 'wrong' | 'unreachable';

/** A download that failed. `message` begins with the URL. */
export class DownloadError extends Error {
  readonly fault: DownloadFault;
  constructor(fault: DownloadFault, message: string) {
    super(message);
    this.fault = fault;
  }
}

export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Time for the answer, redirections included, and then for each further {@link leastBytes}, in ms. */
  readonly stallMs?: number | undefined;
  /** How often a download that failed for want of the network is tried in all. */
  readonly attempts?: number | undefined;
  /** Wait before the second attempt, in ms; it doubles with each. */
  readonly retryMs?: number | undefined;
}

/** What a file must be. */
export interface Expected {
  /** Bytes. */
  readonly size: number;
  /** Lower-case hexadecimal digits. */
  readonly sha256: string;
}

/**
 * Downloads `url` into the file `path`.
 * @param onBytes Called with the bytes that have come so far; they begin again with each attempt.
 * @throws DownloadError; FarbusError where the file cannot be written or `signal` was raised.
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

/** Downloads `url`, at most `maxBytes`, into memory. Errors are as with {@link downloadFile}. */
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

/** As many bytes have to come within each `stallMs`: a server that sends one now and then does not get on. */
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

/** fetch() says "fetch failed", and the reason in the cause. */
function reasonOf(error: unknown): string {
  const cause = (error as { cause?: unknown } | null)?.cause;
  return errnoOf(cause) ?? messageOf(cause ?? error);
}

/** The body of the answer to a GET, at most `maxBytes` of it, with the time limit on every wait. */
async function* body(url: string, maxBytes: number, options: DownloadOptions): AsyncGenerator<Uint8Array> {
  const stallMs = options.stallMs ?? 30_000;
  const stalled = new AbortController();
  const timer = setTimeout(() => {
    stalled.abort(new DownloadError('unreachable', `${url} sent next to nothing for ${stallMs / 1000} s`));
  }, stallMs);
  const signals = options.signal === undefined ? [stalled.signal] : [stalled.signal, options.signal];
  try {
    const response = await fetch(url, {
      signal: AbortSignal.any(signals),
      // A .gz must come as it is, not decoded.
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
  }
}

function faultOf(status: number): DownloadFault {
  if (status === 404 || status === 410) return 'gone';
  return status === 408 || status === 429 || status >= 500 ? 'unreachable' : 'wrong';
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    }
    signal?.addEventListener('abort', done, { once: true });
  });
}
