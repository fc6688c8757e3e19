/** Parses the addresses that a server listens at, from `--listen` and configuration files. */
import { parseListenAddress, type ListenAddress } from '../../export/nbd/address.js';
import { parseAoe } from '../../protocol/aoe/uri.js';

/** An address for NBD, or a segment for AoE. */
export type Listen = { readonly nbd: ListenAddress } | { readonly aoe: string };

/** Parses `nbd://…`, `nbd+unix:///…` or `aoe:…`. Throws a usage error. */
export function parseListen(text: string): Listen {
  if (!text.startsWith('aoe:')) return { nbd: parseListenAddress(text) };
  parseAoe(text);
  return { aoe: text };
}
