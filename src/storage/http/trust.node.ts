/**
 * The certificate authorities that https:// trusts: the system's and Node's own; or those of the
 * file in $SSL_CERT_FILE or $CURL_CA_BUNDLE, as in curl. $NODE_EXTRA_CA_CERTS adds to them.
 */
import { readFile } from 'node:fs/promises';
import { rootCertificates } from 'node:tls';
import { errnoOf, failed } from '../../base/errors.js';

/** Files in which systems keep their authorities: Debian, Fedora, SUSE, Alpine and macOS. */
const systemFiles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** The authorities, as PEM texts. @throws FarbusError if a file that the user named is missing */
export async function trustedAuthorities(env: NodeJS.ProcessEnv): Promise<string[]> {
  const own = env['SSL_CERT_FILE'] || env['CURL_CA_BUNDLE'];
  const extra = env['NODE_EXTRA_CA_CERTS'];
  const usual = own ? [await named(own)] : [...rootCertificates, ...(await ofSystem())];
  return extra ? [...usual, await named(extra)] : usual;
}

async function named(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw failed(`cannot read the certificate authorities in ${path}`, error);
  }
}

async function ofSystem(): Promise<string[]> {
  for (const path of systemFiles) {
    try {
      return [await readFile(path, 'utf8')];
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw failed(`cannot read ${path}`, error);
    }
  }
  return [];
}
