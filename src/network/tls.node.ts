/**
 * TLS over byte streams with Node's tls module: version 1.2 or newer, with X.509 certificates or
 * pre-shared keys. TLS takes a socket over directly; any other stream is wrapped in a Duplex.
 *
 * Not here: reading credentials (tls-files.node.ts); session resumption; anonymous encryption,
 * which does not protect against a man in the middle.
 */
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import {
  checkServerIdentity,
  connect,
  type ConnectionOptions,
  type PeerCertificate,
  type TLSSocket,
  type TlsOptions,
} from 'node:tls';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';
import { visible } from '../base/printable.js';
import { nextIteration } from '../base/event-loop.js';
import { eager } from './eager/stream.node.js';
import { SocketStream, type Releasable } from './socket.node.js';
import type { ByteStream, Secure, SecuredStream } from './stream.js';
import { TlsAcceptor } from './tls-acceptor.node.js';
import { StreamDuplex } from './stream-duplex.node.js';

/** The credentials of one side: certificates as PEM texts, or pre-shared keys by user name. */
export type TlsCredentials =
  | {
      readonly kind: 'x509';
      /** Certificate and key of this side. A client may have none. */
      readonly own?: { readonly certificate: string; readonly key: string } | undefined;
      /** The CA that signs the peer's certificates; undefined: the CAs that Node trusts. */
      readonly ca?: string | undefined;
      /** The list of revoked certificates. */
      readonly crl?: string | undefined;
    }
  | { readonly kind: 'psk'; readonly keys: ReadonlyMap<string, Uint8Array> };

/** Options of {@link tlsClient}. */
export interface TlsClientOptions {
  /** Certificates or keys. */
  readonly credentials: TlsCredentials;
  /** Name that the server's certificate must have; undefined: any name signed by the CA. */
  readonly hostname: string | undefined;
  /** If false, the server's certificate is not checked. */
  readonly verifyPeer: boolean;
  /** User name whose pre-shared key is used. */
  readonly username: string;
  /**
   * SHA-256 of the server's certificate, in hex of lower case. The server must show this one,
   * whoever signed it.
   */
  readonly fingerprint?: string | undefined;
}

/** Options of {@link tlsServer}. */
export interface TlsServerOptions {
  /** Certificates or keys. */
  readonly credentials: TlsCredentials;
  /** If true, a client must have a certificate signed by the CA. */
  readonly verifyPeer: boolean;
}

/**
 * Cipher suites for pre-shared keys, all with forward secrecy. TLS 1.3 has suites of its own; only
 * those with SHA-256 work with such keys.
 */
const pskCiphers =
  'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:' +
  'ECDHE-PSK-CHACHA20-POLY1305:ECDHE-PSK-AES256-CBC-SHA384:ECDHE-PSK-AES128-CBC-SHA256:' +
  'DHE-PSK-AES256-GCM-SHA384:DHE-PSK-AES128-GCM-SHA256:DHE-PSK-CHACHA20-POLY1305:@SECLEVEL=2';
const minVersion = 'TLSv1.2';

/** Encryption for the client's side. @throws FarbusError if there is no key of `username` */
export function tlsClient(given: TlsClientOptions): Secure {
  const { credentials, hostname, username, fingerprint } = given;
  const verifyPeer = given.verifyPeer && fingerprint === undefined;
  const options: ConnectionOptions = { minVersion };
  if (credentials.kind === 'psk') {
    const psk = credentials.keys.get(username);
    if (!psk) throw new FarbusError(`there is no key of user ${JSON.stringify(username)}: give tls-username`);
    Object.assign(options, { ciphers: pskCiphers, pskCallback: () => ({ psk, identity: username }) });
    // A server that sends a certificate does not have the key: it may be a man in the middle.
    options.checkServerIdentity = (_host, certificate) => {
      return (certificate as Partial<PeerCertificate>).raw ? new Error('it does not have the key') : undefined;
    };
  } else {
    const { own, ca, crl } = credentials;
    Object.assign(options, { ca, crl, cert: own?.certificate, key: own?.key, rejectUnauthorized: verifyPeer });
    options.checkServerIdentity = (_host, certificate) =>
      hostname === undefined ? undefined : checkServerIdentity(hostname, certificate);
    // RFC 6066 §3: a literal IP address is not permitted as a server name.
    if (hostname !== undefined && isIP(hostname) === 0) options.servername = hostname;
  }
  return (stream, signal) =>
    secure(stream, signal, undefined, (transport, done, failed) => {
      const socket = connect({ ...options, socket: transport });
      socket.once('secureConnect', () => {
        if (fingerprint === undefined || fingerprintOf(socket) === fingerprint) return done(socket, []);
        failed(new Error('the server has another certificate than the one with this fingerprint'));
      });
      socket.once('error', (error) => {
        const wrong = credentials.kind === 'psk' && certificateCode.test(errnoOf(error) ?? '');
        failed(wrong ? new Error('the server shows a certificate in place of the key') : error);
      });
      return () => socket.destroy();
    });
}

