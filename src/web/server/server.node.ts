/**
 * The web server: HTTP or HTTPS with the routes of a table, WebSockets and `Upgrade`, and the files
 * of the page. It checks host, origin and token of each request before its handler sees it
 * (docs/web.md has the rules), and limits connections, headers, bodies and times.
 *
 * Not here: the handlers (app/web), the rights of tokens (tokens.node.ts).
 */
import { createServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as HttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { WebSocketServer, type WebSocket } from 'ws';
import { FarbusError, messageOf } from '../../base/errors.js';
import { ThrottledLogger, type Logger } from '../../base/log.js';
import { printable } from '../../base/printable.js';
import { Admission, type Admitted } from '../../export/admission.js';
import { whyNotListening } from '../../network/listen.node.js';
import { hostPort } from '../../network/socket.node.js';
import { namesOf } from '../../network/tls.node.js';
import { socketOptions, unmaskEarly } from '../../network/websocket.node.js';
import { tokenSubprotocol } from '../../network/websocket.js';
import { bodyOf, encodingFor, maxBody, refuse, send, statusOf } from './answers.node.js';
import { headersForPages, isForPages, isOwnHost, offeredProtocols, originOf, type HostRules } from './checks.js';
import { bareConnection, messageSocket, socketConnection } from './connections.node.js';
import type { PageFiles } from './page.node.js';
import { matches, WebFailure, type Call, type Match, type Route } from './routes.js';
import { lendingRefused, tokenEnded } from '../lend/close-codes.js';
import { Sessions } from './sessions.js';
import { hashOf, type Rights, type Tokens } from './tokens.node.js';
import { Turns } from './turns.node.js';

/** Most connections at once, and how many of them may have shown no valid token yet. */
const maxConnections = 256;
const maxStrangers = 32;
/** Sessions of tokens other than the console's: the rest is for its owner, who can revoke them. */
const maxOthers = 192;
/** Longest headers of a request, in bytes. */
const maxHeaders = 8192;
/** Longest name that a client gives itself, in characters. */
const maxLabel = 40;
/** Time for the headers of a request, and for a whole request, in ms. */
const headersMs = 10_000;
const requestMs = 30_000;
/** Time until an idle connection is closed, in ms. */
const idleMs = 30_000;

/** Certificate and key of the server, as PEM texts. */
export interface WebTls {
  readonly certificate: string;
  readonly key: string;
  /** If set, clients must have a certificate that this CA has signed. */
  readonly ca?: string | undefined;
  readonly crl?: string | undefined;
}

export interface WebServerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly tls: WebTls | undefined;
  readonly routes: readonly Route[];
  readonly tokens: Tokens;
  readonly rules: HostRules;
  readonly page: PageFiles;
  readonly log: Logger;
}

/** A request whose host and origin were checked. */
interface Checked {
  readonly path: string;
  readonly peer: string;
  readonly label: string | undefined;
  readonly foreignPage: boolean;
}

