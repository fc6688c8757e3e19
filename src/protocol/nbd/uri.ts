/**
 * NBD URIs: `nbd://host:port/export` and `nbd+unix:///export?socket=PATH`; over TLS `nbds:` and
 * `nbds+unix:` with `tls-...` parameters; over WebSocket `nbd+ws:` and, with TLS, `nbd+wss:`. A URI
 * may name several gateways of one export, in the order in which they are tried:
 * `nbd://host:port,host:port/export`, or `socket=PATH` several times (our extension).
 *
 * Sources: doc/uri.md of the NBD project ("[URI] section") and RFC 3986. The parameters that [URI]
 * does not define (tls-certificates, tls-psk-file, tls-username) have libnbd's names. The schemes
 * of WebSocket and their parameters (token, token-file, tls-fingerprint) are our own.
 *
 * Not here: anonymous TLS, which is not supported.
 */
import { usageError } from '../../base/errors.js';
import { escapeUri, formatAuthority, readUri, type Uri, type UriForm } from '../remote/uri.js';
import { defaultPort, maxString } from './spec.js';

/** The encryption of a connection ([URI] "NBD URI query parameters related to TLS"). */
export interface NbdTls {
  /** Folder with certificates. */
  readonly certificates?: string | undefined;
  /** File with pre-shared keys. If set, keys are used instead of certificates. */
  readonly pskFile?: string | undefined;
  /** User whose key is used. */
  readonly username?: string | undefined;
  /** Name that the server's certificate must contain. Default: the host of the URI. */
  readonly hostname?: string | undefined;
  /** False disables the check of the server's certificate. Default: true. */
  readonly verifyPeer?: boolean | undefined;
  /**
   * SHA-256 of the server's certificate, 64 hex digits in lower case. If set, the certificate is
   * recognised by it alone.
   */
  readonly fingerprint?: string | undefined;
}

/** Where a server listens. */
export type NbdPlace =
  | {
      readonly transport: 'tcp';
      /** Host name or IP address; IPv6 without brackets. */
      readonly host: string;
      /** Port, 0 to 65535. 0 is for listeners only and means any free port. */
      readonly port: number;
    }
  | {
      readonly transport: 'unix';
      /** Path of the socket. A leading NUL means Linux's abstract namespace. */
      readonly path: string;
    }
  | {
      readonly transport: 'websocket';
      /** Host name or IP address; IPv6 without brackets. */
      readonly host: string;
      /** Port, 1 to 65535. */
      readonly port: number;
      /** A token of access. */
      readonly token?: string | undefined;
      /** File with the token. */
      readonly tokenFile?: string | undefined;
    };

/** The location of an export. */
export type NbdAddress = NbdPlace & {
  readonly exportName: string;
  /** Further gateways of the same export, in the order in which they are tried. Default: none. */
  readonly others?: readonly NbdPlace[] | undefined;
  /**
   * A gateway that owes an answer is given up after this silence, in seconds (parameter x-detect).
   * Undefined if the URI does not say.
   */
  readonly detectSeconds?: number | undefined;
  /**
   * Go to another gateway even if no fence stops the writes that the lost one still has (parameter
   * x-failover=unfenced). Default false.
   */
  readonly unfenced?: boolean | undefined;
  /**
   * Number of connections to open (parameter x-connections, our extension). Undefined if the URI
   * does not say.
   */
  readonly connections?: number | undefined;
  /** Set if the connection is encrypted. */
  readonly tls?: NbdTls | undefined;
};

const form = {
  wanted: 'not an NBD URI: write nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH',
  schemes: ['nbd', 'nbds', 'nbd+unix', 'nbds+unix', 'nbd+ws', 'nbd+wss'],
  severalHosts: true,
  parameters: {
    socket: 'texts',
    token: 'text',
    'token-file': 'text',
    'x-connections': 'text',
    'x-detect': 'text',
    'x-failover': 'text',
    'tls-type': 'text',
    'tls-certificates': 'text',
    'tls-psk-file': 'text',
    'tls-username': 'text',
    'tls-hostname': 'text',
    'tls-verify-peer': 'text',
    'tls-fingerprint': 'text',
  },
} as const satisfies UriForm<string>;

type NbdUri = Uri<keyof typeof form.parameters>;