function fingerprintOf(socket: TLSSocket): string | undefined {
  return socket.getPeerX509Certificate()?.fingerprint256.replaceAll(':', '').toLowerCase();
}

/**
 * Encryption for the server's side.
 * @throws FarbusError if certificate and key do not fit together
 */
export function tlsServer({ credentials, verifyPeer }: TlsServerOptions): Secure {
  const keys = credentials.kind === 'psk' ? credentials.keys : undefined;
  const acceptor = acceptorOf(credentials, verifyPeer);
  return (stream, signal) =>
    // highWater 0: `write` returns false until all bytes are handed over, because the server then
    // reuses the memory.
    secure(stream, signal, 0, (transport, done, failed) => {
      acceptor.accept(transport, {
        done: (socket, user) => {
          if (keys) done(socket, user === undefined ? [] : [user]);
          else done(socket, verifyPeer ? namesOf(socket.getPeerCertificate()) : []);
        },
        failed,
      });
      return () => transport.destroy();
    });
}

function acceptorOf(credentials: TlsCredentials, verifyPeer: boolean): TlsAcceptor {
  try {
    if (credentials.kind === 'psk') return new TlsAcceptor({ minVersion, ciphers: pskCiphers }, credentials.keys);
    const { own, ca, crl } = credentials;
    const certificate = { cert: own?.certificate, key: own?.key, ca, crl } as TlsOptions;
    return new TlsAcceptor({ minVersion, requestCert: verifyPeer, rejectUnauthorized: verifyPeer, ...certificate });
  } catch (error) {
    throw new FarbusError(`the TLS certificate and its key are not usable: ${messageOf(error)}`, { cause: error });
  }
}

/** True for a stream over a socket, and false for one over another transport, such as a process. */
function isReleasable(stream: ByteStream): stream is ByteStream & Releasable {
  return 'release' in stream;
}

type Begin = (
  transport: Duplex,
  done: (socket: TLSSocket, names: readonly string[]) => void,
  failed: (error: Error) => void,
) => () => void;

function secure(
  stream: ByteStream,
  signal: AbortSignal,
  highWater: number | undefined,
  begin: Begin,
): Promise<SecuredStream> {
  return new Promise((resolve, reject) => {
    const { peer } = stream;
    const raw = isReleasable(stream) ? stream.release() : undefined;
    if (isReleasable(stream) && !raw) return reject(new FarbusError('TLS failed: the connection was closed'));
    const transport: Duplex = raw ?? new StreamDuplex(stream);
    const close = (): void => {
      if (raw?.remoteFamily !== undefined && !raw.destroyed) raw.resetAndDestroy();
      else transport.destroy();
    };
    // Node crashes if the transport is closed within its handshake callback, which is still on the
    // stack when it reports success.
    let within = true;
    const reset = (): void => (within ? nextIteration(close) : close());
    let over = false;
    const end = (): boolean => {
      if (over) return false;
      over = true;
      signal.removeEventListener('abort', abort);
      transport.off('close', closed);
      return true;
    };
    const failed = (error: Error): void => {
      if (!end()) return;
      stop();
      transport.destroy();
      reject(signal.aborted ? (signal.reason as Error) : failure(error));
    };
    const abort = (): void => failed(signal.reason as Error);
    // Delayed, because TLS may report a better reason right after the transport has closed.
    const closed = (): void => void setImmediate(() => failed(new Error('the connection was closed')));
    if (signal.aborted) {
      transport.destroy();
      return reject(signal.reason as Error);
    }
    // Stays attached after the end, so that later errors of the transport are ignored.
    transport.on('error', failed);
    transport.once('close', closed);
    signal.addEventListener('abort', abort);
    const stop = begin(
      transport,
      (socket, names) => {
        if (!end()) return void socket.destroy();
        socket.pause();
        // In TLS 1.3 the server checks the client's certificate after the client's handshake has
        // ended, so the stream itself must explain TLS errors.
        const explained = { reset, explain: (error: Error) => failure(error) };
        const options = highWater === undefined ? explained : { ...explained, highWater };
        nextIteration(() => (within = false));
        resolve({ stream: eager(new SocketStream(socket, peer, options)), names });
      },
      failed,
    );
  });
}

