/**
 * TLS over byte streams, on Node's tls module: version 1.2 or newer, with X.509 certificates or with pre-shared keys. A socket
 * is encrypted where it is; any other stream through a Duplex. Where the keys come from is in tls-files.node.ts.
 *
 * Sessions are not resumed, and there is no anonymous encryption, which protects from nobody who is in between.
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
import { nextTurn } from '../base/turn.js';
import { SocketStream } from './socket.node.js';
import type { ByteStream, Secure, SecuredStream } from './stream.js';
import { TlsAcceptor } from './tls-acceptor.node.js';
import { StreamDuplex } from './stream-duplex.node.js';

/** Who proves itself how: PEM texts, or keys by user name. */
export type TlsCredentials =
  | {
      readonly kind: 'x509';
      /** Certificate and key of this side; a client may have none. */
      readonly own?: { readonly certificate: string; readonly key: string } | undefined;
      /** Who signs the other side's certificates; undefined: those whom Node trusts. */
      readonly ca?: string | undefined;
      /** Revoked certificates. */
      readonly crl?: string | undefined;
    }
  | { readonly kind: 'psk'; readonly keys: ReadonlyMap<string, Uint8Array> };

export interface TlsClientOptions {
  readonly credentials: TlsCredentials;
  /** Name that the server's certificate must have; undefined: any that is signed by the CA. */
  readonly hostname: string | undefined;
  /** Whether the server's certificate is checked at all. */
  readonly verifyPeer: boolean;
  /** Whose key is used, of pre-shared ones. */
  readonly username: string;
}

export interface TlsServerOptions {
  readonly credentials: TlsCredentials;
  /** Whether a client must have a certificate of the CA. */
  readonly verifyPeer: boolean;
}

/** Those with forward secrecy first; TLS 1.3 has its own names, of which only those with SHA-256 go with such keys. */
const pskCiphers =
  'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:' +
  'ECDHE-PSK-CHACHA20-POLY1305:ECDHE-PSK-AES256-CBC-SHA384:ECDHE-PSK-AES128-CBC-SHA256:' +
  'DHE-PSK-AES256-GCM-SHA384:DHE-PSK-AES128-GCM-SHA256:DHE-PSK-CHACHA20-POLY1305:@SECLEVEL=2';
const minVersion = 'TLSv1.2';

/** The client's side. */
export function tlsClient({ credentials, hostname, verifyPeer, username }: TlsClientOptions): Secure {
  const options: ConnectionOptions = { minVersion };
  if (credentials.kind === 'psk') {
    const psk = credentials.keys.get(username);
    if (!psk) throw new FarbusError(`there is no key of user ${JSON.stringify(username)}: give tls-username`);
    Object.assign(options, { ciphers: pskCiphers, pskCallback: () => ({ psk, identity: username }) });
    // A server that proves itself by a certificate does not have the key: whoever is in between can have one.
    options.checkServerIdentity = (_host, certificate) => {
      return (certificate as Partial<PeerCertificate>).raw ? new Error('it does not have the key') : undefined;
    };
  } else {
    const { own, ca, crl } = credentials;
    Object.assign(options, { ca, crl, cert: own?.certificate, key: own?.key, rejectUnauthorized: verifyPeer });
    options.checkServerIdentity = (_host, certificate) =>
      hostname === undefined ? undefined : checkServerIdentity(hostname, certificate);
    // RFC 6066 3: a literal address is no server name.
    if (hostname !== undefined && isIP(hostname) === 0) options.servername = hostname;
  }
  return (stream, signal) =>
    secure(stream, signal, undefined, (transport, done, failed) => {
      const socket = connect({ ...options, socket: transport });
      socket.once('secureConnect', () => done(socket, []));
      socket.once('error', (error) => {
        const wrong = credentials.kind === 'psk' && certificateCode.test(errnoOf(error) ?? '');
        failed(wrong ? new Error('the server shows a certificate in place of the key') : error);
      });
      return () => socket.destroy();
    });
}

