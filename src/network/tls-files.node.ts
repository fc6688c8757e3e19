/**
 * Reads TLS credentials from files with the names that libnbd, nbdkit and QEMU use: a folder with
 * ca-cert.pem, server-cert.pem, server-key.pem, client-cert.pem, client-key.pem and ca-crl.pem; or
 * a file of pre-shared keys with lines `USER:KEY`, the key in hexadecimal.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';
import type { TlsCredentials } from './tls.node.js';

/** Shortest pre-shared key, in bytes: a shorter one can be guessed. */
const minKey = 16;

/**
 * Reads the certificates of a server.
 * @param verifyPeer true if clients must have a certificate, so that ca-cert.pem is needed
 * Rejects with a FarbusError.
 */
export async function serverCertificates(folder: string, verifyPeer: boolean): Promise<TlsCredentials> {
  const certificate = await needed(folder, 'server-cert.pem');
  const key = await needed(folder, 'server-key.pem');
  const ca = verifyPeer ? await needed(folder, 'ca-cert.pem') : undefined;
  const crl = await optional(folder, 'ca-crl.pem');
  // Revoked certificates matter only if clients must have certificates.
  return { kind: 'x509', own: { certificate, key }, ca, crl: verifyPeer ? crl : undefined };
}

/**
 * Reads the certificates of a client.
 * @param folder undefined: no client certificate, and the CAs that Node trusts
 * @param verifyPeer true if the server's certificate is checked, so that ca-cert.pem is needed
 * Rejects with a FarbusError.
 */
export async function clientCertificates(folder: string | undefined, verifyPeer: boolean): Promise<TlsCredentials> {
  if (folder === undefined) return { kind: 'x509' };
  const ca = verifyPeer ? await needed(folder, 'ca-cert.pem') : undefined;
  const certificate = await optional(folder, 'client-cert.pem');
  const key = await optional(folder, 'client-key.pem');
  const crl = await optional(folder, 'ca-crl.pem');
  if ((certificate === undefined) !== (key === undefined)) {
    throw new FarbusError(`${folder}: client-cert.pem and client-key.pem go together: one of them is missing`);
  }
  const own = certificate !== undefined && key !== undefined ? { certificate, key } : undefined;
  return { kind: 'x509', own, ca, crl: verifyPeer ? crl : undefined };
}

/** Reads pre-shared keys, for a client or a server. Rejects with a FarbusError. */
export async function presharedKeys(path: string): Promise<TlsCredentials> {
  const keys = new Map<string, Uint8Array>();
  for (const line of (await text(path)).split(/\r?\n/)) {
    if (line === '' || line.startsWith('#')) continue;
    const match = /^([^:]+):((?:[0-9a-f]{2})+)$/i.exec(line);
    if (!match) throw new FarbusError(`${path}: a line is not USER:KEY with the key in hex: make one with psktool`);
    const [, user, hex] = match as unknown as [string, string, string];
    if (hex.length < 2 * minKey) throw new FarbusError(`${path}: the key of ${user} is shorter than ${minKey} bytes`);
    if (keys.has(user)) throw new FarbusError(`${path}: ${user} has two keys: remove one`);
    keys.set(user, Uint8Array.from(Buffer.from(hex, 'hex')));
  }
  if (keys.size === 0) throw new FarbusError(`${path}: there is no key in it: add a line USER:KEY`);
  return { kind: 'psk', keys };
}

async function needed(folder: string, name: string): Promise<string> {
  return text(join(folder, name));
}

async function optional(folder: string, name: string): Promise<string | undefined> {
  return text(join(folder, name)).catch((error: unknown) => {
    if (error instanceof FarbusError && errnoOf(error.cause) === 'ENOENT') return undefined;
    throw error;
  });
}

async function text(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const what = errnoOf(error) === 'ENOENT' ? 'there is no such file' : messageOf(error);
    throw new FarbusError(`cannot read ${path}: ${what}`, { cause: error });
  }
}
