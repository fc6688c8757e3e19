/**
 * Certificates and keys for tests of TLS, made with openssl in a temporary folder. Files have the
 * names that nbdkit, libnbd and QEMU use.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { missing } from './nbd-peers.js';
import { tempPath } from './temp.js';

/** True if openssl is missing, so that no certificates can be made. */
export function noOpenssl(): boolean {
  return missing('openssl');
}

const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' });

export interface Authority {
  /** Folder with all files: ca-cert.pem, server-…, client-… */
  readonly folder: string;
  /**
   * Makes a folder with the CA's certificate and, if a name is given, with a client certificate of
   * that name.
   */
  clientFolder(name?: string): string;
  /**
   * Makes a folder with the CA's certificate and a server certificate of these alternative names
   * (openssl's notation).
   */
  serverFolder(names: string, days?: number): string;
}

/**
 * Makes a certificate authority with certificates for a server "localhost" (also 127.0.0.1) and a
 * client "alice".
 */
export function authority(name = 'test CA'): Authority {
  const folder = tempPath('pki');
  mkdirSync(folder);
  const at = (file: string): string => join(folder, file);
  newKey(at('ca-key.pem'));
  const extensions = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign'];
  const adds = extensions.flatMap((one) => ['-addext', one]);
  openssl('req', '-x509', '-new', '-key', at('ca-key.pem'), '-out', at('ca-cert.pem'), '-days', '30', ...adds,
    '-subj', `/CN=${name}`); // prettier-ignore
  let serial = 1;
  const sign = (into: string, kind: 'server' | 'client', common: string, names: string, days = 30): void => {
    const file = (end: string): string => join(into, `${kind}-${end}`);
    newKey(file('key.pem'));
    openssl('req', '-new', '-key', file('key.pem'), '-out', file('request.pem'), '-subj', `/CN=${common}`);
    const lines = [
      'basicConstraints=critical,CA:FALSE',
      'keyUsage=critical,digitalSignature,keyEncipherment',
      `extendedKeyUsage=${kind}Auth`,
      ...(names === '' ? [] : [`subjectAltName=${names}`]),
    ];
    writeFileSync(file('extensions'), lines.join('\n'));
    openssl('x509', '-req', '-in', file('request.pem'), '-CA', at('ca-cert.pem'), '-CAkey', at('ca-key.pem'),
      '-set_serial', String(serial++), '-days', String(days), '-extfile', file('extensions'), '-out', file('cert.pem')); // prettier-ignore
  };
  const other = (): string => {
    const into = tempPath('pki');
    mkdirSync(into);
    copyFileSync(at('ca-cert.pem'), join(into, 'ca-cert.pem'));
    return into;
  };
  sign(folder, 'server', 'localhost', 'DNS:localhost,IP:127.0.0.1,IP:::1');
  sign(folder, 'client', 'alice', 'DNS:alice.example,email:alice@example.org');
  return {
    folder,
    clientFolder(common) {
      const into = other();
      if (common !== undefined) sign(into, 'client', common, '');
      return into;
    },
    serverFolder(names, days) {
      const into = other();
      sign(into, 'server', 'server', names, days);
      return into;
    },
  };
}

/** Makes a file of pre-shared keys for these users. */
export function keyFile(...users: string[]): string {
  const path = tempPath('keys.psk');
  writeFileSync(path, users.map((user) => `${user}:${randomBytes(32).toString('hex')}\n`).join(''), { mode: 0o600 });
  return path;
}

function newKey(path: string): void {
  openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', path);
}
