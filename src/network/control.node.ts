/**
 * Requests on control sockets that take their time: the server says that it works on one, and for what it waits, until it
 * answers. One that asks is told either how it went, or that it was not begun.
 *
 * A client that can take such lines sets `progress` in its request. The server then writes `{"working":TEXT}` before it begins
 * and every second. The first line finds out whether the client is still there: to a closed socket it fails with EPIPE, as after
 * the server was stopped for longer than the client waited, and nothing is begun. A client that goes later withdraws its
 * request: the work's signal is raised.
 */
import type { Socket } from 'node:net';
import { FarbusError } from '../base/errors.js';
import type { Work } from '../base/work.js';

/** Between two lines of a server that works, in ms. */
const workingMs = 1000;
/** How long a client waits for the next line, in ms. */
const silenceMs = 10_000;
/** Bytes that wait for a client that reads nothing; it is told no more then. */
const maxPending = 1 << 16;
/** Longest answer, in characters. */
const maxAnswer = 64 << 20;

/** A server that says nothing more, as one that was stopped. */
export class NoAnswer extends FarbusError {}

/**
 * Runs a request that came on `socket`.
 * @param tells The client takes lines of progress.
 * Rejects as `run` does, and where the client is gone before it is begun.
 */
export async function working<T>(socket: Socket, tells: boolean, run: (work: Work) => Promise<T>): Promise<T> {
  const withdrawn = new AbortController();
  const gone = (): void => withdrawn.abort(new FarbusError('the request was withdrawn'));
  let what = (): string => '';
  const tell = (done?: (error?: Error | null) => void): void => {
    if (socket.writableLength < maxPending) socket.write(`${JSON.stringify({ working: what() })}\n`, done);
  };
  socket.once('close', gone);
  let timer: ReturnType<typeof setInterval> | undefined;
  try {
    if (tells) {
      // Read on, so that the client's end is noticed.
      socket.resume();
      const error = await new Promise((resolve) => tell(resolve));
      if (error) gone();
      timer = setInterval(tell, workingMs);
    }
    withdrawn.signal.throwIfAborted();
    const waitsFor = (text: () => string): void => {
      what = text;
      if (tells) tell();
    };
    return await run({ signal: withdrawn.signal, waitsFor });
  } finally {
    clearInterval(timer);
    socket.off('close', gone);
  }
}

/** What a client hears of a request that takes its time: for what the server waits. */
export type OnWorking = (what: string) => void;

/**
 * The line that answers a request that was sent on `socket`; the socket is then paused, and `rest` is what came behind it.
 * Rejects with NoAnswer where the server says nothing for 10 s; the socket is then to be closed, which withdraws the request.
 */
export function answerLine(
  socket: Socket,
  onWorking: OnWorking = () => undefined,
  limitMs = silenceMs,
): Promise<{ line: string; rest: Uint8Array }> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    let begun = false;
    let last = '';
    const timer = setTimeout(() => {
      const why = begun ? 'it may have been done all the same' : 'nothing has been begun';
      fail(new NoAnswer(`no answer within ${limitMs / 1000} s: was the process stopped? ${why}`));
    }, limitMs);
    const end = (): void => {
      clearTimeout(timer);
      socket.pause();
      socket.off('data', take).off('close', closed).off('error', fail);
    };
    const fail = (error: Error): void => {
      end();
      reject(error);
    };
    const closed = (): void => fail(new FarbusError('the process has ended before it answered'));
    const take = (chunk: Buffer): void => {
      let from = 0;
      for (let at = chunk.indexOf(0x0a); at >= 0; at = chunk.indexOf(0x0a, from)) {
        const line = Buffer.concat([...chunks.splice(0), chunk.subarray(from, at)]).toString();
        from = at + 1;
        length = 0;
        const what = workingOf(line);
        if (what === undefined) {
          end();
          return resolve({ line, rest: chunk.subarray(from) });
        }
        // A whole line is a sign of life; bytes of one could come for ever.
        timer.refresh();
        begun = true;
        if (what !== '' && what !== last) onWorking(what);
        last = what;
      }
      chunks.push(chunk.subarray(from));
      length += chunk.length - from;
      if (length > maxAnswer) fail(new FarbusError('its answer is too long'));
    };
    socket.on('data', take).on('close', closed).on('error', fail);
    socket.resume();
  });
}

/** What a line of progress tells; undefined for an answer. */
function workingOf(line: string): string | undefined {
  if (!line.startsWith('{"working":')) return undefined;
  try {
    return String((JSON.parse(line) as { working: unknown }).working);
  } catch {
    return undefined;
  }
}
