/**
 * Who may use an export: by the network that a client comes from, by the name that TLS has proved, by a token that the
 * client knows. Of the kinds of rule that are given, each must be met, by any of its entries; without rules all may.
 *
 * A token is given in the export's name, as `NAME;token=TOKEN`: NBD has no other place for one. Without TLS whoever
 * sees the network sees it too.
 */
import { usageError } from '../base/errors.js';

/** A client as rules see it. */
export interface ClientFacts {
  /** Its IP address; undefined where it came by a unix socket. */
  readonly address: string | undefined;
  /** The names that TLS has proved; none without it. */
  readonly tlsNames: readonly string[];
}

export interface AccessRules {
  /** `192.168.1.0/24`, `10.0.0.7`, `fd00::/8`; `unix` for unix sockets. */
  readonly networks?: readonly string[] | undefined;
  readonly tlsNames?: readonly string[] | undefined;
  readonly tokens?: readonly string[] | undefined;
}

/** Fewest characters of a token: one that can be guessed is none. */
export const leastToken = 16;
const tokenMark = ';token=';

interface Network {
  readonly bytes: readonly number[];
  readonly bits: number;
}

export class Access {
  readonly #networks: readonly (Network | 'unix')[] | undefined;
  readonly #tlsNames: ReadonlySet<string> | undefined;
  readonly #tokens: readonly Uint8Array[] | undefined;

  /** @throws FarbusError where a rule cannot be one. */
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

  /** Whether a client with these facts and this token may use the export. */
  admits({ address, tlsNames }: ClientFacts, token: string | undefined): boolean {
    if (this.#networks && !this.#networks.some((one) => isWithin(address, one))) return false;
    if (this.#tlsNames && !tlsNames.some((name) => this.#tlsNames!.has(name))) return false;
    if (!this.#tokens) return true;
    const given = new TextEncoder().encode(token ?? '');
    // All are compared whole, so that the time tells nothing of them.
    let found = false;
    for (const one of this.#tokens) if (sameBytes(one, given)) found = true;
    return found;
  }
}

/** What a client asked for: the export's name, and the token that came with it. */
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

/** The bytes of an IP address, 4 or 16; one of IPv4 within IPv6 as that of IPv4. Undefined where it is none. */
export function addressBytes(text: string): number[] | undefined {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (four) {
    const bytes = four.slice(1).map(Number);
    return bytes.every((byte) => byte < 256) ? bytes : undefined;
  }
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(text);
  if (mapped) return addressBytes(mapped[1]!);
  // A zone says where a link-local address is to be looked for; the last 32 bits may be written as those of IPv4.
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