/** The parameters of an NBD URI that name files of this computer. */
export const nbdFileParameters: readonly string[] = ['socket', 'tls-certificates', 'tls-psk-file', 'token-file'];

/** The characters of a token: those that a subprotocol of a WebSocket and a header can have. */
const tokenPattern = /^[A-Za-z0-9._~-]{1,200}$/;

/** Most gateways of one export. */
const maxGateways = 16;
/** Longest detection time, in seconds. */
const maxDetect = 3600;

const flags: Readonly<Record<string, boolean>> = { '1': true, true: true, '0': false, false: false };

/**
 * Parses an NBD URI.
 * @throws FarbusError with one line that says what is wrong with the URI
 */
export function parseNbdUri(text: string): NbdAddress {
  const uri = readUri(text, form);
  const { scheme, path } = uri;
  const exportName = path.slice(1);
  // [NBD] "Conventions": the limit of a string.
  if (new TextEncoder().encode(exportName).length > maxString) {
    uri.fail(`an export name has at most ${maxString} bytes`);
  }
  const tls = parseTls(uri);
  const count = uri.text('x-connections');
  if (count !== undefined && !(/^\d{1,2}$/.test(count) && Number(count) >= 1 && Number(count) <= 16)) {
    uri.fail('x-connections is a number from 1 to 16');
  }
  const places = scheme.endsWith('+unix') ? socketPlaces(uri) : hostPlaces(uri);
  const [first, ...others] = places;
  if (places.length > maxGateways) uri.fail(`at most ${maxGateways} gateways can be named`);
  const twice = places.find((one, index) => places.slice(0, index).some((other) => samePlace(one, other)));
  if (twice) uri.fail('a gateway is named twice: name each once');
  const more = { ...tls, ...(count !== undefined && { connections: Number(count) }), ...parseFailover(uri, others) };
  return { ...first!, exportName, ...more };
}

function samePlace(one: NbdPlace, other: NbdPlace): boolean {
  if (one.transport === 'unix') return other.transport === 'unix' && one.path === other.path;
  return other.transport !== 'unix' && one.host === other.host && one.port === other.port;
}

function socketPlaces(uri: NbdUri): NbdPlace[] {
  const { scheme, host, port, places } = uri;
  if (host !== '' || port !== undefined || places.length > 1) {
    uri.fail(`a unix socket has no host: write ${scheme}:///EXPORT?socket=PATH with three slashes`);
  }
  const sockets = uri.texts('socket');
  if (sockets.length === 0 || sockets.includes('')) uri.fail('which socket? Add ?socket=PATH');
  if (sockets.some((one) => one.includes('\0', 1))) uri.fail('a path has no NUL');
  return sockets.map((path) => ({ transport: 'unix', path }));
}

function hostPlaces(uri: NbdUri): NbdPlace[] {
  const { places } = uri;
  if (uri.given.includes('socket')) uri.fail(`a socket is for ${uri.scheme.replace(/\+.*/, '')}+unix://`);
  if (places.length > 1 && places.some(({ host }) => host === '')) {
    uri.fail('a gateway without a host: write HOST[:PORT],HOST[:PORT]');
  }
  if (uri.scheme.startsWith('nbd+ws')) {
    const usual = uri.scheme === 'nbd+ws' ? 80 : 443;
    const token = parseToken(uri);
    return places.map(({ host, port }) => {
      return { transport: 'websocket', host: host || 'localhost', port: port ?? usual, ...token };
    });
  }
  // [URI] "NBD URI authority": without a host, the client chooses. We take localhost, as other
  // clients do.
  return places.map(({ host, port }) => ({ transport: 'tcp', host: host || 'localhost', port: port ?? defaultPort }));
}

