/** Opens the encryption of servers. The names of its options are those of nbdkit. */
import { usageError } from '../../base/errors.js';
import { presharedKeys, serverCertificates } from '../../network/tls-files.node.js';
import { tlsServer } from '../../network/tls.node.js';
import type { TargetTls } from '../../protocol/nbd/target/target.js';

export interface TlsValues {
  readonly tls?: string | undefined;
  readonly 'tls-certificates'?: string | undefined;
  readonly 'tls-psk'?: string | undefined;
  readonly 'tls-verify-peer': boolean;
}

/** Reads certificates or keys. Rejects with a FarbusError. */
export async function openTls(values: TlsValues): Promise<TargetTls | undefined> {
  const { 'tls-certificates': folder, 'tls-psk': file, 'tls-verify-peer': verifyPeer } = values;
  const mode = values.tls ?? (folder === undefined && file === undefined ? 'off' : 'require');
  if (mode !== 'off' && mode !== 'on' && mode !== 'require') throw usageError('--tls is require, on or off');
  if (folder !== undefined && file !== undefined) {
    throw usageError('--tls-certificates and --tls-psk exclude each other: leave one out');
  }
  if (verifyPeer && folder === undefined) {
    throw usageError('--tls-verify-peer is about certificates: give --tls-certificates FOLDER');
  }
  if (mode === 'off') return undefined;
  if (folder !== undefined) {
    const credentials = await serverCertificates(folder, verifyPeer);
    return { mode, secure: tlsServer({ credentials, verifyPeer }) };
  }
  if (file === undefined) throw usageError(`--tls ${mode} needs --tls-certificates FOLDER or --tls-psk FILE`);
  return { mode, secure: tlsServer({ credentials: await presharedKeys(file), verifyPeer: false }) };
}