/** The server's side. Throws a FarbusError if the credentials do not fit together. */
export function tlsServer({ credentials, verifyPeer }: TlsServerOptions): Secure {
  const keys = credentials.kind === 'psk' ? credentials.keys : undefined;
  const acceptor = acceptorOf(credentials, verifyPeer);
  return (stream, signal) =>
    // A client reads its replies or waits: its memory is used again as soon as it has been handed over.
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
    const raw = stream instanceof SocketStream ? stream.release() : undefined;
    if (stream instanceof SocketStream && !raw) return reject(new FarbusError('TLS failed: the connection was closed'));
    const transport: Duplex = raw ?? new StreamDuplex(stream);
    const close = (): void => {
      if (raw?.remoteFamily !== undefined && !raw.destroyed) raw.resetAndDestroy();
      else transport.destroy();
    };
    // Node crashes where the transport is closed while it is still within the handshake, as it is when that is told.
    let within = true;
    const reset = (): void => (within ? nextTurn(close) : close());
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
    // What TLS itself says of it may come only now.
    const closed = (): void => void setImmediate(() => failed(new Error('the connection was closed')));
    if (signal.aborted) {
      transport.destroy();
      return reject(signal.reason as Error);
    }
    // Errors of a transport that is given up are nobody's business any more.
    transport.on('error', failed);
    transport.once('close', closed);
    signal.addEventListener('abort', abort);
    const stop = begin(
      transport,
      (socket, names) => {
        if (!end()) return void socket.destroy();
        socket.pause();
        // With TLS 1.3 the server looks at the client's certificate when the client is done already.
        const explained = { reset, explain: (error: Error) => failure(error) };
        const options = highWater === undefined ? explained : { ...explained, highWater };
        nextTurn(() => (within = false));
        resolve({ stream: new SocketStream(socket, peer, options), names });
      },
      failed,
    );
  });
}

/** Common names and alternative names of a certificate that has been verified. */
function namesOf(certificate: Partial<PeerCertificate>): string[] {
  const names = new Set<string>();
  const common = certificate.subject?.CN as string | string[] | undefined;
  for (const name of common === undefined ? [] : [common].flat()) names.add(name);
  // Node quotes what has a comma in it, as JSON.
  const parts = (certificate.subjectaltname ?? '').matchAll(
    /(?:^|, )(?:DNS|email|URI|IP Address):("(?:[^"\\]|\\.)*"|[^,"]*)/g,
  );
  for (const [, part] of parts) {
    if (!part!.startsWith('"')) names.add(part!);
    else names.add(JSON.parse(part!) as string);
  }
  // Names are compared and logged.
  return [...names].filter((name) => name !== '' && name === visible(name));
}

const nothingInCommon = 'the two sides have no way of proof in common: certificates on both, or keys of the same user';
const wrongKey = 'the two sides have different keys for this user';
const reasons: Readonly<Record<string, string>> = {
  SELF_SIGNED_CERT_IN_CHAIN: 'the other side has a certificate of an unknown signer: give its CA certificate',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'the other side has a certificate of an unknown signer: give its CA certificate',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'the other side has a certificate of an unknown signer: give its CA certificate',
  DEPTH_ZERO_SELF_SIGNED_CERT:
    'the other side has a certificate that nobody else has signed: give it as CA certificate',
  CERT_HAS_EXPIRED: "the other side's certificate has expired: it needs a new one",
  CERT_NOT_YET_VALID: "the other side's certificate is not valid yet: check the clocks",
  CERT_REVOKED: "the other side's certificate has been revoked",
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'the client has no certificate, which is demanded',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    'the server demands a client certificate: give client-cert.pem and its key',
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: nothingInCommon,
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'the other side does not know who signed our certificate',
  ERR_SSL_WRONG_VERSION_NUMBER: 'what came is not TLS',
  ECONNRESET: 'the other side hung up: its log says why',
  ERR_SSL_SSLV3_ALERT_ILLEGAL_PARAMETER: wrongKey,
  ERR_SSL_BINDER_DOES_NOT_VERIFY: wrongKey,
  ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR: wrongKey,
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM: nothingInCommon,
  ERR_SSL_NO_SHARED_CIPHER: nothingInCommon,
  ERR_TLS_CERT_ALTNAME_INVALID: "the server's certificate has another name: give the right one as tls-hostname",
};
/** Codes that say what is wrong with a certificate. */
const certificateCode = /^(?:SELF_SIGNED|UNABLE_TO|DEPTH_ZERO|CERT_)/;

function failure(error: Error): FarbusError {
  const reason = reasons[errnoOf(error) ?? ''];
  // OpenSSL's own texts: NUMBER:error:CODE:LIBRARY:FUNCTION:REASON:FILE:LINE.
  const text = /:error:[0-9A-F]+:[^:]*:[^:]*:([^:]+):/.exec(error.message)?.[1] ?? messageOf(error).slice(0, 200);
  return new FarbusError(`TLS failed: ${reason ?? text}`, { cause: error });
}
