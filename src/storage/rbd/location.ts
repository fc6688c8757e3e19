/**
 * The text of a Ceph block device: `rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][?PARAMETERS]`, with the
 * parameters conf=FILE (default: Ceph's own search), id=USER (default: admin), keyring=FILE,
 * takeover=1: end the writing of another client that holds the image, and standby=1: this server is
 * one of several gateways, and takes the image over when a client connects.
 */
import { usageError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';

export interface RbdLocation {
  readonly pool: string;
  /** '' is the pool's default namespace. */
  readonly namespace: string;
  readonly image: string;
  readonly snapshot: string | undefined;
  readonly conf: string | undefined;
  readonly id: string | undefined;
  readonly keyring: string | undefined;
  readonly takeover: boolean;
  /** Take the image over when a client connects that may write, not at the opening. */
  readonly standby: boolean;
  /** The text without parameters, for messages. */
  readonly shown: string;
}

/** Parameters that name files of this computer. */
export const rbdFileParameters = ['conf', 'keyring'] as const;

const parameters = ['conf', 'id', 'keyring', 'takeover', 'standby'] as const;

/** @throws FarbusError if the text is not of this form */
export function parseRbdLocation(text: string): RbdLocation {
  const [, path, query = ''] = /^rbd:([^?]*)(?:\?(.*))?$/s.exec(text) ?? [];
  const [, pool, namespace = '', image, snapshot] =
    /^([^/@]+)\/(?:([^/@]+)\/)?([^/@]+)(?:@([^/@]+))?$/.exec(path ?? '') ?? [];
  if (pool === undefined || image === undefined) {
    throw usageError(`${visible(text)}: expected rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]`);
  }
  const values: Partial<Record<(typeof parameters)[number], string>> = {};
  for (const [name, value] of new URLSearchParams(query)) {
    if (!isParameter(name)) {
      throw usageError(`${visible(text)}: there is no parameter ${visible(name)}: ${parameters.join(', ')} are`);
    }
    if (values[name] !== undefined) throw usageError(`${visible(text)}: ${name} is given twice: give it once`);
    values[name] = value;
  }
  const { conf, id, keyring } = values;
  const flag = (name: 'takeover' | 'standby'): boolean => {
    const value = values[name] ?? '0';
    if (value !== '0' && value !== '1') throw usageError(`${visible(text)}: ${name} is 0 or 1`);
    return value === '1';
  };
  const [takeover, standby] = [flag('takeover'), flag('standby')];
  if (takeover && standby) {
    throw usageError(`${visible(text)}: standby=1 takes the image over when a client connects: leave out takeover=1`);
  }
  if (standby && snapshot !== undefined) {
    throw usageError(`${visible(text)}: a snapshot needs no lock: leave out standby=1`);
  }
  const shown = visible(`rbd:${path}`);
  return { pool, namespace, image, snapshot, conf, id, keyring, takeover, standby, shown };
}

function isParameter(name: string): name is (typeof parameters)[number] {
  return (parameters as readonly string[]).includes(name);
}
