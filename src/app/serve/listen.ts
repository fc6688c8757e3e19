/** Parses the addresses that a server listens at, from `--listen` and configuration files. */
import { usageError } from '../../base/errors.js';
import { parseListenAddress, type ListenAddress } from '../../export/nbd/address.js';
import { checkSocketPath } from '../../network/socket.node.js';
import { parseAoe } from '../../protocol/aoe/uri.js';

/** An address for NBD, or a segment for AoE. */
export type Listen = { readonly nbd: ListenAddress } | { readonly aoe: string };

/** Parses `nbd://…`, `nbd+unix:///…` or `aoe:…`. Throws a usage error. */
export function parseListen(text: string): Listen {
  const [, host = '127.0.0.1', port] = /^(?:([\w.-]*|\[[0-9a-f:]+\]):)?(\d{1,5})$/i.exec(text) ?? [];
  if (port !== undefined) {
    throw usageError(`--listen ${text}: an address here is an NBD URI: write nbd://${host || '0.0.0.0'}:${port}`);
  }
  if (!text.startsWith('aoe:')) {
    const nbd = parseListenAddress(text);
    if ('path' in nbd) checkSocketPath(nbd.path);
    return { nbd };
  }
  parseAoe(text);
  return { aoe: text };
}