function parseFailover(
  uri: NbdUri,
  others: readonly NbdPlace[],
): Pick<NbdAddress, 'others' | 'detectSeconds' | 'unfenced'> {
  const detect = uri.text('x-detect');
  if (detect !== undefined && !(/^\d{1,4}(\.\d{1,3})?$/.test(detect) && Number(detect) >= 0.1)) {
    uri.fail(`x-detect is a number of seconds from 0.1 to ${maxDetect}`);
  }
  if (Number(detect ?? 0) > maxDetect) uri.fail(`x-detect is a number of seconds from 0.1 to ${maxDetect}`);
  const failover = uri.text('x-failover');
  if (failover !== undefined && failover !== 'fenced' && failover !== 'unfenced') {
    uri.fail('x-failover is fenced or unfenced');
  }
  if (failover !== undefined && others.length === 0) uri.fail('x-failover is for several gateways: name them');
  return {
    ...(others.length > 0 && { others }),
    ...(detect !== undefined && { detectSeconds: Number(detect) }),
    ...(failover === 'unfenced' && { unfenced: true }),
  };
}

/**
 * One address of several gateways, from the address of each, for example "nbd://a,b:10810/disk".
 * @throws FarbusError if they differ in more than host and port
 */
export function joinGateways(addresses: readonly string[]): string {
  const parts = addresses.map((text) => /^(nbds?|nbd\+wss?):\/\/([^/?#,]+)(.*)$/s.exec(text));
  const [first] = parts;
  if (!first || parts.some((part) => part?.[1] !== first[1] || part?.[3] !== first[3])) {
    throw usageError(
      'expected addresses of gateways that differ in host and port only, for example nbd://a/disk and nbd://b/disk',
    );
  }
  return `${first[1]}://${parts.map((part) => part![2]).join(',')}${first[3]}`;
}

/** The addresses of the gateways that an address names: one for each place. */
export function gatewaysOf(address: NbdAddress): readonly [NbdAddress, ...NbdAddress[]] {
  const { others = [], exportName, connections, tls } = address;
  const first = { ...address, others: undefined, detectSeconds: undefined, unfenced: undefined };
  const common = { exportName, ...(connections !== undefined && { connections }), ...(tls && { tls }) };
  return [first, ...others.map((one) => ({ ...one, ...common }))];
}

function parseToken(uri: NbdUri): { token?: string; tokenFile?: string } {
  const [token, tokenFile] = [uri.text('token'), uri.text('token-file')];
  if (token !== undefined && tokenFile !== undefined)
    uri.fail('token and token-file exclude each other: leave one out');
  if (token !== undefined && !tokenPattern.test(token)) uri.fail('a token has letters, digits and -._~ only');
  if (tokenFile === '') uri.fail('token-file= needs a path');
  return { ...(token !== undefined && { token }), ...(tokenFile !== undefined && { tokenFile }) };
}

function parseTls(uri: NbdUri): { tls?: NbdTls } {
  const { scheme, user, given, fail } = uri;
  const webSocket = scheme.startsWith('nbd+ws');
  const secret = given.find((name) => name.startsWith('token'));
  if (!webSocket && secret !== undefined) {
    fail(`${secret} is for nbd+ws:// and nbd+wss://; elsewhere a token follows the name: EXPORT;token=TOKEN`);
  }
  if (webSocket && user !== undefined) fail('a WebSocket has no user name: give token-file=FILE');
  if (!scheme.startsWith('nbds') && scheme !== 'nbd+wss') {
    const forTls = given.find((name) => name.startsWith('tls-'));
    // A user who gives keys expects encryption: do not connect in plain text.
    if (forTls !== undefined)
      fail(`${forTls} is for TLS: write ${webSocket ? 'nbd+wss://' : 'nbds:// or nbds+unix://'}`);
    if (user !== undefined) fail('a user name is for TLS: write nbds://, or leave it out');
    return {};
  }
  const certificates = uri.text('tls-certificates');
  const pskFile = uri.text('tls-psk-file');
  const username = uri.text('tls-username') ?? user;
  const hostname = uri.text('tls-hostname');
  if (certificates !== undefined && pskFile !== undefined) {
    fail('tls-certificates and tls-psk-file exclude each other: a connection is proved by one of them');
  }
  if (certificates === '' || pskFile === '' || hostname === '') fail('a tls- part without a value: leave it out');
  if (webSocket && pskFile !== undefined)
    fail('a WebSocket has no pre-shared keys: use certificates or tls-fingerprint');
  const type = uri.text('tls-type');
  if (type === 'anon') fail('TLS without proof of who is at the other end is not supported: use certificates or keys');
  if (type !== undefined && type !== 'x509' && type !== 'psk') fail('tls-type is x509 or psk');
  if (type === 'psk' && pskFile === undefined) fail('keys are in a file: add tls-psk-file=FILE');
  if (type === 'x509' && pskFile !== undefined) fail('tls-psk-file goes with tls-type=psk');
  const verify = uri.text('tls-verify-peer');
  const verifyPeer = verify === undefined ? undefined : flags[verify.toLowerCase()];
  if (verify !== undefined && verifyPeer === undefined) fail('tls-verify-peer is 1 or 0');
  if (uri.given.includes('socket') && certificates === undefined && pskFile === undefined) {
    if (hostname === undefined && verifyPeer !== false) {
      fail(
        'the name in the certificate is not known: add tls-hostname=NAME, or tls-certificates=FOLDER with your own CA',
      );
    }
  }
  const fingerprint = parseFingerprint(uri);
  if (fingerprint !== undefined && (pskFile !== undefined || verifyPeer === false)) {
    fail('tls-fingerprint is the check of a certificate: leave tls-psk-file and tls-verify-peer=0 out');
  }
  return { tls: { certificates, pskFile, username, hostname, verifyPeer, ...(fingerprint && { fingerprint }) } };
}

/** SHA-256 in hex, with or without colons, as openssl prints it. */
function parseFingerprint(uri: NbdUri): string | undefined {
  const text = uri.text('tls-fingerprint');
  const hex = text?.replaceAll(':', '').toLowerCase();
  if (hex !== undefined && !/^[0-9a-f]{64}$/.test(hex)) {
    uri.fail('tls-fingerprint is the SHA-256 of the certificate: 64 hex digits');
  }
  return hex;
}

/**
 * Formats an address as a URI that {@link parseNbdUri} reads. Without its token, which is a secret:
 * people see this text.
 */
export function formatNbdUri(address: NbdAddress): string {
  const { exportName, tls, others = [], detectSeconds, unfenced } = address;
  const name = escapeUri(exportName);
  const scheme = tls ? 'nbds' : 'nbd';
  const parameters: string[] = [];
  const places = [address, ...others];
  for (const one of places) if (one.transport === 'unix') parameters.push(`socket=${escapeUri(one.path)}`);
  if (address.transport === 'websocket' && address.tokenFile !== undefined) {
    parameters.push(`token-file=${escapeUri(address.tokenFile)}`);
  }
  if (address.connections !== undefined) parameters.push(`x-connections=${address.connections}`);
  if (detectSeconds !== undefined) parameters.push(`x-detect=${detectSeconds}`);
  if (unfenced) parameters.push('x-failover=unfenced');
  if (tls?.certificates !== undefined) parameters.push(`tls-certificates=${escapeUri(tls.certificates)}`);
  if (tls?.pskFile !== undefined) parameters.push(`tls-psk-file=${escapeUri(tls.pskFile)}`);
  if (tls?.username !== undefined) parameters.push(`tls-username=${escapeUri(tls.username)}`);
  if (tls?.hostname !== undefined) parameters.push(`tls-hostname=${escapeUri(tls.hostname)}`);
  if (tls?.verifyPeer !== undefined) parameters.push(`tls-verify-peer=${tls.verifyPeer ? 1 : 0}`);
  if (tls?.fingerprint !== undefined) parameters.push(`tls-fingerprint=${tls.fingerprint}`);
  const query = parameters.length === 0 ? '' : `?${parameters.join('&')}`;
  if (address.transport === 'unix') return `${scheme}+unix:///${name}${query}`;
  const webSocket = address.transport === 'websocket';
  const usual = webSocket ? (tls ? 443 : 80) : defaultPort;
  const hosts = places.map((one) => {
    return one.transport === 'unix'
      ? ''
      : formatAuthority(undefined, one.host, one.port === usual ? undefined : one.port);
  });
  const shown = webSocket ? `nbd+ws${tls ? 's' : ''}` : scheme;
  return `${shown}://${hosts.join(',')}/${name}${query}`;
}

/**
 * The path at which a web server of Farbus has an export: "/nbd/NAME". The whole name is one
 * segment, so a "/" in it is encoded. "/nbd/" is the default export.
 */
export function nbdWebPath(exportName: string): string {
  return `/nbd/${encodeURIComponent(exportName)}`;
}
