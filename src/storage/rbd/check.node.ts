/** Turns results of librados and librbd into errors for people. */
import { getSystemErrorName } from 'node:util';
import { FarbusError } from '../../base/errors.js';

/** Reasons of failures that no message of ours says better. */
const reasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied: check id= and keyring=',
  EPERM: 'permission denied: check id= and keyring=',
  ETIMEDOUT: 'the cluster does not answer: check conf= and the network',
};

/** @throws FarbusError if `result` is a negative errno */
export function check(result: number, failure: string): void {
  if (result >= 0) return;
  const code = getSystemErrorName(result);
  throw new FarbusError(reasons[code] ?? `${failure} (${code})`);
}
