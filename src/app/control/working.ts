/**
 * Long requests on control sockets: until the server answers, it reports that it works on the
 * request and what it waits for. The client learns either the outcome or that the request has not
 * begun.
 *
 * A client that understands progress lines sets `progress` in its request. The server then writes
 * `{"working":TEXT}` before it begins, and every second. The first line tests whether the client is
 * still connected: if the server process was stopped for longer than the client waits, the client
 * has closed its socket, the write fails with EPIPE, and the server does not begin. A client that
 * disconnects later withdraws its request: the signal of the work aborts.
 *
 * Not here: the requests themselves (server.ts).
 */
import type { Socket } from 'node:net';
import { FarbusError } from '../../base/errors.js';
import type { Work } from '../../base/work.js';

/** Interval of the server's progress lines, in ms. */
const workingMs = 1000;
/** Longest wait of a client for the next line, in ms. */
const silenceMs = 10_000;
/** If a client does not read and so many bytes wait for it, it gets no more progress lines. */
const maxPending = 1 << 16;
/** Longest answer, in characters. */
const maxAnswer = 64 << 20;

/**
 * Runs a request that was received on `socket`.
 * @param tells true if the client understands progress lines
 * Rejects like `run`, and if the client has disconnected before the request begins.
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
      // Keep reading, to notice when the client disconnects.
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

/** The time for an answer. */
export interface AnswerLimit {
  /** Longest time without a line, in ms. Default 10000. */
  readonly limitMs?: number | undefined;
  /** `limitMs` is for the answer as a whole. */
  readonly absolute?: boolean | undefined;
}

/** Receives what the server waits for while it works on a request. */
export type OnWorking = (what: string) => void;

/**
 * Waits for the answer to a request that was sent on `socket`. The socket is then paused; `rest`
 * has the bytes that arrived after the answer.
 * Rejects with a FarbusError of the kind `no-answer` if the server sends nothing for the limit: its
 * process may be stopped. The caller then closes the socket, which withdraws the request.
 */
export function answerLine(
  socket: Socket,
  onWorking: OnWorking = () => undefined,
  { limitMs = silenceMs, absolute = false }: AnswerLimit = {},
): Promise<{ line: string; rest: Uint8Array }> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    let begun = false;
    let last = '';
    const timer = setTimeout(() => {
      const why = begun ? 'it may have been executed nevertheless' : 'nothing has been begun';
      const what = `no answer within ${limitMs / 1000} s: was the process stopped? ${why}`;
      fail(new FarbusError(what, { kind: 'no-answer' }));
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
        if (!absolute) timer.refresh();
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

/** The text of a progress line; undefined for an answer. */
function workingOf(line: string): string | undefined {
  if (!line.startsWith('{"working":')) return undefined;
  try {
    return String((JSON.parse(line) as { working: unknown }).working);
  } catch {
    return undefined;
  }
}
