/** How requests reach a web server (src/storage/http/send.node.ts): certificates and proxies. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, request as httpRequest, type IncomingMessage, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeCertificates } from '../../src/network/certificates/folder.node.js';
import { ObjectServer, rangeOf } from '../support/http-server.js';
import { tempFolder } from '../support/temp.js';
import { farbus } from './farbus.js';

const content = randomBytes(1_000_000);
const folder = tempFolder();
const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function within(name: string, value: string): void {
  const before = process.env[name];
  process.env[name] = value;
  closing.push(() => {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  });
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** A server with TLS whose certificate is of an authority of its own. */
async function startTls(): Promise<string> {
  const file = (name: string): Buffer => readFileSync(join(folder, 'pki', name));
  const answer: RequestListener = (request, response) => {
    const { start, end } = rangeOf(request);
    const headers = { 'content-range': `bytes ${start}-${end - 1}/${content.length}`, etag: 'W/"weak"' };
    response.writeHead(206, headers).end(content.subarray(start, end));
  };
  const server = createTlsServer({ key: file('server-key.pem'), cert: file('server-cert.pem') }, answer);
  closing.push(() => (server.closeAllConnections(), server.close()));
  return `https://localhost:${await listening(server)}/disk.img`;
}

/** A proxy: forwards requests for http addresses, and makes tunnels to https addresses. */
class Proxy {
  /** Its requests so far: "GET URL" or "CONNECT HOST:PORT". */
  readonly asked: string[] = [];
  /** The login that it wants. */
  login: string | undefined;
  /** Status of its answer instead of a tunnel or an answer of the server. */
  status: number | undefined;
  port = 0;

  static async start(): Promise<Proxy> {
    const proxy = new Proxy();
    const server = createServer((request, response) => {
      const refused = proxy.#refusal(request);
      if (refused !== undefined) return void response.writeHead(refused).end('no');
      const { hostname, port, pathname, search } = new URL(request.url!);
      const headers = { ...request.headers };
      delete headers['proxy-authorization'];
      const options = { host: hostname, port, path: pathname + search, headers, agent: false };
      httpRequest(options, (answer) => {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
      }).end();
    });
    server.on('connect', (request: IncomingMessage, client) => {
      const refused = proxy.#refusal(request);
      if (refused !== undefined) return void client.end(`HTTP/1.1 ${refused} No\r\nContent-Length: 0\r\n\r\n`);
      const [host, port] = request.url!.split(':');
      const there = connect(Number(port), host, () => {
        client.write('HTTP/1.1 200 OK\r\n\r\n');
        there.pipe(client).pipe(there);
      });
      client.on('error', () => there.destroy());
      there.on('error', () => client.destroy());
    });
    closing.push(() => (server.closeAllConnections(), server.close()));
    proxy.port = await listening(server);
    return proxy;
  }

  #refusal({ method, url, headers }: IncomingMessage): number | undefined {
    this.asked.push(`${method} ${url}`);
    if (this.status !== undefined) return this.status;
    const wanted = this.login && `Basic ${Buffer.from(this.login).toString('base64')}`;
    return headers['proxy-authorization'] === wanted ? undefined : 407;
  }

  url(login = ''): string {
    return `http://${login}127.0.0.1:${this.port}`;
  }
}

beforeAll(() => makeCertificates(join(folder, 'pki'), { hosts: ['localhost'], clients: [], days: 2 }));

describe('a server with TLS', () => {
  it('is trusted if its authority is added, and refused otherwise', async () => {
    const url = await startTls();
    const refused = await farbus('info', url);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/its certificate is not trusted .*: add its certificate authority/);
    within('NODE_EXTRA_CA_CERTS', join(folder, 'pki/ca-cert.pem'));
    const { code, stdout } = await farbus('info', url);
    expect(code).toBe(0);
    expect(stdout).toContain(String(content.length));
  });

  it('to which an http address redirects is checked with the authorities of SSL_CERT_FILE', async () => {
    const location = await startTls();
    const server = await ObjectServer.start(content);
    closing.push(() => server.stop());
    server.fault = (_request, response) => void response.writeHead(302, { location }).end() === undefined;
    expect((await farbus('info', server.url)).stderr).toMatch(/its certificate is not trusted/);
    within('SSL_CERT_FILE', join(folder, 'none.pem'));
    const { code, stderr } = await farbus('info', server.url);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/cannot read the certificate authorities in .*none\.pem/),
    ]);
    within('SSL_CERT_FILE', join(folder, 'pki/ca-cert.pem'));
    expect(await farbus('info', server.url)).toMatchObject({ code: 0, stderr: '' });
  });
});