export class WebServer {
  readonly #options: WebServerOptions;
  readonly #http: HttpServer;
  readonly #streams = new WebSocketServer({ noServer: true, ...socketOptions, handleProtocols: chosen });
  readonly #messages = new WebSocketServer({
    noServer: true,
    ...socketOptions,
    maxPayload: maxBody,
    handleProtocols: chosen,
  });
  readonly #sessions: Sessions<Rights>;
  readonly #log: ThrottledLogger;
  readonly #admission = new Admission({ maxConnections, maxPerAddress: maxConnections, maxHandshakes: maxStrangers });
  /** Connections by their peer's address, as an encrypted socket does not tell the one below it. */
  readonly #admitted = new Map<string, Admitted>();
  readonly #open = new Set<Socket>();
  readonly #turns = new Turns();

  private constructor(options: WebServerOptions) {
    const { tls, tokens, log } = options;
    this.#options = options;
    this.#log = new ThrottledLogger(log);
    this.#sessions = new Sessions(({ rights, hash }) => tokens.holds(rights, hash as Buffer));
    const limits = { maxHeaderSize: maxHeaders, headersTimeout: headersMs, requestTimeout: requestMs };
    const settings = { ...limits, keepAliveTimeout: idleMs, connectionsCheckingInterval: 2000, noDelay: true };
    const answer = (request: IncomingMessage, response: ServerResponse): void => void this.#request(request, response);
    this.#http = tls
      ? createTlsServer({ ...settings, ...secureOptions(tls), handshakeTimeout: headersMs }, answer)
      : createServer(settings, answer);
    this.#http.on('connection', (socket: Socket) => this.#connected(socket));
    this.#http.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#upgrade(request, socket as Socket, head).catch((error: unknown) => refuse(socket, error));
    });
    this.#http.on('tlsClientError', (_error, socket: TLSSocket) => socket.destroy());
  }

  /** Starts a server. Rejects with a FarbusError if it cannot listen there. */
  static async start(options: WebServerOptions): Promise<WebServer> {
    const server = new WebServer(options);
    const { host, port } = options;
    await new Promise<void>((resolve, reject) => {
      server.#http.once('error', reject);
      server.#http.listen({ host, port }, () => {
        server.#http.off('error', reject);
        resolve();
      });
    }).catch((error: unknown) => {
      const at = hostPort(host, port);
      throw new FarbusError(`cannot serve the web at ${at}: ${whyNotListening(error)}`, { cause: error });
    });
    // Only now: a failure to listen is told once, by the error above.
    server.#http.on('error', (error) => server.#log.log('warn', 'accept', `the web server: ${messageOf(error)}`));
    return server;
  }

  /** Replaces the certificate, for new connections. It has no effect on a server without TLS. */
  renew(tls: WebTls): void {
    if ('setSecureContext' in this.#http) (this.#http as HttpsServer).setSecureContext(secureOptions(tls));
  }

  /** The port on which it listens. */
  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  /** Stops accepting. Open connections go on. */
  stop(): void {
    this.#http.close();
    this.#http.closeIdleConnections();
  }

  /** Closes all connections. */
  close(): void {
    this.stop();
    this.#sessions.close(1001, 'the server is ending');
    this.#http.closeAllConnections();
    // A client that does not answer the close keeps no connection.
    setTimeout(() => this.#open.forEach((socket) => socket.destroy()), 500).unref();
  }

  #connected(socket: Socket): void {
    socket.on('error', () => undefined);
    // Finds that a peer has vanished, for connections on which this side only sends.
    socket.setKeepAlive(true, idleMs);
    const peer = peerOf(socket);
    const why = this.#admission.refusal(peer);
    if (why !== undefined) {
      this.#log.log('warn', 'limit', `${peer}: refused by the web server: ${why}`);
      return void socket.destroy();
    }
    const admitted: Admitted = { peer, giveWay: () => socket.destroy() };
    this.#admission.add(admitted);
    this.#admitted.set(peer, admitted);
    this.#open.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#admission.remove(admitted);
      if (this.#admitted.get(peer) === admitted) this.#admitted.delete(peer);
    });
  }

  /** Answers a GET or POST. Never rejects. */
  async #request(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      if (!(await this.#turns.take(request.socket, response))) return;
      const checked = this.#check(request);
      if (checked.foreignPage) {
        if (!isForPages(checked.path)) throw new WebFailure(403, 'pages of this origin may use the WebSockets only');
        response.setHeaders(new Headers(headersForPages(request.headers.origin!)));
        if (request.method === 'OPTIONS') return void response.writeHead(204).end();
      }
      const method = request.method === 'HEAD' ? 'GET' : request.method;
      const found = matches(this.#options.routes, checked.path);
      if (found.length === 0) return await this.#file(checked.path, request, response);
      const match = found.find(({ route }) => route.kind.toUpperCase() === method);
      if (!match) {
        if (found.every(({ route }) => route.kind === 'stream' || route.kind === 'messages')) {
          throw new WebFailure(426, 'this address is for WebSockets');
        }
        throw new WebFailure(405, 'this address does not take this method');
      }
      const gone = new AbortController();
      response.once('close', () => gone.abort(new FarbusError('the client is gone')));
      const { call } = this.#call(request, match, checked, gone.signal);
      const { route } = match;
      if (route.kind === 'get') send(request, response, 200, await route.answer(call));
      else if (route.kind === 'post') send(request, response, 200, await route.answer(call, await bodyOf(request)));
    } catch (error) {
      send(request, response, statusOf(error), { json: { error: messageOf(error) } });
    }
  }

  /** Checks a request before anything else. @throws WebFailure */
  #check(request: IncomingMessage): Checked {
    const { rules, tls } = this.#options;
    const { url = '', headers } = request;
    const { host = '', origin } = headers;
    if (!isOwnHost(host, rules)) {
      throw new WebFailure(421, 'this server does not answer to this name: use its address, or the name of --web');
    }
    const from = originOf(origin, tls ? 'https' : 'http', host, rules);
    if (from === 'foreign') throw new WebFailure(403, 'pages of other origins may not use this server: --web-origin');
    if (!url.startsWith('/')) throw new WebFailure(400, 'the address must begin with a /');
    const [path = '', query] = url.split('?', 2);
    if (query !== undefined && /(?:^|&)token=/i.test(query)) {
      throw new WebFailure(400, 'a token does not belong into an address, which is logged: send it as a header');
    }
    return { path, peer: peerOf(request.socket), label: labelOf(query), foreignPage: from === 'named' };
  }

  /** The rights of the token that a request shows; undefined if it is not valid. */
  #rightsOf(request: IncomingMessage, route: Route): Rights | undefined {
    const token = tokenOf(request, route);
    return token === undefined ? undefined : this.#options.tokens.find(token);
  }

  /** Why a WebSocket may not lend under a name, with the code that closes it; else undefined. */
  #lendRefusal(request: IncomingMessage, { route, name }: Match<Route>): { code: number; why: string } | undefined {
    const rights = this.#rightsOf(request, route);
    if (rights === undefined) return { code: tokenEnded, why: 'the token is missing, wrong or has expired' };
    if (rights.lends(name)) return undefined;
    return { code: lendingRefused, why: 'the token may not lend under this name: take one of farbus token --lend' };
  }

  /** Checks the token. @throws WebFailure if it is not valid, or has not the right */
  #call(
    request: IncomingMessage,
    { route, name }: Match<Route>,
    { peer, label }: Checked,
    signal: AbortSignal,
  ): { call: Call; rights: Rights; hash: Buffer } {
    const { tokens, tls } = this.#options;
    const token = tokenOf(request, route);
    const rights = token === undefined ? undefined : tokens.find(token);
    if (!rights || token === undefined) {
      this.#log.log('warn', 'token', `${peer}: ${token === undefined ? 'no token' : 'a wrong or expired token'}`);
      throw new WebFailure(401, 'the token is missing, wrong or has expired: open the address that the server printed');
    }
    const admitted = this.#admitted.get(peer);
    if (admitted) this.#admission.entered(admitted);
    const may = { token: true, reads: rights.reads, control: rights.control, lend: rights.lends(name) };
    if (!may[route.right]) throw new WebFailure(403, 'the token has no right to this');
    const certificate = tls?.ca === undefined ? undefined : (request.socket as TLSSocket).getPeerCertificate();
    const tlsNames = certificate ? namesOf(certificate) : [];
    return {
      call: { name, rights, peer, label, encrypted: tls !== undefined, tlsNames, signal },
      rights,
      hash: hashOf(token),
    };
  }

  /** Opens a WebSocket or takes the connection over. Rejects with the reason to refuse it. */
  async #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    socket.on('error', () => undefined);
    if (!(await this.#turns.take(socket, socket))) return;
    const wanted = (request.headers.upgrade ?? '').toLowerCase();
    const checked = this.#check(request);
    const match = matches(this.#options.routes, checked.path).find(
      ({ route: { kind } }) => kind === 'stream' || kind === 'messages',
    );
    if (!match) throw new WebFailure(404, 'there is nothing at this address that takes an Upgrade');
    const { route } = match;
    const bare = route.kind === 'stream' && wanted === route.protocol;
    if (!bare && wanted !== 'websocket') throw new WebFailure(426, 'this address takes WebSockets');
    const gone = new AbortController();
    socket.once('close', () => gone.abort(new FarbusError('the client is gone')));
    const refused = !bare && route.tellsRefusal ? this.#lendRefusal(request, match) : undefined;
    if (refused) {
      const { code, why } = refused;
      const tell = (ws: WebSocket): void => messageSocket(ws).close(code, why);
      this.#log.log('warn', 'token', `${checked.peer}: ${why}`);
      // With the small limit of messages: nothing of this client is known.
      return this.#messages.handleUpgrade(request, socket, head, tell);
    }
    const { call, rights, hash } = this.#call(request, match, checked, gone.signal);
    if (route.kind !== 'stream' && route.kind !== 'messages') return;
    const protocols = offeredProtocols(request.headers['sec-websocket-protocol']);
    const plain = protocols.length === 0 || (route.bareToken && protocols.length === 1);
    if (!bare && !plain && !protocols.includes(route.protocol)) {
      throw new WebFailure(400, `the subprotocol of this address is ${route.protocol}`);
    }
    if (!rights.control && this.#sessions.count(({ control }) => !control) >= maxOthers) {
      throw new WebFailure(503, `${maxOthers} clients are connected already: try again later`);
    }
    const enter = <T extends { close(code: number, reason: string): void }>(
      connection: T,
      open: (connection: T) => void,
    ): void => {
      const over = this.#sessions.add({ rights, hash, close: (code, reason) => connection.close(code, reason) });
      socket.once('close', over);
      open(connection);
    };
    if (route.kind === 'messages') {
      const open = await route.open(call);
      return this.#messages.handleUpgrade(request, socket, head, (ws) => enter(messageSocket(ws), open));
    }
    const open = await route.open(call);
    if (!bare) {
      return this.#streams.handleUpgrade(request, socket, head, (ws) => {
        unmaskEarly(socket);
        enter(socketConnection(ws, call.peer), open);
      });
    }
    if (socket.destroyed) return;
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${route.protocol}\r\n\r\n`);
    enter(bareConnection(socket, call.peer, head), open);
  }

  async #file(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'GET' && request.method !== 'HEAD') throw new WebFailure(404, 'there is no such address');
    const file = await this.#options.page.file(path, encodingFor(request));
    if (file) return send(request, response, 200, file);
    if (path !== '/') throw new WebFailure(404, 'there is no such address');
    const text = 'The console page was not built: npm run build makes it. The exports are served.\n';
    send(request, response, 503, { type: 'text/plain; charset=utf-8', bytes: Buffer.from(text) });
  }
}

function secureOptions({ certificate, key, ca, crl }: WebTls): TlsOptions {
  const verify = ca !== undefined;
  const pair = { cert: certificate, key, ...(verify && { ca }), ...(verify && crl !== undefined && { crl }) };
  return { ...pair, requestCert: verify, rejectUnauthorized: verify, minVersion: 'TLSv1.2' };
}

/** The subprotocol that a client gets: the one of the path. A token is never sent back. */
function chosen(offered: Set<string>): string | false {
  return [...offered].find((one) => !one.startsWith(tokenSubprotocol)) ?? false;
}

function tokenOf({ headers }: IncomingMessage, { bareToken }: Route): string | undefined {
  const bearer = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1];
  if (bearer !== undefined) return bearer;
  const protocols = offeredProtocols(headers['sec-websocket-protocol']);
  const protocol = protocols.find((one) => one.startsWith(tokenSubprotocol));
  if (protocol === undefined && bareToken && protocols.length === 1) return protocols[0];
  return protocol?.slice(tokenSubprotocol.length);
}

/** The name that a client gives itself in the query of its address: `?client=NAME`. */
function labelOf(query: string | undefined): string | undefined {
  return printable(new URLSearchParams(query).get('client') ?? '', maxLabel) || undefined;
}

function peerOf({ remoteAddress = 'unknown', remotePort = 0 }: Socket): string {
  return hostPort(remoteAddress, remotePort);
}
