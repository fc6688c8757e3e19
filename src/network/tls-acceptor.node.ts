/**
 * TlsAcceptor: one Node TLS server for all connections of a listener. To make one for each
 * connection would cost too much: it parses certificate and key, even for a client that only
 * connects (docs/notes/sockets.md, "TLS contexts": 3.7 ms and 33 KiB).
 *
 * Node reports the end of a handshake with the encrypted socket, not with the socket that it was
 * given. The given socket is the encrypted one's `_parent`, an internal property that the timers of
 * net.Socket also use. An encrypted socket whose `_parent` is unknown is closed. For transports
 * that are not sockets `_parent` is another object, so each of them gets a TLS server of its own.
 */
import { constants } from 'node:crypto';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';

/**
 * Receives the outcome of a handshake. One of the two is called; neither if the transport closes
 * before.
 */
export interface TlsOutcome {
  /** @param user user name of the client's pre-shared key; undefined with certificates */
  done(socket: TLSSocket, user: string | undefined): void;
  failed(error: Error): void;
}

export class TlsAcceptor {
  readonly #options: TlsOptions;
  readonly #shared: Server;
  /** Outcomes of handshakes on the shared server, by the socket that it was given. */
  readonly #outcomes = new WeakMap<object, TlsOutcome>();
  readonly #users = new WeakMap<TLSSocket, string>();

  /**
   * @param options options of Node's `tls.createServer`
   * @param keys pre-shared keys by user name, instead of certificates
   * @throws Error if certificate and key do not fit together
   */
  constructor(options: TlsOptions, keys?: ReadonlyMap<string, Uint8Array>) {
    const pskCallback = (socket: TLSSocket, name: string): Uint8Array | null => {
      this.#users.set(socket, name);
      return keys?.get(name) ?? null;
    };
    // Without tickets no session is resumed, so each connection authenticates its client.
    this.#options = { ...options, secureOptions: constants.SSL_OP_NO_TICKET, ...(keys && { pskCallback }) };
    this.#shared = this.#serverFor((socket) => {
      const { _parent: transport } = socket as unknown as { readonly _parent?: object | null };
      return transport ? this.#outcomes.get(transport) : undefined;
    });
  }

  /** Begins the handshake on a connected transport. */
  accept(transport: Duplex, outcome: TlsOutcome): void {
    if (!(transport instanceof Socket)) return void this.#serverFor(() => outcome).emit('connection', transport);
    this.#outcomes.set(transport, outcome);
    this.#shared.emit('connection', transport);
  }

  /** A TLS server that does not listen: it gets its connections by emitted events. */
  #serverFor(outcomeOf: (socket: TLSSocket) => TlsOutcome | undefined): Server {
    const server = createServer(this.#options);
    server.on('secureConnection', (socket) => {
      const outcome = outcomeOf(socket);
      if (outcome) outcome.done(socket, this.#users.get(socket));
      else socket.destroy();
    });
    server.on('tlsClientError', (error, socket) => outcomeOf(socket)?.failed(error));
    return server;
  }
}
