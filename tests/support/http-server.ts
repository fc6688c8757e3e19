/** A web server on loopback that serves one object by ranges, and faults on request. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Answers a request instead of the object; returns true if it has. */
export type HttpFault = (request: IncomingMessage, response: ServerResponse, count: number) => boolean;

export class ObjectServer {
  content: Buffer;
  tag = '"1"';
  fault: HttpFault = () => false;
  /** The headers of each request so far. */
  readonly requests: IncomingMessage[] = [];
  readonly #server: Server;

  private constructor(content: Buffer) {
    this.content = content;
    this.#server = createServer((request, response) => this.#serve(request, response));
  }

  static async start(content: Buffer): Promise<ObjectServer> {
    const server = new ObjectServer(content);
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/disk.img`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    this.requests.push(request);
    if (this.fault(request, response, this.requests.length)) return;
    const condition = request.headers['if-match'];
    if (condition !== undefined && condition !== this.tag) return void response.writeHead(412).end();
    const range = rangeOf(request);
    if (range.start >= this.content.length) return void response.writeHead(416).end();
    this.send(response, range);
  }

  /** Sends a range of the object, with other headers if given. */
  send(response: ServerResponse, { start, end }: { start: number; end: number }, headers = {}): void {
    const bytes = this.content.subarray(start, end);
    response.writeHead(206, {
      etag: this.tag,
      'content-range': `bytes ${start}-${start + bytes.length - 1}/${this.content.length}`,
      'content-length': bytes.length,
      ...headers,
    });
    response.end(bytes);
  }
}

/** The range that a request asks for. */
export function rangeOf(request: IncomingMessage): { start: number; end: number } {
  const [, start, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')!;
  return { start: Number(start), end: Number(last) + 1 };
}
