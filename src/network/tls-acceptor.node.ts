/**
 * One TLS server of Node's for all streams of a listener. Making one reads certificate and key, which takes milliseconds and
 * tens of KiB (measured: 3.7 ms and 33 KiB with one key and one CA): too much for every client that only begins.
 *
 * Node says how a handshake ended with the encrypted socket, and not with the socket that was given to it. That one is the
 * encrypted one's `_parent`, which net.Socket's own timers go by; an encrypted socket without a known one is closed. Of other
 * streams than sockets it is something else: each gets a TLS server of its own.
 */
import { constants } from 'node:crypto';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';

/** What comes of a handshake: one of the two is called; none where the transport is closed before. */
export interface TlsOutcome {
  /** @param user Whose pre-shared key it was. */
  done(socket: TLSSocket, user: string | undefined): void;
  failed(error: Error): void;
}

export class TlsAcceptor {
  readonly #options: TlsOptions;
  readonly #shared: Server;
  /** Of handshakes on the shared server, by the sockets that were given to it. */
  readonly #outcomes = new WeakMap<object, TlsOutcome>();
  readonly #users = new WeakMap<TLSSocket, string>();

  /**
   * @param options As Node's `tls.createServer` takes them.
   * @param keys Pre-shared keys by user, in place of certificates.
   * @throws an Error where certificate and key do not fit together.
   */
  constructor(options: TlsOptions, keys?: ReadonlyMap<string, Uint8Array>) {
    const pskCallback = (socket: TLSSocket, name: string): Uint8Array | null => {
      this.#users.set(socket, name);
      return keys?.get(name) ?? null;
    };
    // Without tickets no session is resumed: each client proves itself with each connection.
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

  /** A server that listens nowhere. */
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
