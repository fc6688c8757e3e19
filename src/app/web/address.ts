/** Parses the addresses of the web server, from options and configuration files. */
import { usageError } from '../../base/errors.js';

/** A host and a port. */
export interface WebPlace {
  readonly host: string;
  readonly port: number;
}

/**
 * Parses `[HOST:]PORT`; the host is 127.0.0.1 by default.
 * @throws FarbusError (wrong usage)
 */
export function parseWeb(text: string): WebPlace {
  const match = /^(?:(\[[0-9a-f:.]+\]|[\w.-]+):)?(\d{1,5})$/i.exec(text);
  if (!match || Number(match[2]) > 65_535) {
    throw usageError(`--web ${text}: expected HOST:PORT or PORT, for example 127.0.0.1:8080`);
  }
  return { host: match[1]?.replace(/^\[|\]$/g, '') ?? '127.0.0.1', port: Number(match[2]) };
}

/** Checks an origin. @throws FarbusError (wrong usage) */
export function parseOrigin(text: string): string {
  const origin = URL.canParse(text) ? new URL(text).origin : 'null';
  if (origin === text.toLowerCase() && /^https?:/.test(origin)) return origin;
  throw usageError(`--web-origin ${text}: expected an origin without a path, for example http://localhost:5173`);
}

/** True if only programs of this computer reach the host. */
export function isLoopback(host: string): boolean {
  return /^(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1)$/i.test(host);
}
