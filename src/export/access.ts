/**
 * Rules of access to an export: the client's network, the name that TLS has authenticated, and a
 * token that the client knows. A client must match at least one entry of each kind of rule that is
 * given. Without rules every client has access.
 *
 * A client appends the token to the export's name, `NAME;token=TOKEN`, because NBD has no other
 * place for it. Without TLS, anybody who can read the network's traffic can read the token.
 */
import { usageError } from '../base/errors.js';

/** The facts about a client that rules use. */
export interface ClientFacts {
  /** Its IP address; undefined for a unix socket. */
  readonly address: string | undefined;
  /** The names that TLS has authenticated; none without TLS. */
  readonly tlsNames: readonly string[];
}

/** Rules about the clients that may use an export. A client must meet each that is given. */
export interface AccessRules {
  /** Networks or addresses: `192.168.1.0/24`, `10.0.0.7`, `fd00::/8`; `unix` for unix sockets. */
  readonly networks?: readonly string[] | undefined;
  /** Names of client certificates, or user names of keys. */
  readonly tlsNames?: readonly string[] | undefined;
  /** Tokens, one of which the client appends to the name of the export: `disk;token=TEXT`. */
  readonly tokens?: readonly string[] | undefined;
}

/** Shortest token, in characters: a shorter one can be guessed. */
const leastToken = 16;
const tokenMark = ';token=';

interface Network {
  readonly bytes: readonly number[];
  readonly bits: number;
}

export class Access {
  readonly #networks: readonly (Network | 'unix')[] | undefined;
  readonly #tlsNames: ReadonlySet<string> | undefined;
  readonly #tokens: readonly Uint8Array[] | undefined;

  /** @throws FarbusError if a rule is invalid */
  constructor({ networks, tlsNames, tokens }: AccessRules = {}) {
    this.#networks = networks?.map((text) => (text === 'unix' ? text : parseNetwork(text)));
    this.#tlsNames = tlsNames && new Set(tlsNames);
    this.#tokens = tokens?.map((token) => {
      if (!/^[A-Za-z0-9._~-]+$/.test(token) || token.length < leastToken) {
        throw usageError(`a token has ${leastToken} or more letters, digits and -._~: make a longer random one`);
      }
      return new TextEncoder().encode(token);
    });
  }

  /** True if a client with these facts and this token may use the export. */
  admits(client: ClientFacts, token: string | undefined): boolean {
    if (!this.admitsEntered(client)) return false;
    if (!this.#tokens) return true;
    const given = new TextEncoder().encode(token ?? '');
    // Compare all tokens completely, so that the time reveals nothing about them.
    let found = false;
    for (const one of this.#tokens) if (sameBytes(one, given)) found = true;
    return found;
  }

  /** True if a client whose token was checked already may use the export. */
  admitsEntered({ address, tlsNames }: ClientFacts): boolean {
    if (this.#networks && !this.#networks.some((one) => isWithin(address, one))) return false;
    return !this.#tlsNames || tlsNames.some((name) => this.#tlsNames!.has(name));
  }
}

/** Splits the name that a client asks for into the export's name and the token. */
export function splitToken(asked: string): { name: string; token: string | undefined } {
  const at = asked.lastIndexOf(tokenMark);
  if (at < 0) return { name: asked, token: undefined };
  return { name: asked.slice(0, at), token: asked.slice(at + tokenMark.length) };
}

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  let difference = one.length ^ other.length;
  for (let index = 0; index < one.length; index++) difference |= one[index]! ^ (other[index] ?? 0);
  return difference === 0;
}

function isWithin(address: string | undefined, network: Network | 'unix'): boolean {
  if (network === 'unix') return address === undefined;
  const bytes = address === undefined ? undefined : addressBytes(address);
  if (bytes?.length !== network.bytes.length) return false;
  for (let bit = 0; bit < network.bits; bit += 8) {
    const mask = 0xff & (0xff00 >> Math.min(8, network.bits - bit));
    if ((bytes[bit / 8]! & mask) !== (network.bytes[bit / 8]! & mask)) return false;
  }
  return true;
}

function parseNetwork(text: string): Network {
  const [address = '', bits, more] = text.split('/');
  const bytes = addressBytes(address);
  const most = (bytes?.length ?? 0) * 8;
  if (!bytes || more !== undefined || (bits !== undefined && !(/^\d{1,3}$/.test(bits) && Number(bits) <= most))) {
    throw usageError(`${JSON.stringify(text)} is no network: expected for example 192.168.1.0/24, fd00::/8 or unix`);
  }
  return { bytes, bits: bits === undefined ? most : Number(bits) };
}

/**
 * The 4 or 16 bytes of an IP address; an IPv4-mapped IPv6 address gives the 4 bytes of IPv4.
 * Undefined if `text` is not an address.
 */
export function addressBytes(text: string): number[] | undefined {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (four) {
    const bytes = four.slice(1).map(Number);
    return bytes.every((byte) => byte < 256) ? bytes : undefined;
  }
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(text);
  if (mapped) return addressBytes(mapped[1]!);
  // Drop the zone of a link-local address. The last 32 bits may be written like an IPv4 address
  // (RFC 4291 §2.2).
  const plain = text.replace(/%.*$/, '').replace(/:(\d+\.\d+\.\d+\.\d+)$/, (_, last: string) => {
    const [a, b, c, d] = addressBytes(last) ?? [];
    if (a === undefined || b === undefined || c === undefined || d === undefined) return ':-';
    return `:${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  });
  const [head = '', tail, more] = plain.split('::');
  if (more !== undefined || !plain.includes(':')) return undefined;
  const groups = (part: string): number[] => (part === '' ? [] : part.split(':').map(group));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const missing = 8 - before.length - after.length;
  const all = [...before, ...new Array<number>(Math.max(0, missing)).fill(0), ...after];
  const whole = tail === undefined ? missing === 0 : missing > 0;
  if (!whole || all.some((one) => Number.isNaN(one))) return undefined;
  return all.flatMap((one) => [one >> 8, one & 0xff]);
}

function group(text: string): number {
  return /^[0-9a-f]{1,4}$/i.test(text) ? parseInt(text, 16) : NaN;
}
