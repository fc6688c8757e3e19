/** Why a connection could not be made, in words that complete "cannot connect to X: ". */
import { errnoOf, messageOf } from './errors.js';

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused: is a server listening there?',
  ENOENT: 'there is no such socket: is a server listening there?',
  ENOTFOUND: 'no such host: check its name',
  EAI_AGAIN: 'the name could not be resolved: check the network',
  EHOSTUNREACH: 'host unreachable: check the network',
  ENETUNREACH: 'network unreachable: check the network',
  ETIMEDOUT: 'no answer: check the address and firewalls in between',
  EACCES: 'permission denied: check the permissions of the socket',
};

export function connectionFailure(error: unknown): string {
  return reasons[errnoOf(error) ?? ''] ?? messageOf(error);
}