/** Common names and subject alternative names of a verified certificate. */
export function namesOf(certificate: Partial<PeerCertificate>): string[] {
  const names = new Set<string>();
  const common = certificate.subject?.CN as string | string[] | undefined;
  for (const name of common === undefined ? [] : [common].flat()) names.add(name);
  // Node writes a name that contains a comma as a JSON string.
  const parts = (certificate.subjectaltname ?? '').matchAll(
    /(?:^|, )(?:DNS|email|URI|IP Address):("(?:[^"\\]|\\.)*"|[^,"]*)/g,
  );
  for (const [, part] of parts) {
    if (!part!.startsWith('"')) names.add(part!);
    else names.add(JSON.parse(part!) as string);
  }
  // Drop names with hidden characters: names are compared and logged.
  return [...names].filter((name) => name !== '' && name === visible(name));
}

const nothingInCommon = 'the two sides have no way of proof in common: certificates on both, or keys of the same user';
const wrongKey = 'the two sides have different keys for this user';
const reasons: Readonly<Record<string, string>> = {
  SELF_SIGNED_CERT_IN_CHAIN: 'the other side has a certificate of an unknown signer: give its CA certificate',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'the other side has a certificate of an unknown signer: give its CA certificate',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'the other side has a certificate of an unknown signer: give its CA certificate',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'the other side has a self-signed certificate: give it as CA certificate',
  CERT_HAS_EXPIRED: "the other side's certificate has expired: it needs a new one",
  CERT_NOT_YET_VALID: "the other side's certificate is not valid yet: check the clocks",
  CERT_REVOKED: "the other side's certificate has been revoked",
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'the client has no certificate, which is demanded',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    'the server demands a client certificate: give client-cert.pem and its key',
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: nothingInCommon,
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'the other side does not trust the signer of our certificate',
  ERR_SSL_WRONG_VERSION_NUMBER: 'the bytes that arrived are not TLS',
  ECONNRESET: 'the other side hung up: its log says why',
  ERR_SSL_SSLV3_ALERT_ILLEGAL_PARAMETER: wrongKey,
  ERR_SSL_BINDER_DOES_NOT_VERIFY: wrongKey,
  ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR: wrongKey,
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM: nothingInCommon,
  ERR_SSL_NO_SHARED_CIPHER: nothingInCommon,
  ERR_TLS_CERT_ALTNAME_INVALID: "the server's certificate has another name: give the right one as tls-hostname",
};
/** Error codes that concern a certificate. */
const certificateCode = /^(?:SELF_SIGNED|UNABLE_TO|DEPTH_ZERO|CERT_)/;

function failure(error: Error): FarbusError {
  const reason = reasons[errnoOf(error) ?? ''];
  // OpenSSL's messages have the form NUMBER:error:CODE:LIBRARY:FUNCTION:REASON:FILE:LINE. The text
  // is only shown; nothing is decided by it.
  // eslint-disable-next-line no-restricted-syntax
  const text = /:error:[0-9A-F]+:[^:]*:[^:]*:([^:]+):/.exec(error.message)?.[1] ?? messageOf(error).slice(0, 200);
  return new FarbusError(`TLS failed: ${reason ?? text}`, { cause: error });
}
