/** Requests to the server's interface (docs/web.md). */
import { currentToken } from './token.js';

/** The server answered with an error; the message is one line for people. */
export class ServerError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** There was no answer. */
export class NoServer extends Error {
  constructor() {
    super('The server does not answer.');
  }
}

/** Paths are relative, because the page may lie below a path of a reverse proxy. */
export function addressOf(path: string): URL {
  return new URL(path, document.baseURI);
}

/** Rejects with a {@link ServerError} or {@link NoServer}. */
async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const token = currentToken();
  const headers = {
    ...(init.body !== undefined && { 'Content-Type': 'application/json' }),
    ...(token !== undefined && { Authorization: `Bearer ${token}` }),
  };
  const response = await fetch(addressOf(path), { ...init, headers, cache: 'no-store' }).catch(() => {
    throw new NoServer();
  });
  if (response.ok) return response;
  const { error } = (await response.json().catch(() => ({}))) as { error?: unknown };
  const message = typeof error === 'string' ? error : `the server answered with status ${response.status}`;
  throw new ServerError(response.status, message);
}

export async function get<T>(path: string): Promise<T> {
  return (await (await ask(path)).json()) as T;
}

export async function getBlob(path: string): Promise<Blob> {
  return (await ask(path)).blob();
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  return (await (await ask(path, { method: 'POST', body: JSON.stringify(body) })).json()) as T;
}

export function socketAddressOf(path: string): URL {
  const address = addressOf(path);
  address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
  return address;
}

/** Opens a WebSocket of the server with one of its protocols. */
export function openSocket(path: string, protocol: string): WebSocket {
  const token = currentToken();
  return new WebSocket(socketAddressOf(path), token === undefined ? [protocol] : [protocol, `farbus.token.${token}`]);
}

/** The path of a request about an export. */
export function exportPath({ name }: { readonly name: string }, act: string): string {
  return `api/exports/${encodeURIComponent(name)}/${act}`;
}
