/**
 * Issues X.509 certificates (RFC 5280) for TLS within a group of computers: a certificate authority
 * of one's own, and the pairs of certificate and key that it signs. Keys are made and used by
 * Node's WebCrypto; pkijs only encodes the certificates.
 *
 * Not here: the files (folder.node.ts); revocation lists.
 */
import { BitString, Integer, OctetString, Utf8String } from 'asn1js';
import { createHash, createPrivateKey, KeyObject, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import { isIP, isIPv4 } from 'node:net';
import {
  AttributeTypeAndValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  Extension,
  ExtKeyUsage,
  GeneralName,
  GeneralNames,
  RelativeDistinguishedNames,
  Time,
  TimeType,
} from 'pkijs';
import { FarbusError } from '../../base/errors.js';

/** A certificate and its private key, as PEM texts. */
export interface Pair {
  readonly certificate: string;
  readonly key: string;
}

/** The subject of a certificate that an authority signs. */
export interface Subject {
  readonly role: 'server' | 'client';
  readonly commonName: string;
  /** Host names and IP addresses at which a server is reached. */
  readonly hosts: readonly string[];
}

/** Object identifiers of RFC 5280. */
const oid = {
  commonName: '2.5.4.3',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

/** Bits of KeyUsage (RFC 5280 §4.2.1.3): the first byte. */
const usage = { digitalSignature: 0x80, keyEncipherment: 0x20, keyCertSign: 0x04, cRLSign: 0x02 } as const;

const dayMs = 24 * 60 * 60 * 1000;
/** A certificate is valid from this time before now: clocks of computers differ. */
const backdateMs = dayMs;

const newKeys = { name: 'ECDSA', namedCurve: 'P-256' } as const;

/** A certificate authority: its pair, and what it needs to sign. */
export class Authority {
  readonly pair: Pair;
  /** End of its validity. */
  readonly until: Date;
  readonly #issuer: Certificate;
  readonly #key: webcrypto.CryptoKey;
  readonly #hash: string;

  private constructor(pair: Pair, issuer: Certificate, key: webcrypto.CryptoKey, hash: string) {
    [this.pair, this.#issuer, this.#key, this.#hash] = [pair, issuer, key, hash];
    this.until = issuer.notAfter.value;
  }

  /** Makes a new authority. */
  static async create(days: number): Promise<Authority> {
    const keys = await webcrypto.subtle.generateKey(newKeys, true, ['sign', 'verify']);
    const certificate = await draft(keys.publicKey, days);
    const identifier = keyIdentifier(certificate);
    // Different names for different authorities: programs look for an issuer by its name.
    const name = [commonName(`Farbus CA ${identifier.subarray(0, 4).toString('hex')}`)];
    certificate.subject = new RelativeDistinguishedNames({ typesAndValues: name });
    certificate.issuer = certificate.subject;
    certificate.extensions = [
      extension(oid.basicConstraints, new BasicConstraints({ cA: true, pathLenConstraint: 0 }), true),
      extension(oid.keyUsage, bits(usage.keyCertSign | usage.cRLSign), true),
      extension(oid.subjectKeyIdentifier, octets(identifier)),
    ];
    await certificate.sign(keys.privateKey, 'SHA-256');
    const pair = { certificate: pemOf(certificate), key: keyText(keys.privateKey) };
    return new Authority(pair, certificate, keys.privateKey, 'SHA-256');
  }

  /**
   * An authority from its files.
   * @throws FarbusError if the pair cannot sign
   */
  static async read(pair: Pair): Promise<Authority> {
    const refuse = (what: string, cause?: unknown): never => {
      throw new FarbusError(`the CA cannot sign: ${what}`, { cause });
    };
    let [own, key]: [X509Certificate?, KeyObject?] = [];
    try {
      [own, key] = [new X509Certificate(pair.certificate), createPrivateKey(pair.key)];
    } catch (error) {
      return refuse('ca-cert.pem or ca-key.pem is not a certificate or key in PEM without a password', error);
    }
    if (!own.ca) refuse('ca-cert.pem is not the certificate of a CA');
    if (!own.checkPrivateKey(key)) refuse('ca-key.pem is not the key of ca-cert.pem');
    const found = algorithmOf(key) ?? refuse('its key is of a kind that is not supported: RSA, P-256 and P-384 are');
    const der = key.export({ format: 'der', type: 'pkcs8' });
    const imported = await webcrypto.subtle.importKey('pkcs8', der, found.algorithm, false, ['sign']);
    return new Authority(pair, Certificate.fromBER(bufferOf(own.raw)), imported, found.hash);
  }

  /** Signs a certificate with a new key. It is valid for `days`, but not longer than the CA. */
  async issue({ role, commonName: name, hosts }: Subject, days: number): Promise<Pair & { readonly until: Date }> {
    const keys = await webcrypto.subtle.generateKey(newKeys, true, ['sign', 'verify']);
    const certificate = await draft(keys.publicKey, days, this.until);
    certificate.subject = new RelativeDistinguishedNames({ typesAndValues: [commonName(name)] });
    certificate.issuer = this.#issuer.subject;
    const purpose = role === 'server' ? oid.serverAuth : oid.clientAuth;
    certificate.extensions = [
      extension(oid.basicConstraints, new BasicConstraints({ cA: false }), true),
      // keyEncipherment is for QEMU, which demands it, although it has no meaning for such keys.
      extension(oid.keyUsage, bits(usage.digitalSignature | usage.keyEncipherment), true),
      extension(oid.extKeyUsage, new ExtKeyUsage({ keyPurposes: [purpose] })),
      extension(oid.subjectKeyIdentifier, octets(keyIdentifier(certificate))),
    ];
    const issuerId = identifierOf(this.#issuer);
    if (issuerId) {
      const issuer = new AuthorityKeyIdentifier({ keyIdentifier: octets(issuerId) });
      certificate.extensions.push(extension(oid.authorityKeyIdentifier, issuer));
    }
    if (hosts.length > 0) {
      certificate.extensions.push(
        extension(oid.subjectAltName, new GeneralNames({ names: hosts.map((host) => alternativeName(host)) })),
      );
    }
    await certificate.sign(this.#key, this.#hash);
    return { certificate: pemOf(certificate), key: keyText(keys.privateKey), until: certificate.notAfter.value };
  }
}

/** A certificate with a public key, a serial number and a validity. */
async function draft(key: webcrypto.CryptoKey, days: number, latest?: Date): Promise<Certificate> {
  const certificate = new Certificate();
  certificate.version = 2; // X.509 version 3
  // RFC 5280 §4.1.2.2: a positive number of at most 20 bytes. The first byte is neither 0 nor
  // negative, so that the number has one encoding.
  const serial = randomBytes(16);
  serial[0] = 0x40 | (serial[0]! & 0x3f);
  certificate.serialNumber = new Integer({ valueHex: bufferOf(serial) });
  const now = Date.now();
  const end = new Date(Math.min(now + days * dayMs, latest?.getTime() ?? Infinity));
  certificate.notBefore = timeOf(new Date(now - backdateMs));
  certificate.notAfter = timeOf(end);
  await certificate.subjectPublicKeyInfo.importKey(key);
  return certificate;
}

/** RFC 5280 §4.1.2.5: years from 2050 on have four digits; there are no fractions of a second. */
function timeOf(time: Date): Time {
  const value = new Date(Math.floor(time.getTime() / 1000) * 1000);
  return new Time({ type: value.getUTCFullYear() >= 2050 ? TimeType.GeneralizedTime : TimeType.UTCTime, value });
}

function commonName(name: string): AttributeTypeAndValue {
  return new AttributeTypeAndValue({ type: oid.commonName, value: new Utf8String({ value: name }) });
}

/** A subject alternative name: an IP address (7) or a DNS name (2), RFC 5280 §4.2.1.6. */
function alternativeName(host: string): GeneralName {
  if (isIP(host) === 0) return new GeneralName({ type: 2, value: host });
  return new GeneralName({ type: 7, value: octets(addressBytes(host)) });
}

/** Method 1 of RFC 5280 §4.2.1.2: the SHA-1 of the public key's bits. */
function keyIdentifier(certificate: Certificate): Buffer {
  const { subjectPublicKey } = certificate.subjectPublicKeyInfo;
  return createHash('sha1').update(subjectPublicKey.valueBlock.valueHexView).digest();
}

/** The subject key identifier that a certificate names; undefined if it names none. */
function identifierOf(certificate: Certificate): Uint8Array | undefined {
  const found = certificate.extensions?.find(({ extnID }) => extnID === oid.subjectKeyIdentifier)?.parsedValue;
  return found instanceof OctetString ? found.valueBlock.valueHexView : undefined;
}

/** A structure of pkijs has a schema; a value of asn1js is one. */
type Encodable = { toSchema(): { toBER(): ArrayBuffer } } | { toBER(): ArrayBuffer };

function extension(id: string, value: Encodable, critical = false): Extension {
  const extnValue = ('toSchema' in value ? value.toSchema() : value).toBER();
  return new Extension({ extnID: id, critical, extnValue });
}

function octets(value: Uint8Array): OctetString {
  return new OctetString({ valueHex: bufferOf(value) });
}

/** A bit string of one byte. DER omits the zero bits at its end. */
function bits(value: number): BitString {
  const unusedBits = 31 - Math.clz32(value & -value);
  return new BitString({ valueHex: bufferOf(Uint8Array.of(value)), unusedBits });
}

function bufferOf(value: Uint8Array): ArrayBuffer {
  return Uint8Array.from(value).buffer;
}

/** The 4 or 16 bytes of an IP address. */
function addressBytes(host: string): Uint8Array {
  if (isIPv4(host)) return Uint8Array.from(host.split('.').map(Number));
  // The URL parser rewrites an IPv4 part at the end to hexadecimal.
  const canonical = new URL(`http://[${host}]/`).hostname.slice(1, -1);
  const [left, right] = canonical.split('::').map((half) => (half === '' ? [] : half.split(':')));
  const groups = right ? [...left!, ...new Array<string>(8 - left!.length - right.length).fill('0'), ...right] : left!;
  return Uint8Array.from(groups.flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff]));
}

interface Signing {
  readonly algorithm: webcrypto.EcKeyImportParams | webcrypto.RsaHashedImportParams;
  readonly hash: string;
}

/** How a CA's key signs; undefined for kinds that are not supported. */
function algorithmOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): Signing | undefined {
  if (type === 'rsa') return { algorithm: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, hash: 'SHA-256' };
  if (type !== 'ec') return undefined;
  if (details?.namedCurve === 'prime256v1') return { algorithm: newKeys, hash: 'SHA-256' };
  if (details?.namedCurve !== 'secp384r1') return undefined;
  return { algorithm: { name: 'ECDSA', namedCurve: 'P-384' }, hash: 'SHA-384' };
}

function pemOf(certificate: Certificate): string {
  return new X509Certificate(Buffer.from(certificate.toSchema().toBER())).toString();
}

function keyText(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ format: 'pem', type: 'pkcs8' }) as string;
}
