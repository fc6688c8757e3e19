/**
 * Answers of the web server, with the headers that each of them has, and the bodies of requests.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { FarbusError, messageOf } from '../../base/errors.js';
import { WebFailure, type Answer, type Encoding } from './routes.js';

/** Longest body of a request, in bytes. */
export const maxBody = 65_536;

/** Reads a JSON object. @throws WebFailure */
export async function bodyOf(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  // A form of a foreign page cannot send this type.
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw new WebFailure(415, 'the body must be JSON: Content-Type: application/json');
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > maxBody) throw new WebFailure(413, `a body has at most ${maxBody} bytes`);
  }
  const value = parsed(Buffer.concat(chunks).toString());
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new WebFailure(400, 'the body must be a JSON object');
  }
  return value as Readonly<Record<string, unknown>>;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The status of a failure. One of the user's request is a conflict, another one our fault. */
export function statusOf(error: unknown): number {
  if (error instanceof WebFailure) return error.status;
  return error instanceof FarbusError ? 409 : 500;
}

const policy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "font-src 'self'",
  "connect-src 'self' ws: wss:",
  "worker-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Headers of every answer. */
const headers: Readonly<Record<string, string>> = {
  'Content-Security-Policy': policy,
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
  // A browser must not use an answer that it has kept for a page of another origin. A proxy must
  // not give a client one that is compressed in a way that the client does not know.
  Vary: 'Origin, Accept-Encoding',
};

/**
 * The shortest compression that a client reads. Browsers accept Brotli from this computer and by
 * TLS, and gzip always; other clients that do not say so get gzip too.
 */
export function encodingFor({ headers: { 'accept-encoding': accepted = '' } }: IncomingMessage): Encoding {
  const offers = String(accepted)
    .split(',')
    .map((one) => one.trim());
  return offers.some((one) => /^br(?:\s*;\s*q=(?!0(?:\.0*)?$).*)?$/i.test(one)) ? 'br' : 'gzip';
}

/** Answers a request, unless it was answered or its client is gone. */
export function send(request: IncomingMessage, response: ServerResponse, status: number, answer: Answer): void {
  if (response.destroyed || response.headersSent) return;
  const bytes = 'json' in answer ? Buffer.from(JSON.stringify(answer.json)) : answer.bytes;
  const type = 'json' in answer ? 'application/json' : answer.type;
  const cache = 'kept' in answer && answer.kept ? 'public, max-age=31536000, immutable' : 'no-store';
  // The rest of a body that was refused is not read.
  if (!request.complete) response.shouldKeepAlive = false;
  response.writeHead(status, {
    ...headers,
    ...(response.getHeaders() as Record<string, string>),
    'Content-Type': type,
    ...('encoding' in answer && answer.encoding && { 'Content-Encoding': answer.encoding }),
    'Content-Length': bytes.length,
    'Cache-Control': cache,
    ...(status === 401 && { 'WWW-Authenticate': 'Bearer' }),
  });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

/** Refuses an upgrade with an answer of HTTP. */
export function refuse(socket: Duplex, error: unknown): void {
  const status = statusOf(error);
  const body = JSON.stringify({ error: messageOf(error) });
  const lines = [
    `HTTP/1.1 ${status} Refused`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`);
  socket.once('finish', () => setTimeout(() => socket.destroy(), 1000).unref());
}