describe('the proxy of the environment', () => {
  it('makes a tunnel to a server with TLS, and forwards requests to one without', async () => {
    const proxy = await Proxy.start();
    within('SSL_CERT_FILE', join(folder, 'pki/ca-cert.pem'));
    const secure = await startTls();
    within('https_proxy', proxy.url());
    expect(await farbus('info', secure)).toMatchObject({ code: 0, stderr: '' });
    expect(new Set(proxy.asked.splice(0))).toEqual(new Set([`CONNECT ${new URL(secure).host}`]));
    const server = await ObjectServer.start(content);
    closing.push(() => server.stop());
    within('http_proxy', proxy.url());
    expect(await farbus('info', server.url)).toMatchObject({ code: 0, stderr: '' });
    expect(new Set(proxy.asked.splice(0))).toEqual(new Set([`GET ${server.url}`]));
    expect(server.requests.map(({ headers }) => headers.host)).toContain(new URL(server.url).host);
    // A redirect leads to an address that has another proxy: none.
    within('no_proxy', 'localhost');
    server.fault = (_request, response) => void response.writeHead(302, { location: secure }).end() === undefined;
    expect(await farbus('info', server.url)).toMatchObject({ code: 0, stderr: '' });
    expect(new Set(proxy.asked)).toEqual(new Set([`GET ${server.url}`]));
  });

  it.each(['http', 'https'])('that wants a login for %s is named, and asked once with the login', async (kind) => {
    const proxy = await Proxy.start();
    proxy.login = 'me:SE:CRET';
    within('SSL_CERT_FILE', join(folder, 'pki/ca-cert.pem'));
    const server = await ObjectServer.start(content);
    closing.push(() => server.stop());
    const url = kind === 'https' ? await startTls() : server.url;
    within(`${kind}_proxy`, proxy.url());
    const wanted = await farbus('info', url);
    const named = `the proxy ${proxy.url()}/ wants a login: write it into http_proxy, https_proxy or all_proxy`;
    expect(wanted.code).toBe(1);
    expect(wanted.stderr).toContain(`cannot open ${url}: ${named}`);
    expect(proxy.asked.length).toBe(1);
    within(`${kind}_proxy`, proxy.url('me:OTHERSECRET@'));
    const refused = await farbus('info', url);
    expect([refused.code, /SECRET/.test(refused.stderr)]).toEqual([1, false]);
    expect(refused.stderr).toContain(`the proxy ${proxy.url()}/ refuses the login`);
    within(`${kind}_proxy`, proxy.url('me:SE%3ACRET@'));
    expect(await farbus('info', url)).toMatchObject({ code: 0, stderr: '' });
    expect(server.requests.some(({ headers }) => 'proxy-authorization' in headers)).toBe(false);
  });

  it('that refuses, fails or is not there is named', async () => {
    const proxy = await Proxy.start();
    const url = 'https://127.0.0.1:1/a';
    within('https_proxy', proxy.url());
    proxy.status = 403;
    expect((await farbus('info', url)).stderr).toContain(`the proxy ${proxy.url()}/ refuses it (status 403)`);
    proxy.status = 502;
    expect((await farbus('info', url)).stderr).toContain(`the proxy ${proxy.url()}/ does not reach it (status 502)`);
    within('https_proxy', 'http://127.0.0.1:1');
    const { code, stderr } = await farbus('info', url);
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining('through the proxy http://127.0.0.1:1/: connection refused'),
    ]);
  });
});
